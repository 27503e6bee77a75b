package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// shopRuns is how long an example's shop is open: a crash in its middle leaves it seconds on both sides.
const shopRuns = "4"

// example is a client of another language, run as its own users run it.
type example struct {
	language string
	probe    []string // succeeds when interpreter and library are there
	run      []string
	needs    string
}

// examples lists what runs; the first of several interpreters that has the library is taken.
func examples(t *testing.T) []example {
	t.Helper()
	at := func(parts ...string) string { return filepath.Join(append([]string{"..", "examples"}, parts...)...) }
	shop := filepath.Join(t.TempDir(), "shop")
	python := "python3"
	if exec.Command(python, "-c", "import redis").Run() != nil {
		python = "/usr/bin/python3" // the one that apt's python3-redis is for
	}
	return []example{
		{"php", []string{"php", "-r", `exit(extension_loaded("redis") ? 0 : 1);`}, []string{"php", at("php", "shop.php")}, "apt-get install php-cli php-redis"},
		{"python", []string{python, "-c", "import redis"}, []string{python, "-B", at("python", "shop.py")}, "apt-get install python3-redis"},
		{"ruby", []string{"ruby", "-e", `require "redis"`}, []string{"ruby", at("ruby", "shop.rb")}, "apt-get install ruby ruby-redis"},
		{"node", []string{"node", "-e", fmt.Sprintf("require(%q)", "../examples/node/node_modules/ioredis")}, []string{"node", at("node", "shop.js")}, "node 20 or newer, and npm ci --prefix examples/node"},
		{"go", []string{"go", "build", "-o", shop, "understudy/examples/go"}, []string{shop}, "the Go that runs this test"},
	}
}

// TestUnmodifiedClientsNoticeNothingOfACrash runs each example through one crash. They know a host
// and two ports.
func TestUnmodifiedClientsNoticeNothingOfACrash(t *testing.T) {
	for _, x := range examples(t) {
		t.Run(x.language, func(t *testing.T) {
			if out, err := exec.Command(x.probe[0], x.probe[1:]...).CombinedOutput(); err != nil {
				text := fmt.Sprintf("NOT TESTED: the %s client is missing (%v): install it with: %s\n%s", x.language, err, x.needs, out)
				if os.Getenv("CI") != "" {
					t.Fatal(text)
				}
				t.Skip(text)
			}
			g := StartGroup(t)
			g.WaitAvailable()
			x.throughACrash(t, g)
		})
	}
}

// shopSaw is what an example prints at its end.
type shopSaw struct{ Ops, Errors, Degraded int }

func (x example) throughACrash(t *testing.T, g *Group) {
	host, primary, err := net.SplitHostPort(g.Primary)
	if err != nil {
		t.Fatal(err)
	}
	_, reader, err := net.SplitHostPort(g.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, x.run[0], append(x.run[1:], host, primary, reader, shopRuns)...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	watch := client(t, g.Primary)
	x.awaitRequests(t, watch, ended, 50)
	g.crash()
	x.awaitRequests(t, watch, ended, 50)
	if err := <-ended; err != nil {
		t.Fatalf("%s ended with %v:\n%s", x.language, err, &stderr)
	}
	var saw shopSaw
	if err := json.Unmarshal(stdout.Bytes(), &saw); err != nil {
		t.Fatalf("%s printed %q: %v", x.language, &stdout, err)
	}
	unknown := strings.Count(stderr.String(), "UNKNOWN")
	t.Logf("%s: %d operations, %d errors (%d of them outcomes unknown), %d degraded", x.language, saw.Ops, saw.Errors, unknown, saw.Degraded)
	if saw.Errors > unknown || unknown > 1 || saw.Degraded > 0 || saw.Ops < 100 {
		t.Errorf("%s noticed the crash: %+v\n%s", x.language, saw, &stderr)
	}
}

// awaitRequests waits until the example has served n more requests, by the counter that it keeps.
func (x example) awaitRequests(t *testing.T, c *redis.Client, ended chan error, n int) {
	t.Helper()
	count := func() int {
		have, err := c.Get(background, "shop:"+x.language+":counter").Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		return have
	}
	want := count() + n
	eventually(t, fmt.Sprintf("%d more requests of %s", n, x.language), func() error {
		select {
		case err := <-ended:
			t.Fatalf("%s ended too early: %v", x.language, err)
		default:
		}
		if have := count(); have < want {
			return fmt.Errorf("%d are missing", want-have)
		}
		return nil
	})
}
