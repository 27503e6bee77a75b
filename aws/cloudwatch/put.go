package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/metric"
	"understudy/series"
)

// mostData is how many data a request has.
const mostData = 1000

func (s *Service) putMetricData(ctx context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	switch {
	case reserved(*in.Namespace):
		return nil, badValue("The value %s for parameter Namespace is invalid: it is not for metrics of your own.", *in.Namespace)
	case len(in.EntityMetricData) > 0:
		return nil, badValue("The parameter EntityMetricData is not supported.")
	case len(in.MetricData) == 0:
		return nil, &types.MissingRequiredParameterException{Message: aws.String("The parameter MetricData is required.")}
	case len(in.MetricData) > mostData:
		return nil, badValue("The collection MetricData must not have a size greater than %d.", mostData)
	}
	data := make([]metric.Datum, len(in.MetricData))
	now := s.opts.Now()
	for i, d := range in.MetricData {
		var err error
		if data[i], err = datum(*in.Namespace, d, fmt.Sprintf("MetricData.member.%d", i+1), now); err != nil {
			return nil, err
		}
	}
	if err := s.opts.Writer.Write(ctx, data); err != nil {
		return nil, refusal(err)
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// datum is what a client published; at says where it stands in the request. What a value may be the series know.
func datum(namespace string, d types.MetricDatum, at string, now time.Time) (metric.Datum, error) {
	to := metric.Datum{ID: named(namespace, *d.MetricName, d.Dimensions), At: now, Unit: string(d.Unit), Counts: d.Counts}
	if d.Timestamp != nil {
		to.At = *d.Timestamp
	}
	switch r := aws.ToInt32(d.StorageResolution); {
	case d.StorageResolution == nil || r == 60:
	case r == 1:
		to.High = true
	default:
		return to, badValue("The value %d for parameter %s.StorageResolution is invalid: it is 1 or 60.", r, at)
	}
	kinds := 0
	if d.Value != nil {
		to.Values = []float64{*d.Value}
		kinds++
	}
	if len(d.Values) > 0 {
		to.Values = d.Values
		kinds++
	}
	if set := d.StatisticValues; set != nil {
		to.Set = &metric.Set{Count: *set.SampleCount, Sum: *set.Sum, Min: *set.Minimum, Max: *set.Maximum}
		kinds++
	}
	switch {
	case kinds == 0:
		return to, &types.MissingRequiredParameterException{Message: aws.String(fmt.Sprintf("At least one of the parameters %[1]s.Value, %[1]s.Values, or %[1]s.StatisticValues must be specified.", at))}
	case kinds > 1:
		return to, badCombination("The parameters %[1]s.Value, %[1]s.Values and %[1]s.StatisticValues are mutually exclusive and you have specified more than one.", at)
	case len(d.Counts) > 0 && len(d.Values) != len(d.Counts):
		return to, badValue("The parameters %[1]s.Values and %[1]s.Counts must be of the same size.", at)
	}
	return to, nil
}

// refusal puts what the series do not take into AWS's words; any other error stays what it is.
func refusal(err error) error {
	var r *series.Refused
	if !errors.As(err, &r) {
		return err
	}
	at := fmt.Sprintf("MetricData.member.%d", r.Index+1)
	if errors.Is(r, series.ErrPast) {
		return badValue("The parameter %s.Timestamp must specify a time within the past two weeks.", at)
	}
	if errors.Is(r, series.ErrFuture) {
		return badValue("The parameter %s.Timestamp must specify a time no more than two hours in the future.", at)
	}
	return badValue("The parameter %s is invalid: %v.", at, r.Err)
}
