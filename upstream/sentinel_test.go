package upstream

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// sentinelsSay is when a sentinel first names another primary than not.
func sentinelsSay(addr, not string) <-chan time.Time {
	said := make(chan time.Time, 1)
	go func() {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: addr, MaxRetries: -1})
		defer c.Close()
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			at, err := c.GetMasterAddrByName(context.Background(), "mine").Result()
			if err == nil && net.JoinHostPort(at[0], at[1]) != not {
				said <- time.Now()
				return
			}
		}
		close(said)
	}()
	return said
}

func TestSentinelFailsOverAKilledPrimary(t *testing.T) {
	a, b, c := trio(t, nil)
	addrs, _ := startSentinels(t, a, 3, 2)
	v := watch(t, Options{Sentinel: &Sentinel{Name: "mine", Addrs: addrs, Zones: map[string]string{b.Addr(): "zone-b"}}})
	v.waitForWriter(a)
	waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })
	if zone := v.status(b).Zone; zone != "zone-b" {
		t.Errorf("zone %q", zone)
	}
	killed := time.Now()
	said := sentinelsSay(addrs[0], a.Addr())
	must(t, a.Kill())
	waitFor(t, "a replica is the primary", func() bool { w := v.writer(); return w == b.Addr() || w == c.Addr() })
	ours := time.Since(killed)
	its, ok := <-said
	if !ok {
		t.Fatal("the sentinel never named another primary")
	}
	t.Logf("a primary to write to after %v; the sentinel named it after %v", ours.Round(time.Millisecond), its.Sub(killed).Round(time.Millisecond))
	if late := ours - its.Sub(killed); late > time.Second {
		t.Errorf("known %v after the sentinel", late)
	}
	waitFor(t, "the other one follows", func() bool { return v.readers() == 1 })

	a.opts.Config["replicaof"] = "no one" // back as what it was: the sentinels make it a replica
	a.start()
	waitFor(t, "the old primary is a replica", func() bool { return v.readers() == 2 })
	// Sentinels that cannot agree may do it twice: what they end with is what counts.
	waitFor(t, "all name the one that is written to", func() bool { return named(t, addrs) == v.writer() })
}

// named is the primary that all sentinels name; "?" while they do not agree.
func named(t *testing.T, addrs []string) string {
	t.Helper()
	all := ""
	for _, addr := range addrs {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: addr, MaxRetries: -1})
		at, err := c.GetMasterAddrByName(t.Context(), "mine").Result()
		_ = c.Close()
		if err != nil || all != "" && all != net.JoinHostPort(at[0], at[1]) {
			return "?"
		}
		all = net.JoinHostPort(at[0], at[1])
	}
	return all
}

// fakeSentinel answers as a sentinel that names one primary, and lists one replica.
func fakeSentinel(t *testing.T, primary, replica string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	ph, pp, _ := net.SplitHostPort(primary)
	rh, rp, _ := net.SplitHostPort(replica)
	bulk := func(words ...string) string {
		text := fmt.Sprintf("*%d\r\n", len(words))
		for _, w := range words {
			text += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
		}
		return text
	}
	serve := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			words, err := readCommand(in)
			if err != nil {
				return
			}
			switch {
			case words[0] == "SENTINEL" && words[1] == "get-master-addr-by-name":
				fmt.Fprint(c, bulk(ph, pp))
			case words[0] == "SENTINEL":
				fmt.Fprint(c, "*1\r\n"+bulk("ip", rh, "port", rp))
			default:
				fmt.Fprint(c, "+OK\r\n")
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// readCommand reads an array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	words := make([]string, 0, 8)
	for range n {
		if _, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		word, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		words = append(words, strings.TrimSpace(word))
	}
	return words, err
}

func TestSentinelThatLiesOrIsDeadIsOutvoted(t *testing.T) {
	a, b, _ := trio(t, nil)
	stranger := startServer(t, "127.0.0.1", 0, nil).promote() // of another group, with a replica of its own
	strangers := startServer(t, "127.0.0.1", 0, nil).following(stranger)
	addrs, _ := startSentinels(t, a, 2, 2)
	dead := net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t, "127.0.0.1")))
	liars := []string{fakeSentinel(t, stranger.Addr(), strangers.Addr()), fakeSentinel(t, b.Addr(), stranger.Addr())}

	t.Run("two of four lie", func(t *testing.T) {
		v := watch(t, Options{Sentinel: &Sentinel{Name: "mine", Addrs: append([]string{liars[1], dead}, addrs...)}})
		v.waitForWriter(a)
		waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })
		waitFor(t, "the dead one is told", func() bool { return v.said("sentinel_silent") == 1 })
		for range 20 {
			v.Doubt()
			time.Sleep(10 * time.Millisecond)
			if w := v.writer(); w != a.Addr() && w != "" {
				t.Fatalf("writes go to %s", w)
			}
		}
	})
	t.Run("half of those that answer lie", func(t *testing.T) {
		v := watch(t, Options{Sentinel: &Sentinel{Name: "mine", Addrs: []string{liars[0], addrs[0]}}})
		waitFor(t, "a primary is found", func() bool { return v.writer() != "" })
		t.Log("nobody can tell which of two sentinels lies; it was", v.writer())
	})
}

func TestSentinelsPlannedFailoverLosesNoWrite(t *testing.T) {
	a, b, c := trio(t, nil)
	addrs, _ := startSentinels(t, a, 3, 2)
	v := watch(t, Options{Sentinel: &Sentinel{Name: "mine", Addrs: addrs}})
	v.waitForWriter(a)
	waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })

	ctx, cancel := context.WithCancel(t.Context())
	acked := make(chan int, 1)
	go func() { acked <- writeWhereTold(ctx, v) }()
	time.Sleep(200 * time.Millisecond)
	s := goredis.NewSentinelClient(&goredis.Options{Addr: addrs[1], MaxRetries: -1})
	defer s.Close()
	must(t, s.Failover(t.Context(), "mine").Err())
	waitFor(t, "a replica is the primary", func() bool { w := v.writer(); return w == b.Addr() || w == c.Addr() })
	time.Sleep(200 * time.Millisecond)
	cancel()
	n := <-acked
	now := map[string]*server{b.Addr(): b, c.Addr(): c}[v.writer()]
	if now == nil {
		t.Fatalf("the primary is %q", v.writer())
	}
	keys, err := now.client.DBSize(t.Context()).Result()
	must(t, err)
	t.Logf("%d writes acked, %d keys on the new primary", n, keys)
	if lost := n - int(keys); lost > n/100 {
		t.Errorf("%d of %d acked writes are gone", lost, n)
	}
}

// writeWhereTold writes a new key each time to where the watcher says, and counts what was acked.
func writeWhereTold(ctx context.Context, v *observer) int {
	clients := map[string]*goredis.Client{}
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	acked := 0
	for i := 0; ctx.Err() == nil; i++ {
		at := v.writer()
		if at == "" {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if clients[at] == nil {
			clients[at] = goredis.NewClient(&goredis.Options{Addr: at, MaxRetries: -1})
		}
		if clients[at].Set(context.Background(), "k"+strconv.Itoa(i), "v", 0).Err() == nil {
			acked++
		} else {
			v.Doubt()
		}
	}
	return acked
}

func TestTallyCountsWhatSentinelsSay(t *testing.T) {
	say := func(primary string, replicas ...string) opinion {
		return opinion{heard: true, primary: primary, replicas: replicas}
	}
	for name, c := range map[string]struct {
		opinions        []opinion
		named, doubtful []cluster.NodeID
		members         int
	}{
		"all agree":                     {opinions: []opinion{say("a", "b", "c"), say("a", "b", "c"), say("a", "b")}, named: []cluster.NodeID{"a"}, members: 3},
		"one is dead":                   {opinions: []opinion{{}, say("a", "b"), say("a", "b")}, named: []cluster.NodeID{"a"}, members: 2},
		"one lies":                      {opinions: []opinion{say("x", "y"), say("a", "b"), say("a", "b")}, named: []cluster.NodeID{"a"}, doubtful: []cluster.NodeID{"x", "y"}, members: 4},
		"half of them, nobody is named": {opinions: []opinion{say("b", "a"), say("a", "b")}, members: 2},
		"one is late":                   {opinions: []opinion{say("b", "a"), say("b", "a"), say("a", "b")}, named: []cluster.NodeID{"b"}, members: 2},
		"nobody answers":                {opinions: []opinion{{}, {}}},
	} {
		r := tally(c.opinions, nil)
		var named, doubtful []cluster.NodeID
		for _, m := range r.members {
			if m.named {
				named = append(named, m.id)
			}
			if m.doubtful {
				doubtful = append(doubtful, m.id)
			}
		}
		if fmt.Sprint(named) != fmt.Sprint(c.named) || fmt.Sprint(doubtful) != fmt.Sprint(c.doubtful) || len(r.members) != c.members {
			t.Errorf("%s: named %v, doubtful %v, %d members", name, named, doubtful, len(r.members))
		}
	}
}
