// Package etcd keeps the group's few records in etcd: embedded in this process, or anywhere else.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// EmbedOptions say where an embedded member lives.
type EmbedOptions struct {
	Dir    string // its data, and its unix sockets
	Logger *slog.Logger
}

// Embedded is an etcd member in this process, alone in its cluster. It listens on unix sockets in
// its own directory only.
type Embedded struct {
	etcd  *embed.Etcd
	store *Store
}

// quota bounds the database: the records are a few kilobytes, compacted every few minutes.
const quota = 256 << 20

// StartEmbedded starts the member and waits until it serves. Every write is on disk (fsync) before
// it is acknowledged.
func StartEmbedded(ctx context.Context, o EmbedOptions) (*Embedded, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	e, err := embed.StartEtcd(config(o))
	if err != nil {
		return nil, fmt.Errorf("store in %s: %w", o.Dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return nil, fmt.Errorf("store in %s: %w", o.Dir, err)
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("store in %s is not ready: %w", o.Dir, ctx.Err())
	}
	return &Embedded{etcd: e, store: NewStore(v3client.New(e.Server))}, nil
}

func config(o EmbedOptions) *embed.Config {
	c := embed.NewConfig()
	c.Name = "understudy"
	c.Dir = filepath.Join(o.Dir, "member")
	// Sockets in fixed places: the member's own addresses never change between runs. A long
	// directory does not fit into a unix address, so a private short one stands for it.
	peer := url.URL{Scheme: "unix", Host: "localhost:1"}
	client := url.URL{Scheme: "unix", Host: "localhost:2"}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// Alone, it elects itself: no reason to wait a second for it.
	c.TickMs, c.ElectionMs = 20, 200
	c.QuotaBackendBytes = quota
	c.AutoCompactionMode, c.AutoCompactionRetention = "periodic", "5m"
	c.SnapshotCount = 10000
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge{o.Logger.With("component", "store")}))
	return c
}

// Store is the member's store.
func (e *Embedded) Store() *Store { return e.store }

// Stop ends the member in order.
func (e *Embedded) Stop(ctx context.Context) error {
	err := e.store.client.Close()
	done := make(chan struct{})
	go func() { e.etcd.Close(); close(done) }()
	select {
	case <-done:
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("the store has not stopped: %w", ctx.Err())
	}
}

// bridge hands etcd's warnings to our log; the rest is its own affair.
type bridge struct{ log *slog.Logger }

func (b bridge) Enabled(l zapcore.Level) bool        { return l >= zapcore.WarnLevel }
func (b bridge) With(f []zapcore.Field) zapcore.Core { return bridge{b.log.With(attributes(f)...)} }
func (b bridge) Sync() error                         { return nil }

func (b bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return c.AddCore(e, b)
	}
	return c
}

func (b bridge) Write(e zapcore.Entry, f []zapcore.Field) error {
	level := slog.LevelDebug // a slow fsync is a metric of ours, not a line for the operator
	if e.Level >= zapcore.ErrorLevel {
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

// readyWithin is a generous bound for a member that has only its own small log to read.
const readyWithin = 30 * time.Second
