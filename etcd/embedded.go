// Package etcd keeps the group's few records in etcd: embedded in this process, or anywhere else.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// EmbedOptions say where an embedded member lives.
type EmbedOptions struct {
	Dir    string // its data; one member at a time
	Logger *slog.Logger
	// Membership makes it one of several members; nil: alone, and it listens nowhere.
	Membership *Membership

	quiet *atomic.Bool // it is ending: that its servers end is no news
}

// Embedded is an etcd member in this process. Alone in its cluster it listens nowhere: its store is
// reached by function calls, so that there is no port to take, no socket to leave behind and nobody
// else who could write. As one of several it listens for the others, and for clients.
type Embedded struct {
	opts  EmbedOptions
	store *Store
	lock  *os.File
	ended chan struct{}

	mu   sync.Mutex
	etcd *embed.Etcd
	over bool // it is ending for good

	once    sync.Once
	stopped chan struct{}
	err     error // of the end; valid once stopped is closed
}

// quota bounds the database: the records are a few kilobytes, compacted every few minutes.
const quota = 256 << 20

// readyWithin is a generous bound for a member that has only its own small log to read.
const readyWithin = 30 * time.Second

// StartEmbedded starts the member. Alone, it waits until it serves, at most 30 s; one of several serves
// when a majority runs: see Ready. Every write is on disk (fsync) before it is acknowledged. A directory
// that another member uses is refused.
func StartEmbedded(ctx context.Context, o EmbedOptions) (*Embedded, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", o.Dir, err)
	}
	m := &Embedded{opts: o, lock: lock, ended: make(chan struct{})}
	own, err := m.begin(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store in %s: %w", o.Dir, err), lock.Close())
	}
	if o.Membership == nil {
		m.store = NewStore(own)
		return m, nil
	}
	others, err := o.Membership.clients()
	if err != nil {
		return nil, errors.Join(err, m.Stop(ctx))
	}
	m.store = NewStore(append([]*clientv3.Client{own}, others...)...)
	return m, nil
}

// begin starts a run of the member and returns the client that calls it.
func (e *Embedded) begin(ctx context.Context) (*clientv3.Client, error) {
	o := e.opts
	o.quiet = new(atomic.Bool)
	x, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.etcd, e.opts.quiet = x, o.quiet
	e.mu.Unlock()
	go func() {
		<-x.Server.StopNotify()
		if !o.quiet.Load() {
			close(e.ended)
		}
	}()
	return v3client.New(x.Server), nil
}

// Restart ends the member in order and starts it again with the files as they are now. Meanwhile the
// store is that of the other members.
func (e *Embedded) Restart(ctx context.Context) error {
	e.mu.Lock()
	old, quiet, over := e.etcd, e.opts.quiet, e.over
	e.mu.Unlock()
	if over {
		return errors.New("restart the store: it is ending")
	}
	quiet.Store(true)
	e.store.leave()
	end(old)
	own, err := e.begin(ctx)
	if err != nil {
		close(e.ended)
		return fmt.Errorf("restart the store in %s: %w", e.opts.Dir, err)
	}
	return e.store.replace(0, own)
}

// end ends a run of the member.
func end(x *embed.Etcd) {
	select {
	case <-x.Server.ReadyNotify():
	default: // its end would wait for ever for the servers that wait for it to be ready
		x.Server.Stop()
	}
	x.Close()
}

// lockDir makes this the only member on the directory: etcd itself waits for ever for its files.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		return nil, fmt.Errorf("in use by process %s: stop that one, or choose another directory", strings.TrimSpace(string(pid)))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func start(ctx context.Context, o EmbedOptions) (*embed.Etcd, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	c := config(o)
	if o.Membership != nil {
		if err := o.Membership.apply(ctx, c, o); err != nil {
			return nil, err
		}
	}
	e, err := embed.StartEtcd(c)
	if err != nil || o.Membership != nil {
		return e, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = fmt.Errorf("not ready: %w", ctx.Err())
	}
	e.Close()
	return nil, err
}

func config(o EmbedOptions) *embed.Config {
	c := embed.NewConfig()
	c.Name = "understudy"
	c.Dir = filepath.Join(o.Dir, "member")
	// It never listens, and alone in its cluster it never calls. Its own name is made of these
	// addresses, so they must not change between runs.
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	self := url.URL{Scheme: "unix", Host: "understudy"}
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = []url.URL{self}, []url.URL{self}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.EnableGRPCGateway = false
	// Alone, it elects itself at once: its clock only costs processor time.
	c.TickMs, c.ElectionMs = 100, 500
	c.QuotaBackendBytes = quota
	c.AutoCompactionMode, c.AutoCompactionRetention = "periodic", "5m"
	// The log of the newest entries stays in memory, and each renewal of a lead is one, of some kilobytes: by
	// default 15,000 of them. A member that is further behind takes the database, which is small.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 1000, 500
	// A write is safe once the log has it (fsync); the database may follow later and in larger
	// steps, which halves the number of fsyncs.
	c.BackendBatchInterval = time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge{log: o.Logger.With("component", "store"), quiet: o.quiet}))
	return c
}

// Store is the member's store.
func (e *Embedded) Store() *Store { return e.store }

// Ready is closed once the member serves.
func (e *Embedded) Ready() <-chan struct{} { return e.run().Server.ReadyNotify() }

func (e *Embedded) run() *embed.Etcd {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.etcd
}

// Ended is closed when the member has stopped without being asked to.
func (e *Embedded) Ended() <-chan struct{} { return e.ended }

// Stop ends the member in order. Calling it again does nothing. It must not be called during Restart.
func (e *Embedded) Stop(ctx context.Context) error {
	e.once.Do(func() {
		e.mu.Lock()
		e.over = true
		x := e.etcd
		e.mu.Unlock()
		e.opts.quiet.Store(true)
		e.stopped = make(chan struct{})
		go func() {
			defer close(e.stopped)
			if e.store != nil {
				e.err = e.store.Close()
			}
			end(x)
			e.err = errors.Join(e.err, e.lock.Close())
		}()
	})
	select {
	case <-e.stopped:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("the store has not stopped: %w", ctx.Err())
	}
}

// bridge hands etcd's warnings to our log; the rest is its own affair.
type bridge struct {
	log   *slog.Logger
	quiet *atomic.Bool
}

func (b bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }
func (b bridge) With(f []zapcore.Field) zapcore.Core {
	return bridge{b.log.With(attributes(f)...), b.quiet}
}
func (b bridge) Sync() error { return nil }

func (b bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return c.AddCore(e, b)
	}
	return c
}

func (b bridge) Write(e zapcore.Entry, f []zapcore.Field) error {
	level := slog.LevelDebug // a slow fsync is a metric of ours, not a line for the operator
	if e.Level >= zapcore.ErrorLevel && !b.quiet.Load() {
		level = slog.LevelWarn
	}
	b.log.Log(context.Background(), level, e.Message, attributes(f)...)
	return nil
}

func attributes(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	var args []any
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	return args
}
