package host

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/placement"
)

// Host runs the nodes of one machine.
type Host struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	ports   *ports
	work    sync.WaitGroup

	// Owned by Run's goroutine.
	running map[cluster.NodeID]*running
	offered map[cluster.NodeID]time.Duration // since when a node has had no machine
	moved   map[cluster.NodeID]bool          // said already that it is placed elsewhere
	ended   chan *running

	mu       sync.Mutex
	known    bool // the store has been read
	specs    map[string]entry[cluster.Spec]
	machines map[string]seen
	leads    map[string]lead
	secrets  map[string]string
	news     chan struct{} // has room for one: something above changed
	heldAt   time.Duration // when the newest acknowledged renewal of our record was sent
	hasMore  chan struct{} // has room for one: a node has come here, and our record does not say so yet
}

// entry is a record and its revision.
type entry[T any] struct {
	value    T
	revision int64
}

// seen is a machine's record, and when it last changed by our clock.
type seen struct {
	entry[cluster.Machine]
	at   time.Duration
	gone bool // it has no record: it is only named by a spec
}

// lead is a group's lead, and when it last changed by our clock.
type lead struct {
	cluster.Lead
	at time.Duration
}

// running is a node under way.
type running struct {
	id     cluster.NodeID
	place  cluster.NodePlace
	cancel context.CancelFunc
	err    error
}

// The bounds of the host's own calls and pauses.
const (
	callWithin = 2 * time.Second
	lookEvery  = time.Second // between two looks at what is not told by the store: silence
	startAgain = 2 * time.Second
)

// New prepares a Host. The error names the option or the file that is wrong.
func New(o Options) (*Host, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p, err := openPorts(o.portsFile(), o.PortBase)
	if err != nil {
		return nil, err
	}
	h := &Host{
		opts: o, log: o.Logger.With("component", "host", "machine", o.Machine.Name), ports: p,
		running: map[cluster.NodeID]*running{}, offered: map[cluster.NodeID]time.Duration{}, moved: map[cluster.NodeID]bool{},
		ended: make(chan *running, 64), news: make(chan struct{}, 1), hasMore: make(chan struct{}, 1),
		specs: map[string]entry[cluster.Spec]{}, machines: map[string]seen{}, leads: map[string]lead{}, secrets: map[string]string{},
	}
	h.metrics = newMetrics(o.Metrics, h)
	return h, nil
}

// Run runs what belongs here until ctx ends; it returns when every node has.
func (h *Host) Run(ctx context.Context) error {
	h.work.Go(func() { h.watch(ctx) })
	h.work.Go(func() { h.renew(ctx) })
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		h.reconcile(ctx)
		select {
		case <-h.news:
		case <-look.C:
		case r := <-h.ended:
			h.nodeEnded(r)
		case <-ctx.Done():
		}
	}
	for _, r := range h.running {
		r.cancel()
	}
	for len(h.running) > 0 {
		h.nodeEnded(<-h.ended)
	}
	h.work.Wait()
	return nil
}

// Where is the rpc address at which a node's agent answers now; "" when that is not known.
func (h *Host) Where(node cluster.NodeID) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	place, ok := h.specs[cluster.GroupOf(node)].value.Place(node)
	if !ok || place.Machine == "" {
		return ""
	}
	return h.machines[place.Machine].value.RPC
}

// Machines are the machines that are known, by name.
func (h *Host) Machines() map[string]cluster.Machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]cluster.Machine{}
	for name, m := range h.machines {
		if !m.gone {
			all[name] = m.value
		}
	}
	return all
}

// holds reports whether this machine may still run its nodes: others give them away when its record has
// been silent for ReplaceAfter, which they see later than it was sent.
func (h *Host) holds() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heldAt > 0 && h.opts.Clock()-h.heldAt < h.opts.ReplaceAfter*4/5
}

// tell wakes the loop.
func (h *Host) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// renew keeps this machine's record alive.
func (h *Host) renew(ctx context.Context) {
	for ctx.Err() == nil {
		pause := h.opts.Renew
		err := h.renewOnce(ctx)
		h.metrics.renewals.WithLabelValues(outcome(err)).Inc()
		if err != nil {
			h.log.Warn("this machine's record is not renewed", "error", err)
			pause = min(pause, time.Second)
		}
		h.untilDue(ctx, pause)
	}
}

// untilDue waits for the next renewal: a node that has come here is told at once, because after a loss of
// the store it belongs where its data is.
func (h *Host) untilDue(ctx context.Context, pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.hasMore:
	case <-ctx.Done():
	}
}

func (h *Host) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	key := cluster.MachineKey(h.opts.Machine.Name)
	sent := h.opts.Clock()
	entries, _, err := h.opts.Store.List(ctx, key)
	if err != nil {
		return err
	}
	var old cluster.Machine
	revision := int64(0)
	for _, e := range entries {
		if e.Key == key {
			revision = e.Revision
			if err := json.Unmarshal(e.Value, &old); err != nil {
				return fmt.Errorf("read %s: %w", key, err)
			}
		}
	}
	m := h.opts.Machine
	m.Seq, m.Has = old.Seq+1, slices.Sorted(maps.Keys(h.ports.all()))
	value, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := h.opts.Store.Swap(ctx, key, value, revision); err != nil {
		return err
	}
	h.mu.Lock()
	h.heldAt = sent
	h.mu.Unlock()
	h.tell()
	return nil
}

// watch keeps what the store says of groups and machines.
func (h *Host) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := h.follow(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("the store does not answer", "error", err)
		}
		rest(ctx, 200*time.Millisecond)
	}
}

// follow reads everything and then every change, until the watch breaks.
func (h *Host) follow(ctx context.Context) error {
	const prefix = "/understudy/"
	bound, cancel := context.WithTimeout(ctx, callWithin)
	entries, revision, err := h.opts.Store.List(bound, prefix)
	cancel()
	if err != nil {
		return err
	}
	h.begin(entries)
	for changes := range h.opts.Store.Watch(ctx, prefix, revision) {
		h.learn(changes)
	}
	return nil
}

// begin takes a whole reading: what is not in it is gone.
func (h *Host) begin(entries []cluster.Entry) {
	h.mu.Lock()
	groups := map[string]bool{}
	for _, e := range entries {
		if group, ok := groupKey(e.Key, "/spec"); ok {
			groups[group] = true
		}
	}
	for group := range h.specs {
		if !groups[group] {
			delete(h.specs, group)
		}
	}
	h.known = true
	h.mu.Unlock()
	h.learn(entries)
	h.specsChanged()
}

// groupKey splits the key of a group's record of one kind.
func groupKey(key, kind string) (string, bool) {
	rest, ok := strings.CutPrefix(key, cluster.GroupsPrefix)
	if !ok {
		return "", false
	}
	group, ok := strings.CutSuffix(rest, kind)
	return group, ok && !strings.Contains(group, "/")
}

// learn folds changed records in.
func (h *Host) learn(entries []cluster.Entry) {
	changed := false
	h.mu.Lock()
	for _, e := range entries {
		changed = h.learnOne(e) || changed
	}
	h.mu.Unlock()
	if changed {
		h.specsChanged()
	}
	h.tell()
}

// learnOne folds one record in; it reports whether specs or places changed. mu is held.
func (h *Host) learnOne(e cluster.Entry) bool {
	now := h.opts.Clock()
	if group, ok := groupKey(e.Key, "/spec"); ok {
		var s cluster.Spec
		if e.Value == nil {
			delete(h.specs, group)
		} else if h.read(e, &s) {
			h.specs[group] = entry[cluster.Spec]{s, e.Revision}
		}
		return true
	}
	if group, ok := groupKey(e.Key, "/lead"); ok {
		var l cluster.Lead
		if e.Value == nil {
			delete(h.leads, group)
		} else if h.read(e, &l) {
			h.leads[group] = lead{l, now}
		}
		return false
	}
	if group, ok := groupKey(e.Key, "/secret"); ok {
		if e.Value != nil { // one that is taken away is still that of the servers that run
			h.secrets[group] = string(e.Value)
		}
		return false
	}
	name, ok := strings.CutPrefix(e.Key, cluster.MachinesPrefix)
	if !ok {
		return false
	}
	old := h.machines[name]
	if e.Value == nil {
		delete(h.machines, name)
		return true
	}
	next := seen{at: now, entry: entry[cluster.Machine]{revision: e.Revision}}
	if !h.read(e, &next.value) {
		return false
	}
	if old.revision == e.Revision && !old.gone { // read again, not changed
		next.at = old.at
	}
	h.machines[name] = next
	a, b := old.value, next.value
	return a.Zone != b.Zone || a.Host != b.Host || a.RPC != b.RPC || a.HTTP != b.HTTP || a.Slots != b.Slots || old.gone
}

func (h *Host) read(e cluster.Entry, into any) bool {
	if err := json.Unmarshal(e.Value, into); err != nil {
		h.log.Error("a record cannot be read; what was known before stays", "key", e.Key, "error", err)
		return false
	}
	return true
}

func (h *Host) specsChanged() {
	h.mu.Lock()
	var all []cluster.Spec
	for _, name := range slices.Sorted(maps.Keys(h.specs)) {
		all = append(all, h.specs[name].value)
	}
	h.mu.Unlock()
	h.opts.OnSpecs(all)
}

// reconcile brings what runs here, and what is written in the store, nearer to what is wanted.
func (h *Host) reconcile(ctx context.Context) {
	h.mu.Lock()
	known, specs, secrets := h.known, maps.Clone(h.specs), maps.Clone(h.secrets)
	h.mu.Unlock()
	if !known {
		return
	}
	if !h.holds() {
		h.stopAll("this machine could not renew its record: its nodes may be given to others")
		return
	}
	for _, want := range h.opts.Groups {
		if _, ok := specs[want.Name]; !ok {
			h.write(ctx, want)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(specs)) {
		h.place(ctx, specs[group])
	}
	h.stopForeign(specs)
	for _, group := range slices.Sorted(maps.Keys(specs)) {
		for _, n := range specs[group].value.Nodes {
			if n.Machine == h.opts.Machine.Name && n.Zone != "" && h.running[n.ID] == nil && (specs[group].value.Secret == "" || secrets[group] != "") {
				h.start(ctx, Assignment{Spec: specs[group].value, Place: n, Secret: secrets[group]})
			}
		}
	}
}

// write puts a group that the store does not have there, its secret first.
func (h *Host) write(ctx context.Context, want cluster.Spec) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	want.Secret = cluster.SecretKey(want.Name)
	h.mu.Lock()
	secret := h.secrets[want.Name]
	h.mu.Unlock()
	if secret == "" {
		secret = rand.Text() + rand.Text()
	}
	value, err := json.Marshal(want)
	if err == nil {
		_, err = h.opts.Store.Swap(ctx, want.Secret, []byte(secret), 0)
	}
	if err == nil || errors.Is(err, cluster.ErrConflict) {
		_, err = h.opts.Store.Swap(ctx, cluster.SpecKey(want.Name), value, 0)
	}
	switch {
	case err == nil:
		h.event(cluster.Event{Group: want.Name, Name: "group_created", Message: fmt.Sprintf("%s was written to the store with %d nodes", want.Name, len(want.Nodes))})
	case !errors.Is(err, cluster.ErrConflict): // another machine was first
		h.log.Warn("the group is not written to the store", "group", want.Name, "error", err)
	}
}

// place gives machines to nodes that need one.
func (h *Host) place(ctx context.Context, spec entry[cluster.Spec]) {
	next, moves := placement.Place(h.placing(spec.value))
	if len(moves) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	value, err := json.Marshal(next)
	if err == nil {
		_, err = h.opts.Store.Swap(ctx, cluster.SpecKey(next.Name), value, spec.revision)
	}
	if err != nil {
		if !errors.Is(err, cluster.ErrConflict) {
			h.log.Warn("nodes are not placed", "group", next.Name, "error", err)
		}
		return
	}
	for _, m := range moves {
		name := "node_placed"
		if m.From != "" && m.From != m.To {
			name = "node_replaced"
		}
		h.metrics.placed.WithLabelValues(strings.TrimPrefix(name, "node_")).Inc()
		h.event(cluster.Event{Group: next.Name, Node: m.Node, Name: name, Message: m.String()})
	}
}

// placing is what a placement of the group may know now.
func (h *Host) placing(spec cluster.Spec) placement.Input {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.opts.Clock()
	in := placement.Input{Spec: spec, Alive: 3 * h.opts.Renew, ReplaceAfter: h.opts.ReplaceAfter}
	used := map[string]int{}
	for _, s := range h.specs {
		for _, n := range s.value.Nodes {
			if n.Machine == "" {
				continue
			}
			used[n.Machine]++
			if _, ok := h.machines[n.Machine]; !ok { // its record was taken away: it is silent from now on
				h.machines[n.Machine] = seen{at: now, gone: true, entry: entry[cluster.Machine]{value: cluster.Machine{Name: n.Machine}}}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.machines)) {
		m := h.machines[name]
		in.Machines = append(in.Machines, placement.Machine{Machine: m.value, Silent: now - m.at, Used: used[name]})
	}
	if l := h.leads[spec.Name]; l.State == cluster.LeadHeld && l.Promoted && now-l.at < l.TTL {
		in.Serving = l.Holder
	}
	for _, n := range spec.Nodes {
		since, waiting := h.offered[n.ID]
		switch {
		case n.Machine != "":
			delete(h.offered, n.ID)
		case !waiting:
			h.offered[n.ID] = now
		case now-since >= h.opts.CrowdAfter:
			in.Crowd = true
		}
	}
	return in
}

// start starts one node.
func (h *Host) start(ctx context.Context, a Assignment) {
	id := a.Place.ID
	var err error
	if a.Port, err = h.ports.of(id); err == nil {
		select {
		case h.hasMore <- struct{}{}:
		default:
		}
		a.Store = held{h.opts.Store, h.holds}
		var n Node
		if n, err = h.opts.Start(a); err == nil {
			life, cancel := context.WithCancel(ctx)
			r := &running{id: id, place: a.Place, cancel: cancel}
			h.running[id] = r
			h.metrics.nodes.Set(float64(len(h.running)))
			h.metrics.started.WithLabelValues(outcome(nil)).Inc()
			h.log.Info("node starts here", "node", string(id), "zone", a.Place.Zone, "port", a.Port)
			h.work.Go(func() {
				r.err = n.Run(life)
				if r.err != nil && life.Err() == nil {
					rest(life, startAgain) // not again and again without a pause
				}
				cancel()
				h.ended <- r
			})
			return
		}
	}
	h.metrics.started.WithLabelValues(outcome(err)).Inc()
	h.log.Error("the node does not start", "node", string(id), "error", err)
	rest(ctx, lookEvery)
}

// nodeEnded forgets a node; the next look starts it again if it belongs here.
func (h *Host) nodeEnded(r *running) {
	delete(h.running, r.id)
	h.metrics.nodes.Set(float64(len(h.running)))
	if r.err != nil {
		h.metrics.ended.Inc()
		h.log.Error("the node ended", "node", string(r.id), "error", r.err)
	}
}

// stopForeign stops what is placed elsewhere, and says so; the data stays for the operator.
func (h *Host) stopForeign(specs map[string]entry[cluster.Spec]) {
	for id := range h.ports.all() {
		place, ok := specs[cluster.GroupOf(id)].value.Place(id)
		if ok && place.Machine == h.opts.Machine.Name {
			delete(h.moved, id)
			continue
		}
		if ok && place.Machine == "" || !ok && h.wants(cluster.GroupOf(id)) {
			continue // the store has lost it, and gets it again
		}
		if r := h.running[id]; r != nil {
			r.cancel()
		}
		if h.moved[id] {
			continue
		}
		h.moved[id] = true
		where := "in no group any more"
		if ok && place.Machine != "" {
			// Its data here is old from now on, and no reason to come back.
			if err := h.ports.forget(id); err != nil {
				h.log.Error("a node that moved away is not forgotten", "node", string(id), "error", err)
			}
			where = "placed on " + place.Machine
		}
		h.event(cluster.Event{Group: cluster.GroupOf(id), Node: id, Name: "node_moved_away",
			Message: fmt.Sprintf("%s is %s now: it does not run on %s, and its data directory there is kept until an operator deletes it", id, where, h.opts.Machine.Name)})
	}
}

// wants reports whether a group is in this machine's configuration.
func (h *Host) wants(group string) bool {
	return slices.ContainsFunc(h.opts.Groups, func(s cluster.Spec) bool { return s.Name == group })
}

func (h *Host) stopAll(why string) {
	for id, r := range h.running {
		h.log.Error("the node is stopped", "node", string(id), "reason", why)
		r.cancel()
	}
	for len(h.running) > 0 {
		h.nodeEnded(<-h.ended)
	}
}

func (h *Host) event(e cluster.Event) {
	e.Time = time.Now()
	h.log.Info(e.Name, "node", string(e.Node), "detail", e.Message)
	h.opts.OnEvent(e)
}

// held is the store as nodes see it: closed when this machine's hold on its nodes has ended. A process
// that was stopped for long must not act under the name of a node that runs elsewhere now.
type held struct {
	cluster.Store
	holds func() bool
}

var errNotHeld = fmt.Errorf("this machine's record was not renewed for too long: %w", cluster.ErrUnavailable)

func (s held) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if !s.holds() {
		return 0, errNotHeld
	}
	return s.Store.Swap(ctx, key, value, rev)
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
