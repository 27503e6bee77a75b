package sns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"understudy/aws/wire"
	"understudy/shelf"
)

var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// kept are attributes of topics that are kept and given back, and change nothing here.
var kept = []string{"Policy", "KmsMasterKeyId", "TracingConfig", "DataProtectionPolicy", "FirehoseSuccessFeedbackRoleArn", "FirehoseFailureFeedbackRoleArn", "FirehoseSuccessFeedbackSampleRate"}

// feedback are the names of delivery logs, by protocol: kept too.
var feedback = regexp.MustCompile(`^(HTTP|SQS|Lambda|Application|Firehose)(Success|Failure)Feedback(RoleArn|SampleRate)$`)

func checkTopicAttribute(name, value string) error {
	switch {
	case name == "DisplayName":
		if len(value) > 100 || strings.ContainsAny(value, "\r\n") {
			return invalid("DisplayName must be at most 100 characters long and on one line")
		}
	case name == "DeliveryPolicy":
		_, err := parseTopicPolicy(value)
		return err
	case name == "SignatureVersion":
		if value != "1" && value != "2" && value != "" {
			return invalid("SignatureVersion")
		}
	case name == "FifoTopic" && value == "false":
	case strings.HasPrefix(name, "Fifo") || name == "ContentBasedDeduplication" || name == "ArchivePolicy":
		return invalid("%s Reason: there are no FIFO topics here", name)
	case slices.Contains(kept, name) || feedback.MatchString(name):
	default:
		return invalid("AttributeName")
	}
	return nil
}

// createTopic makes a topic, or answers with the one that is there.
func (s *Service) createTopic(ctx context.Context, in *sns.CreateTopicInput) (*sns.CreateTopicOutput, error) {
	if !topicName.MatchString(*in.Name) {
		return nil, invalid("Topic Name")
	}
	for name, value := range in.Attributes {
		if err := checkTopicAttribute(name, value); err != nil {
			return nil, err
		}
	}
	tags, err := (wire.Tags{}).With(ctx, tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	if len(aws.ToString(in.DataProtectionPolicy)) > 0 {
		return nil, invalid("DataProtectionPolicy Reason: it is not carried out here")
	}
	_, err = shelf.Change(ctx, s.opts.Store, topicPrefix+*in.Name, &topic{}, func(t *topic) error {
		if t.Name == "" {
			*t = topic{Name: *in.Name, Created: s.now(), Attributes: in.Attributes, Tags: tags}
			return nil
		}
		for name, value := range in.Attributes {
			if have, ok := t.Attributes[name]; have != value && (ok || value != "") {
				return invalid("Attributes Reason: Topic already exists with different attributes")
			}
		}
		if len(tags) > 0 && !maps.Equal(tags, t.Tags) {
			return invalid("Tags Reason: Topic already exists with different tags")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sns.CreateTopicOutput{TopicArn: aws.String(s.arn(*in.Name))}, nil
}

// Topic makes sure that a topic of that name is there, and returns its ARN.
func (s *Service) Topic(ctx context.Context, name string) (string, error) {
	out, err := s.createTopic(ctx, &sns.CreateTopicInput{Name: &name})
	if err != nil {
		return "", err
	}
	return *out.TopicArn, nil
}

// TopicName reports whether a topic may have that name.
func TopicName(name string) bool { return topicName.MatchString(name) }

// topic finds a topic by its ARN.
func (s *Service) topic(ctx context.Context, arn *string) (topic, error) {
	name, rest, err := s.topicOf(aws.ToString(arn), "TopicArn")
	if err != nil {
		return topic{}, err
	}
	if rest != "" {
		return topic{}, invalid("TopicArn")
	}
	t, _, err := shelf.Get[topic](ctx, s.opts.Store, topicPrefix+name)
	if errors.Is(err, shelf.ErrNone) {
		err = noTopic()
	}
	return t, err
}

func (s *Service) getTopicAttributes(ctx context.Context, in *sns.GetTopicAttributesInput) (*sns.GetTopicAttributesOutput, error) {
	t, err := s.topic(ctx, in.TopicArn)
	if err != nil {
		return nil, err
	}
	subscriptions, err := s.subscriptions(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	pending := 0
	for _, x := range subscriptions {
		if x.Pending {
			pending++
		}
	}
	effective, err := parseTopicPolicy(t.Attributes["DeliveryPolicy"])
	if err != nil {
		return nil, err
	}
	arn := s.arn(t.Name)
	all := map[string]string{
		"TopicArn": arn, "Owner": s.opts.Account, "DisplayName": "", "Policy": defaultPolicy(arn, s.opts.Account),
		"SubscriptionsPending": strconv.Itoa(pending), "SubscriptionsConfirmed": strconv.Itoa(len(subscriptions) - pending),
		"SubscriptionsDeleted": strconv.Itoa(t.Deleted), "EffectiveDeliveryPolicy": effective.String(),
	}
	for name, value := range t.Attributes {
		if value != "" {
			all[name] = value
		}
	}
	return &sns.GetTopicAttributesOutput{Attributes: all}, nil
}

// defaultPolicy is what AWS gives a topic: its account may do everything with it. No policy is carried out here.
func defaultPolicy(arn, account string) string {
	return fmt.Sprintf(`{"Version":"2008-10-17","Id":"__default_policy_ID","Statement":[{"Sid":"__default_statement_ID","Effect":"Allow","Principal":{"AWS":"*"},"Action":["SNS:GetTopicAttributes","SNS:SetTopicAttributes","SNS:AddPermission","SNS:RemovePermission","SNS:DeleteTopic","SNS:Subscribe","SNS:ListSubscriptionsByTopic","SNS:Publish"],"Resource":"%s","Condition":{"StringEquals":{"AWS:SourceOwner":"%s"}}}]}`, arn, account)
}

func (s *Service) setTopicAttributes(ctx context.Context, in *sns.SetTopicAttributesInput) (*sns.SetTopicAttributesOutput, error) {
	name, value := *in.AttributeName, aws.ToString(in.AttributeValue)
	if err := checkTopicAttribute(name, value); err != nil {
		return nil, err
	}
	t, err := s.topic(ctx, in.TopicArn)
	if err != nil {
		return nil, err
	}
	_, err = s.changeTopic(ctx, t.Name, func(t *topic) error {
		if t.Attributes == nil {
			t.Attributes = map[string]string{}
		}
		t.Attributes[name] = value
		return nil
	})
	return &sns.SetTopicAttributesOutput{}, err
}

func (s *Service) changeTopic(ctx context.Context, name string, f func(*topic) error) (topic, error) {
	t, err := shelf.Change(ctx, s.opts.Store, topicPrefix+name, nil, f)
	if errors.Is(err, shelf.ErrNone) {
		err = noTopic()
	}
	return t, err
}

// deleteTopic takes the topic away, and its subscriptions. One that is not there is no error.
func (s *Service) deleteTopic(ctx context.Context, in *sns.DeleteTopicInput) (*sns.DeleteTopicOutput, error) {
	name, rest, err := s.topicOf(*in.TopicArn, "TopicArn")
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, invalid("TopicArn")
	}
	// The subscriptions go first: a crash in between leaves a topic that can be deleted again, not ones that a new topic
	// of the name would inherit.
	all, err := shelf.List[subscription](ctx, s.opts.Store, subscriptionPrefix+name+"/")
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if err := shelf.Remove(ctx, s.opts.Store, x.key()); err != nil {
			return nil, err
		}
	}
	return &sns.DeleteTopicOutput{}, shelf.Remove(ctx, s.opts.Store, topicPrefix+name)
}

func (s *Service) listTopics(ctx context.Context, in *sns.ListTopicsInput) (*sns.ListTopicsOutput, error) {
	all, err := shelf.List[topic](ctx, s.opts.Store, topicPrefix)
	if err != nil {
		return nil, err
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.NextToken}, all, func(t topic) string { return t.Name })
	out := &sns.ListTopicsOutput{NextToken: next}
	for _, t := range page {
		out.Topics = append(out.Topics, types.Topic{TopicArn: aws.String(s.arn(t.Name))})
	}
	return out, err
}

func tagsOf(list []types.Tag) (all []wire.Tag) {
	for _, t := range list {
		all = append(all, wire.Tag{Key: t.Key, Value: t.Value})
	}
	return all
}

// tagged is the name of a topic that tags are asked of; SNS has an error of its own there.
func (s *Service) tagged(ctx context.Context, arn *string) (topic, error) {
	t, err := s.topic(ctx, arn)
	if _, none := err.(*types.NotFoundException); none {
		err = &types.ResourceNotFoundException{Message: aws.String("Resource does not exist")}
	}
	return t, err
}

func (s *Service) listTagsForResource(ctx context.Context, in *sns.ListTagsForResourceInput) (*sns.ListTagsForResourceOutput, error) {
	t, err := s.tagged(ctx, in.ResourceArn)
	out := &sns.ListTagsForResourceOutput{}
	for _, key := range wire.Tags(t.Tags).Sorted() {
		out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(t.Tags[key])})
	}
	return out, err
}

func (s *Service) changeTags(ctx context.Context, arn *string, f func(wire.Tags) (wire.Tags, error)) error {
	t, err := s.tagged(ctx, arn)
	if err != nil {
		return err
	}
	_, err = s.changeTopic(ctx, t.Name, func(t *topic) (err error) {
		t.Tags, err = f(t.Tags)
		return err
	})
	return err
}

func (s *Service) tagResource(ctx context.Context, in *sns.TagResourceInput) (*sns.TagResourceOutput, error) {
	return &sns.TagResourceOutput{}, s.changeTags(ctx, in.ResourceArn, func(t wire.Tags) (wire.Tags, error) { return t.With(ctx, tagsOf(in.Tags)) })
}

func (s *Service) untagResource(ctx context.Context, in *sns.UntagResourceInput) (*sns.UntagResourceOutput, error) {
	return &sns.UntagResourceOutput{}, s.changeTags(ctx, in.ResourceArn, func(t wire.Tags) (wire.Tags, error) { return t.Without(ctx, in.TagKeys) })
}
