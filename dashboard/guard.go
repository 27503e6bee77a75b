package dashboard

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// GuardOptions say who may ask over HTTP.
type GuardOptions struct {
	// Tokens are those that count now: several while one is being changed; nil: nobody needs one.
	Tokens func() []string
	// OpenMetrics tells /metrics to whoever asks, as /healthz is.
	OpenMetrics bool
	// Admitted marks the context of a request that showed a token, for those behind the guard who have a lock of
	// their own; nil: nobody has.
	Admitted func(context.Context) context.Context
	Metrics  prometheus.Registerer // nil: refusals are not counted
}

// Guard keeps those out who do not show a token: whoever reaches an HTTP address without one may switch the
// primary over, and read what the group is told.
type Guard struct {
	opts    GuardOptions
	refused prometheus.Counter
}

// NewGuard returns a Guard.
func NewGuard(o GuardOptions) *Guard {
	return &Guard{opts: o, refused: promauto.With(o.Metrics).NewCounter(prometheus.CounterOpts{
		Name: "understudy_http_refused_requests_total", Help: "Requests to the HTTP address without a token that counts.",
	})}
}

// Before lets requests with a token through to pages, and those that need none.
func (g *Guard) Before(pages http.Handler) http.Handler {
	if g.opts.Tokens == nil {
		return pages
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case g.knows(r.Header.Get("Authorization")):
			if g.opts.Admitted != nil {
				r = r.WithContext(g.opts.Admitted(r.Context()))
			}
		case !g.open(r):
			g.refused.Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="understudy"`)
			answer(w, http.StatusUnauthorized, Outcome{Message: "a token is needed: Authorization: Bearer TOKEN, from the file that the instance was started with"})
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// knows reports whether a header shows a token. How long it takes does not depend on how much of one is right.
func (g *Guard) knows(header string) bool {
	scheme, given, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || given == "" {
		return false
	}
	sum, known := sha256.Sum256([]byte(given)), 0
	for _, token := range g.opts.Tokens() {
		want := sha256.Sum256([]byte(token))
		known |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return known == 1
}

// open reports whether anybody may ask this: a load balancer has no token, and health tells nothing but yes or
// no and why.
func (g *Guard) open(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	page := strings.TrimPrefix(r.URL.Path, "/")
	if of, ok := strings.CutPrefix(page, "groups/"); ok {
		_, page, _ = strings.Cut(of, "/")
	}
	return page == "healthz" || page == "metrics" && g.opts.OpenMetrics
}
