package cloudwatch

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm/watch"
	"understudy/aws/wire"
)

func tagsOf(list []types.Tag) (all []wire.Tag) {
	for _, t := range list {
		all = append(all, wire.Tag{Key: t.Key, Value: t.Value})
	}
	return all
}

// tagged is the alarm that tags are asked of: only alarms have some here.
func (s *Service) tagged(arn string) (watch.Alarm, error) {
	parts := strings.SplitN(arn, ":", 7) // names have colons too
	if len(parts) < 6 || parts[0] != "arn" || parts[2] != "cloudwatch" {
		return watch.Alarm{}, badValue("The value %s for parameter ResourceARN is not an ARN of CloudWatch.", arn)
	}
	if len(parts) < 7 || parts[5] != "alarm" {
		return watch.Alarm{}, badValue("The value %s for parameter ResourceARN is not valid: only alarms have tags here.", arn)
	}
	a, ok := s.opts.Alarms.Alarm(parts[6])
	if !ok || s.opts.Alarms.ARN(a.Name) != arn {
		return watch.Alarm{}, noResource(arn)
	}
	return a, nil
}

// noResource is another error than that of the operations of alarms.
func noResource(arn string) error {
	return &types.ResourceNotFoundException{Message: aws.String("The resource " + arn + " does not exist."), ResourceType: aws.String("alarm"), ResourceId: &arn}
}

func (s *Service) changeTags(ctx context.Context, arn string, f func(wire.Tags) (wire.Tags, error)) error {
	a, err := s.tagged(arn)
	if err != nil {
		return err
	}
	_, err = s.opts.Alarms.ChangeTags(ctx, a.Name, func(t map[string]string) (map[string]string, error) { return f(t) })
	if errors.Is(err, watch.ErrNone) { // it has gone since
		return noResource(arn)
	}
	return err
}

func (s *Service) listTagsForResource(_ context.Context, in *cloudwatch.ListTagsForResourceInput) (*cloudwatch.ListTagsForResourceOutput, error) {
	a, err := s.tagged(*in.ResourceARN)
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, key := range wire.Tags(a.Tags).Sorted() {
		out.Tags = append(out.Tags, types.Tag{Key: aws.String(key), Value: aws.String(a.Tags[key])})
	}
	return out, nil
}

func (s *Service) tagResource(ctx context.Context, in *cloudwatch.TagResourceInput) (*cloudwatch.TagResourceOutput, error) {
	return &cloudwatch.TagResourceOutput{}, s.changeTags(ctx, *in.ResourceARN, func(t wire.Tags) (wire.Tags, error) { return t.With(ctx, tagsOf(in.Tags)) })
}

func (s *Service) untagResource(ctx context.Context, in *cloudwatch.UntagResourceInput) (*cloudwatch.UntagResourceOutput, error) {
	return &cloudwatch.UntagResourceOutput{}, s.changeTags(ctx, *in.ResourceARN, func(t wire.Tags) (wire.Tags, error) { return t.Without(ctx, in.TagKeys) })
}
