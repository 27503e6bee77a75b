package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestUpIsReadyOnAnEmptyDirectory(t *testing.T) {
	g := StartGroup(t)
	t.Logf("ready after %v; goal 3 s", g.Ready.Round(time.Millisecond))
	if g.Ready > 10*time.Second {
		t.Errorf("ready after %v, which no busy machine explains", g.Ready)
	}
	text, err := os.ReadFile(filepath.Join(g.Data, "understudy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var have map[string]any
	if err := json.Unmarshal(text, &have); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"pid": float64(g.PID), "group": "main", "primary": g.Primary, "reader": g.Reader, "split": g.Split, "http": g.HTTP}
	for name, value := range want {
		if have[name] != value {
			t.Errorf("understudy.json has %s %v, want %v", name, have[name], value)
		}
	}
	if v, _ := have["version"].(string); v == "" {
		t.Errorf("understudy.json has no version: %s", text)
	}
	// Ready means that a replica could take over now.
	s, electable := g.Status(), 0
	for _, n := range s.replicas() {
		if n.Electable {
			electable++
		}
	}
	if s.Primary == "" || electable == 0 {
		t.Errorf("ready, but the status is %+v", s)
	}
	for name, addr := range map[string]string{"primary": g.Primary, "reader": g.Reader, "split": g.Split} {
		if err := client(t, addr).Ping(context.Background()).Err(); err != nil {
			t.Errorf("the %s endpoint does not accept: %v", name, err)
		}
	}
}

func TestUpStopsInOrderAndServesTheSameDataAgain(t *testing.T) {
	ctx, data := context.Background(), filepath.Join(t.TempDir(), "data")
	first := StartGroupOn(t, data)
	if err := client(t, first.Primary).Set(ctx, "kept", "yes", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := len(first.processes()); n < 5 {
		t.Errorf("%d processes were found, want up, a fencer and three redis-servers", n)
	}
	t.Logf("stopped after %v", first.Stop().Round(time.Millisecond))
	if _, err := os.Stat(filepath.Join(data, "understudy.json")); !os.IsNotExist(err) {
		t.Errorf("understudy.json is still there after the end: %v", err)
	}
	second := StartGroupOn(t, data)
	t.Logf("ready again after %v", second.Ready.Round(time.Millisecond))
	if v, err := client(t, second.Primary).Get(ctx, "kept").Result(); v != "yes" {
		t.Errorf("GET after the second start: %q, %v", v, err)
	}
	second.WaitAvailable()
}

// A kill of `understudy up` takes all its redis-servers down at once; each writes what it has acked first.
// The moments differ in what those are doing: soon after the start the replicas have just had their full
// sync, and after some seconds of writes the file's fsync, once a second, is under way now and then.
func TestKillOfUpLeavesNoProcessAndNoAckedWriteIsLost(t *testing.T) {
	for name, k := range map[string]killOfUp{
		"soon after the start":                   {},
		"soon, and the next run begins at once":  {nextAtOnce: true},
		"later":                                  {writing: 3 * time.Second},
		"later, and the next run begins at once": {writing: 3500 * time.Millisecond, nextAtOnce: true},
	} {
		t.Run(name, k.judge)
	}
}

// killOfUp is a kill after so much writing, of 500 keys at least.
type killOfUp struct {
	writing    time.Duration
	nextAtOnce bool // while the servers of the first one may still be ending
}

// judge kills `up`, starts it again, and demands every write that was acked.
func (k killOfUp) judge(t *testing.T) {
	ctx, data := context.Background(), filepath.Join(t.TempDir(), "data")
	first := StartGroupOn(t, data)
	c := client(t, first.Primary)
	acked := 0
	ended, enough := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		began := time.Now()
		for told := false; c.Set(ctx, "key:"+strconv.Itoa(acked), acked, 0).Err() == nil; {
			acked++
			if !told && acked >= 500 && time.Since(began) >= k.writing {
				told = true
				close(enough)
			}
		}
	}()
	select {
	case <-enough:
	case <-time.After(patience):
		t.Fatal("the writes were not acked in time")
	}
	family := first.processes()
	if k.nextAtOnce {
		if err := first.up.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-first.up.ended
	} else {
		first.Kill()
	}
	second := StartGroupOn(t, data)
	<-ended
	again, missing := client(t, second.Primary), 0
	for i := range acked {
		if v, err := again.Get(ctx, "key:"+strconv.Itoa(i)).Result(); v != strconv.Itoa(i) {
			if missing++; missing == 1 {
				t.Errorf("write %d of %d acked ones: %q, %v", i, acked, v, err)
			}
		}
	}
	t.Logf("ready again after %v; of %d acked writes %d are missing", second.Ready.Round(time.Millisecond), acked, missing)
	first.demandGone(family, 0) // the second one waits for the servers before
	second.WaitAvailable()
}

func TestSecondUpOnTheSameDataIsRefused(t *testing.T) {
	g := StartGroup(t)
	demandRefusal(t, []string{"up", "--data", g.Data}, fmt.Sprintf("process %d", g.PID))
	if g.WaitAvailable().Primary == "" {
		t.Error("the first one was harmed")
	}
}

func TestUpRefusesWhatItCannotWorkWith(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	config := filepath.Join(dir, "broken.yaml")
	for path, text := range map[string]string{file: "", config: "nodes: 3\nprofil: fast\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a taken port":            {[]string{"--primary-addr", taken.Addr().String()}, taken.Addr().String()},
		"a missing redis-server":  {[]string{"--redis-server", filepath.Join(dir, "none")}, "redis-server"},
		"a broken config":         {[]string{"--config", config}, "line 2"},
		"a data path that is one": {[]string{"--data", file}, file},
		"a group without a name":  {[]string{"--group", ""}, "--group"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"up", "--data", filepath.Join(t.TempDir(), "data")}, freePorts...)
			demandRefusal(t, append(args, c.args...), c.says)
		})
	}
}

// demandRefusal runs the program and demands exit 2, nothing on stdout and one line that says says.
func demandRefusal(t *testing.T, args []string, says string) {
	t.Helper()
	out, text, code := run(t, args...)
	if code != 2 || out != "" {
		t.Errorf("exit %d, output %q; want exit 2 and no output", code, out)
	}
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, says) {
		t.Errorf("want one line that says %q, have:\n%s", says, text)
	}
}
