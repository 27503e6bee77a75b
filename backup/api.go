package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
)

// API is the archive over HTTP:
//
//	GET    /api/backups?group=G&all=1    a list of Backup; all: with those that are not there yet, or were not made
//	GET    /api/backups/ID               Backup
//	POST   /api/backups                  Ask{Group, ID}: makes one
//	POST   /api/backups/ID/verify        reads it again
//	POST   /api/backups/ID/restore       RestoreAsk: makes a group of it
//	DELETE /api/backups/ID
//
// What takes longer than a few seconds is answered 202, Outcome.Done false: the same request, with the same
// RequestID, is then made again until it is done. It goes on whether or not anybody asks.
type API struct {
	opts APIOptions
	log  *slog.Logger

	ctx  context.Context // of the jobs
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	jobs  map[string]*job
	order []string // their ids, oldest first
}

// APIOptions say over what. Archive and Source are needed.
type APIOptions struct {
	Archive *Archive
	Source  Source
	Home    string // the group of which a backup is made when none is named
	// Restore makes a group of a backup, whole or not at all; nil: nobody can here.
	Restore func(context.Context, RestoreAsk) (cluster.Endpoints, error)
	Logger  *slog.Logger
}

// Ask is a request for something that takes a while.
type Ask struct {
	// RequestID: repeated under it, a request is answered again and does nothing. "": one that is not repeated.
	RequestID string `json:"request_id,omitempty"`
	ID        string `json:"id,omitempty"`
	Group     string `json:"group,omitempty"`
}

// RestoreAsk says which group is to be made of a backup.
type RestoreAsk struct {
	Ask            // Group is the new one's name
	Nodes int      `json:"nodes,omitempty"` // 0: as many as the group had
	Zones []string `json:"zones,omitempty"` // none: those of the nodes of the group
	Port  int      `json:"port,omitempty"`  // of its primary endpoint; 0: the next one that is free
}

// Outcome answers a request.
type Outcome struct {
	Done      bool               `json:"done"`
	OK        bool               `json:"ok"`
	Refused   bool               `json:"refused,omitempty"` // nothing was done
	Invalid   bool               `json:"invalid,omitempty"` // the request makes no sense
	Message   string             `json:"message"`
	Backup    *Backup            `json:"backup,omitempty"`
	Group     string             `json:"group,omitempty"`     // that was made of it
	Endpoints *cluster.Endpoints `json:"endpoints,omitempty"` // its
}

// job is a request under way, or its outcome.
type job struct {
	asks    string // what was asked for
	done    chan struct{}
	outcome Outcome
}

// Bounds of the API.
const (
	answerWithin = 20 * time.Second // a request that takes longer is answered as being under way
	keepJobs     = 64
	maxBody      = 16 << 10
)

// NewAPI returns one that serves; see Run.
func NewAPI(o APIOptions) *API {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: o, log: o.Logger.With("component", "backup"), jobs: map[string]*job{}}
	a.ctx, a.end = context.WithCancel(context.Background())
	return a
}

// Run lets requests be carried out until ctx ends; it returns when nothing of them is under way any more.
func (a *API) Run(ctx context.Context) error {
	<-ctx.Done()
	a.mu.Lock() // none begins from here on
	a.end()
	a.mu.Unlock()
	a.work.Wait()
	return nil
}

// Handler serves the paths above.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/backups", a.serveList)
	mux.HandleFunc("GET /api/backups/{id}", a.serveGet)
	mux.HandleFunc("POST /api/backups", a.serveCreate)
	mux.HandleFunc("POST /api/backups/{id}/verify", a.serveVerify)
	mux.HandleFunc("POST /api/backups/{id}/restore", a.serveRestore)
	mux.HandleFunc("DELETE /api/backups/{id}", a.serveDelete)
	// A page that an operator's browser happens to show must not be able to delete backups.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (a *API) serveList(w http.ResponseWriter, r *http.Request) {
	list := []Backup{}
	for _, b := range a.opts.Archive.List(r.URL.Query().Get("group")) {
		if b.Whole() || r.URL.Query().Get("all") != "" {
			list = append(list, b)
		}
	}
	a.write(w, http.StatusOK, list)
}

func (a *API) serveGet(w http.ResponseWriter, r *http.Request) {
	b, err := a.opts.Archive.Get(r.PathValue("id"))
	if err != nil {
		a.answer(w, failed(err))
		return
	}
	a.answer(w, Outcome{Done: true, OK: true, Backup: &b})
}

func (a *API) serveCreate(w http.ResponseWriter, r *http.Request) {
	var ask Ask
	if !a.read(w, r, &ask) {
		return
	}
	ask.Group = cmp.Or(ask.Group, a.opts.Home)
	a.do(w, r, ask.RequestID, ask, func(ctx context.Context) Outcome {
		if _, err := a.opts.Source.DataSize(ctx, ask.Group); err != nil { // no such group, or none that answers
			return failed(err)
		}
		work, err := a.opts.Archive.Begin(Request{ID: ask.ID, Group: ask.Group}, a.opts.Source)
		if err != nil {
			return failed(err)
		}
		b, err := work.Do(ctx)
		if err != nil {
			return failed(err)
		}
		return Outcome{Done: true, OK: true, Backup: &b, Message: fmt.Sprintf("%s: %d keys of %s in %d bytes, written by the %s %s, verified", b.ID, b.Keys, b.Group, b.Bytes, b.Role, b.Node)}
	})
}

func (a *API) serveVerify(w http.ResponseWriter, r *http.Request) {
	var ask Ask
	if !a.read(w, r, &ask) {
		return
	}
	ask.ID = r.PathValue("id")
	a.do(w, r, ask.RequestID, ask, func(ctx context.Context) Outcome {
		b, err := a.opts.Archive.Verify(ctx, ask.ID)
		if err != nil {
			return failed(err)
		}
		return Outcome{Done: true, OK: true, Backup: &b, Message: fmt.Sprintf("%s: %d bytes as they were written, %d keys", b.ID, b.Bytes, b.Keys)}
	})
}

func (a *API) serveRestore(w http.ResponseWriter, r *http.Request) {
	var ask RestoreAsk
	if !a.read(w, r, &ask) {
		return
	}
	ask.ID = r.PathValue("id")
	a.do(w, r, ask.RequestID, ask, func(ctx context.Context) Outcome {
		if a.opts.Restore == nil {
			return Outcome{Done: true, Refused: true, Message: "this process cannot make groups"}
		}
		b, err := a.opts.Archive.Get(ask.ID)
		if err != nil {
			return failed(err)
		}
		e, err := a.opts.Restore(ctx, ask)
		if err != nil {
			return failed(err)
		}
		return Outcome{Done: true, OK: true, Backup: &b, Group: ask.Group, Endpoints: &e,
			Message: fmt.Sprintf("group %s has the %d keys of %s: primary=%s reader=%s split=%s", ask.Group, b.Keys, b.ID, e.Primary, e.Reader, e.Split)}
	})
}

func (a *API) serveDelete(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := a.opts.Archive.Delete(id); err != nil {
		a.answer(w, failed(err))
		return
	}
	a.answer(w, Outcome{Done: true, OK: true, Message: id + " is deleted"})
}

// failed is the outcome of an error.
func failed(err error) Outcome {
	o := Outcome{Done: true, Message: err.Error()}
	for _, said := range []error{ErrRequest, cluster.ErrRefused} { // what the members say, too
		o.Message = strings.ReplaceAll(o.Message, said.Error()+": ", "")
	}
	switch {
	case errors.Is(err, ErrName), errors.Is(err, ErrRequest):
		o.Invalid = true
	case errors.Is(err, ErrExists), errors.Is(err, ErrState), errors.Is(err, ErrRoom), errors.Is(err, ErrBusy), errors.Is(err, cluster.ErrRefused):
		o.Refused = true
	}
	return o
}

// ErrRequest: a request makes no sense; whoever carries it out wraps it.
var ErrRequest = errors.New("the request makes no sense")

// do carries a request out, or joins the one that was made before under its id, and answers.
func (a *API) do(w http.ResponseWriter, r *http.Request, id string, ask any, f func(context.Context) Outcome) {
	text, err := json.Marshal(ask)
	if err != nil {
		a.answer(w, failed(err))
		return
	}
	j, err := a.start(id, r.URL.Path+" "+string(text), f)
	if err != nil {
		a.answer(w, failed(err))
		return
	}
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	select {
	case <-j.done:
		a.answer(w, j.outcome)
	case <-limit.C:
		a.answer(w, Outcome{Message: "under way"})
	case <-r.Context().Done():
	}
}

// start begins a job, or finds the one of that id.
func (a *API) start(id, asks string, f func(context.Context) Outcome) (*job, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j := a.jobs[id]; j != nil && id != "" {
		if j.asks != asks {
			return nil, fmt.Errorf("request_id %s was used for another request: %w", id, ErrRequest)
		}
		return j, nil
	}
	if a.ctx.Err() != nil {
		return nil, errors.New("the process is stopping")
	}
	j := &job{asks: asks, done: make(chan struct{})}
	if id != "" {
		a.jobs[id] = j
		a.order = append(a.order, id)
		a.forget()
	}
	a.work.Go(func() {
		defer close(j.done)
		j.outcome = f(a.ctx)
		if o := j.outcome; !o.OK && !o.Refused && !o.Invalid {
			a.log.Warn("a request about backups failed", "error", j.outcome.Message)
		}
	})
	return j, nil
}

// forget drops the oldest outcomes. mu is held.
func (a *API) forget() {
	for i := 0; i < len(a.order) && len(a.order) > keepJobs; {
		select {
		case <-a.jobs[a.order[i]].done:
			delete(a.jobs, a.order[i])
			a.order = append(a.order[:i:i], a.order[i+1:]...)
		default:
			i++ // still under way
		}
	}
}

// read decodes the body; an empty one asks for nothing in particular.
func (a *API) read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		a.answer(w, Outcome{Done: true, Invalid: true, Message: "the body is not the JSON that is taken here: " + err.Error()})
		return false
	}
	return true
}

func (a *API) answer(w http.ResponseWriter, o Outcome) {
	code := http.StatusOK
	switch {
	case !o.Done:
		code = http.StatusAccepted
	case o.Invalid:
		code = http.StatusBadRequest
	case o.Refused:
		code = http.StatusConflict
	case !o.OK:
		code = http.StatusBadGateway
	}
	a.write(w, code, o)
}

func (a *API) write(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		a.log.Debug("an answer was not read", "error", err)
	}
}
