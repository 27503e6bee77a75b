package redis

import (
	"context"
	"errors"
	"testing"
)

// What one version of redis-server does not know is left out, and the rest is done. A connection that broke is no such
// case: who took it for one had given the server nothing, and never tried again.
func TestSettingsThatAreRefusedAreToldFromAConnectionThatBroke(t *testing.T) {
	s, c := run(t)
	given := Settings{Users: map[string]string{"app": "on nopass ~* +@all", "bad": "on +@nosuchcategory"}, Config: map[string]string{kept[0]: "no such value"}}
	err := c.Apply(t.Context(), given, nil)
	if !errors.Is(err, ErrNotAll) {
		t.Fatalf("%v, want ErrNotAll", err)
	}
	now, err := c.Settings(t.Context())
	if err != nil || now.Users["app"] == "" || now.Users["bad"] != "" {
		t.Errorf("users %v, %v; want app alone", now.Users, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := c.Apply(ended, given, nil); err == nil || errors.Is(err, ErrNotAll) {
		t.Errorf("a call that had no time: %v", err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), given, nil); err == nil || errors.Is(err, ErrNotAll) {
		t.Errorf("a server that is gone: %v", err)
	}
}
