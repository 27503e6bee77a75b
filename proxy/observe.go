package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/cluster"
	"understudy/command"
	"understudy/failover"
	"understudy/resp"
)

// Observer forwards and reports, and changes nothing: each client has a connection of its own to the node
// that its endpoint names when it comes, and every byte goes through as it is, in both directions. Nothing is
// held, sent again or restored. It counts what a failover does to clients, and what of that a Proxy would
// have hidden: so a group can be looked at before it is put behind one.
//
// Its split endpoint is the primary's: a plain forwarder sends a connection, not a command.
type Observer struct {
	opts  Options
	log   *slog.Logger
	doors []observedDoor
	addrs Addrs

	requests, replies, rejected prometheus.Counter
	clients                     prometheus.Gauge
	errors                      *prometheus.CounterVec

	work sync.WaitGroup
	mu   sync.Mutex
	gate *failover.Gate
	last failover.Writer // the newest primary that there was
	turn int
	open map[net.Conn]struct{}
	ids  uint64
	over bool
	idle chan struct{} // closed when no client is there; nil: nobody waits for that
}

type observedDoor struct {
	*net.TCPListener
	name   string
	kind   endpoint
	secure bool
}

// dialNodeFor bounds how long a client waits for its connection to a node.
const dialNodeFor = 5 * time.Second

// Troubles is Proxy.Troubles: an Observer gives nothing that is not the endpoint's node's.
func (o *Observer) Troubles() []string { return nil }

// NewObserver listens on the endpoints. Of the options those about holds, reads, logins and limits in bytes
// mean nothing here.
func NewObserver(opts Options) (*Observer, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	reg := opts.Metrics
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"group": opts.Group}, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "understudy_observe_" + name, Help: help})
	}
	o := &Observer{
		opts: opts, log: opts.Logger.With("component", "observe"), gate: failover.NewGate(), open: map[net.Conn]struct{}{},
		requests: counter("requests_total", "Commands that were forwarded."),
		replies:  counter("replies_total", "Replies that were forwarded."),
		rejected: counter("rejected_clients_total", "Connections that were refused because MaxClients were there."),
		clients:  f.NewGauge(prometheus.GaugeOpts{Name: "understudy_observe_clients", Help: "Connections of clients."}),
		errors: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_observe_failover_errors_total",
			Help: "What a failover did to clients, and whether a hold would have hidden it."}, []string{"error", "hold"}),
	}
	for _, d := range []struct {
		name, at string
		kind     endpoint
		secure   bool
		out      *string
	}{
		{"primary", opts.Primary, primary, false, &o.addrs.Primary}, {"primary TLS", opts.PrimaryTLS, primary, true, &o.addrs.PrimaryTLS},
		{"reader", opts.Reader, reader, false, &o.addrs.Reader}, {"reader TLS", opts.ReaderTLS, reader, true, &o.addrs.ReaderTLS},
		{"split", opts.Split, split, false, &o.addrs.Split}, {"split TLS", opts.SplitTLS, split, true, &o.addrs.SplitTLS},
	} {
		if d.at == "" {
			continue
		}
		l := opts.Listeners[d.name]
		if l == nil {
			any, err := net.Listen("tcp", d.at)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("listen on the %s endpoint: %w", d.name, err), o.Close())
			}
			l = any.(*net.TCPListener)
		}
		o.doors = append(o.doors, observedDoor{l, d.name, d.kind, d.secure})
		*d.out = l.Addr().String()
	}
	return o, nil
}

// Addrs returns where the endpoints listen.
func (o *Observer) Addrs() Addrs { return o.addrs }

// Learn tells what an agent, or a watcher, says of a node.
func (o *Observer) Learn(at time.Duration, s cluster.NodeStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gate.Learn(at, s)
	if w, ok := o.gate.Writer(o.opts.Clock()); ok {
		o.last = w
	}
}

// Run forwards until ctx ends; then every connection is closed.
func (o *Observer) Run(ctx context.Context) error {
	if !o.opts.Shut {
		o.Open(0)
	}
	<-ctx.Done()
	err := o.Close()
	o.mu.Lock()
	o.over = true
	for c := range o.open {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.work.Wait()
	return err
}

// Close frees the endpoints.
func (o *Observer) Close() error {
	var errs []error
	for _, d := range o.doors {
		if err := d.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Listeners returns copies of the listening sockets, for another process.
func (o *Observer) Listeners() (map[string]*os.File, error) {
	all := map[string]*os.File{}
	for _, d := range o.doors {
		f, err := d.File()
		if err != nil {
			return all, fmt.Errorf("copy the listening socket of the %s endpoint: %w", d.name, err)
		}
		all[d.name] = f
	}
	return all, nil
}

// Open lets clients in.
func (o *Observer) Open(uint64) {
	for _, d := range o.doors {
		_ = d.SetDeadline(time.Time{}) // fails when it is closed: then nobody is let in
		o.work.Go(func() { o.accept(d) })
	}
}

// Stay lets clients in again after a Leave.
func (o *Observer) Stay() { o.Open(0) }

// Adopt ends a connection that another process hands over: its node's half is not here.
func (o *Observer) Adopt(fd int, _ Handed) {
	_ = os.NewFile(uintptr(fd), "client").Close()
}

// Leave lets nobody in any more and waits until every client has gone, at most for o.Within: a connection is
// its two halves, and cannot be handed over while its node may be saying something.
func (o *Observer) Leave(ctx context.Context, l Leaving) error {
	for _, d := range o.doors {
		_ = d.SetDeadline(time.Unix(1, 0)) // ends Accept
	}
	idle := make(chan struct{})
	o.mu.Lock()
	id := o.ids
	if o.idle = idle; len(o.open) == 0 {
		close(idle)
		o.idle = nil
	}
	o.mu.Unlock()
	if err := l.Stopped(id); err != nil {
		o.Stay()
		return err
	}
	over := time.NewTimer(l.Within)
	defer over.Stop()
	select {
	case <-idle:
	case <-over.C:
	case <-ctx.Done():
		o.Stay()
		return context.Cause(ctx)
	}
	return nil
}

func (o *Observer) accept(d observedDoor) {
	for {
		c, err := d.Accept()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil { // no file is left, or the client has gone
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !o.enter(c) {
			_, _ = io.WriteString(c, errMaxClients)
			_ = c.Close()
			continue
		}
		o.work.Go(func() {
			defer o.leave(c)
			if err := o.serve(d, c); err != nil {
				o.log.Debug("a connection has ended", "addr", c.RemoteAddr().String(), "error", err)
			}
		})
	}
}

func (o *Observer) enter(c net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.open) >= o.opts.MaxClients || o.over {
		o.rejected.Inc()
		return false
	}
	o.ids++
	o.open[c] = struct{}{}
	o.clients.Set(float64(len(o.open)))
	return true
}

func (o *Observer) leave(c net.Conn) {
	_ = c.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, c)
	o.clients.Set(float64(len(o.open)))
	if len(o.open) == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

// serve forwards one client's connection until one of its sides has gone.
func (o *Observer) serve(d observedDoor, c net.Conn) error {
	var behind []byte
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && inNetworks(o.opts.ProxyProtocol, a) {
		if _, behind, err = awaitPreface(c); err != nil {
			return err
		}
	}
	var client io.ReadWriteCloser = c
	if d.secure {
		s := tls.Server(&wire{Conn: c, pre: behind}, o.opts.TLS)
		behind = nil
		if err := c.SetDeadline(time.Now().Add(handshakeFor)); err != nil {
			return err
		}
		if err := s.Handshake(); err != nil {
			return err
		}
		client = s
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	server, err := o.connect(d.kind)
	if err != nil {
		o.note("unreachable", "hides")
		return err
	}
	defer server.Close()
	o.forward(client, server, behind)
	return nil
}

func inNetworks(networks []netip.Prefix, from netip.AddrPort) bool {
	for _, p := range networks {
		if p.Contains(from.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// target is the node that an endpoint names now.
func (o *Observer) target(kind endpoint) (cluster.NodeStatus, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.opts.Clock()
	if kind == reader {
		all := o.gate.Readers(now)
		o.turn++
		for i := range all {
			x := all[(i+o.turn)%len(all)]
			if x.Zone == o.opts.Zone || i == len(all)-1 {
				return o.gate.Node(x.Node)
			}
		}
	}
	if w, ok := o.gate.Writer(now); ok {
		o.last = w
	}
	return o.gate.Node(o.last.Node)
}

// connect makes a client's connection to its node. Where agents have given proxies a user of their own, it
// begins as that one.
func (o *Observer) connect(kind endpoint) (net.Conn, error) {
	n, ok := o.target(kind)
	if !ok || n.Addr == "" {
		return nil, errors.New("no primary is known")
	}
	var server net.Conn
	var err error
	d := net.Dialer{Timeout: dialNodeFor}
	if o.opts.ServerTLS != nil {
		if config := o.opts.ServerTLS(n.Node, n.Addr); config != nil {
			server, err = tls.DialWithDialer(&d, "tcp", n.Addr, config)
		}
	}
	if server == nil && err == nil {
		server, err = d.Dial("tcp", n.Addr)
	}
	if err != nil || n.Access.User == "" {
		return server, err
	}
	if err = server.SetDeadline(time.Now().Add(dialNodeFor)); err == nil {
		_, err = server.Write(resp.AppendCommand(nil, "AUTH", n.Access.User, n.Access.Password))
	}
	answer := make([]byte, len(replyOK))
	if err == nil {
		_, err = io.ReadFull(server, answer)
	}
	if err == nil && string(answer) != replyOK {
		err = errDenied
	}
	if err == nil {
		err = server.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// forward copies both ways until one side has gone, and says which errors of a failover the client got.
func (o *Observer) forward(client io.ReadWriteCloser, server net.Conn, behind []byte) {
	w := &watch{o: o}
	w.asked.whole, w.told.whole = w.ask, w.tell
	up := make(chan struct{})
	go func() {
		defer close(up)
		source := io.MultiReader(bytes.NewReader(behind), client)
		if pump(source, server, w.sent) {
			w.end(false)
			_ = server.Close()
			return
		}
		w.end(true)
		if half, ok := server.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // the client has said everything, and may still listen
		}
	}()
	clientGone := pump(server, client, w.received)
	w.end(clientGone)
	_ = client.Close()
	<-up
}

// pump copies until a side is gone; true: it was the one that is written to.
func pump(from io.Reader, to io.Writer, see func([]byte)) (toIsGone bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			see(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// watch is what is known of one connection: which commands are not answered yet.
type watch struct {
	o           *Observer
	mu          sync.Mutex
	asked, told frames
	lost        bool     // replies cannot be told to belong to commands any more: subscriptions, no RESP
	flying      []flight // oldest first
	ended       bool
}

// flight says whether a command that is lost with its connection could have been sent again.
type flight bool

// mostFlying bounds what is kept of one connection.
const mostFlying = 1 << 16

func (w *watch) sent(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = w.lost || !w.asked.feed(p)
}

func (w *watch) received(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = w.lost || !w.told.feed(p)
}

// ask notes a command. The caller holds mu.
func (w *watch) ask(first []byte, words [][]byte) {
	if len(first) == 0 {
		return
	}
	if first[0] != '*' {
		words = bytes.Fields(first)
	}
	if len(words) == 0 {
		return
	}
	w.o.requests.Inc()
	info := command.Lookup(words)
	switch {
	case info != nil && info.Name == "quit":
		w.ended = true // the server's end is the client's wish
	case info != nil && (info.Class == command.PubSub || info.Name == "client|reply" || info.Name == "monitor"):
		w.lost, w.flying = true, nil
	case !w.lost && len(w.flying) < mostFlying:
		again := info != nil && (info.Flags&command.Write == 0 || info.Idempotent(words))
		w.flying = append(w.flying, flight(again))
	default:
		w.lost, w.flying = true, nil
	}
}

// tell takes a reply. The caller holds mu.
func (w *watch) tell(first []byte, _ [][]byte) {
	if len(first) > 0 && first[0] == '>' {
		return
	}
	w.o.replies.Inc()
	if len(w.flying) > 0 {
		w.flying = w.flying[1:]
	}
	switch code := string(resp.ErrorCode(first)); code {
	case "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED":
		w.o.note(code, "hides")
	}
}

// end is called by whoever sees the end first. A client that goes has lost nothing.
func (w *watch) end(byClient bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || byClient {
		w.ended = true
		return
	}
	w.ended = true
	if len(w.flying) == 0 {
		w.o.note("closed", "hides")
	}
	for _, again := range w.flying {
		if again {
			w.o.note("closed", "hides")
		} else {
			w.o.note("closed", "unknown")
		}
	}
}

// note counts something that a failover did to a client.
func (o *Observer) note(what, hold string) { o.errors.WithLabelValues(what, hold).Inc() }
