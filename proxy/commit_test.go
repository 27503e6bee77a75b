package proxy

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// laggard is a primary whose replica acknowledges each question only when the next one has come: so does
// redis-server after a partial resync, when Nagle's algorithm keeps the answer in the replica's kernel.
// The question itself lengthens the log, so that the replica never has all of it.
type laggard struct {
	addr   string
	pushed atomic.Int64 // PUBLISH outside of any batch
	freed  bool         // WAIT is answered once something is pushed

	mu     sync.Mutex
	news   *sync.Cond
	offset int64 // of the log
	acked  int64
	used   int64 // pushes that have freed a WAIT
}

// question is how long a REPLCONF GETACK is in the log.
const question = 37

func startLaggard(t *testing.T, freed bool) *laggard {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s := &laggard{addr: l.Addr().String(), freed: freed, offset: 1000, acked: 1000}
	s.news = sync.NewCond(&s.mu)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go s.serve(c)
		}
	}()
	return s
}

func (s *laggard) serve(c net.Conn) {
	buf := make([]byte, 0, 64<<10)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+n]
		for {
			var scan resp.CommandScanner
			n, args, err := scan.Scan(buf, nil)
			if n == 0 || err != nil {
				break
			}
			words := make([]string, len(args))
			for i, a := range args {
				words[i] = string(a)
			}
			buf = buf[:copy(buf, buf[n:])]
			if _, err := c.Write([]byte(s.answer(words))); err != nil {
				return
			}
		}
	}
}

func (s *laggard) answer(words []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch words[0] {
	case "ROLE":
		return fmt.Sprintf("*3\r\n$6\r\nmaster\r\n:%d\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n7002\r\n$%d\r\n%d\r\n",
			s.offset, len(strconv.FormatInt(s.acked, 10)), s.acked)
	case "WAIT":
		s.acked, s.offset = s.offset, s.offset+question
		if !s.freed {
			return ":0\r\n"
		}
		for s.pushed.Load() == s.used { // on a busy machine the push is here before WAIT
			s.news.Wait()
		}
		s.used = s.pushed.Load()
		return ":1\r\n"
	case "PUBLISH":
		s.pushed.Add(1)
		s.news.Broadcast()
		return ":0\r\n"
	case "SET":
		s.offset += 50
	case "SUBSCRIBE":
		return fmt.Sprintf("*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(words[1]), words[1])
	case "PING":
		return "+PONG\r\n"
	}
	return "+OK\r\n"
}

// set sends a SET through a proxy whose primary is s, and returns the reply.
func (s *laggard) set(t *testing.T, g *group) string {
	t.Helper()
	replica := cluster.NodeStatus{Group: "g", Node: "g-002", Nodes: 2, Addr: "127.0.0.1:7002", Role: cluster.RoleReplica, State: cluster.StateSyncing}
	g.say(replica)
	primary := cluster.NodeStatus{Group: "g", Node: "g-001", Nodes: 2, Addr: s.addr, State: cluster.StateReady}
	g.lead(&node{id: "g-001", status: primary}, 1, syncRule("g-002"))
	c, err := net.Dial("tcp", g.proxy.Addrs().Primary)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = c.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"))
	must(t, err)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("the write was not acked: %v", err)
	}
	return strings.TrimSpace(string(buf[:n]))
}

func TestWriteIsAckedByWhatAnEarlierRoundToldOfItsPlace(t *testing.T) {
	s := startLaggard(t, false)
	g := startProxy(t, nil)
	if reply := s.set(t, g); reply != "+OK" {
		t.Errorf("SET: %q", reply)
	}
	if rounds := g.metric("understudy_proxy_commit_rounds_total"); rounds > 10 {
		t.Errorf("it took %v rounds", rounds)
	}
}

func TestLateRoundIsHelpedByAPush(t *testing.T) {
	s := startLaggard(t, true)
	if reply := s.set(t, startProxy(t, nil)); reply != "+OK" {
		t.Errorf("SET: %q", reply)
	}
	if s.pushed.Load() == 0 {
		t.Error("nothing was pushed")
	}
}
