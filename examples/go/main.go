// Command go is a shop's work with go-redis: go run ./examples/go [HOST [PRIMARY_PORT [READER_PORT [SECONDS]]]]
//
// It keeps sessions, counts, queues orders and changes products on the primary, and reads products
// from the reader. Nothing in here knows what runs behind the two ports.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const products = 20

// shop is one application server.
type shop struct{ primary, reader *redis.Client }

// outcome is what the shop's visitors saw.
type outcome struct {
	Ops      int `json:"ops"`
	Errors   int `json:"errors"`
	Degraded int `json:"degraded"` // pages shown without Redis, for it gave no answer at all
}

func main() {
	args := append(os.Args[1:], []string{"127.0.0.1", "7379", "7380", "10"}[min(4, len(os.Args)-1):]...)
	seconds, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "SECONDS:", err)
		os.Exit(2)
	}
	s := shop{open(args[0], args[1]), open(args[0], args[2])}
	defer s.primary.Close()
	defer s.reader.Close()
	var o outcome
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for number := 0; time.Now().Before(until); number++ {
		ops, err := s.serve(context.Background(), number)
		o.Ops += ops
		o.count(number, err)
		<-pace.C
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // three numbers always can
	}
	fmt.Println(string(text))
}

// open makes a client without retries: an error is an error.
func open(host, port string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(host, port), MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: 10 * time.Second,
	})
}

func (o *outcome) count(number int, err error) {
	var answer redis.Error
	switch {
	case err == nil:
	case errors.As(err, &answer) || errors.Is(err, errWrong):
		o.Errors++
		fmt.Fprintf(os.Stderr, "request %d: %v\n", number, err)
	default:
		o.Degraded++
		fmt.Fprintf(os.Stderr, "degraded: %v\n", err)
	}
}

// errWrong: Redis answered with something that was not written.
var errWrong = errors.New("wrong answer")

// serve serves one request and returns how many commands it took.
func (s shop) serve(ctx context.Context, number int) (int, error) {
	visitor := fmt.Sprintf("shop:go:session:%d", number%50)
	session := fmt.Sprintf(`{"seen":%d,"cart":["item-%d"]}`, number, number)
	if err := s.primary.Set(ctx, visitor, session, 30*time.Minute).Err(); err != nil {
		return 0, err
	}
	if have, err := s.primary.Get(ctx, visitor).Result(); err != nil || have != session {
		return 1, orWrong(err, "the session read back is another one")
	}
	if err := s.primary.Incr(ctx, "shop:go:counter").Err(); err != nil {
		return 2, err
	}
	if err := s.primary.LPush(ctx, "shop:go:orders", number).Err(); err != nil {
		return 3, err
	}
	if _, err := s.primary.BRPop(ctx, time.Second, "shop:go:orders").Result(); err != nil {
		return 4, err
	}
	product := func(n int) string { return fmt.Sprintf("shop:go:product:%d", n%products) }
	if err := s.primary.Set(ctx, product(number), number, 0).Err(); err != nil {
		return 5, err
	}
	// A replica may be a moment behind: an older price is fine, and so is none for a new product.
	err := s.reader.Get(ctx, product(number+1)).Err()
	if errors.Is(err, redis.Nil) && number < 2*products {
		err = nil
	}
	return 7, err
}

// orWrong is err, or that the answer was not what was written.
func orWrong(err error, what string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errWrong, what)
}
