package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

// backlog is how many tasks wait at most, so that they are done soon after the last was queued.
const backlog = 50

func doneFile() string { return filepath.Join(os.Getenv("CLIENT_DIR"), "done") }

func done() []int {
	text, _ := os.ReadFile(doneFile()) // it is not there before the first
	return numbers(strings.Fields(string(text)))
}

// workAsynq is a worker process: it notes the number of each task outside of Redis, until it is told to end.
func workAsynq() {
	f, err := os.OpenFile(doneFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer f.Close()
	mux := asynq.NewServeMux()
	mux.HandleFunc("deliver", func(_ context.Context, t *asynq.Task) error {
		var n int
		if err := json.Unmarshal(t.Payload(), &n); err != nil {
			return err
		}
		_, err := fmt.Fprintln(f, n)
		return err
	})
	srv := asynq.NewServer(asynq.RedisClientOpt{Addr: addr("PRIMARY")}, asynq.Config{
		Concurrency: 2, Queues: map[string]int{queueName(): 1}, LogLevel: asynq.ErrorLevel,
		DelayedTaskCheckInterval: time.Second, ShutdownTimeout: 2 * time.Second,
	})
	if err := srv.Start(mux); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM)
	<-ends
	srv.Shutdown()
}

func queueName() string { return strings.ReplaceAll(key, ":", "-") }

// runAsynq queues tasks, also later ones; asynq promises to do each at least once.
func runAsynq(r *record) {
	worker := exec.Command(os.Args[0], "asynq-worker")
	log := &strings.Builder{}
	worker.Stderr = log
	r.check(worker.Start() == nil, "the worker does not start")
	c := asynq.NewClient(asynq.RedisClientOpt{Addr: addr("PRIMARY")})
	defer c.Close()
	var acked []int
	for n := 1; r.another(); {
		if n >= len(done())+backlog {
			continue
		}
		if enqueue(r, c, n) {
			acked = append(acked, n)
		}
		if n%10 == 0 && enqueue(r, c, -n, asynq.ProcessIn(time.Second)) {
			acked = append(acked, -n)
		}
		n++
	}
	eventually(25*time.Second, func() bool { lost, _ := compare(acked, done()); return lost == 0 })
	r.check(worker.Process.Signal(syscall.SIGTERM) == nil, "the worker has ended")
	_ = worker.Wait() // how it ended shows in its log
	for line := range strings.Lines(log.String()) {
		r.fail("the worker", false, strings.TrimSpace(line))
	}
	lost, twice := compare(acked, done())
	r.Lost, r.Note = lost, fmt.Sprintf("%d tasks, %d of them done twice", len(acked), twice)
	r.finish()
}

func enqueue(r *record, c *asynq.Client, n int, o ...asynq.Option) bool {
	payload, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return r.op("Enqueue", false, func() error {
		_, err := c.Enqueue(asynq.NewTask("deliver", payload), append(o, asynq.Queue(queueName()))...)
		return err
	})
}
