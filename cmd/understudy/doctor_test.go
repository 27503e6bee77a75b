package main

import (
	"encoding/json"
	"strings"

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
