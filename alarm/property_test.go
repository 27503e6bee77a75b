package alarm

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"understudy/metric"
)

// marks are a row of the oracle in one string, the newest on the right.
func marks(r Rule, row []byte) []metric.Point {
	_, end := r.Range(noon)
	var points []metric.Point
	for i, mark := range row {
		if mark != '-' {
			points = append(points, metric.Point{At: end.Add(-time.Duration(len(row)-i) * r.Period), Value: map[byte]float64{'X': 1}[mark], Count: 1})
		}
	}
	return points
}

// What must hold whatever the rules are in detail: it needs no second evaluator.
func TestEvaluateHasTheProperties(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	states := []State{OK, Alarm, InsufficientData}
	for range 1_000 {
		n := 1 + rng.IntN(6)
		treatment := []Treatment{Missing, Ignore, Breaching, NotBreaching}[rng.IntN(4)]
		r := ruleOf(1+rng.IntN(n), n, treatment)
		r.Period = []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, time.Hour}[rng.IntN(5)]
		row := make([]byte, n+extraPoints)
		for i := range row {
			row[i] = "0X--"[rng.IntN(4)]
		}
		before := states[rng.IntN(3)]
		now := noon.Add(time.Duration(rng.Int64N(int64(r.Cadence())))) // Range is the same until the next grid line
		got := Evaluate(r, before, marks(r, row), now)
		check := func(what string, state State) {
			if state != got.State {
				t.Fatalf("seed %d: %d of %d, %s, %s, before %s: %s, but %s: %s", seed, r.need(), n, row, treatment, before, got.State, what, state)
			}
		}

		// Neither the order of the points counts, nor those before the range, off its grid, or not over yet.
		points := marks(r, row)
		start, end := r.Range(noon)
		for _, at := range []time.Time{start.Add(-r.Period), start.Add(r.Period / 2), end, end.Add(r.Period)} {
			points = append(points, metric.Point{At: at, Value: 1, Count: 1})
		}
		rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		check("with points that do not count", Evaluate(r, before, points, now).State)

		// An evaluation that is repeated changes nothing: ours may be, after a crash.
		again := Evaluate(r, got.State, marks(r, row), now)
		check("evaluated again", again.State)
		if again.Changed {
			t.Fatalf("seed %d: %s changed without a cause", seed, row)
		}

		if !slices.Contains(row[extraPoints:], '-') {
			older := slices.Clone(row)
			older[rng.IntN(extraPoints)] = "0X-"[rng.IntN(3)]
			check("with another old point", Evaluate(r, before, marks(r, older), now).State)
		}
		if treatment == Breaching || treatment == NotBreaching {
			check("before something else", Evaluate(r, states[rng.IntN(3)], marks(r, row), now).State)
			if i := slices.Index(row, '0'); i >= 0 && got.State == Alarm {
				row[i] = 'X'
				check("with one more that breaches", Evaluate(r, before, marks(r, row), now).State)
			}
		}
	}
}
