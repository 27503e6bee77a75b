package cloudwatch

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm/watch"
	"understudy/aws/wire"
)

// describeAlarmHistory tells what happened, newest first, also to alarms that are gone: of metric alarms, unless the
// client asks for others.
func (s *Service) describeAlarmHistory(ctx context.Context, in *cloudwatch.DescribeAlarmHistoryInput) (*cloudwatch.DescribeAlarmHistoryOutput, error) {
	if in.StartDate != nil && in.EndDate != nil && in.EndDate.Before(*in.StartDate) {
		return nil, invalidAlarm("The parameter StartDate must not be after the parameter EndDate")
	}
	var found []watch.Entry
	if in.AlarmContributorId == nil { // alarms here have no contributors
		found = slices.DeleteFunc(s.opts.Alarms.History(aws.ToString(in.AlarmName)), func(e watch.Entry) bool {
			return !ofType(in.AlarmTypes, e.Composite) || in.HistoryItemType != "" && string(in.HistoryItemType) != string(e.Kind) ||
				in.StartDate != nil && e.At.UnixMilli() < clientTime(*in.StartDate) || in.EndDate != nil && e.At.UnixMilli() > clientTime(*in.EndDate)
		})
	}
	newest := in.ScanBy != types.ScanByTimestampAscending
	if !newest {
		slices.Reverse(found)
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.NextToken, Limit: in.MaxRecords, Descending: newest}, found, func(e watch.Entry) string { return e.Key })
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.DescribeAlarmHistoryOutput{NextToken: next, AlarmHistoryItems: []types.AlarmHistoryItem{}}
	for _, e := range page {
		kind := types.AlarmTypeMetricAlarm
		if e.Composite {
			kind = types.AlarmTypeCompositeAlarm
		}
		out.AlarmHistoryItems = append(out.AlarmHistoryItems, types.AlarmHistoryItem{AlarmName: &e.Alarm, AlarmType: kind, Timestamp: &e.At,
			HistoryItemType: types.HistoryItemType(e.Kind), HistorySummary: &e.Summary, HistoryData: &e.Data})
	}
	return out, nil
}

// clientTime is a time in the milliseconds that answers have: what a client takes from one comes back as a double, a
// little before or behind.
func clientTime(t time.Time) int64 { return t.Round(time.Millisecond).UnixMilli() }
