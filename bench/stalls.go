package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// stalls watches what the machine does by itself: how late a sleeper is woken, and how long a small
// write takes to reach the disk. A gap at the clients that lies in such a stall says nothing about a
// group; one that does not, does.
type stalls struct {
	stop    chan struct{}
	running sync.WaitGroup
	file    *os.File

	mu   sync.Mutex
	seen []stall
}

type stall struct {
	what     string
	from, to time.Time
}

const (
	lateSleep   = 20 * time.Millisecond
	slowDisk    = 50 * time.Millisecond
	sleepFor    = 2 * time.Millisecond
	diskEvery   = 100 * time.Millisecond
	keptStalls  = 10_000 // the newest; far more than a leg has
	diskPayload = "a line, as an append-only file gets it\n"
)

func watchStalls(dir string) (*stalls, error) {
	f, err := os.Create(filepath.Join(dir, "stalls"))
	if err != nil {
		return nil, fmt.Errorf("watch the disk: %w", err)
	}
	s := &stalls{stop: make(chan struct{}), file: f}
	s.running.Go(func() { s.every(sleepFor, func(due time.Time) { s.note("processor", due, lateSleep) }) })
	s.running.Go(func() {
		s.every(diskEvery, func(time.Time) {
			began := time.Now()
			if _, err := f.WriteString(diskPayload); err == nil {
				_ = f.Sync() // a disk that fails is found out by the group
			}
			s.note("disk", began, slowDisk)
		})
	})
	return s, nil
}

// every calls f with the time at which it was due.
func (s *stalls) every(d time.Duration, f func(due time.Time)) {
	for {
		due := time.Now().Add(d)
		select {
		case <-s.stop:
			return
		case <-time.After(d):
			f(due)
		}
	}
}

// note keeps what lasted from then until now, if that was long.
func (s *stalls) note(what string, from time.Time, long time.Duration) {
	now := time.Now()
	if now.Sub(from) < long {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen[max(0, len(s.seen)-keptStalls):], stall{what, from, now})
}

func (s *stalls) end() error {
	close(s.stop)
	s.running.Wait()
	return s.file.Close()
}

// within tells the stalls that overlap a time.
func (s *stalls) within(from, to time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var words []string
	for _, one := range s.seen {
		if one.from.Before(to) && one.to.After(from) {
			words = append(words, fmt.Sprintf("%s %.0f ms at %.0f", one.what, ms(one.to.Sub(one.from)), ms(one.from.Sub(from))))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
