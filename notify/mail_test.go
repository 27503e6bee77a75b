package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"testing"
	"time"

	"understudy/cluster/clustertest"
)

// letter is what the sink took.
type letter struct {
	to, login string
	secure    bool
	text      string
}

// sink is a mail server. refuse is a recipient that it does not know.
type sink struct {
	addr  string
	got   chan letter
	certs tls.Certificate
	trust *tls.Config
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String(), got: make(chan letter, 10), certs: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, trust: &tls.Config{RootCAs: x509.NewCertPool()}}
	s.trust.RootCAs.AddCert(cert)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *sink) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	var m letter
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 sink")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			if m.secure {
				say("250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME")
			} else {
				say("250-sink\r\n250-STARTTLS\r\n250 8BITMIME")
			}
		case "STARTTLS":
			say("220 go")
			t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{s.certs}})
			c, r, m.secure = t, bufio.NewReader(t), true
		case "AUTH":
			plain, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			m.login = strings.ReplaceAll(string(plain), "\x00", " ")
			say("235 in")
		case "RCPT":
			if strings.Contains(rest, "nobody@") {
				say("550 5.1.1 no such user")
				continue
			}
			m.to = rest
			say("250 ok")
		case "DATA":
			say("354 go")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(line)
			}
			m.text = b.String()
			say("250 ok")
			s.got <- m
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestMailReachesItsReader(t *testing.T) {
	for _, x := range []struct {
		name  string
		smtp  SMTP
		login string
	}{
		{"in the clear", SMTP{Encrypt: "off"}, ""},
		{"starttls with a login", SMTP{Encrypt: "starttls", User: "me", Password: "secret"}, " me secret"},
	} {
		s := newSink(t)
		x.smtp.Addr, x.smtp.From = s.addr, "alerts@understudy.example"
		c, _ := start(t, Options{Store: &clustertest.Memory{}, SMTP: x.smtp, TLS: s.trust})
		m := message("id-1")
		m.Subject, m.Body = "Grüße", "zwei\nZeilen"
		if err := c.Send(t.Context(), m, []Target{target(Email, "you@there.example")}, false); err != nil {
			t.Fatal(err)
		}
		got := receive(t, s.got)
		if got.secure != (x.smtp.Encrypt == "starttls") || got.login != x.login || !strings.Contains(got.to, "<you@there.example>") {
			t.Errorf("%s: %+v", x.name, got)
		}
		parsed, err := mail.ReadMessage(strings.NewReader(got.text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", x.name, err, got.text)
		}
		subject, _ := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
		body, _ := io.ReadAll(quotedprintable.NewReader(parsed.Body))
		if subject != "Grüße" || !strings.Contains(string(body), "zwei\r\nZeilen") || !strings.Contains(string(body), c.unsubscribeURL(target(Email, ""))) ||
			parsed.Header.Get("Message-ID") != "<id-1.email-1@understudy.example>" {
			t.Errorf("%s: %s", x.name, got.text)
		}
	}
}

func TestAReaderWhoIsNotThereIsGivenUp(t *testing.T) {
	s := newSink(t)
	c, _ := start(t, Options{Store: &clustertest.Memory{}, SMTP: SMTP{Addr: s.addr, From: "alerts@understudy.example", Encrypt: "off"}})
	if err := c.Send(t.Context(), message("1"), []Target{target(EmailJSON, "nobody@there.example")}, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no dead letter", func() bool { return len(c.Dead()) == 1 })
	if d := c.Dead()[0]; d.Attempts != 1 || !strings.Contains(d.Error, "550") {
		t.Errorf("%+v", d)
	}
}

func TestMailSettingsAreChecked(t *testing.T) {
	for _, s := range []SMTP{{From: "a@b.example"}, {Addr: "mail", From: "a@b.example"}, {Addr: "mail:25"}, {Addr: "mail:25", From: "a@b.example", Encrypt: "maybe"},
		{Addr: "mail:25", From: "a@b.example", User: "u"}, {Addr: "mail:25", From: "a@b.example", User: "u", Password: "p", Encrypt: "off"}} {
		if s.Validate() == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}
