package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy/alarm"
	"understudy/cluster"
	"understudy/cluster/clustertest"
	"understudy/metric"
)

// world is what a Watch sees: a store, one value of each metric for every second, and topics.
type world struct {
	t     *testing.T
	store cluster.Store

	mu     sync.Mutex
	values map[string]float64 // by the metric's name; without one there are no points
	posts  []Post             // as topics took them, repetitions left out
	times  map[string]int     // how often each ID was published
	down   error              // what topics answer
	broken error              // what the reader answers
}

func newWorld(t *testing.T) *world {
	return &world{t: t, store: &clustertest.Memory{}, values: map[string]float64{}, times: map[string]int{}}
}

func (w *world) set(name string, v float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values[name] = v
}

func (w *world) fail(topics, reader error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.broken = topics, reader
}

// Points gives the value of now for every period of the question.
func (w *world) Points(_ context.Context, q metric.Query) (all []metric.Point, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.values[q.ID.Name]
	if w.broken != nil || !ok {
		return nil, w.broken
	}
	for at := q.Start; at.Before(q.End); at = at.Add(q.Period) {
		all = append(all, metric.Point{At: at, Value: v, Count: 1})
	}
	return all, nil
}

func (w *world) List(context.Context, metric.Filter) ([]metric.ID, error) { return nil, nil }

func (w *world) publish(_ context.Context, p Post) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return w.down
	}
	if w.times[p.ID]++; w.times[p.ID] == 1 {
		w.posts = append(w.posts, p)
	}
	return nil
}

// taken are the states that topics were told, in order: "t ALARM".
func (w *world) taken() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.posts {
		state, _, _ := strings.Cut(p.Subject, ":")
		all = append(all, p.Topic+" "+state)
	}
	return all
}

// start runs a Watch over the world until the returned function is called.
func (w *world) start() (*Watch, func()) {
	w.t.Helper()
	x, err := New(w.t.Context(), Options{Store: w.store, Reader: w, Publish: w.publish, Region: "us-east-1", Account: "123456789012"})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	<-x.running
	return x, func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// above is an alarm that goes into ALARM when the metric is above 10 for one period.
func above(name, metricName string, period time.Duration) Alarm {
	return Alarm{Name: name, Rule: &alarm.Rule{Metric: metric.New("Mine", metricName, "shop", "a"), Stat: "Maximum", Period: period, Periods: 1, Threshold: 10, Comparison: alarm.Greater},
		Actions: Actions{Alarm: []string{"t"}, OK: []string{"t"}}}
}

func put(t *testing.T, w *Watch, all ...Alarm) {
	t.Helper()
	for _, a := range all {
		if err := w.Put(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
}

func wantState(t *testing.T, w *Watch, name string, s alarm.State) {
	t.Helper()
	if a, ok := w.Alarm(name); !ok || a.State != s {
		t.Errorf("%s is %s (%s), want %s", name, a.State, a.Reason, s)
	}
}

func summaries(all []Entry) (texts []string) {
	for _, e := range all {
		texts = append(texts, e.Summary)
	}
	return texts
}

func TestAnAlarmOfASecondTellsItsTopicWithinTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 1)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Second))
		synctest.Wait()
		wantState(t, w, "high", alarm.OK)
		time.Sleep(10*time.Second + 300*time.Millisecond)
		world.set("m", 20)
		time.Sleep(time.Second)
		synctest.Wait()
		wantState(t, w, "high", alarm.Alarm)
		world.set("m", 2)
		time.Sleep(time.Second)
		synctest.Wait()
		wantState(t, w, "high", alarm.OK)
		if want := []string{"t OK", "t ALARM", "t OK"}; !slices.Equal(world.taken(), want) {
			t.Errorf("topics were told %v, want %v", world.taken(), want)
		}
		want := []string{
			"Successfully executed action t", "Alarm updated from ALARM to OK", "Successfully executed action t", "Alarm updated from OK to ALARM",
			"Successfully executed action t", "Alarm updated from INSUFFICIENT_DATA to OK", `Alarm "high" created`,
		}
		if got := summaries(w.History("high")); !slices.Equal(got, want) {
			t.Errorf("history:\n%s", strings.Join(got, "\n"))
		}
		if a, _ := w.Alarm("high"); len(a.Untold) != 0 {
			t.Errorf("untold: %+v", a.Untold)
		}
	})
}

func TestAMinutesAlarmIsEvaluatedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 1)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Minute))
		synctest.Wait()
		world.set("m", 20)
		start := time.Now()
		for time.Since(start) < 3*time.Minute {
			time.Sleep(time.Second)
			synctest.Wait()
			if a, _ := w.Alarm("high"); a.State == alarm.Alarm {
				if s := a.Since.Sub(a.Since.Truncate(time.Minute)); s < settledMinute || s > settledMinute+spread {
					t.Errorf("it was evaluated %v after the minute", s)
				}
				return
			}
		}
		t.Error("no ALARM in three minutes")
	})
}

func TestWhatCannotBeReadChangesNoState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 20)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Second))
		synctest.Wait()
		wantState(t, w, "high", alarm.Alarm)
		world.fail(nil, errors.New("disk"))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if a, _ := w.Alarm("high"); a.State != alarm.Alarm || a.Evaluation != alarm.EvaluationFailure || !strings.Contains(a.Reason, "disk") {
			t.Errorf("%+v", a)
		}
		world.fail(nil, nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a, _ := w.Alarm("high"); a.State != alarm.Alarm || a.Evaluation != alarm.Complete || !strings.HasPrefix(a.Reason, "Threshold Crossed") || a.Data == "" {
			t.Errorf("%+v", a)
		}
		world.fail(nil, nil)
		world.set("m", 2)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a, _ := w.Alarm("high"); a.State != alarm.OK || a.Evaluation != alarm.Complete {
			t.Errorf("%+v", a)
		}
	})
}

func TestATopicThatIsAwayIsToldLaterAndOneThatIsGoneNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 20)
		world.fail(errors.New("the store is away"), nil)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Second))
		time.Sleep(20 * time.Second)
		if n := len(world.taken()); n != 0 {
			t.Fatalf("%d messages were taken by topics that are away", n)
		}
		world.fail(nil, nil)
		time.Sleep(tellAgainLongest)
		synctest.Wait()
		if want := []string{"t ALARM"}; !slices.Equal(world.taken(), want) {
			t.Errorf("topics were told %v, want %v", world.taken(), want)
		}
		world.fail(fmt.Errorf("%w: Topic does not exist", ErrRefused), nil)
		world.set("m", 2)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, want := w.History("high")[0].Summary, `Failed to execute action t. Received error: "refused by the topic: Topic does not exist"`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestSetStateIsUndoneByTheNextEvaluation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 1)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Second))
		synctest.Wait()
		if err := w.SetState(t.Context(), "high", alarm.Alarm, "testing", `{"a":1}`); err != nil {
			t.Fatal(err)
		}
		wantState(t, w, "high", alarm.Alarm)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantState(t, w, "high", alarm.OK)
		if want := []string{"t OK", "t ALARM", "t OK"}; !slices.Equal(world.taken(), want) {
			t.Errorf("topics were told %v, want %v", world.taken(), want)
		}
		if err := w.SetState(t.Context(), "none", alarm.OK, "", ""); !errors.Is(err, ErrNone) {
			t.Errorf("%v", err)
		}
	})
}

func TestAnUpdateKeepsTheStateAndMutedAlarmsKeepQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("m", 20)
		w, stop := world.start()
		put(t, w, above("high", "m", time.Minute))
		synctest.Wait()
		if err := w.Disable(t.Context(), []string{"high", "none"}); err != nil {
			t.Fatal(err)
		}
		stop()
		w, stop = world.start() // another process
		defer stop()
		wantState(t, w, "high", alarm.Alarm)
		a := above("high", "m", time.Minute)
		a.Rule.Threshold, a.Muted = 30, true
		put(t, w, a)
		synctest.Wait()
		wantState(t, w, "high", alarm.OK) // earlier data count: it is evaluated at once
		if want := []string{"t ALARM"}; !slices.Equal(world.taken(), want) {
			t.Errorf("topics were told %v, want %v", world.taken(), want)
		}
		h := w.History("high")
		i := slices.IndexFunc(h, func(e Entry) bool { return strings.Contains(e.Data, `"originalUpdatedFields":{"threshold":10.0}`) })
		if i < 0 || h[i].Kind != Configuration {
			t.Errorf("%+v", h)
		}
		if err := w.Delete(t.Context(), []string{"high", "none"}); err != nil {
			t.Fatal(err)
		}
		if _, ok := w.Alarm("high"); ok || w.History("high")[0].Summary != `Alarm "high" deleted` {
			t.Errorf("%v, %v", ok, summaries(w.History("high")))
		}
	})
}

func TestWhatWaitsForATopicIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.fail(errors.New("away"), nil)
		w, stop := world.start()
		defer stop()
		put(t, w, above("high", "m", time.Second))
		for i := range mostUntold/2 + 20 {
			world.set("m", float64(20*(i%2)))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if a, _ := w.Alarm("high"); len(a.Untold) != mostUntold || a.Dropped == 0 {
			t.Errorf("%d wait, %d were given up", len(a.Untold), a.Dropped)
		}
		world.fail(nil, nil)
		time.Sleep(2 * tellAgainLongest)
		synctest.Wait()
		if a, _ := w.Alarm("high"); len(a.Untold) != 0 {
			t.Errorf("%d wait still", len(a.Untold))
		}
		if n := len(world.taken()); n < mostUntold/2-2 {
			t.Errorf("topics were told %d times", n)
		}
	})
}
