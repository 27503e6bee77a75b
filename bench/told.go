package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"golang.org/x/sys/unix"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/cluster/clustertest"
	"understudy/metric"
	"understudy/series"
)

// told is how soon a subscriber hears of a crash.
type told struct {
	AlarmMs   spread `json:"alarm_ms"`   // from the kill to the alarm's StateChangeTime
	DeliverMs spread `json:"deliver_ms"` // from there to the subscriber
}

// watching is what many alarms cost.
type watching struct {
	Alarms    int     `json:"alarms"`
	CPU       spread  `json:"cpu_s"`      // seconds of CPU in a minute that evaluated them all
	Evaluated int64   `json:"evaluated"`  // series that were read in the last of these minutes
	IdleCPU   float64 `json:"idle_cpu_s"` // of a minute without them
}

// The goals.
const (
	goalAlarmMs   = 3000
	goalDeliverMs = 1000
	goalAlarmCPU  = 1.0
	manyAlarms    = 10_000
	costMinutes   = 3
)

// message is what a subscriber is told of an alarm.
type message struct {
	at                             time.Time
	NewStateValue, StateChangeTime string
}

// measureTold kills a primary again and again, under an alarm of one period of a second.
func (b *bench) measureTold(ctx context.Context) (err error) {
	t := &told{}
	b.report.Told = t
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	messages, err := g.subscribe(ctx)
	if err != nil {
		return err
	}
	defer messages.close()
	var alarms, deliveries []float64
	for i := range b.rounds {
		b.say("crash %d of %d, and who is told when", i+1, b.rounds)
		// Each crash comes at another moment of the second.
		if err := pause(ctx, 5*time.Second+time.Duration(i)*time.Second/time.Duration(b.rounds)); err != nil {
			return err
		}
		if err := g.ready(ctx); err != nil {
			return err
		}
		p, err := g.primary(ctx)
		if err != nil {
			return err
		}
		killed := time.Now()
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
			return err
		}
		m, err := messages.next(ctx, killed)
		if err != nil {
			return err
		}
		changed, err := time.Parse("2006-01-02T15:04:05.000-0700", m.StateChangeTime)
		if err != nil {
			return err
		}
		alarms = append(alarms, milliseconds(changed.Sub(killed)))
		deliveries = append(deliveries, milliseconds(m.at.Sub(changed)))
		t.AlarmMs, t.DeliverMs = spreadOf(alarms), spreadOf(deliveries)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// subscription is an HTTP endpoint that is told of an alarm.
type subscription struct {
	server *httptest.Server
	got    chan message
}

func (s *subscription) close() { s.server.Close() }

// next waits for the message of an ALARM that began after a time.
func (s *subscription) next(ctx context.Context, after time.Time) (message, error) {
	bound := time.NewTimer(readyWithin)
	defer bound.Stop()
	for {
		select {
		case m := <-s.got:
			if m.NewStateValue == string(alarm.Alarm) && m.at.After(after) {
				return m, nil
			}
		case <-ctx.Done():
			return message{}, ctx.Err()
		case <-bound.C:
			return message{}, fmt.Errorf("nobody was told of a crash within %v", readyWithin)
		}
	}
}

// subscribe makes an alarm on failovers, of one period of a second, and a subscriber.
func (g *group) subscribe(ctx context.Context) (*subscription, error) {
	s := &subscription{got: make(chan message, 100)}
	s.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m := message{at: time.Now()}
		var outer struct{ Message string }
		if json.NewDecoder(r.Body).Decode(&outer) == nil && json.Unmarshal([]byte(outer.Message), &m) == nil {
			s.got <- m
		}
	}))
	front := aws.String("http://" + g.endpoints.HTTP)
	anybody := credentials.NewStaticCredentialsProvider("any", "any", "")
	topics := sns.New(sns.Options{BaseEndpoint: front, Region: "us-east-1", Credentials: anybody})
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("bench")})
	if err == nil {
		_, err = topics.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("webhook"), Endpoint: &s.server.URL})
	}
	if err == nil {
		_, err = cloudwatch.New(cloudwatch.Options{BaseEndpoint: front, Region: "us-east-1", Credentials: anybody}).PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{
			AlarmName: aws.String("bench"), Namespace: aws.String(metric.Understudy), MetricName: aws.String("Failovers"), Statistic: types.StatisticSum,
			Dimensions: []types.Dimension{{Name: aws.String(metric.Group), Value: aws.String("main")}}, Period: aws.Int32(1), EvaluationPeriods: aws.Int32(1),
			Threshold: aws.Float64(0), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold, TreatMissingData: aws.String("notBreaching"), AlarmActions: []string{*topic.TopicArn},
		})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("an alarm with a subscriber: %w", err)
	}
	return s, nil
}

// asked is a reader that counts what it is asked.
type asked struct {
	metric.Reader
	n atomic.Int64
}

func (c *asked) Points(ctx context.Context, q metric.Query) ([]metric.Point, error) {
	c.n.Add(1)
	return c.Reader.Points(ctx, q)
}

// measureWatching keeps many alarms over as many metrics, of a minute each, and counts the CPU of minutes in which all are
// evaluated once. Their data are written before: what is measured is reading and deciding.
func (b *bench) measureWatching(ctx context.Context) (err error) {
	t := &watching{Alarms: manyAlarms}
	b.report.Watching = t
	s, err := series.Open(series.Options{Dir: filepath.Join(b.dir, "series")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b.say("%d metrics of a minute, ten minutes back and some ahead", manyAlarms)
	if err := record(ctx, s); err != nil {
		return err
	}
	from := &asked{Reader: s}
	w, err := watch.New(ctx, watch.Options{
		Store: &clustertest.Memory{}, Reader: from, Publish: func(context.Context, watch.Post) error { return nil }, Region: "us-east-1", Account: "000000000000",
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if t.IdleCPU, err = minuteOfCPU(ctx); err != nil {
		return err
	}
	b.say("%d alarms are made", manyAlarms)
	for i := range manyAlarms {
		r := alarm.Rule{Metric: many(i), Stat: "Average", Period: time.Minute, Periods: 5, Datapoints: 3, Threshold: 90, Comparison: alarm.Greater}
		err := watch.ErrStopped // until Run has begun
		for errors.Is(err, watch.ErrStopped) && ctx.Err() == nil {
			err = w.Put(ctx, watch.Alarm{Name: fmt.Sprintf("alarm-%05d", i), Rule: &r, Actions: watch.Actions{Alarm: []string{"arn:t"}}})
		}
		if err != nil {
			return err
		}
	}
	var minutes []float64
	for i := range costMinutes {
		b.say("minute %d of %d", i+1, costMinutes)
		before := from.n.Load()
		seconds, err := minuteOfCPU(ctx)
		if err != nil {
			return err
		}
		if t.Evaluated = from.n.Load() - before; t.Evaluated < manyAlarms*9/10 {
			return fmt.Errorf("only %d of %d alarms were evaluated in a minute", t.Evaluated, manyAlarms)
		}
		minutes = append(minutes, seconds)
		t.CPU = spreadOf(minutes)
	}
	return nil
}

func many(i int) metric.ID {
	return metric.New("Bench", fmt.Sprintf("m%d", i%20), "host", fmt.Sprintf("h%05d", i))
}

// record writes a point of each metric for every minute from ten minutes ago to some minutes ahead.
func record(ctx context.Context, s *series.Series) error {
	now := time.Now().Truncate(time.Minute)
	for minute := -10; minute <= costMinutes+5; minute++ {
		for from := 0; from < manyAlarms; from += 1000 {
			var data []metric.Datum
			for i := range 1000 {
				data = append(data, metric.Datum{ID: many(from + i), At: now.Add(time.Duration(minute) * time.Minute), Unit: "Percent", Values: []float64{float64((i*7 + minute*13 + 200) % 80)}})
			}
			if err := s.Write(ctx, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// minuteOfCPU waits a minute and returns the CPU that this process used in it, in seconds.
func minuteOfCPU(ctx context.Context) (float64, error) {
	used := func() (float64, error) {
		var u unix.Rusage
		err := unix.Getrusage(unix.RUSAGE_SELF, &u)
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, err
	}
	before, err := used()
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, time.Minute); err != nil {
		return 0, err
	}
	after, err := used()
	return after - before, err
}

func (r *report) printTold(w io.Writer) {
	if r.Told == nil {
		return
	}
	fmt.Fprintf(w, "\nA crash is told (alarm of one period of a second; n=%d)\n", r.Told.AlarmMs.N)
	fmt.Fprintf(w, "  kill to ALARM         %s ms (goal %d)\n", r.Told.AlarmMs.format(0), goalAlarmMs)
	fmt.Fprintf(w, "  ALARM to subscriber   %s ms (goal %d)\n", r.Told.DeliverMs.format(0), goalDeliverMs)
}

func (r *report) printWatching(w io.Writer) {
	if t := r.Watching; t != nil {
		fmt.Fprintf(w, "\n%d alarms, each evaluated once a minute (%d reads): %s s of CPU a minute (goal %.0f); without them %.2f s\n",
			t.Alarms, t.Evaluated, t.CPU.format(2), goalAlarmCPU, t.IdleCPU)
	}
}
