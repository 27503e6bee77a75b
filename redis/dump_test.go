package redis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDumpIsWholeAndItsChecksumIsRedisOwn(t *testing.T) {
	s, c := run(t)
	_, err := c.Promote(t.Context())
	must(t, err)
	_, err = c.do(t.Context(), "EVAL", "for i = 1, 1000 do redis.call('SET', 'k'..i, string.rep('x', i)) end redis.call('SELECT', 3) redis.call('SET', 'other', 1)", "0")
	must(t, err, c.Demote(t.Context(), "127.0.0.1:1"))
	d, err := c.Dump(t.Context())
	must(t, err)
	if d.Keys != 1001 || d.Path != filepath.Join(s.opts.Dir, "dump.rdb") {
		t.Errorf("%+v", d)
	}
	must(t, CheckDump(t.Context(), s.opts.Binary, d.Path), checkSum(d.Path))

	text, err := os.ReadFile(d.Path)
	must(t, err)
	text[len(text)/2] ^= 1
	damaged := filepath.Join(t.TempDir(), "damaged.rdb")
	must(t, os.WriteFile(damaged, text, 0o600))
	if err := checkSum(damaged); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("one bit is wrong: %v", err)
	}
	if err := CheckDump(t.Context(), s.opts.Binary, damaged); err == nil {
		t.Error("one bit is wrong, and nobody notices")
	}
	must(t, os.WriteFile(damaged, text[:len(text)/2], 0o600))
	if checkSum(damaged) == nil {
		t.Error("half a file passes")
	}
	must(t, os.WriteFile(damaged, []byte("not an RDB file at all"), 0o600))
	if checkSum(damaged) == nil {
		t.Error("another file passes")
	}
}
