package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	redis "github.com/gomodule/redigo/redis"

	rediserver "understudy/redis"
)

// answer is what a node said of itself: the fields of INFO, and its commands' calls and time.
type answer struct {
	at       time.Time
	fields   map[string]string
	commands map[string]calls
}

// calls are a command's since the server started.
type calls struct{ calls, usec float64 }

// parse reads an answer to INFO. Lines that are not understood are left out.
func parse(text string, at time.Time) *answer {
	a := &answer{at: at, fields: map[string]string{}, commands: map[string]calls{}}
	for name, value := range rediserver.InfoFields(text) {
		command, stats := strings.CutPrefix(name, "cmdstat_")
		if !stats {
			a.fields[name] = value
			continue
		}
		var c calls
		for pair := range strings.SplitSeq(value, ",") {
			switch k, v, _ := strings.Cut(pair, "="); k {
			case "calls":
				c.calls, _ = strconv.ParseFloat(v, 64)
			case "usec":
				c.usec, _ = strconv.ParseFloat(v, 64)
			}
		}
		a.commands[command] = c
	}
	return a
}

// number is a field's; false: it has none.
func (a *answer) number(field string) (float64, bool) {
	v, err := strconv.ParseFloat(a.fields[field], 64)
	return v, err == nil
}

func (a *answer) primary() bool { return a.fields["role"] == "master" }

// linked reports whether a replica's connection to its primary is up.
func (a *answer) linked() bool { return a.fields["master_link_status"] == "up" }

// same reports whether counters go on from an older answer: the same process in the same role.
func (a *answer) same(older *answer) bool {
	return older != nil && a.fields["run_id"] == older.fields["run_id"] && a.fields["role"] == older.fields["role"]
}

// delta is how much a counter grew; false: it went back, or is not there.
func (a *answer) delta(older *answer, field string) (float64, bool) {
	v, ok := a.number(field)
	w, had := older.number(field)
	return v - w, ok && had && v >= w
}

// keyspace sums a figure of all databases, as in db0:keys=1,expires=0,avg_ttl=0.
func (a *answer) keyspace(figure string) (sum float64) {
	for name := range a.fields {
		if n := strings.TrimPrefix(name, "db"); n != name && strings.Trim(n, "0123456789") == "" {
			v, _ := a.database(name, figure)
			sum += v
		}
	}
	return sum
}

func (a *answer) database(name, figure string) (float64, bool) {
	for pair := range strings.SplitSeq(a.fields[name], ",") {
		if k, v, _ := strings.Cut(pair, "="); k == figure {
			n, err := strconv.ParseFloat(v, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// line is one connection to a node, kept from look to look.
type line struct {
	addr string
	conn redis.Conn
}

// answerWithin bounds a look: the next one is due a second later.
const answerWithin = 700 * time.Millisecond

// ask asks a node. After an error the connection is made anew.
func (l *line) ask(ctx context.Context, addr string, commands ...[]any) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if l.conn != nil && l.addr != addr {
		l.close()
	}
	if l.conn == nil {
		c, err := redis.DialContext(ctx, "tcp", addr, redis.DialClientName(ownName), redis.DialConnectTimeout(answerWithin),
			redis.DialReadTimeout(answerWithin), redis.DialWriteTimeout(answerWithin))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", addr, err)
		}
		l.conn, l.addr = c, addr
	}
	replies := make([]any, len(commands))
	for i, c := range commands {
		reply, err := redis.DoContext(l.conn, ctx, c[0].(string), c[1:]...)
		if refused, ok := errors.AsType[redis.Error](err); ok {
			reply, err = refused, nil // an older server has not all of the commands
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("%v at %s: %w", c[0], addr, err)
		}
		replies[i] = reply
	}
	return replies, nil
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// ownName is that of our connections, in CLIENT LIST.
const ownName = "understudy-monitor"

// strangers counts the connections of CLIENT LIST that go past the proxy: they are not ours, and neither an agent's nor
// the proxy's, which come over a unix socket.
func strangers(list string) (n float64) {
	for l := range strings.Lines(list) {
		if strings.TrimSpace(l) != "" && !strings.Contains(l, " name="+ownName+" ") && !strings.Contains(l, " addr=/") {
			n++
		}
	}
	return n
}

// latencies is an answer to LATENCY HISTOGRAM: by command, how many calls took up to so many microseconds.
type latencies map[string]map[float64]float64

func parseLatencies(reply any) (latencies, error) {
	all := latencies{}
	list, err := redis.Values(reply, nil)
	if err != nil {
		return nil, fmt.Errorf("LATENCY HISTOGRAM: %w", err)
	}
	for i := 0; i+1 < len(list); i += 2 {
		name, err1 := redis.String(list[i], nil)
		body, err2 := redis.Values(list[i+1], nil)
		if err1 != nil || err2 != nil || len(body) < 4 {
			return nil, fmt.Errorf("LATENCY HISTOGRAM: %v %v %v", err1, err2, body)
		}
		buckets, err := redis.Int64s(body[3], nil)
		if err != nil {
			return nil, fmt.Errorf("LATENCY HISTOGRAM of %s: %w", name, err)
		}
		all[name] = map[float64]float64{}
		before := 0.0 // counts are cumulative
		for j := 0; j+1 < len(buckets); j += 2 {
			all[name][float64(buckets[j])] = float64(buckets[j+1]) - before
			before = float64(buckets[j+1])
		}
	}
	return all, nil
}

// since adds up what has come to the commands that count, by microseconds; false: a count went back.
func (l latencies) since(older latencies, counts func(command string) bool) (map[float64]float64, bool) {
	sum := map[float64]float64{}
	for name, buckets := range l {
		if !counts(name) {
			continue
		}
		for usec, n := range buckets {
			if n -= older[name][usec]; n < 0 {
				return nil, false
			} else if n > 0 {
				sum[usec] += n
			}
		}
	}
	maps.DeleteFunc(sum, func(_, n float64) bool { return n == 0 })
	return sum, true
}
