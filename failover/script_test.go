package failover

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"understudy/cluster"
)

// TestMachineScripts drives one Machine, n1 of three nodes, step by step. Commands, with their
// arguments as key=value:
//
//	machine [durability=async] [on-lost-quorum=refuse] [preferred-zone=]   a new one
//	lead epoch= holder= ...          what the store shows from now on, with a higher revision
//	redis ...                        what the node knows of its own redis-server
//	busy at=                         a probe was answered with -BUSY
//	replica node= offset= [offline]  one line of it
//	peer node= ...                   another node's report, asked for at the time of the step
//	end KIND [outcome] ...           an action under way has ended
//	ask to= | stop | force [accept]  an operator's request
//	settings [manual] [nodes=n1,…]   what an operator has changed
//	pledge node= epoch=              a holder's that cannot reach the store
//	kept epoch= holder= ...          the record on this node's disk, as lead
//	step at=DURATION [return]        one step; prints what it decides
//	watch until= [every=50ms] [blind]
//	                                 looks (with blind: none) that find redis-server as it is, a step after each;
//	                                 all that it asks for ends well; prints each step that says something new
func TestMachineScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		s := newMachineScript(cluster.DurabilitySync, func(*Config) {})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "machine" {
				s = newMachineScript(cluster.Durability(word(d, "durability", "sync")),
					func(c *Config) {
						c.OnLostQuorum, c.PreferredZone = cluster.LostQuorum(word(d, "on-lost-quorum", "")), word(d, "preferred-zone", "")
					})
				return ""
			}
			return s.run(t, d)
		})
	})
}

// machineScript is a Machine and what it will be told at its next step.
type machineScript struct {
	m    *Machine
	in   Input
	open []Action
}

func newMachineScript(d cluster.Durability, with func(*Config)) *machineScript {
	profile, err := ProfileByName("fast")
	if err != nil {
		panic(err)
	}
	nodes := []Peer{{Node: "n1", Zone: "a"}, {Node: "n2", Zone: "b"}, {Node: "n3", Zone: "c"}}
	c := Config{Group: "g", Self: nodes[0], Nodes: nodes, Durability: d, Profile: profile}
	with(&c)
	s := &machineScript{m: New(c)}
	s.in.Peers = map[cluster.NodeID]Report{}
	return s
}

func (s *machineScript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "lead":
		s.in.Store = StoreView{Known: true, Lead: lead(d), Revision: number(d, "rev", s.in.Store.Revision+1), SeenAt: duration(d, "seen", s.in.Now)}
	case "no-lead":
		s.in.Store = StoreView{Known: true}
	case "kept":
		s.in.Local.Kept = lead(d)
		s.in.Local.Seen = s.in.Local.Kept.Epoch
	case "redis":
		s.redis(d)
	case "busy":
		s.in.Local.OKAt, s.in.Local.Busy = duration(d, "at", s.in.Now), true
	case "replica":
		s.in.Local.Replicas = append(s.in.Local.Replicas, ReplicaAck{
			Node: cluster.NodeID(word(d, "node", "")), Offset: number(d, "offset", 0), Online: !d.HasArg("offline")})
	case "peer":
		s.peer(d)
	case "end":
		return s.end(d)
	case "ask":
		s.in.Request = &Request{ID: word(d, "id", "r1"), Kind: RequestSwitchover, To: cluster.NodeID(word(d, "to", "")), Zone: word(d, "zone", "")}
	case "force":
		s.in.Request = &Request{ID: word(d, "id", "f1"), Kind: RequestForce, AcceptLoss: d.HasArg("accept")}
	case "pledge":
		s.in.Request = &Request{ID: "p1", Kind: RequestPledge, Node: cluster.NodeID(word(d, "node", "")), Epoch: cluster.Epoch(number(d, "epoch", 1))}
	case "settings":
		s.in.Settings = &Settings{Manual: d.HasArg("manual")}
		for i, n := range strings.Split(word(d, "nodes", "n1,n2,n3"), ",") {
			s.in.Settings.Nodes = append(s.in.Settings.Nodes, Peer{Node: cluster.NodeID(n), Zone: string(rune('a' + i))})
		}
	case "stop":
		s.in.Request = &Request{ID: "stop", Kind: RequestStop}
	case "step":
		s.in.Now, s.in.ReturnNow = duration(d, "at", s.in.Now), d.HasArg("return")
		return s.step()
	case "watch":
		return s.watch(d)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return ""
}

func lead(d *datadriven.TestData) cluster.Lead {
	l := cluster.Lead{
		Epoch: cluster.Epoch(number(d, "epoch", 1)), Holder: cluster.NodeID(word(d, "holder", "n1")), Boot: word(d, "boot", ""),
		State: cluster.LeadHeld, TTL: time.Second, Promoted: !d.HasArg("claimed"), Kind: word(d, "kind", cluster.KindFailover),
		From: cluster.NodeID(word(d, "from", "")), Seq: uint64(number(d, "seq", 0)),
	}
	if d.HasArg("released") {
		l.State, l.Cause = cluster.LeadReleased, "test"
	}
	if v := word(d, "voters", ""); v != "" {
		var ids []cluster.NodeID
		for _, id := range strings.Split(v, ",") {
			ids = append(ids, cluster.NodeID(id))
		}
		l.Rule = cluster.NewRule(cluster.DurabilitySync, ids)
	}
	for i, f := range strings.Split(word(d, "lineage", "x@0"), ",") {
		if f == "none" {
			break
		}
		id, at, _ := strings.Cut(f, "@")
		n, _ := strconv.ParseInt(at, 10, 64)
		fork := cluster.Fork{Epoch: cluster.Epoch(i + 1), ReplID: id, At: n}
		if i > 0 {
			fork.Parent = l.Lineage[i-1].ReplID
		}
		l.Lineage = append(l.Lineage, fork)
	}
	l.Position = position(word(d, "pos", ""))
	return l
}

func (s *machineScript) redis(d *datadriven.TestData) {
	l := &s.in.Local
	at := duration(d, "at", s.in.Now)
	if d.HasArg("gone") {
		*l = Local{Exit: "killed", Seen: l.Seen, Revoked: l.Revoked, Kept: l.Kept, Boot: l.Boot}
		return
	}
	if d.HasArg("hangs") {
		return // no probe is answered any more
	}
	*l = Local{
		Process: ProcessRunning, Boot: word(d, "boot", "b1"), At: at, OKAt: at, Role: cluster.Role(word(d, "role", "replica")),
		Position: position(word(d, "pos", "x:0")), Prev: position(word(d, "prev", "")), LinkUp: d.HasArg("up"), Syncing: d.HasArg("syncing"),
		Damaged: d.HasArg("damaged"), Loading: d.HasArg("loading"), Following: cluster.NodeID(word(d, "of", "")),
		Intact: d.HasArg("intact"), Short: d.HasArg("short"), Seen: cluster.Epoch(number(d, "known", int64(l.Seen))),
		Revoked: cluster.Epoch(number(d, "revoked", int64(l.Revoked))), Kept: l.Kept, Last: position(word(d, "last", "")), ReadOnly: word(d, "read-only", ""),
	}
}

func (s *machineScript) peer(d *datadriven.TestData) {
	id := cluster.NodeID(word(d, "node", ""))
	s.in.Peers[id] = Report{
		Node: id, At: duration(d, "at", s.in.Now), Seen: cluster.Epoch(number(d, "seen", 1)), Revoked: cluster.Epoch(number(d, "revoked", 0)),
		Fit: !d.HasArg("unfit"), Reason: word(d, "unfit", ""), Position: position(word(d, "pos", "x:0")), Prev: position(word(d, "prev", "")),
		Complete: cluster.Epoch(number(d, "complete", 0)), Followed: cluster.Epoch(number(d, "followed", 0)), Last: position(word(d, "last", "")), ReadOnly: word(d, "read-only", ""),
	}
}

// end ends the oldest open action of a kind.
func (s *machineScript) end(d *datadriven.TestData) string {
	kind := d.CmdArgs[0].Key
	i := slices.IndexFunc(s.open, func(a Action) bool { return a.Kind.String() == kind })
	if i < 0 {
		return "no such action is under way\n"
	}
	r := Result{Outcome: OutcomeOK, Position: position(word(d, "pos", "")), Prev: position(word(d, "prev", "")), Damaged: d.HasArg("damaged")}
	for o := OutcomeOK; o <= OutcomeUnknown; o++ {
		if d.HasArg(o.String()) {
			r.Outcome, r.Detail = o, "test"
		}
	}
	s.ended(i, r)
	return ""
}

// ended ends one open action; a swap that succeeds is what the store shows then.
func (s *machineScript) ended(i int, r Result) {
	a := s.open[i]
	s.open = slices.Delete(s.open, i, i+1)
	r.ID, r.Kind = a.ID, a.Kind
	if a.Kind == ActSwap && r.Outcome == OutcomeOK {
		r.Revision = s.in.Store.Revision + 1
		s.in.Store = StoreView{Known: true, Lead: a.Lead, Revision: r.Revision, SeenAt: s.in.Now}
	}
	s.in.Results = append(s.in.Results, r)
}

// watch lets time pass: looks that find redis-server as it is, or none, and all that is asked for ends well.
func (s *machineScript) watch(d *datadriven.TestData) string {
	every, until := duration(d, "every", 50*time.Millisecond), duration(d, "until", s.in.Now)
	var b strings.Builder
	for said := ""; s.in.Now < until; {
		s.in.Now = min(s.in.Now+every, until)
		if s.in.Local.OKAt = s.in.Now; !d.HasArg("blind") {
			s.in.Local.At = s.in.Now
		}
		out := s.m.Step(s.in)
		s.in.Results = nil
		s.open = append(s.open, out.Actions...)
		for len(s.open) > 0 {
			s.ended(0, Result{Outcome: OutcomeOK})
		}
		now := fmt.Sprintf("%v%s", s.m.mode, inWords(out))
		if now != said {
			fmt.Fprintf(&b, "%v: %s", s.in.Now, now)
			said = now
		}
	}
	return b.String()
}

func (s *machineScript) step() string {
	out := s.m.Step(s.in)
	s.in.Results, s.in.Request = nil, nil
	var b strings.Builder
	fmt.Fprintf(&b, "%v", s.m.mode)
	if out.WriteUntil > 0 {
		fmt.Fprintf(&b, ", may write until %v", out.WriteUntil)
	}
	b.WriteString(inWords(out))
	for _, a := range out.Actions {
		s.open = append(s.open, a)
		fmt.Fprintf(&b, "  do %s\n", describe(a))
	}
	for _, r := range out.Replies {
		fmt.Fprintf(&b, "  reply %s ok=%v refused=%v: %s\n", r.ID, r.OK, r.Refused, r.Message)
	}
	return b.String()
}

// inWords is what a step says of itself to others.
func inWords(out Output) string {
	var b strings.Builder
	if out.Status.Pausing {
		b.WriteString(", pausing")
	}
	if out.Status.NoQuorum {
		b.WriteString(", no quorum")
	}
	if out.Status.Alone {
		b.WriteString(", alone")
	}
	b.WriteByte('\n')
	for _, r := range out.Status.Rules {
		fmt.Fprintf(&b, "  rule %v W=%d\n", r.Voters, r.W)
	}
	for _, e := range out.Events {
		fmt.Fprintf(&b, "  event %s: %s\n", e.Name, e.Message)
	}
	return b.String()
}

func describe(a Action) string {
	switch a.Kind {
	case ActSwap:
		l := a.Lead
		return fmt.Sprintf("swap (%s): epoch %d of %s %s promoted=%v, rule %v W=%d", a.Why, l.Epoch, l.Holder, l.State, l.Promoted, l.Rule.Voters, l.Rule.W)
	case ActFollow, ActPause:
		return fmt.Sprintf("%s %s", a.Kind, a.Node)
	case ActPersist:
		return fmt.Sprintf("persist epoch %d revoked %d", a.Epoch, a.Revoked)
	case ActSave:
		return fmt.Sprintf("save epoch %d, the group left it at %v", a.Epoch, a.Position)
	case ActRevoke, ActAsk, ActPledge:
		return fmt.Sprintf("%s epoch %d", a.Kind, a.Epoch)
	default:
		return a.Kind.String()
	}
}

// TestGateScripts drives one Gate. Commands:
//
//	gate                                         a new one
//	learn at= node= epoch= permit= ...           a status
//	writer | closed | demand                     at=DURATION
//	fate epoch= [replid= offset=] | may-ack epoch=
func TestGateScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/gate", func(t *testing.T, path string) {
		g := NewGate()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "gate" {
				g = NewGate()
				return ""
			}
			return runGate(t, g, d)
		})
	})
}

func runGate(t *testing.T, g *Gate, d *datadriven.TestData) string {
	at := duration(d, "at", 0)
	switch d.Cmd {
	case "learn":
		s := cluster.NodeStatus{
			Node: cluster.NodeID(word(d, "node", "n1")), Epoch: cluster.Epoch(number(d, "epoch", 1)), Permit: duration(d, "permit", 0), Nodes: 3,
			Leads: d.HasArg("leads"), Pausing: d.HasArg("pausing"), Kept: cluster.Epoch(number(d, "kept", 0)), Addr: word(d, "node", "n1") + ":1",
			Fork: cluster.Fork{ReplID: word(d, "log", ""), Parent: word(d, "parent", ""), At: number(d, "fork", 0)},
		}
		for _, v := range strings.Split(word(d, "rules", ""), ";") {
			if v != "" {
				var ids []cluster.NodeID
				for _, id := range strings.Split(v, ",") {
					ids = append(ids, cluster.NodeID(id))
				}
				s.Rules = append(s.Rules, cluster.NewRule(cluster.DurabilitySync, ids))
			}
		}
		return fmt.Sprintf("news=%v\n", g.Learn(at, s))
	case "writer":
		w, ok := g.Writer(at)
		if !ok {
			return "hold\n"
		}
		return fmt.Sprintf("%s epoch %d log %s until %v\n", w.Node, w.Epoch, w.ReplID, w.Until)
	case "closed":
		since, closed := g.Closed(at)
		return fmt.Sprintf("closed=%v since %v\n", closed, since)
	case "fate":
		f := g.Fate(at, Receipt{Epoch: cluster.Epoch(number(d, "epoch", 1)), ReplID: word(d, "replid", ""), Offset: number(d, "offset", 0)})
		return [...]string{"wait", "commit", "kept", "carried", "unknown"}[f] + "\n"
	case "may-ack":
		return fmt.Sprintf("%v\n", g.MayAck(at, cluster.Epoch(number(d, "epoch", 1))))
	case "demand":
		x := g.Demand()
		one := x.Satisfied("n1", []cluster.NodeID{"n2"})
		other := x.Satisfied("n1", []cluster.NodeID{"n3"})
		return fmt.Sprintf("least %d surely %d; n2 alone %v, n3 alone %v\n", x.Least, x.Surely, one, other)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
		return ""
	}
}

func word(d *datadriven.TestData, key, otherwise string) string {
	if a, ok := d.Arg(key); ok && len(a.Vals) > 0 {
		return strings.Join(a.Vals, ",")
	}
	return otherwise
}

func number(d *datadriven.TestData, key string, otherwise int64) int64 {
	n, err := strconv.ParseInt(word(d, key, ""), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

func duration(d *datadriven.TestData, key string, otherwise time.Duration) time.Duration {
	n, err := time.ParseDuration(word(d, key, ""))
	if err != nil {
		return otherwise
	}
	return n
}

func position(text string) cluster.Position {
	id, off, _ := strings.Cut(text, ":")
	n, _ := strconv.ParseInt(off, 10, 64)
	return cluster.Position{ReplID: id, Offset: n}
}

func TestEveryScriptFolderHasScripts(t *testing.T) {
	for _, dir := range []string{"machine", "gate", "sim"} {
		if files, err := filepath.Glob("testdata/" + dir + "/*.txt"); err != nil || len(files) == 0 {
			t.Errorf("testdata/%s is empty: %v", dir, err)
		}
	}
}
