package alarm

// Failover is the kind of the alarm that every failover raises: drills look for it.
const Failover = "failover"

// OfGroup is the name of the alarm of a kind that a group gets without being asked for it.
func OfGroup(group, kind string) string { return "understudy-" + group + "-" + kind }
