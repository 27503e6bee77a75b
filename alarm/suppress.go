package alarm

import "time"

// Suppressor keeps a composite alarm's actions back while another alarm is in ALARM.
type Suppressor struct {
	Alarm     string        `json:"alarm"`
	Wait      time.Duration `json:"wait"`      // how long after it has changed the alarm waits for its suppressor to go into ALARM
	Extension time.Duration `json:"extension"` // how long after the suppressor has left ALARM its actions stay back
}

// Suppression is where a composite alarm stands with its suppressor. Of a new alarm it is {Seen: InsufficientData}; of
// one that gets another suppressor {Seen, Pending} of before: AWS drops the periods then.
type Suppression struct {
	By      SuppressedBy `json:"by,omitempty"`
	Until   time.Time    `json:"until,omitzero"`    // of WaitPeriod and ExtensionPeriod: Step again then
	Seen    State        `json:"seen"`              // the composite alarm's state at the last step
	Pending bool         `json:"pending,omitempty"` // it has changed, and no actions were carried out since
}

// SuppressedBy is ActionsSuppressedBy.
type SuppressedBy string

// What keeps actions back.
const (
	ByNothing   SuppressedBy = ""
	ByWait      SuppressedBy = "WaitPeriod"
	ByExtension SuppressedBy = "ExtensionPeriod"
	ByAlarm     SuppressedBy = "Alarm"
)

// Reason is ActionsSuppressedReason: AWS's own for WaitPeriod is recorded, the others are told alike.
func (by SuppressedBy) Reason() string {
	if by == ByNothing {
		return ""
	}
	return "Actions suppressed by " + string(by)
}

// Step moves the suppression on: the composite alarm is in state now, its suppressor in ALARM or not. act reports
// whether the actions of state have to be carried out. Each change starts a WaitPeriod of its own, also one that undoes
// another: what is told at the end is the state of then, as AWS does it.
//
//	        state changes              suppressor in ALARM          it leaves ALARM
//	nothing ─────────────> WaitPeriod ─────────────────────> Alarm ─────────────────> ExtensionPeriod
//	   ^                   │   ^    ^                          ^                        │  │        │
//	   │  Wait is over     │   └────┘ state changes            └─── in ALARM again ─────┘  │        │ state changes:
//	   ├─────── act ───────┘                                                               │        └─> WaitPeriod
//	   └─────── act ───────────────────────────────────────── Extension is over ───────────┘
func (s Suppressor) Step(x Suppression, state State, suppressing bool, now time.Time) (next Suppression, act bool) {
	changed := state != x.Seen
	x.Seen, x.Pending = state, x.Pending || changed
	switch {
	case suppressing:
		x.By, x.Until = ByAlarm, time.Time{}
		return x, false
	case x.By == ByAlarm:
		x.By, x.Until = ByExtension, now.Add(s.Extension)
	case changed:
		x.By, x.Until = ByWait, now.Add(s.Wait)
	}
	if x.By != ByNothing && now.Before(x.Until) {
		return x, false
	}
	return Suppression{Seen: state}, x.Pending
}
