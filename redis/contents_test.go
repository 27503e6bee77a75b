package redis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAServerBeginsWithASeedAndWithoutLeftovers(t *testing.T) {
	s, c := run(t)
	_, err := c.Promote(t.Context())
	must(t, err)
	_, err = c.do(t.Context(), "EVAL", "for i = 1, 500 do redis.call('SET', 'k'..i, i) end redis.call('SET', 'e', 1, 'EX', 1000) redis.call('SELECT', 3) redis.call('SET', 'other', 1)", "0")
	must(t, err)
	d, err := c.Dump(t.Context())
	must(t, err)
	want := Contents{Keys: 502, Expires: 1}
	for name, count := range map[string]func() (Contents, error){
		"file": func() (Contents, error) { return ReadDump(t.Context(), s.opts.Binary, d.Path) }, "server": func() (Contents, error) { return c.Contents(t.Context()) },
	} {
		if got, err := count(); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	text, err := os.ReadFile(d.Path)
	must(t, err)
	newer := filepath.Join(t.TempDir(), "newer.rdb") // without a checksum, of a version to come
	must(t, os.WriteFile(newer, append(append([]byte("REDIS0099"), text[9:len(text)-8]...), make([]byte, 8)...), 0o600))
	if _, err := ReadDump(t.Context(), s.opts.Binary, newer); err == nil || !strings.Contains(err.Error(), "can read") {
		t.Errorf("of a version that this server cannot read: %v", err)
	}

	o := s.opts
	must(t, s.Kill())
	o.Dir = t.TempDir()
	for range 2 { // the first is cut off before its end, and the second is whole
		err = Seed(o.Dir, func(path string) error {
			if _, err := os.Stat(filepath.Join(o.Dir, "tried")); err != nil {
				must(t, os.WriteFile(path, text[:100], 0o600), os.WriteFile(filepath.Join(o.Dir, "tried"), nil, 0o600))
				return os.ErrClosed
			}
			return os.WriteFile(path, text, 0o600)
		})
	}
	must(t, err)
	if Seed(o.Dir, func(string) error { return nil }) == nil {
		t.Error("a second seed goes over a data set")
	}
	for _, left := range []string{"temp-123.rdb", "temp-rewriteaof-1.aof", "temp-rewriteaof-bg-2.aof"} {
		must(t, os.WriteFile(filepath.Join(o.Dir, left), []byte("half"), 0o600))
	}
	s, err = Start(o)
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "temp-*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	waitFor(t, "the server to have read its seed", func() bool {
		c, err := s.Login().Dial(t.Context())
		if err != nil {
			return false
		}
		defer c.Close()
		got, err := c.Contents(t.Context()) // it answers while it reads, too
		return err == nil && got == want
	})
}
