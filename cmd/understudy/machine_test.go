package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy/cluster"
)

// TestMachines plays the stories in testdata/machines with real processes. Each machine is an address
// of the loopback network, 127.X.Y.11 and so on, of which every story has its own: ports are free there. One story
// at a time: three agents under the race detector take a core, and more of them look like machines that hang.
func TestMachines(t *testing.T) {
	stories, err := filepath.Glob(filepath.Join("testdata", "machines", "*.txtar"))
	if err != nil || len(stories) == 0 {
		t.Fatalf("no story: %v", err)
	}
	for _, story := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(story), ".txtar"), func(t *testing.T) {
			playMachines(t, story)
		})
	}
}

func playMachines(t *testing.T, story string) {
	testscript.Run(t, testscript.Params{
		Files: []string{story}, RequireExplicitExec: true, RequireUniqueNames: true, Deadline: time.Now().Add(4 * time.Minute),
		Setup: func(e *testscript.Env) error {
			network := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), 1+rand.IntN(250))
			e.Setenv("NET", network)
			e.Setenv("TMPDIR", os.TempDir()) // the script's own is too long for a unix socket
			for i, name := range []string{"m1", "m2", "m3", "m4"} {
				text := fmt.Sprintf(`machine: %[1]s
zone: %[2]c
data: %[1]s
listen: %[3]s.%[4]d
store: {embed: {m1: "%[3]s.11:2380", m2: "%[3]s.12:2380", m3: "%[3]s.13:2380"}}
tls: {ca: certs/ca.pem, cert: certs/%[1]s.pem, key: certs/%[1]s.key}
groups: [{name: main}]
replace_after: 30s
`, name, 'a'+min(i, 2), network, 11+i) // m4 is a second machine of m3's zone, without a member of the store
				if err := os.WriteFile(filepath.Join(e.WorkDir, name+".yaml"), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode, "until": untilCalm, "served": served, "elsewhere": elsewhere, "trusts": trusts, "distrusts": distrusts, "nobodyleft": nobodyLeft},
	})
}

// elsewhere waits until a machine's node is on another: elsewhere HOST:PORT FROM TO
func elsewhere(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(within(90*time.Second, func() error {
		res, err := http.Get("http://" + args[0] + "/api/status")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var s cluster.Status
		if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
			return err
		}
		there := false
		for _, n := range s.Nodes {
			if n.Machine == args[1] {
				return fmt.Errorf("%s is on %s", n.ID, n.Machine)
			}
			there = there || n.Machine == args[2]
		}
		if !there {
			return fmt.Errorf("%s runs nothing: %+v", args[2], s.Nodes)
		}
		return nil
	}))
}

// trusts waits until a listener takes the certificate NAME.pem: trusts HOST:PORT NAME
func trusts(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(within(40*time.Second, func() error { return show(args[0], ts.MkAbs(args[1])) }))
}

// distrusts waits until it does not: distrusts HOST:PORT NAME
func distrusts(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(within(40*time.Second, func() error {
		if show(args[0], ts.MkAbs(args[1])) == nil {
			return fmt.Errorf("%s takes %s", args[0], args[1])
		}
		return nil
	}))
}

// within is eventually with more patience: members of the store are restarted one after the other.
func within(d time.Duration, ok func() error) error {
	var err error
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return nil
		}
	}
	return err
}

// show shows a certificate to a listener and returns why it is refused. Whom the listener is makes no
// difference here.
func show(addr, name string) error {
	cert, err := tls.LoadX509KeyPair(name+".pem", name+".key")
	if err != nil {
		return err
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr,
		&tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return err
	}
	defer c.Close()
	// In TLS 1.3 the client has done its part before the server refuses it.
	if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// untilCalm is until with more patience.
func untilCalm(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(within(90*time.Second, func() error { return ts.Exec(args[0], args[1:]...) }))
}

// served waits until a group has a primary that accepts writes: served HOST:PORT
func served(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(within(90*time.Second, func() error {
		res, err := http.Get("http://" + args[0] + "/healthz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	}))
}
