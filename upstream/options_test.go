package upstream

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

func TestOptionsThatAreWrongNameTheirField(t *testing.T) {
	good := func() Options {
		return Options{Group: "g", Clock: clock, OnStatus: func(time.Duration, cluster.NodeStatus) {}, Static: &Static{Primary: "h:1"}}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"Group is needed":              func(o *Options) { o.Group = "" },
		"Clock is needed":              func(o *Options) { o.Clock = nil },
		"OnStatus is needed":           func(o *Options) { o.OnStatus = nil },
		"Password is needed with User": func(o *Options) { o.User = "u" },
		"Interval 1ms":                 func(o *Options) { o.Interval = time.Millisecond },
		"Lease 150ms: at least twice":  func(o *Options) { o.Lease = 150 * time.Millisecond },
		"Dispute 50ms":                 func(o *Options) { o.Dispute = 50 * time.Millisecond },
		"Patience 500ms":               func(o *Options) { o.Patience = 500 * time.Millisecond },
		"0 of Static, Sentinel and":    func(o *Options) { o.Static = nil },
		"2 of Static, Sentinel and":    func(o *Options) { o.Sentinel = &Sentinel{} },
		"Static.Primary is needed":     func(o *Options) { o.Static = &Static{Replicas: []string{"h:2"}} },
		`"h" is not HOST:PORT`:         func(o *Options) { o.Static = &Static{Primary: "h"} },
		"h:1 is there twice":           func(o *Options) { o.Static = &Static{Primary: "h:1", Replicas: []string{"h:1"}} },
		"Sentinel.Name is needed":      func(o *Options) { o.Static, o.Sentinel = nil, &Sentinel{Addrs: []string{"h:1"}} },
		"Sentinel.Addrs is needed":     func(o *Options) { o.Static, o.Sentinel = nil, &Sentinel{Name: "m"} },
		"Sentinel.Password is needed":  func(o *Options) { o.Static, o.Sentinel = nil, &Sentinel{Name: "m", Addrs: []string{"h:1"}, User: "u"} },
		"Sentinel.Poll 1ms": func(o *Options) {
			o.Static, o.Sentinel = nil, &Sentinel{Name: "m", Addrs: []string{"h:1"}, Poll: time.Millisecond}
		},
		"ReplicationGroup or": func(o *Options) { o.Static, o.ElastiCache = nil, &ElastiCache{} },
		"either the API says": func(o *Options) {
			o.Static, o.ElastiCache = nil, &ElastiCache{ReplicationGroup: "g", Region: "r", Primary: "h:1"}
		},
		"Region is needed": func(o *Options) { o.Static, o.ElastiCache = nil, &ElastiCache{ReplicationGroup: "g"} },
		"SecretKey go together": func(o *Options) {
			o.Static, o.ElastiCache = nil, &ElastiCache{ReplicationGroup: "g", Region: "r", AccessKey: "a"}
		},
		"ElastiCache.Poll 1ms": func(o *Options) {
			o.Static, o.ElastiCache = nil, &ElastiCache{ReplicationGroup: "g", Region: "r", Poll: time.Millisecond}
		},
		"ElastiCache.Primary is needed":       func(o *Options) { o.Static, o.ElastiCache = nil, &ElastiCache{Nodes: []string{"h:1"}} },
		"ElastiCache.Primary, Reader and Nod": func(o *Options) { o.Static, o.ElastiCache = nil, &ElastiCache{Primary: "h:1", Reader: "h"} },
	} {
		o := good()
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestOptionsOfTheCallerStayAsTheyAre(t *testing.T) {
	s := &Sentinel{Name: "m", Addrs: []string{"h:1"}}
	_, err := New(Options{Group: "g", Clock: clock, OnStatus: func(time.Duration, cluster.NodeStatus) {}, Sentinel: s})
	must(t, err)
	if s.Poll != 0 {
		t.Errorf("Poll was set to %v in the caller's own struct", s.Poll)
	}
}

func TestRunEndsWithItsContextWhateverHangs(t *testing.T) {
	for name, o := range map[string]Options{
		"silent nodes":     {Static: &Static{Primary: silent(t), Replicas: []string{silent(t)}}},
		"silent sentinels": {Sentinel: &Sentinel{Name: "m", Addrs: []string{silent(t), silent(t)}}},
		"a silent API":     {ElastiCache: &ElastiCache{ReplicationGroup: "g", Region: "r", Endpoint: "http://" + silent(t), AccessKey: "a", SecretKey: "s"}},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			o.Group, o.Clock, o.OnStatus, o.Metrics = "g", clock, func(time.Duration, cluster.NodeStatus) {}, reg
			w, err := New(o)
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			begin := time.Now()
			must(t, w.Run(ctx))
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
			w.Doubt() // after the end: nothing happens
			if families, err := reg.Gather(); err != nil || len(families) != 8 {
				t.Errorf("%d metrics, %v", len(families), err)
			}
		})
	}
}

func TestWordsOfINFO(t *testing.T) {
	w, err := parseWord("# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=42,lag=0\r\n" +
		"slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0\r\nmaster_replid:aaaa\r\nmaster_replid2:bbbb\r\nmaster_repl_offset:42\r\nsecond_repl_offset:15\r\n")
	must(t, err)
	if w.role != cluster.RolePrimary || w.replicas != 1 || w.pos != (cluster.Position{ReplID: "aaaa", Offset: 42}) || w.prev != (cluster.Position{ReplID: "bbbb", Offset: 14}) {
		t.Errorf("%+v", w)
	}
	w, err = parseWord("role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:1\r\n" +
		"slave_repl_offset:7\r\nmaster_replid:aaaa\r\nmaster_replid2:0000\r\nmaster_repl_offset:9\r\nsecond_repl_offset:-1\r\n")
	must(t, err)
	if w.role != cluster.RoleReplica || w.linkUp || !w.syncing || w.follows != "10.0.0.1:6379" || w.pos.Offset != 7 || w.prev != (cluster.Position{}) {
		t.Errorf("%+v", w)
	}
	for _, text := range []string{"", "role:sentinel\r\nmaster_repl_offset:1", "role:master\r\nmaster_repl_offset:x"} {
		if _, err := parseWord(text); err == nil {
			t.Errorf("%q was taken for an answer", text)
		}
	}
}

func FuzzWordsOfINFO(f *testing.F) {
	f.Add("role:master\r\nslave0:state=online\r\nmaster_replid:a\r\nmaster_repl_offset:9\r\nsecond_repl_offset:3\r\n")
	f.Add("role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nslave_repl_offset:3\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWord(text)
		if err == nil && w.role != cluster.RolePrimary && w.role != cluster.RoleReplica {
			t.Errorf("%q: role %q", text, w.role)
		}
	})
}
