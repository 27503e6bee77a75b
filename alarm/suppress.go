package alarm

import "time"

// Suppressor keeps a composite alarm's actions back while another alarm is in ALARM.
type Suppressor struct {
	Alarm     string        `json:"alarm"`
	Wait      time.Duration `json:"wait"`      // how long after it has changed the alarm waits for its suppressor to go into ALARM
	Extension time.Duration `json:"extension"` // how long after the suppressor has left ALARM its actions stay back
}

// Suppression is where a composite alarm stands with its suppressor. The zero value is: nothing is kept back.
type Suppression struct {
	By    SuppressedBy `json:"by,omitempty"`
	Until time.Time    `json:"until,omitzero"` // of WaitPeriod and ExtensionPeriod
	// Told is the state of which the last actions were carried out: a change that is kept back and undone in time
	// leaves nothing to tell.
	Told State `json:"told,omitempty"`
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

// Step moves the suppression on: the composite alarm is in state now, its suppressor in ALARM or not. act reports
// whether the actions of state have to be carried out.
//
//	        state changed              suppressor in ALARM          it left ALARM
//	nothing ───────────────> WaitPeriod ──────────────────> Alarm ───────────────> ExtensionPeriod
//	   ^                         │ Wait is over                ^                        │   │ Extension is over
//	   └───── act ───────────────┘                             └── in ALARM again ──────┘   └── act, nothing
func (s Suppressor) Step(x Suppression, state State, suppressing bool, now time.Time) (next Suppression, act bool) {
	switch {
	case suppressing:
		if x.By != ByNothing || x.Told != state {
			x.By, x.Until = ByAlarm, time.Time{}
		}
		return x, false
	case x.By == ByAlarm:
		x.By, x.Until = ByExtension, now.Add(s.Extension)
	case x.By == ByNothing && x.Told != state:
		x.By, x.Until = ByWait, now.Add(s.Wait)
	}
	if x.By == ByNothing || now.Before(x.Until) {
		return x, false
	}
	act = x.Told != state
	return Suppression{Told: state}, act
}
