package clustertest_test

import (
	"testing"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

func TestMemoryIsAStore(t *testing.T) {
	clustertest.TestStore(t, func(*testing.T) cluster.Store { return &clustertest.Memory{} })
}
