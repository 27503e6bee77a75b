package failover

import (
	"slices"

	"understudy/cluster"
)

// maxLineage bounds the record: older logs than that need a full sync anyway, because the
// replication backlog has long moved past them.
const maxLineage = 16

// place maps a position to (index of its log in the lineage, offset), so that places compare. A
// position on a log that the lineage does not know counts as far as the log before it reaches:
// nothing was acked under a log that was never recorded. ok is false when neither is known.
func place(lineage []cluster.Fork, pos, prev cluster.Position) (index int, offset int64, ok bool) {
	if i := indexOf(lineage, pos.ReplID); i >= 0 {
		return i, pos.Offset, true
	}
	if i := indexOf(lineage, prev.ReplID); i >= 0 {
		return i, min(prev.Offset, pos.Offset), true
	}
	return 0, 0, false
}

func indexOf(lineage []cluster.Fork, replid string) int {
	if replid == "" {
		return -1
	}
	return slices.IndexFunc(lineage, func(f cluster.Fork) bool { return f.ReplID == replid })
}

// extend records the log that the holder of epoch writes from now on.
func extend(lineage []cluster.Fork, epoch cluster.Epoch, pos, prev cluster.Position) []cluster.Fork {
	next := slices.Clone(lineage)
	if i := indexOf(next, pos.ReplID); i >= 0 {
		return next // the same log goes on: a holder that took a new epoch without a promotion
	}
	fork := cluster.Fork{Epoch: epoch, ReplID: pos.ReplID, At: pos.Offset}
	if indexOf(next, prev.ReplID) >= 0 {
		fork.Parent, fork.At = prev.ReplID, min(prev.Offset, pos.Offset)
	}
	next = append(next, fork)
	if len(next) > maxLineage {
		next = next[len(next)-maxLineage:]
	}
	return next
}
