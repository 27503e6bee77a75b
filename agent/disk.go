package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"understudy/cluster"
)

// disk is what a node keeps between its runs: the highest epoch that it has seen, its port, and
// redis-server's data set.
type disk struct {
	dir  string
	seen cluster.Epoch
}

func openDisk(dir string) (disk, error) {
	d := disk{dir: dir}
	if err := os.MkdirAll(d.redisDir(), 0o700); err != nil {
		return d, fmt.Errorf("data directory: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "epoch"))
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("data directory: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return d, fmt.Errorf("%s is damaged: it must hold the highest epoch seen: %w", filepath.Join(dir, "epoch"), err)
	}
	d.seen = cluster.Epoch(n)
	return d, nil
}

func (d disk) redisDir() string { return filepath.Join(d.dir, "redis") }

// hasData reports whether redis-server left a data set here.
func (d disk) hasData() bool {
	files, err := os.ReadDir(filepath.Join(d.redisDir(), "appendonlydir"))
	return err == nil && len(files) > 0
}

// writeSeen keeps the epoch, on disk when it returns.
func (d disk) writeSeen(e cluster.Epoch) error {
	return writeSync(filepath.Join(d.dir, "epoch"), strconv.FormatUint(uint64(e), 10)+"\n")
}

// writeSync replaces a small file so that after a crash it holds the old or the new text.
func writeSync(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// port chooses where redis-server listens: the wanted port, else the one of the last run if it is
// still free, else any free one.
func (d disk) port(host string, wanted int) (int, error) {
	if wanted != 0 && free(host, wanted) {
		return wanted, nil
	}
	path := filepath.Join(d.dir, "port")
	if text, err := os.ReadFile(path); err == nil {
		if p, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && free(host, p) {
			return p, nil
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", host, err)
	}
	p := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, err
	}
	return p, writeSync(path, strconv.Itoa(p)+"\n")
}

func free(host string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
