package watch

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"understudy/cluster/clustertest"
)

// Who deletes an alarm tells what is untold of it, and so does the one who tells all the time.
func TestAnEntryThatTwoTellIsKeptOnce(t *testing.T) {
	h := newHistory(&clustertest.Memory{})
	for i := range 200 {
		e := Entry{Key: fmt.Sprintf("%04d", i), Alarm: "a", At: time.Now()}
		var both sync.WaitGroup
		for range 4 {
			both.Go(func() {
				if err := h.add(t.Context(), e); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	if n := len(h.of("a")); n != 200 {
		t.Errorf("%d entries of 200", n)
	}
}
