package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"understudy/cluster"
)

// Store is a cluster.Store in etcd v3.
type Store struct{ client *clientv3.Client }

var _ cluster.Store = (*Store)(nil)

// NewStore uses the client; whoever made it closes it.
func NewStore(c *clientv3.Client) *Store { return &Store{client: c} }

// List implements cluster.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	r, err := s.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w: %w", prefix, cluster.ErrUnavailable, err)
	}
	entries := make([]cluster.Entry, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		entries = append(entries, entry(kv))
	}
	return entries, r.Header.Revision, nil
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
	r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(then).Commit()
	switch {
	case err == nil && r.Succeeded:
		return r.Header.Revision, nil
	case err == nil:
		return 0, fmt.Errorf("swap %s at revision %d: %w", key, rev, cluster.ErrConflict)
	case refused(err):
		return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnavailable, err)
	default:
		return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnknownOutcome, err)
	}
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
	switch status.Code(err) {
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
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for r := range s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
			if r.Err() != nil {
				return
			}
			var entries []cluster.Entry
			for _, e := range r.Events {
				x := entry(e.Kv)
				if e.Type == clientv3.EventTypeDelete {
					x.Value = nil
				}
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
