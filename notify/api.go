package notify

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// State is what GET /api/notifications answers.
type State struct {
	Queued []Queued `json:"queued"` // deliveries that have not been made yet, soonest first
	Dead   []Dead   `json:"dead"`   // that were given up, oldest first
}

// Queued is a delivery that waits. Endpoints are not told: they may hold passwords.
type Queued struct {
	MessageID    string    `json:"message_id"`
	Topic        string    `json:"topic"`
	Subscription string    `json:"subscription"`
	Protocol     string    `json:"protocol"`
	Attempts     int       `json:"attempts"`
	Next         time.Time `json:"next,omitzero"`
	Error        string    `json:"error,omitempty"`
}

// Dead is a dead letter, without its text.
type Dead struct {
	ID           string    `json:"id"`
	MessageID    string    `json:"message_id"`
	Topic        string    `json:"topic"`
	Subject      string    `json:"subject,omitempty"`
	Subscription string    `json:"subscription"`
	Protocol     string    `json:"protocol"`
	DeadLetters  string    `json:"dead_letters,omitempty"` // what its RedrivePolicy names
	Attempts     int       `json:"attempts"`
	Error        string    `json:"error"`
	At           time.Time `json:"at"`
}

// Outcome is what became of a request about a dead letter.
type Outcome struct {
	OK      bool   `json:"ok"`
	Unknown bool   `json:"unknown,omitempty"` // there is no such dead letter
	Message string `json:"message"`
}

// APIPath is below which Handler answers.
const APIPath = "/api/notifications"

// Handler answers GET APIPath with a State, and POST APIPath/ID/resend and DELETE APIPath/ID with an Outcome. Others go to
// rest. Whoever mounts it keeps strangers out.
func (c *Courier) Handler(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+APIPath, func(w http.ResponseWriter, _ *http.Request) { c.answer(w, http.StatusOK, c.State()) })
	mux.HandleFunc("POST "+APIPath+"/{id}/resend", func(w http.ResponseWriter, r *http.Request) {
		c.conclude(w, "it is sent again", c.Resend(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("DELETE "+APIPath+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		c.conclude(w, "it is forgotten", c.Drop(r.Context(), r.PathValue("id")))
	})
	mux.Handle("/", rest)
	return http.NewCrossOriginProtection().Handler(mux)
}

// State is what waits, and what was given up.
func (c *Courier) State() State {
	s := State{Queued: c.queued(), Dead: []Dead{}}
	for _, d := range c.Dead() {
		s.Dead = append(s.Dead, Dead{
			ID: d.ID, MessageID: d.Message.ID, Topic: d.Message.Topic, Subject: d.Message.Subject, Subscription: d.Target.Subscription,
			Protocol: d.Target.Protocol, DeadLetters: d.Target.DeadLetters, Attempts: d.Attempts, Error: d.Error, At: d.At,
		})
	}
	return s
}

func (c *Courier) conclude(w http.ResponseWriter, done string, err error) {
	switch {
	case errors.Is(err, ErrNone):
		c.answer(w, http.StatusNotFound, Outcome{Unknown: true, Message: err.Error()})
	case err != nil:
		c.answer(w, http.StatusBadGateway, Outcome{Message: err.Error()})
	default:
		c.answer(w, http.StatusOK, Outcome{OK: true, Message: done})
	}
}

func (c *Courier) answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.log.Debug("an answer was not read", "error", err)
	}
}
