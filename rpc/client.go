package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
	"understudy/failover"
)

// ClientOptions say how a Client reaches agents.
type ClientOptions struct {
	// TLS makes the configuration for a connection to host over TCP; nil: plain TCP. It is asked for
	// each connection, so that new certificates count from the next one on.
	TLS func(host string) *tls.Config
	// HedgeAfter is how long a question may be without any sign from the peer before it is asked on a
	// second connection; default 30 ms: above a round trip between zones (a few ms) and a busy agent's
	// delay, below the shortest window of an election (100 ms).
	HedgeAfter time.Duration
	Metrics    prometheus.Registerer // nil: nobody counts
}

// Client asks agents. It keeps connections. Each carries one question at a time and is closed when that
// runs out of time, so that no later question waits on it; and a question that hears nothing at all
// within HedgeAfter is asked again on a new connection, because a kept one may have died silently while
// the peer was cut off. Every question may be asked twice: requests have ids.
type Client struct {
	opts  ClientOptions
	count asking

	mu    sync.Mutex
	peers map[string]*peer
}

// The bounds of a client.
const (
	dialWithin = time.Second
	// answerWithin is for callers that set no deadline.
	answerWithin = 10 * time.Second
	maxPeers     = 1024
)

// peer holds the connections to one address: those that are kept, and those made for one question.
type peer struct {
	base        string
	kept, fresh *http.Transport
	hedgeAfter  time.Duration
	hedged      prometheus.Counter
}

// NewClient returns a client without connections.
func NewClient(o ClientOptions) *Client {
	if o.HedgeAfter == 0 {
		o.HedgeAfter = 30 * time.Millisecond
	}
	return &Client{opts: o, count: newAsking(o.Metrics), peers: map[string]*peer{}}
}

// Close closes the connections that nobody uses.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		p.kept.CloseIdleConnections()
	}
	c.peers = map[string]*peer{}
}

// peer finds or makes the connections to addr.
func (c *Client) peer(addr string) (*peer, error) {
	network, place, host, err := parse(addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.peers[addr]; p != nil {
		return p, nil
	}
	if len(c.peers) >= maxPeers { // addresses of peers that are gone: begin anew
		for _, p := range c.peers {
			p.kept.CloseIdleConnections()
		}
		clear(c.peers)
	}
	transport := func(single bool) *http.Transport {
		return &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, network, place) },
			DialTLSContext:      c.dialTLS(network, place, host),
			MaxIdleConnsPerHost: 4, IdleConnTimeout: idleWithin - 10*time.Second, DisableKeepAlives: single,
			DisableCompression: true, MaxResponseHeaderBytes: 8 << 10,
		}
	}
	p := &peer{base: "http://agent", kept: transport(false), fresh: transport(true), hedgeAfter: c.opts.HedgeAfter, hedged: c.count.hedged}
	if network == "tcp" {
		p.base = "http://" + place
		if c.opts.TLS != nil {
			p.base = "https://" + place
		}
	}
	c.peers[addr] = p
	return p, nil
}

func dial(ctx context.Context, network, place string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWithin, KeepAliveConfig: keepAlive}
	if network == "tcp" {
		d.Control = bounded
	}
	return d.DialContext(ctx, network, place)
}

func (c *Client) dialTLS(network, place, host string) func(context.Context, string, string) (net.Conn, error) {
	if c.opts.TLS == nil {
		return nil
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialWithin)
		defer cancel()
		raw, err := dial(ctx, network, place)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, c.opts.TLS(host))
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return conn, nil
	}
}

// Report asks for a node's report; see Node.
func (c *Client) Report(ctx context.Context, to To, epoch cluster.Epoch, wait time.Duration) (Answer, error) {
	q := url.Values{"epoch": {strconv.FormatUint(uint64(epoch), 10)}, "wait": {wait.String()}}
	var a Answer
	err := c.ask(ctx, to, http.MethodGet, "/v1/report", q, nil, &a)
	return a, err
}

// Position asks where a node's redis-server is.
func (c *Client) Position(ctx context.Context, to To) (cluster.Position, error) {
	var p cluster.Position
	err := c.ask(ctx, to, http.MethodGet, "/v1/position", url.Values{}, nil, &p)
	return p, err
}

// Word asks what a node says of itself; its permit counts from before this was called.
func (c *Client) Word(ctx context.Context, to To, after After) (Word, error) {
	q := url.Values{"after": {strconv.FormatUint(after.Version, 10)}, "events": {strconv.FormatUint(after.Events, 10)}, "wait": {after.Wait.String()}}
	var w Word
	err := c.ask(ctx, to, http.MethodGet, "/v1/status", q, nil, &w)
	return w, err
}

// Request hands a request to a node. An error leaves open whether it was taken: ask again with the
// same ID.
func (c *Client) Request(ctx context.Context, to To, r failover.Request) (failover.Reply, error) {
	a, err := newAsk(r)
	if err != nil {
		return failover.Reply{}, err
	}
	var reply failover.Reply
	err = c.ask(ctx, to, http.MethodPost, "/v1/request", url.Values{}, a, &reply)
	return reply, err
}

// Kill has a node's redis-server killed.
func (c *Client) Kill(ctx context.Context, to To, k Kill) (failover.Reply, error) {
	var reply failover.Reply
	err := c.ask(ctx, to, http.MethodPost, "/v1/kill", url.Values{}, k, &reply)
	return reply, err
}

// ask sends one question and decodes the answer.
func (c *Client) ask(ctx context.Context, to To, method, path string, q url.Values, body, into any) error {
	p, err := c.peer(to.Addr)
	if err != nil {
		return fmt.Errorf("ask %s: %w", to.Node, err)
	}
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("ask %s: %w", to.Node, err)
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	}
	q.Set("node", string(to.Node))
	answer, err := p.ask(ctx, question{method, p.base + path + "?" + q.Encode(), text})
	if err == nil {
		err = json.Unmarshal(answer, into)
	}
	kind := strings.TrimPrefix(path, "/v1/")
	if err != nil {
		c.count.asked.WithLabelValues(kind, outcomeFailed).Inc()
		return fmt.Errorf("ask %s: %w", to.Node, err)
	}
	c.count.asked.WithLabelValues(kind, outcomeOK).Inc()
	return nil
}

// question is a request that can be sent more than once.
type question struct {
	method, url string
	body        []byte
}

// try is one sending of a question.
type try struct {
	heard chan struct{} // closed when the peer has said that the question arrived
	done  chan outcome
}

// outcome is how a try ended.
type outcome struct {
	answer []byte
	err    error
}

// ask tries a kept connection, and beside it a new one when nothing is heard there in time. A kept
// connection that the peer has closed is the transport's to replace.
func (p *peer) ask(ctx context.Context, q question) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the slower try is given up, and its connection closed
	first := start(ctx, p.kept, q)
	patience := time.NewTimer(p.hedgeAfter)
	defer patience.Stop()
	select {
	case o := <-first.done:
		return o.answer, o.err
	case <-first.heard:
		o := <-first.done
		return o.answer, o.err
	case <-patience.C:
	}
	p.hedged.Inc()
	second := start(ctx, p.fresh, q)
	var o outcome
	select {
	case o = <-first.done:
		if o.err != nil {
			o = <-second.done
		}
	case o = <-second.done:
		if o.err != nil {
			o = <-first.done
		}
	}
	return o.answer, o.err
}

func start(ctx context.Context, t *http.Transport, q question) *try {
	s := &try{heard: make(chan struct{}), done: make(chan outcome, 1)}
	said := sync.OnceFunc(func() { close(s.heard) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { said(); return nil },
	})
	go func() {
		answer, err := send(ctx, t, q)
		s.done <- outcome{answer, err}
	}()
	return s
}

func send(ctx context.Context, t *http.Transport, q question) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	// It may be sent again when a kept connection turns out to be closed: requests have ids.
	req.Header.Set("Idempotency-Key", "of-the-request")
	res, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(text[:min(len(text), 500)])))
	}
	return text, nil
}
