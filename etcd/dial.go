package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/stats"
)

// DialOptions say how members of an etcd are reached.
type DialOptions struct {
	// Endpoints are HOST:PORT, or URLs as an external etcd is named; the preferred one first.
	Endpoints []string
	// TLS makes the configuration for a connection to host; nil: plain TCP, unless an endpoint is https.
	TLS            func(host string) *tls.Config
	User, Password string
}

// The bounds of a connection to a member. A member that is cut off sends no reset.
const (
	dialWithin    = time.Second
	unackedWithin = time.Second // sent and not acknowledged
	idleProbe     = time.Second // silence before a probe, and between probes
	idleProbes    = 2
	// lastPause is the longest pause between two tries to connect.
	lastPause = time.Second
	// pingEvery is the shortest that gRPC allows; the socket's own probes are faster. Only with a call under way:
	// a server takes a ping without one for abuse, and ends the connection after a few.
	pingEvery = 10 * time.Second
)

// Dial returns a Store on the members. It does not wait for any of them.
func Dial(o DialOptions) (*Store, error) {
	clients, err := dialAll(o)
	if err != nil {
		return nil, err
	}
	return NewStore(clients...), nil
}

// dialAll makes one client for each member: which of them is asked is the Store's to say.
func dialAll(o DialOptions) ([]*clientv3.Client, error) {
	var clients []*clientv3.Client
	var errs error
	for _, e := range o.Endpoints {
		c, err := dialOne(e, o)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("store endpoint %s: %w", e, err))
			continue
		}
		clients = append(clients, c)
	}
	if errs == nil && len(clients) == 0 {
		errs = errors.New("store: no endpoint is named")
	}
	if errs != nil {
		for _, c := range clients {
			errs = errors.Join(errs, c.Close())
		}
		return nil, errs
	}
	return clients, nil
}

// endpoint splits HOST:PORT or http(s)://HOST:PORT.
func endpoint(text string) (place, host string, secure bool, err error) {
	place, secure = strings.CutPrefix(text, "https://")
	place = strings.TrimSuffix(strings.TrimPrefix(place, "http://"), "/")
	host, _, err = net.SplitHostPort(place)
	return place, host, secure, err
}

func dialOne(text string, o DialOptions) (*clientv3.Client, error) {
	place, host, secure, err := endpoint(text)
	if err != nil {
		return nil, err
	}
	config := o.TLS
	if config == nil && secure {
		config = func(host string) *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host} }
	}
	connect := func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx, place, host, config) }
	token := ""
	if o.User != "" {
		token = "none yet" // New would log in at once, and fail while the member is away: the first call does
	}
	c, err := clientv3.New(clientv3.Config{
		// The connection is made by connect, TLS included; gRPC need not know.
		Endpoints: []string{"http://" + place}, DialTimeout: dialWithin, Token: token,
		DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: unackedWithin,
		Logger: zap.NewNop(), MaxUnaryRetries: 2, BackoffWaitBetween: 10 * time.Millisecond,
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(connect), grpc.WithStatsHandler(sendings{}), grpc.WithNoProxy(),
			grpc.WithChainUnaryInterceptor(doNotWait),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: dialWithin,
				Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastPause}}),
		},
	})
	if err != nil {
		return nil, err
	}
	c.Token, c.Username, c.Password = "", o.User, o.Password
	return c, nil
}

func connect(ctx context.Context, place, host string, config func(string) *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleProbe, Interval: idleProbe, Count: idleProbes},
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedWithin.Milliseconds()))
			})
			return errors.Join(err, failed)
		},
	}
	raw, err := d.DialContext(ctx, "tcp", place)
	if err != nil || config == nil {
		return raw, err
	}
	c := config(host)
	c.NextProtos = []string{"h2"}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// doNotWait has a call to a member that refuses connections fail at once: another member is asked then.
func doNotWait(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return call(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// sending remembers whether anything of a call was sent.
type sending struct{ tracked, out atomic.Bool }

type sendingKey struct{}

// track returns the context for the call.
func (s *sending) track(ctx context.Context) context.Context {
	return context.WithValue(ctx, sendingKey{}, s)
}

// never reports whether surely nothing of the call was sent. A call that no handler has seen, of a
// member in this process, may have been.
func (s *sending) never() bool { return s.tracked.Load() && !s.out.Load() }

// sendings sees each call on its way.
type sendings struct{}

var _ stats.Handler = sendings{}

func (sendings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if s, ok := ctx.Value(sendingKey{}).(*sending); ok {
		s.tracked.Store(true)
	}
	return ctx
}

func (sendings) HandleRPC(ctx context.Context, r stats.RPCStats) {
	if s, ok := ctx.Value(sendingKey{}).(*sending); ok {
		switch r.(type) {
		case *stats.OutHeader, *stats.OutPayload:
			s.out.Store(true)
		}
	}
}

func (sendings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sendings) HandleConn(context.Context, stats.ConnStats)                       {}
