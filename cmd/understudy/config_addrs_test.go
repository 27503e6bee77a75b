package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each is a way in which people write the same list.
func TestAddressesNeedNoQuotes(t *testing.T) {
	want := addrList{"10.0.0.11:2379", "10.0.0.12:2379", "etcd-3.example:2379"}
	for _, text := range []string{
		"store: {endpoints: [10.0.0.11:2379, 10.0.0.12:2379, etcd-3.example:2379]}",
		"store: {endpoints: [\"10.0.0.11:2379\", '10.0.0.12:2379', etcd-3.example:2379]}",
		"store:\n  endpoints: [10.0.0.11:2379, 10.0.0.12:2379, etcd-3.example:2379]",
		"store:\n  endpoints:\n  - 10.0.0.11:2379\n  - 10.0.0.12:2379\n  - etcd-3.example:2379",
	} {
		p, err := loadProxyConfig(machineFile(t, text+"\ninsecure: true\n"))
		if err != nil || !slices.Equal(p.Store.Endpoints, want) {
			t.Errorf("proxy.yaml, %q: %v, %v", text, p.Store.Endpoints, err)
		}
		var m machineConfig
		if err := decodeStrict([]byte(text), &m); err != nil || !slices.Equal(m.Store.Endpoints, want) {
			t.Errorf("agent.yaml, %q: %v, %v", text, m.Store.Endpoints, err)
		}
	}
	var m machineConfig
	urls := "store: {endpoints: [https://10.0.0.11:2379, https://etcd-2:2379]}"
	if err := decodeStrict([]byte(urls), &m); err != nil || !slices.Equal(m.Store.Endpoints, addrList{"https://10.0.0.11:2379", "https://etcd-2:2379"}) {
		t.Errorf("URLs: %v, %v", m.Store.Endpoints, err)
	}
}

func TestWhatIsNoListOfAddressesIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{endpoints: 5}":                               "a list of addresses",
		"{endpoints: [{a: 1, b: 2}]}":                  "no address",
		"{endpoints: [{host: {port: 1}}]}":             "no address",
		"{endpoints: [7]}":                             "no address",
		fmt.Sprintf("{endpoints: [%s]}", "[a:1, b:2]"): "no address",
	} {
		_, err := loadProxyConfig(machineFile(t, "store: "+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestProxyTakesListsOfPrefixesAndCommands(t *testing.T) {
	c, err := loadProxyConfig(machineFile(t, "store: {endpoints: [127.0.0.1:2379]}\nonce: [\"jobs:\", 'counter:']\nallow: [CLIENT PAUSE, CONFIG SET maxclients]\n"))
	if err != nil || !slices.Equal(c.Once, []string{"jobs:", "counter:"}) || !slices.Equal(c.Allow, []string{"CLIENT PAUSE", "CONFIG SET maxclients"}) {
		t.Errorf("%v, %v, %v", c.Once, c.Allow, err)
	}
	for text, want := range map[string]string{"once: ['']": "empty prefix", "allow: [GET]": `allow: "GET"`, "allow: [CONFIG SET]": "CONFIG SET"} {
		if _, err := loadProxyConfig(machineFile(t, "store: {endpoints: [127.0.0.1:2379]}\n"+text+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
