package sns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/cluster"
)

const (
	topicPrefix        = "/understudy/aws/sns/topics/"
	subscriptionPrefix = "/understudy/aws/sns/subscriptions/"
)

// topic is a topic's record.
type topic struct {
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Deleted    int               `json:"deleted_subscriptions,omitempty"`
}

// subscription is a subscription's record.
type subscription struct {
	ID       string    `json:"id"`
	Topic    string    `json:"topic"` // its name
	Protocol string    `json:"protocol"`
	Endpoint string    `json:"endpoint"`
	Created  time.Time `json:"created"`
	Pending  bool      `json:"pending,omitempty"`
	Token    string    `json:"token,omitempty"`  // confirms it
	Signed   bool      `json:"signed,omitempty"` // the confirmation was: only its owner may end it
	// Removed: whoever has the token may bring it back for a while.
	Removed    time.Time         `json:"removed,omitzero"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (x subscription) key() string { return subscriptionPrefix + x.Topic + "/" + x.ID }

// tokenFor is how long a token is good, and how long AWS keeps a subscription that nobody confirms.
const tokenFor = 3 * 24 * time.Hour

// over reports whether nobody sees the record any more.
func (x subscription) over(now time.Time) bool {
	return x.Pending && now.Sub(x.Created) > tokenFor || !x.Removed.IsZero() && now.Sub(x.Removed) > tokenFor
}

// records are in the store. Several processes may write them, each against the revision that it read.
type records struct{ store cluster.Store }

// storeWithin bounds one call of the store; attempts bounds how often a change that met another is made again.
const (
	storeWithin = 2 * time.Second
	attempts    = 10
)

// errNone: there is no such record.
var errNone = errors.New("there is no record of that name")

// list reads the records whose keys have the prefix, in their order.
func list[T any](ctx context.Context, r records, prefix string) (all []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := r.store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("read %s of the store: %w", prefix, err)
	}
	for _, e := range entries {
		var v T
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return nil, fmt.Errorf("read %s: no record of this version: %w", e.Key, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// get reads one record. Errors: errNone.
func get[T any](ctx context.Context, r records, key string) (v T, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := r.store.List(ctx, key)
	if err != nil {
		return v, 0, fmt.Errorf("read %s of the store: %w", key, err)
	}
	for _, e := range entries {
		if e.Key != key {
			continue
		}
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return v, 0, fmt.Errorf("read %s: no record of this version: %w", key, err)
		}
		return v, e.Revision, nil
	}
	return v, 0, fmt.Errorf("%s: %w", key, errNone)
}

// change has f change a record, and writes it unless f returns an error, which is change's then. made is the record where
// there is none; nil: that is errNone.
func change[T any](ctx context.Context, r records, key string, made *T, f func(*T) error) (v T, err error) {
	for range attempts {
		v, revision, err := get[T](ctx, r, key)
		if errors.Is(err, errNone) && made != nil {
			v, err = *made, nil
		}
		if err != nil {
			return v, err
		}
		if err := f(&v); err != nil {
			return v, err
		}
		if err := r.put(ctx, key, v, revision); !again(err) {
			return v, err
		}
	}
	return v, fmt.Errorf("write %s: others change it all the time: %w", key, cluster.ErrConflict)
}

// again reports whether to read the record and change it once more: what is not known shows then.
func again(err error) bool {
	return errors.Is(err, cluster.ErrConflict) || errors.Is(err, cluster.ErrUnknownOutcome)
}

func (r records) put(ctx context.Context, key string, v any, revision int64) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// What was begun is written though the client has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWithin)
	defer cancel()
	if _, err := r.store.Swap(ctx, key, text, revision); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// remove takes a record away; one that is not there is no error.
func (r records) remove(ctx context.Context, key string) error {
	for range attempts {
		_, revision, err := get[json.RawMessage](ctx, r, key)
		if errors.Is(err, errNone) {
			return nil
		}
		if err != nil {
			return err
		}
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWithin)
		_, err = r.store.Swap(bound, key, nil, revision)
		cancel()
		if !again(err) {
			return err
		}
	}
	return fmt.Errorf("remove %s: others change it all the time: %w", key, cluster.ErrConflict)
}
