package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
	"understudy/rpc"
)

var _ rpc.Node = (*Agent)(nil)

// Report implements rpc.Node. Asked about an epoch, it waits, as long as the asker allows, until this
// node has let go of that epoch or is plainly not fit.
func (a *Agent) Report(ctx context.Context, epoch cluster.Epoch, wait time.Duration) (rpc.Answer, error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		newer := a.changed()
		v := a.view.Load()
		if v.report.Revoked >= epoch || !v.report.Fit || v.lead.Epoch > epoch {
			break
		}
		select {
		case <-newer:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	v := a.view.Load()
	return rpc.Answer{Report: v.report, Addr: v.status.Addr}, ctx.Err()
}

// Position implements rpc.Node: where redis-server is right now.
func (a *Agent) Position(ctx context.Context) (cluster.Position, error) {
	c, err := a.control(ctx)
	if err != nil {
		return cluster.Position{}, err
	}
	rep, err := c.Replication(ctx)
	if err != nil {
		a.dropControl()
	}
	return rep.Position, err
}

// Word implements rpc.Node. The permit that it tells is what is left of it now.
func (a *Agent) Word(ctx context.Context, after rpc.After) (rpc.Word, error) {
	limit := time.NewTimer(after.Wait)
	defer limit.Stop()
	for waiting := true; waiting; {
		newer := a.changed()
		if a.view.Load().version != after.Version {
			break
		}
		select {
		case <-newer:
		case <-limit.C:
			waiting = false
		case <-ctx.Done():
			return rpc.Word{}, ctx.Err()
		}
	}
	v := a.view.Load()
	now := a.opts.Clock()
	w := rpc.Word{Version: v.version, Status: v.status, Report: v.report, Lead: v.lead,
		LeadKnown: v.store.Known, Revision: v.store.Revision, LeadAge: now - v.store.SeenAt}
	w.Status.Permit = max(0, w.Status.Permit-(now-v.at))
	w.Events, w.EventsTo = a.timeline.after(after.Events)
	return w, nil
}

// Request implements rpc.Node. It returns when the request is carried out, when it was refused
// (Reply.Refused), or when it failed and nothing was changed.
func (a *Agent) Request(ctx context.Context, r failover.Request) (failover.Reply, error) {
	return a.ask(ctx, r)
}

// Kill implements rpc.Node: the server ends as in a crash. Only the primary of the epoch that is named
// is killed, so that a request which comes twice finds nothing to do.
func (a *Agent) Kill(_ context.Context, k rpc.Kill) (failover.Reply, error) {
	v := a.view.Load()
	s := v.status
	switch {
	case !s.Leads || s.Epoch != k.Epoch:
		return failover.Reply{ID: k.ID, Refused: true, Lead: v.lead,
			Message: fmt.Sprintf("%s does not lead in epoch %d any more; it knows of epoch %d", s.Node, k.Epoch, s.Epoch)}, nil
	case v.server == nil:
		return failover.Reply{ID: k.ID, Refused: true, Message: fmt.Sprintf("redis-server of %s does not run", s.Node)}, nil
	}
	if err := v.server.Kill(); err != nil {
		return failover.Reply{}, fmt.Errorf("kill redis-server of %s: %w", s.Node, err)
	}
	return failover.Reply{ID: k.ID, OK: true, Message: fmt.Sprintf("redis-server of %s (pid %d) was killed", s.Node, s.PID), Lead: v.lead}, nil
}

// timeline keeps the newest events of this node for those who poll.
type timeline struct {
	mu     sync.Mutex
	to     uint64 // the number of the newest
	events []cluster.Event
}

// keptEvents is enough for the longest failover with every step told.
const keptEvents = 64

func (t *timeline) add(e cluster.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to++
	if len(t.events) == keptEvents {
		t.events = slices.Delete(t.events, 0, 1)
	}
	t.events = append(t.events, e)
}

// after returns what came after number n. A number that was never given is of a run before this one.
func (t *timeline) after(n uint64) ([]cluster.Event, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.to - uint64(len(t.events)) // the number before the oldest
	if n > t.to || n < first {
		n = first
	}
	return slices.Clone(t.events[n-first:]), t.to
}

// peers knows where each node's redis-server was last known to listen.
type peers struct {
	mu    sync.Mutex
	addrs map[string]cluster.NodeID
}

// nodeAt names the node whose redis-server listens at addr; "" for nobody's.
func (a *Agent) nodeAt(addr string) cluster.NodeID {
	a.peers.mu.Lock()
	defer a.peers.mu.Unlock()
	return a.peers.addrs[addr]
}

// to is where a peer is reached now.
func (a *Agent) to(node cluster.NodeID) rpc.To { return rpc.To{Node: node, Addr: a.opts.Peers(node)} }

// askPeer asks one node for its report, and remembers where its redis-server listens.
func (a *Agent) askPeer(ctx context.Context, node cluster.NodeID, epoch cluster.Epoch, wait time.Duration) (rpc.Answer, error) {
	sent := a.opts.Clock()
	got, err := a.opts.Client.Report(ctx, a.to(node), epoch, wait)
	if err != nil {
		return rpc.Answer{}, err
	}
	if got.Node != node {
		return rpc.Answer{}, fmt.Errorf("ask %s: %q answers there", node, got.Node)
	}
	got.At = sent
	if got.Addr != "" {
		a.peers.mu.Lock()
		a.peers.addrs[got.Addr] = node
		a.peers.mu.Unlock()
	}
	return got, nil
}

// askPeers asks all others at once and returns the answers that came within the bound. It does not wait
// for the one of except.
func (a *Agent) askPeers(ctx context.Context, epoch cluster.Epoch, bound time.Duration, except cluster.NodeID) []failover.Report {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var mu sync.Mutex
	var reports []failover.Report
	var wg sync.WaitGroup
	for _, n := range a.nodes() {
		if n.Node == a.opts.Self.Node || n.Node == except {
			continue
		}
		wg.Go(func() {
			// The asked node waits a little less than we do, so that its answer still counts.
			got, err := a.askPeer(ctx, n.Node, epoch, bound*4/5)
			if err != nil {
				a.log.Debug("no answer", "peer", n.Node, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, got.Report)
		})
	}
	wg.Wait()
	return reports
}

func (a *Agent) peerPosition(ctx context.Context, node cluster.NodeID) (cluster.Position, error) {
	return a.opts.Client.Position(ctx, a.to(node))
}

// control returns the connection that the looks share; it is made anew after an error.
func (a *Agent) control(ctx context.Context) (*redis.Control, error) {
	a.controlMu.Lock()
	defer a.controlMu.Unlock()
	if a.shared == nil {
		c, err := a.login().Dial(ctx)
		if err != nil {
			return nil, err
		}
		a.shared = c
	}
	return a.shared, nil
}

// controlNow is the same connection if there is one.
func (a *Agent) controlNow() *redis.Control {
	a.controlMu.Lock()
	defer a.controlMu.Unlock()
	return a.shared
}

func (a *Agent) dropControl() {
	a.controlMu.Lock()
	defer a.controlMu.Unlock()
	if a.shared != nil {
		_ = a.shared.Close()
		a.shared = nil
	}
}
