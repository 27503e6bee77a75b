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

// exiting is the kernel's mark of a process that runs no code of its own any more (PF_EXITING).
const exiting = 0x4

// Exiting reports whether a process has begun to end: it accepts nothing more and answers nothing more. Its
// parent is told later, when the kernel has taken its memory apart, which takes 120 ms for each gigabyte. It
// is false when that cannot be told.
func Exiting(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// The second field is the command's name in parentheses and may hold anything.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	return err == nil && flags&exiting != 0
}
