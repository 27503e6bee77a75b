// Package sns carries out the operations of SNS: topics, who subscribes to them, and what each of them wants to hear.
package sns

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/notify"
)

// Courier brings messages to targets; package notify has it. Send returns when the message is safe.
type Courier interface {
	Send(ctx context.Context, m notify.Message, targets []notify.Target, remember bool) error
	Published(topic string, size, filtered int)
}

// Options say over what. All but Now and Logger are needed.
type Options struct {
	Store   cluster.Store
	Courier Courier
	Region  string
	Account string
	// Mail: there is a server for e-mail. Without it nobody is subscribed by e-mail: the confirmation would not come.
	Mail   bool
	Now    func() time.Time
	Logger *slog.Logger
}

// Service is SNS. It keeps nothing in memory: each operation asks the store, which several machines share.
type Service struct {
	opts Options
	log  *slog.Logger
}

// New returns the service; the error names the option that is missing.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Courier == nil || o.Region == "" || o.Account == "" {
		return nil, errors.New("sns: Store, Courier, Region and Account are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{opts: o, log: o.Logger.With("component", "sns")}, nil
}

// Wire is what aws.New takes: the operations.
func (s *Service) Wire() *wire.Service {
	w := wire.NewService(wire.SNS())
	wire.Handle(w, s.createTopic)
	wire.Handle(w, s.getTopicAttributes)
	wire.Handle(w, s.setTopicAttributes)
	wire.Handle(w, s.deleteTopic)
	wire.Handle(w, s.listTopics)
	wire.Handle(w, s.subscribe)
	wire.Handle(w, s.confirmSubscription)
	wire.Handle(w, s.unsubscribe)
	wire.Handle(w, s.getSubscriptionAttributes)
	wire.Handle(w, s.setSubscriptionAttributes)
	wire.Handle(w, s.listSubscriptions)
	wire.Handle(w, s.listSubscriptionsByTopic)
	wire.Handle(w, s.publish)
	wire.Handle(w, s.publishBatch)
	wire.Handle(w, s.listTagsForResource)
	wire.Handle(w, s.tagResource)
	wire.Handle(w, s.untagResource)
	// Both come from links in messages: the token, or the subscription's name, is what shows the right to.
	w.AllowUnsigned("ConfirmSubscription", "Unsubscribe")
	return w
}

// arn is that of a topic.
func (s *Service) arn(topic string) string {
	return "arn:aws:sns:" + s.opts.Region + ":" + s.opts.Account + ":" + topic
}

// topicOf is the name of the topic that an ARN names, and what follows it: a subscription's own part.
func (s *Service) topicOf(arn, parameter string) (topic, rest string, err error) {
	parts := strings.SplitN(arn, ":", 7)
	switch {
	case len(parts) < 6:
		return "", "", invalid("%s Reason: An ARN must have at least 6 elements, not %d", parameter, len(parts))
	case parts[0] != "arn" || parts[2] != "sns" || parts[3] != s.opts.Region || parts[5] == "":
		return "", "", invalid("%s", parameter)
	case parts[4] != s.opts.Account:
		return "", "", unauthorized("the resource " + arn + " is another account's")
	}
	if len(parts) == 7 {
		rest = parts[6]
	}
	return parts[5], rest, nil
}

// now is the time as messages have it: in milliseconds.
func (s *Service) now() time.Time { return s.opts.Now().UTC().Truncate(time.Millisecond) }

// newID is a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
