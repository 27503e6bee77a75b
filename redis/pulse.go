package redis

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Pulse is how long the main thread of a process has run, or has waited for a processor, so far. While a
// server that answers nothing is busy with one long command it grows as the clock does; while it is stopped,
// or waits for a disk, it stands still. A kernel without scheduler statistics is an error.
func Pulse(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text)) // nanoseconds run, nanoseconds waited, time slices
	if len(f) < 2 {
		return 0, fmt.Errorf("/proc/%d/schedstat holds %q", pid, text)
	}
	run, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return 0, err
	}
	waited, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(run + waited), nil
}
