package dashboard

import (
	"fmt"
	"sync"
)

// remembered bounds the answers that are kept for repeated requests: as many as a node keeps.
const remembered = 64

// maxRequestID bounds a request's id: what nodes take, with a mark that sets operators' apart.
const maxRequestID = 60

// requests remembers how requests with an id were answered, so that one that is repeated, because its
// answer was lost or its sender is not sure, does nothing again. It outlives a change of primary, which
// what a node remembers does not.
type requests struct {
	mu    sync.Mutex
	known map[string]*request
	order []string // ids, oldest first
}

// request is one that was made, and how it was answered.
type request struct {
	asks    any           // what it asked for
	done    chan struct{} // closed when outcome is there
	outcome Outcome
}

func newRequests() requests { return requests{known: map[string]*request{}} }

// answer returns the outcome of the request with this id: of do, or, when the same was asked before, the
// one from then. A request that was refused changed nothing, and may be made again. The id "" is none.
func (r *requests) answer(id string, asks any, do func() Outcome) Outcome {
	if id == "" {
		return do()
	}
	if len(id) > maxRequestID {
		return Outcome{Invalid: true, Message: fmt.Sprintf("request_id: at most %d bytes are an id", maxRequestID)}
	}
	r.mu.Lock()
	old, ok := r.known[id]
	if !ok {
		old = &request{asks: asks, done: make(chan struct{})}
		r.known[id] = old
		r.order = append(r.order, id)
	}
	r.mu.Unlock()
	if !ok {
		old.outcome = do()
		r.end(id, old)
		return old.outcome
	}
	if old.asks != asks {
		return Outcome{Invalid: true, Message: "request_id " + id + " was used for another request: give each its own"}
	}
	<-old.done
	return old.outcome
}

// end makes the outcome known and forgets what need not be remembered.
func (r *requests) end(id string, q *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(q.done)
	if q.outcome.Refused || q.outcome.Invalid {
		r.forget(id)
	}
	for _, oldest := range r.order {
		if len(r.order) <= remembered {
			break
		}
		select {
		case <-r.known[oldest].done:
			r.forget(oldest)
		default: // still under way
		}
	}
}

// forget drops an id. The caller holds mu.
func (r *requests) forget(id string) {
	delete(r.known, id)
	kept := r.order[:0:0]
	for _, x := range r.order {
		if x != id {
			kept = append(kept, x)
		}
	}
	r.order = kept
}
