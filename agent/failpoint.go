//go:build failpoint

package agent

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"understudy/failover"
)

// FailpointEnv names a file that arms a crash in a build with the tag failpoint; no other build reads it.
// The file holds "WHEN STEP NODE WHAT": before or after; the action's kind, and for a swap its reason
// after a hyphen ("swap-claim"); the node's id or *; process or redis. Who finds its own line takes the
// file away and is killed: one crash for each file, however many processes read it.
const FailpointEnv = "UNDERSTUDY_FAILPOINT"

// failpoint ends this process, or its redis-server, when the file says so.
func (a *Agent) failpoint(when string, action failover.Action) {
	path := os.Getenv(FailpointEnv)
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return // not armed
	}
	words := strings.Fields(string(text))
	if len(words) != 4 || words[0] != when || !slices.Contains([]string{"*", string(a.opts.Self.Node)}, words[2]) {
		return
	}
	step := action.Kind.String()
	if reason, _, _ := strings.Cut(action.Why, " "); action.Kind == failover.ActSwap {
		step += "-" + strings.TrimSuffix(reason, ":")
	}
	if words[1] != step || os.Remove(path) != nil {
		return
	}
	a.log.Warn("failpoint", "when", when, "step", step, "ends", words[3])
	pid := os.Getpid()
	if words[3] == "redis" {
		pid = a.Status().PID
	}
	if pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // if it has ended by itself, that was the crash
	}
}
