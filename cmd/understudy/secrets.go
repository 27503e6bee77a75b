package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// secrets are the lines of a file, read anew when it has changed. A file that cannot be read, or makes no
// sense, is said in the log, and what was read before stays in force.
type secrets struct {
	path string
	read func(path string) ([]string, error)
	log  logger

	mu     sync.Mutex
	looked time.Time
	stamp  string
	lines  []string
}

// lookAtSecrets bounds how often the file is looked at: a storm of requests reads nothing.
const lookAtSecrets = time.Second

// openSecrets reads the file for the first time.
func openSecrets(path string, read func(path string) ([]string, error), log logger) (*secrets, error) {
	s := &secrets{path: path, read: read, log: log, stamp: stampsOf(path), looked: time.Now()}
	var err error
	s.lines, err = read(path)
	return s, err
}

// current are the lines that count now.
func (s *secrets) current() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < lookAtSecrets {
		return s.lines
	}
	s.looked = time.Now()
	now := stampsOf(s.path)
	if now == s.stamp {
		return s.lines
	}
	s.stamp = now
	lines, err := s.read(s.path)
	if err != nil {
		s.log.Error("a file with secrets is of no use: what was read before stays in force", "component", "secrets", "error", err)
		return s.lines
	}
	s.lines = lines
	s.log.Info("a file with secrets was read anew", "component", "secrets", "file", s.path)
	return s.lines
}

// first is the first line: of several the one that is to be used.
func (s *secrets) first() string { return s.current()[0] }

// readFirst reads the first line of a file with secrets; what says what it is in an error.
func readFirst(what, path string) (string, error) {
	all, err := readSecrets(what, path)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// readSecrets reads the lines of a file that not everybody may read.
func readSecrets(what, path string) (all []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what, err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s file %s: there is no %s in it", what, path, what)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s file %s: everybody on this machine may read it: chmod o-rwx", what, path)
	}
	return all, nil
}
