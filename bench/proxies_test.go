package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/resp"
)

// serveReplies answers every command with the reply, one connection after the other; before the command of
// that number it waits.
func serveReplies(t *testing.T, reply string, waitBefore int64, wait time.Duration) (addr string, served *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	served = new(atomic.Int64)
	serve := func(c net.Conn) {
		defer c.Close()
		var scan resp.CommandScanner
		var in []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:n]...)
			for {
				n, _, err := scan.Scan(in, nil)
				if err != nil || n == 0 {
					break
				}
				in = in[n:]
				if served.Add(1) == waitBefore {
					time.Sleep(wait)
				}
				if _, err := c.Write([]byte(reply)); err != nil {
					return
				}
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
	return l.Addr().String(), served
}

func TestMixCountsWhatWasAnswered(t *testing.T) {
	addr, served := serveReplies(t, "+OK\r\n", 0, 0)
	m := mix{connections: 4, pipeline: 8, valueSize: 20_000, keys: 10, writes: 0.5, runs: 100 * time.Millisecond}
	got, err := m.run(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	most := int64(m.connections * m.pipeline) // may be under way at the end
	if n := int64(got.Requests); n == 0 || n > served.Load() || served.Load()-n > most {
		t.Errorf("%d requests counted, %d served", n, served.Load())
	}
	if got.Rate <= 0 || got.P99Ms < got.P50Ms || got.P50Ms <= 0 {
		t.Errorf("figures %+v", got)
	}
}

func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	const stall = 200 * time.Millisecond
	addr, served := serveReplies(t, "$-1\r\n", 10, stall)
	m := mix{connections: 1, pipeline: 1, valueSize: 10, keys: 10, rate: 1000, runs: 300 * time.Millisecond}
	got, err := m.run(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if got.Requests != 300 || served.Load() != 300 {
		t.Errorf("%d requests counted, %d served; 300 were due", got.Requests, served.Load())
	}
	// A closed loop would have seen one slow request in 300. Here all that were due during the stall are slow.
	if got.P50Ms < ms(stall)/20 {
		t.Errorf("p50 is %.1f ms although for two thirds of the time nothing was answered", got.P50Ms)
	}
}

func TestLoadEndsAtAnAnswerThatIsAnError(t *testing.T) {
	addr, _ := serveReplies(t, "-OOM no\r\n", 0, 0)
	_, err := mix{connections: 1, pipeline: 1, keys: 1, runs: time.Second}.run(t.Context(), addr)
	if err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("error %v, want the answer", err)
	}
}

func TestCPUTimeIsThatOfAnotherProcess(t *testing.T) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if now, err := cpuOf(os.Getpid()); err == nil && now >= before+20*time.Millisecond {
			return
		}
	}
	t.Error("a busy process used no CPU")
}

func TestProxiesAreComparedRoundByRound(t *testing.T) {
	figures := func(rates ...float64) []proxyFigure {
		var all []proxyFigure
		for _, r := range rates {
			all = append(all, proxyFigure{figure: figure{Rate: r, P99Ms: r / 1000}, ProxyCPU: 7, ServerCPU: 3})
		}
		return all
	}
	lanes := map[string][]proxyFigure{
		laneDirect: figures(100, 1000), viaUnderstudy: figures(130, 1300), viaTwemproxy: figures(90, 1400), viaHAProxy: figures(60, 600),
	}
	r := report{Rounds: 2, Proxies: &proxies{Runs: []*proxyRun{
		{Case: proxyCases[0].name, Load: "SET", Goal: 1.2, Lanes: lanes}, {Case: openCase, Load: "20000 a second", Lanes: lanes},
	}}}
	var out bytes.Buffer
	r.printProxies(&out)
	for _, want := range []string{"1.30 (1.30–1.30)", "1.20: met", "6.3: MISSED", "7.0 +3.0", "0.17 (0.03–0.30)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &out)
		}
	}
}
