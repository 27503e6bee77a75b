package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/certs"
	"understudy/cluster"
)

// guardedFiles are a certificate for 127.0.0.1 and a token.
func guardedFiles(t *testing.T) door {
	t.Helper()
	dir := t.TempDir()
	if err := certs.Init(dir, "test", false); err != nil {
		t.Fatal(err)
	}
	if err := certs.Issue(dir, certs.Request{Name: "front", Hosts: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	d := door{TLS: tlsConfig{filepath.Join(dir, certs.AuthorityCert), filepath.Join(dir, "front.pem"), filepath.Join(dir, "front.key")},
		TokenFile: filepath.Join(dir, "token")}
	if err := os.WriteFile(d.TokenFile, []byte("a token that nobody guesses\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// serveDoor answers /api/status behind a door.
func serveDoor(t *testing.T, d door, before ...func(http.Handler) http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opened, err := d.open(prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- opened.serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, http.StatusOK, cluster.Status{Group: "main"})
		}), before...)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestCommandsComeInAtAGuardedAddress(t *testing.T) {
	d := guardedFiles(t)
	at := serveDoor(t, d)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("another token of that length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	said := instance{Endpoints: cluster.Endpoints{HTTP: at}}
	d.tells(&said)
	if err := said.write(instanceFile(data)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f    finder
		want string
	}{
		{finder{data: data}, ""},
		{finder{http: at, ca: d.TLS.CA, tokenFile: d.TokenFile}, ""},
		{finder{http: "https://" + at + "/", ca: d.TLS.CA, tokenFile: d.TokenFile}, ""},
		{finder{http: "https://" + at, ca: d.TLS.CA}, "asks for a token"},
		{finder{http: "https://" + at, ca: d.TLS.CA, tokenFile: wrong}, "does not take the token"},
		{finder{data: data, tokenFile: wrong}, "does not take the token"},
		{finder{http: "https://" + at, tokenFile: d.TokenFile}, "is from an authority that is not trusted here"},
		{finder{http: at, tokenFile: d.TokenFile}, "say https:// before its address"},
		{finder{http: at, ca: d.TokenFile}, "holds no certificate"},
		{finder{http: at, tokenFile: filepath.Join(data, "none")}, "--token-file"},
	} {
		var s cluster.Status
		_, err := c.f.call(t.Context(), http.MethodGet, "/api/status", nil, &s)
		switch {
		case c.want == "" && (err != nil || s.Group != "main"):
			t.Errorf("%+v: %v, %+v", c.f, err, s)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want %q", c.f, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "nobody guesses") {
			t.Errorf("the token is in %v", err)
		}
	}
}

// AWS's clients sign what they ask, and know of no token.
func TestWhoHasALockOfHisOwnIsNotAskedForTheToken(t *testing.T) {
	d := guardedFiles(t)
	d.TLS = tlsConfig{}
	at := serveDoor(t, d, func(rest http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == "/" {
				_, _ = io.WriteString(w, "signed")
				return
			}
			rest.ServeHTTP(w, r)
		})
	})
	for path, want := range map[string]int{"/": http.StatusOK, "/api/switchover": http.StatusUnauthorized} {
		res, err := http.Post("http://"+at+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("POST %s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

func TestAnAddressThatOthersReachIsGuardedOrSaidToBeOpen(t *testing.T) {
	const guarded = "http_tls: {ca: a, cert: b, key: c}\nhttp_token_file: t\n"
	agent := func(more string) error {
		_, err := loadMachineConfig(machineFile(t, fmt.Sprintf(minimal, "http: 10.0.0.1:80\n"+more)))
		return err
	}
	proxy := func(more string) error {
		_, err := loadProxyConfig(proxyFile(t, someStore+"listen: {primary: \"127.0.0.1:1\", http: \"10.0.0.1:80\"}\n"+more))
		return err
	}
	for name, load := range map[string]func(string) error{"agent": agent, "proxy": proxy} {
		for more, want := range map[string]string{
			guarded:                                "",
			guarded + "http_open_metrics: true\n":  "",
			"":                                     "without TLS or a token",
			"http_token_file: t\n":                 "without TLS or a token",
			"http_tls: {ca: a, cert: b, key: c}\n": "set http_tls and http_token_file",
			"http_tls: {ca: a}\n":                  "http_tls: ca, cert and key are needed together",
			"http_open_metrics: true\n":            "http_open_metrics: without http_token_file everything is open",
			"http_tokn_file: t\n":                  `did you mean "http_token_file"?`,
		} {
			if err := load(more); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: %v, want %q", name, more, err, want)
			}
		}
	}
	c, err := loadMachineConfig(machineFile(t, fmt.Sprintf(minimal, guarded)))
	if err != nil || !filepath.IsAbs(c.HTTPToken) || !filepath.IsAbs(c.HTTPTLS.Key) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAFileWithSecretsIsReadAnew(t *testing.T) {
	d := guardedFiles(t)
	var said bytes.Buffer
	s, err := openSecrets(d.TokenFile, readTokens, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(d.TokenFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.looked = s.looked.Add(-2 * lookAtSecrets)
	}
	write("the first token of two\nthe second token of two\n")
	if got := s.current(); len(got) != 2 || s.first() != "the first token of two" {
		t.Errorf("%q", got)
	}
	write("short")
	if got := s.current(); len(got) != 2 || !strings.Contains(said.String(), "of no use") {
		t.Errorf("%q, said %s", got, said.String())
	}
	if strings.Contains(said.String(), "first token") {
		t.Errorf("a secret is in the log: %s", said.String())
	}
	var i instance
	d.tells(&i)
	if text, err := json.Marshal(i); err != nil || strings.Contains(string(text), "guesses") {
		t.Errorf("%s, %v", text, err)
	}
}
