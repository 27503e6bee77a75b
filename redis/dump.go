package redis

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// Dump is an RDB file that a server has written.
type Dump struct {
	Path string // on the server's machine
	Keys int64  // in all databases
}

// dumpEvery is how often a server is asked whether its dump is ready.
const dumpEvery = 10 * time.Millisecond

// Dump has the server write its data set to its RDB file. A child of it does that: the server itself stands
// still for the fork only, some 10 ms for each GB.
func (c *Control) Dump(ctx context.Context) (Dump, error) {
	set, err := redis.StringMap(c.do(ctx, "CONFIG", "GET", "d*")) // dir and dbfilename
	if err != nil {
		return Dump{}, err
	}
	d := Dump{Path: filepath.Join(set["dir"], set["dbfilename"])}
	if d.Keys, err = c.keys(ctx); err != nil {
		return Dump{}, err
	}
	tick := time.NewTicker(dumpEvery)
	defer tick.Stop()
	for started := false; ; {
		if !started {
			// "Background saving scheduled" while another child runs: asked again until it has begun, so that
			// what is waited for is ours.
			reply, err := redis.String(c.do(ctx, "BGSAVE", "SCHEDULE"))
			if started = err == nil && strings.Contains(reply, "started"); err != nil && c.conn.Err() != nil {
				return Dump{}, err
			}
		} else if done, err := c.dumped(ctx); done || err != nil {
			return d, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Dump{}, fmt.Errorf("BGSAVE has not ended: %w", ctx.Err())
		}
	}
}

func (c *Control) dumped(ctx context.Context) (bool, error) {
	text, err := redis.String(c.do(ctx, "INFO", "persistence"))
	if err != nil {
		return false, err
	}
	f := InfoFields(text)
	switch {
	case f["rdb_bgsave_in_progress"] == "1":
		return false, nil
	case f["rdb_last_bgsave_status"] != "ok":
		return true, errors.New("BGSAVE failed: redis.log says why")
	}
	return true, nil
}

// keys counts the keys of all databases.
func (c *Control) keys(ctx context.Context) (int64, error) {
	all, err := c.Contents(ctx)
	return all.Keys, err
}

func (c *Control) keyspace(ctx context.Context) (string, error) {
	return redis.String(c.do(ctx, "INFO", "keyspace"))
}

// DataSize is how much memory the data set takes, in bytes: an RDB file of it is rarely larger.
func (c *Control) DataSize(ctx context.Context) (int64, error) {
	text, err := redis.String(c.do(ctx, "INFO", "memory"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(InfoFields(text)["used_memory_dataset"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO memory: used_memory_dataset: %w", err)
	}
	return n, nil
}

// InfoFields reads the lines of an answer to INFO.
func InfoFields(text string) map[string]string {
	f := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[k] = v
		}
	}
	return f
}

// CheckDump verifies an RDB file: with redis-check-rdb where that is installed, which reads every value, else
// by the checksum at its end.
func CheckDump(ctx context.Context, binary Binary, path string) error {
	for _, name := range []string{filepath.Join(filepath.Dir(binary.Path), "redis-check-rdb"), "redis-check-rdb", "valkey-check-rdb"} {
		tool, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, tool, path).CombinedOutput()
		if err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("%s %s: %w: %s", filepath.Base(tool), path, err, lines[len(lines)-1])
		}
		return nil
	}
	return checkSum(path)
}

// jones is the polynomial of Redis's CRC-64 (0xad93d23594c935a9), bit-reversed.
var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

// checkSum compares the last eight bytes of an RDB file with the CRC-64 of the others. Zeros are a file
// without a checksum (rdbchecksum no): all that can be said is that it has its beginning and end.
func checkSum(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	const magic, trailer = 9, 8
	if st.Size() < magic+1+trailer {
		return fmt.Errorf("%s: %d bytes are no RDB file", path, st.Size())
	}
	sum, body := ^uint64(0), bufio.NewReaderSize(f, 1<<20) // Go's table starts at, and gives, the complement
	head, err := body.Peek(magic)
	if err != nil || string(head[:5]) != "REDIS" {
		return fmt.Errorf("%s: it begins with %q, not as an RDB file does (%v)", path, head, err)
	}
	buf := make([]byte, 1<<16)
	for left := st.Size() - trailer; left > 0; {
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sum, left = crc64.Update(sum, jones, buf[:n]), left-int64(n)
	}
	if _, err := io.ReadFull(body, buf[:trailer]); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if want := binary.LittleEndian.Uint64(buf); want != 0 && want != ^sum {
		return fmt.Errorf("%s is damaged: its checksum is %016x, its bytes give %016x", path, want, ^sum)
	}
	return nil
}
