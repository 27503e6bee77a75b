package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trouble is what a library does by default that hurts in a failover.
type trouble string

const (
	noRetry    trouble = "client-without-retry"
	deadSocket trouble = "client-dead-socket-risk"
	impatient  trouble = "client-timeout-shorter-than-hold"
)

// fact is what is known of a library's defaults, from its own documentation, changelog or maintainers. What an
// application has set itself cannot be seen from here: each sentence says that it is the default.
type fact struct {
	library     string // as in CLIENT SETINFO LIB-NAME, lower case, without what is in brackets
	from, below string // versions [from, below); "": all
	trouble     trouble
	waits       time.Duration // impatient: the read timeout
	says        string
	set         string // what to set
	source      string
}

// facts are sorted by library. What could not be sourced is not here.
var facts = []fact{
	{"go-redis", "", "9.22.0", impatient, 3 * time.Second, "ReadTimeout is 3 s", "ReadTimeout", "https://github.com/redis/go-redis/pull/3918"},
	{"go-redis", "9.22.0", "", impatient, 5 * time.Second, "ReadTimeout is 5 s", "ReadTimeout", "https://github.com/redis/go-redis/pull/3918"},
	{"ioredis", "", "6.0.0", deadSocket, 0, "neither commandTimeout nor socketTimeout is set", "commandTimeout, and socketTimeout", "https://github.com/redis/ioredis/issues/139"},
	{"jedis", "", "", noRetry, 0, "a command whose connection breaks is not sent again", "a retry around the calls", "https://github.com/redis/jedis/issues/83"},
	{"jedis", "", "", impatient, 2 * time.Second, "the timeout is 2 s", "timeout of the pool or of DefaultJedisClientConfig", "https://github.com/redis/jedis/wiki/FAQ"},
	{"lettuce", "", "7.0.0", deadSocket, 0, "TCP keep-alive is off", "SocketOptions with keepAlive and tcpUserTimeout", "https://github.com/redis/lettuce/issues/3675"},
	{"predis", "", "3.4.0", noRetry, 0, "there are no retries (they came with 3.4.0)", "version 3.4.0 or newer, with its retry option", "https://github.com/predis/predis/blob/main/CHANGELOG.md"},
	{"redis-client", "", "", noRetry, 0, "reconnect_attempts is 0", "reconnect_attempts", "https://github.com/redis-rb/redis-client#configuration"},
	{"redis-client", "", "", impatient, time.Second, "timeout is 1 s", "timeout, or read_timeout", "https://github.com/redis-rb/redis-client#configuration"},
	{"redis-py", "", "6.0.0", noRetry, 0, "a broken connection is not retried (three retries are the default since 6.0.0)", "retry=Retry(ExponentialBackoff(), 3) and retry_on_error=[ConnectionError, TimeoutError]", "https://github.com/redis/redis-py/pull/3614"},
	{"redis-py", "", "7.2.0", deadSocket, 0, "socket_timeout is None", "socket_timeout, and health_check_interval", "https://github.com/redis/redis-py/issues/2243"},
}

// user is a library in one version, and how many connections it has.
type user struct {
	library, version string
	connections      int
}

func (u user) String() string { return strings.TrimSpace(u.library + " " + u.version) }

// users counts the connections by library; unnamed are those that do not say.
func (e *exam) users() (all []user, unnamed int) {
	for _, c := range e.Users {
		name, _, _ := strings.Cut(strings.ToLower(c.Library), "(")
		if name == "" {
			unnamed++
			continue
		}
		i := slices.IndexFunc(all, func(u user) bool { return u.library == name && u.version == c.Version })
		if i < 0 {
			all, i = append(all, user{library: name, version: c.Version}), len(all)
		}
		all[i].connections++
	}
	slices.SortFunc(all, func(a, b user) int {
		return cmp.Or(strings.Compare(a.library, b.library), strings.Compare(a.version, b.version))
	})
	return all, unnamed
}

// clients looks at who uses the group.
func (e *exam) clients() {
	if !e.sees(FromClients) {
		return
	}
	all, unnamed := e.users()
	for _, u := range all {
		for _, f := range facts {
			if f.applies(u) {
				e.addClient(u, f)
			}
		}
	}
	if e.sees(FromSettings) && e.Server.Timeout > 0 && e.Hold > 0 && time.Duration(e.Server.Timeout)*time.Second <= e.Hold {
		e.add(Finding{ID: string(impatient), Subject: "timeout", What: fmt.Sprintf("The setting timeout is %d s and a request is held for up to %v: a client that waits is closed as idle.", e.Server.Timeout, e.Hold), Repair: e.set("timeout", "0")})
	}
	if unnamed > 0 {
		why := "their libraries send no CLIENT SETINFO, or may not"
		if e.Hold == 0 && older(e.Server.Version, "7.2.0") && e.Server.Version != "" {
			why = fmt.Sprintf("redis-server %s keeps no names of libraries, 7.2 does", e.Server.Version)
		}
		e.add(Finding{ID: "client-unnamed", What: fmt.Sprintf("%d of %d connections do not say which library they are, so nothing is known of their retries and timeouts: %s.", unnamed, len(e.Users), why)})
	}
}

// addClient adds what a fact says of a library. Behind a proxy that holds, a client keeps its socket through a
// failover: what it does with a lost one is only to know then.
func (e *exam) addClient(u user, f fact) {
	has := counts(u.connections, "connection")
	severity, beside := Warning, ""
	if e.Hold > 0 {
		severity, beside = Note, " They come through a proxy that keeps their sockets in a failover."
	}
	found := Finding{ID: string(f.trouble), Severity: severity, Subject: u.String()}
	switch f.trouble {
	case noRetry:
		found.What = fmt.Sprintf("%s of %s: by default %s.%s", has, u, f.says, beside)
	case deadSocket:
		found.What = fmt.Sprintf("%s of %s: by default %s, so a socket whose other end is gone without a word is waited on for minutes.%s", has, u, f.says, beside)
	case impatient:
		if e.Hold == 0 || f.waits > e.Hold {
			return
		}
		found.Severity = Warning
		found.What = fmt.Sprintf("%s of %s: by default %s, and a request is held for up to %v: the client gives up before it is answered.", has, u, f.says, e.Hold)
	}
	above := ""
	if f.trouble == impatient {
		above = fmt.Sprintf(" above %v", e.Hold)
	}
	found.Advice = fmt.Sprintf("Set %s%s (%s).", f.set, above, f.source)
	e.add(found)
}

func counts(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// applies reports whether a fact is of a library in its version; of a version that cannot be read only what is of all.
func (f fact) applies(u user) bool {
	if f.library != u.library {
		return false
	}
	if f.from == "" && f.below == "" {
		return true
	}
	if numbers(u.version) == nil {
		return false
	}
	return (f.from == "" || !older(u.version, f.from)) && (f.below == "" || older(u.version, f.below))
}

// older compares versions by their leading numbers.
func older(a, b string) bool { return slices.Compare(numbers(a), numbers(b)) < 0 }

// numbers are the leading numbers of a version: "7.2.0-rc1" is 7, 2, 0; nil: it begins with none.
func numbers(version string) (all []int) {
	for part := range strings.SplitSeq(strings.TrimPrefix(version, "v"), ".") {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		digits := part
		if end >= 0 {
			digits = part[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return all
		}
		if all = append(all, n); end >= 0 {
			return all
		}
	}
	return all
}
