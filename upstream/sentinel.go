package upstream

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// sentinels is a source that asks several sentinels, and counts. What one says alone is not believed; and
// which node is the primary is in the end decided by what the nodes say.
type sentinels struct {
	opts  Sentinel
	again []chan struct{} // one for each sentinel

	mu       sync.Mutex
	opinions []opinion
	asked    []bool        // who has answered, or failed to
	until    time.Duration // nobody is waited for any longer; 0: nobody has spoken yet
}

// opinion is what one sentinel said last.
type opinion struct {
	at       time.Duration // before it was asked; valid while heard
	heard    bool
	primary  string   // HOST:PORT
	replicas []string // HOST:PORT
}

const (
	// opinionFor is how many polls long a sentinel's word counts after its last answer.
	opinionFor = 5
	// newsWithin is how long nothing may come, not even the answer to a PING, before the subscription is
	// taken for dead.
	newsWithin = 5 * time.Second
)

func newSentinels(o Sentinel) *sentinels {
	s := &sentinels{opts: o, opinions: make([]opinion, len(o.Addrs)), asked: make([]bool, len(o.Addrs))}
	for range o.Addrs {
		s.again = append(s.again, make(chan struct{}, 1))
	}
	return s
}

func (s *sentinels) poke() {
	for _, c := range s.again {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (s *sentinels) run(ctx context.Context, w *Watcher) {
	var running sync.WaitGroup
	for i := range s.opts.Addrs {
		running.Go(func() { s.follow(ctx, w, i) })
		running.Go(func() { s.listen(ctx, w, s.opts.Addrs[i]) })
	}
	running.Wait()
}

// follow asks one sentinel for as long as ctx lasts.
func (s *sentinels) follow(ctx context.Context, w *Watcher, i int) {
	rng := rand.New(rand.NewPCG(w.opts.Seed, uint64(i)))
	var c redis.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	said := "" // of its trouble
	for ctx.Err() == nil {
		at, o, err := w.opts.Clock(), opinion{}, error(nil)
		if c == nil {
			c, err = s.dial(ctx, w, s.opts.Addrs[i])
		}
		if err == nil {
			o, err = s.ask(ctx, c)
		}
		if err != nil && c != nil {
			_ = c.Close()
			c = nil
		}
		if ctx.Err() != nil {
			return
		}
		said = s.complain(ctx, w, i, said, err)
		o.at, o.heard = at, err == nil
		s.take(ctx, w, i, o)
		gap := s.opts.Poll
		if w.hurried.Load() {
			gap /= hurry
		}
		least := s.opts.Poll / closest
		if pause(ctx, least, nil) != nil || pause(ctx, jittered(gap, rng)-least, s.again[i]) != nil {
			return
		}
	}
}

// complain puts the beginning and the end of a sentinel's trouble into the timeline, once each.
func (s *sentinels) complain(ctx context.Context, w *Watcher, i int, said string, err error) string {
	now := ""
	if err != nil {
		w.metrics.sourceFailures.Inc()
		now = err.Error()
	}
	switch {
	case now != "" && said == "":
		w.tell(ctx, trouble{"sentinel_silent", fmt.Sprintf("sentinel %s says nothing of use and is not counted: %s", s.opts.Addrs[i], now)})
	case now == "" && said != "":
		w.tell(ctx, trouble{"sentinel_answers", fmt.Sprintf("sentinel %s answers again", s.opts.Addrs[i])})
	}
	return now
}

func (s *sentinels) dial(ctx context.Context, w *Watcher, addr string) (redis.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	return redis.DialContext(ctx, "tcp", addr, s.dialOptions(w, addr)...)
}

func (s *sentinels) dialOptions(w *Watcher, addr string) []redis.DialOption {
	options := []redis.DialOption{redis.DialUsername(s.opts.User), redis.DialPassword(current(s.opts.Password, s.opts.PasswordNow)),
		redis.DialReadTimeout(dialWithin), redis.DialWriteTimeout(dialWithin), redis.DialTLSHandshakeTimeout(dialWithin),
		redis.DialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) { return w.connect(ctx, addr) })}
	if s.opts.TLS != nil {
		options = append(options, redis.DialUseTLS(true), redis.DialTLSConfig(s.opts.TLS))
	}
	return options
}

// ask asks a sentinel which nodes there are.
func (s *sentinels) ask(ctx context.Context, c redis.Conn) (opinion, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	at, err := redis.Strings(c.Do("SENTINEL", "get-master-addr-by-name", s.opts.Name))
	if err != nil {
		return opinion{}, fmt.Errorf("it knows no master %q: %w", s.opts.Name, err)
	}
	if len(at) != 2 {
		return opinion{}, fmt.Errorf("get-master-addr-by-name %s: %d words", s.opts.Name, len(at))
	}
	o := opinion{primary: net.JoinHostPort(at[0], at[1])}
	replicas, err := redis.Values(c.Do("SENTINEL", "replicas", s.opts.Name))
	if err != nil {
		return opinion{}, fmt.Errorf("SENTINEL replicas %s: %w", s.opts.Name, err)
	}
	for _, r := range replicas {
		f, err := redis.StringMap(r, nil)
		if err != nil {
			return opinion{}, fmt.Errorf("SENTINEL replicas %s: %w", s.opts.Name, err)
		}
		if f["ip"] != "" && len(o.replicas) < maxNodes {
			o.replicas = append(o.replicas, net.JoinHostPort(f["ip"], f["port"]))
		}
	}
	return o, nil
}

// take counts the opinions again, with the new one.
func (s *sentinels) take(ctx context.Context, w *Watcher, i int, o opinion) {
	now := w.opts.Clock()
	s.mu.Lock()
	s.asked[i] = true
	if s.until == 0 {
		s.until = now + w.opts.Dispute
	}
	if o.heard || now-s.opinions[i].at > opinionFor*s.opts.Poll {
		s.opinions[i] = o
	}
	r := tally(s.opinions, s.opts.Zones)
	early := slices.Contains(s.asked, false) && now < s.until // the first to answer may be the one that lies
	s.mu.Unlock()
	if len(r.members) > 0 && !early { // when none can be asked the last list stands
		w.tell(ctx, r)
	}
}

// tally counts opinions. A node is listed if anybody lists it, and doubtful if fewer than half do; it is
// named if more than half name it.
func tally(opinions []opinion, zones map[string]string) roster {
	voices, lists, names := 0, map[string]int{}, map[string]int{}
	for _, o := range opinions {
		if !o.heard {
			continue
		}
		voices++
		names[o.primary]++
		seen := map[string]bool{}
		for _, addr := range append([]string{o.primary}, o.replicas...) {
			if !seen[addr] {
				seen[addr] = true
				lists[addr]++
			}
		}
	}
	var r roster
	addrs := slices.Sorted(maps.Keys(lists))
	// Should there be more than are watched, those that most list come first.
	slices.SortStableFunc(addrs, func(a, b string) int { return lists[b] - lists[a] })
	for _, addr := range addrs {
		r.members = append(r.members, member{id: cluster.NodeID(addr), addr: addr, zone: zones[addr],
			named: 2*names[addr] > voices, doubtful: 2*lists[addr] < voices})
	}
	return r
}

// beginning is told when a sentinel is about to promote a replica. The others are told when it has, when it
// has given up, and when there may be reason to look.
const beginning = "+failover-state-send-slaveof-noone"

var channels = []any{
	beginning, "+promoted-slave", "+failover-state-reconf-slaves", "+switch-master", "+failover-end", "+failover-end-for-timeout",
	"-failover-abort-no-good-slave", "-failover-abort-not-elected", "-failover-abort-slave-timeout", "+slave", "+sdown", "-sdown",
}

// listen subscribes to one sentinel's news. All that it says is a reason to look: a sentinel that lies
// costs a few questions, and a hold of at most Options.Dispute.
func (s *sentinels) listen(ctx context.Context, w *Watcher, addr string) {
	for ctx.Err() == nil {
		c, err := s.dial(ctx, w, addr)
		if err == nil {
			s.hearNews(ctx, w, redis.PubSubConn{Conn: c})
			_ = c.Close()
		}
		if pause(ctx, s.opts.Poll, nil) != nil {
			return
		}
	}
}

// hearNews takes messages until the connection breaks.
func (s *sentinels) hearNews(ctx context.Context, w *Watcher, c redis.PubSubConn) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Conn.Close() })
	defer stop()
	if c.Subscribe(channels...) != nil {
		return
	}
	running.Go(func() {
		for pause(ctx, newsWithin/hurry, nil) == nil && c.Ping("") == nil {
		}
	})
	for {
		switch m := c.ReceiveWithTimeout(newsWithin).(type) {
		case redis.Message:
			words := strings.Fields(string(m.Data))
			if !slices.Contains(words, s.opts.Name) {
				continue // of another master
			}
			switch {
			case m.Channel == beginning && len(words) >= 4: // slave NAME IP PORT @ …
				w.tell(ctx, handover{cluster.NodeID(net.JoinHostPort(words[2], words[3]))})
			case strings.HasPrefix(m.Channel, "-failover-abort"):
				w.tell(ctx, handover{})
			}
			w.look()
		case error:
			return
		}
	}
}
