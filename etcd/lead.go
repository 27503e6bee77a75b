package etcd

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Leads reports whether this member leads the store.
func (e *Embedded) Leads() bool { return leads(e.run()) }

func leads(x *embed.Etcd) bool { return x.Server.Leader() == x.Server.MemberID() }

// HandOver has another member lead the store, the first, by name, that may. It reports whether there was
// one; when this member does not lead there is nothing to do. Its users notice nothing but a call that
// takes a few milliseconds longer.
func (e *Embedded) HandOver(ctx context.Context, may func(member string) bool) (bool, error) {
	x := e.run()
	if e.opts.Membership == nil || !leads(x) {
		return false, nil
	}
	for _, m := range x.Server.Cluster().Members() { // sorted by their ids
		if m.ID == x.Server.MemberID() || m.IsLearner || !may(m.Name) || !e.answers(ctx, m.Name) {
			continue
		}
		if err := x.Server.MoveLeader(ctx, uint64(x.Server.MemberID()), uint64(m.ID)); err != nil {
			return false, fmt.Errorf("hand the store's lead to member %s: %w", m.Name, err)
		}
		return true, nil
	}
	return false, nil
}

// reachWithin bounds the look at a member before it is given the lead.
const reachWithin = 200 * time.Millisecond

// answers reports whether a member can be reached now. While the lead is on its way to one that is gone the
// store takes nothing, for as long as an election lasts.
func (e *Embedded) answers(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.opts.Membership.Members[name].Peer)
	return err == nil && c.Close() == nil
}
