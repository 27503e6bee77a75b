package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

// patience bounds every wait for the members.
const patience = 30 * time.Second

// members are three members in this process, on TCP.
type members struct {
	t       *testing.T
	dir     string
	list    map[string]Member
	running map[string]*Embedded
}

func freePlace(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startMembers starts three and waits until each serves.
func startMembers(t *testing.T) *members {
	t.Helper()
	m := &members{t: t, dir: t.TempDir(), list: map[string]Member{}, running: map[string]*Embedded{}}
	// Of the loopback network, which has 16 million addresses: their ports are free.
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), 1+rand.IntN(250))
	for i, name := range m.names() {
		host := network + strconv.Itoa(11+i)
		m.list[name] = Member{Peer: host + ":2380", Client: host + ":2379"}
	}
	for _, name := range m.names() {
		m.start(name)
	}
	t.Cleanup(func() {
		for _, e := range m.running {
			stop(t, e)
		}
	})
	for _, name := range m.names() {
		m.ready(name)
	}
	return m
}

func (m *members) names() []string { return []string{"m1", "m2", "m3"} }

func (m *members) start(name string) *Embedded {
	m.t.Helper()
	e, err := StartEmbedded(m.t.Context(), EmbedOptions{Dir: filepath.Join(m.dir, name), Membership: &Membership{Name: name, Members: m.list}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.running[name] = e
	return e
}

func (m *members) ready(name string) {
	m.t.Helper()
	select {
	case <-m.running[name].Ready():
	case <-time.After(patience):
		m.t.Fatalf("member %s does not serve", name)
	}
}

func (m *members) stop(name string) {
	m.t.Helper()
	stop(m.t, m.running[name])
	delete(m.running, name)
}

// leader is the name of the one that leads the store.
func (m *members) leader() string {
	m.t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		for name, e := range m.running {
			if e.run().Server.Leader() == e.run().Server.MemberID() {
				return name
			}
		}
	}
	m.t.Fatal("no member leads")
	return ""
}

// dial is a client of all members over TCP, those named first.
func (m *members) dial(first ...string) *Store {
	m.t.Helper()
	var places []string
	for _, name := range append(first, m.names()...) {
		if place := m.list[name].Client; !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	s, err := Dial(DialOptions{Endpoints: places})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			m.t.Error(err)
		}
	})
	return s
}

func TestThreeMembersAreAStore(t *testing.T) {
	m := startMembers(t)
	n := 0
	clustertest.TestStore(t, func(t *testing.T) cluster.Store {
		n++
		s := under{m.running["m2"].Store(), fmt.Sprintf("/suite/%d", n)}
		if n%2 == 0 { // both ways to a store: over TCP, and by calls to the own member
			s.store = m.dial("m3")
		}
		return s
	})
}

// under is the part of a store below a prefix: a store of its own, as far as the suite can tell.
type under struct {
	store  cluster.Store
	prefix string
}

func (u under) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	entries, rev, err := u.store.List(ctx, u.prefix+prefix)
	return u.strip(entries), rev, err
}

func (u under) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	return u.store.Swap(ctx, u.prefix+key, value, rev)
}

func (u under) Watch(ctx context.Context, prefix string, from int64) <-chan []cluster.Entry {
	out := make(chan []cluster.Entry)
	go func() {
		defer close(out)
		for entries := range u.store.Watch(ctx, u.prefix+prefix, from) {
			select {
			case out <- u.strip(entries):
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func (u under) strip(entries []cluster.Entry) []cluster.Entry {
	for i := range entries {
		entries[i].Key = strings.TrimPrefix(entries[i].Key, u.prefix)
	}
	return entries
}

// keepSwapping swaps one key until the returned func is called, which says how long the longest time
// without an acknowledged swap was.
func keepSwapping(t *testing.T, s cluster.Store, key string) func() time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	var longest time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		rev, last := int64(0), time.Now()
		for n := 0; ctx.Err() == nil; n++ {
			bound, done := context.WithTimeout(ctx, 100*time.Millisecond)
			got, err := s.Swap(bound, key, fmt.Append(nil, n), rev)
			if err != nil && !errors.Is(err, cluster.ErrUnavailable) {
				var entries []cluster.Entry
				if entries, _, err = s.List(bound, key); err == nil && len(entries) > 0 {
					rev = entries[0].Revision
				}
				done()
				continue
			}
			done()
			if err == nil {
				rev = got
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
			pauseFor(ctx, 5*time.Millisecond)
		}
		longest = max(longest, time.Since(last))
	})
	return func() time.Duration { cancel(); wg.Wait(); return longest }
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// untilSwapped waits until a swap of a fresh key succeeds.
func untilSwapped(t *testing.T, s cluster.Store, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := 0; ; n++ {
		bound, done := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err := s.Swap(bound, fmt.Sprintf("%s/%d", key, n), []byte("x"), 0)
		done()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no swap succeeds any more: %v", err)
		}
		pauseFor(ctx, 10*time.Millisecond)
	}
}

// The leader of the store ends without a word to the others. Its end in order would hand the lead on
// first, so its links are cut instead.
func TestLosingTheStoresLeaderCostsLessThanAPermit(t *testing.T) {
	m := startMembers(t)
	leader := m.leader()
	other := m.names()[0]
	if other == leader {
		other = m.names()[1]
	}
	s := m.running[other].Store()
	gap := keepSwapping(t, s, "/lead")
	untilSwapped(t, s, "/before")
	began := time.Now()
	cut(m, leader)
	untilSwapped(t, s, "/after")
	took := time.Since(began)
	longest := gap()
	t.Logf("leader %s cut off: a swap after %v, longest pause %v", leader, took, longest)
	if longest > 5*time.Second {
		t.Errorf("the store was gone for %v", longest)
	}
}

// cut ends all links between a member and the others.
func cut(m *members, name string) {
	self := m.running[name].run().Server
	for other, e := range m.running {
		if other != name {
			e.run().Server.CutPeer(self.MemberID())
			self.CutPeer(e.run().Server.MemberID())
		}
	}
}

func TestTheLeaderHandsOverToAMemberThatMay(t *testing.T) {
	m := startMembers(t)
	leader := m.leader()
	to := ""
	for _, name := range m.names() {
		if name != leader {
			to = name
		}
	}
	user := m.dial(to)
	rev, err := user.Swap(t.Context(), "/understudy/x", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if moved, err := m.running[to].HandOver(t.Context(), func(string) bool { return true }); err != nil || moved {
		t.Errorf("a member that does not lead handed the lead over: %v, %v", moved, err)
	}
	if moved, err := m.running[leader].HandOver(t.Context(), func(string) bool { return false }); err != nil || moved {
		t.Errorf("handed over to nobody: %v, %v", moved, err)
	}
	gone := ""
	for _, name := range m.names() {
		if name != leader && name != to {
			gone = name
		}
	}
	m.stop(gone)
	if moved, err := m.running[leader].HandOver(t.Context(), func(name string) bool { return name == gone }); err != nil || moved {
		t.Errorf("handed over to a member that is gone: %v, %v", moved, err)
	}
	moved, err := m.running[leader].HandOver(t.Context(), func(name string) bool { return name == to })
	if err != nil || !moved {
		t.Fatalf("not handed over: %v, %v", moved, err)
	}
	if now := m.leader(); now != to || m.running[leader].Leads() || !m.running[to].Leads() {
		t.Errorf("%s leads, want %s", now, to)
	}
	if _, err := user.Swap(t.Context(), "/understudy/x", []byte("2"), rev); err != nil {
		t.Errorf("a user noticed: %v", err)
	}
}

func TestAMemberComesBackWithItsData(t *testing.T) {
	m := startMembers(t)
	untilSwapped(t, m.running["m1"].Store(), "/a")
	m.stop("m2")
	untilSwapped(t, m.running["m1"].Store(), "/b")
	m.start("m2")
	m.ready("m2")
	untilSwapped(t, m.running["m2"].Store(), "/c")
	entries, _, err := m.running["m2"].Store().List(t.Context(), "/")
	if err != nil || len(entries) != 3 {
		t.Fatalf("after its return it has %v (%v)", entries, err)
	}
}

func TestAMemberIsRestartedUnderItsUsers(t *testing.T) {
	m := startMembers(t)
	e := m.running["m2"]
	gap := keepSwapping(t, e.Store(), "/lead")
	untilSwapped(t, e.Store(), "/a")
	began := time.Now()
	if err := e.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	m.ready("m2")
	untilSwapped(t, e.Store(), "/b")
	t.Logf("restarted in %v; longest pause of its user %v", took, gap())
	select {
	case <-e.Ended():
		t.Error("it is said to have ended")
	default:
	}
}

func TestAMemberThatLostItsDataIsReplaced(t *testing.T) {
	m := startMembers(t)
	untilSwapped(t, m.running["m1"].Store(), "/a")
	old := m.running["m3"].run().Server.MemberID()
	m.stop("m3")
	if err := os.RemoveAll(filepath.Join(m.dir, "m3")); err != nil {
		t.Fatal(err)
	}
	e := m.start("m3")
	m.ready("m3")
	if e.run().Server.MemberID() == old {
		t.Error("it came back as the member that may have voted for what it has forgotten")
	}
	untilSwapped(t, e.Store(), "/b")
	if list := e.run().Server.Cluster().Members(); len(list) != 3 {
		t.Errorf("the store has %d members: %v", len(list), list)
	}
	// The majority must not rest on the member that was lost: one more may go.
	m.stop("m1")
	untilSwapped(t, e.Store(), "/c")
}

func TestAStoreGoesOnWhenItsMemberDoesNot(t *testing.T) {
	m := startMembers(t)
	s := m.dial("m2")
	untilSwapped(t, s, "/a")
	m.stop("m2")
	began := time.Now()
	untilSwapped(t, s, "/b")
	t.Logf("another member after %v", time.Since(began))
}

// blackHole accepts connections and never answers: a member whose packets are dropped.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestAReadGoesRoundAMemberThatIsSilent(t *testing.T) {
	m := startMembers(t)
	untilSwapped(t, m.running["m1"].Store(), "/a")
	s, err := Dial(DialOptions{Endpoints: []string{blackHole(t), m.list["m1"].Client, m.list["m2"].Client}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	began := time.Now()
	entries, _, err := s.List(ctx, "/a")
	if err != nil || len(entries) == 0 {
		t.Fatalf("list: %v, %v", entries, err)
	}
	t.Logf("read after %v", time.Since(began))
	// What was never sent to the silent one may be sent to another; the next swap goes straight there.
	if _, err := s.Swap(ctx, "/b", []byte("1"), 0); err != nil {
		t.Fatalf("swap: %v", err)
	}
}

func TestASwapThatMayHaveBeenSentIsUnknown(t *testing.T) {
	m := startMembers(t)
	s := m.dial("m2")
	untilSwapped(t, s, "/a")
	// Without a majority the member takes the swap and never says what became of it.
	m.stop("m1")
	m.stop("m3")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := s.Swap(ctx, "/b", []byte("1"), 0)
	if !errors.Is(err, cluster.ErrUnknownOutcome) {
		t.Fatalf("swap without a majority: %v", err)
	}
}

func TestAStoreWithUsersLetsInWhoLogsIn(t *testing.T) {
	m := startMembers(t)
	admin := m.running["m1"].Store().first()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := admin.UserAdd(ctx, "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(ctx, "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]error{"secret": nil, "guess": cluster.ErrUnavailable} {
		// The first endpoint is away: that must not keep anybody from starting.
		s, err := Dial(DialOptions{Endpoints: []string{freePlace(t), m.list["m2"].Client}, User: "root", Password: password})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Swap(ctx, "/"+password, []byte("1"), 0); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("password %s: swap: %v, want %v", password, err, want)
		}
		if _, _, err := s.List(ctx, "/"); (err == nil) != (want == nil) {
			t.Errorf("password %s: list: %v, want %v", password, err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMembershipIsChecked(t *testing.T) {
	ok := Member{Peer: "127.0.0.1:1", Client: "127.0.0.1:2"}
	for _, c := range []struct {
		m    Membership
		want string
	}{
		{Membership{Name: "m1", Members: map[string]Member{"m1": ok, "m2": ok, "m3": ok}}, ""},
		{Membership{Name: "x", Members: map[string]Member{"m1": ok}}, `no member is named "x"`},
		{Membership{Name: "m1", Members: map[string]Member{"m1": ok, "m2": ok}}, "2 members"},
		{Membership{Name: "m1", Members: map[string]Member{"m1": {Peer: "x", Client: "127.0.0.1:2"}}}, "member m1"},
	} {
		err := c.m.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.m, err, c.want)
		}
	}
}
