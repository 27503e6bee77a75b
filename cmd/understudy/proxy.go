package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy/certs"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/etcd"
	"understudy/proxy"
)

func newProxy() *cobra.Command {
	var file string
	var printConfig, takeOver, observe bool
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Serve a group's endpoints where clients are",
		Long: `Serves the endpoints of a group whose nodes run on other machines, and an HTTP address that
tells how it is. It learns from the store where the nodes are, and from their agents who may
accept writes. With an upstream in place of a store it stands before a Redis that an operator, Redis
Sentinel or ElastiCache fails over: it asks the nodes themselves. It keeps nothing: any number of
proxies may serve one group, and one that ends loses no acked write. While the store is away it goes on
with what it knows. One process serves one group, or several by port: "groups" in its file.

With --take-over it takes the place of the process that runs with the same file: clients keep their
connections. SIGHUP has a process start such a one itself, from the program's file as it is then.

Prints "ready primary=… reader=… split=… http=…" once it knows a primary; the endpoints take
clients before that, and hold their requests. With several groups there is a line for each, with
group=…, and "/groups/NAME" behind the HTTP address is about one: understudy status --http
127.0.0.1:7390/groups/jobs.

Sockets that a service manager opened and passes on (systemd's socket activation) are used for the
endpoints that have their addresses.`,
		Example: "  understudy proxy --config /etc/understudy/proxy.yaml\n  understudy proxy --config /etc/understudy/proxy.yaml --take-over\n  understudy proxy --config proxy.yaml --print-config",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--config FILE is needed; deploy/proxy.yaml in the source is one to begin with")
			}
			c, err := loadProxyConfig(file)
			if err != nil {
				return err
			}
			if observe {
				if err := c.observeAll(); err != nil {
					return usagef("--observe: %w", err)
				}
			}
			if printConfig {
				return c.print(cmd.OutOrStdout())
			}
			return runProxy(cmd.Context(), c, seat{file, takeOver}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file with the proxy's settings, YAML")
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "take the sockets and the clients of the process that runs with the same file, which then ends; clients see nothing of it")
	cmd.Flags().BoolVar(&observe, "observe", false, "forward and report without changing anything; metrics say what a hold would have hidden")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "check the file, print the effective settings, and end")
	return cmd
}

// seat is which process a new one takes the place of, if any.
type seat struct {
	file     string // the configuration's
	takeOver bool
}

// runProxy serves until ctx ends or an essential part fails.
func runProxy(ctx context.Context, c proxyConfig, at seat, stdout, stderr io.Writer) error {
	signal.Ignore(syscall.SIGPIPE)
	log := newLogger(c.LogFormat, stderr)
	limitMemory()
	a := newApp(log)
	err := serveProxy(ctx, a, c, at, stdout, log)
	if errors.Is(err, errHandedOver) {
		log.Info("another process has taken over", "component", "proxy")
		err = nil
	}
	if err == nil {
		log.Info("stopping", "component", "proxy")
	} else if a.started() {
		log.Error("stopping", "component", "proxy", "error", err)
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(err, a.stop(bound))
}

// serveProxy brings the parts up, says so, and waits for their end. What it started is a's to stop.
func serveProxy(ctx context.Context, a *app, c proxyConfig, at seat, stdout io.Writer, log logger) error {
	path, err := handoverPath(c.RunDir, at.file)
	if err != nil && c.RunDir == "" && !at.takeOver {
		log.Warn("no other process will be able to take over from this one", "component", "proxy", "error", err)
		path, err = "", nil
	}
	var before *inherited
	if err == nil && at.takeOver {
		if before, err = inherit(path, c.names()); err == nil && before != nil {
			log.Info("the sockets of another process were taken over; it goes on until this one knows the primary", "component", "proxy")
			a.onStop("the process before", func(context.Context) error { return ignoreClosed(before.close()) })
		}
	}
	if err != nil {
		return coded{exitUsage, err}
	}
	h, err := prepareHouse(ctx, a, c, before, log)
	if err != nil {
		return coded{exitUsage, err}
	}
	h.start(a)
	if before == nil {
		h.begin(a, path, at.file)
	}
	if err := h.awaitLed(ctx, a); err != nil || ctx.Err() != nil {
		return err
	}
	if before != nil {
		if err := before.takeOver(h); err != nil {
			return err
		}
		a.run("clients of the process before", part{"clients of the process before", func(ctx context.Context) error { return before.adopt(ctx, h) }})
		h.begin(a, path, at.file)
	}
	if err := h.sayReady(stdout); err != nil {
		log.Warn("nobody reads what is printed", "error", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}

// house is everything that `understudy proxy` runs: a front for each group, and the HTTP address of all.
type house struct {
	config  proxyConfig
	log     logger
	plain   logger // without a component, for the parts
	metrics *dashboard.Registries
	door    *gate     // is the HTTP address
	lock    *openDoor // says who comes in there
	fronts  []*front
}

// front serves one group.
type front struct {
	config  proxyConfig
	log     logger
	plain   logger // without a component, for the parts
	bare    logger // without the group's name, for those that say it themselves
	clock   func() time.Duration
	certs   *certs.Files // nil: no TLS
	store   *etcd.Store
	http    string // HOST:PORT where the group is told of
	proxy   server
	metrics *dashboard.Registries
	known   *directory                   // nil: the group is watched
	watched *watched                     // nil: the group has agents and a store
	page    atomic.Pointer[http.Handler] // nil until the store has said what the group is
	shown   atomic.Pointer[dashboard.Dashboard]
	led     chan struct{} // closed when a primary was heard of
	sayLed  func()        // closes it, once
}

// prepareHouse checks and takes all that can be refused, and starts nothing.
func prepareHouse(ctx context.Context, a *app, c proxyConfig, before *inherited, log logger) (*house, error) {
	h := &house{config: c, log: log.With("component", "proxy"), plain: log, metrics: dashboard.NewRegistries(newRegistry())}
	var err error
	if h.lock, err = c.door().open(h.metrics.Own(), log); err != nil {
		return nil, err
	}
	given, err := activated()
	if err != nil {
		return nil, err
	}
	a.onStop("sockets of the service manager", func(context.Context) error { return given.close() })
	if err := h.listen(ctx, a, before, given); err != nil {
		return nil, err
	}
	for _, g := range c.groups() {
		f, err := h.prepareFront(ctx, a, *g, before, given)
		if err != nil {
			return nil, h.of(g, err)
		}
		h.fronts = append(h.fronts, f)
	}
	return h, given.leftOver()
}

// of says which group an error is about, where there are several.
func (h *house) of(g *proxyConfig, err error) error {
	if err != nil && len(h.config.Groups.all) > 0 {
		return fmt.Errorf("groups: %s: %w", g.Group, err)
	}
	return err
}

// prepareFront does so for one group.
func (h *house) prepareFront(ctx context.Context, a *app, c proxyConfig, before *inherited, given *sockets) (*front, error) {
	log := loggerOf(h, c)
	f := &front{config: c, log: log.With("component", "proxy"), plain: log, bare: h.plain, clock: newClock(), http: h.door.Addr().String(), metrics: h.metrics, led: make(chan struct{})}
	f.sayLed = sync.OnceFunc(func() { close(f.led) })
	var err error
	if !c.TLS.empty() {
		if f.certs, err = certs.Open(certs.Paths(c.TLS), log); err != nil {
			return nil, err
		}
	} else if c.Insecure {
		f.log.Warn("INSECURE: no TLS to the agents and the store: whoever reaches them controls the groups")
	}
	o := proxy.Options{
		Group: c.Group, Zone: c.Zone, Primary: c.Listen.Primary, Reader: c.Listen.Reader, Split: c.Listen.Split,
		Hold: c.Hold, Reads: proxy.Reads(c.Reads), BusyPoll: c.BusyPoll, Clock: f.clock, Logger: log, Metrics: f.metrics.Own(),
	}
	c.waits().apply(&o)
	if c.Upstream != nil {
		err = f.watch(&o)
	} else {
		if f.certs != nil {
			o.ServerTLS = f.nodeTLS
		}
		o.Troubles = f.storeTroubles
		err = f.learn(a)
	}
	if err != nil {
		return nil, err
	}
	if err := c.Clients.apply(&o, log); err != nil {
		return nil, err
	}
	if err := f.listen(ctx, before, given, &o); err != nil {
		return nil, err
	}
	if c.Observe {
		f.log.Warn("observe: failovers are not hidden from clients")
		f.proxy, err = proxy.NewObserver(o)
	} else {
		f.proxy, err = proxy.New(o)
	}
	if err != nil {
		return nil, err
	}
	sayTLS(f.proxy.Addrs(), log)
	return f, nil
}

// server serves a group's endpoints: a proxy.Proxy, or a proxy.Observer that hides nothing.
type server interface {
	Addrs() proxy.Addrs
	Learn(at time.Duration, s cluster.NodeStatus)
	Troubles() []string
	Run(ctx context.Context) error

	// For a process that takes this one's place.
	Listeners() (map[string]*os.File, error)
	Open(lastID uint64)
	Adopt(fd int, h proxy.Handed)
	Leave(ctx context.Context, l proxy.Leaving) error
	Stay()
}

// mode is what the status says of the endpoints.
func (f *front) mode() string {
	if f.config.Observe {
		return "observe"
	}
	return ""
}

// loggerOf is the log of one group: it is named where there are several.
func loggerOf(h *house, c proxyConfig) logger {
	if len(h.config.Groups.all) == 0 {
		return h.plain
	}
	return h.plain.With("group", c.Group)
}

// start runs what was prepared.
func (h *house) start(a *app) {
	for _, f := range h.fronts {
		a.run("endpoints", part{"proxy", f.proxy.Run})
		a.run("passwords", part{"passwords", f.followLogins})
	}
	a.run("http", part{"http", h.serveHTTP})
	for _, f := range h.fronts {
		if f.watched != nil {
			a.run("upstream", part{"upstream", f.watched.run})
		} else {
			a.run("group", part{"group", f.known.run}, part{"nodes", f.follow})
		}
	}
}

// othersWithin is how long a start waits for the primaries of further groups once it knows one: a group that
// has none must not keep the others from being ready, nor from being taken over.
const othersWithin = 10 * time.Second

// awaitLed waits until a primary of each group was heard of, or ctx ends.
func (h *house) awaitLed(ctx context.Context, a *app) error {
	first := make(chan struct{})
	sayFirst := sync.OnceFunc(func() { close(first) })
	all := make(chan struct{})
	var waiting sync.WaitGroup
	bound, cancel := context.WithCancel(ctx)
	defer waiting.Wait()
	defer cancel()
	for _, f := range h.fronts {
		waiting.Go(func() {
			select {
			case <-f.led:
				sayFirst()
			case <-bound.Done():
			}
		})
	}
	go func() { waiting.Wait(); close(all) }()
	var late <-chan time.Time
	for {
		select {
		case <-first:
			first = nil
			timer := time.NewTimer(othersWithin)
			defer timer.Stop()
			late = timer.C
		case <-all:
			return nil
		case <-late:
			h.sayLate()
			return nil
		case <-ctx.Done():
			return nil
		case err := <-a.failed:
			return err
		}
	}
}

// sayLate names the groups that have no primary yet.
func (h *house) sayLate() {
	for _, f := range h.fronts {
		select {
		case <-f.led:
		default:
			h.log.Warn("a group has no primary yet: its clients wait, the others are served", "group", f.config.Group)
		}
	}
}

// sayReady prints where clients come in, a line for each group.
func (h *house) sayReady(stdout io.Writer) error {
	for _, f := range h.fronts {
		name := ""
		if len(h.config.Groups.all) > 0 {
			name = "group=" + f.config.Group + " "
		}
		e := f.endpoints()
		if _, err := fmt.Fprintf(stdout, "ready %sprimary=%s reader=%s split=%s http=%s\n", name, e.Primary, e.Reader, e.Split, e.HTTP); err != nil {
			return err
		}
	}
	return nil
}

// begin lets others know that this process serves: its service manager, and who may take its place.
func (h *house) begin(a *app, path, file string) {
	if path != "" {
		s := &successors{h: h, path: path, file: file}
		a.run("successors", part{"successors", s.run}, part{"reload", s.startOnRequest})
	}
	if err := notifyReady(); err != nil {
		h.log.Warn("the service manager is not told that this is ready", "error", err)
	}
}

// listen takes the HTTP address, or its socket from whoever has it.
func (h *house) listen(ctx context.Context, a *app, before *inherited, given *sockets) error {
	at := h.config.Listen.HTTP
	switch l, own := before.take("http", at), given.take("http", at); {
	case l != nil:
		h.door = newGate(l)
		h.door.shut() // the process before answers until its place is taken
	case own != nil:
		h.door = newGate(own)
	default:
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
		if err != nil {
			return addrError(addr{"config: listen.http", at}, err)
		}
		h.door = newGate(l.(*net.TCPListener))
	}
	a.onStop("http listener", func(context.Context) error { return ignoreClosed(h.door.Close()) })
	return nil
}

// listen takes the sockets of the process before, or of the service manager, or sees to it that every
// address is free.
func (f *front) listen(ctx context.Context, before *inherited, given *sockets, o *proxy.Options) error {
	o.Listeners, o.Shut = map[string]*net.TCPListener{}, before.has(f.config.Group)
	for name, at := range map[string]string{"primary": o.Primary, "reader": o.Reader, "split": o.Split,
		"primary TLS": o.PrimaryTLS, "reader TLS": o.ReaderTLS, "split TLS": o.SplitTLS} {
		whole := f.config.Group + "/" + name
		if l := before.take(whole, at); l != nil {
			o.Listeners[name] = l
		} else if l := given.take(whole, at); l != nil {
			o.Listeners[name] = l
		}
	}
	for _, x := range f.config.Listen.addrs() {
		if x.value == "" || x.flag == "listen.http" || o.Listeners[strings.TrimPrefix(x.flag, "listen.")] != nil {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", x.value)
		if err != nil {
			return addrError(addr{"config: " + x.flag, x.value}, err)
		}
		if err := l.Close(); err != nil { // the proxy listens for itself; this was to say which is at fault
			return err
		}
	}
	return nil
}

// nodeTLS is how a node's redis-server is spoken to; nil: in the clear. The store knows whether the group's
// speak TLS.
func (f *front) nodeTLS(_ cluster.NodeID, at string) *tls.Config {
	if spec := f.known.now(); !f.config.NodeTLS && (spec == nil || !spec.NodeTLS) {
		return nil
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		host = at
	}
	return f.certs.Client(host)
}

// learn prepares to hear of the group from its store and its agents.
func (f *front) learn(a *app) error {
	var err error
	if f.store, err = f.openStore(); err != nil {
		return err
	}
	a.onStop("store", func(context.Context) error { return f.store.Close() })
	f.known = newDirectory(f.config.Group, f.store, f.config.topologyFile(), f.log)
	return nil
}

// watch prepares to watch a group that has neither.
func (f *front) watch(o *proxy.Options) error {
	base, err := f.config.Upstream.TLS.config()
	if err != nil {
		return fmt.Errorf("upstream: tls: %w", err)
	}
	if f.watched, err = newWatched(f); err != nil {
		return err
	}
	o.OnDoubt, o.ServerTLS = f.watched.doubt, f.watched.serverTLS(base)
	return nil
}

// missing says why the group is not known.
func (f *front) missing() string {
	if f.watched != nil {
		return f.watched.missing()
	}
	return f.known.missing()
}

func (f *front) openStore() (*etcd.Store, error) {
	s := f.config.Store
	return dialStore(storeAccess{s.Endpoints, s.User, s.PasswordFile, s.TLS}, f.certs, f.log)
}

// endpoints are the addresses that were taken.
func (f *front) endpoints() cluster.Endpoints {
	a := plainOr(f.proxy.Addrs())
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split, HTTP: f.http,
		PrimaryTLS: a.PrimaryTLS, ReaderTLS: a.ReaderTLS, SplitTLS: a.SplitTLS}
}

// followLogins has the endpoints go by the files with passwords as they are.
func (f *front) followLogins(ctx context.Context) error {
	if p, ok := f.proxy.(*proxy.Proxy); ok {
		f.config.Clients.follow(ctx, p, f.plain)
	}
	<-ctx.Done()
	return nil
}

// serveHTTP tells how the groups are until ctx ends.
func (h *house) serveHTTP(ctx context.Context) error {
	return h.lock.serve(ctx, h.door, http.HandlerFunc(h.route))
}

// route finds the group that a path is about: "/groups/NAME/…" is any, "/…" is the first of the file. Health
// and metrics without a name are those of all.
func (h *house) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/groups":
		writeJSON(w, http.StatusOK, h.config.names())
		return
	case "/healthz":
		if len(h.fronts) > 1 {
			h.serveHealth(w, r)
			return
		}
	}
	f, prefix := h.fronts[0], ""
	if rest, ok := strings.CutPrefix(r.URL.Path, "/groups/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		prefix = "/groups/" + name
		at := slices.IndexFunc(h.fronts, func(f *front) bool { return f.config.Group == name })
		if at < 0 {
			writeJSON(w, http.StatusNotFound, dashboard.Outcome{Message: fmt.Sprintf("there is no group %q: there are %s", name, strings.Join(h.config.names(), ", "))})
			return
		}
		f = h.fronts[at]
	}
	http.StripPrefix(prefix, http.HandlerFunc(f.answer)).ServeHTTP(w, r)
}

// serveHealth says which groups cannot be written to; none: 200.
func (h *house) serveHealth(w http.ResponseWriter, r *http.Request) {
	var lacks []string
	for _, f := range h.fronts {
		answer := &brief{header: http.Header{}, code: http.StatusOK}
		f.answer(answer, r)
		if answer.code != http.StatusOK {
			lacks = append(lacks, f.config.Group+": "+strings.TrimSpace(answer.text.String()))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(lacks) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, strings.Join(lacks, "\n")) // the asker has gone
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// brief keeps an answer that is to become part of another one.
type brief struct {
	header http.Header
	code   int
	text   strings.Builder
}

func (b *brief) Header() http.Header                { return b.header }
func (b *brief) WriteHeader(code int)               { b.code = code }
func (b *brief) Write(text []byte) (n int, _ error) { return b.text.Write(text) }

// answer passes a question on to the group's page.
func (f *front) answer(w http.ResponseWriter, r *http.Request) {
	if p, ok := f.proxy.(*proxy.Proxy); ok && f.config.Clients.Tap && r.Method == http.MethodGet && r.URL.Path == "/api/tap" {
		p.TapHandler().ServeHTTP(w, r)
		return
	}
	page := f.page.Load()
	if page == nil {
		writeJSON(w, http.StatusServiceUnavailable, dashboard.Outcome{Message: f.missing()})
		return
	}
	(*page).ServeHTTP(w, r)
}
