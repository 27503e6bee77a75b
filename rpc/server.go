package rpc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

// ServerOptions say how a Server behaves; the zero value works.
type ServerOptions struct {
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: nobody counts
}

// Server answers for the nodes of one process.
type Server struct {
	log      *slog.Logger
	answered *prometheus.CounterVec

	mu    sync.RWMutex
	nodes map[cluster.NodeID]Node
}

// The bounds of a server.
const (
	headerWithin = 2 * time.Second
	readWithin   = 5 * time.Second
	idleWithin   = time.Minute
	endWithin    = 500 * time.Millisecond // what answers under way get when the server ends
)

// NewServer returns a server that speaks for nobody yet.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{log: o.Logger.With("component", "rpc"), answered: answered(o.Metrics), nodes: map[cluster.NodeID]Node{}}
}

// Register has the server pass on what is asked of node, until the returned func is called.
func (s *Server) Register(node cluster.NodeID, n Node) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[node] = n
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.nodes[node] == n {
			delete(s.nodes, node)
		}
	}
}

func (s *Server) node(name string) Node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.nodes[cluster.NodeID(name)]
}

// Serve answers on l until ctx ends; it closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerWithin, ReadTimeout: readWithin, IdleTimeout: idleWithin,
		MaxHeaderBytes: 8 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// HTTP/1.1: one question a connection, so that a broken one costs one question.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("rpc on %s: %w", AddrOf(l), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	<-failed
	return nil
}

// Handler serves the paths of this package; each question names its node.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/report", s.serve("report", report))
	mux.HandleFunc("GET /v1/position", s.serve("position", position))
	mux.HandleFunc("GET /v1/status", s.serve("status", word))
	mux.HandleFunc("POST /v1/request", s.serve("request", request))
	mux.HandleFunc("POST /v1/kill", s.serve("kill", kill))
	return mux
}

// badRequest is an error of the asker.
type badRequest struct{ error }

// serve answers one kind of question in JSON.
func (s *Server) serve(kind string, answer func(w http.ResponseWriter, r *http.Request, n Node) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		name := r.URL.Query().Get("node")
		n := s.node(name)
		if n == nil {
			s.answered.WithLabelValues(kind, outcomeRefused).Inc()
			http.Error(w, fmt.Sprintf("node %.*q does not run here", maxName, name), http.StatusNotFound)
			return
		}
		v, err := answer(w, r, n)
		var bad badRequest
		switch {
		case errors.As(err, &bad):
			s.answered.WithLabelValues(kind, outcomeRefused).Inc()
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case err != nil:
			s.answered.WithLabelValues(kind, outcomeFailed).Inc()
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		s.answered.WithLabelValues(kind, outcomeOK).Inc()
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.log.Debug("answer not sent", "error", err)
		}
	}
}

// held tells the asker that the question has arrived and that the answer takes its time: an asker who
// hears nothing at all takes the connection for dead.
func held(w http.ResponseWriter) { w.WriteHeader(http.StatusProcessing) }

func report(w http.ResponseWriter, r *http.Request, n Node) (any, error) {
	q := r.URL.Query()
	epoch, err := number(q.Get("epoch"))
	if err != nil {
		return nil, err
	}
	wait, err := waiting(q.Get("wait"))
	if err != nil {
		return nil, err
	}
	if epoch > 0 && wait > 0 {
		held(w)
	}
	return n.Report(r.Context(), cluster.Epoch(epoch), wait)
}

func position(_ http.ResponseWriter, r *http.Request, n Node) (any, error) {
	return n.Position(r.Context())
}

func word(w http.ResponseWriter, r *http.Request, n Node) (any, error) {
	q := r.URL.Query()
	var after After
	var err error
	if after.Version, err = number(q.Get("after")); err != nil {
		return nil, err
	}
	if after.Events, err = number(q.Get("events")); err != nil {
		return nil, err
	}
	if after.Wait, err = waiting(q.Get("wait")); err != nil {
		return nil, err
	}
	if after.Wait > 0 {
		held(w)
	}
	return n.Word(r.Context(), after)
}

func request(w http.ResponseWriter, r *http.Request, n Node) (any, error) {
	var a ask
	if err := decode(r.Body, &a); err != nil {
		return nil, err
	}
	asked, err := a.request()
	if err != nil {
		return nil, badRequest{err}
	}
	held(w)
	return n.Request(r.Context(), asked)
}

func kill(w http.ResponseWriter, r *http.Request, n Node) (any, error) {
	var k Kill
	if err := decode(r.Body, &k); err != nil {
		return nil, err
	}
	if k.ID == "" || len(k.ID) > maxName || k.Epoch == 0 {
		return nil, badRequest{errors.New("a kill needs an id and the epoch of the primary that it means")}
	}
	held(w)
	return n.Kill(r.Context(), k)
}

func decode(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest{fmt.Errorf("the body is not the JSON that is taken here: %w", err)}
	}
	return nil
}

// number parses a counter; "" is 0.
func number(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, badRequest{fmt.Errorf("%.32q is no number", s)}
	}
	return n, nil
}

// waiting parses how long an answer may be held; "" is not at all.
func waiting(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, badRequest{fmt.Errorf("%.32q is no time to wait", s)}
	}
	return min(d, MaxWait), nil
}
