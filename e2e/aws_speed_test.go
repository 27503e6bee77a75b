package e2e

import (
	"errors"
	"flag"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/redis/go-redis/v9"
)

var awsSpeed = flag.Bool("aws-speed", false, "measure the AWS front (make bench-aws)")

// What an operator may expect of the AWS front on two cores.
const (
	describesASecond = 500
	describeWithin   = 20 * time.Millisecond // 99 of 100
	createWithin     = 3 * time.Second
	recoveredWithin  = 5 * time.Second
)

func TestSpeedOfTheAWSFront(t *testing.T) {
	if !*awsSpeed {
		t.Skip("make bench-aws runs it: it needs a machine that does nothing else")
	}
	g := StartGroup(t, "--nodes", "1")
	o := operator{awsClient(g), t, "shop"}
	begin := time.Now()
	r := o.create("")
	within(t, "create of 3 nodes", time.Since(begin), createWithin)
	c := redis.NewClient(&redis.Options{Addr: addrOf(r.NodeGroups[0].PrimaryEndpoint), MaxRetries: -1, ReadTimeout: patience})
	defer c.Close()
	stop := count(t, c)
	took := o.describes("http://"+g.HTTP, describesASecond*10)
	t.Logf("%d describes at %d a second under load: p50 %v, p99 %v, most %v", len(took), describesASecond, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	within(t, "p99 of DescribeReplicationGroups", took[len(took)*99/100], describeWithin)
	var recovered []time.Duration
	for range 5 {
		begin = time.Now()
		if _, err := o.TestFailover(t.Context(), &elasticache.TestFailoverInput{ReplicationGroupId: &o.id, NodeGroupId: aws.String("0001")}); err != nil {
			t.Fatal(err)
		}
		o.available() // with the fifth event
		recovered = append(recovered, time.Since(begin))
	}
	stop()
	slices.Sort(recovered)
	t.Logf("test-failover to Finished recovery: %v", recovered)
	within(t, "test-failover", recovered[len(recovered)-1], recoveredWithin)
}

func within(t *testing.T, what string, took, goal time.Duration) {
	t.Helper()
	t.Logf("%s: %v (goal %v)", what, took.Round(time.Microsecond), goal)
	if took > goal {
		t.Errorf("%s took %v, the goal is %v", what, took, goal)
	}
}

// describes asks so often, on schedule whatever the answers take, and returns how long after its time each was
// answered, sorted.
//
// The SDK's own client takes more of the processor than what it measures, so it is a plain one.
func (o operator) describes(url string, n int) []time.Duration {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	body := "Action=DescribeReplicationGroups&Version=2015-02-02&ReplicationGroupId=" + o.id
	took := make([]time.Duration, n)
	next := make(chan int)
	begin := time.Now()
	due := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Second / describesASecond) }
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range next {
				if err := ask(client, url, body); err != nil {
					o.t.Error(err)
				}
				took[i] = time.Since(due(i))
			}
		})
	}
	for i := range n {
		time.Sleep(time.Until(due(i)))
		next <- i
	}
	close(next)
	wg.Wait()
	slices.Sort(took)
	return took
}

// ask posts a Query request and reads the whole answer.
func ask(c *http.Client, url, body string) error {
	r, err := c.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}
