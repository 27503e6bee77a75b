package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// answer is what one agent tells another: its report, and where its redis-server listens.
type answer struct {
	failover.Report
	Addr string `json:"addr"`
}

// serveRPC answers the other agents on the unix socket until the returned func is called.
func (a *Agent) serveRPC(ctx context.Context) (func(), error) {
	if err := os.Remove(a.opts.RPC); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("agent %s: %w", a.opts.Self.Node, err)
	}
	l, err := net.Listen("unix", a.opts.RPC)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", a.opts.Self.Node, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/report", a.serveReport)
	mux.HandleFunc("GET /v1/position", a.servePosition)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	return func() { _ = server.Close(); <-done }, nil
}

// serveReport answers with this node's report. Asked about an epoch, it waits, as long as the asker
// allows, until this node has let go of that epoch or is plainly not fit.
func (a *Agent) serveReport(w http.ResponseWriter, r *http.Request) {
	epoch, _ := strconv.ParseUint(r.FormValue("epoch"), 10, 64)
	wait, _ := time.ParseDuration(r.FormValue("wait"))
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		newer := a.changed()
		v := a.view.Load()
		if v.report.Revoked >= cluster.Epoch(epoch) || !v.report.Fit || v.lead.Epoch > cluster.Epoch(epoch) {
			break
		}
		select {
		case <-newer:
			continue
		case <-limit.C:
		case <-r.Context().Done():
		}
		break
	}
	v := a.view.Load()
	a.writeJSON(w, answer{Report: v.report, Addr: v.status.Addr})
}

// servePosition answers with where redis-server is right now.
func (a *Agent) servePosition(w http.ResponseWriter, r *http.Request) {
	c, err := a.control(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	rep, err := c.Replication(r.Context())
	if err != nil {
		a.dropControl()
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	a.writeJSON(w, rep.Position)
}

func (a *Agent) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Debug("answer not sent", "error", err)
	}
}

// peers holds one HTTP client for each other agent.
type peers struct {
	mu      sync.Mutex
	clients map[cluster.NodeID]*http.Client
	addrs   map[string]cluster.NodeID // where each node's redis-server was last known to listen
}

func (a *Agent) client(node cluster.NodeID) *http.Client {
	a.peers.mu.Lock()
	defer a.peers.mu.Unlock()
	c := a.peers.clients[node]
	if c == nil {
		socket := a.opts.Peers[node]
		c = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
			MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
		}}
		a.peers.clients[node] = c
	}
	return c
}

// nodeAt names the node whose redis-server listens at addr; "" for nobody's.
func (a *Agent) nodeAt(addr string) cluster.NodeID {
	a.peers.mu.Lock()
	defer a.peers.mu.Unlock()
	return a.peers.addrs[addr]
}

// get asks another agent.
func (a *Agent) get(ctx context.Context, node cluster.NodeID, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	res, err := a.client(node).Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", node, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", node, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("ask %s: %w", node, err)
	}
	return nil
}

// askPeer asks one node for its report, and remembers where its redis-server listens.
func (a *Agent) askPeer(ctx context.Context, node cluster.NodeID, epoch cluster.Epoch, wait time.Duration) (answer, error) {
	var got answer
	sent := a.opts.Clock()
	q := url.Values{"epoch": {strconv.FormatUint(uint64(epoch), 10)}, "wait": {wait.String()}}
	if err := a.get(ctx, node, "/v1/report?"+q.Encode(), &got); err != nil {
		return answer{}, err
	}
	got.At = sent
	if got.Addr != "" {
		a.peers.mu.Lock()
		a.peers.addrs[got.Addr] = node
		a.peers.mu.Unlock()
	}
	return got, nil
}

// askPeers asks all others at once and returns the answers that came within the bound.
func (a *Agent) askPeers(ctx context.Context, epoch cluster.Epoch, bound time.Duration) []failover.Report {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var mu sync.Mutex
	var reports []failover.Report
	var wg sync.WaitGroup
	for _, n := range a.opts.Nodes {
		if n.Node == a.opts.Self.Node {
			continue
		}
		wg.Go(func() {
			// The asked node waits a little less than we do, so that its answer still counts.
			got, err := a.askPeer(ctx, n.Node, epoch, bound*4/5)
			if err != nil {
				a.log.Debug("no answer", "peer", n.Node, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, got.Report)
		})
	}
	wg.Wait()
	return reports
}

func (a *Agent) peerPosition(ctx context.Context, node cluster.NodeID) (cluster.Position, error) {
	var p cluster.Position
	err := a.get(ctx, node, "/v1/position", &p)
	return p, err
}

// control returns the connection that the looks share; it is made anew after an error.
func (a *Agent) control(ctx context.Context) (*redis.Control, error) {
	a.controlMu.Lock()
	defer a.controlMu.Unlock()
	if a.shared == nil {
		c, err := redis.Dial(ctx, a.socket())
		if err != nil {
			return nil, err
		}
		a.shared = c
	}
	return a.shared, nil
}

func (a *Agent) dropControl() {
	a.controlMu.Lock()
	defer a.controlMu.Unlock()
	if a.shared != nil {
		_ = a.shared.Close()
		a.shared = nil
	}
}
