package alarm

import "time"

// Failover is the kind of the alarm that every failover raises: drills look for it.
const Failover = "failover"

// How old the newest backup and the newest drill of a group may be: the alarms that it gets and the doctor say the same. A
// backup's bound is a day, and the two hours that a daily one's window may move by.
const (
	BackupOverdue = 26 * time.Hour
	DrillOverdue  = 7 * 24 * time.Hour
)

// OfGroup is the name of the alarm of a kind that a group gets without being asked for it.
func OfGroup(group, kind string) string { return "understudy-" + group + "-" + kind }
