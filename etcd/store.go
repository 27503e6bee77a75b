package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"understudy/cluster"
)

// Store is a cluster.Store in etcd v3. It speaks to one member at a time: to the first as long as that
// answers, else to the next that does, and after a while to the first again. One answer that is late does
// not make it change: on a busy machine that would break every watch, and make it busier.
type Store struct {
	clients []*clientv3.Client
	work    sync.WaitGroup
	memory  memory

	mu    sync.Mutex
	at    int           // the client in use
	late  int           // how many calls in a row had no answer from it in time
	moved chan struct{} // closed and replaced when that changes
	look  time.Time     // when the first is to be tried again
	trial bool          // it is being tried
}

var _ cluster.Store = (*Store)(nil)

// The bounds of changing from one member to another.
const (
	// attempt bounds a read at one member when the caller sets no deadline or a long one.
	attempt = 2 * time.Second
	// lateCalls is how many calls in a row a member may leave without an answer.
	lateCalls = 2
	// returnAfter is how long another member is used before the first is tried again.
	returnAfter = 5 * time.Second
	// trialWithin bounds that trial.
	trialWithin = 500 * time.Millisecond
)

// NewStore uses the clients, each of which speaks to one member, the preferred one first. Close closes
// them.
func NewStore(clients ...*clientv3.Client) *Store {
	return &Store{clients: clients, moved: make(chan struct{})}
}

// Close ends the clients.
func (s *Store) Close() error {
	var errs error
	for _, c := range s.clients {
		if err := c.Close(); !errors.Is(err, context.Canceled) {
			errs = errors.Join(errs, err)
		}
	}
	s.work.Wait()
	return errs
}

// client is the one in use, its number, and what is closed when it is no longer.
func (s *Store) client() (*clientv3.Client, int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != 0 && !s.trial && time.Now().After(s.look) {
		s.trial = true
		s.work.Go(s.tryFirst)
	}
	return s.clients[s.at], s.at, s.moved
}

// tryFirst goes back to the first member if that answers.
func (s *Store) tryFirst() {
	ctx, cancel := context.WithTimeout(context.Background(), trialWithin)
	defer cancel()
	_, err := s.first().Get(ctx, "/understudy/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial, s.look = false, time.Now().Add(returnAfter)
	if err == nil {
		s.use(0)
	}
}

// failed notes that member i did not carry a call out. One that cannot be reached is left at once.
func (s *Store) failed(i int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != i || len(s.clients) == 1 {
		return
	}
	if s.late++; s.late >= lateCalls || status.Code(err) == codes.Unavailable {
		s.look = time.Now().Add(returnAfter)
		s.use((i + 1) % len(s.clients))
	}
}

// worked notes that member i answers.
func (s *Store) worked(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == i {
		s.late = 0
	}
}

// leave goes on to the next member.
func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look = time.Now().Add(returnAfter)
	s.use((s.at + 1) % len(s.clients))
}

// all are the clients, the one in use first, and its number.
func (s *Store) all() (clients []*clientv3.Client, first int) {
	_, first, _ = s.client()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.clients[first:]), s.clients[:first]...), first
}

// replace puts a client in the place of another, and closes that.
func (s *Store) replace(i int, c *clientv3.Client) error {
	s.mu.Lock()
	old := s.clients[i]
	s.clients = slices.Clone(s.clients)
	s.clients[i] = c
	s.look = time.Time{} // the first may be used again at once, if it answers
	s.mu.Unlock()
	if err := old.Close(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// first is the preferred client.
func (s *Store) first() *clientv3.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[0]
}

// use changes the client in use. mu is held.
func (s *Store) use(i int) {
	s.at, s.late = i, 0
	close(s.moved)
	s.moved = make(chan struct{})
}

// List implements cluster.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	var err error
	clients, first := s.all()
	for n, client := range clients {
		i := (first + n) % len(clients)
		var r *clientv3.GetResponse
		bound, cancel := share(ctx, len(clients)-n)
		r, err = client.Get(bound, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		cancel()
		if err == nil {
			s.worked(i)
			entries := make([]cluster.Entry, 0, len(r.Kvs))
			for _, kv := range r.Kvs {
				entries = append(entries, entry(kv))
				s.memory.keep(entries[len(entries)-1])
			}
			return entries, r.Header.Revision, nil
		}
		s.failed(i, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, 0, fmt.Errorf("list %s: %w: %w", prefix, cluster.ErrUnavailable, err)
}

// share is ctx with this attempt's part of the time that is left for so many: half, as long as there are
// others to ask.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	bound := attempt
	if left == 1 {
		return context.WithCancel(ctx)
	}
	if deadline, ok := ctx.Deadline(); ok {
		bound = min(bound, time.Until(deadline)/2)
	}
	return context.WithTimeout(ctx, bound)
}

func entry(kv *mvccpb.KeyValue) cluster.Entry {
	e := cluster.Entry{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
	if e.Value == nil {
		e.Value = []byte{} // nil is kept for a deletion
	}
	return e
}

// Swap implements cluster.Store.
func (s *Store) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if ctx.Err() != nil {
		return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnavailable, ctx.Err())
	}
	then := clientv3.OpPut(key, string(value))
	if value == nil {
		then = clientv3.OpDelete(key)
	}
	var err error
	same := s.memory.unchanged(key, rev)
	clients, first := s.all()
	for n, client := range clients {
		i := (first + n) % len(clients)
		sent := &sending{}
		var r *clientv3.TxnResponse
		r, err = client.Txn(sent.track(ctx)).If(same...).Then(then).Commit()
		if err == nil {
			s.worked(i)
		}
		switch {
		case err == nil && r.Succeeded:
			s.memory.keep(cluster.Entry{Key: key, Value: value, Revision: r.Header.Revision})
			return r.Header.Revision, nil
		case err == nil:
			return 0, fmt.Errorf("swap %s at revision %d: %w", key, rev, cluster.ErrConflict)
		}
		s.failed(i, err)
		if !refused(err) && !sent.never() {
			return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnknownOutcome, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnavailable, err)
}

// refused reports whether the server said itself that it did not take the request. Everything else,
// a timeout above all, leaves the outcome open.
func refused(err error) bool {
	for _, known := range []error{rpctypes.ErrNoLeader, rpctypes.ErrNoSpace, rpctypes.ErrTooManyRequests,
		rpctypes.ErrPermissionDenied, rpctypes.ErrRequestTooLarge, rpctypes.ErrCorrupt} {
		if errors.Is(err, known) {
			return true
		}
	}
	code := status.Code(err)
	var said rpctypes.EtcdError // the client has put the server's own error in words
	if errors.As(err, &said) {
		code = said.Code()
	}
	switch code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

// Watch implements cluster.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) <-chan []cluster.Entry {
	out := make(chan []cluster.Entry)
	go func() {
		defer close(out)
		client, _, moved := s.client()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		// A member that has lost its leader, or does not answer any more, would tell nothing for ever.
		s.work.Go(func() {
			select {
			case <-moved:
				cancel()
			case <-ctx.Done():
			}
		})
		for r := range client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
			if r.Err() != nil {
				return
			}
			var entries []cluster.Entry
			for _, e := range r.Events {
				x := entry(e.Kv)
				if e.Type == clientv3.EventTypeDelete {
					x.Value = nil
				}
				s.memory.keep(x)
				entries = append(entries, x)
			}
			if len(entries) == 0 {
				continue
			}
			select {
			case out <- entries:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
