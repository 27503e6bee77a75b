package wire

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tags are what a client pinned on a resource.
type Tags map[string]string

// mostTags is AWS's bound for one resource.
const mostTags = 50

// Tag is one of them, as the SDK's types have it, each in a package of its own.
type Tag struct{ Key, Value *string }

// TagStore keeps the tags of resources, by ARN. An ARN of a resource that is not there is an error in the words
// of its service: CacheClusterNotFound, ResourceNotFound.
type TagStore interface {
	Tags(ctx context.Context, arn string) (Tags, error)
	// ChangeTags puts what change returns in place of the tags, whole or not at all, and returns that. change
	// must not keep or alter what it is given.
	ChangeTags(ctx context.Context, arn string, change func(Tags) (Tags, error)) (Tags, error)
}

// Sorted are the keys, in the order in which tags are listed.
func (t Tags) Sorted() []string { return slices.Sorted(maps.Keys(t)) }

// With is t and list, where list counts. It refuses, in the words of the call's service, what AWS refuses: keys
// and values that are too long, reserved or twice there, and more than 50 tags.
func (t Tags) With(ctx context.Context, list []Tag) (Tags, error) {
	all := Tags{}
	maps.Copy(all, t)
	given := map[string]bool{}
	for _, tag := range list {
		key, value := "", ""
		if tag.Key != nil {
			key = *tag.Key
		}
		if tag.Value != nil {
			value = *tag.Value
		}
		switch {
		case key == "":
			return nil, badTag(ctx, "Tag keys must not be empty.")
		case utf8.RuneCountInString(key) > 128:
			return nil, badTag(ctx, "A tag key has at most 128 characters.")
		case utf8.RuneCountInString(value) > 256:
			return nil, badTag(ctx, "A tag value has at most 256 characters.")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, badTag(ctx, "Tag keys that begin with aws: are reserved for system use.")
		case given[key]:
			return nil, badTag(ctx, "Duplicate tag keys are not allowed: "+key)
		}
		given[key] = true
		all[key] = value
	}
	if len(all) > mostTags {
		return nil, tooManyTags(ctx)
	}
	return all, nil
}

// Without is t less the keys. A key that is not there is an error of ElastiCache alone.
func (t Tags) Without(ctx context.Context, keys []string) (Tags, error) {
	left := Tags{}
	maps.Copy(left, t)
	for _, key := range keys {
		if _, ok := t[key]; !ok && CallOf(ctx).Service == serviceElastiCache {
			return nil, &Error{Code: "TagNotFound", Shape: "TagNotFoundFault", Status: 404, Message: "The tag " + key + " is not on this resource."}
		}
		delete(left, key)
	}
	return left, nil
}

func badTag(ctx context.Context, message string) *Error {
	switch CallOf(ctx).Service {
	case serviceSNS:
		return &Error{Code: "InvalidParameter", Shape: "InvalidParameterException", Message: "Invalid parameter: " + message}
	}
	return &Error{Code: "InvalidParameterValue", Shape: "InvalidParameterValueException", Message: message}
}

func tooManyTags(ctx context.Context) *Error {
	e := &Error{Message: "A resource has at most 50 tags."}
	switch CallOf(ctx).Service {
	case serviceSNS:
		e.Code, e.Shape = "TagLimitExceeded", "TagLimitExceededException"
	case serviceElastiCache:
		e.Code, e.Shape = "TagQuotaPerResourceExceeded", "TagQuotaPerResourceExceeded"
	default:
		e.Code, e.Shape = "InvalidParameterValue", "InvalidParameterValueException"
	}
	return e
}
