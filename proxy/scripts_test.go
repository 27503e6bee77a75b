package proxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

func shaOf(body string) string {
	sum := sha1.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

func TestScriptsOutliveThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	loaded, run, inside := "return redis.call('INCR', KEYS[1])", "return redis.call('GET', KEYS[1])", "return ARGV[1]"
	must(t, c.ScriptLoad(ctx, loaded).Err())
	must(t, c.Set(ctx, "s", "x", 0).Err())
	must(t, c.Eval(ctx, run, []string{"s"}).Err())
	must(t, c.ScriptLoad(ctx, inside).Err())
	g.failOver(a, b)
	if v, err := c.ScriptExists(ctx, shaOf(loaded), shaOf("return 'never seen'"), shaOf(run)).Result(); err != nil || !v[0] || v[1] || !v[2] {
		t.Errorf("SCRIPT EXISTS = %v, %v; want what EVALSHA will find", v, err)
	}
	if v, err := b.client.ScriptExists(ctx, shaOf(loaded), shaOf(run), shaOf(inside)).Result(); err != nil || v[0] || v[1] || v[2] {
		t.Fatalf("the new primary has scripts by itself (%v, %v): nothing is tested", v, err)
	}
	for want := range 3 {
		if v, err := c.EvalSha(ctx, strings.ToUpper(shaOf(loaded)), []string{"n"}).Int(); err != nil || v != want+1 {
			t.Errorf("EVALSHA = %v, %v; want %d", v, err, want+1)
		}
	}
	if v, err := c.EvalShaRO(ctx, shaOf(run), []string{"n"}).Result(); v != "3" {
		t.Errorf("EVALSHA_RO = %v, %v", v, err)
	}
	cmds, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.EvalSha(ctx, shaOf(inside), nil, "x")
		p.Incr(ctx, "n")
		return nil
	})
	if err != nil || cmds[0].(*goredis.Cmd).Val() != "x" || cmds[1].(*goredis.IntCmd).Val() != 4 {
		t.Errorf("EVALSHA in a transaction: %v, %v", cmds, err)
	}
	if err := c.EvalSha(ctx, shaOf("return 'never seen'"), nil).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
		t.Errorf("EVALSHA of a script that nobody sent: %v, want NOSCRIPT", err)
	}
	if n := g.metric("understudy_proxy_reloaded_scripts_total"); n != 3 {
		t.Errorf("%v scripts were spelled out, want each once", n)
	}
}

// A transaction's script must be there too when the primary changes before EXEC.
func TestQueuedScriptOutlivesThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
	defer c.Close()
	body := "return redis.call('INCRBY', KEYS[1], ARGV[1])"
	must(t, c.ScriptLoad(ctx, body).Err())
	must(t, c.Do(ctx, "MULTI").Err())
	must(t, c.EvalSha(ctx, shaOf(body), []string{"n"}, 5).Err())
	g.failOver(a, b)
	if v, err := c.Do(ctx, "EXEC").Slice(); err != nil || len(v) != 1 || v[0] != int64(5) {
		t.Errorf("EXEC = %v, %v", v, err)
	}
}

func TestFlushedScriptsAreForgottenOnlyByRequest(t *testing.T) {
	g, a, _ := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 3)
	body := "return redis.call('INCR', KEYS[1])"
	for want := range 2 {
		must(t, c.ScriptLoad(ctx, body).Err())
		must(t, c.EvalSha(ctx, shaOf(body), []string{"n"}).Err())
		must(t, a.client.ScriptFlush(ctx).Err()) // somebody else, behind the proxy's back
		if v, err := c.EvalSha(ctx, shaOf(body), []string{"n"}).Int(); err != nil || v != 2*want+2 {
			t.Errorf("EVALSHA = %v, %v; want %d", v, err, 2*want+2)
		}
		must(t, c.ScriptFlush(ctx).Err())
		if err := c.EvalSha(ctx, shaOf(body), []string{"n"}).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			t.Errorf("EVALSHA after SCRIPT FLUSH: %v, want NOSCRIPT", err)
		}
	}
}

func TestFunctionsReplicateByThemselves(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.FunctionLoad(ctx, "#!lua name=lib\nredis.register_function('add', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)").Err())
	if v, err := c.FCall(ctx, "add", []string{"n"}, 2).Int(); v != 2 {
		t.Errorf("FCALL = %v, %v", v, err)
	}
	g.failOver(a, b)
	if v, err := c.FCall(ctx, "add", []string{"n"}, 3).Int(); v != 5 {
		t.Errorf("FCALL after the failover = %v, %v", v, err)
	}
}

func TestScriptBookIsBounded(t *testing.T) {
	var s scriptBook
	s.init(maphash.MakeSeed())
	text := func(i int) string { return fmt.Sprintf("return %d", i) }
	for i := range 3 * keptScripts {
		s.keep([]byte(text(0)))
		s.keep([]byte(text(i)))
	}
	if n := s.order.Len(); n != keptScripts || len(s.bySHA) != n || len(s.byHash) != n {
		t.Errorf("%d scripts, %d by SHA-1, %d by hash; want %d", n, len(s.bySHA), len(s.byHash), keptScripts)
	}
	if s.find([]byte(shaOf(text(0)))) == nil || s.find([]byte(shaOf(text(1)))) != nil {
		t.Error("the one that is in use was forgotten, or the one that is not was kept")
	}
	s.keep(make([]byte, keptScriptBytes/16+1))
	for i := range 40 {
		s.keep([]byte(strings.Repeat(fmt.Sprint(i%10, i/10), 300_000)))
	}
	total := 0
	for e := s.order.Front(); e != nil; e = e.Next() {
		total += len(e.Value.(*script).body)
	}
	if s.bytes != total || total > keptScriptBytes {
		t.Errorf("%d bytes are kept, %d are counted, %d are allowed", total, s.bytes, keptScriptBytes)
	}
	s.flush()
	if s.order.Len()+len(s.bySHA)+len(s.byHash)+s.bytes != 0 {
		t.Error("something is left after a flush")
	}
}
