package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"understudy/atomicfile"
)

// Contents are what an RDB file holds.
type Contents struct {
	Keys    int64 // in all databases
	Expires int64 // those of them that have a time to live
}

// checkNice is the niceness of a check: it must not take the processor from servers.
const checkNice = 10

var (
	keysRead = regexp.MustCompile(`(?m)^\[info\] (\d+) keys read`)
	expires  = regexp.MustCompile(`(?m)^\[info\] (\d+) expires`)
)

// ReadDump verifies an RDB file by the checksum at its end, and by having the installed server read every value
// of it: redis-server is redis-check-rdb, too, when it is called so. A file of a version that this server cannot
// read is an error as a damaged one is.
func ReadDump(ctx context.Context, binary Binary, path string) (Contents, error) {
	if err := checkSum(path); err != nil {
		return Contents{}, err
	}
	cmd := exec.CommandContext(ctx, binary.Path, path)
	cmd.Args[0] = "redis-check-rdb"
	if binary.Flavor == "valkey" {
		cmd.Args[0] = "valkey-check-rdb"
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startChild(cmd); err != nil {
		return Contents{}, fmt.Errorf("check %s: %w", path, err)
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, checkNice) // at worst it is in the way
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return Contents{}, fmt.Errorf("check %s: %w", path, ctx.Err())
		}
		return Contents{}, fmt.Errorf("%s is no RDB file that %s %s can read: %w: %s", path, filepath.Base(binary.Path), binary.Version, err, complaint(out.String()))
	}
	var c Contents
	var err error
	if c.Keys, err = number(keysRead, out.String()); err == nil {
		c.Expires, err = number(expires, out.String())
	}
	if err != nil {
		return Contents{}, fmt.Errorf("check %s: %s does not say how many keys it has read: %s", path, cmd.Args[0], complaint(out.String()))
	}
	return c, nil
}

func number(in *regexp.Regexp, text string) (int64, error) {
	m := in.FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("no number")
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// complaint is the line in which a check says what is wrong, else its last.
func complaint(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, l := range lines {
		if strings.Contains(l, "--- RDB ERROR") || strings.Contains(l, "Unexpected EOF") || strings.Contains(l, "RDB CRC error") || strings.Contains(l, "RDB format version") {
			return l
		}
	}
	return lines[len(lines)-1]
}

// Contents counts what the server has now: of keys in all databases, and of those with a time to live.
func (c *Control) Contents(ctx context.Context) (Contents, error) {
	text, err := c.keyspace(ctx)
	if err != nil {
		return Contents{}, err
	}
	var total Contents
	for k, v := range InfoFields(text) {
		if !strings.HasPrefix(k, "db") {
			continue
		}
		var keys, ttl int64
		if _, err := fmt.Sscanf(v, "keys=%d,expires=%d", &keys, &ttl); err != nil {
			return Contents{}, fmt.Errorf("INFO keyspace: %s:%s", k, v)
		}
		total.Keys, total.Expires = total.Keys+keys, total.Expires+ttl
	}
	return total, nil
}

// SeedFiles are the files that a server reads at its start when it has never run, below its directory: an
// append-only file whose base is the RDB file, and the manifest that names it.
func SeedFiles(dir string) (base, manifest string) {
	at := filepath.Join(dir, "appendonlydir")
	return filepath.Join(at, "appendonly.aof.1.base.rdb"), filepath.Join(at, "appendonly.aof.manifest")
}

// seedManifest names the base.
const seedManifest = "file appendonly.aof.1.base.rdb seq 1 type b\n"

// Seed has a server that has never run in dir begin with a data set: put writes the RDB file, synced, at the path
// that it is given. The manifest comes last: without it the server begins empty, and nobody takes half a seed for
// a whole one.
func Seed(dir string, put func(path string) error) error {
	base, manifest := SeedFiles(dir)
	if _, err := os.Stat(manifest); err == nil {
		return fmt.Errorf("seed %s: there is a data set", dir)
	}
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return fmt.Errorf("seed %s: %w", dir, err)
	}
	if err := os.Remove(base); err != nil && !errors.Is(err, os.ErrNotExist) { // of a seed that was not finished
		return fmt.Errorf("seed %s: %w", dir, err)
	}
	if err := put(base); err != nil {
		return err
	}
	temp := manifest + ".new"
	err := os.WriteFile(temp, []byte(seedManifest), 0o600)
	for _, sync := range []string{temp, filepath.Dir(base)} {
		if err == nil {
			err = atomicfile.Sync(sync)
		}
	}
	if err == nil {
		err = os.Rename(temp, manifest)
	}
	if err == nil {
		err = atomicfile.Sync(filepath.Dir(base))
	}
	if err != nil {
		return fmt.Errorf("seed %s: %w", dir, err)
	}
	return nil
}
