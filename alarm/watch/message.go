package watch

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"understudy/alarm"
	"understudy/metric"
)

// place is where alarms live.
type place struct{ region, account string }

func (p place) arn(name string) string {
	return "arn:aws:cloudwatch:" + p.region + ":" + p.account + ":alarm:" + name
}

// regions are the names that CloudWatch gives regions in its messages; a region that is not here is told by its code.
var regions = map[string]string{
	"us-east-1": "US East (N. Virginia)", "us-east-2": "US East (Ohio)", "us-west-1": "US West (N. California)", "us-west-2": "US West (Oregon)",
	"ca-central-1": "Canada (Central)", "sa-east-1": "South America (Sao Paulo)", "af-south-1": "Africa (Cape Town)",
	"eu-west-1": "EU (Ireland)", "eu-west-2": "EU (London)", "eu-west-3": "EU (Paris)", "eu-central-1": "EU (Frankfurt)", "eu-north-1": "EU (Stockholm)",
	"eu-south-1": "EU (Milan)", "me-south-1": "Middle East (Bahrain)",
	"ap-northeast-1": "Asia Pacific (Tokyo)", "ap-northeast-2": "Asia Pacific (Seoul)", "ap-northeast-3": "Asia Pacific (Osaka)",
	"ap-south-1": "Asia Pacific (Mumbai)", "ap-southeast-1": "Asia Pacific (Singapore)", "ap-southeast-2": "Asia Pacific (Sydney)", "ap-east-1": "Asia Pacific (Hong Kong)",
}

func (p place) name() string {
	if name, ok := regions[p.region]; ok {
		return name
	}
	return p.region
}

// mostSubject is SNS's bound.
const mostSubject = 100

// subject is cut in the name, as CloudWatch cuts it.
func (p place) subject(a Alarm) string {
	head, tail := string(a.State)+`: "`, `" in `+p.name()
	name := strings.Map(func(r rune) rune { // a subject is one line of ASCII
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, a.Name)
	const dots = "..."
	if room := mostSubject - len(head) - len(tail); len(name) > room {
		name = name[:room-len(dots)] + dots
	}
	return head + name + tail
}

// post is the message of one action; key says which entry of the history it belongs to.
func (p place) post(a Alarm, before alarm.State, topic, key string) *Post {
	sum := sha256.Sum256([]byte(p.arn(a.Name) + "\n" + key + "\n" + topic))
	id := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	return &Post{ID: id, Topic: topic, Subject: p.subject(a), Message: p.message(a, before)}
}

// message is what topics are told, member for member in the order of CloudWatch's: subscribers parse it.
func (p place) message(a Alarm, before alarm.State) string {
	var o object
	o.put("AlarmName", a.Name)
	o.put("AlarmDescription", orNull(a.Description))
	o.put("AWSAccountId", p.account)
	if a.Rule != nil {
		o.put("AlarmConfigurationUpdatedTimestamp", alarm.Stamp(a.Configured))
	}
	o.put("NewStateValue", a.State)
	o.put("NewStateReason", a.Reason)
	o.put("StateChangeTime", alarm.Stamp(a.Since))
	o.put("Region", p.name())
	o.put("AlarmArn", p.arn(a.Name))
	o.put("OldStateValue", before)
	o.put("OKActions", list(a.Actions.OK))
	o.put("AlarmActions", list(a.Actions.Alarm))
	o.put("InsufficientDataActions", list(a.Actions.Insufficient))
	if a.Composite != nil {
		o.put("AlarmRule", a.Composite.Rule)
		if children := triggering(a.Data); children != nil {
			o.put("TriggeringChildren", children)
		}
		return o.String()
	}
	o.raw("Trigger", trigger(*a.Rule))
	return o.String()
}

// trigger is the rule in the words of messages.
func trigger(r alarm.Rule) string {
	var o object
	if len(r.Queries) == 0 {
		o.put("MetricName", r.Metric.Name)
		o.put("Namespace", r.Metric.Namespace)
		if metric.Percentile(r.Stat) {
			o.put("StatisticType", "ExtendedStatistic")
			o.put("ExtendedStatistic", r.Stat)
		} else {
			o.put("StatisticType", "Statistic")
			o.put("Statistic", upper(r.Stat))
		}
		o.put("Unit", orNull(r.Unit))
		o.raw("Dimensions", dimensions(r.Metric))
	}
	o.put("Period", int(r.Period/time.Second))
	o.put("EvaluationPeriods", r.Periods)
	if r.Datapoints > 0 {
		o.put("DatapointsToAlarm", r.Datapoints)
	}
	o.put("ComparisonOperator", r.Comparison)
	o.raw("Threshold", alarm.Double(r.Threshold))
	treatment := r.Treatment
	if treatment == "" {
		treatment = alarm.Missing
	}
	o.put("TreatMissingData", treatment)
	o.put("EvaluateLowSampleCountPercentile", r.FewSamples)
	if len(r.Queries) > 0 {
		o.raw("Metrics", queries(r))
	}
	return o.String()
}

// upper is a statistic as messages write it: SAMPLE_COUNT.
func upper(stat string) string {
	if stat == "SampleCount" {
		return "SAMPLE_COUNT"
	}
	return strings.ToUpper(stat)
}

func dimensions(id metric.ID) string {
	all := []string{}
	for _, d := range id.Dimensions {
		var o object
		o.put("value", d.Value)
		o.put("name", d.Name)
		all = append(all, o.String())
	}
	return "[" + strings.Join(all, ",") + "]"
}

func queries(r alarm.Rule) string {
	all := []string{}
	for _, q := range r.Queries {
		var o object
		if q.Expression != "" {
			o.put("Expression", q.Expression)
		}
		o.put("Id", q.ID)
		if q.Label != "" {
			o.put("Label", q.Label)
		}
		if q.Expression == "" {
			var m, s object
			m.raw("Dimensions", dimensions(q.Metric))
			m.put("MetricName", q.Metric.Name)
			m.put("Namespace", q.Metric.Namespace)
			s.raw("Metric", m.String())
			s.put("Period", int(q.Period/time.Second))
			s.put("Stat", q.Stat)
			if q.Unit != "" {
				s.put("Unit", q.Unit)
			}
			o.raw("MetricStat", s.String())
		}
		o.put("ReturnData", q.Returns)
		all = append(all, o.String())
	}
	return "[" + strings.Join(all, ",") + "]"
}

// triggering turns the data of a composite alarm's state into the children of its messages; nil: there are none.
func triggering(data string) any {
	var d struct {
		Alarms []struct {
			ARN   string `json:"arn"`
			State struct {
				Value     string `json:"value"`
				Timestamp string `json:"timestamp"`
			} `json:"state"`
		} `json:"triggeringAlarms"`
	}
	if json.Unmarshal([]byte(data), &d) != nil || len(d.Alarms) == 0 {
		return nil
	}
	type state struct{ Value, Timestamp string }
	type child struct {
		Arn   string
		State state
	}
	var all []child
	for _, x := range d.Alarms {
		all = append(all, child{x.ARN, state{x.State.Value, x.State.Timestamp}})
	}
	return all
}

// object writes JSON whose members keep the order in which they were put.
type object struct{ text strings.Builder }

func (o *object) put(name string, value any) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // CloudWatch writes > as it is
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("watch: %v in %v", err, value)) // texts and numbers only
	}
	o.raw(name, strings.TrimSuffix(b.String(), "\n"))
}

func (o *object) raw(name, value string) {
	if o.text.Len() > 0 {
		o.text.WriteByte(',')
	}
	fmt.Fprintf(&o.text, "%q:%s", name, value)
}

func (o *object) String() string { return "{" + o.text.String() + "}" }

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func list(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

// valid keeps a text in UTF-8: an action's error may be anything.
func valid(text string) string { return strings.ToValidUTF8(text, string(utf8.RuneError)) }
