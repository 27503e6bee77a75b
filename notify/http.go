package notify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// longestReply is how much of an endpoint's answer is read, so that its connection can be used again.
const longestReply = 64 << 10

// idlePerHost is how many connections to one endpoint are kept.
const idlePerHost = 2

// poster posts to HTTP endpoints as SNS does.
type poster struct {
	c      *Courier
	client *http.Client
}

func newPoster(c *Courier) poster {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return poster{c, &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: c.opts.TLS, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: idlePerHost, MaxIdleConns: 100, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
			MaxResponseHeaderBytes: longestReply,
		},
		// SNS follows no redirects: where messages go is what somebody subscribed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p poster) send(ctx context.Context, m Message, t Target) error {
	body := []byte(bodyOf(m, t))
	raw := t.Raw && m.Kind == Notification
	if !raw {
		k, err := p.c.key.get(ctx)
		if err != nil {
			return err
		}
		if body, err = p.c.envelope(k, m, t); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Endpoint, bytes.NewReader(body))
	if err != nil {
		return permanent{err}
	}
	r.Header.Set("Content-Type", "text/plain; charset=UTF-8")
	if t.ContentType != "" {
		r.Header.Set("Content-Type", t.ContentType)
	}
	r.Header.Set("User-Agent", "Amazon Simple Notification Service Agent")
	r.Header.Set("x-amz-sns-message-type", string(m.Kind))
	r.Header.Set("x-amz-sns-message-id", m.ID)
	r.Header.Set("x-amz-sns-topic-arn", m.Topic)
	if m.Kind != SubscriptionConfirmation { // there is no subscription yet
		r.Header.Set("x-amz-sns-subscription-arn", t.Subscription)
	}
	if raw {
		r.Header.Set("x-amz-sns-rawdelivery", "true")
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return hidden(err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, longestReply) // what it says does not matter
	return judgeStatus(answer.StatusCode)
}

// judgeStatus is SNS's rule: what a server may mend (5xx) and too many requests are tried again, nothing else is.
func judgeStatus(code int) error {
	switch {
	case code >= 200 && code <= 299:
		return nil
	case code >= 500 || code == http.StatusTooManyRequests:
		return fmt.Errorf("the endpoint answered %d %s", code, http.StatusText(code))
	}
	return permanent{fmt.Errorf("the endpoint answered %d %s", code, http.StatusText(code))}
}

// hidden takes the URL out of an error: it may hold a password.
func hidden(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return err
}

// CheckEndpoint refuses an endpoint that its protocol cannot reach. Which machines may be reached is for whoever
// subscribes to say: nothing is forbidden here.
func CheckEndpoint(protocol, endpoint string) error {
	switch protocol {
	case HTTP, HTTPS, Webhook:
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Fragment != "" || u.Scheme != HTTP && u.Scheme != HTTPS || protocol != Webhook && u.Scheme != protocol {
			return fmt.Errorf("an endpoint of %s is a URL of that scheme with a host", protocol)
		}
		return nil
	case Email, EmailJSON:
		return checkAddress(endpoint)
	case Shoutrrr:
		return checkService(endpoint)
	}
	return fmt.Errorf("%s is none of the protocols: %s", protocol, strings.Join(Protocols, ", "))
}

// ServeCertificate answers for the certificate of the key that signs, at the address that messages name, and leaves
// everything else to rest. Whoever gets messages may fetch it.
func (c *Courier) ServeCertificate(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/SimpleNotificationService-") {
			rest.ServeHTTP(w, r)
			return
		}
		k, err := c.key.get(r.Context())
		switch {
		case err != nil:
			http.Error(w, "the certificate cannot be read", http.StatusServiceUnavailable)
		case r.URL.Path != k.path || r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/x-pem-file")
			_, _ = w.Write(k.cert)
		}
	})
}
