package main

import (
	"os"
	"runtime/debug"
)

// memoryLimit is where the collector begins to work harder rather than let the process grow: what the
// proxy may hold and owe (256 MB each, see proxy.Options), and half as much again for the rest. Idle,
// a group of three needs 40 MB here. The collector's pace stays Go's own: at half of it (GOGC=50) the
// idle process was 2 MB smaller and no busier, so there is nothing to gain.
const memoryLimit = 768 << 20

// limitMemory sets the limit, unless the operator has set one.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
