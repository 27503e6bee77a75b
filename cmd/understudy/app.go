package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// app runs the parts of a process and stops them in the reverse order of their start.
type app struct {
	log    *slog.Logger
	steps  []step
	failed chan error // the first part that ended without being asked to
	parts  int
}

// step undoes one thing.
type step struct {
	name string
	undo func(context.Context) error
}

func newApp(log *slog.Logger) *app {
	return &app{log: log.With("component", "up"), failed: make(chan error, 1)}
}

// onStop has undo called when the app stops, after everything that is registered later.
func (a *app) onStop(name string, undo func(context.Context) error) {
	a.steps = append(a.steps, step{name, undo})
}

// part is a piece of the process: its run blocks until ctx ends.
type part struct {
	name string
	run  func(context.Context) error
}

// run starts parts that are stopped together. One that ends before ends the app.
func (a *app) run(name string, parts ...part) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs error
	for _, p := range parts {
		a.parts++
		wg.Go(func() {
			err := p.run(ctx)
			if ctx.Err() == nil {
				a.fail(fmt.Errorf("%s ended: %w", p.name, orEnded(err)))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			errs = errors.Join(errs, err)
		})
	}
	a.onStop(name, func(bound context.Context) error {
		cancel()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
			return errs
		case <-bound.Done():
			return errors.New("has not stopped in time; its processes are killed")
		}
	})
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("without an error and without being asked to")
	}
	return err
}

// fail ends the app; the first failure is the one that is told.
func (a *app) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// started reports whether any part has run.
func (a *app) started() bool { return a.parts > 0 }

// announce tells other commands that the instance on a data directory is ready, until the app stops.
func (a *app) announce(data string, i instance) error { return a.announceIn(instanceFile(data), i) }

// announceRunning tells them where it answers, ready or not.
func (a *app) announceRunning(data string, i instance) error {
	return a.announceIn(runningFile(data), i)
}

func (a *app) announceIn(path string, i instance) error {
	i.PID, i.Version = os.Getpid(), version
	if err := i.write(path); err != nil {
		return err
	}
	// What stops first is this: nobody should be sent to endpoints that are about to close.
	a.onStop("instance file", func(context.Context) error { return os.Remove(path) })
	return nil
}

// stop undoes every step, last in first out, also after one has failed.
func (a *app) stop(ctx context.Context) error {
	var errs error
	for i := len(a.steps) - 1; i >= 0; i-- {
		if err := a.steps[i].undo(ctx); err != nil {
			errs = errors.Join(errs, fmt.Errorf("stop %s: %w", a.steps[i].name, err))
		}
	}
	a.steps = nil
	return errs
}
