package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	Asked
}

// FailoverRequest is the body of POST /api/failover.
type FailoverRequest struct {
	Group string `json:"group,omitempty"` // refused when it is not this one
	Zone  string `json:"zone,omitempty"`  // refused when the primary is elsewhere
	// AcceptLoss has a group without a primary go on with the best log that is left.
	AcceptLoss bool `json:"accept_data_loss,omitempty"`
	Asked
}

// Asked is what both requests may say beside.
type Asked struct {
	// RequestID makes a repeated request harmless: it gets the first one's answer.
	RequestID string `json:"request_id,omitempty"`
	// DryRun: say what would be done, and do nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Outcome is the answer to both: 200 when it is done, or planned; 409 when it was refused and nothing was
// changed, 400 when it makes no sense, 502 when it was tried and did not come to its end.
type Outcome struct {
	Group   string        `json:"group"`
	OK      bool          `json:"ok"`
	Refused bool          `json:"refused,omitempty"`
	Message string        `json:"message"`
	Epoch   cluster.Epoch `json:"epoch,omitempty"`
	Plan    *Plan         `json:"plan,omitempty"` // of a dry run
	Invalid bool          `json:"invalid,omitempty"`
}

func refuse(format string, args ...any) Outcome {
	return Outcome{Refused: true, Message: fmt.Sprintf(format, args...)}
}

// operateWithin bounds a change of primary as its caller waits for it.
func (d *Dashboard) operateWithin() time.Duration { return 5*d.opts.Profile.TTL + 5*time.Second }

// numbers tells the requests of this process apart that have no id of their own.
var numbers atomic.Uint64

// machineID names a request to the nodes' machines, which have ids of their own too.
func (d *Dashboard) machineID(id string) string {
	if id != "" {
		return "op-" + id
	}
	return fmt.Sprintf("%s-%d", d.events.run, numbers.Add(1))
}

func (d *Dashboard) serveSwitchover(w http.ResponseWriter, r *http.Request) {
	var ask SwitchoverRequest
	if !d.read(w, r, &ask) {
		return
	}
	d.operate(w, r, ask.Asked, ask, func(ctx context.Context) Outcome { return d.Switchover(ctx, ask) })
}

func (d *Dashboard) serveFailover(w http.ResponseWriter, r *http.Request) {
	var ask FailoverRequest
	if !d.read(w, r, &ask) {
		return
	}
	d.operate(w, r, ask.Asked, ask, func(ctx context.Context) Outcome { return d.Failover(ctx, ask) })
}

// operate carries a request out and answers it. What has begun is not given up because its caller hung up.
func (d *Dashboard) operate(w http.ResponseWriter, r *http.Request, asked Asked, ask any, do func(context.Context) Outcome) {
	once := func() Outcome {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.operateWithin())
		defer cancel()
		return do(ctx)
	}
	if asked.DryRun {
		asked.RequestID = "" // nothing is done: it may be asked as often as one likes
	}
	o := d.requests.answer(asked.RequestID, ask, once)
	o.Group = d.opts.Group
	code := http.StatusOK
	switch {
	case o.Invalid:
		code = http.StatusBadRequest
	case o.Refused:
		code = http.StatusConflict
	case !o.OK:
		code = http.StatusBadGateway
	}
	d.answer(w, code, o)
}

// Switchover has the primary hand over. Whom to is its machine's choice.
func (d *Dashboard) Switchover(ctx context.Context, ask SwitchoverRequest) Outcome {
	if d.opts.Operator != "" {
		return refuse("%s", d.opts.Operator)
	}
	s := d.Status()
	if s.Primary == "" {
		return refuse("there is no primary to switch over from: %s", s.Writable())
	}
	r := failover.Request{ID: d.machineID(ask.RequestID), Kind: failover.RequestSwitchover, To: ask.To, Zone: ask.Zone, DryRun: ask.DryRun}
	reply, err := d.group().nodes[s.Primary].Request(ctx, r)
	if err != nil {
		return Outcome{Message: fmt.Sprintf("the outcome of the switchover is not known: %v; see the status", err)}
	}
	o := Outcome{OK: reply.OK, Refused: reply.Refused, Message: reply.Message, Epoch: reply.Lead.Epoch}
	if ask.DryRun && reply.OK {
		o.Plan = d.expect(planSwitchover(s, reply.To), cluster.KindSwitchover)
		o.Message = "nothing was changed"
	}
	return o
}

// Failover kills the primary's redis-server and waits until another node accepts writes; in a group that
// has no primary it has the best log that is left go on, if the operator accepts the loss.
func (d *Dashboard) Failover(ctx context.Context, ask FailoverRequest) Outcome {
	if d.opts.Operator != "" {
		return refuse("%s", d.opts.Operator)
	}
	s := d.Status()
	if ask.Group != "" && ask.Group != s.Group {
		return refuse("there is no group %q here: this is %q", ask.Group, s.Group)
	}
	if s.Primary == "" {
		return d.force(ctx, ask)
	}
	e := d.Explain()
	victim, why := target(s, e, ask)
	if why == "" && d.opts.Kill == nil {
		why = "this process cannot kill the primary: ask the one that runs it"
	}
	switch {
	case why != "":
		return refuse("%s", why)
	case ask.DryRun:
		return Outcome{OK: true, Message: "nothing was changed", Epoch: s.Epoch, Plan: d.expect(planFailover(s, e, victim), cluster.KindFailover)}
	}
	if err := d.opts.Kill(ctx, victim.ID, s.Epoch); errors.Is(err, cluster.ErrRefused) {
		return refuse("%v", err)
	} else if err != nil {
		return Outcome{Message: err.Error()}
	}
	d.log.Info("primary killed on request", "node", victim.ID, "pid", victim.PID)
	after, err := d.Wait(ctx, func(now cluster.Status) bool { return now.Primary != "" && now.Epoch > s.Epoch })
	if err != nil {
		return Outcome{Message: fmt.Sprintf("redis-server of %s was killed, and no node has taken over in %v: %s",
			victim.ID, d.operateWithin(), after.Writable())}
	}
	return Outcome{OK: true, Epoch: after.Epoch, Message: fmt.Sprintf("redis-server of %s (pid %d) was killed; %s leads", victim.ID, victim.PID, after.Primary)}
}

// target is the node to kill, or why none may be.
func target(s cluster.Status, e failover.Explanation, ask FailoverRequest) (cluster.StatusNode, string) {
	victim, _ := s.Node(s.Primary)
	electable := slices.ContainsFunc(s.Nodes, func(n cluster.StatusNode) bool { return n.ID != s.Primary && n.Electable })
	switch {
	case ask.AcceptLoss:
		return victim, fmt.Sprintf("%s leads: nothing needs to be given up; leave --accept-data-loss out", s.Primary)
	case ask.Zone != "" && victim.Zone != ask.Zone:
		return victim, fmt.Sprintf("the primary %s is in zone %s, not in %s: name that zone, or none", victim.ID, victim.Zone, ask.Zone)
	case !electable:
		return victim, "no other node can take over now, so the primary is left alone: wait until `understudy status` shows one that can; " + s.Reasons()
	case e.Election.Winner == "":
		return victim, "no node could be chosen after it, so the primary is left alone: " + e.Election.Reason
	}
	return victim, ""
}

// force asks the nodes of a group without a primary, the one with the best log last, what would be lost,
// or to go on without it.
func (d *Dashboard) force(ctx context.Context, ask FailoverRequest) Outcome {
	e := d.Explain()
	next := e.Election.Best
	if next == "" {
		next = e.Election.Winner
	}
	if ask.Zone != "" || next == "" || !e.Waits && !ask.AcceptLoss {
		return refuse("there is no primary to kill: %s", e.Failover)
	}
	if ask.DryRun && ask.AcceptLoss && e.Election.Winner == "" {
		return Outcome{OK: true, Message: "nothing was changed", Epoch: e.Epoch, Plan: planForce(e)}
	}
	var reply failover.Reply
	nodes := d.group().nodes
	for range nodes { // each may know of a better one
		r := failover.Request{ID: d.machineID(ask.RequestID), Kind: failover.RequestForce, AcceptLoss: ask.AcceptLoss && !ask.DryRun}
		var err error
		if reply, err = nodes[next].Request(ctx, r); err != nil {
			return Outcome{Message: fmt.Sprintf("the outcome is not known: %v; see the status", err)}
		}
		if reply.To == "" || reply.To == next || nodes[reply.To] == nil {
			break
		}
		next = reply.To
	}
	o := Outcome{OK: reply.OK, Refused: reply.Refused, Message: reply.Message, Epoch: reply.Lead.Epoch}
	if o.Refused && reply.To == "" && !ask.AcceptLoss {
		o.Message = "there is no primary to kill: " + reply.Message + ". The command for that: understudy failover --accept-data-loss"
	}
	return o
}

// maxBody bounds a request's body: the largest names one node.
const maxBody = 4 << 10

// read decodes the body; an empty one asks for nothing in particular.
func (d *Dashboard) read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		d.answer(w, http.StatusBadRequest, Outcome{Group: d.opts.Group, Invalid: true, Message: "the body is not the JSON that " + strconv.Quote(r.URL.Path) + " takes: " + err.Error()})
		return false
	}
	return true
}
