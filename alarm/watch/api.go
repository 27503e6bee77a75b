package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"understudy/alarm"
)

// APIPath is below which Handler answers.
const APIPath = "/api/alarms"

// Shown is an alarm as GET APIPath tells of it.
type Shown struct {
	Name        string      `json:"name"`
	Type        string      `json:"type"` // "metric" or "composite"
	State       alarm.State `json:"state"`
	Since       time.Time   `json:"since"`
	Reason      string      `json:"reason"`
	Description string      `json:"description,omitempty"`
	Rule        string      `json:"rule"` // in words
	Muted       bool        `json:"muted,omitempty"`
	Actions     []string    `json:"actions"` // ARNs of its ALARM actions
	Evaluation  string      `json:"evaluation,omitempty"`
}

// Listed is the answer of GET APIPath.
type Listed struct {
	Alarms []Shown `json:"alarms"` // in the order of their names
}

// Told is the answer of GET APIPath/history?alarm=NAME (all alarms without one).
type Told struct {
	Entries []Entry `json:"entries"` // newest first
}

// TestOutcome is the answer of POST APIPath/test?alarm=NAME.
type TestOutcome struct {
	OK       bool     `json:"ok"` // every topic took its message
	Unknown  bool     `json:"unknown,omitempty"`
	Message  string   `json:"message"`
	Messages []Tested `json:"messages,omitempty"`
}

// Handler answers below APIPath. Others go to rest. Whoever mounts it keeps strangers out.
func (w *Watch) Handler(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+APIPath, func(to http.ResponseWriter, _ *http.Request) {
		list := Listed{Alarms: []Shown{}}
		for _, a := range w.Alarms() {
			list.Alarms = append(list.Alarms, a.shown())
		}
		w.answer(to, http.StatusOK, list)
	})
	mux.HandleFunc("GET "+APIPath+"/history", func(to http.ResponseWriter, r *http.Request) {
		name := r.FormValue("alarm")
		entries := w.History(name)
		if _, ok := w.Alarm(name); name != "" && !ok && len(entries) == 0 {
			w.answer(to, http.StatusNotFound, TestOutcome{Unknown: true, Message: "there is no alarm " + strconv.Quote(name)})
			return
		}
		w.answer(to, http.StatusOK, Told{Entries: append([]Entry{}, entries...)})
	})
	mux.HandleFunc("POST "+APIPath+"/test", func(to http.ResponseWriter, r *http.Request) {
		o := w.try(r)
		code := http.StatusOK
		if o.Unknown {
			code = http.StatusNotFound
		}
		w.answer(to, code, o)
	})
	mux.Handle("/", rest)
	return http.NewCrossOriginProtection().Handler(mux)
}

// try sends an alarm's test.
func (w *Watch) try(r *http.Request) TestOutcome {
	name := r.FormValue("alarm")
	all, err := w.Test(r.Context(), name)
	switch {
	case errors.Is(err, ErrNone):
		return TestOutcome{Unknown: true, Message: "there is no alarm " + strconv.Quote(name)}
	case err != nil:
		return TestOutcome{Message: err.Error()}
	case len(all) == 0:
		return TestOutcome{Message: "the alarm " + name + " has no action for ALARM: nobody is told when it fires"}
	}
	o := TestOutcome{OK: true, Messages: all, Message: fmt.Sprintf("%d topics took the message", len(all))}
	for _, t := range all {
		if t.Error != "" {
			o.OK, o.Message = false, "a topic did not take the message: "+t.Error
		}
	}
	return o
}

func (w *Watch) answer(to http.ResponseWriter, code int, v any) {
	to.Header().Set("Content-Type", "application/json")
	to.WriteHeader(code)
	if err := json.NewEncoder(to).Encode(v); err != nil {
		w.log.Debug("an answer was not read", "error", err)
	}
}

func (a Alarm) shown() Shown {
	s := Shown{
		Name: a.Name, Type: "metric", State: a.State, Since: a.Since, Reason: a.Reason, Description: a.Description, Muted: a.Muted,
		Actions: list(a.Actions.Alarm), Evaluation: string(a.Evaluation),
	}
	if a.Composite != nil {
		s.Type, s.Rule = "composite", a.Composite.Rule
		return s
	}
	s.Rule = a.Rule.String()
	return s
}
