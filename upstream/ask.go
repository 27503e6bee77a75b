package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
	ours "understudy/redis"
)

// answer is what a node said of itself, or why it said nothing.
type answer struct {
	node cluster.NodeID
	at   time.Duration // before the question was sent; of a failure: when it was noticed
	addr string        // IP:PORT that answered
	err  error
	word word
}

// word is what a node says that it is.
type word struct {
	role     cluster.Role
	run      string           // of the process; "" where the server does not tell
	pos      cluster.Position // a replica's: what it has applied
	prev     cluster.Position // the log that pos.ReplID continues, up to its last offset
	replicas int              // online, of a primary
	linkUp   bool             // of a replica
	syncing  bool             // a replica in a full sync
	follows  string           // HOST:PORT, of a replica
	cannot   string           // why it serves nobody though it answers: the error's code, "LOADING"
}

const (
	// hurry is how many times as often is asked while there is no primary: somebody is choosing one.
	hurry = 5
	// closest is how many questions to one node fit into an interval, whoever doubts.
	closest = 20
	// dialWithin bounds a connection's beginning, which may take several round trips with TLS.
	dialWithin = time.Second
	// namesEvery is how often host names are looked up again: an endpoint of ElastiCache has a TTL of 15 s.
	namesEvery = 5 * time.Second
)

// asker keeps one connection to one node and asks over it, one question at a time.
type asker struct {
	w     *Watcher
	id    cluster.NodeID
	name  string // HOST:PORT as its source spells it
	tls   *tls.Config
	stop  context.CancelFunc
	again chan struct{}
	rng   *rand.Rand

	at    atomic.Pointer[string] // the address that it is connected to, IP:PORT
	moved atomic.Bool            // its name leads elsewhere now
}

// poke has it ask again at once, or right after the question under way.
func (a *asker) poke() {
	select {
	case a.again <- struct{}{}:
	default:
	}
}

func (a *asker) run(ctx context.Context) {
	var c *link
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		if c != nil && a.moved.Swap(false) {
			c.close()
			c = nil
		}
		had := c != nil
		x := a.ask(ctx, &c)
		if x.err != nil && had && ctx.Err() == nil {
			// A node closes connections when it changes its role, for example. That one says more than none.
			x = a.ask(ctx, &c)
		}
		if ctx.Err() != nil || !a.w.tell(ctx, x) {
			return
		}
		gap := a.w.opts.Interval
		if a.w.hurried.Load() {
			gap /= hurry
		}
		least := a.w.opts.Interval / closest
		if pause(ctx, least, nil) != nil || pause(ctx, jittered(gap, a.rng)-least, a.again) != nil {
			return
		}
	}
}

// ask puts the question, over a new connection where there is none. After an error there is none.
func (a *asker) ask(ctx context.Context, c **link) answer {
	a.w.metrics.questions.Inc()
	x := answer{node: a.id}
	if *c == nil {
		*c, x.err = a.dial(ctx)
	}
	if x.err == nil {
		a.at.Store(&(*c).addr)
		x.addr = (*c).addr
		x.at = a.w.opts.Clock()
		x.word, x.err = (*c).ask(ctx, a.w.opts.Lease)
	}
	if x.err != nil {
		a.w.metrics.failures.Inc()
		x.at = a.w.opts.Clock()
		if *c != nil {
			(*c).close()
			*c = nil
		}
	}
	return x
}

// link is a connection to a node.
type link struct {
	conn redis.Conn
	addr string
	run  string
}

func (l *link) close() { _ = l.conn.Close() }

// dial connects, logs in, and asks for the run of the process.
func (a *asker) dial(ctx context.Context) (*link, error) {
	w, name := a.w, a.name
	ctx, cancel := context.WithTimeout(ctx, max(dialWithin, w.opts.Lease))
	defer cancel()
	l := &link{}
	options := []redis.DialOption{redis.DialUsername(w.opts.User), redis.DialPassword(current(w.opts.Password, w.opts.PasswordNow)),
		redis.DialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := w.connect(ctx, name)
			if err == nil {
				l.addr = c.RemoteAddr().String()
			}
			return c, err
		}),
		redis.DialReadTimeout(max(dialWithin, w.opts.Lease)), redis.DialWriteTimeout(max(dialWithin, w.opts.Lease)),
		redis.DialTLSHandshakeTimeout(max(dialWithin, w.opts.Lease))}
	if a.tls != nil {
		options = append(options, redis.DialUseTLS(true), redis.DialTLSConfig(a.tls))
	}
	conn, err := redis.DialContext(ctx, "tcp", name, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	l.conn = conn
	text, err := redis.String(redis.DoWithTimeout(conn, max(dialWithin, w.opts.Lease), "INFO", "server"))
	if err != nil {
		l.close()
		return nil, fmt.Errorf("ask %s: INFO server: %w", name, err)
	}
	l.run = ours.InfoFields(text)["run_id"]
	return l, nil
}

// connect resolves the host and connects to the first address that answers.
func (w *Watcher) connect(ctx context.Context, name string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return nil, err
	}
	ips := []string{host}
	if net.ParseIP(host) == nil {
		if ips, err = w.opts.Lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	var d net.Dialer
	var errs []error
	for _, ip := range ips {
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return nil, errors.Join(errs...)
}

// ask sends the question, and waits for the whole answer at most for d: after that it permits nothing.
// PING tells whether the node serves anybody, INFO what it is.
func (l *link) ask(ctx context.Context, d time.Duration) (word, error) {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	end := time.Now().Add(d)
	err := errors.Join(l.conn.Send("PING"), l.conn.Send("INFO", "replication"), l.conn.Flush())
	if err != nil {
		return word{}, fmt.Errorf("ask: %w", err)
	}
	cannot := ""
	if _, err = redis.ReceiveWithTimeout(l.conn, max(time.Until(end), 1)); err != nil {
		if l.conn.Err() != nil {
			return word{}, fmt.Errorf("PING: %w", err)
		}
		cannot, _, _ = strings.Cut(err.Error(), " ")
	}
	text, err := redis.String(redis.ReceiveWithTimeout(l.conn, max(time.Until(end), 1)))
	if err != nil {
		return word{}, fmt.Errorf("INFO replication: %w", err)
	}
	x, err := parseWord(text)
	x.run, x.cannot = l.run, cannot
	return x, err
}

// parseWord reads the section "replication" of INFO.
func parseWord(text string) (word, error) {
	r, err := ours.ParseReplication(text)
	if err != nil {
		return word{}, err
	}
	x := word{role: r.Role, follows: r.MasterAddr, pos: r.Position, prev: r.Prev, linkUp: r.LinkUp, syncing: r.SyncInProgress}
	for _, replica := range r.Replicas {
		if replica.State == "online" {
			x.replicas++
		}
	}
	return x, nil
}

// followNames looks the nodes' host names up again, and has those asked anew that lead elsewhere: AWS
// replaces a node under its name, and the old one may go on answering for a while.
func (w *Watcher) followNames(ctx context.Context) {
	for pause(ctx, namesEvery, nil) == nil {
		w.mu.Lock()
		askers := make([]*asker, 0, len(w.askers))
		for _, a := range w.askers {
			askers = append(askers, a)
		}
		w.mu.Unlock()
		for _, a := range askers {
			a.follow(ctx)
		}
	}
}

// follow looks up where the asker's name leads. When it cannot be told, the connection stays.
func (a *asker) follow(ctx context.Context) {
	host, port, err := net.SplitHostPort(a.name)
	at := a.at.Load()
	if err != nil || at == nil || net.ParseIP(host) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, namesEvery)
	defer cancel()
	ips, err := a.w.opts.Lookup(ctx, host)
	if err != nil || len(ips) == 0 {
		return
	}
	if !slices.ContainsFunc(ips, func(ip string) bool { return net.JoinHostPort(ip, port) == *at }) {
		a.moved.Store(true)
		a.poke()
	}
}
