package proxy

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say where a Proxy listens, and how long and how much it may hold.
type Options struct {
	Group string
	Zone  string // replicas of this zone are read first; "" for no preference

	// Listen addresses, HOST:PORT; port 0 takes any free one. An empty one is not served.
	Primary, Reader, Split string

	// Hold bounds how long a request waits for a primary. The default of 5 s is several times the
	// longest failover of the fast profile, and shorter than most clients' patience.
	Hold time.Duration
	// HoldRequests and HoldBytes bound how much waits; past them the oldest gets an error.
	HoldRequests int
	HoldBytes    int

	// MaxClients bounds the connections of all endpoints together, as redis-server's maxclients.
	MaxClients int
	// OutputLimit bounds the bytes that wait for one client to read them; past it the client is cut.
	OutputLimit int

	Clock   func() time.Duration // the clock that Learn's times are readings of; required
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

func (o *Options) complete() error {
	if o.Clock == nil {
		return errors.New("proxy: Clock is needed")
	}
	if o.Primary == "" && o.Reader == "" && o.Split == "" {
		return errors.New("proxy: at least one of Primary, Reader, Split must say where to listen")
	}
	if o.Hold == 0 {
		o.Hold = 5 * time.Second
	}
	if o.HoldRequests == 0 {
		o.HoldRequests = 100_000
	}
	if o.HoldBytes == 0 {
		o.HoldBytes = 256 << 20
	}
	if o.MaxClients == 0 {
		o.MaxClients = 10_000
	}
	if o.OutputLimit == 0 {
		o.OutputLimit = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
