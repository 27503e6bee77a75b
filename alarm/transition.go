package alarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Child is an alarm that a composite alarm looks at, as it stands.
type Child struct {
	Name, ARN string
	State     State
	Since     time.Time // when it went into State
}

// Cause is why a composite alarm is looked at: a child went into another state, or the alarm itself was put.
type Cause struct {
	Child   string // the name of the child, or "":
	ARN     string // of the alarm that was put
	Created bool   // it was not there before
}

// Evaluate decides a composite alarm's state: ALARM when its rule holds, OK when not. A child that is not among the
// children has no state: no part of the rule that asks for it holds.
func (e *Expression) Evaluate(before State, children []Child, cause Cause) Decision {
	state := OK
	if e.Holds(func(name string) State {
		if i := slices.IndexFunc(children, func(c Child) bool { return c.Name == name }); i >= 0 {
			return children[i].State
		}
		return ""
	}) {
		state = Alarm
	}
	d := Decision{State: state, Changed: state != before}
	d.Reason, d.Data = cause.texts(state, children)
	return d
}

// moment is how the reason of a composite alarm tells a time.
const moment = "Monday 02 January, 2006 15:04:05 MST"

// texts are StateReason and StateReasonData of a composite alarm. Recorded ones:
//
//	arn:aws:cloudwatch:…:alarm:CompositeDemo.FirstChild transitioned to ALARM at Friday 04 August, 2023 12:54:46 UTC
//	arn:aws:cloudwatch:…:alarm:SuppressionDemo.EventBridge.Main was created and its alarm rule evaluates to OK
//
// The first lists the child that moved in its data; the second all children, that which moved last in front.
func (c Cause) texts(state State, children []Child) (reason, data string) {
	if i := slices.IndexFunc(children, func(one Child) bool { return one.Name == c.Child }); c.Child != "" && i >= 0 {
		moved := children[i]
		return fmt.Sprintf("%s transitioned to %s at %s", moved.ARN, moved.State, moved.Since.UTC().Format(moment)), triggering(children[i : i+1])
	}
	did := "updated"
	if c.Created {
		did = "created"
	}
	all := slices.Clone(children)
	slices.SortStableFunc(all, func(a, b Child) int { return b.Since.Compare(a.Since) })
	return fmt.Sprintf("%s was %s and its alarm rule evaluates to %s", c.ARN, did, state), triggering(all)
}

func triggering(children []Child) string {
	type standing struct {
		Value     State  `json:"value"`
		Timestamp string `json:"timestamp"`
	}
	type alarm struct {
		ARN   string   `json:"arn"`
		State standing `json:"state"`
	}
	all := make([]alarm, 0, len(children))
	for _, c := range children {
		all = append(all, alarm{c.ARN, standing{c.State, Stamp(c.Since)}})
	}
	text, err := json.Marshal(map[string]any{"triggeringAlarms": all})
	if err != nil {
		panic(fmt.Sprintf("alarm: %v in %+v", err, all)) // strings only
	}
	return string(text)
}
