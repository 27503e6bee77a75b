package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	server "understudy/redis"
)

// `understudy proxy` as a process of its own before a Redis that somebody else fails over.

// outpost is such a process.
type outpost struct {
	Endpoints
	t  *testing.T
	up *up
}

// startOutpost runs `understudy proxy` with a configuration file until the test ends, and waits for its
// ready line.
func startOutpost(t *testing.T, file string, args ...string) *outpost {
	t.Helper()
	p := &outpost{t: t, up: startProgram(t, exec.Command(program, append([]string{"proxy", "--config", file}, args...)...))}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of understudy proxy %s, process %d:\n%s", strings.Join(args, " "), p.up.cmd.Process.Pid, p.up.log())
		}
	})
	select {
	case line, ok := <-p.up.line:
		if !ok {
			t.Fatalf("understudy proxy ended before it was ready:\n%s", p.up.log())
		}
		p.Endpoints = parseReady(t, line)
	case <-time.After(patience):
		t.Fatalf("understudy proxy was not ready after %v", patience)
	}
	return p
}

// anyPorts are the addresses of endpoints that no other test has.
const anyPorts = `listen: {primary: "127.0.0.1:0", reader: "127.0.0.1:0", split: "127.0.0.1:0", http: "127.0.0.1:0"}` + "\n"

// outpostFile writes the configuration of a proxy.
func outpostFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// ask sends a request to the HTTP address and decodes the answer.
func (p *outpost) ask(method, path string, into any) (code int, err error) {
	r, err := http.NewRequest(method, "http://"+p.HTTP+path, nil)
	if err != nil {
		return 0, err
	}
	c := http.Client{Timeout: patience}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.Unmarshal(b.Bytes(), into)
}

func (p *outpost) wait(what string, ok func(Status) bool) (s Status) {
	p.t.Helper()
	waitUntil(p.t, what, func() bool {
		s = Status{}
		code, err := p.ask(http.MethodGet, "/api/status", &s)
		return err == nil && code == http.StatusOK && ok(s)
	})
	return s
}

// stop ends the process in order.
func (p *outpost) stop() {
	p.t.Helper()
	must(p.t, p.up.cmd.Process.Signal(os.Interrupt))
	p.ends(0)
}

// ends waits for the end of the process.
func (p *outpost) ends(code int) {
	p.t.Helper()
	select {
	case <-p.up.ended:
	case <-time.After(2 * patience):
		p.t.Fatalf("understudy proxy has not ended after %v", 2*patience)
	}
	if got := p.up.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("understudy proxy ended with %v, want exit %d", p.up.cmd.ProcessState, code)
	}
}

func TestAProxyOnItsOwnTellsOfAGroupThatSentinelFailsOver(t *testing.T) {
	a, _, _ := foreigners(t)
	w := watchOver(t, a)
	p := startOutpost(t, outpostFile(t, "group: shop\n"+anyPorts+"upstream: {sentinel: {name: shop, addrs: ["+strings.Join(w.addrs, ", ")+"]}}\n"))
	s := p.wait("all three nodes are known, and well", func(s Status) bool { return s.State == "available" && len(s.Nodes) == 3 })
	if s.Group != "shop" || s.Primary != a.Addr() || s.Durability != "async" || s.Epoch != 1 || s.Last != nil {
		t.Errorf("%+v", s)
	}
	for _, path := range []string{"/api/switchover", "/api/failover"} {
		var o struct {
			Refused bool
			Message string
		}
		if code, err := p.ask(http.MethodPost, path, &o); err != nil || code != http.StatusConflict || !o.Refused || !strings.Contains(o.Message, "SENTINEL FAILOVER shop") {
			t.Errorf("POST %s: %d %+v %v", path, code, o, err)
		}
	}
	if out, text, code := run(t, "switchover", "--http", p.HTTP); code != 4 || !strings.Contains(out+text, "Redis Sentinel") {
		t.Errorf("understudy switchover: exit %d, %s%s", code, out, text)
	}
	if out, text, code := run(t, "status", "--http", p.HTTP, "--explain"); code != 0 || !strings.Contains(out, a.Addr()) {
		t.Errorf("understudy status --explain: exit %d, %s%s", code, out, text)
	}
	metricsPageLists(t, p.HTTP)

	clients := shop(t, proxyAddrs(p), 4)
	must(t, a.Kill())
	clients.ackedAfter(200)
	clients.sawNothing()
	s = p.wait("the other primary is told of", func(s Status) bool { return s.Epoch == 2 && s.Last != nil })
	if s.Primary == a.Addr() || s.Last.Kind != "failover" || s.Last.From != a.Addr() || s.Last.To != s.Primary || s.Last.DurationMs <= 0 {
		t.Errorf("%+v, %+v", s, s.Last)
	}
	if n := s.node(a.Addr()); n.State != "down" || s.State != "degraded" {
		t.Errorf("the group is %s, and the killed node %+v", s.State, n)
	}
	if _, _, code := run(t, "status", "--http", p.HTTP, "--check"); code != 1 { // a node is missing
		t.Errorf("status --check of a degraded group: exit %d", code)
	}
	if served := sampled(t, p.HTTP, `understudy_upstream_doubts_total{group="shop"}`); served < 1 {
		t.Errorf("%v doubts were reported over the loss of the primary", served)
	}
	p.stop()
}

// metricsPageLists demands that docs/metrics.md has every metric that is served there, and that every one
// of package upstream's is served.
func metricsPageLists(t *testing.T, addr string) {
	t.Helper()
	documented, served := documentedMetrics(t), servedMetrics(t, addr)
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if have, want := documented[name], served[name]; have != want {
			t.Errorf("docs/metrics.md says %+v of %s, and it is %+v", have, name, want)
		}
	}
	for name := range documented {
		if _, ok := served[name]; !ok && ofUpstream(name) {
			t.Errorf("docs/metrics.md lists %s, which nobody serves", name)
		}
	}
}

// sampled reads one sample off /metrics.
func sampled(t *testing.T, addr, sample string) (value float64) {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	must(t, err)
	defer r.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r.Body)
	must(t, err)
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, sample+" "); ok {
			_, err := fmt.Sscan(rest, &value)
			must(t, err)
			return value
		}
	}
	t.Fatalf("%s is not served", sample)
	return 0
}

func TestAProxyOnItsOwnIsUsedByClientsOfAStaticGroup(t *testing.T) {
	a, b, c := foreigners(t)
	for _, f := range []*foreign{a, b, c} {
		must(t, f.direct.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all").Err(),
			f.direct.Do(t.Context(), "ACL", "SETUSER", "default", "-@all").Err())
	}
	file := outpostFile(t, "group: shop\n"+anyPorts+fmt.Sprintf(`upstream:
  static: {primary: %s, replicas: [%s, %s]}
  user: app
  password_file: secret
  lend_login: true
  zones:
    %s: west
`, a.Addr(), b.Addr(), c.Addr(), a.Addr()))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(file), "secret"), []byte("secret\n"), 0o600))
	p := startOutpost(t, file)
	s := p.wait("the group is well", func(s Status) bool { return s.State == "available" && len(s.Nodes) == 3 })
	if zone := s.node(a.Addr()).Zone; zone != "west" {
		t.Errorf("the primary's zone is %q", zone)
	}
	clients := shop(t, proxyAddrs(p), 2) // who names no user
	clients.ackedAfter(50)
	clients.sawNothing()
	must(t, a.Kill())
	p.wait("there is no primary", func(s Status) bool { return s.Primary == "" })
	if code, err := p.ask(http.MethodGet, "/healthz", &struct{}{}); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("healthz without a primary: %d %v", code, err)
	}
	p.stop()
}

func TestAProxyOnItsOwnSpeaksTLSWithItsNodes(t *testing.T) {
	bin, err := server.FindServer(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"init"}, {"issue", "node", "--host", "127.0.0.1"}, {"issue", "web", "--host", "127.0.0.1"}} {
		if out, text, code := run(t, append(append([]string{"certs"}, args...), "--dir", dir)...); code != 0 {
			t.Fatalf("understudy certs %v: %s%s", args, out, text)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	port := unusedPorts(t, 1)[0]
	node := exec.Command(bin.Path, "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--requirepass", "secret",
		"--tls-cert-file", at("node.pem"), "--tls-key-file", at("node.key"), "--tls-ca-cert-file", at("ca.pem"))
	node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, node.Start())
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	must(t, os.WriteFile(at("secret"), []byte("secret\n"), 0o600))
	file := at("proxy.yaml")
	text := "group: shop\n" + anyPorts + `upstream:
  static: {primary: 127.0.0.1:` + port + `}
  password_file: secret
  lend_login: true
  tls: {enabled: true, ca: ca.pem, cert: web.pem, key: web.key}
`
	must(t, os.WriteFile(file, []byte(text), 0o600))
	p := startOutpost(t, file)
	c := redis.NewClient(&redis.Options{Addr: p.Primary, MaxRetries: -1})
	defer c.Close()
	must(t, c.Set(t.Context(), "k", "v", 0).Err())
	if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
	if strings.Contains(p.up.log(), "secret") {
		t.Errorf("the log has the password:\n%s", p.up.log())
	}
	p.stop()
}
