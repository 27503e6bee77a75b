package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"time"

	"understudy/redis"
)

// TLSOptions have redis-server speak TLS with the other nodes and with proxies. This node's agent speaks to it
// over its unix socket, in the clear.
type TLSOptions struct {
	Files redis.TLSFiles
	// InForce is another text after the files have been read anew and were found to fit together: then
	// redis-server is told to read them, too. It may read files, and is called every second.
	InForce func() []byte
	// Client is how an adopted server without a unix socket is spoken to on a host.
	Client func(host string) *tls.Config
}

// certificates is which ones redis-server has read.
type certificates struct {
	with   []byte // TLSOptions.InForce then
	busy   bool   // it is being told to read others
	lookAt time.Duration
}

// reloadedMsg is the end of telling redis-server to read its certificates anew, if that was needed.
type reloadedMsg struct {
	server server
	with   []byte
}

// lookAtCertificates is how often the agent looks whether there are others: package certs looks as often.
const lookAtCertificates = time.Second

// keepCertificates has redis-server follow the files of its certificates, without a restart. An adopted one has
// files of its own, which are not ours to know.
func (a *Agent) keepCertificates(ctx context.Context, now time.Duration) {
	c := &a.certificates
	if a.opts.TLS == nil || a.opts.Adopt != nil || a.server == nil || c.busy || now < c.lookAt {
		return
	}
	c.busy = true
	server, with := a.server, c.with
	a.goDo(func() {
		next := a.opts.TLS.InForce()
		if !bytes.Equal(next, with) {
			if err := a.reloadTLS(ctx); err != nil {
				a.log.Warn("redis-server does not take the new certificates: those before stay in force with it; it is asked again", "error", err)
				next = with
			} else {
				a.metrics.reloads.Inc()
				a.log.Info("redis-server has read its certificates anew")
			}
		}
		a.tell(ctx, reloadedMsg{server, next})
	})
}

func (a *Agent) reloadTLS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.callTimeout())
	defer cancel()
	a.changeMu.Lock()
	defer a.changeMu.Unlock()
	c, err := a.login().Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ReloadTLS(ctx, a.opts.TLS.Files)
}

func (a *Agent) reloaded(m reloadedMsg) {
	c := &a.certificates
	c.busy, c.lookAt = false, a.opts.Clock()+lookAtCertificates
	if m.server == a.server { // another one has read them at its start
		c.with = m.with
	}
}
