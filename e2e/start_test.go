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

// fsyncWindow is how much of the newest writes may be missing after all redis-servers of a group have
// been killed at once: appendfsync everysec lets a write to the file wait for up to two seconds
// while an fsync is under way (redis.conf, "appendfsync"; flushAppendOnlyFile in Redis's aof.c).
const fsyncWindow = 2 * time.Second

func TestKillOfUpLeavesNoProcessAndNoAckedWriteIsLost(t *testing.T) {
	ctx, data := context.Background(), filepath.Join(t.TempDir(), "data")
	first := StartGroupOn(t, data)
	c := client(t, first.Primary)
	var acks []time.Time // when key n was acked
	ended, enough := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for told := false; c.Set(ctx, "key:"+strconv.Itoa(len(acks)), len(acks), 0).Err() == nil; <-pace.C {
			acks = append(acks, time.Now())
			if !told && time.Since(acks[0]) > fsyncWindow+time.Second {
				told = true
				close(enough)
			}
		}
	}()
	select {
	case <-enough:
	case <-time.After(patience):
		t.Fatal("writes were not acked for three seconds")
	}
	killed := time.Now()
	first.Kill()
	<-ended
	second := StartGroupOn(t, data)
	again := client(t, second.Primary)
	old, young := 0, 0
	for i, at := range acks {
		v, err := again.Get(ctx, "key:"+strconv.Itoa(i)).Result()
		switch {
		case v == strconv.Itoa(i):
		case killed.Sub(at) > fsyncWindow:
			if old++; old == 1 {
				t.Errorf("write %d, acked %v before the kill: %q, %v", i, killed.Sub(at), v, err)
			}
		default:
			young++
		}
	}
	t.Logf("ready again after %v; of %d acked writes %d are missing, and %d younger than %v",
		second.Ready.Round(time.Millisecond), len(acks), old, young, fsyncWindow)
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
