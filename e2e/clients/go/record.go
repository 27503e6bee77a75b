package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// record is what a client program saw: each operation's time and outcome, and at its end one line of JSON
// for the driver (../../clients_test.go).
type record struct {
	Version string   `json:"version"`
	Ops     int      `json:"ops"`
	Unknown int      `json:"unknown"` // answers that say that the outcome is not known, to what may not run twice
	Lost    int      `json:"lost"`    // acked, and not there
	Doubled int      `json:"doubled"` // done more often than asked for
	Errors  []string `json:"errors"`  // the first 20
	Failed  int      `json:"failed"`
	Longest float64  `json:"longest_ms"`
	Note    string   `json:"note"`

	rounds int
}

// newRecord names the module's version as it was built in.
func newRecord(modules ...string) *record {
	var parts []string
	info, _ := debug.ReadBuildInfo() // a module without a version shows as such
	for _, m := range modules {
		version := "?"
		for _, d := range info.Deps {
			if d.Path == m {
				version = d.Version
			}
		}
		name := filepath.Base(m)
		if name == "v9" {
			name = "go-redis"
		}
		parts = append(parts, name+" "+version)
	}
	return &record{Version: strings.Join(append(parts, runtime.Version()), ", "), Errors: []string{}}
}

// op runs one operation. repeatable: running it twice would be as good as once. It reports whether it went
// well.
func (r *record) op(what string, repeatable bool, do func() error) bool {
	r.Ops++
	begin := time.Now()
	err := do()
	r.Longest = max(r.Longest, math.Round(float64(time.Since(begin).Microseconds())/100)/10)
	if err != nil {
		r.fail(what, repeatable, err.Error())
	}
	return err == nil
}

// fail counts an answer that says that the outcome is not known apart, for what may not run twice.
func (r *record) fail(what string, repeatable bool, message string) {
	if !repeatable && strings.Contains(message, "UNKNOWN") {
		r.Unknown++
		return
	}
	r.check(false, "%s: %s", what, message)
}

func (r *record) check(ok bool, otherwise string, args ...any) {
	if ok {
		return
	}
	if r.Failed++; r.Failed <= 20 {
		r.Errors = append(r.Errors, fmt.Sprintf(otherwise, args...))
	}
}

// another ends a round: it tells the driver, rests, and says whether there is to be another one.
func (r *record) another() bool {
	if r.rounds > 0 {
		fmt.Println("round")
		ms, _ := strconv.Atoi(os.Getenv("CLIENT_PAUSE_MS"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	r.rounds++
	_, err := os.Stat(os.Getenv("CLIENT_STOP"))
	return err != nil
}

func (r *record) finish() {
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

// eventually waits until the condition holds, at most so long.
func eventually(within time.Duration, holds func() bool) bool {
	for until := time.Now().Add(within); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

// compare says how many of the acked were not done, and how often something was done again.
func compare(acked, did []int) (lost, again int) {
	times := map[int]int{}
	for _, n := range did {
		times[n]++
	}
	for _, n := range acked {
		if times[n] == 0 {
			lost++
		}
	}
	return lost, len(did) - len(times)
}

// numbers turns what a server returned into numbers; what is none is 0.
func numbers(words []string) []int {
	var out []int
	for _, w := range words {
		n, _ := strconv.Atoi(w)
		out = append(out, n)
	}
	return out
}

// addr is an endpoint's address.
func addr(endpoint string) string {
	return os.Getenv("CLIENT_HOST") + ":" + os.Getenv("CLIENT_"+endpoint+"_PORT")
}

var key = os.Getenv("CLIENT_KEY")
