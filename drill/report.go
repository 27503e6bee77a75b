package drill

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

//go:embed report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"ms":  formatMs,
	"ptr": func(v *float64) float64 { return *v },
}).Parse(reportPage))

// reportView is what the page shows.
type reportView struct {
	Result
	Headline string
	Rows     []reportRow
	Charts   []reportChart
	Phases   template.HTML
	Words    map[Verdict]string
	JSON     template.JS
	Errors   []reportErrors
}

// reportRow is one figure of all lanes.
type reportRow struct {
	Label, Hint string
	Cells       []reportCell
}

type reportCell struct {
	Text string
	Bad  bool
}

type reportChart struct {
	Lane        string
	Near, Whole template.HTML // around the fault, and the whole run
}

type reportErrors struct {
	Lane  string
	Texts []reportErrorText
}

type reportErrorText struct {
	Text  string
	Count int
}

// WriteHTML writes the report: one page that needs nothing else.
func (r Result) WriteHTML(w io.Writer) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	v := reportView{
		Result: r, Headline: r.Headline(), Rows: r.rows(), Charts: r.charts(), Phases: r.drawPhases(), JSON: template.JS(raw),
		Words: map[Verdict]string{Pass: "passed", Fail: "failed", Inconclusive: "inconclusive"},
	}
	for _, l := range r.Lanes {
		if len(l.ErrorTexts) > 0 {
			v.Errors = append(v.Errors, reportErrors{l.Name, sortedTexts(l.ErrorTexts)})
		}
	}
	return reportTemplate.Execute(w, v)
}

func sortedTexts(texts map[string]int) []reportErrorText {
	var list []reportErrorText
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		list = append(list, reportErrorText{text, texts[text]})
	}
	slices.SortStableFunc(list, func(a, b reportErrorText) int { return b.Count - a.Count })
	return list
}

// Headline says in a sentence what the judged clients saw.
func (r Result) Headline() string {
	if r.Verdict == Inconclusive {
		return "This run says nothing about the group: " + strings.Join(r.Reasons, "; ") + "."
	}
	s := fmt.Sprintf("Writes paused for %s; the application saw %s, and %s.", formatMs(r.FailoverGapMs),
		plural(r.Errors, "no error", "error", "errors"), lostPhrase(r.Lost, r.Acked))
	if r.Unknown > 0 {
		s += fmt.Sprintf(" %s answered with “outcome unknown”.", plural(r.Unknown, "", "write was", "writes were"))
	}
	return s
}

func lostPhrase(lost, acked int) string {
	if lost == 0 {
		return fmt.Sprintf("none of its %d acknowledged writes was lost", acked)
	}
	return fmt.Sprintf("%d of its %d acknowledged writes %s lost", lost, acked, map[bool]string{true: "was", false: "were"}[lost == 1])
}

func plural(n int, none, one, many string) string {
	switch {
	case n == 0 && none != "":
		return none
	case n == 1:
		return "1 " + one
	default:
		return fmt.Sprintf("%d %s", n, many)
	}
}

func formatMs(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%.1f s", v/1000)
	case v >= 1000:
		return fmt.Sprintf("%.2f s", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f ms", v)
	case v >= 1:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return fmt.Sprintf("%.2f ms", v)
	}
}

func formatRecovery(v *float64) string {
	if v == nil {
		return "did not recover within the run"
	}
	return formatMs(*v)
}

// rows is the table of the lanes side by side. Bad marks what an operator would not accept.
func (r Result) rows() []reportRow {
	count := func(n int) reportCell { return reportCell{fmt.Sprint(n), n > 0} }
	row := func(label, hint string, cell func(Lane) reportCell) reportRow {
		out := reportRow{Label: label, Hint: hint}
		for _, l := range r.Lanes {
			out.Cells = append(out.Cells, cell(l))
		}
		return out
	}
	return []reportRow{
		row("Longest gap between acked writes in the failover", "nothing could be written for that long", func(l Lane) reportCell {
			return reportCell{formatMs(l.FailoverGapMs), l.FailoverGapMs > r.Thresholds.RTOMs}
		}),
		row("Longest gap between acked writes in the whole run", "also counts pauses of this machine", func(l Lane) reportCell {
			return reportCell{formatMs(l.WriteGapMs), l.WriteGapMs > r.Thresholds.RTOMs}
		}),
		row("Longest gap between reads", "", func(l Lane) reportCell {
			return reportCell{formatMs(l.ReadGapMs), l.ReadGapMs > r.Thresholds.RTOMs}
		}),
		row("Recovered after (RTO)", "then a whole second without an error or a slow answer", func(l Lane) reportCell {
			return reportCell{formatRecovery(l.RTOMs), l.RTOMs == nil || *l.RTOMs > r.Thresholds.RTOMs}
		}),
		row("Errors seen by clients", "", func(l Lane) reportCell { return count(l.Errors) }),
		row("Outcome unknown", "the client was told that its write may or may not have been carried out", func(l Lane) reportCell {
			return reportCell{fmt.Sprint(l.Unknown), false}
		}),
		row("Acked writes lost (RPO)", "answered with OK, and not in the data afterwards", func(l Lane) reportCell { return count(l.Lost) }),
		row("Writes that took effect twice", "", func(l Lane) reportCell { return count(l.Duplicated) }),
		row("Stale reads", "older than a write that was acked before the read began", func(l Lane) reportCell { return count(l.StaleReads) }),
		row("Acked writes", "", func(l Lane) reportCell { return reportCell{fmt.Sprint(l.Acked), false} }),
		row("Answered reads", "", func(l Lane) reportCell { return reportCell{fmt.Sprint(l.Reads), false} }),
		row("Latency before the fault", "median / 99th percentile", func(l Lane) reportCell {
			return reportCell{formatMs(l.P50Ms) + " / " + formatMs(l.P99Ms), false}
		}),
	}
}

// nearWindow is the part of the run that shows the failover: half a second before the fault, until
// half a second after the judged lane has recovered.
func (r Result) nearWindow() window {
	const least, most = 1500.0, 5000.0
	after := least
	if r.RTOMs != nil {
		after = max(least, *r.RTOMs+500)
	} else {
		after = most
	}
	return window{max(0, r.FaultAtMs-500), min(r.Parameters.DurationMs, r.FaultAtMs+min(most, after))}
}

func (r Result) charts() []reportChart {
	var charts []reportChart
	for i, l := range r.plot.Lanes {
		failing := r.Parameters.DurationMs // never recovered
		if i < len(r.Lanes) && r.Lanes[i].RTOMs != nil {
			failing = *r.Lanes[i].RTOMs
		}
		c := chart{lane: l, bucketMs: r.plot.BucketMs, faultMs: r.FaultAtMs, failingMs: failing, slowest: r.slowest()}
		near := r.nearWindow()
		charts = append(charts, reportChart{
			Lane: l.Name, Near: c.draw(near), Whole: c.draw(window{0, r.Parameters.DurationMs}),
		})
	}
	return charts
}

// slowest is the power of ten above the slowest answer of all lanes, from 10 ms.
func (r Result) slowest() float64 {
	top := 10.0
	for _, l := range r.plot.Lanes {
		for _, p := range l.Buckets {
			for p.MaxMs > top {
				top *= 10
			}
		}
	}
	return top
}

// window is a stretch of the run in milliseconds from the start of the load.
type window struct{ from, to float64 }

// chart draws one lane: above, what succeeded upwards and what failed downwards; below, latencies on
// a logarithmic scale.
type chart struct {
	lane      plotLane
	bucketMs  float64
	faultMs   float64
	failingMs float64 // from the fault until the lane had recovered
	slowest   float64 // ms: the top of the latency scale, a power of ten, the same for all lanes
}

// Sizes of a chart in SVG units; the page scales it.
const (
	chartWidth, chartLeft  = 1000.0, 62.0
	countHeight            = 150.0
	latencyTop             = 182.0
	latencyHeight          = 110.0
	chartHeight            = 322.0
	latencyLeast           = 0.1                         // ms: the bottom of the scale
	plotWidth              = chartWidth - chartLeft - 18 // room for half a label of the time axis
	failureShare           = 0.3                         // of countHeight, kept for failures when there are any
	ticksAtMost            = 14
	failuresVisibleAtLeast = 3.0 // units: one error among fifty answers must not vanish
)

func (c chart) draw(w window) template.HTML {
	first := int(w.from / c.bucketMs)
	last := min(len(c.lane.Buckets), int(math.Ceil(w.to/c.bucketMs)))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="Operations and latency of the %s lane">`, chartWidth, chartHeight, c.lane.Name)
	x := func(t float64) float64 { return chartLeft + (t-w.from)/(w.to-w.from)*plotWidth }
	if c.failingMs > 0 {
		from, to := x(c.faultMs), min(x(c.faultMs+c.failingMs), chartLeft+plotWidth)
		fmt.Fprintf(&b, `<rect class="failing" x="%.1f" y="0" width="%.1f" height="%g"/>`, from, max(1, to-from), latencyTop+latencyHeight)
	}
	c.drawCounts(&b, x, first, last)
	c.drawLatency(&b, x, first, last)
	c.drawTime(&b, x, w)
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

func (c chart) drawCounts(b *strings.Builder, x func(float64) float64, first, last int) {
	most, worst := 1, 0
	for _, p := range c.lane.Buckets[first:last] {
		most, worst = max(most, p.Writes+p.Reads), max(worst, p.Errors+p.Unknown)
	}
	up := countHeight
	if worst > 0 {
		up *= 1 - failureShare
	}
	down := countHeight - up
	perSecond := 1000 / c.bucketMs
	top := niceCeiling(float64(most) * perSecond)
	scale := up / top * perSecond
	for _, f := range []float64{1, 0.5} {
		y := up - up*f
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="axis" x="%g" y="%.1f">%s</text>`,
			chartLeft, chartLeft+plotWidth, y, y, chartLeft-6, y+10, compact(top*f))
	}
	for i := first; i < last; i++ {
		p := c.lane.Buckets[i]
		t := float64(i) * c.bucketMs
		left, width := x(t), x(t+c.bucketMs)-x(t)
		gap := min(1, width*0.15)
		bar := func(class string, y, h float64) {
			if h > 0 {
				fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="%.2f" height="%.1f"/>`, class, left, y, width-gap, h)
			}
		}
		reads, writes := float64(p.Reads)*scale, float64(p.Writes)*scale
		bar("writes", up-writes, writes)
		bar("reads", up-writes-reads, reads)
		if worst > 0 {
			height := func(n int) float64 {
				if n == 0 {
					return 0
				}
				return max(failuresVisibleAtLeast, float64(n)/float64(worst)*(down-4))
			}
			bar("errors", up+1, height(p.Errors))
			bar("unknown", up+1+height(p.Errors), height(p.Unknown))
		}
	}
	fmt.Fprintf(b, `<line class="base" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, chartLeft, chartLeft+plotWidth, up, up)
	fmt.Fprintf(b, `<text class="label" x="%g" y="12">operations/s</text>`, chartLeft+6)
	if worst > 0 {
		fmt.Fprintf(b, `<text class="axis" x="%g" y="%.1f">failures</text>`, chartLeft-6, up+14)
	}
}

func (c chart) drawLatency(b *strings.Builder, x func(float64) float64, first, last int) {
	y := func(v float64) float64 {
		v = min(c.slowest, max(latencyLeast, v))
		return latencyTop + latencyHeight - math.Log10(v/latencyLeast)/math.Log10(c.slowest/latencyLeast)*latencyHeight
	}
	for v := latencyLeast; v < c.slowest*2; v *= 10 {
		text := fmt.Sprintf("%.1g ms", v)
		if v > 9 {
			text = fmt.Sprintf("%.0f ms", v)
		}
		if v >= 999 {
			text = fmt.Sprintf("%g s", math.Round(v/1000))
		}
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="axis" x="%g" y="%.1f">%s</text>`,
			chartLeft, chartLeft+plotWidth, y(v), y(v), chartLeft-6, y(v)+4, text)
	}
	line := func(class string, of func(plotColumn) float64) {
		points, pen := strings.Builder{}, "M"
		for i := first; i < last; i++ {
			v := of(c.lane.Buckets[i])
			if v == 0 { // nothing ended here: a line across would be invented
				pen = "M"
				continue
			}
			fmt.Fprintf(&points, "%s%.1f %.1f", pen, x((float64(i)+0.5)*c.bucketMs), y(v))
			if pen == "M" {
				points.WriteString("h0.1")
			}
			pen = "L"
		}
		fmt.Fprintf(b, `<path class="%s" d="%s"/>`, class, points.String())
	}
	line("max", func(p plotColumn) float64 { return p.MaxMs })
	line("p50", func(p plotColumn) float64 { return p.P50Ms })
	fmt.Fprintf(b, `<text class="label" x="%g" y="%g">latency</text>`, chartLeft+6, latencyTop-6)
}

func (c chart) drawTime(b *strings.Builder, x func(float64) float64, w window) {
	step := 100.0
	for _, s := range []float64{100, 250, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000} {
		step = s
		if (w.to-w.from)/s <= ticksAtMost {
			break
		}
	}
	bottom := latencyTop + latencyHeight
	for t := math.Ceil((w.from-c.faultMs)/step) * step; t <= w.to-c.faultMs; t += step {
		at := x(t + c.faultMs)
		fmt.Fprintf(b, `<line class="tick" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text class="time" x="%.1f" y="%g">%s</text>`,
			at, at, bottom, bottom+5, at, bottom+19, signedSeconds(t))
	}
	if at := x(c.faultMs); at >= chartLeft && at <= chartLeft+plotWidth {
		fmt.Fprintf(b, `<line class="fault" x1="%.1f" x2="%.1f" y1="0" y2="%g"/><text class="faultname" x="%.1f" y="12">fault</text>`, at, at, bottom, at+5)
	}
}

func signedSeconds(ms float64) string {
	if math.Abs(ms) < 0.5 {
		return "0"
	}
	return fmt.Sprintf("%+gs", ms/1000)
}

// niceCeiling is the next of 1, 2, 5 × 10ⁿ.
func niceCeiling(v float64) float64 {
	exp := math.Pow(10, math.Floor(math.Log10(max(v, 1))))
	for _, m := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if v <= m*exp {
			return m * exp
		}
	}
	return 10 * exp
}

func compact(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	return fmt.Sprintf("%g", math.Round(v))
}

// phaseOrder is the order in which a failover goes through its phases.
var phaseOrder = []string{"detect", "fence", "hold", "drain", "elect", "demote", "promote", "route"}

// drawPhases draws the group's own account of the failover as one bar.
func (r Result) drawPhases() template.HTML {
	names := slices.Sorted(maps.Keys(r.PhasesMs))
	place := func(n string) int {
		if i := slices.Index(phaseOrder, n); i >= 0 {
			return i
		}
		return len(phaseOrder)
	}
	slices.SortStableFunc(names, func(a, b string) int { return place(a) - place(b) })
	total := 0.0
	for _, n := range names {
		total += r.PhasesMs[n]
	}
	if total == 0 {
		return ""
	}
	var bar, legend strings.Builder
	for i, n := range names {
		fmt.Fprintf(&bar, `<span class="phase phase%d" style="flex-grow:%.3f" title="%s"></span>`, i%6, max(r.PhasesMs[n], total/200), template.HTMLEscapeString(n))
		fmt.Fprintf(&legend, `<li><i class="phase%d"></i>%s <b>%s</b></li>`, i%6, template.HTMLEscapeString(n), formatMs(r.PhasesMs[n]))
	}
	return template.HTML(`<div class="phases">` + bar.String() + `</div><ul class="legend">` + legend.String() + `</ul>`)
}
