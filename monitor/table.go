package monitor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"understudy/metric"
)

//go:generate go test . -run TestThePageIsTheTable -update

// figure is a row of the table: the one place where a metric's name and unit are written.
type figure uint8

// The figures, in the order of the page.
const (
	engineCPU figure = iota
	hostCPU
	memoryUsage
	memoryUsed
	fragmentation
	freeableMemory
	swapUsage
	currConnections
	newConnections
	currItems
	volatileItems
	averageTTL
	cacheHits
	cacheMisses
	hitRate
	evictions
	reclaimed
	bytesIn
	bytesOut
	errorReplies
	failedLogins
	saving
	isMaster
	linkHealth
	lagSeconds
	replicationBytes
	readLatency
	writeLatency
	commandCount
	commandLatency

	primaryPresent
	primariesCounted
	epochNumber
	redundancyCount
	linksDown
	lagOfReplicas
	failovers
	failoverGap
	heldRequests
	leakedRequests
	backupAge
	drillAge
	certificateDays

	linkUp
	nodeLag
	figures
)

// scope says under which dimensions a figure is published, and how often.
type scope uint8

const (
	ofNode      scope = iota // AWS's, each minute
	ofNodes                  // AWS's, each minute, and all nodes' into one metric of the group
	ofWhole                  // AWS's, each minute, and one of the group as a whole
	everySecond              // the group's
	nodeSecond               // a node's, ours
)

// row is what is known of a figure.
type row struct {
	name, unit string
	scope      scope
	meaning    string
	rule       string // where its value comes from
}

// Metric is what is published of one figure under one set of dimensions.
type Metric struct {
	Namespace, Name, Unit string
	Dimensions            []string // their names, sorted
	Every                 time.Duration
	Meaning, Rule         string // the rule says where the value comes from
}

// Metrics are all that a Collector publishes. Which of them a node or group has at a time depends on its role and on
// what happens: what cannot be told has no point.
func Metrics() (all []Metric) {
	for f := range figures {
		for _, name := range table[f].names() {
			for _, s := range table[f].scope.sets() {
				all = append(all, Metric{s.namespace, name, table[f].unit, s.dimensions, s.every, table[f].meaning, table[f].rule})
			}
		}
	}
	return all
}

// names are those of a row; a family of commands stands for star.
func (r row) names() []string {
	family, ok := strings.CutPrefix(r.name, star)
	if !ok {
		return []string{r.name}
	}
	var names []string
	for _, f := range slices.Sorted(maps.Keys(families)) {
		names = append(names, f+family)
	}
	return append(names, readCommands+family, writeCommands+family)
}

// of is the name of a figure of a family of commands.
func (f figure) of(family string) string { return strings.Replace(table[f].name, star, family, 1) }

// star stands for a family of commands.
const star = "*"

// set is one set of dimensions.
type set struct {
	namespace  string
	dimensions []string
	every      time.Duration
}

func (s scope) sets() []set {
	aws := []set{{metric.ElastiCache, []string{metric.Node}, time.Minute}, {metric.ElastiCache, []string{metric.Node, metric.Part}, time.Minute}}
	switch s {
	case ofNode:
		return aws
	case ofNodes, ofWhole:
		return append(aws, set{metric.Understudy, []string{metric.Group}, time.Minute})
	case everySecond:
		return []set{{metric.Understudy, []string{metric.Group}, every}}
	case nodeSecond:
		return []set{{metric.Understudy, []string{metric.Node, metric.Group}, every}}
	}
	panic(fmt.Sprintf("monitor: scope %d", s))
}

// id is a figure's in a group.
func (f figure) id(group string) metric.ID {
	return metric.New(metric.Understudy, table[f].name, metric.Group, group)
}
