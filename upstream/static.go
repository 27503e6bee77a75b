package upstream

import (
	"context"

	"understudy/cluster"
)

// static is a source that knows what it was told at the start.
type static struct{ list roster }

func newStatic(s Static) *static {
	x := &static{roster{atStart: true}}
	for i, addr := range append([]string{s.Primary}, s.Replicas...) {
		x.list.members = append(x.list.members, member{id: cluster.NodeID(addr), addr: addr, zone: s.Zones[addr], named: i == 0})
	}
	return x
}

func (s *static) run(ctx context.Context, w *Watcher) { w.tell(ctx, s.list) }

func (s *static) poke() {}
