package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/rogpeppe/go-internal/testscript"

	"understudy/cluster"
	"understudy/dashboard"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"understudy": main, "rediscli": redisCLI, "fetch": fetchPage})
}

// TestScripts plays the stories in testdata/script with real processes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(6 * time.Minute),
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", os.TempDir()) // the script's own is too long for a unix socket
			e.Setenv("UNDERSTUDY_PRIMARY_ADDR", "127.0.0.1:0")
			e.Setenv("UNDERSTUDY_READER_ADDR", "127.0.0.1:0")
			e.Setenv("UNDERSTUDY_SPLIT_ADDR", "127.0.0.1:0")
			e.Setenv("UNDERSTUDY_HTTP_ADDR", "127.0.0.1:0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": awaitInstance, "nobodyleft": nobodyLeft, "takeport": takePort, "exitcode": exitCode, "until": until, "waitsfor": waitsFor, "repair": repair, "listen": listen,
		},
	})
}

// redisCLI sends one command to an address and prints the reply: rediscli HOST:PORT WORD…
func redisCLI() {
	c, err := redis.Dial("tcp", os.Args[1], redis.DialConnectTimeout(5*time.Second), redis.DialReadTimeout(15*time.Second))
	var reply any
	if err == nil {
		defer c.Close()
		args := redis.Args{}.AddFlat(os.Args[3:])
		reply, err = c.Do(os.Args[2], args...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch r := reply.(type) {
	case []byte:
		fmt.Println(string(r))
	default:
		fmt.Println(r)
	}
}

// eventually waits for a condition, at most 20 s: starts and failovers take less than one.
func eventually(ok func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ok()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// awaitInstance waits until the instance on a data directory is ready, and sets PRIMARY, READER,
// SPLIT, HTTP and PID, the node that leads and its zone (LEADER, ZONE), and another node (OTHER,
// OTHERZONE): ready DIR
func awaitInstance(ts *testscript.TestScript, _ bool, args []string) {
	var i instance
	ts.Check(eventually(func() error {
		text, err := os.ReadFile(instanceFile(ts.MkAbs(args[0])))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &i)
	}))
	ts.Setenv("PRIMARY", i.Primary)
	ts.Setenv("READER", i.Reader)
	ts.Setenv("SPLIT", i.Split)
	ts.Setenv("HTTP", i.HTTP)
	ts.Setenv("PID", fmt.Sprint(i.PID))
	var s cluster.Status
	f := finder{data: ts.MkAbs(args[0])}
	_, err := f.call(context.Background(), http.MethodGet, "/api/status", nil, &s)
	ts.Check(err)
	for _, n := range s.Nodes {
		if n.ID == s.Primary {
			ts.Setenv("LEADER", string(n.ID))
			ts.Setenv("ZONE", n.Zone)
		} else {
			ts.Setenv("OTHER", string(n.ID))
			ts.Setenv("OTHERZONE", n.Zone)
		}
	}
}

// nobodyLeft waits until no process works below the script's directory: nobodyleft
func nobodyLeft(ts *testscript.TestScript, _ bool, _ []string) {
	work := ts.Getenv("WORK")
	ts.Check(eventually(func() error {
		dirs, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			return err
		}
		for _, d := range dirs {
			at, err := os.Readlink(d)
			if err == nil && strings.HasPrefix(at+"/", work+"/") { // another script's may begin alike
				name, _ := os.ReadFile(filepath.Join(filepath.Dir(d), "cmdline"))
				return fmt.Errorf("%s is left: %s in %s", filepath.Dir(d), strings.ReplaceAll(string(name), "\x00", " "), at)
			}
		}
		return nil
	}))
}

// takePort listens on a port until the script ends and names the address in a variable: takeport NAME
func takePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0]+"_PORT", port)
}

// exitCode runs a command and demands its exit code: exitcode N WORD…
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// waitsFor waits until a group without a primary says what an operator would have to accept: waitsfor DIR
func waitsFor(ts *testscript.TestScript, _ bool, args []string) {
	f := finder{data: ts.MkAbs(args[0])}
	ts.Check(eventually(func() error {
		var o dashboard.Outcome
		_, err := f.call(context.Background(), http.MethodPost, "/api/failover", dashboard.FailoverRequest{}, &o)
		if err == nil && !strings.Contains(o.Message, "has the best log that is left") {
			err = errors.New(o.Message)
		}
		return err
	}))
}

// until repeats a command until it succeeds: until WORD…
func until(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(eventually(func() error { return ts.Exec(args[0], args[1:]...) }))
}
