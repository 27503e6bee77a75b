package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func quietApp() *app { return newApp(slog.New(slog.DiscardHandler)) }

func TestAppStopsInTheReverseOrderEvenAfterAFailure(t *testing.T) {
	a := quietApp()
	var order []string
	for _, name := range []string{"fencer", "store", "agents"} {
		a.onStop(name, func(context.Context) error {
			order = append(order, name)
			if name == "store" {
				return errors.New("disk full")
			}
			return nil
		})
	}
	err := a.stop(t.Context())
	if !slices.Equal(order, []string{"agents", "store", "fencer"}) {
		t.Errorf("stopped in the order %v", order)
	}
	if err == nil || err.Error() != "stop store: disk full" {
		t.Errorf("error %v", err)
	}
}

func TestAppEndsWhenAPartEndsByItself(t *testing.T) {
	a := quietApp()
	a.run("parts", part{"good", func(ctx context.Context) error { <-ctx.Done(); return nil }},
		part{"bad", func(context.Context) error { return errors.New("broken") }})
	select {
	case err := <-a.failed:
		if err.Error() != "bad ended: broken" {
			t.Errorf("error %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told")
	}
	if err := a.stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAppDoesNotWaitForAPartForEver(t *testing.T) {
	a := quietApp()
	release := make(chan struct{})
	defer close(release)
	a.run("stuck", part{"stuck", func(context.Context) error { <-release; return nil }})
	bound, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.stop(bound); err == nil || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("error %v", err)
	}
}

func TestTheNearestNameIsOfferedOnlyWhenItIsNear(t *testing.T) {
	names := []string{"durability", "nodes", "data", "http-addr"}
	for got, want := range map[string]string{
		"durabilty": `: did you mean "durability"?`, "node": `: did you mean "nodes"?`, "http": `: did you mean "http-addr"?`,
		"quantity": "", "": "",
	} {
		if hint := didYouMean(got, names, ""); hint != want {
			t.Errorf("%q: %q, want %q", got, hint, want)
		}
	}
}

// FuzzConfigFile: no text makes the reader of the file crash, and what it accepts can be printed and
// read again as the same.
func FuzzConfigFile(f *testing.F) {
	f.Add("nodes: 2\nzones: [a, b]\nhold: 7s\n")
	f.Add("nodes: many\n")
	f.Add("a: &x [*x]\n")
	f.Add("timing:\n  renew: 100ms\n  misses: 4\npreferred-zone: us-east-1b\nreturn-window: sat:23:30-sun:00:30\n")
	f.Add("zones:\n- a\n- 'b\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultConfig()
		if c.decode([]byte(text)) != nil || c.validate() != nil {
			return
		}
		var b strings.Builder
		if err := c.print(&b); err != nil {
			t.Fatal(err)
		}
		again := defaultConfig()
		if err := again.decode([]byte(b.String())); err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		var second strings.Builder
		if err := again.print(&second); err != nil {
			t.Fatal(err)
		}
		if b.String() != second.String() {
			t.Fatalf("printed\n%s\nread and printed again\n%s", b.String(), second.String())
		}
	})
}
