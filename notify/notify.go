// Package notify brings messages to those who subscribed: to HTTP endpoints as SNS does, signed; by e-mail; and to
// chat services. What was taken is delivered at least once, also after a crash, or is found in the list of dead letters.
package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
	"understudy/metric"
)

// Kind says what a message is, in SNS's words.
type Kind string

// The kinds.
const (
	Notification             Kind = "Notification"
	SubscriptionConfirmation Kind = "SubscriptionConfirmation"
	UnsubscribeConfirmation  Kind = "UnsubscribeConfirmation"
)

// The protocols of subscriptions. Webhook and Shoutrrr are ours: Webhook takes the same as HTTP without having to confirm;
// the endpoint of Shoutrrr is a URL of that library, as slack://….
const (
	HTTP      = "http"
	HTTPS     = "https"
	Email     = "email"
	EmailJSON = "email-json"
	Webhook   = "webhook"
	Shoutrrr  = "shoutrrr"
)

// Protocols are all of them.
var Protocols = []string{HTTP, HTTPS, Email, EmailJSON, Webhook, Shoutrrr}

// Post is what a part of this program publishes at a topic. Whoever makes ID of what happened may publish again after
// a crash: within a day a topic takes each ID once. ID "": each Post is a message of its own.
type Post struct {
	Topic      string // its ARN
	ID         string
	Subject    string // at most 100 characters, one line; "": none
	Message    string
	Attributes map[string]Attribute
}

// Attribute is a message attribute of SNS.
type Attribute struct {
	Type  string `json:"Type"`  // "String", "String.Array", "Number", "Binary"
	Value string `json:"Value"` // of Binary: base64
}

// Message is what is delivered.
type Message struct {
	Kind       Kind                 `json:"kind"`
	ID         string               `json:"id"`
	Topic      string               `json:"topic"` // ARN
	Subject    string               `json:"subject,omitempty"`
	Body       string               `json:"body"`
	At         time.Time            `json:"at"` // when it was published
	Attributes map[string]Attribute `json:"attributes,omitempty"`
	Token      string               `json:"token,omitempty"`     // of a confirmation
	Signature  string               `json:"signature,omitempty"` // version: "1" (SHA1, SNS's default) or "2" (SHA256); "": 1
	Sender     string               `json:"sender,omitempty"`    // the topic's display name: who an e-mail is from
}

// Target is a subscription to deliver to.
type Target struct {
	Subscription string `json:"subscription"` // ARN
	Protocol     string `json:"protocol"`
	Endpoint     string `json:"endpoint"`
	Raw          bool   `json:"raw,omitempty"`          // the body alone
	Body         string `json:"body,omitempty"`         // in place of the message's
	ContentType  string `json:"content_type,omitempty"` // of HTTP; "": SNS's text/plain; charset=UTF-8
	Policy       Policy `json:"policy,omitzero"`        // zero: DefaultPolicy of the protocol
	DeadLetters  string `json:"dead_letters,omitempty"` // what its RedrivePolicy names
}

// Options say with what. Store and URL are needed.
type Options struct {
	Store cluster.Store
	// URL is where subscribers reach this process: links in messages begin with it. "http://127.0.0.1:7390".
	URL  string
	SMTP SMTP
	// TLS is for endpoints with https and for the mail server; nil: the system's authorities are trusted.
	TLS     *tls.Config
	Series  metric.Writer // takes AWS/SNS's metrics; nil: nobody does
	Metrics prometheus.Registerer
	Logger  *slog.Logger
	Now     func() time.Time
}

// Courier delivers.
type Courier struct {
	opts    Options
	log     *slog.Logger
	senders map[string]sender
	key     signer
	metrics *metrics
	counts  counts

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	entries map[string]*entry
	bytes   int
	done    map[string]time.Time // messages that are remembered
	unsaved map[*entry]bool      // whose record in the store is behind
	lanes   map[string]*lane     // by subscription
	dead    []DeadLetter         // oldest first
	work    sync.WaitGroup
}

// Errors of Send.
var (
	// ErrFull: as much waits for delivery as may.
	ErrFull = errors.New("too many messages wait for delivery")
	// ErrTooLong: the message cannot be kept.
	ErrTooLong = errors.New("the message is too long")
)

// sender makes one attempt. An error that says permanent is the end of it.
type sender interface {
	send(ctx context.Context, m Message, t Target) error
}

// permanent is an error that another attempt will not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// New reads what a process before left undelivered; Run delivers it. The error names the option that is wrong.
func New(ctx context.Context, o Options) (*Courier, error) {
	if o.Store == nil {
		return nil, errors.New("notify: Store is needed")
	}
	if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("notify: URL %q: http://HOST:PORT or https://HOST:PORT is one", o.URL)
	}
	if err := o.SMTP.Validate(); err != nil {
		return nil, fmt.Errorf("notify: SMTP: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Courier{
		opts: o, log: o.Logger.With("component", "notify"), counts: newCounts(),
		entries: map[string]*entry{}, done: map[string]time.Time{}, unsaved: map[*entry]bool{}, lanes: map[string]*lane{},
	}
	c.metrics = newMetrics(o.Metrics, c)
	c.key = signer{store: o.Store}
	post := newPoster(c)
	mail := mailer{c}
	c.senders = map[string]sender{HTTP: post, HTTPS: post, Webhook: post, Email: mail, EmailJSON: mail, Shoutrrr: chat{}}
	if err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return c, nil
}
