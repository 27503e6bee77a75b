package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fleet"
)

// lockData makes this process the only one on the data directory, which it creates, until the
// returned func is called. The kernel drops the lock with the process, however that ends.
func lockData(dir string) (func() error, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data %s: %w", dir, reason(err))
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data %s: cannot be written to: %w", dir, reason(err))
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		return nil, fmt.Errorf("--data %s: in use by another understudy, process %s; stop that one, or choose another directory", dir, bytes.TrimSpace(pid))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err == nil {
		err = removeStale(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--data %s: cannot be written to: %w", dir, reason(err)), f.Close())
	}
	return f.Close, nil
}

// removeStale removes what a process that was killed left: it must not be taken for this one.
func removeStale(dir string) error {
	for _, path := range []string{instanceFile(dir), runningFile(dir)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// reason is what the system said, without the path that our own text names already.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// shape is what a data directory was made for.
type shape struct {
	Group string `json:"group"`
	Nodes int    `json:"nodes"`
}

// keepShape remembers the shape in a new directory, and refuses another one in an old one: it would
// come up empty, or without the node that has the newest data.
func keepShape(dir string, want shape) error {
	path := filepath.Join(dir, "group.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text, err = json.Marshal(want)
		if err == nil {
			err = os.WriteFile(path, append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("--data %s: %w", dir, reason(err))
		}
		return nil
	}
	var have shape
	if err == nil {
		err = json.Unmarshal(text, &have)
	}
	if err != nil {
		return fmt.Errorf("--data %s: group.json cannot be read: %w", dir, reason(err))
	}
	if have != want {
		return fmt.Errorf("--data %s: holds group %s of %d nodes, not %s of %d: say --group %s --nodes %d, or choose another directory",
			dir, have.Group, have.Nodes, want.Group, want.Nodes, have.Group, have.Nodes)
	}
	return nil
}

// maxSocket is how many bytes a unix socket's address can have.
const maxSocket = 107

// socketDir returns an empty private directory for the unix sockets of the instance on data. Data
// directories may lie deep, and a unix address is short: so it is one of a fixed name below the
// user's runtime directory or the temporary one.
func socketDir(data string) (string, error) {
	sum := sha256.Sum256([]byte(data))
	name := fmt.Sprintf("understudy-%d-%x", os.Getuid(), sum[:6])
	var errs error
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if base == "" || !filepath.IsAbs(base) {
			continue
		}
		dir := filepath.Join(base, name)
		if len(dir)+fleet.LongestSocket > maxSocket {
			errs = errors.Join(errs, fmt.Errorf("%s is too long for a unix socket", dir))
			continue
		}
		err := privateDir(dir)
		if err == nil {
			return dir, nil
		}
		errs = errors.Join(errs, err)
	}
	return "", fmt.Errorf("no directory for unix sockets: %s; set TMPDIR to a short one that can be written to", strings.ReplaceAll(fmt.Sprint(errs), "\n", "; "))
}

// privateDir makes an empty directory that only this user can enter. What a killed process left
// there is removed; what somebody else put there cannot be, and is not used.
func privateDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700) // fails when somebody was faster: then it is theirs
}
