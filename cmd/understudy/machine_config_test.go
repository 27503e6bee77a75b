package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"understudy/cluster"
)

// minimal is a machine's configuration without what has a default; %s is for one more line.
const minimal = `machine: m1
zone: a
listen: 127.0.0.1
store: {embed: {m1: "127.0.0.1:2380"}}
%s
`

func machineFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheSampleFilesAreConfigurations(t *testing.T) {
	for i, name := range []string{"m1", "m2", "m3"} {
		c, err := loadMachineConfig(filepath.Join("..", "..", "deploy", "agent-"+name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if c.Machine != name || c.Store.Embed["m2"] != (memberConfig{"10.0.0.12:2380", "10.0.0.12:2379"}) || c.Listen != fmt.Sprintf("10.0.0.1%d", i+1) {
			t.Errorf("%s: %+v", name, c)
		}
		if c.HTTP != "127.0.0.1:7401" || !strings.HasSuffix(c.TLS.Cert, filepath.Join("deploy", name+".pem")) {
			t.Errorf("%s: http %s, certificate %s", name, c.HTTP, c.TLS.Cert)
		}
		specs := c.specs()
		if len(specs) != 1 || len(specs[0].Nodes) != 3 || specs[0].Nodes[2].ID != "main-003" || specs[0].Durability != cluster.DurabilitySync {
			t.Errorf("%s: groups %+v", name, specs)
		}
	}
}

func TestWhatIsPrintedOfAMachineIsAConfiguration(t *testing.T) {
	c, err := loadMachineConfig(machineFile(t, fmt.Sprintf(minimal, `adopt: {two-001: {addr: "127.0.0.1:6379", user: x, password_file: /p}}
groups: [{name: main, zones: [a, b], priority: {main-001: 2}}, {name: two, machines: {two-001: m1}, nodes: 2, profile: standard}]`)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.print(&b); err != nil {
		t.Fatal(err)
	}
	again, err := loadMachineConfig(machineFile(t, b.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if !reflect.DeepEqual(again, c) {
		t.Errorf("printed and read again:\n%+v\nwant\n%+v\nprinted:\n%s", again, c, b.String())
	}
	for key := range strings.SplitSeq("machine zone data listen port_base http store tls insecure groups slots replace_after", " ") {
		if !strings.Contains(b.String(), "\n"+key+":") {
			t.Errorf("%s is not printed", key)
		}
	}
	if s := again.specs()[0]; s.Nodes[0].Priority != 2 || s.Nodes[1].Zone != "b" || s.Nodes[2].Zone != "a" {
		t.Errorf("nodes %+v", s.Nodes)
	}
}

func TestAMachinesConfigurationIsChecked(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{fmt.Sprintf(minimal, "port_bass: 1"), `line 5: unknown key "port_bass": did you mean "port_base"?`},
		{fmt.Sprintf(minimal, "groups: [{name: main, durabilty: sync}]"), `line 5: unknown key "durabilty": did you mean "durability"?`},
		{fmt.Sprintf(minimal, "slots: many"), "line 5"},
		{strings.Replace(fmt.Sprintf(minimal, ""), "m1\n", "M 1\n", 1), "machine"},
		{strings.Replace(fmt.Sprintf(minimal, ""), "zone: a", "zone: a b", 1), "zone"},
		{strings.Replace(fmt.Sprintf(minimal, ""), "listen: 127.0.0.1", "listen: 0.0.0.0", 1), "the address at which the other machines reach"},
		{strings.Replace(fmt.Sprintf(minimal, ""), "listen: 127.0.0.1", "listen: 10.0.0.1", 1), "insecure: true"},
		{fmt.Sprintf(minimal, "tls: {ca: a, cert: b}"), "ca, cert and key are needed together"},
		{fmt.Sprintf(minimal, "insecure: true\ntls: {ca: a, cert: b, key: c}"), "say one of them"},
		{fmt.Sprintf(minimal, "http: 10.0.0.1:80"), "open_http: true"},
		{fmt.Sprintf(minimal, "port_base: 65530"), "port_base"},
		{fmt.Sprintf(minimal, "groups: [{name: main}, {name: main}]"), "named twice"},
		{fmt.Sprintf(minimal, "groups: [{name: main, profile: slow}]"), `profile "slow"`},
		{fmt.Sprintf(minimal, "groups: [{name: main, nodes: 9}]"), "nodes 9"},
		{fmt.Sprintf(minimal, "groups: [{name: main, on_lost_quorum: maybe}]"), "shrink, refuse"},
		{fmt.Sprintf(minimal, "groups: [{name: main, return_window: often}]"), "return_window"},
		{fmt.Sprintf(minimal, "replace_after: 10s\ngroups: [{name: main}]"), "replace_after 10s must be at least 30s"},
		{fmt.Sprintf(minimal, "replace_after: 50s\ngroups: [{name: main, profile: wide}]"), "at least 1m6s"},
		{strings.Replace(fmt.Sprintf(minimal, "groups: [{name: main}]"), "store: {", "store: {heartbeat: 100ms, election: 1s, ", 1),
			"2 × store.election (2 × 1s = 2s) must be at most T of the profile fast (1s)"},
		{strings.Replace(fmt.Sprintf(minimal, ""), "store: {", "store: {heartbeat: 100ms, election: 200ms, ", 1), "5 × heartbeat"},
		{strings.Replace(fmt.Sprintf(minimal, ""), `{m1: "127.0.0.1:2380"}`, `{m1: "127.0.0.1:2380", m2: "127.0.0.1:2390"}`, 1), "2 members"},
		{strings.Replace(fmt.Sprintf(minimal, ""), `"127.0.0.1:2380"`, `nowhere`, 1), "not HOST:PORT"},
		{fmt.Sprintf(minimal, "adopt: {main-001: {addr: \"h:1\"}}"), "no group of this file"},
		{fmt.Sprintf(minimal, "groups: [{name: main}]\nadopt: {main-001: {addr: \"h:1\"}}"), "machines must say main-001: m1"},
		{fmt.Sprintf(minimal, "groups: [{name: main, machines: {main-001: m1}}]"), "adopt does not say where"},
		{fmt.Sprintf(minimal, "groups: [{name: main, machines: {main-001: m1}}]\nadopt: {main-001: {addr: h}}"), "adopt: main-001: addr"},
		{"machine: m1\nzone: a\nlisten: 127.0.0.1\n", "store: embed"},
		{"machine: m1\nzone: a\nlisten: 127.0.0.1\nstore: {endpoints: [\"h:1\"], user: x}\n", "password_file"},
	} {
		_, err := loadMachineConfig(machineFile(t, c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n  gave %v\n  want %s", c.text, err, c.want)
		}
	}
	if _, err := loadMachineConfig(machineFile(t, fmt.Sprintf(minimal, "groups: [{name: main}]"))); err != nil {
		t.Error(err)
	}
}

// Whatever the file says, it is taken or refused, and what is taken can be printed.
func FuzzMachineFile(f *testing.F) {
	f.Add(fmt.Sprintf(minimal, "groups: [{name: main}]"))
	f.Add("store: {embed: {m1: {peer: \"h:2\", client: \"h:1\"}}}")
	f.Add("tls: *x")
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultMachineConfig()
		if decodeStrict([]byte(text), &c) != nil {
			return
		}
		c.complete()
		if c.validate() != nil {
			return
		}
		if err := c.print(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	})
}
