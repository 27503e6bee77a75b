package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"understudy/history"
)

// loss is one crash of an async primary: what its clients had been told and is gone, beside what the
// group says that it lost.
type loss struct {
	Writes   int   `json:"lost_writes"`    // acked and absent
	Bytes    int64 `json:"lost_bytes"`     // what these take in the log
	Reported int64 `json:"reported_bytes"` // by the status: of the log, acked or not
	Acked    int   `json:"acked"`
}

// measureLoss crashes the primary of an async group under load, again and again.
func (b *bench) measureLoss(ctx context.Context) (err error) {
	g, err := b.startGroup(ctx, "async")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	for round := range b.rounds {
		e := event{Fault: "crash", Peer: g.name(), Round: round + 1}
		if err := b.happen(ctx, g, &e); err != nil {
			return errors.Join(err, g.lost())
		}
		s, err := g.status(ctx)
		if err != nil {
			return err
		}
		if s.LastFailover == nil {
			return errors.New("the status says nothing of the failover")
		}
		l := loss{Writes: e.Lost, Bytes: e.LostBytes, Reported: s.LastFailover.LostBytes, Acked: e.Acked}
		b.report.Losses = append(b.report.Losses, l)
		b.say("round %d of %d: %d of %d acked writes lost, %d bytes of the log; reported %d bytes", round+1, b.rounds, l.Writes, l.Acked, l.Bytes, l.Reported)
	}
	return nil
}

// lostBytes is what acked writes that are absent take in a replication log.
func lostBytes(ops []history.Op, data history.Data) int64 {
	n := 0
	for _, o := range ops {
		if o.Outcome == history.OK && o.Kind == history.Set && data.Registers[o.Key] == "" {
			n += inLog("SET", o.Key, o.Value)
		}
	}
	return int64(n)
}

// inLog is the size of a command in a replication log: an array of bulk strings.
func inLog(words ...string) int {
	n := len("*\r\n") + len(strconv.Itoa(len(words)))
	for _, w := range words {
		n += len("$\r\n\r\n") + len(strconv.Itoa(len(w))) + len(w)
	}
	return n
}

func (r *report) printLoss(w io.Writer) {
	fmt.Fprintf(w, "\nASYNC: what crashes of the primary lose, %d writers\n", r.Writers)
	if len(r.Losses) == 0 {
		fmt.Fprintln(w, "not measured")
		return
	}
	var sum loss
	without, less := 0, 0
	for _, l := range r.Losses {
		sum.Writes, sum.Bytes, sum.Reported, sum.Acked = sum.Writes+l.Writes, sum.Bytes+l.Bytes, sum.Reported+l.Reported, sum.Acked+l.Acked
		if l.Writes == 0 {
			without++
		}
		if l.Reported >= 0 && l.Reported < l.Bytes {
			less++
		}
	}
	lost := each(r.Losses, func(l loss) float64 { return float64(l.Writes) })
	fmt.Fprintf(w, "%d crashes, %d without a loss; lost writes of one crash: p50 %.0f, p99 %.0f; of all: %d of %d acked\n", len(r.Losses), without, quantile(lost, 0.5), quantile(lost, 0.99), sum.Writes, sum.Acked)
	fmt.Fprintf(w, "in the log these are %d bytes; the group reported %d bytes (lost_bytes, acked or not), and less than was lost in %d crashes\n", sum.Bytes, sum.Reported, less)
}
