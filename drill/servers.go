package drill

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
	rediserver "understudy/redis"
)

// roster is which nodes a group has, by somebody's word.
type roster struct {
	state     cluster.GroupState // available: nothing speaks against it
	reason    string
	nodes     []cluster.StatusNode // id, zone and address
	endpoints cluster.Endpoints
}

// directory knows which nodes a group has: the ElastiCache API, sentinels, a list.
type directory interface {
	list(context.Context) (roster, error)
	// events tells what happened to the group until ctx ends.
	events(context.Context, func(cluster.Event)) error
	// switchover asks for a planned change of primary in favour of a node.
	switchover(ctx context.Context, to cluster.NodeID) error
}

// servers is a group without a status page: its nodes are asked what they are, and a directory which there are.
type servers struct {
	group string
	dir   directory
	every time.Duration // how often the directory is asked
	login func(addr string) Login

	running sync.WaitGroup // the question to the directory that is under way
	end     context.CancelFunc
	ctx     context.Context

	mu      sync.Mutex
	known   roster
	failed  error     // of the newest question
	asked   time.Time // when the newest question ended
	listed  time.Time // when the question was put that known answers
	asking  bool
	clients map[string]*redis.Client
	primary cluster.NodeID // the newest that was seen
	epoch   cluster.Epoch  // grows with every change of primary that is seen
	change  *cluster.Change
	// followed are the nodes that were replicas when they answered last; promoted is their place in the order of the
	// promotions that were seen, 0 without one.
	followed   map[cluster.NodeID]bool
	promoted   map[cluster.NodeID]int
	promotions int
}

var _ instance = (*servers)(nil)

func newServers(group string, dir directory, every time.Duration, login func(string) Login) *servers {
	s := &servers{group: group, dir: dir, every: every, login: login, clients: map[string]*redis.Client{}, epoch: 1, followed: map[cluster.NodeID]bool{}, promoted: map[cluster.NodeID]int{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

func (s *servers) close() {
	s.end()
	s.running.Wait()
	s.hangUp()
}

// hangUp closes the connections to the nodes; the next question makes new ones.
func (s *servers) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		_ = c.Close()
	}
	clear(s.clients)
}

func (s *servers) events(ctx context.Context, fn func(cluster.Event)) error {
	return s.dir.events(ctx, fn)
}

func (s *servers) switchover(ctx context.Context) (string, error) {
	now, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	to, ok := successor(now)
	if !ok {
		return "", fmt.Errorf("switchover %w: no replica is ready", cluster.ErrRefused)
	}
	return "asked for " + string(to.ID), s.dir.switchover(ctx, to.ID)
}

// successor is who takes over in a switchover: a replica that follows, in another zone if there is one, the lowest id.
func successor(s cluster.Status) (cluster.StatusNode, bool) {
	primary, _ := s.Node(s.Primary)
	best, found := cluster.StatusNode{}, false
	for _, n := range s.Nodes {
		if n.ID == s.Primary || n.State != cluster.StateReady {
			continue
		}
		if !found || best.Zone == primary.Zone && n.Zone != primary.Zone {
			best, found = n, true
		}
	}
	return best, found
}

// refresh asks the directory now.
func (s *servers) refresh(ctx context.Context) error {
	began := time.Now()
	r, err := s.dir.list(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking, s.asked, s.failed = false, time.Now(), err
	if err == nil {
		slices.SortFunc(r.nodes, func(a, b cluster.StatusNode) int { return cmp.Compare(a.ID, b.ID) })
		s.known, s.listed = r, began
	}
	return err
}

// listedSince reports whether the directory was asked since then, and answered.
func (s *servers) listedSince(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed.After(at)
}

// status asks every node. Whom the directory names is asked for beside that: a slow API does not hold up who
// answers. Errors: those of the directory, as long as it has never answered.
func (s *servers) status(ctx context.Context) (cluster.Status, error) {
	s.mu.Lock()
	first, due := s.asked.IsZero() || len(s.known.nodes) == 0, !s.asking && time.Since(s.asked) >= s.every
	s.asking = s.asking || due || first
	s.mu.Unlock()
	if first {
		if err := s.refresh(ctx); err != nil {
			return cluster.Status{}, err
		}
	} else if due {
		s.running.Go(func() { _ = s.refresh(s.ctx) }) // it is in failed
	}
	s.mu.Lock()
	known, failed := s.known, s.failed
	s.mu.Unlock()
	st := cluster.Status{Group: s.group, State: known.state, Reason: known.reason, Nodes: slices.Clone(known.nodes), Endpoints: known.endpoints, Durability: cluster.DurabilityAsync}
	if failed != nil {
		st.State, st.Reason = cluster.GroupDegraded, failed.Error()
	}
	answers := make([]nodeAnswer, len(st.Nodes))
	var asking sync.WaitGroup
	for i := range st.Nodes {
		asking.Go(func() { answers[i] = s.ask(ctx, &st.Nodes[i]) })
	}
	asking.Wait()
	s.settle(&st, answers)
	return st, nil
}

// nodeAnswer is what counts for who the primary is.
type nodeAnswer struct {
	primary  bool
	replicas int
	offset   int64
}

// nodeWithin bounds one question to a node.
const nodeWithin = time.Second

func (s *servers) ask(ctx context.Context, n *cluster.StatusNode) nodeAnswer {
	ctx, cancel := context.WithTimeout(ctx, nodeWithin)
	defer cancel()
	c := s.client(n.Addr)
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		n.State, n.Reason = cluster.StateDown, cause(err)
		return nodeAnswer{}
	}
	if local(n.Addr) { // else nobody may signal it anyway
		if info, err := c.Info(ctx, "server").Result(); err == nil {
			n.PID, _ = strconv.Atoi(rediserver.InfoFields(info)["process_id"])
		}
	}
	fields := rediserver.InfoFields(info)
	number := func(field string) int64 {
		v, _ := strconv.ParseInt(fields[field], 10, 64)
		return v
	}
	n.State, n.Offset = cluster.StateReady, number("master_repl_offset")
	if fields["role"] == "master" {
		n.Role = cluster.RolePrimary
		return nodeAnswer{primary: true, replicas: int(number("connected_slaves")), offset: n.Offset}
	}
	n.Role, n.Offset = cluster.RoleReplica, number("slave_repl_offset")
	n.LagMs = float64(number("master_last_io_seconds_ago")) * 1000
	if fields["master_link_status"] != "up" {
		n.State, n.Reason = cluster.StateSyncing, "its link to the primary is down"
	}
	return nodeAnswer{offset: n.Offset}
}

func (s *servers) client(addr string) *redis.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[addr]
	if c == nil {
		c = s.login(addr).client(addr)
		s.clients[addr] = c
	}
	return c
}

// settle says who the primary is. Of several that say so it is the one that was promoted last, as far as that was
// seen: after a switchover of Sentinel's the former one goes on saying it for ten seconds. Else the one that more
// replicas follow.
func (s *servers) settle(st *cluster.Status, answers []nodeAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, primaries := -1, 0
	for i, a := range answers {
		id := st.Nodes[i].ID
		switch st.Nodes[i].Role {
		case cluster.RoleReplica:
			s.followed[id] = true
		case cluster.RolePrimary:
			if s.followed[id] {
				s.followed[id] = false
				s.promotions++
				s.promoted[id] = s.promotions
			}
		}
		if !a.primary {
			continue
		}
		primaries++
		if best < 0 || s.promoted[id] > s.promoted[st.Nodes[best].ID] || s.promoted[id] == s.promoted[st.Nodes[best].ID] && a.replicas > answers[best].replicas {
			best = i
		}
	}
	if primaries > 1 {
		st.State, st.Reason = cluster.GroupFailingOver, fmt.Sprintf("%d nodes say that they are the primary", primaries)
	}
	if best < 0 {
		st.State, st.Reason = cluster.GroupNoPrimary, "no node says that it is the primary"
	} else {
		st.Primary = st.Nodes[best].ID
		if s.primary != "" && s.primary != st.Primary {
			s.epoch++
			s.change = &cluster.Change{Epoch: s.epoch, From: s.primary, To: st.Primary, Started: time.Now()}
		}
		s.primary = st.Primary
		for i := range st.Nodes {
			if n := &st.Nodes[i]; n.Role == cluster.RoleReplica {
				n.LagBytes = max(0, answers[best].offset-n.Offset)
			}
		}
	}
	if st.State == cluster.GroupAvailable && st.Ready() < len(st.Nodes) {
		st.State, st.Reason = cluster.GroupDegraded, wholeValue(*st)
	}
	st.Epoch, st.LastFailover = s.epoch, s.change
}

// fixed is a list that an operator wrote: redis://PRIMARY,REPLICA….
type fixed struct{ at []string }

func (f fixed) list(context.Context) (roster, error) {
	r := roster{state: cluster.GroupAvailable}
	for _, a := range f.at {
		r.nodes = append(r.nodes, cluster.StatusNode{ID: cluster.NodeID(a), Addr: a})
	}
	r.endpoints = cluster.Endpoints{Primary: f.at[0], Reader: f.at[min(1, len(f.at)-1)]}
	return r, nil
}

func (fixed) events(ctx context.Context, _ func(cluster.Event)) error {
	<-ctx.Done()
	return nil
}

func (fixed) switchover(context.Context, cluster.NodeID) error {
	return fmt.Errorf("switchover %w: nobody manages this group", cluster.ErrRefused)
}

// sentinels are those of sentinel://.
type sentinels struct {
	name string
	at   []string
}

// ask puts one question to the first sentinel that answers.
func (s sentinels) ask(ctx context.Context, question func(context.Context, *redis.SentinelClient) error) error {
	var last error
	for _, a := range s.at {
		o := clientOptions(a)
		c := redis.NewSentinelClient(o)
		bound, cancel := context.WithTimeout(ctx, dialTimeout+nodeWithin)
		last = question(bound, c)
		cancel()
		_ = c.Close()
		if last == nil {
			return nil
		}
		if strings.HasPrefix(last.Error(), "ERR No such master") || last == redis.Nil {
			return fmt.Errorf("%w: the sentinel at %s watches no master %q", ErrUsage, a, s.name)
		}
	}
	return fmt.Errorf("%w: no sentinel answers: %w", ErrUnreachable, last)
}

func (s sentinels) list(ctx context.Context) (roster, error) {
	r := roster{state: cluster.GroupAvailable}
	err := s.ask(ctx, func(ctx context.Context, c *redis.SentinelClient) error {
		m, err := c.Master(ctx, s.name).Result()
		if err != nil {
			return err
		}
		replicas, err := c.Replicas(ctx, s.name).Result()
		if err != nil {
			return err
		}
		r.nodes = nil
		for _, x := range append([]map[string]string{m}, replicas...) {
			addr := net.JoinHostPort(x["ip"], x["port"])
			r.nodes = append(r.nodes, cluster.StatusNode{ID: cluster.NodeID(addr), Addr: addr})
		}
		r.endpoints.Primary = r.nodes[0].Addr
		return nil
	})
	return r, err
}

func (s sentinels) events(ctx context.Context, fn func(cluster.Event)) error {
	c := redis.NewSentinelClient(clientOptions(s.at[0]))
	defer c.Close()
	heard := c.PSubscribe(ctx, "*")
	defer heard.Close()
	for ch := heard.Channel(); ; { // a receive by itself would not end with ctx
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-ch:
			if !ok {
				return fmt.Errorf("%w: the sentinel at %s", ErrUnreachable, s.at[0])
			}
			fn(cluster.Event{Time: time.Now(), Group: "sentinel " + s.at[0], Name: m.Channel, Message: m.Payload})
		}
	}
}

func (s sentinels) switchover(ctx context.Context, _ cluster.NodeID) error {
	return s.ask(ctx, func(ctx context.Context, c *redis.SentinelClient) error { return c.Failover(ctx, s.name).Err() })
}
