//go:build !failpoint

package agent

import "understudy/failover"

// failpoint does nothing: only the end-to-end tests build the program with crashes that can be armed.
func (*Agent) failpoint(string, failover.Action) {}
