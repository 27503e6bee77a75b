package watch

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"understudy/alarm"
)

// Alarm is an alarm's record: what was put, how it stands, and what is left to tell of it.
type Alarm struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Rule        *alarm.Rule       `json:"rule,omitempty"`      // nil: a composite alarm
	Composite   *Composite        `json:"composite,omitempty"` // nil: a metric alarm
	Muted       bool              `json:"muted,omitempty"`     // ActionsEnabled is false
	Actions     Actions           `json:"actions,omitzero"`
	Tags        map[string]string `json:"tags,omitempty"`
	Configured  time.Time         `json:"configured"` // when it was put the last time

	State      alarm.State           `json:"state"`
	Reason     string                `json:"reason"`
	Data       string                `json:"data,omitempty"` // StateReasonData: JSON, "" for none
	Since      time.Time             `json:"since"`          // when it went into State
	Updated    time.Time             `json:"updated"`        // when State or Evaluation was written the last time
	Evaluation alarm.EvaluationState `json:"evaluation,omitempty"`

	Suppression      alarm.Suppression `json:"suppression,omitzero"` // of a composite alarm with a suppressor
	SuppressionSince time.Time         `json:"suppression_since,omitzero"`

	// Entries numbers what has happened to the alarm, so that each entry of its history has a key of its own.
	Entries int64 `json:"entries"`
	// Untold are entries that are not in the history yet, and messages that no topic has taken yet. They are written in
	// one with the state that they tell of, so that a crash loses none.
	Untold []Untold `json:"untold,omitempty"`
	// Dropped counts those that were given up because too many waited.
	Dropped int64 `json:"dropped,omitempty"`
}

// Composite is the rule of a composite alarm.
type Composite struct {
	Rule       string            `json:"rule"`
	Suppressor *alarm.Suppressor `json:"suppressor,omitempty"`
}

// Actions are ARNs by the state whose beginning they are for.
type Actions struct {
	OK           []string `json:"ok,omitempty"`
	Alarm        []string `json:"alarm,omitempty"`
	Insufficient []string `json:"insufficient,omitempty"`
}

// Of are the actions of a state.
func (a Actions) Of(s alarm.State) []string {
	switch s {
	case alarm.OK:
		return a.OK
	case alarm.Alarm:
		return a.Alarm
	}
	return a.Insufficient
}

// All are the actions of all states.
func (a Actions) All() []string {
	var all []string
	for _, s := range []alarm.State{alarm.OK, alarm.Alarm, alarm.InsufficientData} {
		all = append(all, a.Of(s)...)
	}
	return all
}

// Untold is an entry for the history, and the message that belongs to it if it is an action's.
type Untold struct {
	Entry Entry `json:"entry"`
	Post  *Post `json:"post,omitempty"`
}

// Post is a message for a topic. Its ID is made of what happened: a topic that gets it twice takes it once.
type Post struct {
	ID      string `json:"id"`
	Topic   string `json:"topic"` // its ARN
	Subject string `json:"subject"`
	Message string `json:"message"`
}

// Kind is a HistoryItemType.
type Kind string

// The kinds of entries.
const (
	Configuration Kind = "ConfigurationUpdate"
	StateUpdate   Kind = "StateUpdate"
	Action        Kind = "Action"
)

// Entry is one item of the history.
type Entry struct {
	Key       string    `json:"key"` // unique, in the order of time
	Alarm     string    `json:"alarm"`
	Composite bool      `json:"composite,omitempty"`
	At        time.Time `json:"at"`
	Kind      Kind      `json:"kind"`
	Summary   string    `json:"summary"`
	Data      string    `json:"data"` // JSON
}

// mostUntold bounds what waits of an alarm that flaps while its topics, or the store, cannot be reached for long: the
// oldest goes, because what an alarm said hours ago is worth least.
const mostUntold = 200

// note adds an entry that is to be told.
func (a *Alarm) note(kind Kind, at time.Time, summary, data string) {
	a.wait(Untold{Entry: a.entry(kind, at, summary, data)})
}

func (a *Alarm) wait(u Untold) {
	if len(a.Untold) >= mostUntold {
		a.Untold = slices.Clone(a.Untold[len(a.Untold)-mostUntold+1:])
		a.Dropped++
	}
	a.Untold = append(a.Untold, u)
}

// entry makes the alarm's next entry.
func (a *Alarm) entry(kind Kind, at time.Time, summary, data string) Entry {
	a.Entries++
	return Entry{
		Key: fmt.Sprintf("%020d-%s-%08d", at.UnixNano(), short(a.Name), a.Entries), Alarm: a.Name, Composite: a.Composite != nil,
		At: at, Kind: kind, Summary: summary, Data: data,
	}
}

// act adds the messages of the alarm's actions for its state.
func (a *Alarm) act(p place, before alarm.State, at time.Time) {
	if a.Muted {
		return
	}
	for _, action := range a.Actions.Of(a.State) {
		e := a.entry(Action, at, "", "")
		a.wait(Untold{Entry: e, Post: p.post(*a, before, action, e.Key)})
	}
}

// short tells names apart in keys, whatever characters they have.
func short(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x", sum[:6])
}
