package aws

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/aws/wire"
)

// topics is a service with one operation.
func topics() []*wire.Service {
	s := wire.NewService(wire.SNS())
	wire.Handle(s, func(context.Context, *sns.ListTopicsInput) (*sns.ListTopicsOutput, error) {
		return &sns.ListTopicsOutput{}, nil
	})
	wire.Handle(s, func(context.Context, *sns.CreateTopicInput) (*sns.CreateTopicOutput, error) {
		panic("boom")
	})
	return []*wire.Service{s}
}

func handler(t *testing.T, o Options) *Handler {
	t.Helper()
	o.Services = topics()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/", strings.NewReader("Action=ListTopics&Version=2010-03-31"))
	r.RemoteAddr, r.Host = "127.0.0.1:50000", "127.0.0.1:7390"
	change(r)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Without keys nothing but this machine tells an operator from a stranger.
func TestOpenFrontAnswersThisMachineOnly(t *testing.T) {
	h := handler(t, Options{})
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"a program here":            {func(*http.Request) {}, 200},
		"by IPv6":                   {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:1", "[::1]:7390" }, 200},
		"by name":                   {func(r *http.Request) { r.Host = "localhost:7390" }, 200},
		"by a name below it":        {func(r *http.Request) { r.Host = "sns.localhost:7390" }, 200},
		"mapped":                    {func(r *http.Request) { r.RemoteAddr = "[::ffff:127.0.0.1]:5" }, 200},
		"another machine":           {func(r *http.Request) { r.RemoteAddr = "10.0.0.5:1234" }, 403},
		"behind a forwarder":        {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.0.0.5") }, 403},
		"a page whose name is here": {func(r *http.Request) { r.Host = "evil.example:7390" }, 403},
		"localhost of somebody":     {func(r *http.Request) { r.Host = "localhost.evil.example" }, 403},
		"a page of another site":    {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"an old browser's page":     {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"nobody knows from where":   {func(r *http.Request) { r.RemoteAddr = "@" }, 403},
	} {
		if w := ask(h, c.change); w.Code != c.status {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestFrontWithKeysAnswersWhoSigns(t *testing.T) {
	h := handler(t, Options{Keys: []Key{{ID: "AKIDEXAMPLE", Secret: "s"}}, Region: "eu-west-1"})
	if w := ask(h, func(r *http.Request) {}); w.Code != 403 || !strings.Contains(w.Body.String(), "<Code>MissingAuthenticationToken</Code>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	server := httptest.NewServer(h.Before(http.NotFoundHandler()))
	defer server.Close()
	for secret, good := range map[string]bool{"s": true, "t": false} {
		c := sns.New(sns.Options{BaseEndpoint: aws.String(server.URL), Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", secret, "")})
		if _, err := c.ListTopics(t.Context(), &sns.ListTopicsInput{}); (err == nil) != good {
			t.Errorf("secret %q: %v", secret, err)
		}
	}
}

func TestPagesStayReachableBesideTheFront(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.URL.Path) })
	h := handler(t, Options{}).Before(page)
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/", "page /"}, {"GET", "/metrics", "page /metrics"}, {"POST", "/api/failover", "page /api/failover"},
		{"POST", "/", "<ListTopicsResult>"}, {"GET", "/?Action=ListTopics", "<ListTopicsResult>"},
	} {
		w := ask(h, func(r *http.Request) {
			r.Method = c.method
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(c.target, "?")
		})
		if !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %s", c.method, c.target, w.Body)
		}
	}
}

func TestRequestsAreCountedAndFailuresLogged(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	h := handler(t, Options{Metrics: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ask(h, func(r *http.Request) {})
	ask(h, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader("Action=CreateTopic&Name=n&Version=2010-03-31"))
	})
	ask(h, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader("Action=" + strings.Repeat("x", 1000) + "&Version=2010-03-31"))
	})
	var got []string
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "understudy_aws_requests_total" {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
				got = append(got, strings.Join(labels, " "))
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"code= operation=ListTopics protocol=query service=sns",
		"code=InternalFailure operation=CreateTopic protocol=query service=sns",
		"code=InvalidAction operation=unknown protocol=query service=sns",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if text := log.String(); !strings.Contains(text, "boom") || !strings.Contains(text, "level=ERROR") || strings.Contains(text, "ListTopics") {
		t.Errorf("the log: %s", text)
	}
}

func TestOptionsSayWhichIsWrong(t *testing.T) {
	for want, o := range map[string]Options{
		"region: ":         {Region: "Frankfurt"},
		"account: ":        {Account: "12345"},
		"keys[0].id: ":     {Keys: []Key{{ID: "a/b", Secret: "hidden"}}},
		"keys[1].id: ":     {Keys: []Key{{ID: "abc", Secret: "hidden"}, {ID: "abc", Secret: "hidden"}}},
		"keys[0].secret: ": {Keys: []Key{{ID: "abc"}}},
		"keys[0].user: ":   {Keys: []Key{{ID: "abc", Secret: "hidden", User: "a b"}}},
	} {
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := (Options{Region: "us-gov-west-1", Account: "000000000000"}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a front without services was made")
	}
}
