package series

import (
	"testing"
	"time"

	"understudy/metric"
)

func TestWhoReadsDoesNotWaitForWhoWrites(t *testing.T) {
	s := fresh(t)
	at := minute(5 * time.Minute)
	write(t, s, second(at, 4))
	s.mu.Lock()
	defer s.mu.Unlock()
	read := make(chan string, 1)
	go func() { read <- ask(t, s, "Sum", time.Minute, at) }()
	select {
	case got := <-read:
		expect(t, "beside a writer", got, "0s=4 ")
	case <-time.After(30 * time.Second):
		t.Fatal("Points waits for the writer")
	}
}

// Values that were seen once are read another way than what has counts or is a set: both of one second count.
func TestPlainValuesAndOthersCountTogether(t *testing.T) {
	s := fresh(t)
	at := minute(5 * time.Minute)
	write(t, s, second(at, 5), second(at.Add(time.Second), 1))
	write(t, s, metric.Datum{ID: id, At: at, Unit: "Milliseconds", Values: []float64{10, 7}, Counts: []float64{2, 1}, High: true})
	write(t, s, metric.Datum{ID: id, At: at.Add(3 * time.Second), Unit: "Milliseconds", Set: &metric.Set{Count: 2, Sum: 6, Min: 3, Max: 3}, High: true})
	for stat, want := range map[string]string{"Sum": "0s=39 ", "SampleCount": "0s=7 ", "Average": "0s=5.571 ", "Minimum": "0s=1 ", "Maximum": "0s=10 ", "p0": "0s=1 ", "p50": "0s=5 ", "p100": "0s=10 "} {
		expect(t, stat, ask(t, s, stat, time.Minute, at), want)
	}
	expect(t, "seconds", ask(t, s, "p0", time.Second, at), "0s=5 1s=1 3s=3 ")
}
