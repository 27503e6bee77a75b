package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"understudy/cluster"
	"understudy/drill"
)

// view shows a drill as it happens: on a terminal as a picture that is drawn over and over, elsewhere
// as a line a second.
type view struct {
	w       io.Writer
	picture bool
	colour  bool
	lines   int // of the picture before
	said    time.Duration
	phase   drill.Phase
	history map[string][]float64 // writes per second of each lane, newest last
	lanes   []drill.LaneSample   // the newest while the load ran: clients that have ended are no outage
}

// width is how many samples a lane's curve shows, two a column: twelve seconds, a whole drill.
const width = 120

func newView(w io.Writer, picture bool) *view {
	return &view{w: w, picture: picture, colour: picture && os.Getenv("NO_COLOR") == "", history: map[string][]float64{}, said: -time.Second}
}

// show takes one sample; drill calls it ten times a second.
func (v *view) show(s drill.Sample) {
	if s.At > s.Duration && v.lanes != nil {
		s.Lanes = v.lanes
		v.display(s)
		return
	}
	v.lanes = s.Lanes
	for _, l := range s.Lanes {
		h := append(v.history[l.Name], l.WritesPerSecond)
		v.history[l.Name] = h[max(0, len(h)-width):]
	}
	v.display(s)
}

func (v *view) display(s drill.Sample) {
	if v.picture {
		v.draw(s)
		return
	}
	if s.Phase == v.phase && s.At-v.said < time.Second {
		return
	}
	v.phase, v.said = s.Phase, s.At
	fmt.Fprintf(v.w, "%5.1f s  %-10s  primary %-8s", s.At.Seconds(), v.word(s), orDash(string(s.Status.Primary)))
	for _, l := range s.Lanes {
		fmt.Fprintf(v.w, "  | %s %.0f writes/s, %d errors, longest gap %v", l.Name, l.WritesPerSecond, l.Errors, l.LongestGap.Round(time.Millisecond))
	}
	fmt.Fprintln(v.w)
}

// word says what is going on.
func (v *view) word(s drill.Sample) string {
	switch s.Phase {
	case drill.PhaseLoad:
		return "healthy"
	case drill.PhaseFault:
		return fmt.Sprintf("%s + %.1f s", s.Fault, s.SinceFault.Seconds())
	default:
		return string(s.Phase)
	}
}

// draw draws the picture over the one before.
func (v *view) draw(s drill.Sample) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "drill %s   %4.1f of %.0f s   %s   epoch %d\n\n", s.Fault, min(s.At, s.Duration).Seconds(), s.Duration.Seconds(), v.paint(bold, v.word(s)), s.Status.Epoch)
	for _, n := range s.Status.Nodes {
		role := fmt.Sprintf("%-8s", n.Role)
		if n.Role == cluster.RolePrimary {
			role = v.paint(bold, role)
		}
		colour := green
		if n.State != cluster.StateReady {
			colour = red
		}
		fmt.Fprintf(&b, "  %-12s %-12s %s %s\n", n.ID, n.Zone, role, v.paint(colour, fmt.Sprintf("%-8s", n.State)))
	}
	b.WriteString("\n")
	v.drawLanes(&b, s)
	text := b.String()
	if v.lines > 0 {
		text = fmt.Sprintf("\x1b[%dA\x1b[J", v.lines) + text
	}
	v.lines = strings.Count(b.String(), "\n")
	_, _ = io.WriteString(v.w, text) // a picture that nobody sees changes nothing
}

func (v *view) drawLanes(b *bytes.Buffer, s drill.Sample) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\twrites/s\treads/s\tp99\tacked\terrors\tunknown\tgap now\tlongest gap\t")
	for _, l := range s.Lanes {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%v\t%d\t%d\t%d\t%v\t%v\t\n", l.Name, l.WritesPerSecond, l.ReadsPerSecond,
			l.P99.Round(100*time.Microsecond), l.Acked, l.Errors, l.Unknown, l.Gap.Round(time.Millisecond), l.LongestGap.Round(time.Millisecond))
	}
	_ = t.Flush() // into memory
	b.WriteString("\n")
	for _, l := range s.Lanes {
		colour := green
		if l.Errors > 0 || l.LongestGap > time.Second {
			colour = red
		}
		fmt.Fprintf(b, "  %-10s %s\n", l.Name, v.paint(colour, curve(v.history[l.Name])))
	}
}

// curve draws values as blocks of eight heights; what is zero stays empty, so that a gap shows.
func curve(values []float64) string {
	top := 1.0
	for _, v := range values {
		top = max(top, v)
	}
	blocks := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for pair := range slices.Chunk(values, 2) {
		v := pair[len(pair)-1]
		if len(pair) == 2 {
			v = (pair[0] + pair[1]) / 2
		}
		if v <= 0 {
			b.WriteRune(' ')
			continue
		}
		b.WriteRune(blocks[min(len(blocks)-1, int(v/top*float64(len(blocks))))])
	}
	return b.String()
}

// The looks of a word on a terminal.
const (
	bold  = "1"
	green = "32"
	red   = "31"
)

func (v *view) paint(look, text string) string {
	if !v.colour {
		return text
	}
	return "\x1b[" + look + "m" + text + "\x1b[0m"
}
