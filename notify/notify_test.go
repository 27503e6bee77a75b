package notify

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/cluster"
	"understudy/cluster/clustertest"
	"understudy/metric"
)

const topicARN = "arn:aws:sns:us-east-1:000000000000:alerts"

// soon bounds what a slow machine takes.
const soon = 30 * time.Second

func target(protocol, endpoint string) Target {
	return Target{Subscription: topicARN + ":" + protocol + "-1", Protocol: protocol, Endpoint: endpoint}
}

func message(id string) Message {
	return Message{Kind: Notification, ID: id, Topic: topicARN, Subject: "It's <here>", Body: "a & b\nc", At: time.Now().UTC().Truncate(time.Millisecond),
		Attributes: map[string]Attribute{"kind": {"String", "x"}, "age": {"Number", "7"}}}
}

// start runs a courier until the test, or stop, ends it.
func start(t *testing.T, o Options) (c *Courier, stop func()) {
	t.Helper()
	if o.URL == "" {
		o.URL = "http://127.0.0.1:7390"
	}
	c, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return c, stop
}

// posted is a request that a subscriber got.
type posted struct {
	header http.Header
	body   []byte
}

// subscriber is an HTTP endpoint; answer says with which status.
func subscriber(t *testing.T, answer func(n int) int) (url string, got chan posted) {
	t.Helper()
	got = make(chan posted, 100)
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(answer(int(n.Add(1))))
		got <- posted{r.Header, body}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func fine(int) int { return http.StatusOK }

func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(soon):
		t.Fatal("nothing came")
	}
	return v
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// verify checks a document as AWS tells subscribers to: the named members that are there, by name, each name and value on
// a line of its own, against the certificate of SigningCertURL.
func verify(t *testing.T, certificate []byte, document map[string]any) error {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"} {
		if v, ok := document[name].(string); ok {
			b.WriteString(name + "\n" + v + "\n")
		}
	}
	block, _ := pem.Decode(certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := base64.StdEncoding.DecodeString(document["Signature"].(string))
	if err != nil {
		t.Fatal(err)
	}
	hash, digest := crypto.SHA1, sum1(b.String())
	if document["SignatureVersion"] == "2" {
		hash, digest = crypto.SHA256, sum2(b.String())
	}
	return rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), hash, digest, signature)
}

func sum1(s string) []byte { d := sha1.Sum([]byte(s)); return d[:] }
func sum2(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }

func TestSubscribersCanVerifyWhatTheyGet(t *testing.T) {
	c, _ := start(t, Options{Store: &clustertest.Memory{}})
	url, got := subscriber(t, fine)
	front := httptest.NewServer(c.ServeCertificate(http.NotFoundHandler()))
	defer front.Close()
	for i, version := range []string{"", "2"} {
		for _, kind := range []Kind{Notification, SubscriptionConfirmation, UnsubscribeConfirmation} {
			m := message(fmt.Sprintf("%s-%d", kind, i))
			m.Kind, m.Signature = kind, version
			if kind != Notification {
				m.Token, m.Subject, m.Attributes = "0123", "", nil
			}
			if err := c.Send(t.Context(), m, []Target{target(HTTP, url)}, false); err != nil {
				t.Fatal(err)
			}
			p := receive(t, got)
			var d map[string]any
			if err := json.Unmarshal(p.body, &d); err != nil {
				t.Fatalf("%v: %s", err, p.body)
			}
			path, _ := strings.CutPrefix(d["SigningCertURL"].(string), c.opts.URL)
			answer, err := http.Get(front.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			certificate, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err := verify(t, certificate, d); err != nil {
				t.Errorf("%s, version %q: %v\n%s", kind, version, err, p.body)
			}
			d["Message"] = "another"
			if verify(t, certificate, d) == nil {
				t.Errorf("%s, version %q: the signature does not cover the message", kind, version)
			}
			for name, want := range map[string]string{"X-Amz-Sns-Message-Type": string(kind), "X-Amz-Sns-Message-Id": m.ID, "X-Amz-Sns-Topic-Arn": topicARN,
				"Content-Type": "text/plain; charset=UTF-8", "User-Agent": "Amazon Simple Notification Service Agent"} {
				if p.header.Get(name) != want {
					t.Errorf("%s: %q, want %q", name, p.header.Get(name), want)
				}
			}
		}
	}
}

func TestRawDeliveryIsTheMessageAlone(t *testing.T) {
	c, _ := start(t, Options{Store: &clustertest.Memory{}})
	url, got := subscriber(t, fine)
	to := target(HTTP, url)
	to.Raw, to.Body, to.ContentType = true, "{}", "application/json"
	if err := c.Send(t.Context(), message("1"), []Target{to}, false); err != nil {
		t.Fatal(err)
	}
	p := receive(t, got)
	if string(p.body) != "{}" || p.header.Get("X-Amz-Sns-Rawdelivery") != "true" || p.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s with %v", p.body, p.header)
	}
}

func TestWhatFailsIsTriedAgainOrGivenUp(t *testing.T) {
	t.Parallel()
	series := &series{}
	c, _ := start(t, Options{Store: &clustertest.Memory{}, Series: series})
	atOnce := Policy{MinDelayTarget: 1, MaxDelayTarget: 1, NumRetries: 3, NumNoDelayRetries: 3, BackoffFunction: "linear"}
	for _, x := range []struct {
		name     string
		answers  func(n int) int
		attempts int
		dead     bool
	}{
		{"mends", func(n int) int { return []int{500, 429, 200}[n-1] }, 3, false},
		{"fails", func(int) int { return 503 }, 4, true},
		{"refuses", func(int) int { return 403 }, 1, true},
		{"moves", func(int) int { return 302 }, 1, true},
	} {
		url, got := subscriber(t, x.answers)
		to := target(HTTP, url)
		to.Policy = atOnce
		if err := c.Send(t.Context(), message(x.name), []Target{to}, false); err != nil {
			t.Fatal(err)
		}
		for range x.attempts {
			receive(t, got)
		}
		eventually(t, x.name+" stays in the queue", func() bool { return len(c.State().Queued) == 0 })
		i := slices.IndexFunc(c.Dead(), func(d DeadLetter) bool { return d.Message.ID == x.name })
		if i >= 0 != x.dead || i >= 0 && c.Dead()[i].Attempts != x.attempts {
			t.Errorf("%s: %+v", x.name, c.Dead())
		}
	}
	eventually(t, "the series is not told", func() bool {
		return series.sum("NumberOfNotificationsDelivered") == 1 && series.sum("NumberOfNotificationsFailed") == 3
	})
}

// series is a metric.Writer that remembers.
type series struct {
	mu   sync.Mutex
	data []metric.Datum
}

func (s *series) Write(_ context.Context, data []metric.Datum) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, data...)
	return nil
}

func (s *series) sum(name string) (n float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.data {
		if d.ID.Equal(metric.New("AWS/SNS", name, "TopicName", "alerts")) {
			n += d.Counts[0]
		}
	}
	return n
}

func TestAnEndpointThatHangsHoldsUpNobodyElse(t *testing.T) {
	c, _ := start(t, Options{Store: &clustertest.Memory{}})
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	url, got := subscriber(t, fine)
	stuck, quick := target(HTTP, hanging.URL), target(HTTP, url)
	stuck.Subscription += "-stuck"
	stuck.Raw, quick.Raw = true, true
	const messages = 3 * perLane
	for i := range messages {
		if err := c.Send(t.Context(), message(fmt.Sprint(i)), []Target{stuck, quick}, false); err != nil {
			t.Fatal(err)
		}
	}
	for range messages {
		receive(t, got)
	}
}

// A process that dies between taking a message and delivering it leaves it to the next one.
func TestTheNextProcessDeliversWhatOneLeft(t *testing.T) {
	store := &clustertest.Memory{}
	before, err := New(t.Context(), Options{Store: store, URL: "http://127.0.0.1:7390"})
	if err != nil {
		t.Fatal(err)
	}
	url, got := subscriber(t, fine)
	if err := before.Send(t.Context(), message("left"), []Target{target(HTTP, url)}, true); err != nil {
		t.Fatal(err)
	}
	c, stop := start(t, Options{Store: store}) // before has never run: it is dead
	if p := receive(t, got); p.header.Get("X-Amz-Sns-Message-Id") != "left" {
		t.Errorf("%v", p.header)
	}
	eventually(t, "it stays in the queue", func() bool { return len(c.State().Queued) == 0 })
	stop()
	// The same message again, from a third process: it is remembered.
	c, _ = start(t, Options{Store: store})
	if err := c.Send(t.Context(), message("left"), []Target{target(HTTP, url)}, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), message("new"), []Target{target(HTTP, url)}, true); err != nil {
		t.Fatal(err)
	}
	if p := receive(t, got); p.header.Get("X-Amz-Sns-Message-Id") != "new" {
		t.Errorf("told twice: %v", p.header)
	}
}

func TestOldIDsAreForgotten(t *testing.T) {
	store := &clustertest.Memory{}
	var late atomic.Int64
	c, _ := start(t, Options{Store: store, Now: func() time.Time { return time.Now().Add(time.Duration(late.Load())) }})
	url, got := subscriber(t, fine)
	to := target(HTTP, url)
	to.Raw = true
	for _, days := range []int{0, 1} {
		late.Store(int64(days) * int64(remembered+time.Minute))
		c.forgetOld(t.Context())
		if left, _, _ := store.List(t.Context(), queuePrefix); len(left) != 0 {
			t.Errorf("%d records are left on day %d", len(left), days)
		}
		if err := c.Send(t.Context(), message("1"), []Target{to}, true); err != nil {
			t.Fatal(err)
		}
		receive(t, got)
		eventually(t, "it stays in the queue", func() bool { return len(c.State().Queued) == 0 })
		eventually(t, "it is not remembered", func() bool {
			left, _, _ := store.List(t.Context(), queuePrefix)
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.done) == 1 && len(left) == 1 && !strings.Contains(string(left[0].Value), url)
		})
	}
}

// A store that fails between delivery and outcome: it is written later, and nothing is delivered twice meanwhile.
func TestAnOutcomeIsWrittenWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	store := &failing{}
	c, _ := start(t, Options{Store: store})
	url, got := subscriber(t, func(int) int { store.fail.Store(true); return 200 })
	if err := c.Send(t.Context(), message("1"), []Target{target(HTTP, url)}, false); err != nil {
		t.Fatal(err)
	}
	receive(t, got)
	eventually(t, "no write failed", func() bool { return store.refused.Load() > 0 })
	store.fail.Store(false)
	eventually(t, "it stays in the store", func() bool {
		left, _, err := store.List(t.Context(), queuePrefix)
		return err == nil && len(left) == 0
	})
	if len(got) != 0 {
		t.Error("it was delivered twice")
	}
	store.fail.Store(true)
	if err := c.Send(t.Context(), message("2"), []Target{target(HTTP, url)}, false); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a message that is nowhere was taken: %v", err)
	}
	if len(c.State().Queued) != 0 {
		t.Error("what was refused is in the queue")
	}
}

// failing is a store that is away at times.
type failing struct {
	clustertest.Memory
	fail    atomic.Bool
	refused atomic.Int64
}

func (f *failing) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if f.fail.Load() {
		f.refused.Add(1)
		return 0, cluster.ErrUnavailable
	}
	return f.Memory.Swap(ctx, key, value, rev)
}

func TestADeadLetterCanBeSentAgain(t *testing.T) {
	store := &clustertest.Memory{}
	c, stop := start(t, Options{Store: store})
	var mended atomic.Bool
	url, got := subscriber(t, func(int) int {
		if mended.Load() {
			return 200
		}
		return 404
	})
	if err := c.Send(t.Context(), message("1"), []Target{target(Webhook, url)}, false); err != nil {
		t.Fatal(err)
	}
	receive(t, got)
	eventually(t, "no dead letter", func() bool { return len(c.Dead()) == 1 })
	stop()
	c, _ = start(t, Options{Store: store})
	mended.Store(true)
	api := httptest.NewServer(c.Handler(http.NotFoundHandler()))
	defer api.Close()
	answer, err := http.Post(api.URL+APIPath+"/"+c.Dead()[0].ID+"/resend", "application/json", nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", answer, err)
	}
	answer.Body.Close()
	receive(t, got)
	if len(c.Dead()) != 0 {
		t.Errorf("%+v", c.Dead())
	}
	if err := c.Resend(t.Context(), "none"); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	c, err := New(t.Context(), Options{Store: &clustertest.Memory{}, URL: "http://127.0.0.1:7390"})
	if err != nil {
		t.Fatal(err)
	}
	m := message("long")
	m.Body = strings.Repeat("x", longestEntry)
	if err := c.Send(t.Context(), m, []Target{target(HTTP, "http://127.0.0.1:1")}, false); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	c.bytes = mostBytes - 100 // as if so much were waiting
	m.Body = "short"
	if err := c.Send(t.Context(), m, []Target{target(HTTP, "http://127.0.0.1:1")}, false); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	c.bytes = 0
	for i := range mostQueued {
		c.entries[fmt.Sprint(i)] = &entry{}
	}
	if err := c.Send(t.Context(), m, []Target{target(HTTP, "http://127.0.0.1:1")}, false); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// never is a sender that never succeeds, and notes when it was asked to.
type never struct{ at chan time.Time }

func (n never) send(context.Context, Message, Target) error {
	n.at <- time.Now()
	return errors.New("no")
}

func TestRetriesComeWhenThePolicySays(t *testing.T) {
	for _, x := range []struct {
		policy Policy
		want   []int // seconds between attempts
	}{
		{HTTPPolicy, []int{20, 20, 20}},
		{Policy{MinDelayTarget: 1, MaxDelayTarget: 10, NumRetries: 8, NumNoDelayRetries: 2, NumMinDelayRetries: 1, NumMaxDelayRetries: 1, BackoffFunction: "linear"}, []int{0, 0, 1, 1, 4, 7, 10, 10}},
		{Policy{MinDelayTarget: 1, MaxDelayTarget: 16, NumRetries: 5, BackoffFunction: "exponential"}, []int{1, 2, 4, 8, 16}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(t.Context(), Options{Store: &clustertest.Memory{}, URL: "http://127.0.0.1:7390"})
			if err != nil {
				t.Fatal(err)
			}
			c.key.have = &signingKey{} // real keys take real time
			n := never{make(chan time.Time, 100)}
			c.senders[HTTP] = n
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _ = c.Run(ctx) }()
			to := target(HTTP, "http://127.0.0.1:1")
			to.Policy = x.policy
			if err := c.Send(ctx, message("1"), []Target{to}, false); err != nil {
				t.Fatal(err)
			}
			last := <-n.at
			for i, want := range x.want {
				at := <-n.at
				if got := at.Sub(last).Round(time.Second); got != time.Duration(want)*time.Second {
					t.Errorf("%+v: retry %d after %v, want %d s", x.policy, i+1, got, want)
				}
				last = at
			}
			synctest.Wait()
			if len(c.Dead()) != 1 || len(c.State().Queued) != 0 {
				t.Errorf("%+v", c.State())
			}
			cancel()
		})
	}
}

func TestPoliciesAreBounded(t *testing.T) {
	for _, p := range []Policy{HTTPPolicy, {MinDelayTarget: 1, MaxDelayTarget: 1, NumRetries: 100, BackoffFunction: "geometric"}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Policy{{}, {MinDelayTarget: 20, MaxDelayTarget: 10, BackoffFunction: "linear"}, {MinDelayTarget: 1, MaxDelayTarget: 1, NumRetries: 101, BackoffFunction: "linear"},
		{MinDelayTarget: 1, MaxDelayTarget: 1, NumRetries: 1, NumNoDelayRetries: 2, BackoffFunction: "linear"}, {MinDelayTarget: 600, MaxDelayTarget: 600, NumRetries: 7, BackoffFunction: "linear"},
		{MinDelayTarget: 1, MaxDelayTarget: 1, NumRetries: 1, BackoffFunction: "random"}} {
		if p.Validate() == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}

func TestEndpointsMustFitTheirProtocol(t *testing.T) {
	for endpoint, protocol := range map[string]string{"http://h/p": HTTP, "https://u:p@h:8443/": HTTPS, "https://h": Webhook, "a@b.example": Email, "slack://hook:WNA3PBYV6-F20DUQND3RQ-Webc4MAvoacrpPakR8phF0zi@webhook": Shoutrrr} {
		if err := CheckEndpoint(protocol, endpoint); err != nil {
			t.Errorf("%s %s: %v", protocol, endpoint, err)
		}
	}
	for endpoint, protocol := range map[string]string{"https://h/p": HTTP, "file:///etc/passwd": Webhook, "http://": HTTP, "a@b\r\nBcc: c@d": Email, "A <a@b.example>": EmailJSON, "logger://": Shoutrrr, "nothing://x": Shoutrrr, "x": "sms"} {
		if CheckEndpoint(protocol, endpoint) == nil {
			t.Errorf("%s is an endpoint of %s", endpoint, protocol)
		}
	}
}

func TestChatsAreToldOverShoutrrr(t *testing.T) {
	c, _ := start(t, Options{Store: &clustertest.Memory{}})
	url, got := subscriber(t, fine)
	endpoint := "generic+" + url + "?template=json"
	if err := CheckEndpoint(Shoutrrr, endpoint); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), message("1"), []Target{target(Shoutrrr, endpoint)}, false); err != nil {
		t.Fatal(err)
	}
	var d map[string]string
	if p := receive(t, got); json.Unmarshal(p.body, &d) != nil || d["message"] != "a & b\nc" || d["title"] != "It's <here>" {
		t.Errorf("%s", p.body)
	}
}

func BenchmarkPublishToDelivery(b *testing.B) {
	arrived := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
	}))
	defer s.Close()
	c, err := New(b.Context(), Options{Store: &clustertest.Memory{}, URL: "http://127.0.0.1:7390"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go func() { _ = c.Run(ctx) }()
	if _, err := c.key.get(ctx); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := c.Send(ctx, message(fmt.Sprint(i)), []Target{target(HTTP, s.URL)}, false); err != nil {
			b.Fatal(err)
		}
		<-arrived
	}
}
