package redis

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

func TestFlusherSyncsWhatHasGrownAndTellsAFailureOnce(t *testing.T) {
	var said strings.Builder
	f := newFlusher(t.TempDir(), slog.New(slog.NewTextHandler(&said, nil)))
	var synced []string
	var fails error
	f.sync = func(file *os.File) error {
		synced = append(synced, filepath.Base(file.Name()))
		return fails
	}
	want := func(names ...string) {
		t.Helper()
		synced = nil
		f.flush()
		if fmt.Sprint(synced) != fmt.Sprint(names) {
			t.Errorf("synced %v, want %v", synced, names)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want() // the server has not made its directory yet
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("a.1.base.rdb", "written and synced by redis-server")
	write("a.1.incr.aof", "one")
	want("a.1.incr.aof")
	want()
	write("a.1.incr.aof", "one two")
	write("a.2.incr.aof", "three")
	fails = errors.New("input/output error")
	want("a.1.incr.aof", "a.2.incr.aof")
	want("a.1.incr.aof", "a.2.incr.aof") // still to do
	if n := strings.Count(said.String(), "cannot be synced"); n != 1 {
		t.Errorf("a failure that lasts was logged %d times: %s", n, said.String())
	}
	fails = nil
	want("a.1.incr.aof", "a.2.incr.aof")
	exited := make(chan struct{})
	close(exited)
	write("a.2.incr.aof", "three four")
	synced = nil
	f.run(exited)
	if fmt.Sprint(synced) != "[a.2.incr.aof]" {
		t.Errorf("after the server's end %v was synced", synced)
	}
}

// Whatever a server has answered is in its files when it is killed, also while they are being synced.
func TestKilledServerLosesNothingThatItAnswered(t *testing.T) {
	for round := range 5 {
		s, _ := run(t)
		const writers = 4
		var acked [writers]int
		var work sync.WaitGroup
		for w := range writers {
			work.Go(func() {
				c, err := redis.Dial("unix", s.opts.Socket)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if w == 0 { // the others are followers of nobody, too: writable for this test
					_, _ = c.Do("REPLICAOF", "NO", "ONE")
				}
				value := strings.Repeat("x", 10_000)
				for n := 1; ; n++ {
					switch _, err := c.Do("SET", fmt.Sprintf("w%d-%d", w, n%50), fmt.Sprintf("%d %s", n, value)); {
					case err == nil:
						acked[w] = n
					case strings.HasPrefix(err.Error(), "READONLY"):
						n--
					default:
						return // killed
					}
				}
			})
		}
		syncing := time.After(time.Duration(round+1) * 200 * time.Millisecond)
		f := newFlusher(s.opts.Dir, nil)
	load: // a disk that is busy with syncs all the time
		for {
			select {
			case <-syncing:
				break load
			default:
				f.flush()
			}
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		work.Wait()
		again, err := Start(s.opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = again.Kill() })
		checkAcked(t, again, acked[:])
		if err := again.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkAcked(t *testing.T, s *Server, acked []int) {
	t.Helper()
	if err := answers(s); err != nil {
		t.Fatal(err)
	}
	c, err := redis.Dial("unix", s.opts.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, "the data set is read", func() bool {
		_, err := c.Do("DBSIZE")
		return err == nil
	})
	for w, n := range acked {
		if n == 0 {
			continue
		}
		text, err := redis.String(c.Do("GET", fmt.Sprintf("w%d-%d", w, n%50)))
		var have int
		if _, scan := fmt.Sscan(text, &have); err != nil || scan != nil || have < n {
			t.Errorf("writer %d: %d was answered, %d is there (%v)", w, n, have, err)
		}
	}
	t.Logf("answered: %v", acked)
}
