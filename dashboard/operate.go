package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// SwitchoverRequest is the body of POST /api/switchover; empty fields leave the choice to the group.
type SwitchoverRequest struct {
	To   cluster.NodeID `json:"to,omitempty"`
	Zone string         `json:"zone,omitempty"`
}

// FailoverRequest is the body of POST /api/failover.
type FailoverRequest struct {
	Group string `json:"group,omitempty"` // refused when it is not this one
	Zone  string `json:"zone,omitempty"`  // refused when the primary is elsewhere
}

// Outcome is the answer to both: 200 when it is done, 409 when it was refused and nothing was
// changed, 502 when it was tried and did not come to its end.
type Outcome struct {
	OK      bool          `json:"ok"`
	Refused bool          `json:"refused,omitempty"`
	Message string        `json:"message"`
	Epoch   cluster.Epoch `json:"epoch,omitempty"`
}

// operateWithin bounds a change of primary as its caller waits for it.
func (d *Dashboard) operateWithin() time.Duration { return 5*d.opts.Profile.TTL + 5*time.Second }

// requests numbers the switchovers asked for through this process.
var requests atomic.Uint64

func (d *Dashboard) serveSwitchover(w http.ResponseWriter, r *http.Request) {
	var ask SwitchoverRequest
	if !d.read(w, r, &ask) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.operateWithin())
	defer cancel()
	d.conclude(w, d.switchover(ctx, ask))
}

func (d *Dashboard) switchover(ctx context.Context, ask SwitchoverRequest) Outcome {
	s := d.Status()
	if s.Primary == "" {
		return Outcome{Refused: true, Message: "there is no primary to switch over from: " + s.Writable()}
	}
	id := fmt.Sprintf("%s-%d", d.events.run, requests.Add(1))
	reply, err := d.opts.Nodes[s.Primary].Switchover(ctx, failover.Request{ID: id, To: ask.To, Zone: ask.Zone})
	if err != nil {
		return Outcome{Message: fmt.Sprintf("the outcome of the switchover is not known: %v; see the status", err)}
	}
	return Outcome{OK: reply.OK, Refused: reply.Refused, Message: reply.Message, Epoch: reply.Lead.Epoch}
}

func (d *Dashboard) serveFailover(w http.ResponseWriter, r *http.Request) {
	var ask FailoverRequest
	if !d.read(w, r, &ask) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.operateWithin())
	defer cancel()
	d.conclude(w, d.failover(ctx, ask))
}

// failover kills the primary's redis-server and waits until another node accepts writes.
func (d *Dashboard) failover(ctx context.Context, ask FailoverRequest) Outcome {
	s := d.Status()
	victim, why := target(s, ask)
	if why == "" && d.opts.Kill == nil {
		why = "this process cannot kill the primary: ask the one that runs it"
	}
	if why != "" {
		return Outcome{Refused: true, Message: why}
	}
	if err := d.opts.Kill(victim.ID, victim.PID); err != nil {
		return Outcome{Message: err.Error()}
	}
	d.log.Info("primary killed on request", "node", victim.ID, "pid", victim.PID)
	after, err := d.Wait(ctx, func(now Status) bool { return now.Primary != "" && now.Epoch > s.Epoch })
	if err != nil {
		return Outcome{Message: fmt.Sprintf("redis-server of %s was killed, and no node has taken over in %v: %s",
			victim.ID, d.operateWithin(), after.Writable())}
	}
	return Outcome{OK: true, Epoch: after.Epoch, Message: fmt.Sprintf("redis-server of %s (pid %d) was killed; %s leads", victim.ID, victim.PID, after.Primary)}
}

// target is the node to kill, or why none may be.
func target(s Status, ask FailoverRequest) (NodeLine, string) {
	if ask.Group != "" && ask.Group != s.Group {
		return NodeLine{}, fmt.Sprintf("there is no group %q here: this is %q", ask.Group, s.Group)
	}
	if s.Primary == "" {
		return NodeLine{}, "there is no primary to kill: " + s.Writable()
	}
	var victim NodeLine
	reasons, electable := "", false
	for _, n := range s.Nodes {
		switch {
		case n.ID == s.Primary:
			victim = n
		case n.Electable:
			electable = true
		default:
			reasons += fmt.Sprintf("; %s: %s", n.ID, n.Reason)
		}
	}
	switch {
	case ask.Zone != "" && victim.Zone != ask.Zone:
		return victim, fmt.Sprintf("the primary %s is in zone %s, not in %s: name that zone, or none", victim.ID, victim.Zone, ask.Zone)
	case !electable:
		return victim, "no other node can take over now, so the primary is left alone: wait until `understudy status` shows one that can" + reasons
	case victim.PID == 0:
		return victim, fmt.Sprintf("the process of %s is not known", victim.ID)
	}
	return victim, ""
}

// maxBody bounds a request's body: the largest names one node.
const maxBody = 4 << 10

// read decodes the body; an empty one asks for nothing in particular.
func (d *Dashboard) read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		d.answer(w, http.StatusBadRequest, Outcome{Message: "the body is not the JSON that " + strconv.Quote(r.URL.Path) + " takes: " + err.Error()})
		return false
	}
	return true
}

func (d *Dashboard) conclude(w http.ResponseWriter, o Outcome) {
	code := http.StatusOK
	switch {
	case o.Refused:
		code = http.StatusConflict
	case !o.OK:
		code = http.StatusBadGateway
	}
	d.answer(w, code, o)
}
