package drill

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
)

// Verdict is what a drill ends with.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	// Inconclusive: what was seen says nothing about the group, for a reason that is given.
	Inconclusive Verdict = "inconclusive"
)

// Figures are what one lane's clients saw. Times are milliseconds.
type Figures struct {
	// RTOMs is nil when the lane did not recover within the run. See history.RTO.
	RTOMs      *float64 `json:"rto_ms"`
	RPOWrites  int      `json:"rpo_writes"` // equal to Lost
	Acked      int      `json:"acked"`      // writes that were answered with OK
	Lost       int      `json:"lost"`       // of those, absent afterwards from the primary's data
	Duplicated int      `json:"duplicated"`
	// Unknown counts -UNKNOWN replies: the client was told that the outcome is not known. Errors
	// counts every other failure that a client saw.
	Unknown    int     `json:"unknown"`
	Errors     int     `json:"errors"`
	StaleReads int     `json:"stale_reads"` // where reads must not be stale: everywhere but on the reader endpoint
	WriteGapMs float64 `json:"write_gap_ms"`
	ReadGapMs  float64 `json:"read_gap_ms"`
	// FailoverGapMs is the longest time without an acked write that touches the time from the fault
	// until a second after recovery: a pause of the machine at another time is in WriteGapMs only.
	FailoverGapMs float64 `json:"failover_gap_ms"`

	Operations       int            `json:"operations"`
	Reads            int            `json:"reads"` // that succeeded
	Phantoms         int            `json:"phantoms"`
	ReaderStaleReads int            `json:"reader_stale_reads"` // on the reader endpoint, which may lag
	P50Ms            float64        `json:"p50_ms"`             // before the fault
	P99Ms            float64        `json:"p99_ms"`             // before the fault
	ErrorTexts       map[string]int `json:"error_texts,omitempty"`
	Examples         []string       `json:"examples,omitempty"` // of what was lost, doubled or stale
}

// Lane is one way of reaching the group.
type Lane struct {
	Name  string `json:"name"`
	About string `json:"about"` // what its clients do
	Figures
}

// Thresholds are what is still good.
type Thresholds struct {
	RTOMs     float64 `json:"rto_ms"`
	RPOWrites int     `json:"rpo_writes"`
	MaxErrors int     `json:"max_errors"`
}

// Mark is one line of the timeline. TMs counts from the fault.
type Mark struct {
	TMs   float64 `json:"t_ms"`
	Who   string  `json:"who"`
	Event string  `json:"event"`
}

// Alarm is one alarm that the drill expected, or that fired.
type Alarm struct {
	Name        string   `json:"name"`
	Expected    bool     `json:"expected"`
	FiredMs     *float64 `json:"fired_ms"`
	DeliveredMs *float64 `json:"delivered_ms"`
}

// NodeAudit is what one node's own data lack once it has caught up.
type NodeAudit struct {
	Node     cluster.NodeID `json:"node"`
	CaughtUp bool           `json:"caught_up"`
	Lost     int            `json:"lost"`
	Reason   string         `json:"reason,omitempty"` // why it could not be asked
}

// Parameters say what was run.
type Parameters struct {
	Workload   string  `json:"workload"`
	DurationMs float64 `json:"duration_ms"`
	AtMs       float64 `json:"at_ms"`
	Writers    int     `json:"writers"`
	Readers    int     `json:"readers"`
	Rate       int     `json:"rate"` // ops/s at most
	Command    string  `json:"command"`
}

// Result is one drill. It marshals to the JSON of `drill run --json`.
type Result struct {
	Schema  int       `json:"schema"`
	ID      string    `json:"id"`
	Fault   string    `json:"fault"`
	Target  string    `json:"target"`
	Seed    uint64    `json:"seed"`
	Started time.Time `json:"started"`
	Verdict Verdict   `json:"verdict"`
	Reasons []string  `json:"reasons"`
	Figures
	// RedundancyMs is nil when not all nodes were ready again within the run and Options.Patience.
	RedundancyMs *float64           `json:"redundancy_ms"`
	PhasesMs     map[string]float64 `json:"phases_ms"`
	Thresholds   Thresholds         `json:"thresholds"`
	Lanes        []Lane             `json:"lanes"`
	Alarms       []Alarm            `json:"alarms"`
	Timeline     []Mark             `json:"timeline"`

	Parameters Parameters         `json:"parameters"`
	FaultAtMs  float64            `json:"fault_at_ms"` // from the start of the load
	Group      string             `json:"group"`
	Durability cluster.Durability `json:"durability"`
	Profile    string             `json:"profile"`
	From       cluster.NodeID     `json:"from"` // the primary before
	To         cluster.NodeID     `json:"to"`   // and after
	Nodes      int                `json:"nodes"`
	NodesReady int                `json:"nodes_ready"` // at the end
	Audit      []NodeAudit        `json:"audit"`
	// Safety is nil for a local group.
	Safety *Safety `json:"safety,omitempty"`

	// Dir is the run's folder, "" when it is not kept.
	Dir  string `json:"-"`
	plot plot
}

// The files of a run's folder.
const (
	resultFile = "result.json"
	plotFile   = "plot.json"
	reportFile = "report.html"
	junitFile  = "junit.xml"
	opsFile    = "ops.ndjson.gz"
)

// ReportPath is where the HTML report of a kept run lies.
func (r Result) ReportPath() string { return filepath.Join(r.Dir, reportFile) }

// save documents the run in a folder of its own below dir.
func (r *Result) save(dir string, recorded map[string][]entry) error {
	r.Dir = filepath.Join(dir, r.ID)
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return fmt.Errorf("keep the drill: %w", err)
	}
	files := []struct {
		name  string
		write func(*os.File) error
	}{
		{opsFile, func(f *os.File) error { return writeOps(f, recorded) }},
		{plotFile, func(f *os.File) error { return json.NewEncoder(f).Encode(r.plot) }},
		{reportFile, func(f *os.File) error { return r.WriteHTML(f) }},
		{junitFile, func(f *os.File) error { return r.WriteJUnit(f) }},
		// Last: a folder with a result is a whole one.
		{resultFile, func(f *os.File) error { return r.writeJSON(f) }},
	}
	for _, file := range files {
		if err := writeFile(filepath.Join(r.Dir, file.name), file.write); err != nil {
			return fmt.Errorf("keep the drill: %w", err)
		}
	}
	return nil
}

func writeFile(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (r *Result) writeJSON(f *os.File) error {
	e := json.NewEncoder(f)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeOps writes one operation a line, at most maxRecordedOps of each lane.
func writeOps(f *os.File, recorded map[string][]entry) error {
	z := gzip.NewWriter(f)
	e := json.NewEncoder(z)
	for _, lane := range slices.Sorted(maps.Keys(recorded)) {
		entries := recorded[lane]
		for _, o := range entries[:min(len(entries), maxRecordedOps)] {
			if err := e.Encode(o); err != nil {
				return err
			}
		}
	}
	return z.Close()
}

// Load reads a kept run by its id. The newest is "latest".
func Load(dir, id string) (Result, error) {
	if id == "latest" {
		ids, err := runs(dir)
		if err != nil || len(ids) == 0 {
			return Result{}, fmt.Errorf("%w: no drill is kept in %s (%v)", ErrUsage, dir, err)
		}
		id = ids[len(ids)-1]
	}
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return Result{}, fmt.Errorf("%w: %q is no id of a drill; `understudy drill list` shows them", ErrUsage, id)
	}
	r := Result{Dir: filepath.Join(dir, id)}
	err := readFile(filepath.Join(r.Dir, resultFile), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%w: there is no drill %s in %s; `understudy drill list` shows them", ErrUsage, id, dir)
	}
	if err == nil {
		err = readFile(filepath.Join(r.Dir, plotFile), &r.plot)
	}
	if err != nil {
		return r, fmt.Errorf("read drill %s: %w", id, err)
	}
	return r, nil
}

func readFile(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// List returns the kept runs, the oldest first; none when dir does not exist. A folder without a
// result, of a run that was cut off, is left out.
func List(dir string) ([]Result, error) {
	ids, err := runs(dir)
	if err != nil {
		return nil, err
	}
	all := make([]Result, 0, len(ids))
	for _, id := range ids {
		r := Result{Dir: filepath.Join(dir, id)}
		if err := readFile(filepath.Join(r.Dir, resultFile), &r); err != nil {
			return all, fmt.Errorf("read drill %s: %w", id, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// runs lists the ids of whole runs in the order of their time.
func runs(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", resultFile))
	if err != nil {
		return nil, fmt.Errorf("list drills in %s: %w", dir, err)
	}
	ids := make([]string, len(found))
	for i, path := range found {
		ids[i] = filepath.Base(filepath.Dir(path))
	}
	slices.Sort(ids)
	return ids, nil
}

// newID sorts by time, and says what was done.
func newID(at time.Time, fault string) string {
	return at.UTC().Format("20060102T150405.000Z") + "-" + fault
}

// Difference is one figure of two runs. A nil side has no such figure (it never recovered).
type Difference struct {
	Name string   `json:"name"`
	A    *float64 `json:"a"`
	B    *float64 `json:"b"`
}

// Compare sets the figures of two runs side by side.
func Compare(a, b Result) []Difference {
	x, y := a.figureList(), b.figureList()
	d := make([]Difference, len(x))
	for i := range x {
		d[i] = Difference{x[i].name, x[i].value, y[i].value}
	}
	return d
}

type namedFigure struct {
	name  string
	value *float64
}

func (r Result) figureList() []namedFigure {
	n := func(v int) *float64 { f := float64(v); return &f }
	return []namedFigure{
		{"rto_ms", r.RTOMs}, {"failover_gap_ms", &r.FailoverGapMs}, {"write_gap_ms", &r.WriteGapMs}, {"read_gap_ms", &r.ReadGapMs}, {"redundancy_ms", r.RedundancyMs},
		{"p50_ms", &r.P50Ms}, {"p99_ms", &r.P99Ms},
		{"acked", n(r.Acked)}, {"lost", n(r.Lost)}, {"duplicated", n(r.Duplicated)}, {"unknown", n(r.Unknown)},
		{"errors", n(r.Errors)}, {"stale_reads", n(r.StaleReads)},
	}
}
