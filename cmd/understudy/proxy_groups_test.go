package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestUpstreams plays the stories in testdata/upstreams: proxies before redis-servers that are not ours.
func TestUpstreams(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "upstreams"), RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(6 * time.Minute),
		Setup: func(e *testscript.Env) error {
			network := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250))
			e.Setenv("NET", network)
			e.Setenv("TMPDIR", os.TempDir())
			group := func(name string, port, server int) string {
				return fmt.Sprintf("  - {name: %s, listen: {primary: \"%s.2:%d\"}, upstream: {static: {primary: \"%s.1:%d\"}}}\n", name, network, port, network, server)
			}
			top := fmt.Sprintf("listen: {http: \"%s.2:7390\"}\ngroups:\n", network)
			two := top + group("shop", 7379, 6001) + group("jobs", 7380, 6002)
			one := fmt.Sprintf("group: shop\nlisten: {primary: \"%[1]s.2:7379\", reader: \"%[1]s.2:7380\", split: \"\", http: \"%[1]s.2:7390\"}\n"+
				"upstream: {static: {primary: \"%[1]s.1:6001\"}}\n", network)
			for name, text := range map[string]string{"one": one, "locked": one + "clients: {password_file: passwords, users_file: users, login_failures: -1}\n", "proxy": two, "three": two + group("again", 7381, 6001)} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name+".yaml"), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode, "until": until},
	})
}

func TestAGroupTakesFromTheTopOfTheFileWhatItDoesNotSay(t *testing.T) {
	c, err := loadProxyConfig(proxyFile(t, `zone: a
hold: 7s
store: {endpoints: ["127.0.0.1:2379"]}
clients: {max_clients: 50}
hold_requests: 500
max_lag_bytes: 1000000
policies: [{prefix: "session:", on_unavailable: fail}]
groups:
  - {name: shop, listen: {primary: "127.0.0.1:1"}}
  - {name: jobs, zone: b, hold: 9s, hold_bytes: 20000000, max_staleness: 3s, max_lag_bytes: 0, policies: [{prefix: "cache:", on_unavailable: stale, max_staleness: 30s, max_hold: 1s}], listen: {primary: "127.0.0.1:2"}, clients: {output_limit: 100000000}}
  - {name: cache, policies: [], listen: {reader: "127.0.0.1:3"}, upstream: {static: {primary: "127.0.0.1:4"}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	shop, jobs, cache := c.groups()[0], c.groups()[1], c.groups()[2]
	if shop.Zone != "a" || shop.Hold != 7*time.Second || len(shop.Store.Endpoints) != 1 || shop.Clients.MaxClients != 50 || shop.Listen.Reader != "" {
		t.Errorf("shop: %+v", shop)
	}
	if jobs.Zone != "b" || jobs.Hold != 9*time.Second || jobs.Clients.MaxClients != 50 || jobs.Clients.OutputLimit != 100000000 {
		t.Errorf("jobs: %+v", jobs)
	}
	if cache.Upstream == nil || len(cache.Store.Endpoints) != 0 || cache.Listen.HTTP != "127.0.0.1:7390" {
		t.Errorf("cache: %+v", cache)
	}
	if shop.Clients.OutputLimit != defaultEntrance().OutputLimit {
		t.Error("one group's limit is another's")
	}
	top := policyConfig{Prefix: "session:", OnUnavailable: "fail"}
	own := policyConfig{Prefix: "cache:", OnUnavailable: "stale", MaxHold: time.Second, MaxStaleness: 30 * time.Second}
	if w := shop.waits(); !slices.Equal(w.Policies, policyList{top}) || w.HoldRequests != 500 || w.MaxLagBytes != 1000000 || w.MaxStaleness != 0 {
		t.Errorf("shop: %+v", w)
	}
	if w := cache.waits(); len(w.Policies) != 0 || w.HoldRequests != 500 {
		t.Errorf("cache: %+v", w)
	}
	if w := jobs.waits(); !slices.Equal(w.Policies, policyList{own}) || w.HoldRequests != 500 || w.HoldBytes != 20000000 || w.MaxLagBytes != 0 || w.MaxStaleness != 3*time.Second {
		t.Errorf("jobs: %+v", w)
	}
	var b strings.Builder
	if err := c.print(&b); err != nil {
		t.Fatal(err)
	}
	again, err := loadProxyConfig(proxyFile(t, b.String()))
	for i := range again.groups() {
		if got, want := fmt.Sprint(again.groups()[i].waits()), fmt.Sprint(c.groups()[i].waits()); got != want {
			t.Errorf("group %d, printed and read again: %s, want %s", i, got, want)
		}
	}
	if err != nil || len(again.groups()) != 3 || again.groups()[1].Hold != 9*time.Second {
		t.Errorf("what is printed is not what was read: %v\n%s", err, &b)
	}
}

func TestTheSampleOfSeveralGroupsIsAConfiguration(t *testing.T) {
	c, err := loadProxyConfig(filepath.Join("..", "..", "deploy", "proxy-groups.yaml"))
	if err != nil || len(c.groups()) != 3 || c.groups()[2].Upstream.Sentinel.Name != "cache" {
		t.Errorf("%+v, %v", c.groups(), err)
	}
}

// fetchPage prints what is at a URL: fetch URL.
func fetchPage() {
	res, err := http.Get(os.Args[1])
	if err == nil {
		defer res.Body.Close()
		_, err = io.Copy(os.Stdout, res.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
