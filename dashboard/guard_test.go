package dashboard

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type showed struct{}

func TestWhoShowsNoTokenMayAskForHealthOnly(t *testing.T) {
	var tokens atomic.Pointer[[]string]
	tokens.Store(&[]string{"the new token of it", "the old token of it"})
	registry := prometheus.NewRegistry()
	for _, open := range []bool{false, true} {
		o := GuardOptions{Tokens: func() []string { return *tokens.Load() }, OpenMetrics: open,
			Admitted: func(ctx context.Context) context.Context { return context.WithValue(ctx, showed{}, true) }}
		if !open {
			o.Metrics = registry
		}
		web := httptest.NewServer(NewGuard(o).Before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Value(showed{}) != nil {
				_, _ = io.WriteString(w, "known")
			}
		})))
		t.Cleanup(web.Close)
		for _, c := range []struct {
			method, path, header string
			want                 int
		}{
			{"GET", "/healthz", "", 200}, {"HEAD", "/groups/main/healthz", "", 200}, {"POST", "/healthz", "", 401},
			{"GET", "/metrics", "", map[bool]int{false: 401, true: 200}[open]},
			{"GET", "/groups/main/metrics", "", map[bool]int{false: 401, true: 200}[open]},
			{"GET", "/api/status", "", 401}, {"POST", "/api/switchover", "", 401}, {"GET", "/", "", 401},
			{"GET", "/healthz/../api/status", "", 401}, {"GET", "/groups/healthz", "", 401}, {"GET", "//healthz", "", 401},
			{"GET", "/groups/a/healthz/x", "", 401}, {"GET", "/groups/a%2Fb/healthz", "", 401},
			{"GET", "/api/status", "Bearer the new token of it", 200}, {"POST", "/api/switchover", "bearer the old token of it", 200},
			{"GET", "/api/status", "Bearer the new token of i", 401}, {"GET", "/api/status", "Bearer ", 401},
			{"GET", "/api/status", "Basic the new token of it", 401}, {"GET", "/api/status", "the new token of it", 401},
		} {
			req, err := http.NewRequest(c.method, web.URL+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", c.header)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != c.want {
				t.Errorf("%s %s with %q: %d, want %d", c.method, c.path, c.header, res.StatusCode, c.want)
			}
			switch known := c.want == 200 && c.header != ""; {
			case known != (string(text) == "known"):
				t.Errorf("%s %s with %q: is marked %q", c.method, c.path, c.header, text)
			case c.want == 401 && c.method != "HEAD" && (res.Header.Get("WWW-Authenticate") == "" || !strings.Contains(string(text), "Authorization: Bearer TOKEN")):
				t.Errorf("%s %s: %v %s says not how to come in", c.method, c.path, res.Header, text)
			}
		}
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() != 15 {
		t.Errorf("refusals are counted as %v (%v), want 15", families, err)
	}
	// A token that is taken away counts no longer.
	tokens.Store(&[]string{})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/api/status", nil)
	r.Header.Set("Authorization", "Bearer the new token of it")
	NewGuard(GuardOptions{Tokens: func() []string { return *tokens.Load() }}).Before(http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("a token that was taken away: %d", w.Code)
	}
}
