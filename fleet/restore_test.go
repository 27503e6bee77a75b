package fleet

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/redis"
)

// put copies an RDB file to where a node begins with it.
func put(rdb string) func(string) error {
	return func(path string) error {
		r, err := os.Open(rdb)
		if err != nil {
			return err
		}
		defer r.Close()
		w, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, w.Sync(), w.Close())
	}
}

// A dump under load is of one moment: of two counters that one transaction moves together, neither is ahead; and
// what was acked before the call is in it. A group that begins with it has all of it, on every node.
func TestAGroupBeginsWithWhatAnotherHadAtOneMoment(t *testing.T) {
	h := newHouse(t)
	f, _ := h.run()
	g := h.add(f, spec("one", 2))
	s := h.whole(g, 2)
	c := h.client(g.Addrs().Primary)
	for i := range 500 {
		h.do(c, "SET", "key:"+string(rune('a'+i%26))+string(rune('a'+i/26)), i)
	}
	h.do(c, "SELECT", 3)
	h.do(c, "SET", "other", "v", "EX", 3600)
	stop := h.load(g.Addrs().Primary, "n")
	paired := make(chan struct{})
	ended := make(chan int)
	go func() {
		c, n := h.client(g.Addrs().Primary), 0
		for {
			select {
			case <-paired:
				ended <- n
				return
			default:
			}
			_ = c.Send("MULTI")
			_ = c.Send("INCR", "left")
			_ = c.Send("INCR", "right")
			if _, err := c.Do("EXEC"); err != nil {
				t.Errorf("EXEC: %v", err)
				<-paired
				ended <- n
				return
			}
			n++
		}
	}()
	acked := h.do(h.client(g.Addrs().Primary), "INCR", "before").(int64)
	rdb := filepath.Join(h.opts.Dir, "taken.rdb")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := g.Dump(ctx, rdb)
	if err != nil {
		t.Fatal(err)
	}
	close(paired)
	<-ended
	stop()
	if d.Role != cluster.RoleReplica || d.Node == s.Primary || d.Version != h.opts.Binary.Version || d.Spec.Name != "one" {
		t.Errorf("it was taken from %+v", d)
	}
	have, err := redis.ReadDump(ctx, h.opts.Binary, rdb)
	if err != nil || have.Expires != 1 {
		t.Fatalf("%+v, %v", have, err)
	}
	def, err := h.define(spec("two", 2))
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.Restore(ctx, def, Restored{Put: put(rdb), Keys: have})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{two.Addrs().Primary, two.Addrs().Reader} {
		c := h.client(at)
		left, _ := redigo.Int(c.Do("GET", "left"))
		right, _ := redigo.Int(c.Do("GET", "right"))
		before, _ := redigo.Int64(c.Do("GET", "before"))
		if size := h.do(c, "DBSIZE").(int64); left != right || left == 0 || before != acked || size != have.Keys-1 {
			t.Errorf("%s: left %d, right %d, before %d of %d, %d keys of %d in all databases", at, left, right, before, acked, size, have.Keys)
		}
	}
	if got, err := redigo.String(h.do(h.client(two.Addrs().Primary), "GET", "key:bb"), nil); err != nil || got != "27" {
		t.Errorf("key:bb is %q, %v", got, err)
	}
}

// A restore that fails leaves nothing; over a group that is there, or to be there, none begins.
func TestARestoreIsWholeOrNothing(t *testing.T) {
	h := newHouse(t)
	f, stop := h.run()
	g := h.add(f, spec("one", 1))
	h.whole(g, 1)
	h.do(h.client(g.Addrs().Primary), "SET", "k", "v")
	rdb := filepath.Join(h.opts.Dir, "taken.rdb")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := g.Dump(ctx, rdb)
	if err != nil {
		t.Fatal(err)
	}
	if d.Role != cluster.RolePrimary {
		t.Errorf("there is no replica, and it was taken from %+v", d)
	}
	try := func(name string, r Restored) error {
		def, err := h.define(spec(name, 2))
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Restore(ctx, def, r)
		return err
	}
	if err := try("one", Restored{Put: put(rdb)}); !errors.Is(err, ErrExists) {
		t.Errorf("over a group: %v", err)
	}
	if err := try("two", Restored{Put: put(rdb), Keys: redis.Contents{Keys: 2}}); !errors.Is(err, ErrKeys) {
		t.Errorf("a key is missing: %v", err)
	}
	broken := errors.New("the copy failed")
	if err := try("two", Restored{Put: func(string) error { return broken }}); !errors.Is(err, broken) {
		t.Errorf("the copy fails: %v", err)
	}
	h.nothingOf(f, "two")
	// This process dies in the middle.
	if err := f.intend("two"); err != nil {
		t.Fatal(err)
	}
	if err := f.Seed("two-001", put(rdb)); err != nil {
		t.Fatal(err)
	}
	h.whole(h.add(f, spec("two", 1)), 1)
	stop()
	f, err = New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RollBack(ctx); err != nil {
		t.Fatal(err)
	}
	h.nothingOf(f, "two")
	if _, ok, err := f.Spec(ctx, "one"); err != nil || !ok {
		t.Errorf("the other group is to be there: %v, %v", ok, err)
	}
}

// nothingOf demands that nothing is left of a group.
func (h *house) nothingOf(f *Fleet, name string) {
	h.t.Helper()
	if f.has(name) {
		h.t.Errorf("group %s runs", name)
	}
	entries, _, err := h.opts.Store.List(h.t.Context(), cluster.GroupsPrefix+name+"/")
	if err != nil || len(entries) > 0 {
		h.t.Errorf("the store still has %v, %v", entries, err)
	}
	for _, path := range []string{"nodes/" + name + "-001", "groups/" + name, "restoring/" + name} {
		if exists(filepath.Join(h.opts.Dir, path)) {
			h.t.Errorf("%s is left", path)
		}
	}
}
