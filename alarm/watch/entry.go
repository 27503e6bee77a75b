package watch

import (
	"strings"
	"time"

	"understudy/alarm"
	"understudy/metric"
)

// The texts of the history: as CloudWatch writes them where there is a record of it.

// stateData is the HistoryData of a StateUpdate.
func stateData(before, after Alarm) string {
	side := func(a Alarm) string {
		var o object
		o.put("stateValue", a.State)
		o.put("stateReason", a.Reason)
		if a.Data != "" {
			o.raw("stateReasonData", a.Data)
		}
		return o.String()
	}
	var o object
	o.put("version", "1.0")
	o.raw("oldState", side(before))
	o.raw("newState", side(after))
	return o.String()
}

// configurationData is the HistoryData of a ConfigurationUpdate; before is nil for an alarm that was made, after for
// one that was deleted.
func (p place) configurationData(before, after *Alarm) string {
	var o object
	o.put("version", "1.0")
	switch {
	case before == nil:
		o.put("type", "Create")
		o.raw("createdAlarm", p.configuration(*after))
	case after == nil:
		o.put("type", "Delete")
		o.raw("deletedAlarm", p.configuration(*before))
	default:
		o.put("type", "Update")
		o.raw("updatedAlarm", p.configuration(*after))
		o.raw("originalUpdatedFields", p.originals(*before, *after))
	}
	return o.String()
}

// fields are an alarm's members as history writes them, in order.
func (p place) fields(a Alarm) (names []string, values map[string]string) {
	values = map[string]string{}
	raw := func(name, value string) { names = append(names, name); values[name] = value }
	put := func(name string, value any) {
		var o object
		o.put("", value)
		raw(name, strings.TrimPrefix(o.text.String(), `"":`))
	}
	put("alarmName", a.Name)
	if a.Description != "" {
		put("alarmDescription", a.Description)
	}
	put("alarmArn", p.arn(a.Name))
	put("alarmConfigurationUpdatedTimestamp", alarm.Stamp(a.Configured))
	if r := a.Rule; r != nil {
		ruleFields(*r, put, raw)
	} else {
		put("alarmRule", a.Composite.Rule)
		if s := a.Composite.Suppressor; s != nil {
			put("actionsSuppressor", s.Alarm)
			put("actionsSuppressorWaitPeriod", int(s.Wait/time.Second))
			put("actionsSuppressorExtensionPeriod", int(s.Extension/time.Second))
		}
	}
	put("stateValue", a.State)
	put("stateUpdatedTimestamp", alarm.Stamp(a.Updated))
	put("actionsEnabled", !a.Muted)
	put("alarmActions", list(a.Actions.Alarm))
	put("insufficientDataActions", list(a.Actions.Insufficient))
	put("okactions", list(a.Actions.OK))
	return names, values
}

func ruleFields(r alarm.Rule, put func(string, any), raw func(name, value string)) {
	if len(r.Queries) > 0 {
		raw("metrics", queries(r))
	} else {
		put("namespace", r.Metric.Namespace)
		put("metricName", r.Metric.Name)
		if metric.Percentile(r.Stat) {
			put("extendedStatistic", r.Stat)
		} else {
			put("statistic", r.Stat)
		}
		put("period", int(r.Period/time.Second))
		if r.Unit != "" {
			put("unit", r.Unit)
		}
		raw("dimensions", dimensions(r.Metric))
	}
	raw("threshold", alarm.Double(r.Threshold))
	put("comparisonOperator", r.Comparison)
	put("evaluationPeriods", r.Periods)
	if r.Datapoints > 0 {
		put("datapointsToAlarm", r.Datapoints)
	}
	if r.Treatment != "" {
		put("treatMissingData", r.Treatment)
	}
	if r.FewSamples != "" {
		put("evaluateLowSampleCountPercentile", r.FewSamples)
	}
}

func (p place) configuration(a Alarm) string {
	var o object
	names, values := p.fields(a)
	for _, n := range names {
		o.raw(n, values[n])
	}
	return o.String()
}

// originals are the members of before that after has otherwise, or not at all.
func (p place) originals(before, after Alarm) string {
	var o object
	names, was := p.fields(before)
	_, is := p.fields(after)
	for _, n := range names {
		if was[n] != is[n] {
			o.raw(n, was[n])
		}
	}
	return o.String()
}

// actionTexts are the summary and data of an action; failure is "" when the topic took the message.
func actionTexts(post Post, changed time.Time, failure string) (summary, data string) {
	var o object
	state := "Succeeded"
	summary = "Successfully executed action " + post.Topic
	if failure != "" {
		state = "Failed"
		summary = "Failed to execute action " + post.Topic + `. Received error: "` + failure + `"`
	}
	o.put("actionState", state)
	o.put("stateUpdateTimestamp", changed.UnixMilli())
	o.put("notificationResource", post.Topic)
	o.put("publishedMessage", post.Message)
	o.put("publishedMessageId", post.ID) // ours: what a subscriber quotes
	if failure != "" {
		o.put("error", failure)
	}
	return summary, o.String()
}
