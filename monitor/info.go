package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/redis"
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
	for name, value := range redis.InfoFields(text) {
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
	a.countRefusals()
	return a
}

// deniedLogins is how often a password was wrong. Redis 7.0 has it as the count of an error only, which is missing
// while it is 0.
const deniedLogins = "acl_access_denied_auth"

func (a *answer) countRefusals() {
	if _, ok := a.fields[deniedLogins]; !ok && len(a.commands) > 0 {
		_, n, _ := strings.Cut(a.fields["errorstat_WRONGPASS"], "count=")
		a.fields[deniedLogins] = cmp.Or(n, "0")
	}
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
	to   redis.Login
	conn redigo.Conn
}

// answerWithin bounds a look: the next one is due a second later.
const answerWithin = 700 * time.Millisecond

// ask asks a node. After an error the connection is made anew.
func (l *line) ask(ctx context.Context, to redis.Login, commands ...[]any) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if l.conn != nil && (l.to.Addr != to.Addr || l.to.Socket != to.Socket || l.to.User != to.User || l.to.Password != to.Password) {
		l.close()
	}
	if l.conn == nil {
		c, err := to.Open(ctx, redigo.DialClientName(ownName), redigo.DialReadTimeout(answerWithin), redigo.DialWriteTimeout(answerWithin))
		if err != nil {
			return nil, err
		}
		l.conn, l.to = c, to
	}
	replies := make([]any, len(commands))
	for i, c := range commands {
		reply, err := redigo.DoContext(l.conn, ctx, c[0].(string), c[1:]...)
		if refused, ok := errors.AsType[redigo.Error](err); ok {
			reply, err = refused, nil // an older server has not all of the commands
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("%v at %s: %w", c[0], cmp.Or(to.Socket, to.Addr), err)
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
// the proxy's, which come over a unix socket, nor those of replication.
func strangers(list string) (n float64) {
	for l := range strings.Lines(list) {
		if strings.TrimSpace(l) != "" && !strings.Contains(l, " name="+ownName+" ") && !strings.Contains(l, " addr=/") && !replication(l) {
			n++
		}
	}
	return n
}

// replication: https://redis.io/docs/latest/commands/client-list/ has S for a replica and M for the primary.
func replication(line string) bool {
	_, rest, _ := strings.Cut(line, " flags=")
	flags, _, _ := strings.Cut(rest, " ")
	return strings.ContainsAny(flags, "MS")
}

// opened counts the connections to a node that neither we nor replicas have made. redis-server counts all of them, also
// those that end before anybody could list them, and does not tell them apart. So ours are taken off: the parts of this
// process count what they open, and each connection of a replica is one more PSYNC, also of one that is refused because
// roles change. Listing new client ids would miss who stays for less than a second, and PHP's clients do. Ours are
// counted by another clock than the server's: what is not in both yet shows as a client too few, and is made up for by
// the next minute.
type opened struct{ told float64 }

// since is how many have come since the last full look; false: the server has been another one, or its counters went
// back.
func (o *opened) since(l look, base *answer) (float64, bool) {
	now, ok := l.answer.strangers()
	now -= l.ours
	if base == nil || !ok {
		o.told = now
		return 0, false
	}
	if _, ok := l.answer.delta(base, "total_connections_received"); !ok {
		o.told = now
		return 0, false
	}
	new := max(0, now-o.told)
	o.told += new
	return new, true
}

// strangers are the connections so far that are not of replicas.
func (a *answer) strangers() (float64, bool) {
	n, ok := a.number("total_connections_received")
	return n - a.commands["psync"].calls - a.commands["sync"].calls, ok
}

// latencies is an answer to LATENCY HISTOGRAM: by command, how many calls took up to so many microseconds.
type latencies map[string]map[float64]float64

func parseLatencies(reply any) (latencies, error) {
	all := latencies{}
	list, err := redigo.Values(reply, nil)
	if err != nil {
		return nil, fmt.Errorf("LATENCY HISTOGRAM: %w", err)
	}
	for i := 0; i+1 < len(list); i += 2 {
		name, err1 := redigo.String(list[i], nil)
		body, err2 := redigo.Values(list[i+1], nil)
		if err1 != nil || err2 != nil || len(body) < 4 {
			return nil, fmt.Errorf("LATENCY HISTOGRAM: %v %v %v", err1, err2, body)
		}
		buckets, err := redigo.Int64s(body[3], nil)
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
