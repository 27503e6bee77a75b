package upstream

import (
	"sync/atomic"
	"testing"

	"understudy/cluster"
)

// A password that changes is asked for with each connection, and what proxies are told follows it.
func TestThePasswordOfNowIsUsed(t *testing.T) {
	var now atomic.Value
	now.Store("first")
	o := Options{Password: "as it was", Access: cluster.Access{User: "default", Password: "as it was"}}
	if got := current(o.Password, o.PasswordNow); got != "as it was" || o.access().Password != "as it was" {
		t.Errorf("without a func: %q, %+v", got, o.access())
	}
	o.PasswordNow = func() string { return now.Load().(string) }
	now.Store("second")
	if got := current(o.Password, o.PasswordNow); got != "second" || o.access() != (cluster.Access{User: "default", Password: "second"}) {
		t.Errorf("after the change: %q, %+v", got, o.access())
	}
	o.Access = cluster.Access{} // nothing is lent: nothing is told
	if o.access() != (cluster.Access{}) {
		t.Errorf("%+v is told", o.access())
	}
}
