package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotificationSettingsAreChecked(t *testing.T) {
	for _, x := range []struct {
		set  func(*notifyConfig)
		part string
	}{
		{func(c *notifyConfig) { c.URL = "understudy.example" }, "--notify-url"},
		{func(c *notifyConfig) { c.URL = "http://h/path" }, "--notify-url"},
		{func(c *notifyConfig) { c.SMTPFrom = "a@b.example" }, "without the address of a server"},
		{func(c *notifyConfig) { c.SMTPAddr, c.SMTPFrom = "mail", "a@b.example" }, "HOST:PORT"},
		{func(c *notifyConfig) { c.SMTPAddr, c.SMTPFrom, c.SMTPUser = "mail:25", "a@b.example", "u" }, "together"},
		{func(c *notifyConfig) {
			c.SMTPAddr, c.SMTPFrom, c.SMTPUser, c.SMTPPasswordFile, c.SMTPEncrypt = "mail:25", "a@b.example", "u", "f", "off"
		}, "could be read on its way"},
	} {
		c := defaultConfig()
		x.set(&c.Notify)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), x.part) {
			t.Errorf("%v, want %q", err, x.part)
		}
	}
}

func TestFilesOfNotificationSettingsAreRead(t *testing.T) {
	dir := t.TempDir()
	password, authority := filepath.Join(dir, "password"), filepath.Join(dir, "ca.pem")
	for path, text := range map[string]string{password: "secret\n", authority: "nothing"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := defaultNotify()
	c.SMTPPasswordFile = password
	if s, _, err := c.open(); err != nil || s.Password != "secret" {
		t.Errorf("%v", err)
	}
	c.CAFile = authority
	if _, _, err := c.open(); err == nil || !strings.Contains(err.Error(), "--notify-ca-file") {
		t.Errorf("%v", err)
	}
}
