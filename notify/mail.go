package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// SMTP is the server that takes e-mail. Without Addr there is none, and nobody can be subscribed by e-mail.
type SMTP struct {
	Addr     string // HOST:PORT
	From     string // address of the sender
	User     string // "": no login
	Password string
	// Encrypt is "starttls" (needed; the default), "opportunistic" (if the server offers it), "tls" (from the first byte)
	// or "off".
	Encrypt string
}

// encryptions are what Encrypt may be.
var encryptions = []string{"starttls", "opportunistic", "tls", "off"}

// Validate checks the settings and their relations.
func (s SMTP) Validate() error {
	if s.Addr == "" {
		if s.From != "" || s.User != "" || s.Password != "" {
			return errors.New("without the address of a server there is nothing to log in to, or to send from")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if n, wrong := strconv.Atoi(port); err != nil || wrong != nil || host == "" || n < 1 || n > 65535 {
		return fmt.Errorf("%q is not HOST:PORT", s.Addr)
	}
	if err := checkAddress(s.From); err != nil {
		return fmt.Errorf("the sender: %w", err)
	}
	switch {
	case !contains(encryptions, s.Encrypt):
		return fmt.Errorf("encryption %q: not one of %s", s.Encrypt, strings.Join(encryptions, ", "))
	case (s.User == "") != (s.Password == ""):
		return errors.New("a user and a password are needed together")
	case s.User != "" && (s.Encrypt == "off" || s.Encrypt == "opportunistic") && !loopback(host):
		return errors.New("the password could be read on its way: use starttls or tls")
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return s == ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkAddress(address string) error {
	a, err := netmail.ParseAddress(address)
	if err != nil || a.Address != address || strings.ContainsAny(address, "\r\n") {
		return fmt.Errorf("%.100q is no e-mail address", address)
	}
	return nil
}

// mailer sends e-mail.
type mailer struct{ c *Courier }

func (s mailer) send(ctx context.Context, m Message, t Target) error {
	o := s.c.opts.SMTP
	if o.Addr == "" {
		return errors.New("no mail server is configured")
	}
	letter, err := s.letter(ctx, m, t)
	if err != nil {
		return err
	}
	client, err := newMailClient(o, s.c.opts.TLS)
	if err != nil {
		return err
	}
	// The library looks at ctx while it dials; a server that hangs later must not hold up the end of the process.
	sent := make(chan error, 1)
	go func() { sent <- client.DialAndSendWithContext(ctx, letter) }()
	select {
	case err = <-sent:
	case <-ctx.Done():
		return fmt.Errorf("the mail server does not answer: %w", context.Cause(ctx))
	}
	var refused *mail.SendError
	// A recipient or a letter that the server refuses for good; a login or a server that fails may be mended.
	if errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 500 {
		return permanent{err}
	}
	return err
}

func newMailClient(o SMTP, trust *tls.Config) (*mail.Client, error) {
	host, port, _ := net.SplitHostPort(o.Addr)
	n, _ := strconv.Atoi(port)
	conf := &tls.Config{}
	if trust != nil {
		conf = trust.Clone()
	}
	conf.ServerName = host
	options := []mail.Option{mail.WithPort(n), mail.WithTimeout(attemptWithin), mail.WithTLSConfig(conf)}
	login := mail.SMTPAuthAutoDiscover
	switch o.Encrypt {
	case "off":
		options, login = append(options, mail.WithTLSPolicy(mail.NoTLS)), mail.SMTPAuthPlainNoEnc
	case "opportunistic":
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	case "tls":
		options = append(options, mail.WithSSL())
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if o.User != "" {
		options = append(options, mail.WithSMTPAuth(login), mail.WithUsername(o.User), mail.WithPassword(o.Password))
	}
	return mail.NewClient(host, options...)
}

// letter is the e-mail of a message. Its Message-ID is the same in each attempt, so that mail programs know a repeat.
func (s mailer) letter(ctx context.Context, m Message, t Target) (*mail.Msg, error) {
	letter := mail.NewMsg()
	if err := letter.FromFormat(cmp.Or(m.Sender, "Understudy Notifications"), s.c.opts.SMTP.From); err != nil {
		return nil, permanent{err}
	}
	if err := letter.To(t.Endpoint); err != nil {
		return nil, permanent{err}
	}
	subject, text, err := s.text(ctx, m, t)
	if err != nil {
		return nil, err
	}
	letter.Subject(subject)
	letter.SetDateWithValue(m.At)
	_, end, _ := strings.Cut(t.Subscription, topicName(m.Topic)+":")
	_, domain, _ := strings.Cut(s.c.opts.SMTP.From, "@")
	letter.SetMessageIDWithValue(m.ID + "." + cmp.Or(end, "0") + "@" + domain)
	if m.Kind == Notification {
		letter.SetGenHeader(mail.HeaderListUnsubscribe, "<"+s.c.unsubscribeURL(t)+">")
	}
	letter.SetBodyString(mail.TypeTextPlain, text)
	return letter, nil
}

// text is what a person reads, or for email-json the document that HTTP endpoints get.
func (s mailer) text(ctx context.Context, m Message, t Target) (subject, text string, err error) {
	if m.Kind != Notification {
		subject = "Subscription Confirmation: " + topicName(m.Topic)
		text = "You have chosen to subscribe to the topic:\n" + m.Topic + "\n\nTo confirm this subscription, open the link below (if this was in error, nothing is to be done):\n" + s.c.subscribeURL(m) + "\n"
		return subject, text, nil
	}
	subject = cmp.Or(m.Subject, "Notification: "+topicName(m.Topic))
	if t.Protocol == EmailJSON {
		k, err := s.c.key.get(ctx)
		if err != nil {
			return "", "", err
		}
		document, err := s.c.envelope(k, m, t)
		return subject, string(document), err
	}
	return subject, bodyOf(m, t) + "\n\n--\nIf you wish to stop receiving notifications from this topic, open the link below to unsubscribe:\n" + s.c.unsubscribeURL(t) + "\n", nil
}
