package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/pflag"

	"understudy/notify"
)

// notifyConfig says how subscribers of topics are reached.
type notifyConfig struct {
	URL              string `yaml:"notify-url"`
	CAFile           string `yaml:"notify-ca-file"`
	SMTPAddr         string `yaml:"smtp-addr"`
	SMTPFrom         string `yaml:"smtp-from"`
	SMTPUser         string `yaml:"smtp-user"`
	SMTPPasswordFile string `yaml:"smtp-password-file"`
	SMTPEncrypt      string `yaml:"smtp-encrypt"`
}

func defaultNotify() notifyConfig { return notifyConfig{SMTPEncrypt: "starttls"} }

// flags binds every setting to a flag.
func (c *notifyConfig) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.URL, "notify-url", c.URL, "where subscribers of topics reach the HTTP address: links in messages begin with it; empty: the HTTP address")
	fs.StringVar(&c.CAFile, "notify-ca-file", c.CAFile, "authorities that vouch for subscribers' https endpoints and the mail server; empty: the system's")
	fs.StringVar(&c.SMTPAddr, "smtp-addr", c.SMTPAddr, "mail server for subscriptions by e-mail, HOST:PORT; empty: there are none")
	fs.StringVar(&c.SMTPFrom, "smtp-from", c.SMTPFrom, "address that e-mail comes from")
	fs.StringVar(&c.SMTPUser, "smtp-user", c.SMTPUser, "login of the mail server; empty: none")
	fs.StringVar(&c.SMTPPasswordFile, "smtp-password-file", c.SMTPPasswordFile, "file with its password")
	fs.StringVar(&c.SMTPEncrypt, "smtp-encrypt", c.SMTPEncrypt, "starttls: needed; opportunistic: if the server offers it; tls: from the first byte; off")
}

func (c *notifyConfig) validate() error {
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.RawQuery != "") {
		return fmt.Errorf("--notify-url %q: http://HOST:PORT or https://HOST:PORT is one", c.URL)
	}
	s := c.smtp()
	if c.SMTPPasswordFile != "" {
		s.Password = "is in the file"
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("--smtp-addr, --smtp-from, --smtp-user, --smtp-encrypt: %w", err)
	}
	return nil
}

func (c *notifyConfig) smtp() notify.SMTP {
	return notify.SMTP{Addr: c.SMTPAddr, From: c.SMTPFrom, User: c.SMTPUser, Encrypt: c.SMTPEncrypt}
}

// open reads the files.
func (c *notifyConfig) open() (s notify.SMTP, trust *tls.Config, err error) {
	s = c.smtp()
	if c.SMTPPasswordFile != "" {
		if s.Password, err = readFirst("smtp password", c.SMTPPasswordFile); err != nil {
			return s, nil, fmt.Errorf("--smtp-password-file: %w", err)
		}
	}
	if c.CAFile == "" {
		return s, nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return s, nil, fmt.Errorf("--notify-ca-file: %w", err)
	}
	trust = &tls.Config{RootCAs: x509.NewCertPool()}
	if !trust.RootCAs.AppendCertsFromPEM(text) {
		return s, nil, errors.New("--notify-ca-file " + c.CAFile + ": there is no certificate in it")
	}
	return s, trust, nil
}
