package elasticache

import (
	"context"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
)

// Tags that a group shows and nobody can set: AWS has no members for what they say. Clients that keep tags as
// their configuration has them leave those alone that begin with aws:.
const (
	splitTag     = "aws:understudy:split-endpoint"
	authorityTag = "aws:understudy:certificate-authority" // the path of the certificate that vouches for the endpoints
)

func tagsOf(list []types.Tag) (all []wire.Tag) {
	for _, t := range list {
		all = append(all, wire.Tag{Key: t.Key, Value: t.Value})
	}
	return all
}

// resource is what an ARN names: its kind and its name.
func resource(ctx context.Context, arn string) (kind, name string, err error) {
	parts := strings.Split(arn, ":")
	if len(parts) != 7 {
		return "", "", &types.InvalidARNFault{Message: aws.String("Input ARN string does not have 7 components.")}
	}
	if call := wire.CallOf(ctx); parts[0] != "arn" || parts[2] != "elasticache" || parts[3] != call.Region || parts[4] != call.Account {
		return "", "", &types.InvalidARNFault{Message: aws.String("The ARN " + arn + " names no resource of this front: its resources are " + call.ARN("…") + ".")}
	}
	return parts[5], strings.ToLower(parts[6]), nil
}

// changeTags puts what f returns in place of a resource's tags; nil: it only reads them.
func (s *Service) changeTags(ctx context.Context, arn string, f func(wire.Tags) (wire.Tags, error)) (wire.Tags, error) {
	kind, name, err := resource(ctx, arn)
	if err != nil {
		return nil, err
	}
	var out wire.Tags
	put := func(tags *map[string]string) error {
		next := wire.Tags(*tags)
		if f != nil {
			if next, err = f(next); err != nil {
				return err
			}
		}
		*tags, out = next, next
		return nil
	}
	switch kind {
	case "replicationgroup":
		return s.groupTags(ctx, name, f)
	case "cluster": // AWS keeps tags of a node apart; here they are its group's
		r, _, err := s.member(name)
		if err != nil {
			return nil, err
		}
		return s.groupTags(ctx, r.ID, f)
	case "parametergroup":
		g, err := s.group(name)
		if err != nil || f == nil {
			return g.Tags, err
		}
		_, err = s.parameters.Change(ctx, name, func(g *parameterGroup) error { return put(&g.Tags) })
		return out, err
	case "snapshot":
		return s.snapshotTags(name, f)
	case "subnetgroup":
		g, err := s.subnetGroup(name)
		if err != nil || f == nil {
			return g.Tags, err
		}
		_, err = s.subnets.Change(ctx, name, func(g *subnetGroup) error { return put(&g.Tags) })
		return out, err
	}
	return nil, &types.InvalidARNFault{Message: aws.String("The ARN " + arn + " names no resource that has tags here.")}
}

// groupTags are a group's, with the one that tells its split endpoint.
func (s *Service) groupTags(ctx context.Context, id string, f func(wire.Tags) (wire.Tags, error)) (wire.Tags, error) {
	r, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if f != nil {
		if r, err = s.change(ctx, r.ID, func(r *record) error {
			next, err := f(r.Tags)
			r.Tags = next
			return err
		}); err != nil {
			return nil, err
		}
	}
	tags := wire.Tags{}
	maps.Copy(tags, r.Tags)
	if l := s.live(r.ID); l.runs && l.endpoints.Split != "" {
		tags[splitTag] = l.endpoints.Split
	}
	if r.TLS && s.opts.Authority != "" {
		tags[authorityTag] = s.opts.Authority
	}
	return tags, nil
}

func shownTags(tags wire.Tags) []types.Tag {
	list := []types.Tag{}
	for _, key := range tags.Sorted() {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

func (s *Service) listTagsForResource(ctx context.Context, in *elasticache.ListTagsForResourceInput) (*elasticache.ListTagsForResourceOutput, error) {
	tags, err := s.changeTags(ctx, *in.ResourceName, nil)
	if err != nil {
		return nil, err
	}
	return &elasticache.ListTagsForResourceOutput{TagList: shownTags(tags)}, nil
}

func (s *Service) addTagsToResource(ctx context.Context, in *elasticache.AddTagsToResourceInput) (*elasticache.AddTagsToResourceOutput, error) {
	tags, err := s.changeTags(ctx, *in.ResourceName, func(t wire.Tags) (wire.Tags, error) { return t.With(ctx, tagsOf(in.Tags)) })
	if err != nil {
		return nil, err
	}
	return &elasticache.AddTagsToResourceOutput{TagList: shownTags(tags)}, nil
}

func (s *Service) removeTagsFromResource(ctx context.Context, in *elasticache.RemoveTagsFromResourceInput) (*elasticache.RemoveTagsFromResourceOutput, error) {
	tags, err := s.changeTags(ctx, *in.ResourceName, func(t wire.Tags) (wire.Tags, error) { return t.Without(ctx, in.TagKeys) })
	if err != nil {
		return nil, err
	}
	return &elasticache.RemoveTagsFromResourceOutput{TagList: shownTags(tags)}, nil
}
