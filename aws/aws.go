// Package aws answers the clients of ElastiCache, CloudWatch, SNS and STS at the HTTP address of this program, so
// that they need nothing but its URL.
package aws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/aws/wire"
)

// Key lets a client in that signs with it.
type Key struct {
	ID     string `yaml:"id"`     // "AKIA…": 3 to 128 letters, digits, - and _
	Secret string `yaml:"secret"` // what the client has as its secret access key
	User   string `yaml:"user"`   // whom STS names; "": the id
}

// Options say what is answered, and to whom. Services is needed.
type Options struct {
	Services []*wire.Service
	Region   string // in ARNs and credential scopes; "": DefaultRegion
	Account  string // twelve digits; "": DefaultAccount
	// Keys that requests must be signed with. None: signatures are not checked, and only programs on this
	// machine are answered.
	Keys    []Key
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// What a front is that nobody named otherwise: the zones of `understudy up` are us-east-1's, and no account of
// AWS is all zeros.
const (
	DefaultRegion  = "us-east-1"
	DefaultAccount = "000000000000"
)

// Handler answers requests of AWS clients; see Before.
type Handler struct {
	server  *wire.Server
	open    bool // there are no keys
	origins *http.CrossOriginProtection
	metrics *metrics
	log     *slog.Logger
}

var (
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)
	accountForm = regexp.MustCompile(`^\d{12}$`)
	keyForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{3,128}$`)
	userForm    = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)
)

// Validate names the first option that is wrong. It does not repeat secrets.
func (o Options) Validate() error {
	if o.Region != "" && !regionForm.MatchString(o.Region) {
		return fmt.Errorf("region: %q is not the form of a region, such as us-east-1", o.Region)
	}
	if o.Account != "" && !accountForm.MatchString(o.Account) {
		return fmt.Errorf("account: %q is not twelve digits", o.Account)
	}
	seen := map[string]bool{}
	for i, k := range o.Keys {
		switch {
		case !keyForm.MatchString(k.ID):
			return fmt.Errorf("keys[%d].id: %q is not 3 to 128 letters, digits, - or _", i, k.ID)
		case seen[k.ID]:
			return fmt.Errorf("keys[%d].id: %q is there twice", i, k.ID)
		case k.Secret == "":
			return fmt.Errorf("keys[%d].secret: is missing", i)
		case k.User != "" && !userForm.MatchString(k.User):
			return fmt.Errorf("keys[%d].user: %q is not the form of a user's name", i, k.User)
		}
		seen[k.ID] = true
	}
	return nil
}

// New returns a Handler; the error names the option that is missing or wrong.
func New(o Options) (*Handler, error) {
	if len(o.Services) == 0 {
		return nil, errors.New("aws: Services are needed")
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	if o.Region == "" {
		o.Region = DefaultRegion
	}
	if o.Account == "" {
		o.Account = DefaultAccount
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{open: len(o.Keys) == 0, origins: http.NewCrossOriginProtection(), metrics: newMetrics(o.Metrics), log: o.Logger.With("component", "aws")}
	server := wire.ServerOptions{Services: o.Services, Region: o.Region, Account: o.Account, Admit: h.admit, Served: h.served}
	if !h.open {
		keys := map[string]wire.Key{}
		for _, k := range o.Keys {
			keys[k.ID] = wire.Key{Secret: k.Secret, User: k.User}
		}
		server.Key = func(id string) (wire.Key, bool) { k, ok := keys[id]; return k, ok }
	}
	var err error
	h.server, err = wire.NewServer(server)
	return h, err
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.server.ServeHTTP(w, r) }

// Before answers what AWS's clients ask, and leaves everything else to rest: the pages on the same address.
func (h *Handler) Before(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wire.Wants(r) {
			h.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// admit keeps out whom no signature tells from the operator: without keys, other machines, and web pages that
// the operator's browser happens to show. A page may send a form to 127.0.0.1, or have its own name resolved to
// it; a browser says the one in a header, and the name that it used gives the other away.
func (h *Handler) admit(r *http.Request) error {
	if err := h.origins.Check(r); err != nil {
		return &wire.Error{Code: "AccessDenied", Shape: "AccessDeniedException", Status: http.StatusForbidden, Message: "Pages of other sites may not ask this"}
	}
	if !h.open {
		return nil
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
	if err != nil || !from.Addr().Unmap().IsLoopback() || forwarded || !loopbackName(r.Host) {
		return &wire.Error{Code: "MissingAuthenticationToken", Shape: "MissingAuthenticationTokenException", Status: http.StatusForbidden,
			Message: "Request is missing Authentication Token: without keys in its configuration this front answers only programs on its own machine that call it 127.0.0.1 or localhost"}
	}
	return nil
}

// loopbackName reports whether a Host header means this machine whatever a name server says.
func loopbackName(host string) bool {
	if addr, err := netip.ParseAddrPort(host); err == nil {
		return addr.Addr().IsLoopback()
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return addr.IsLoopback()
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// served counts and logs a request. What only looks is not worth an operator's timeline.
func (h *Handler) served(s wire.Served) {
	h.metrics.count(s)
	level := slog.LevelInfo
	for _, look := range []string{"Describe", "List", "Get"} {
		if strings.HasPrefix(s.Operation, look) {
			level = slog.LevelDebug
		}
	}
	switch {
	case s.Failed != nil:
		h.log.Error("a request failed", "service", s.Service, "operation", s.Operation, "request_id", s.RequestID, "error", s.Failed)
	case s.Known:
		h.log.Log(context.Background(), level, "request", "service", s.Service, "operation", s.Operation, "request_id", s.RequestID,
			"user", s.User, "from", s.From, "code", s.Code, "took", s.Took)
	default:
		h.log.Debug("request refused", "code", s.Code, "from", s.From, "request_id", s.RequestID)
	}
}
