package remotewrite

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"

	"understudy/metric"
)

// receiver takes requests as the protocol says, and answers what answer says.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int) int // to the n-th request, from 1
	n      int
	took   []string // name{labels} value@ms of those that were answered 2xx
	wrong  []string
}

func newReceiver(t *testing.T, answer func(n int) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(remote.SnappyDecodeMiddleware(slog.New(slog.DiscardHandler))(http.HandlerFunc(r.serve)))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if v := q.Header.Get("X-Prometheus-Remote-Write-Version"); v != "0.1.0" || q.URL.Path != "/api/v1/write" {
		r.wrong = append(r.wrong, fmt.Sprint(v, q.Header, q.URL))
	}
	code := r.answer(r.n)
	body, err := io.ReadAll(q.Body)
	var m prompb.WriteRequest
	if err == nil {
		err = m.Unmarshal(body)
	}
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	if code/100 == 2 {
		for _, s := range m.Timeseries {
			r.took = append(r.took, text(s))
		}
	}
	w.WriteHeader(code)
}

func text(s prompb.TimeSeries) string {
	name, labels := "", []string{}
	for _, l := range s.Labels {
		if l.Name == "__name__" {
			name = l.Value
			continue
		}
		labels = append(labels, l.Name+"="+l.Value)
	}
	return fmt.Sprintf("%s{%s} %v@%d", name, strings.Join(labels, ","), s.Samples[0].Value, s.Samples[0].Timestamp)
}

func start(t *testing.T, url string) (s *Sender, stop func()) {
	t.Helper()
	s, err := New(Options{URL: url + "/api/v1/write"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 20s: %s", what)
		}
	}
}

func datum(name string, at time.Time, values ...float64) metric.Datum {
	return metric.Datum{ID: metric.New(metric.Understudy, name, "ReplicationGroupId", "main"), At: at, Values: values}
}

var noon = time.Now().Truncate(time.Second)

func write(t *testing.T, s *Sender, data ...metric.Datum) {
	t.Helper()
	if err := s.Write(t.Context(), data); err != nil {
		t.Error(err)
	}
}

// What is sent are the statistics of each metric and moment, once, in the order of time.
func TestAReceiverGetsTheStatisticsOfEachMomentOnce(t *testing.T) {
	r := newReceiver(t, func(int) int { return http.StatusNoContent })
	s, stop := start(t, r.URL)
	node := metric.New(metric.ElastiCache, "EngineCPUUtilization", "CacheClusterId", "main-001")
	twin := metric.New(metric.ElastiCache, "EngineCPUUtilization", "CacheClusterId", "main-001", "CacheNodeId", "0001")
	write(t, s, datum("LinksDown", noon, 1, 5), datum("LinksDown", noon, 6), metric.Datum{ID: twin, At: noon, Values: []float64{7}},
		metric.Datum{ID: node, At: noon, Values: []float64{2, 3}, Counts: []float64{3, 1}})
	write(t, s, datum("LinksDown", noon, 9))
	// A request under way when the Sender is to end is made again: whether it was taken is not known.
	until(t, "it is sent", func() bool { return testutil.ToFloat64(s.metrics.sent) == 10 })
	stop()
	want := []string{
		"aws_elasticache_engine_cpuutilization_average{cache_cluster_id=main-001,job=aws_elasticache} 2.25",
		"aws_elasticache_engine_cpuutilization_maximum{cache_cluster_id=main-001,job=aws_elasticache} 3",
		"aws_elasticache_engine_cpuutilization_minimum{cache_cluster_id=main-001,job=aws_elasticache} 2",
		"aws_elasticache_engine_cpuutilization_sample_count{cache_cluster_id=main-001,job=aws_elasticache} 4",
		"aws_elasticache_engine_cpuutilization_sum{cache_cluster_id=main-001,job=aws_elasticache} 9",
		"understudy_links_down_average{job=understudy,replication_group_id=main} 4",
		"understudy_links_down_maximum{job=understudy,replication_group_id=main} 6",
		"understudy_links_down_minimum{job=understudy,replication_group_id=main} 1",
		"understudy_links_down_sample_count{job=understudy,replication_group_id=main} 3",
		"understudy_links_down_sum{job=understudy,replication_group_id=main} 12",
	}
	slices.Sort(r.took)
	for i := range want {
		want[i] += fmt.Sprintf("@%d", noon.UnixMilli())
	}
	if !slices.Equal(r.took, want) || len(r.wrong) > 0 {
		t.Errorf("took\n%s\nwant\n%s\nwrong: %v", strings.Join(r.took, "\n"), strings.Join(want, "\n"), r.wrong)
	}
	if sent, late := testutil.ToFloat64(s.metrics.sent), testutil.ToFloat64(s.metrics.late); sent != 10 || late != 5 {
		t.Errorf("%v sent and %v late, want 10 and 5", sent, late)
	}
}

// A receiver that is away gets what waited when it is back; one that refuses is not asked again.
func TestAReceiverThatIsAwayIsAskedAgainAndOneThatRefusesIsNot(t *testing.T) {
	r := newReceiver(t, func(n int) int {
		return map[int]int{1: http.StatusServiceUnavailable, 2: http.StatusTooManyRequests, 4: http.StatusBadRequest}[n] + map[bool]int{true: http.StatusOK}[n == 3 || n > 4]
	})
	s, _ := start(t, r.URL)
	write(t, s, datum("A", noon, 1))
	until(t, "it is sent", func() bool { return testutil.ToFloat64(s.metrics.sent) == 5 })
	write(t, s, datum("B", noon, 1))
	until(t, "it is refused", func() bool { return testutil.ToFloat64(s.metrics.refused) == 5 })
	write(t, s, datum("C", noon, 1))
	until(t, "the next is sent", func() bool { return testutil.ToFloat64(s.metrics.sent) == 10 })
	if n := testutil.ToFloat64(s.metrics.retries); n != 2 || r.n != 5 {
		t.Errorf("%v retries, %d requests", n, r.n)
	}
}

// Who writes never waits, however long the receiver is away; the oldest samples go.
func TestTheQueueIsBoundedAndNobodyWaitsForIt(t *testing.T) {
	s, stop := start(t, "http://127.0.0.1:1")
	stop() // the queue only
	const each = 50
	s.most = 10 * each * len(statistics)
	var data []metric.Datum
	for i := range each {
		data = append(data, datum(fmt.Sprintf("M%d", i), noon, 1))
	}
	for i := range 12 {
		for j := range data {
			data[j].At = noon.Add(time.Duration(i) * time.Second)
		}
		write(t, s, data...)
	}
	if n, dropped := s.queued(), testutil.ToFloat64(s.metrics.dropped); n != float64(s.most) || dropped != 2*each*float64(len(statistics)) {
		t.Errorf("%v wait, %v were dropped", n, dropped)
	}
	if first := s.queue[0].Samples[0].Timestamp; first != noon.Add(2*time.Second).UnixMilli() {
		t.Errorf("the oldest is of %v", time.UnixMilli(first))
	}
}

func TestURLsThatAreNoReceiversAreRefused(t *testing.T) {
	for _, u := range []string{"", "a:1", "ftp://a/b", "http://a", "http://u:secret@a", "http://u:secret@a:%/x"} {
		if _, err := New(Options{URL: u}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", u, err)
		}
	}
}

func TestNamesAreThoseOfTheCloudwatchExporter(t *testing.T) {
	for name, want := range map[string]string{"ReplicationLag": "replication_lag", "CPUUtilization": "cpuutilization", "DB0AverageTTL": "db0_average_ttl",
		"GetTypeCmds": "get_type_cmds", "CacheClusterId": "cache_cluster_id"} {
		if got := snake(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
