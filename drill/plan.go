package drill

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
)

// Plan is a drill that has not been run: what would be done to whom, and every guard with what it found.
type Plan struct {
	Target    string            `json:"target"`
	Group     string            `json:"group"`
	Fault     string            `json:"fault"`
	Confirm   string            `json:"confirm"` // what has to be typed to run it
	Does      []string          `json:"does"`    // in order
	Guards    []Guard           `json:"guards"`
	Aborts    []string          `json:"aborts"` // armed while the load runs
	Caller    string            `json:"caller,omitempty"`
	Region    string            `json:"region,omitempty"`
	Endpoint  string            `json:"endpoint,omitempty"` // "": AWS's own
	Endpoints cluster.Endpoints `json:"endpoints"`
	Primary   cluster.NodeID    `json:"primary"`
	Nodes     []string          `json:"nodes"`
	Prefix    string            `json:"prefix"` // of every key
}

// Refused are the guards that stand against the drill.
func (p Plan) Refused() []Guard {
	return slices.DeleteFunc(slices.Clone(p.Guards), func(g Guard) bool { return g.OK })
}

// err is cluster.ErrRefused with each guard that stands against the drill.
func (p Plan) err() error {
	var why []string
	for _, g := range p.Refused() {
		why = append(why, fmt.Sprintf("%s: wanted %s, found %s", g.Name, g.Want, g.Value))
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w for safety: %s", cluster.ErrRefused, strings.Join(why, "; "))
}

// Safety is what a record of a drill on somebody else's group holds besides.
type Safety struct {
	Plan
	Calls []remote.Call `json:"calls"` // of the API, with their request ids
	// ClockAheadMs is how far the API's clock is ahead of this machine's, as far as whole seconds tell; its events
	// are shifted by it.
	ClockAheadMs float64 `json:"clock_ahead_ms"`
	Aborted      string  `json:"aborted,omitempty"` // by which condition
}

// Look says what Run would do to somebody else's group, and touches nothing: it asks the API and the nodes, and
// writes no key. A guard that stands against it is no error. Errors: ErrUsage, ErrUnreachable, cluster.ErrRefused.
func Look(ctx context.Context, o Options) (Plan, error) {
	fault, err := o.complete()
	if err == nil && !o.place.remote() {
		err = fmt.Errorf("%w: a drill of a local group has no plan to look at", ErrUsage)
	}
	if err != nil {
		return Plan{}, fmt.Errorf("drill: %w", err)
	}
	quietClients()
	r := newRun(o, fault)
	if err := r.open(ctx); err != nil {
		return Plan{}, fmt.Errorf("drill: %w", err)
	}
	defer r.api.close()
	p, err := r.look(ctx)
	if err != nil {
		return p, fmt.Errorf("drill: %w", err)
	}
	return p, nil
}

// open finds the group's instance, or the directory of its nodes.
func (r *run) open(ctx context.Context) error {
	p := r.o.place
	every := r.o.Poll
	var dir directory
	switch p.kind {
	case targetLocal:
		r.api = newAPI(r.o.HTTP, r.o.Transport)
		return nil
	case targetElastiCache:
		c, err := openCloud(ctx, &r.o, r.noteCall)
		if err != nil {
			return err
		}
		r.cloud, dir = c, c
	case targetSentinel:
		dir = sentinels{p.name, p.at}
		every = time.Second // they are ours to ask
	default:
		dir = fixed{p.at}
	}
	r.servers = newServers(p.name, dir, every, r.nodeLogin)
	r.api = r.servers
	where := p.kind + " " + p.name
	if r.cloud != nil {
		where += " " + r.cloud.api.Region() + " " + r.cloud.api.Endpoint()
	}
	r.budget = budget{path: r.o.BudgetFile, group: strings.TrimSpace(where)}
	return nil
}

// noteCall has the request id of a call that changes the group in the log and in the timeline: AWS's support asks for it.
func (r *run) noteCall(c remote.Call) {
	r.o.Logger.Info("api called", "operation", c.Operation, "request_id", c.RequestID, "error", c.Error)
	r.mark(c.At.Add(c.Took).Sub(r.started), "elasticache api", "answered %s after %.1f ms, request id %s %s", c.Operation, ms(c.Took), orNone(c.RequestID), c.Error)
}

// nodeLogin is how the nodes are asked. Those of a front on this machine are open to it, as a local drill's.
func (r *run) nodeLogin(addr string) Login {
	host, _, _ := net.SplitHostPort(addr)
	if r.cloud != nil && !r.cloud.api.Amazon() && net.ParseIP(host).IsLoopback() {
		return Login{}
	}
	return r.o.Login
}

// look gathers the facts, and has the guards look at them.
func (r *run) look(ctx context.Context) (Plan, error) {
	f, err := r.facts(ctx)
	if err != nil {
		return Plan{}, err
	}
	r.before = f.status
	r.latest.Store(&f.status)
	p := Plan{
		Target: r.o.Target, Group: r.o.place.name, Fault: r.fault.Name(), Confirm: r.o.place.name, Guards: guards(f), Aborts: r.aborts(),
		Primary: f.status.Primary, Endpoints: f.status.Endpoints, Prefix: r.prefix(),
	}
	for _, n := range f.status.Nodes {
		p.Nodes = append(p.Nodes, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", n.ID, n.Role, n.Addr, n.Zone)))
	}
	if r.cloud != nil {
		p.Region, p.Endpoint = r.cloud.api.Region(), r.cloud.api.Endpoint()
		if p.Caller, err = r.cloud.api.Caller(ctx); err != nil {
			return p, apiError(err)
		}
	}
	p.Does = r.does(f.status)
	r.plan = p
	return p, nil
}

func (r *run) facts(ctx context.Context) (facts, error) {
	s, err := r.api.status(ctx)
	if err != nil {
		return facts{}, err
	}
	if r.cloud != nil && r.cloud.told().TLS && r.o.Login.TLS == nil { // AWS's certificates are the system's authorities'
		r.o.Login.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		s, err = r.again(ctx)
		if err != nil {
			return facts{}, err
		}
	}
	f := facts{kind: r.o.place.kind, fault: r.fault.Name(), status: s, now: time.Now(), length: r.o.Duration, maxLag: r.o.MaxLag, budget: r.o.Budget}
	f.used, f.budgetErr = r.budget.used(f.now)
	if r.cloud != nil {
		if err := r.cloud.learn(ctx, &f); err != nil {
			return f, err
		}
	}
	return f, r.learnLag(ctx, &f)
}

// again asks the nodes with another login than before.
func (r *run) again(ctx context.Context) (cluster.Status, error) {
	r.servers.hangUp()
	return r.api.status(ctx)
}

// learnLag measures how long the replicas take to have what the primary has now, and asks CloudWatch what it was.
func (r *run) learnLag(ctx context.Context, f *facts) error {
	ctx, cancel := context.WithTimeout(ctx, f.maxLag+5*time.Second)
	defer cancel()
	primary, ok := f.status.Node(f.status.Primary)
	began := time.Now()
	for s, err := f.status, error(nil); ok && f.lagFrom == ""; s, err = r.api.status(ctx) {
		if err != nil {
			return err
		}
		behind := slices.ContainsFunc(s.Nodes, func(n cluster.StatusNode) bool {
			return n.ID != f.status.Primary && (n.State != cluster.StateReady || n.Offset < primary.Offset)
		})
		switch f.lag = time.Since(began); {
		case !behind && s.Epoch == f.status.Epoch:
			f.lagFrom = "the nodes' offsets"
		case f.lag > f.maxLag+time.Second:
			f.lagFrom = "the nodes' offsets, which are still behind"
		default:
			if err := wait(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	if r.cloud == nil || f.lagFrom == "" {
		return nil
	}
	switch lag, known, err := r.cloud.lag(ctx, f.status, f.now); {
	case errors.Is(err, remote.ErrUnreachable):
		return apiError(err)
	case err != nil: // a front without metrics, or no right to read them
		f.lagFrom += "; CloudWatch does not tell"
	case !known:
		f.lagFrom += "; CloudWatch has no point"
	case lag > f.lag:
		f.lag, f.lagFrom = lag, "CloudWatch"
	default:
		f.lagFrom += " and CloudWatch"
	}
	return nil
}

// does says in order what Run would do.
func (r *run) does(s cluster.Status) []string {
	what := fmt.Sprintf("break the primary %s on this machine: %s", s.Primary, r.fault.Name())
	switch to, _ := successor(s); {
	case r.fault.Name() == "failover-api":
		what = fmt.Sprintf("call TestFailover for shard %s: ElastiCache fails %s over, and replaces it", r.cloud.told().Shard, s.Primary)
	case r.fault.Name() == "switchover" && r.cloud != nil:
		what = fmt.Sprintf("call ModifyReplicationGroup with PrimaryClusterId %s", to.ID)
	case r.fault.Name() == "switchover":
		what = "call SENTINEL FAILOVER " + r.o.place.name
	}
	lanes := "the group's own endpoints"
	if r.o.Through != "" {
		lanes += ", and half as much again through the proxy at " + r.o.Through
	}
	return []string{
		fmt.Sprintf("write canary keys under %s with a TTL of %v, at most %d operations a second for %v, at %s", r.prefix(), sessionTTL, r.o.Rate, r.o.Duration, lanes),
		fmt.Sprintf("after %v look at the guards again, count this drill in %s, and %s", r.o.At, r.o.BudgetFile, what),
		fmt.Sprintf("wait for all nodes, at most %v, compare every acked write with what is there, and remove the keys", r.o.Patience),
	}
}

// prepareRemote looks before anything is touched. Errors: cluster.ErrRefused besides those of Look.
func (r *run) prepareRemote(ctx context.Context) error {
	if r.o.Confirm != r.o.place.name {
		return fmt.Errorf("%w: %q confirms another group than %s: type its name", cluster.ErrRefused, r.o.Confirm, r.o.place.name)
	}
	p, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := p.err(); err != nil {
		return err
	}
	if r.victim, err = r.fault.Victim(r.before); err != nil {
		return err
	}
	if c, ok := r.fault.(checker); ok {
		if err := c.Check(ctx, r.victim); err != nil {
			return err
		}
	}
	addrs, err := r.o.Login.endpoints(r.before.Endpoints)
	if err != nil {
		return err
	}
	r.lanes = r.remoteLanes(addrs)
	if err := r.o.Login.check(ctx, addrs[wherePrimary]); err != nil {
		return err
	}
	for _, a := range p.Aborts {
		r.mark(r.clock(), "drill", "armed: %s", a)
	}
	return r.checkThrough(ctx)
}

// checkThrough makes sure that the proxy is one of this group's: a load on another would be a surprise.
func (r *run) checkThrough(ctx context.Context) error {
	if r.o.Through == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*readTimeout)
	defer cancel()
	own, through := r.lanes[0].connect(wherePrimary), r.lanes[1].connect(wherePrimary)
	defer own.Close()
	defer through.Close()
	key := r.prefix() + "same"
	if err := own.Set(ctx, key, "1", time.Minute).Err(); err != nil {
		return fmt.Errorf("%w: the endpoint: %w", ErrUnreachable, err)
	}
	if n, err := through.Exists(ctx, key).Result(); err != nil || n != 1 {
		return fmt.Errorf("%w: a key that was written to the group is not there through %s (%v): is it a proxy of this group?", ErrUsage, r.o.Through, err)
	}
	return own.Del(ctx, key).Err()
}

// mayBreak looks at the guards once more, in the middle of the load, and counts the drill.
func (r *run) mayBreak(ctx context.Context) error {
	for _, l := range r.lanes {
		if n := l.gauge.errors.Load() + l.gauge.unknown.Load(); n > 0 {
			return r.abort("%d client errors before the fault in lane %s", n, l.name)
		}
	}
	if r.cloud != nil {
		if err := r.servers.refresh(ctx); err != nil {
			return r.abort("the API does not answer before the fault: %v", err)
		}
	}
	f, err := r.facts(ctx)
	if err != nil {
		return r.abort("the guards could not be looked at: %v", err)
	}
	p := Plan{Guards: guards(f)}
	if err := p.err(); err != nil {
		return r.abort("%v", err)
	}
	return r.budget.take(time.Now(), r.o.Budget)
}

func (r *run) abort(format string, args ...any) error {
	r.aborted = fmt.Sprintf(format, args...)
	r.mark(r.clock(), "drill", "aborted: %s", r.aborted)
	return errors.New("aborted: " + r.aborted)
}

// aborts are what ends a drill early. They stop the load; a failover that was asked for goes on.
func (r *run) aborts() []string {
	return []string{
		"any client error before the fault: nothing is broken",
		"a guard that no longer holds, or an API that does not answer, right before the fault: nothing is broken",
		fmt.Sprintf("no acked write for %v after the fault: the load stops", r.o.AbortAfter),
		"Ctrl-C: the load stops, and the keys are removed",
	}
}

// outlast waits for the end of the load, or for what aborts it.
func (r *run) outlast(ctx context.Context, left time.Duration) error {
	if !r.o.place.remote() {
		return wait(ctx, left)
	}
	for end := r.clock() + left; r.clock() < end; {
		if err := wait(ctx, min(samplePeriod, max(0, end-r.clock()))); err != nil {
			return err
		}
		last := max(time.Duration(r.lanes[0].gauge.lastWrite.Load()), time.Duration(r.faultAt.Load()))
		if silent := r.clock() - last; silent > r.o.AbortAfter {
			_ = r.abort("no acked write for %v after the fault", silent.Round(time.Millisecond)) // it is in the record
			return nil
		}
	}
	return nil
}

// apiFault asks ElastiCache for a failover, and clients see what a crash is like.
type apiFault struct{}

func (apiFault) Name() string         { return "failover-api" }
func (apiFault) RTO() time.Duration   { return remoteRTO }
func (apiFault) ChangesPrimary() bool { return true }
func (apiFault) Victim(s cluster.Status) (cluster.StatusNode, error) {
	return nodeOfRole(s, cluster.RolePrimary)
}

func (apiFault) Inject(ctx context.Context, t Target) (func() error, error) {
	none := func() error { return nil }
	s, _ := t.api.(*servers)
	if s == nil {
		return none, fmt.Errorf("%w: this target has no API for a failover", cluster.ErrRefused)
	}
	by, ok := s.dir.(interface{ failover(context.Context) error })
	if !ok {
		return none, fmt.Errorf("%w: this target has no API for a failover", cluster.ErrRefused)
	}
	t.Mark()
	return none, by.failover(ctx)
}

// watchName notes when the primary endpoint's name leads elsewhere: until then new connections go to the old node.
func (r *run) watchName(ctx context.Context) {
	host, _, _ := net.SplitHostPort(r.before.Endpoints.Primary)
	if net.ParseIP(host) != nil {
		return
	}
	var before []string
	for wait(ctx, nameEvery) == nil {
		now, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			continue
		}
		if slices.Sort(now); before != nil && !slices.Equal(before, now) {
			at := r.clock()
			r.mark(at, "dns", "%s leads to %s instead of %s", host, strings.Join(now, ","), strings.Join(before, ","))
			r.movedAt.CompareAndSwap(0, int64(at))
		}
		before = now
	}
}

// nameEvery is how often the name is looked up: AWS's endpoint names live a few seconds.
const nameEvery = 500 * time.Millisecond
