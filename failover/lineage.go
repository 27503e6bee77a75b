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
// nothing was acked under a log that was never recorded. So does a position below the fork of its own
// log: a replica takes the new name when its partial resync is granted, before it has read on to where
// the new log begins. ok is false when no log is known.
func place(lineage []cluster.Fork, pos, prev cluster.Position) (index int, offset int64, ok bool) {
	i, offset := indexOf(lineage, pos.ReplID), pos.Offset
	if i < 0 {
		i, offset = indexOf(lineage, prev.ReplID), min(prev.Offset, pos.Offset)
	}
	if i < 0 {
		return 0, 0, false
	}
	for offset < lineage[i].At {
		parent := indexOf(lineage[:i], lineage[i].Parent)
		if parent < 0 {
			break
		}
		i = parent
	}
	return i, offset, true
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
