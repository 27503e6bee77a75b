package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

// TestProxies plays the stories in testdata/proxies with real processes: three machines and two proxies,
// each an address of the loopback network of its own.
func TestProxies(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "proxies"), RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(6 * time.Minute),
		Setup: func(e *testscript.Env) error {
			network := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250))
			e.Setenv("NET", network)
			e.Setenv("TMPDIR", os.TempDir())
			files := map[string]string{}
			for i, name := range []string{"m1", "m2", "m3"} {
				files[name] = fmt.Sprintf(`machine: %[1]s
zone: %[2]c
data: %[1]s
listen: %[3]s.%[4]d
store: {embed: {m1: "%[3]s.11:2380", m2: "%[3]s.12:2380", m3: "%[3]s.13:2380"}}
tls: {ca: certs/ca.pem, cert: certs/%[1]s.pem, key: certs/%[1]s.key}
groups: [{name: main}]
`, name, 'a'+i, network, 11+i)
			}
			for i, name := range []string{"p1", "p2"} {
				files[name] = fmt.Sprintf(`group: main
zone: %[2]c
listen: {primary: "%[3]s.%[4]d:7379", reader: "%[3]s.%[4]d:7380", split: "%[3]s.%[4]d:7381", http: "%[3]s.%[4]d:7390"}
store: {endpoints: ["%[3]s.11:2379", "%[3]s.12:2379", "%[3]s.13:2379"]}
tls: {ca: certs/ca.pem, cert: certs/%[1]s.pem, key: certs/%[1]s.key}
hold: 15s
reads: committed
topology_file: %[1]s.json
`, name, 'a'+i, network, 21+i)
			}
			// Its store never answers: it knows the group from what the second proxy kept.
			files["p3"] = fmt.Sprintf(`listen: {primary: "%[1]s.23:7379", reader: "", split: "", http: "%[1]s.23:7390"}
store: {endpoints: ["%[1]s.99:2379"]}
tls: {ca: certs/ca.pem, cert: certs/p2.pem, key: certs/p2.key}
topology_file: p2.json
`, network)
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name+".yaml"), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode, "until": until, "served": served, "nobodyleft": nobodyLeft},
	})
}

func proxyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// someStore is a configuration without what has a default.
const someStore = "store: {endpoints: [\"127.0.0.1:2379\"]}\n"

func TestTheSampleProxyFileIsAConfiguration(t *testing.T) {
	c, err := loadProxyConfig(filepath.Join("..", "..", "deploy", "proxy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Group != "main" || len(c.Store.Endpoints) != 3 || c.Listen.Split != "127.0.0.1:7381" || c.Hold != 5*time.Second ||
		!strings.HasSuffix(c.TLS.Cert, filepath.Join("deploy", "web1.pem")) {
		t.Errorf("%+v", c)
	}
}

func TestWhatIsPrintedOfAProxyIsAConfiguration(t *testing.T) {
	c, err := loadProxyConfig(proxyFile(t, someStore+"zone: a\nreads: committed\nhold: 7s\nlisten: {primary: \"127.0.0.1:1\", reader: \"\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.Reader != "" || c.Listen.HTTP != "127.0.0.1:7390" {
		t.Errorf("listen %+v: an endpoint that is emptied is not served, one that is not named is", c.Listen)
	}
	var b bytes.Buffer
	if err := c.print(&b); err != nil {
		t.Fatal(err)
	}
	again, err := loadProxyConfig(proxyFile(t, b.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if fmt.Sprint(again) != fmt.Sprint(c) {
		t.Errorf("printed and read again: %+v, want %+v", again, c)
	}
}

func TestProxyConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		someStore + "grupe: x\n":                                           `line 2: unknown key "grupe": did you mean "group"?`,
		someStore + "listen: {primery: \"127.0.0.1:1\"}\n":                 `line 2: unknown key "primery": did you mean "primary"?`,
		"group: main\n":                                                    "store: endpoints are needed",
		someStore + "listen: {primary: \"0.0.0.0:7379\"}\n":                "listen.primary 0.0.0.0:7379: other machines could reach it",
		someStore + "listen: {http: \"127.0.0.1:7379\"}\n":                 "listen.http 127.0.0.1:7379: listen.primary has that address already",
		someStore + "listen: {primary: \"\", reader: \"\", split: \"\"}\n": "at least one of primary, reader, split",
		"store: {endpoints: [\"10.0.0.1:2379\"]}\n":                        "store: endpoint 10.0.0.1:2379 is on another machine and tls is not set",
		"store: {endpoints: [nowhere]}\n":                                  `store: endpoint "nowhere": HOST:PORT`,
		someStore + "tls: {ca: x}\n":                                       "tls: ca, cert and key are needed together",
		someStore + "hold: 1ms\n":                                          "hold 1ms: must be from 100ms to 5m0s",
		someStore + "reads: dirty\n":                                       `reads "dirty": not one of permit, committed`,
	} {
		if _, err := loadProxyConfig(proxyFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := loadProxyConfig(proxyFile(t, someStore+"allow_remote: true\nlisten: {primary: \"0.0.0.0:7379\"}\n")); err != nil {
		t.Error(err)
	}
}

// fickle is a store that can be away, and that can come back empty.
type fickle struct {
	cluster.Store
	away atomic.Bool
	ends chan struct{} // a value ends a watch
}

func (f *fickle) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	if f.away.Load() {
		return nil, 0, cluster.ErrUnavailable
	}
	return f.Store.List(ctx, prefix)
}

func (f *fickle) Watch(ctx context.Context, prefix string, from int64) <-chan []cluster.Entry {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-f.ends:
		case <-ctx.Done():
		}
	}()
	return f.Store.Watch(ctx, prefix, from)
}

// put writes a record whatever was there.
func put(t *testing.T, s cluster.Store, key string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.List(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	rev := int64(0)
	if len(entries) > 0 {
		rev = entries[0].Revision
	}
	if _, err := s.Swap(t.Context(), key, text, rev); err != nil {
		t.Fatal(err)
	}
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if eventually(func() error {
		if !ok() {
			return io.EOF
		}
		return nil
	}) != nil {
		t.Fatalf("%s: not in time", what)
	}
}

func TestDirectoryKeepsWhatItKnowsWhileTheStoreIsAway(t *testing.T) {
	store := &fickle{Store: &clustertest.Memory{}, ends: make(chan struct{})}
	d := newDirectory("main", store, "", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	defer func() { cancel(); <-ended }()
	soon(t, "the store is read", func() bool { return strings.Contains(d.missing(), `no group "main"`) })

	spec := cluster.Spec{Name: "main", Profile: "fast", Nodes: []cluster.NodePlace{{ID: "main-001", Machine: "m1"}, {ID: "main-002"}}}
	put(t, store, cluster.SpecKey("main"), spec)
	put(t, store, cluster.MachineKey("m1"), cluster.Machine{Name: "m1", RPC: "tcp:10.0.0.11:7400"})
	put(t, store, cluster.MachineKey("m2"), cluster.Machine{Name: "m2", RPC: "tcp:10.0.0.12:7400"})
	soon(t, "the node has an address", func() bool { return d.where("main-001") == "tcp:10.0.0.11:7400" })
	if at := d.where("main-002"); at != "" {
		t.Errorf("a node without a machine is at %q", at)
	}

	// It breaks, and everything changes meanwhile.
	store.away.Store(true)
	store.ends <- struct{}{}
	store.ends <- struct{}{}
	spec.Nodes[0].Machine = "m2"
	store.Store = &clustertest.Memory{}
	for range 20 {
		if at := d.where("main-001"); at != "tcp:10.0.0.11:7400" {
			t.Fatalf("without the store the node is at %q", at)
		}
		time.Sleep(time.Millisecond)
	}
	put(t, store.Store, cluster.SpecKey("main"), spec)
	put(t, store.Store, cluster.MachineKey("m2"), cluster.Machine{Name: "m2", RPC: "tcp:10.0.0.99:7400"})
	store.away.Store(false)
	soon(t, "the node's new address is known", func() bool { return d.where("main-001") == "tcp:10.0.0.99:7400" })
	put(t, store.Store, cluster.MachineKey("m2"), cluster.Machine{Name: "m2", RPC: "nonsense"})
	put(t, store.Store, cluster.MachineKey("m3"), cluster.Machine{Name: "m3", RPC: "tcp:10.0.0.13:7400"})
	spec.Nodes[1].Machine = "m3"
	put(t, store.Store, cluster.SpecKey("main"), spec)
	soon(t, "the other node has an address", func() bool { return d.where("main-002") == "tcp:10.0.0.13:7400" })
	if at := d.where("main-001"); at != "tcp:10.0.0.99:7400" {
		t.Errorf("after a record that makes no sense the node is at %q", at)
	}
}

func TestSocketsOfOtherMachinesAreNotUsed(t *testing.T) {
	var at reach
	here := cluster.NodeStatus{Addr: "127.0.0.1:7000", Socket: "/run/1.redis"}
	if s := at.of(t.Context(), here); s.Socket != here.Socket {
		t.Errorf("a node of this machine: %q", s.Socket)
	}
	if s := at.of(t.Context(), cluster.NodeStatus{Addr: "192.0.2.1:7000", Socket: "/run/1.redis"}); s.Socket != "" || s.Addr != "192.0.2.1:7000" {
		t.Errorf("a node of another machine: %q at %q", s.Socket, s.Addr)
	}
	if s := at.of(t.Context(), cluster.NodeStatus{Addr: "localhost:7000", Socket: "/run/1.redis"}); s.Addr != "127.0.0.1:7000" && s.Addr != "[::1]:7000" || s.Socket == "" {
		t.Errorf("a node with a name: %q at %q", s.Socket, s.Addr)
	}
}
