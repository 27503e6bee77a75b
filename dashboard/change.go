package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"time"

	"understudy/atomicfile"
	"understudy/cluster"
)

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
	case (e.Name == "serving" || e.Name == "primary_changed") && (d.change == nil || e.Epoch >= d.change.Epoch):
		d.timed(e)
	}
}

// timed ends the change under way with the event that says that the new primary serves.
func (d *Dashboard) timed(e cluster.Event) {
	c := d.changeOf(e.Epoch)
	c.To, c.PhasesMs = e.Node, e.Phases
	total := 0.0
	for _, ms := range e.Phases {
		total += ms
	}
	c.DurationMs, c.Started = total, e.Time.Add(-milliseconds(total))
	if b := d.begun; !b.Time.IsZero() && b.Epoch < e.Epoch {
		c.Started = b.Time.Add(-milliseconds(e.Phases["detect"]))
		c.DurationMs = float64(e.Time.Sub(c.Started).Microseconds()) / 1000
	}
	d.begun = cluster.Event{}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// follow keeps the primary's log, and what a new one's lacks of it. The caller holds mu.
func (d *Dashboard) follow(s cluster.NodeStatus) {
	if s.Epoch < d.led.epoch {
		return
	}
	switch old := d.led; {
	case s.Epoch == old.epoch || old.epoch == 0:
	case s.Node == old.node && s.Fork.ReplID == old.position.ReplID:
		d.counts.falseAlarms++ // its log goes on: nothing changed but the number
	default:
		c := d.changeOf(s.Epoch)
		c.To = s.Node
		if s.Fork.Parent == old.position.ReplID && s.Fork.ReplID != old.position.ReplID {
			c.LostBytes = max(0, old.position.Offset-s.Fork.At)
		}
	}
	d.led = led{node: s.Node, epoch: s.Epoch, position: s.Position}
}

// changeOf is the record of the change to epoch: what is told of it comes from several sides, in
// any order.
func (d *Dashboard) changeOf(e cluster.Epoch) *cluster.Change {
	if d.change == nil || d.change.Epoch != e {
		d.retire()
		d.change = &cluster.Change{Epoch: e}
	}
	return d.change
}

// retire keeps the change that a newer one replaces. The caller holds mu.
func (d *Dashboard) retire() {
	if c := d.told(); c != nil {
		d.kept[c.Kind] = c
	}
}

// changes are the newest of each kind, with what the lead record says of them. The caller holds mu.
func (d *Dashboard) changes() map[string]*cluster.Change {
	all := maps.Clone(d.kept)
	if c := d.told(); c != nil {
		all[c.Kind] = c
	}
	return all
}

// lastChange is the newest change; nil when there has been none. The caller holds mu.
func (d *Dashboard) lastChange() *cluster.Change {
	var last *cluster.Change
	for _, c := range d.changes() {
		if last == nil || c.Started.After(last.Started) {
			last = c
		}
	}
	return last
}

// told is the change that this process has seen, once all is known of it; nil before, and when it was
// only a start. The caller holds mu.
func (d *Dashboard) told() *cluster.Change {
	if d.change == nil || d.change.Started.IsZero() {
		return nil
	}
	if d.change.Kind == "" {
		for _, n := range d.group().nodes {
			if l := n.Knows().Store.Lead; l.Epoch == d.change.Epoch {
				d.change.Kind, d.change.Cause, d.change.From = l.Kind, l.Cause, l.From
				if l.LostBytes != 0 { // an operator accepted it
					d.change.LostBytes = l.LostBytes
				}
			}
		}
	}
	if d.change.Kind == "" || d.change.Kind == cluster.KindStart {
		return nil
	}
	c := *d.change
	return &c
}

// loadChanges reads the newest changes that an earlier process kept.
func (d *Dashboard) loadChanges() error {
	if d.opts.ChangeFile == "" {
		return nil
	}
	text, err := os.ReadFile(d.opts.ChangeFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var kept map[string]*cluster.Change
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", d.opts.ChangeFile, err)
	}
	for kind, c := range kept {
		if c != nil {
			d.kept[kind] = c
		}
	}
	return nil
}

// keepChanges writes each change of primary to ChangeFile until ctx ends, and once more then.
func (d *Dashboard) keepChanges(ctx context.Context) {
	if d.opts.ChangeFile == "" {
		return
	}
	d.mu.Lock()
	on := maps.Clone(d.kept)
	d.mu.Unlock()
	for ended := false; ; {
		d.mu.Lock()
		now, news := d.changes(), d.whenNews
		d.mu.Unlock()
		if !reflect.DeepEqual(now, on) {
			if err := writeChanges(d.opts.ChangeFile, now); err != nil {
				d.log.Warn("the last failover is not kept over a restart", "error", err)
			}
			on = now
		}
		if ended {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			ended = true
		}
	}
}

// writeChanges puts the file there whole or not at all.
func writeChanges(path string, changes map[string]*cluster.Change) error {
	text, err := json.MarshalIndent(changes, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(text, '\n'), 0o600)
}
