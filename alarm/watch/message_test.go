package watch

import (
	"testing"
	"time"

	"understudy/alarm"
	"understudy/metric"
)

// Recorded messages of CloudWatch, as people keep them in the tests and documents of what reads them; names and accounts are
// other ones. The first two are of 2024 and 2025, the third of 2020 with what was added to messages since.
func TestMessagesAreCloudWatchsByteForByte(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02T15:04:05.000", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, p := range map[string]struct {
		place  place
		alarm  Alarm
		before alarm.State
		want   string
	}{
		"average, without a description": {place{"eu-south-1", "123456789012"}, Alarm{
			Name: "connections", Configured: at("2024-07-05T15:19:31.960"), State: alarm.Alarm, Since: at("2024-07-05T15:20:44.959"),
			Reason:  "Threshold Crossed: 1 datapoint [8.0 (05/07/24 15:19:00)] was greater than or equal to the threshold (5.0).",
			Actions: Actions{Alarm: []string{"arn:aws:sns:eu-south-1:123456789012:t"}},
			Rule: &alarm.Rule{Metric: metric.New("AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", "db"), Stat: "Average", Period: time.Minute,
				Periods: 1, Comparison: alarm.GreaterOrEqual, Threshold: 5, Treatment: alarm.Missing},
		}, alarm.OK, `{"AlarmName":"connections","AlarmDescription":null,"AWSAccountId":"123456789012","AlarmConfigurationUpdatedTimestamp":"2024-07-05T15:19:31.960+0000","NewStateValue":"ALARM","NewStateReason":"Threshold Crossed: 1 datapoint [8.0 (05/07/24 15:19:00)] was greater than or equal to the threshold (5.0).","StateChangeTime":"2024-07-05T15:20:44.959+0000","Region":"EU (Milan)","AlarmArn":"arn:aws:cloudwatch:eu-south-1:123456789012:alarm:connections","OldStateValue":"OK","OKActions":[],"AlarmActions":["arn:aws:sns:eu-south-1:123456789012:t"],"InsufficientDataActions":[],"Trigger":{"MetricName":"DatabaseConnections","Namespace":"AWS/RDS","StatisticType":"Statistic","Statistic":"AVERAGE","Unit":null,"Dimensions":[{"value":"db","name":"DBInstanceIdentifier"}],"Period":60,"EvaluationPeriods":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold","Threshold":5.0,"TreatMissingData":"missing","EvaluateLowSampleCountPercentile":""}}`},
		"sum, with datapoints to alarm": {place{"ap-northeast-1", "123456789012"}, Alarm{
			Name: "ErrorAlarm", Description: "Alarm when ERROR appears > 0", Configured: at("2025-02-02T11:48:52.788"), State: alarm.Alarm, Since: at("2025-02-02T12:06:35.472"),
			Reason:  "Threshold Crossed: 1 out of the last 1 datapoints [1.0 (02/02/25 12:05:00)] was greater than or equal to the threshold (1.0) (minimum 1 datapoint for OK -> ALARM transition).",
			Actions: Actions{Alarm: []string{"a"}, OK: []string{"o"}},
			Rule: &alarm.Rule{Metric: metric.New("Mine", "ErrorCount"), Stat: "SampleCount", Period: time.Minute,
				Periods: 1, Datapoints: 1, Comparison: alarm.GreaterOrEqual, Threshold: 1, Treatment: alarm.NotBreaching},
		}, alarm.InsufficientData, `{"AlarmName":"ErrorAlarm","AlarmDescription":"Alarm when ERROR appears > 0","AWSAccountId":"123456789012","AlarmConfigurationUpdatedTimestamp":"2025-02-02T11:48:52.788+0000","NewStateValue":"ALARM","NewStateReason":"Threshold Crossed: 1 out of the last 1 datapoints [1.0 (02/02/25 12:05:00)] was greater than or equal to the threshold (1.0) (minimum 1 datapoint for OK -> ALARM transition).","StateChangeTime":"2025-02-02T12:06:35.472+0000","Region":"Asia Pacific (Tokyo)","AlarmArn":"arn:aws:cloudwatch:ap-northeast-1:123456789012:alarm:ErrorAlarm","OldStateValue":"INSUFFICIENT_DATA","OKActions":["o"],"AlarmActions":["a"],"InsufficientDataActions":[],"Trigger":{"MetricName":"ErrorCount","Namespace":"Mine","StatisticType":"Statistic","Statistic":"SAMPLE_COUNT","Unit":null,"Dimensions":[],"Period":60,"EvaluationPeriods":1,"DatapointsToAlarm":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold","Threshold":1.0,"TreatMissingData":"notBreaching","EvaluateLowSampleCountPercentile":""}}`},
		"metric math": {place{"us-east-1", "123456789012"}, Alarm{
			Name: "math", Description: "d", Configured: at("2020-12-04T03:00:00.000"), State: alarm.Alarm, Since: at("2020-12-04T03:57:01.659"), Reason: "r",
			Rule: &alarm.Rule{Period: time.Minute, Periods: 1, Comparison: alarm.GreaterOrEqual, Queries: []alarm.Query{
				{ID: "e1", Expression: "FILL(m1, 0)", Label: "Expression1", Returns: true},
				{ID: "m1", Metric: metric.New("AWS/Usage", "CallCount", "Type", "API"), Period: time.Minute, Stat: "Average"},
			}},
		}, alarm.OK, `{"AlarmName":"math","AlarmDescription":"d","AWSAccountId":"123456789012","AlarmConfigurationUpdatedTimestamp":"2020-12-04T03:00:00.000+0000","NewStateValue":"ALARM","NewStateReason":"r","StateChangeTime":"2020-12-04T03:57:01.659+0000","Region":"US East (N. Virginia)","AlarmArn":"arn:aws:cloudwatch:us-east-1:123456789012:alarm:math","OldStateValue":"OK","OKActions":[],"AlarmActions":[],"InsufficientDataActions":[],"Trigger":{"Period":60,"EvaluationPeriods":1,"ComparisonOperator":"GreaterThanOrEqualToThreshold","Threshold":0.0,"TreatMissingData":"missing","EvaluateLowSampleCountPercentile":"","Metrics":[{"Expression":"FILL(m1, 0)","Id":"e1","Label":"Expression1","ReturnData":true},{"Id":"m1","MetricStat":{"Metric":{"Dimensions":[{"value":"API","name":"Type"}],"MetricName":"CallCount","Namespace":"AWS/Usage"},"Period":60,"Stat":"Average"},"ReturnData":false}]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := p.place.message(p.alarm, p.before); got != p.want {
				t.Errorf("got\n%s\nwant\n%s", got, p.want)
			}
		})
	}
}

// The cut name is that of a recorded subject, of 2024: 100 characters in all.
func TestASubjectIsCutInTheName(t *testing.T) {
	a := Alarm{State: alarm.Alarm, Name: "SharedInfra-Alpha-Database-DatabaseInstanceObservabilityHighDatabaseConnectionsAlarm5CD1334F-FetIEoRn5hgP"}
	want := `ALARM: "SharedInfra-Alpha-Database-DatabaseInstanceObservabilityHighDatabaseConnec..." in EU (Milan)`
	if got := (place{region: "eu-south-1"}).subject(a); got != want || len(got) != mostSubject {
		t.Errorf("%s (%d), want %s (%d)", got, len(got), want, len(want))
	}
	a = Alarm{State: alarm.OK, Name: "größe"}
	if got, want := (place{region: "xx-here-1"}).subject(a), `OK: "gr??e" in xx-here-1`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
