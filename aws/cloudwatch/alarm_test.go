package cloudwatch

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm/watch"
	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/cluster/clustertest"
	"understudy/series"
)

const topic = "arn:aws:sns:us-east-1:123456789012:redis-alerts"

// ringing is the service with alarms over real series, and what topics were told.
type ringing struct {
	*cloudwatch.Client
	url string

	mu    sync.Mutex
	posts []watch.Post
	told  chan struct{} // has an element when posts has grown
}

func newRinging(t *testing.T) *ringing { return ringingOver(t, &clustertest.Memory{}) }

func ringingOver(t *testing.T, store cluster.Store) *ringing {
	t.Helper()
	kept, err := series.Open(series.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	r := &ringing{told: make(chan struct{}, 1)}
	alarms, err := watch.New(t.Context(), watch.Options{Store: store, Reader: kept, Publish: r.publish, Region: "us-east-1", Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- alarms.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s, err := New(Options{Reader: kept, Writer: kept, Alarms: alarms})
	if err != nil {
		t.Fatal(err)
	}
	server, err := wire.NewServer(wire.ServerOptions{Services: []*wire.Service{s.Wire()}, Region: "us-east-1", Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	r.url = h.URL
	r.Client = cloudwatch.New(cloudwatch.Options{BaseEndpoint: &h.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}})
	return r
}

func (r *ringing) publish(_ context.Context, p watch.Post) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts = append(r.posts, p)
	select {
	case r.told <- struct{}{}:
	default:
	}
	return nil
}

// subject waits for the n-th message.
func (r *ringing) subject(t *testing.T, n int) string {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		r.mu.Lock()
		if len(r.posts) >= n {
			defer r.mu.Unlock()
			return r.posts[n-1].Subject
		}
		r.mu.Unlock()
		select {
		case <-r.told:
		case <-deadline:
			t.Fatalf("there is no message %d", n)
		}
	}
}

// lag is the alarm of a widely read guide.
func lag(name string) *cloudwatch.PutMetricAlarmInput {
	return &cloudwatch.PutMetricAlarmInput{
		AlarmName: &name, AlarmDescription: aws.String("Alert when replication lag exceeds 10 seconds"), MetricName: aws.String("ReplicationLag"), Namespace: aws.String("AWS/ElastiCache"),
		Statistic: types.StatisticAverage, Period: aws.Int32(300), Threshold: aws.Float64(10), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold,
		EvaluationPeriods: aws.Int32(2), DatapointsToAlarm: aws.Int32(2), TreatMissingData: aws.String("notBreaching"), AlarmActions: []string{topic},
		Dimensions: []types.Dimension{{Name: aws.String("ReplicationGroupId"), Value: aws.String("redis-ha")}},
	}
}

// mustPut puts alarms, and the state out of the evaluation's reach: a period of a day has no data here.
func (r *ringing) mustPut(t *testing.T, in *cloudwatch.PutMetricAlarmInput) {
	t.Helper()
	if _, err := r.PutMetricAlarm(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// one is the only alarm of a name, as it is described.
func (r *ringing) one(t *testing.T, name string) types.MetricAlarm {
	t.Helper()
	out, err := r.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name}, AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm}})
	if err != nil || len(out.MetricAlarms) != 1 || len(out.CompositeAlarms) != 0 {
		t.Fatalf("%s: %+v %v", name, out, err)
	}
	return out.MetricAlarms[0]
}

// form asks in Query, and returns the XML.
func (r *ringing) form(t *testing.T, status int, parameters ...string) string {
	t.Helper()
	v := url.Values{"Version": {"2010-08-01"}}
	for i := 0; i < len(parameters); i += 2 {
		v.Set(parameters[i], parameters[i+1])
	}
	w, err := http.PostForm(r.url, v)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil || w.StatusCode != status {
		t.Fatalf("%v: %d %s %v", parameters, w.StatusCode, body, err)
	}
	return string(body)
}

// json asks in JSON 1.0.
func (r *ringing) json(t *testing.T, status int, operation, body string, out any) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-amz-json-1.0")
	q.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801."+operation)
	w, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil || w.StatusCode != status {
		t.Fatalf("%s %s: %d %s %v", operation, body, w.StatusCode, text, err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// same compares what was put with what is read back.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		t.Errorf("%s:\n%s, want\n%s", what, a, b)
	}
}
