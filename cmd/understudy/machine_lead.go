package main

import (
	"context"
	"time"

	"understudy/etcd"
)

// A zone that is cut off with a primary and the store's leader in it costs two elections, one after the
// other: the store must have a leader again before a group can have a primary. So the store's leader goes
// to a member in a zone without a primary, where there is one.

const (
	lookAtLead = 2 * time.Second
	// leadStays is how long it stays at least: a change of primary may be followed by the next.
	leadStays    = 10 * time.Second
	handLeadOver = time.Second
)

// watchLead keeps the store's lead away from primaries, as long as this machine's member has it.
func (m *machine) watchLead(ctx context.Context, e *etcd.Embedded) {
	for wait := lookAtLead; ctx.Err() == nil; {
		rest(ctx, wait)
		wait = lookAtLead
		z := m.host.Zones()
		if !e.Leads() || !z.Primary(m.config.Zone) {
			continue
		}
		bound, cancel := context.WithTimeout(ctx, handLeadOver)
		moved, err := e.HandOver(bound, z.Free)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			m.log.Warn("the store is led from a zone with a primary", "component", "agent", "error", err)
			wait = leadStays
		case moved:
			m.log.Info("the store is led from a zone without a primary now", "component", "agent")
			wait = leadStays
		}
	}
}
