package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"time"

	"understudy/aws/elasticache"
	"understudy/aws/sns"
	"understudy/cluster"
	"understudy/metric"
	"understudy/notify"
)

// postWithin bounds how long an event waits for the store before it is tried behind the scenes.
const postWithin = 3 * time.Second

// chatWithin bounds a request of the libraries of chat services, some of which use http.DefaultClient and bound nothing.
const chatWithin = 15 * time.Second

// startSNS makes topics and what delivers their messages, and starts the latter.
func (g *local) startSNS(ctx context.Context, a *app, store cluster.Store, series metric.Writer) error {
	c := g.config
	smtp, trust, err := c.Notify.open()
	if err != nil {
		return coded{exitUsage, err}
	}
	http.DefaultClient.Timeout = chatWithin
	registry, forget := g.metrics.Add("notify")
	a.onStop("notification metrics", func(context.Context) error { forget(); return nil })
	g.courier, err = notify.New(ctx, notify.Options{Store: store, URL: g.notifyURL(), SMTP: smtp, TLS: trust, Series: series, Metrics: registry, Logger: g.log})
	if err != nil {
		return err
	}
	g.sns, err = sns.New(sns.Options{Store: store, Courier: g.courier, Region: c.AWS.Region, Account: c.AWS.Account, Mail: smtp.Addr != "", Logger: g.log})
	if err != nil {
		return err
	}
	g.events = make(chan notify.Post, mostEvents)
	// They end after whoever publishes.
	a.run("notifications", part{"notifications", g.courier.Run}, part{"events", g.postEvents})
	return nil
}

// notifyURL is what links in messages begin with.
func (g *local) notifyURL() string {
	if g.config.Notify.URL != "" {
		return g.config.Notify.URL
	}
	host, port, _ := net.SplitHostPort(g.http.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	scheme := "http://"
	if g.door.tls != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// mostEvents bounds the events of groups that wait for the store to be there.
const mostEvents = 1000

// notice publishes an event of a group at its topic, as ElastiCache does: JSON, and no subject. It returns when the event is
// in the store; while the store is away it is tried again in the order of events.
func (g *local) notice(n elasticache.Notice) {
	text, err := json.Marshal(map[string]string{n.Event: n.Subject})
	if err != nil {
		panic("a map of texts: " + err.Error())
	}
	p := notify.Post{Topic: n.Topic, Message: string(text)}
	if len(g.events) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), postWithin)
		defer cancel()
		if err := g.sns.Publish(ctx, p); !lasting(err) {
			g.sayUnpublished(p, err)
			return
		}
	}
	select {
	case g.events <- p:
	default:
		g.log.Error("an event is not published: too many wait for the store", "component", "sns", "topic", p.Topic, "event", n.Event)
	}
}

// lasting reports whether it is worth to publish once more.
func lasting(err error) bool {
	_, refused := err.(interface{ ErrorCode() string })
	return err != nil && !refused
}

func (g *local) sayUnpublished(p notify.Post, err error) {
	if err != nil {
		g.log.Warn("an event is not published", "component", "sns", "topic", p.Topic, "message", p.Message, "error", err)
	}
}

// postEvents publishes what could not be at once.
func (g *local) postEvents(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-g.events:
			for wait := 100 * time.Millisecond; ; wait = min(2*wait, postWithin) {
				err := g.sns.Publish(ctx, p)
				if !lasting(err) {
					g.sayUnpublished(p, err)
					break
				}
				select {
				case <-ctx.Done():
					g.sayUnpublished(p, err)
					return nil
				case <-time.After(wait):
				}
			}
		}
	}
}
