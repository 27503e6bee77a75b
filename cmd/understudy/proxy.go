package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
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
	var printConfig, takeOver bool
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Serve a group's endpoints where clients are",
		Long: `Serves the endpoints of a group whose nodes run on other machines, and an HTTP address that
tells how it is. It learns from the store where the nodes are, and from their agents who may
accept writes. With an upstream in place of a store it stands before a Redis that an operator, Redis
Sentinel or ElastiCache fails over: it asks the nodes themselves. It keeps nothing: any number of
proxies may serve one group, and one that ends loses no acked write. While the store is away it goes on
with what it knows. One process serves one group; run one for each.

With --take-over it takes the place of the process that runs with the same file: clients keep their
connections. SIGHUP has a process start such a one itself, from the program's file as it is then.

Prints "ready primary=… reader=… split=… http=…" once it knows a primary; the endpoints take
clients before that, and hold their requests.`,
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
			if printConfig {
				return c.print(cmd.OutOrStdout())
			}
			return runProxy(cmd.Context(), c, seat{file, takeOver}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file with the proxy's settings, YAML")
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "take the sockets and the clients of the process that runs with the same file, which then ends; clients see nothing of it")
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
		if before, err = inherit(path, c.Group); err == nil && before != nil {
			log.Info("the sockets of another process were taken over; it goes on until this one knows the primary", "component", "proxy")
			a.onStop("the process before", func(context.Context) error { return ignoreClosed(before.close()) })
		}
	}
	if err != nil {
		return coded{exitUsage, err}
	}
	f, err := prepareFront(ctx, a, c, before, log)
	if err != nil {
		return coded{exitUsage, err}
	}
	a.run("endpoints", part{"proxy", f.proxy.Run})
	a.run("http", part{"http", f.serveHTTP})
	if f.watched != nil {
		a.run("upstream", part{"upstream", f.watched.run})
	} else {
		a.run("group", part{"group", f.known.run}, part{"nodes", f.follow})
	}
	if before == nil {
		f.begin(a, path, at.file)
	}
	select {
	case <-f.led:
		if before != nil {
			if err := before.takeOver(f); err != nil {
				return err
			}
			a.run("clients of the process before", part{"clients of the process before", func(ctx context.Context) error { return before.adopt(ctx, f) }})
			f.begin(a, path, at.file)
		}
		e := f.endpoints()
		if _, err := fmt.Fprintf(stdout, "ready primary=%s reader=%s split=%s http=%s\n", e.Primary, e.Reader, e.Split, e.HTTP); err != nil {
			log.Warn("nobody reads what is printed", "error", err)
		}
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}

// begin lets others know that this process serves: its service manager, and who may take its place.
func (f *front) begin(a *app, path, file string) {
	if path != "" {
		s := &successors{f: f, path: path, file: file}
		a.run("successors", part{"successors", s.run}, part{"reload", s.startOnRequest})
	}
	if err := notifyReady(); err != nil {
		f.log.Warn("the service manager is not told that this is ready", "error", err)
	}
}

// front is everything that `understudy proxy` runs.
type front struct {
	config  proxyConfig
	log     logger
	plain   logger // without a component, for the parts
	clock   func() time.Duration
	certs   *certs.Files // nil: no TLS
	store   *etcd.Store
	http    net.Listener
	door    *gate // is http
	proxy   *proxy.Proxy
	metrics *registries
	known   *directory                   // nil: the group is watched
	watched *watched                     // nil: the group has agents and a store
	page    atomic.Pointer[http.Handler] // nil until the store has said what the group is
	led     chan struct{}                // closed when a primary was heard of
	sayLed  func()                       // closes it, once
}

// prepareFront checks and takes all that can be refused, and starts nothing.
func prepareFront(ctx context.Context, a *app, c proxyConfig, before *inherited, log logger) (*front, error) {
	f := &front{config: c, log: log.With("component", "proxy"), plain: log, clock: newClock(), metrics: newRegistries(), led: make(chan struct{})}
	f.sayLed = sync.OnceFunc(func() { close(f.led) })
	var err error
	if !c.TLS.empty() {
		if f.certs, err = certs.Open(certs.Paths(c.TLS), log); err != nil {
			return nil, err
		}
	} else if c.Insecure {
		log.Warn("INSECURE: no TLS to the agents and the store: whoever reaches them controls the groups", "component", "proxy")
	}
	o := proxy.Options{
		Group: c.Group, Zone: c.Zone, Primary: c.Listen.Primary, Reader: c.Listen.Reader, Split: c.Listen.Split,
		Hold: c.Hold, Reads: proxy.Reads(c.Reads), Once: c.Once, Allow: c.Allow, Clock: f.clock, Logger: log, Metrics: f.metrics.own,
	}
	if c.Upstream != nil {
		err = f.watch(&o)
	} else {
		if c.NodeTLS {
			o.ServerTLS = f.nodeTLS
		}
		err = f.learn(a)
	}
	if err != nil {
		return nil, err
	}
	if err := c.Clients.apply(&o, log); err != nil {
		return nil, err
	}
	if err := f.listen(ctx, a, before, &o); err != nil {
		return nil, err
	}
	if f.proxy, err = proxy.New(o); err == nil {
		sayTLS(f.proxy.Addrs(), log)
	}
	return f, err
}

// listen takes the HTTP address, and the sockets of the process before, or sees to it that every address
// is free.
func (f *front) listen(ctx context.Context, a *app, before *inherited, o *proxy.Options) error {
	o.Listeners, o.Shut = map[string]*net.TCPListener{}, before != nil
	for name, at := range map[string]string{"primary": o.Primary, "reader": o.Reader, "split": o.Split,
		"primary TLS": o.PrimaryTLS, "reader TLS": o.ReaderTLS, "split TLS": o.SplitTLS} {
		if l := before.take(name, at); l != nil {
			o.Listeners[name] = l
		}
	}
	for _, x := range f.config.Listen.addrs() {
		name := strings.TrimPrefix(x.flag, "listen.")
		if x.value == "" || o.Listeners[name] != nil {
			continue
		}
		if l := before.take(name, x.value); l != nil { // HTTP
			f.door = newGate(l)
			f.door.shut() // the process before answers until its place is taken
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", x.value)
		if err != nil {
			return addrError(addr{"config: " + x.flag, x.value}, err)
		}
		if x.flag == "listen.http" {
			f.door = newGate(l.(*net.TCPListener))
		} else if err := l.Close(); err != nil { // the proxy listens for itself; this was to say which is at fault
			return err
		}
	}
	f.http = f.door
	a.onStop("http listener", func(context.Context) error { return ignoreClosed(f.door.Close()) })
	return nil
}

// nodeTLS is how a node's redis-server is spoken to.
func (f *front) nodeTLS(_ cluster.NodeID, at string) *tls.Config {
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
	f.known = newDirectory(f.config.Group, f.store, f.log)
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
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split, HTTP: f.http.Addr().String()}
}

// serveHTTP tells how the group is until ctx ends.
func (f *front) serveHTTP(ctx context.Context) error {
	return dashboard.Serve(ctx, f.http, http.HandlerFunc(f.answer), f.log)
}

// answer passes a question on to the group's page.
func (f *front) answer(w http.ResponseWriter, r *http.Request) {
	if f.config.Clients.Tap && r.Method == http.MethodGet && r.URL.Path == "/api/tap" {
		f.proxy.TapHandler().ServeHTTP(w, r)
		return
	}
	page := f.page.Load()
	if page == nil {
		writeJSON(w, http.StatusServiceUnavailable, dashboard.Outcome{Message: f.missing()})
		return
	}
	(*page).ServeHTTP(w, r)
}
