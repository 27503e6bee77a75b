package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/upstream"
)

func TestUpstreamsAreReadAsTheyAreWritten(t *testing.T) {
	type check func(o upstream.Options) bool
	for text, want := range map[string]check{
		"upstream: {static: {primary: h:1, replicas: [h:2, 10.0.0.3:3]}}": func(o upstream.Options) bool {
			return o.Static.Primary == "h:1" && slices.Equal(o.Static.Replicas, []string{"h:2", "10.0.0.3:3"})
		},
		"upstream: {sentinel: {name: m, addrs: [10.0.0.1:26379, s2:26379], poll: 2s}}": func(o upstream.Options) bool {
			return o.Sentinel.Name == "m" && slices.Equal(o.Sentinel.Addrs, []string{"10.0.0.1:26379", "s2:26379"}) && o.Sentinel.Poll == 2*time.Second
		},
		"upstream: {elasticache: {replication_group: G, region: R}}": func(o upstream.Options) bool {
			return o.ElastiCache.ReplicationGroup == "G" && o.ElastiCache.Region == "R"
		},
		"upstream:\n  elasticache: {primary: p.example.com:6379, reader: r.example.com:6379, nodes: [n1.example.com:6379]}\n  tls: {enabled: true}\n": func(o upstream.Options) bool {
			return o.ElastiCache.Primary == "p.example.com:6379" && len(o.ElastiCache.Nodes) == 1 && o.TLS != nil
		},
		"upstream:\n  static: {primary: 127.0.0.1:1}\n  user: app\n  password_file: secret\n  lend_login: true\n  zones:\n    127.0.0.1:1: a\n  interval: 50ms\n  lease: 200ms\n  dispute: 2s\n  patience: 20s\n": func(o upstream.Options) bool {
			return o.User == "app" && o.Password == "s3cret" && o.Access.User == "app" && o.Access.Password == "s3cret" && o.Static.Zones["127.0.0.1:1"] == "a" &&
				o.Interval == 50*time.Millisecond && o.Lease == 200*time.Millisecond && o.Dispute == 2*time.Second && o.Patience == 20*time.Second
		},
	} {
		file := proxyFile(t, text)
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "secret"), []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadProxyConfig(file)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		o, err := c.Upstream.options(slog.New(slog.DiscardHandler))
		if err != nil || !want(o) || c.Hold != 30*time.Second || c.Group != "main" {
			t.Errorf("%q: hold %v, %+v, %v", text, c.Hold, o, err)
		}
		var b bytes.Buffer
		if err := c.print(&b); err != nil {
			t.Fatal(err)
		}
		again, err := loadProxyConfig(proxyFile(t, b.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		if got, was := fmt.Sprintf("%+v", again.Upstream.plain("x", "y").Static), fmt.Sprintf("%+v", c.Upstream.plain("x", "y").Static); got != was {
			t.Errorf("printed and read again: %s, want %s", got, was)
		}
	}
}

func TestUpstreamsThatMakeNoSenseAreRefused(t *testing.T) {
	const static = "upstream: {static: {primary: \"h:1\"}}\n"
	cases := map[string]string{
		static + someStore:                         "upstream: store is set too",
		static + "reads: committed\n":              "reads committed: needs a group of Understudy's own",
		static + "tls: {ca: a, cert: b, key: c}\n": "TLS to its nodes is upstream: {tls: {enabled: true}}",
		static + "busy_poll: 2ms\n":                "busy_poll 2ms: must be from 0s to 1ms",
		static + "drain: 2h\n":                     "drain 2h0m0s: must be from 0s to 1h",
		"upstream: {}\n":                           "upstream: 0 of static, sentinel and elasticache are set",
		"upstream: {static: {primary: \"h:1\"}, sentinel: {name: m, addrs: [\"h:2\"]}}\n": "2 of static, sentinel and elasticache",
		"upstream: {sentinel: {name: m, addrs: []}}\n":                                    "upstream: sentinel.addrs is needed",
		"upstream: {sentinel: {addrs: [\"h:1\"]}}\n":                                      "upstream: sentinel.name is needed",
		"upstream: {static: {primary: h}}\n":                                              `static.primary and replicas: "h" is not HOST:PORT`,
		"upstream: {elasticache: {replication_group: G}}\n":                               "elasticache.region is needed with replication_group",
		"\nupstream:\n  statik: {primary: h}\n":                                           `line 3: unknown key "statik": did you mean "static"?`,
		"upstream:\n  static: {primary: h:1}\n  lase: 1s\n":                               `line 3: unknown key "lase": did you mean "lease"?`,
		"upstream:\n  static: {primary: h:1}\n  interval: 100ms\n  lease: 10ms\n":         "upstream: lease 10ms: at least twice the interval of 100ms",
		"upstream:\n  static: {primary: h:1}\n  user: a\n":                                "upstream: password_file is needed with user",
		"upstream:\n  static: {primary: h:1}\n  lend_login: true\n":                       "upstream: lend_login lends the login of password_file",
		"upstream:\n  static: {primary: h:1}\n  tls: {ca: x}\n":                           "upstream: tls: there are files or a name, and enabled is not true",
		"upstream:\n  static: {primary: h:1}\n  tls: {enabled: true, cert: x}\n":          "upstream: tls: cert and key are needed together",
		"upstream:\n  static: {primary: h:12}\n  zones: {\"h:13\": a}\n":                  `upstream: zones: h:13 is none of the nodes`,
	}
	for _, text := range slices.Sorted(maps.Keys(cases)) {
		if _, err := loadProxyConfig(proxyFile(t, text)); err == nil || !strings.Contains(err.Error(), cases[text]) {
			t.Errorf("%q: %v, want %q", text, err, cases[text])
		}
	}
}

func TestAPasswordFileThatIsNotThereIsSaidWithoutStartingAnything(t *testing.T) {
	c, err := loadProxyConfig(proxyFile(t, "upstream:\n  static: {primary: h:1}\n  password_file: nowhere\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upstream.options(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "upstream: password_file: open") {
		t.Errorf("%v", err)
	}
}

func TestTheSampleUpstreamFilesAreConfigurations(t *testing.T) {
	for name, want := range map[string]time.Duration{"proxy-sentinel.yaml": 30 * time.Second, "proxy-elasticache.yaml": time.Minute, "proxy-static.yaml": 30 * time.Second} {
		c, err := loadProxyConfig(filepath.Join("..", "..", "deploy", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := c.Upstream.options(slog.New(slog.DiscardHandler)); err != nil || c.Hold != want || c.Group != "shop" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
