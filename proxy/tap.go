package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"understudy/command"
)

// A tap shows what clients send while they send it, as MONITOR of redis-server does: each command's name
// and keys, and of everything else the length. It may lose lines and says how many; nobody waits for it.

// The bounds of a tap.
const (
	tapsAtOnce = 8    // at one proxy: each costs the loop a line for each command
	tapQueue   = 4096 // lines that wait to be read
	tapWords   = 32   // of one command
	tapKey     = 128  // bytes of one key
)

// Tap is one listener's.
type Tap struct {
	l       *loop
	lines   chan string
	dropped atomic.Uint64 // since Next last said so
}

// Tap begins to show the commands of all endpoints; nil when as many as may are listening already. Close it.
func (p *Proxy) Tap() *Tap {
	l := p.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*Tap
	if now := l.taps.Load(); now != nil {
		all = slices.Clone(*now)
	}
	if len(all) >= tapsAtOnce {
		return nil
	}
	t := &Tap{l: l, lines: make(chan string, tapQueue)}
	all = append(all, t)
	l.taps.Store(&all)
	return t
}

// Close ends the tap.
func (t *Tap) Close() {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.l.taps.Load()), func(x *Tap) bool { return x == t })
	if len(all) == 0 {
		t.l.taps.Store(nil)
		return
	}
	t.l.taps.Store(&all)
}

// Next returns a line without its end. The error is ctx's. dropped is how many lines before it were lost.
func (t *Tap) Next(ctx context.Context) (line string, dropped uint64, err error) {
	select {
	case line = <-t.lines:
		return line, t.dropped.Swap(0), nil
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
}

// show gives a command to the taps.
func (l *loop) show(c *client, args [][]byte) {
	all := l.taps.Load()
	if all == nil {
		return
	}
	text := tapLine(time.Now(), c, args)
	for _, t := range *all {
		select {
		case t.lines <- text:
		default:
			t.dropped.Add(1)
			l.metrics.untold.Inc()
		}
	}
}

// secretive are the commands of which not even the lengths are shown: they carry passwords.
var secretive = []string{"auth", "hello", "acl", "config", "migrate"}

// tapLine is MONITOR's line with the endpoint, the user, and lengths in place of values.
func tapLine(at time.Time, c *client, args [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%06d [%d %s %s %s]", at.Unix(), at.Nanosecond()/1000, c.db, c.from, c.kind, strconv.Quote(defaultUser(c.user)))
	info := command.Lookup(args)
	if info == nil {
		fmt.Fprintf(&b, " (unknown command, %d words)", len(args))
		return b.String()
	}
	name, sub, two := strings.Cut(info.Name, "|")
	fmt.Fprintf(&b, " %q", name)
	from := 1
	if two {
		fmt.Fprintf(&b, " %q", sub)
		from = 2
	}
	if slices.Contains(secretive, name) {
		b.WriteString(" (redacted)")
		return b.String()
	}
	keys := keysIn(info, args)
	for i := from; i < len(args); i++ {
		switch {
		case i >= tapWords:
			fmt.Fprintf(&b, " (%d words more)", len(args)-i)
			return b.String()
		case slices.Contains(keys, i):
			b.WriteByte(' ')
			b.WriteString(shortKey(args[i]))
		default:
			fmt.Fprintf(&b, " (%d bytes)", len(args[i]))
		}
	}
	return b.String()
}

func shortKey(key []byte) string {
	if len(key) <= tapKey {
		return strconv.Quote(string(key))
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(string(key[:tapKey])), len(key))
}

// keysIn are the places of the keys among the words.
func keysIn(info *command.Info, args [][]byte) (places []int) {
	info.Keys(args, func(key []byte) {
		if len(key) == 0 {
			return
		}
		at := slices.IndexFunc(args, func(a []byte) bool { return len(a) > 0 && &a[0] == &key[0] })
		if at > 0 {
			places = append(places, at)
		}
	})
	return places
}

// TapHandler serves a tap over HTTP, a line each, to whoever asks from this machine or knows one of
// Options.Passwords (Authorization: Bearer PASSWORD).
func (p *Proxy) TapHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.mayTap(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="understudy"`)
			http.Error(w, "the tap shows keys: ask from this machine, or with the endpoints' password (Authorization: Bearer PASSWORD)", http.StatusUnauthorized)
			return
		}
		t := p.Tap()
		if t == nil {
			http.Error(w, fmt.Sprintf("%d are listening already", tapsAtOnce), http.StatusServiceUnavailable)
			return
		}
		defer t.Close()
		p.loop.log.Info("a tap was opened", "addr", r.RemoteAddr)
		stream(r.Context(), w, t)
	})
}

// operatorKey marks a context; see WithOperator.
type operatorKey struct{}

// WithOperator marks the context of a request whose sender has shown elsewhere that he may see everything: he
// may tap without the endpoints' password.
func WithOperator(ctx context.Context) context.Context {
	return context.WithValue(ctx, operatorKey{}, true)
}

// mayTap: a request that came through another server, or that a page in a browser made with a name of its
// own for this machine, is not from here.
func (p *Proxy) mayTap(r *http.Request) bool {
	if r.Context().Value(operatorKey{}) != nil {
		return true
	}
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return p.knows(r, given)
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" || r.Header.Get("Via") != ""
	return err == nil && from.Addr().Unmap().IsLoopback() && !forwarded && isHere(r.Host)
}

// knows reports whether a request that shows a password may be let in with it.
func (p *Proxy) knows(r *http.Request, password string) bool {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	now := p.loop.clock()
	if p.loop.throttle.wait(now, from.Addr()) > 0 {
		p.loop.metrics.throttled.Inc()
		return false
	}
	if p.loop.entryKeys.Load().passwords.know([]byte(password)) {
		return true
	}
	p.loop.metrics.logins.Inc()
	p.loop.throttle.failed(now, from.Addr())
	return false
}

func isHere(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// stream writes lines until ctx ends or the reader goes.
func stream(ctx context.Context, w http.ResponseWriter, t *Tap) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := http.NewResponseController(w)
	text := "# commands as they arrive, with keys; of the rest the length\n"
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		if len(t.lines) == 0 && out.Flush() != nil {
			return
		}
		line, dropped, err := t.Next(ctx)
		if err != nil {
			return
		}
		text = line + "\n"
		if dropped > 0 {
			text = fmt.Sprintf("# dropped %d commands: they come faster than they are read\n", dropped) + text
		}
	}
}
