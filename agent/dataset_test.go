package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
)

// A data set that is taken away, or replaced by an older one, between the agent's look at it and redis-server's is
// not the one that the agent's note speaks of.
func TestDataThatGoesWhileTheServerStartsIsNotWhole(t *testing.T) {
	for name, script := range map[string]string{
		"deleted":             `rm -rf appendonlydir`,
		"an older, shorter":   `cp -a before old && rm -rf appendonlydir && mv old appendonlydir`,
		"the newest file cut": `: > "$(ls -d appendonlydir/*.incr.aof | tail -n 1)"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGroup(t, groupOptions{})
			old := g.waitReady()
			g.copyDataset(old)
			g.set(old, "k", "v")
			g.stopAll()
			g.forgetEvents()
			real := g.binary.Path
			g.binary.Path = filepath.Join(g.dir, "redis-server.sh")
			text := fmt.Sprintf("#!/bin/sh\n%s\nexec %s \"$@\"\n", script, real)
			if err := os.WriteFile(g.binary.Path, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				g.start(old)
				g.binary.Path = real // the next start finds what this one has left
				g.waitEvent("not_claiming")
				g.wait("it has been looked at", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
					return last[old].State == cluster.StateSyncing // as a replica of nobody
				})
				pause(t.Context(), 300*time.Millisecond) // the time in which it must not
				if leader(map[cluster.NodeID]cluster.NodeStatus{old: g.status(old)}) != "" {
					t.Fatalf("start %d: it leads with a data set that is not its own", i+1)
				}
				if err := g.stops[old](); err != nil {
					t.Fatal(err)
				}
				g.forgetEvents()
			}
			for _, n := range g.nodes {
				g.start(n.Node)
			}
			primary := g.waitReady()
			if got := g.do(primary, "GET", "k"); primary == old || got != "v" {
				t.Errorf("%s leads with %q", primary, got)
			}
		})
	}
}

// copyDataset keeps the node's files as they are now, beside them.
func (g *group) copyDataset(id cluster.NodeID) {
	g.t.Helper()
	dir := disk{dir: filepath.Join(g.dir, string(id))}.redisDir()
	if err := os.CopyFS(filepath.Join(dir, "before"), os.DirFS(filepath.Join(dir, aofDir))); err != nil {
		g.t.Fatal(err)
	}
}

func TestDatasetIsTheSameWhileOnlyItsEndGrows(t *testing.T) {
	at := time.Unix(1, 0).UTC()
	before := dataset{{"b", 9, at, 1}, {"i1", 5, at, 2}, {"i2", 7, at, 3}}
	cut := func(name string) (int64, bool) { return 4, name == "i2" }
	for _, c := range []struct {
		what string
		now  dataset
		want string
	}{
		{"untouched", before, ""},
		{"grown", dataset{before[0], before[1], {"i2", 8, at.Add(1), 3}}, ""},
		{"one more", append(before[:3:3], datafile{"i3", 0, at, 4}), ""},
		{"cut by the server", dataset{before[0], before[1], {"i2", 4, at.Add(1), 3}}, ""},
		{"cut by somebody", dataset{before[0], before[1], {"i2", 3, at.Add(1), 3}}, "i2 has 3 bytes"},
		{"an inner one grown", dataset{before[0], {"i1", 6, at.Add(1), 2}, before[2]}, "i1 has 6 bytes"},
		{"written over", dataset{{"b", 9, at.Add(1), 1}, before[1], before[2]}, "b has 9 bytes"},
		{"copied", dataset{{"b", 9, at, 8}, before[1], before[2]}, "b is another file"},
		{"gone", nil, "b is not part"},
		{"the last gone", before[:2], "i2 is not part"},
	} {
		if got := before.changed(c.now, cut); (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	if why := before.changed(dataset{before[0], before[1], {"i2", 4, at.Add(1), 3}}, nil); why == "" {
		t.Error("a file that nobody has said to be cut passes for the one before")
	}
	if why := dataset(nil).changed(before, nil); why != "" {
		t.Errorf("nothing was there: %q", why)
	}
}

// The agent dies after it has started a server, and before it knows what that has read.
func TestDataThatGoesBeforeAnybodyLookedIsNotWholeAtTheNextStart(t *testing.T) {
	m := newMachine(t)
	set := dataset{{"b", 9, time.Unix(1, 0).UTC(), 1}, {"i", 5, time.Unix(1, 0).UTC(), 2}}
	whole := func() {
		t.Helper()
		r := openRuns(m.dir, m.file)
		_, err := r.begin(someFiles, nil)
		m.no(err)
		m.lead(r)
	}
	begin := func(now dataset, want bool) *runs {
		t.Helper()
		r := openRuns(m.dir, m.file)
		w, err := r.begin(someFiles, now)
		if err != nil || w.intact != want {
			t.Errorf("%v: %+v, %v; want intact %v", now, w, err, want)
		}
		return r
	}
	whole()
	begin(set, true)
	begin(append(set[:1:1], datafile{"i", 6, time.Unix(2, 0).UTC(), 2}), true) // it has gone on
	r := begin(set[:1], false)
	m.lead(r)
	m.no(r.loaded())
	begin(set, true) // what was read was what was there: a new file since is the server's own
	begin(dataset{{"b", 9, time.Unix(1, 0).UTC(), 7}}, false)
	whole()
	m.boot("another")
	begin(set, false)
}

func TestManifestNamesTheDataSet(t *testing.T) {
	got := manifestNames([]byte("file a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\nfile a.2.incr.aof seq 2 type i\nfile a.3.incr.aof seq 3 type i\n"))
	if fmt.Sprint(got) != "[a.2.base.rdb a.2.incr.aof a.3.incr.aof]" {
		t.Error(got)
	}
	d := disk{dir: t.TempDir()}
	if set, err := d.dataset(); err != nil || set != nil {
		t.Errorf("without any: %v, %v", set, err)
	}
	_, dir := lone(t) // a server of the installed version
	if err := os.Symlink(dir, d.redisDir()); err != nil {
		t.Fatal(err)
	}
	var set dataset
	var err error
	waitUntil(t, "the server has its files", func() bool {
		set, err = d.dataset()
		return err == nil && len(set) == 2
	})
	if set[0].Inode == 0 || set[0].Size == 0 || set[0].Mod.IsZero() {
		t.Errorf("%+v", set)
	}
	if err := os.Remove(filepath.Join(dir, aofDir, set[0].Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.dataset(); err == nil {
		t.Error("a base that is not there is not missed")
	}
}
