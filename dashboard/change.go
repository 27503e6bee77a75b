package dashboard

import (
	"time"

	"understudy/cluster"
)

// Change is one change of primary: a failover or a switchover.
type Change struct {
	Epoch   cluster.Epoch  `json:"epoch"` // the new one
	Kind    string         `json:"kind"`  // "failover" or "switchover"
	Cause   string         `json:"cause"`
	From    cluster.NodeID `json:"from"`
	To      cluster.NodeID `json:"to"`
	Started time.Time      `json:"started"` // when it was noticed, less the time that noticing took
	// Duration runs from Started until the new primary accepts writes, in milliseconds.
	Duration float64            `json:"duration_ms"`
	Phases   map[string]float64 `json:"phases_ms"`
	// LostBytes is how much of the old primary's log, as far as it was heard of, is not in the new
	// one's. In sync none of it was acked.
	LostBytes int64 `json:"lost_bytes"`
}

// begins names the events that begin a change of primary.
var begins = map[string]bool{
	"primary_lost": true, "primary_hung": true, "fencing": true, "lead_vacant": true, "switchover_started": true,
}

// timeChange keeps when a change of primary began and how long it took. The caller holds mu.
func (d *Dashboard) timeChange(e cluster.Event) {
	switch {
	case begins[e.Name]:
		if d.begun.Time.IsZero() || e.Epoch > d.begun.Epoch {
			d.begun = e
		}
	case e.Name == "switchover_aborted":
		d.begun = cluster.Event{}
	case e.Name == "serving" && (d.change == nil || e.Epoch >= d.change.Epoch):
		d.timed(e)
	}
}

// timed ends the change under way with the event that says that the new primary serves.
func (d *Dashboard) timed(e cluster.Event) {
	c := d.changeOf(e.Epoch)
	c.To, c.Phases = e.Node, e.Phases
	total := 0.0
	for _, ms := range e.Phases {
		total += ms
	}
	c.Duration, c.Started = total, e.Time.Add(-milliseconds(total))
	if b := d.begun; !b.Time.IsZero() && b.Epoch < e.Epoch {
		c.Started = b.Time.Add(-milliseconds(e.Phases["detect"]))
		c.Duration = float64(e.Time.Sub(c.Started).Microseconds()) / 1000
	}
	d.begun = cluster.Event{}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// follow keeps the primary's log, and what a new one's lacks of it. The caller holds mu.
func (d *Dashboard) follow(s cluster.NodeStatus) {
	if s.Epoch < d.led.epoch {
		return
	}
	if old := d.led; s.Epoch > old.epoch && old.epoch > 0 {
		c := d.changeOf(s.Epoch)
		c.To = s.Node
		if s.Fork.Parent == old.position.ReplID && s.Fork.ReplID != old.position.ReplID {
			c.LostBytes = max(0, old.position.Offset-s.Fork.At)
		}
	}
	d.led = led{epoch: s.Epoch, position: s.Position}
}

// changeOf is the record of the change to epoch: what is told of it comes from several sides, in
// any order.
func (d *Dashboard) changeOf(e cluster.Epoch) *Change {
	if d.change == nil || d.change.Epoch != e {
		d.change = &Change{Epoch: e}
	}
	return d.change
}

// lastChange is the newest change with what the lead record says of it; nil when there is none, or
// when it was the group's first start. The caller holds mu.
func (d *Dashboard) lastChange() *Change {
	if d.change == nil || d.change.Started.IsZero() {
		return nil
	}
	if d.change.Kind == "" {
		for _, n := range d.opts.Nodes {
			if l := n.Lead(); l.Epoch == d.change.Epoch {
				d.change.Kind, d.change.Cause, d.change.From = l.Kind, l.Cause, l.From
			}
		}
	}
	if d.change.Kind == "" || d.change.Kind == cluster.KindStart {
		return nil
	}
	c := *d.change
	return &c
}
