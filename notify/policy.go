package notify

import (
	"fmt"
	"math"
	"time"
)

// Policy says when a delivery that failed is tried again, in SNS's four phases: at once, at the least delay, at growing
// ones, at the longest. Delays are in seconds, as in SNS's DeliveryPolicy.
type Policy struct {
	MinDelayTarget     int    `json:"minDelayTarget"`
	MaxDelayTarget     int    `json:"maxDelayTarget"`
	NumRetries         int    `json:"numRetries"`
	NumMaxDelayRetries int    `json:"numMaxDelayRetries"`
	NumNoDelayRetries  int    `json:"numNoDelayRetries"`
	NumMinDelayRetries int    `json:"numMinDelayRetries"`
	BackoffFunction    string `json:"backoffFunction"`
}

// HTTPPolicy is SNS's default for HTTP endpoints: three more attempts, 20 s apart.
var HTTPPolicy = Policy{MinDelayTarget: 20, MaxDelayTarget: 20, NumRetries: 3, BackoffFunction: "linear"}

// slowPolicy is SNS's for what customers run (SMTP, phones): 50 attempts within six hours.
var slowPolicy = Policy{MinDelayTarget: 10, MaxDelayTarget: 600, NumRetries: 49, NumMinDelayRetries: 2, NumMaxDelayRetries: 37, BackoffFunction: "exponential"}

// DefaultPolicy is that of a protocol.
func DefaultPolicy(protocol string) Policy {
	switch protocol {
	case HTTP, HTTPS, Webhook:
		return HTTPPolicy
	}
	return slowPolicy
}

// longestRetrying is AWS's bound for all delays of a policy of HTTP together, and for each of them.
const longestRetrying = 3600

// Validate refuses what SNS does.
func (p Policy) Validate() error {
	switch {
	case p.NumRetries < 0 || p.NumRetries > 100:
		return fmt.Errorf("numRetries must be from 0 to 100")
	case p.NumNoDelayRetries < 0 || p.NumMinDelayRetries < 0 || p.NumMaxDelayRetries < 0:
		return fmt.Errorf("no count of retries is below 0")
	case p.NumNoDelayRetries+p.NumMinDelayRetries+p.NumMaxDelayRetries > p.NumRetries:
		return fmt.Errorf("numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries together must not be more than numRetries")
	case p.MinDelayTarget < 1 || p.MinDelayTarget > p.MaxDelayTarget:
		return fmt.Errorf("minDelayTarget must be from 1 to maxDelayTarget")
	case p.MaxDelayTarget > longestRetrying:
		return fmt.Errorf("maxDelayTarget must be at most %d", longestRetrying)
	}
	if _, ok := backoffs[p.BackoffFunction]; !ok {
		return fmt.Errorf("backoffFunction must be one of arithmetic, exponential, geometric, linear")
	}
	total := time.Duration(0)
	for n := 1; n <= p.NumRetries; n++ {
		d, _ := p.Delay(n)
		total += d
	}
	if total > longestRetrying*time.Second {
		return fmt.Errorf("all retries together must end within %d seconds, not %d", longestRetrying, int(total.Seconds()))
	}
	return nil
}

// backoffs say how much of the way from the least delay to the longest step i of n has gone, from 0 to 1.
var backoffs = map[string]func(i, n float64) float64{
	"linear":      func(i, n float64) float64 { return i / n },
	"arithmetic":  func(i, n float64) float64 { return i * (i + 1) / (n * (n + 1)) },
	"geometric":   func(i, n float64) float64 { return i * i / (n * n) },
	"exponential": func(i, n float64) float64 { return (math.Exp2(i) - 1) / (math.Exp2(n) - 1) },
}

// Delay is how long to wait before a retry, counted from 1; false: there is none.
func (p Policy) Delay(retry int) (time.Duration, bool) {
	if retry < 1 || retry > p.NumRetries {
		return 0, false
	}
	backing := p.NumRetries - p.NumNoDelayRetries - p.NumMinDelayRetries - p.NumMaxDelayRetries
	step := retry - p.NumNoDelayRetries - p.NumMinDelayRetries // of those that back off, from 1
	least, most := float64(p.MinDelayTarget), float64(p.MaxDelayTarget)
	seconds := least
	switch grow := backoffs[p.BackoffFunction]; {
	case retry <= p.NumNoDelayRetries:
		return 0, true
	case step <= 0:
	case step > backing:
		seconds = most
	case grow != nil && backing > 1:
		seconds = least + (most-least)*grow(float64(step-1), float64(backing-1))
	}
	return time.Duration(seconds * float64(time.Second)), true
}
