package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// repair has the doctor find something, carries out the command that it prints, exactly as printed, and waits until the
// doctor does not find it any more: repair ID FLAGS…; ! repair leaves out the wait, where a person has to do the rest.
func repair(ts *testscript.TestScript, neg bool, args []string) {
	find := func() (line string, there bool) {
		_ = ts.Exec("understudy", append([]string{"doctor", "--json"}, args[1:]...)...) // exit 1 is what is expected
		var r report
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &r))
		for _, x := range r.Findings {
			if x.ID == args[0] {
				return x.Repair, true
			}
		}
		return "", false
	}
	line, there := find()
	if !there || line == "" {
		ts.Fatalf("%s is not found, or has no command: %q", args[0], line)
	}
	ts.Logf("$ %s", line)
	// redis-cli need not be here; the program of the test speaks to an address instead.
	if rest, ok := strings.CutPrefix(line, "redis-cli -h 127.0.0.1 -p "); ok {
		line = "rediscli 127.0.0.1:" + rest
	}
	ts.Check(ts.Exec("sh", "-c", line))
	if neg {
		return
	}
	ts.Check(eventually(func() error {
		if _, there := find(); there {
			return coded{exitNo, errSilent}
		}
		return nil
	}))
}

// listen makes somebody hear a topic: it subscribes a server of the test's own, which confirms what it is asked to:
// listen DIR TOPIC
func listen(ts *testscript.TestScript, _ bool, args []string) {
	confirmed := make(chan error, 8)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Type, SubscribeURL string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.Type != "SubscriptionConfirmation" {
			return // an alarm
		}
		res, err := http.Get(m.SubscribeURL)
		if err == nil {
			err = res.Body.Close()
		}
		confirmed <- err
	}))
	ts.Defer(s.Close)
	ts.Check(ts.Exec("understudy", "aws", "--data", args[0], "sns", "subscribe", "--topic-arn", args[1], "--protocol", "http", "--notification-endpoint", s.URL))
	select {
	case err := <-confirmed:
		ts.Check(err)
	case <-time.After(20 * time.Second):
		ts.Fatalf("nobody asked %s to confirm its subscription to %s", s.URL, args[1])
	}
}
