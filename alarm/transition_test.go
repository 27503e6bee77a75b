package alarm

import (
	"testing"
	"time"
)

func at(t *testing.T, text string) time.Time {
	moment, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// The texts are AWS's own, from its pages on Lambda and EventBridge.
func TestCompositeReasonsAreAWSs(t *testing.T) {
	const arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
	rule, err := Parse("ALARM(CompositeDemo.FirstChild) OR ALARM(CompositeDemo.SecondChild)")
	if err != nil {
		t.Fatal(err)
	}
	first := Child{Name: "CompositeDemo.FirstChild", ARN: arn + "CompositeDemo.FirstChild", State: Alarm, Since: at(t, "2023-08-04T12:54:46.138Z")}
	second := Child{Name: "CompositeDemo.SecondChild", ARN: arn + "CompositeDemo.SecondChild", State: OK, Since: at(t, "2022-07-14T16:28:54.191Z")}
	d := rule.Evaluate(OK, []Child{second, first}, Cause{Child: first.Name})
	want := Decision{State: Alarm, Changed: true,
		Reason: arn + "CompositeDemo.FirstChild transitioned to ALARM at Friday 04 August, 2023 12:54:46 UTC",
		Data:   `{"triggeringAlarms":[{"arn":"` + arn + `CompositeDemo.FirstChild","state":{"value":"ALARM","timestamp":"2023-08-04T12:54:46.138+0000"}}]}`}
	if d != want {
		t.Errorf("a child moved:\n%+v, want\n%+v", d, want)
	}
	first.State, first.Since = OK, at(t, "2022-07-14T16:28:57.770Z")
	d = rule.Evaluate(InsufficientData, []Child{second, first}, Cause{ARN: arn + "SuppressionDemo.EventBridge.Main", Created: true})
	want = Decision{State: OK, Changed: true,
		Reason: arn + "SuppressionDemo.EventBridge.Main was created and its alarm rule evaluates to OK",
		Data: `{"triggeringAlarms":[{"arn":"` + arn + `CompositeDemo.FirstChild","state":{"value":"OK","timestamp":"2022-07-14T16:28:57.770+0000"}},` +
			`{"arn":"` + arn + `CompositeDemo.SecondChild","state":{"value":"OK","timestamp":"2022-07-14T16:28:54.191+0000"}}]}`}
	if d != want {
		t.Errorf("it was put:\n%+v, want\n%+v", d, want)
	}
}

// A child that was deleted has no state: asking for it holds in no way.
func TestCompositeWithoutAChild(t *testing.T) {
	for text, want := range map[string]State{"ALARM(gone)": OK, "OK(gone)": OK, "INSUFFICIENT_DATA(gone)": OK, "NOT OK(gone)": Alarm} {
		rule, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		d := rule.Evaluate(want, nil, Cause{ARN: "arn", Created: false})
		if d.State != want || d.Changed || d.Data != `{"triggeringAlarms":[]}` || d.Reason != "arn was updated and its alarm rule evaluates to "+string(want) {
			t.Errorf("%s: %+v, want %s", text, d, want)
		}
	}
}
