package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/proxy"
)

func TestEntrancesThatMakeNoSenseAreRefused(t *testing.T) {
	secure := "tls_ca: a, tls_cert: b, tls_key: c, "
	for text, want := range map[string]string{
		"primary_tls_addr: \"127.0.0.1:1\"":               "clients.tls_ca, clients.tls_cert and clients.tls_key are needed for a TLS address",
		"tls_ca: a":                                       "are needed together",
		"tls_ca: a, tls_cert: b, tls_key: c":              "clients.tls_cert: no TLS address is set",
		"tls_auth_clients: true":                          "clients.tls_cert: no TLS address is set",
		secure + "primary_tls_addr: nowhere":              `clients.primary_tls_addr "nowhere": not HOST:PORT`,
		secure + "split_tls_addr: \"10.0.0.1:6379\"":      "clients.split_tls_addr 10.0.0.1:6379: other machines could reach it without a password",
		"proxy_protocol: [10.0.0.0/33]":                   `clients.proxy_protocol: "10.0.0.0/33" is no network`,
		"proxy_protocol: [balancer]":                      `clients.proxy_protocol: "balancer" is no network`,
		"max_clients: -1":                                 "clients.max_clients -1: from 1",
		"output_limit: 1000":                              "clients.output_limit 1000: at least 65536 bytes",
		"output_limit: 100000, output_soft_limit: 200000": "clients.output_soft_limit 200000: is above clients.output_limit",
		"output_soft_for: -1s":                            "clients.output_soft_for -1s: a time is needed",
		"max_client: 5":                                   `unknown key "max_client": did you mean "max_clients"?`,
		secure + "primary_tls_addr: \"0.0.0.0:1\", password_file: x}\nhold: {a: 1": "line 3",
	} {
		if _, err := loadProxyConfig(proxyFile(t, someStore+"clients: {"+text+"}\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		secure + "primary_tls_addr: \"0.0.0.0:6380\", password_file: pw",
		secure + "primary_tls_addr: \"0.0.0.0:6380\", tls_auth_clients: true",
		"proxy_protocol: [10.0.0.0/8, \"fd00::/8\", 192.0.2.7]",
	} {
		c, err := loadProxyConfig(proxyFile(t, someStore+"clients: {"+text+"}\n"))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if c.Clients.TLSCert != "" && !filepath.IsAbs(c.Clients.TLSCert) {
			t.Errorf("%q: %s is not from where the file lies", text, c.Clients.TLSCert)
		}
		var printed bytes.Buffer
		if err := c.print(&printed); err != nil {
			t.Fatal(err)
		}
		again, err := loadProxyConfig(proxyFile(t, printed.String()))
		if err != nil || again.Clients.PrimaryTLSAddr != c.Clients.PrimaryTLSAddr || len(again.Clients.ProxyProtocol) != len(c.Clients.ProxyProtocol) {
			t.Errorf("%q is printed as %s: %v", text, printed.String(), err)
		}
	}
}

func TestTheSettingsOfTheEntranceReachTheProxy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("new secret\n\nold\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := entrance{PasswordFile: file, ProxyProtocol: list{"10.0.0.0/8", "192.0.2.7"}, MaxClients: 7, OutputLimit: 1 << 20, InputLimit: 1 << 21}
	var o proxy.Options
	if err := e.apply(&o, nil); err != nil {
		t.Fatal(err)
	}
	if len(o.Passwords) != 2 || o.Passwords[0] != "new secret" || o.Passwords[1] != "old" {
		t.Errorf("passwords %q", o.Passwords)
	}
	if len(o.ProxyProtocol) != 2 || o.ProxyProtocol[1].String() != "192.0.2.7/32" {
		t.Errorf("networks %v", o.ProxyProtocol)
	}
	if o.MaxClients != 7 || o.OutputLimit != 1<<20 || o.InputLimit != 1<<21 {
		t.Errorf("limits %+v", o)
	}
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := e.apply(&o, nil); err == nil || !strings.Contains(err.Error(), "everybody on this machine may read it") {
		t.Errorf("a file for everybody: %v", err)
	}
}

func TestUsersAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]string{
		"# ours\nweb  one\nweb two\nops\tsecret app app-secret\n": `[{web [one two]  } {ops [secret] app app-secret}]`,
		"web":              "entry 1 has 1 words",
		"web one app":      "entry 1 has 3 words",
		"a b c d\na b c e": "a is two users of the servers",
		"# nobody":         "there is no user in it",
	} {
		file := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := readUsers(file); fmt.Sprint(all) != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, %v", text, all, err)
		}
	}
}
