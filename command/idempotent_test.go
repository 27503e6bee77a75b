package command

import (
	"strings"
	"testing"
)

// decided has at least one example of every command that writes. A server's
// new command fails TestEveryWriteIsDecided until somebody decides.
var decided = []struct {
	want bool
	in   string // examples, apart by " ; "
}{
	{true, "SET str v ; SET str v EX 1 ; SET str v PX 10 ; SET str v KEEPTTL ; SET str v EXAT 33177117420 ; SET str v PXAT 33177117420000"},
	{true, "SET new v ; SET str v XX ; SET new v XX ; SET str v XX EX 60 ; SET str v XX PX 60000 ; SET str v XX KEEPTTL"},
	{false, "SET str v NX ; SET new v NX ; SET str v GET ; SET str v XX GET ; SET str v XX EX 59 ; SET str v XX PX 1000 ; SET str v XX EXAT 33177117420 ; SET str v NEWOPTION ; SET str"},
	{true, "SETEX str 10 v ; PSETEX new 10000 v ; MSET str 1 new 2 ; HMSET hash f 1 g 2 ; LSET list 0 x ; SETRANGE str 3 abc"},
	{true, "FLUSHALL ; FLUSHDB ; FLUSHDB ASYNC"},
	{false, "GETSET str v ; GETDEL str ; SETBIT str 9 1 ; BITFIELD str SET u8 0 7 ; BITFIELD str INCRBY u8 0 7"},
	{false, "SETNX new v ; MSETNX new 1 ; HSETNX hash new v"},
	{false, "APPEND str x ; INCR int ; INCRBY int 2 ; INCRBYFLOAT int 1 ; DECR int ; DECRBY int 2 ; HINCRBY hash n 1 ; HINCRBYFLOAT hash n 1 ; ZINCRBY zset 1 a"},
	{false, "LPUSH list x ; LPUSHX list x ; RPUSH list x ; RPUSHX list x ; LINSERT list BEFORE a x ; XADD stream * f v ; XADD stream 999999999999999-1 f v"},
	{false, "LPOP list ; RPOP list ; LMPOP 1 list LEFT ; SPOP set ; ZPOPMIN zset ; ZPOPMAX zset ; ZMPOP 1 zset MIN"},
	{false, "BLPOP list 1 ; BRPOP list 1 ; BLMPOP 1 1 list LEFT ; BZPOPMIN zset 1 ; BZPOPMAX zset 1 ; BZMPOP 1 1 zset MAX"},
	{false, "LMOVE list list LEFT RIGHT ; BLMOVE list new LEFT RIGHT 1 ; RPOPLPUSH list list ; BRPOPLPUSH list list 1"},
	{false, "DEL str ; UNLINK str ; PERSIST volatile ; HSET hash new v ; HDEL hash f ; SADD set new ; SREM set a ; SMOVE set set2 a"},
	{false, "ZADD zset 1 new ; ZREM zset a ; GEOADD geo 1 2 new ; PFADD hll new ; LREM list 0 a"},
	{false, "ZREMRANGEBYLEX zset - + ; ZREMRANGEBYRANK zset 0 0 ; ZREMRANGEBYSCORE zset 0 1 ; XDEL stream 1-1 ; XTRIM stream MAXLEN 0 ; XACK stream g 1-1"},
	{true, "LTRIM list 0 1 ; LTRIM list 0 -1 ; LTRIM list -2 -1"},
	{false, "LTRIM list 1 -1 ; LTRIM list 0 -2 ; LTRIM list 1 1 ; LTRIM list x -1"},
	{false, "RENAME str new ; RENAMENX str new ; MOVE str 1 ; MIGRATE 127.0.0.1 1 str 0 10 ; SWAPDB 0 1"},
	{true, "EXPIRE str 60 ; PEXPIRE str 60000 ; EXPIREAT str 33177117420 ; PEXPIREAT str 33177117420000"},
	{false, "EXPIRE str 0 ; EXPIRE str -1 ; EXPIRE str 59 ; PEXPIRE str 59999 ; EXPIREAT str 1 ; PEXPIREAT str 0 ; EXPIRE str 100 NX ; EXPIRE volatile 9000 GT ; PEXPIRE str 60000 XX ; EXPIREAT str 33177117420 LT"},
	{true, "GETEX str ; GETEX volatile PERSIST ; GETEX str EX 60 ; GETEX str PX 60000"},
	{false, "GETEX str EX 1 ; GETEX str EXAT 1 ; GETEX str PX 1"},
	{true, "SDIFFSTORE new set set2 ; SINTERSTORE new set set2 ; SUNIONSTORE str set set2 ; BITOP AND new str int ; BITOP NOT new str"},
	{false, "SDIFFSTORE set set2 set ; SINTERSTORE set set set2 ; SUNIONSTORE set set ; BITOP NOT str str ; BITOP XOR str int str"},
	{true, "ZDIFFSTORE new 2 zset zset2 ; ZINTERSTORE new 2 zset zset2 WEIGHTS 2 3 ; ZUNIONSTORE new 1 zset ; ZUNIONSTORE new 1 zset AGGREGATE MAX"},
	{false, "ZDIFFSTORE zset 2 zset2 zset ; ZINTERSTORE zset 1 zset WEIGHTS 2 ; ZUNIONSTORE zset 2 zset zset2 ; ZUNIONSTORE new 9 zset"},
	{true, "ZRANGESTORE new zset 0 1 ; GEOSEARCHSTORE new geo FROMMEMBER p BYRADIUS 500 km"},
	{false, "ZRANGESTORE zset zset 1 -1 ; GEOSEARCHSTORE geo geo FROMMEMBER p BYRADIUS 500 km STOREDIST"},
	{true, "GEORADIUS geo 1 1 500 km ; GEORADIUS geo 1 1 500 km STORE new ; GEORADIUSBYMEMBER geo p 500 km ; GEORADIUSBYMEMBER geo p 500 km STOREDIST new"},
	{false, "GEORADIUS geo 1 1 500 km STOREDIST geo ; GEORADIUSBYMEMBER geo p 500 km STORE geo"},
	{true, "SORT set ALPHA ; SORT set ALPHA STORE new ; SORT set BY w_* ALPHA ; SORT set BY nosort STORE new"},
	{false, "SORT set ALPHA STORE set ; SORT set BY w_* STORE new ALPHA ; SORT set GET d_* STORE new ALPHA ; SORT set NEWOPTION"},
	{true, "COPY str new REPLACE ; COPY str set REPLACE"},
	{false, "COPY str new ; COPY str str REPLACE"},
	{true, "RESTORE new 0 DUMPED REPLACE ; RESTORE str 60000 DUMPED REPLACE"},
	{false, "RESTORE new 0 DUMPED ; RESTORE-ASKING new 0 DUMPED"},
	{true, "PFMERGE hll hll2 ; PFMERGE new hll hll2"},
	{false, "EVAL return 0 ; EVALSHA x 0 ; FCALL f 0 ; PFDEBUG GETREG hll"},
	{false, "XREADGROUP GROUP g c STREAMS stream > ; XREADGROUP GROUP g c STREAMS stream 0 ; XCLAIM stream g c 0 1-1 ; XAUTOCLAIM stream g c 0 0"},
	{false, "XGROUP CREATE stream new $ ; XGROUP DESTROY stream g ; XGROUP CREATECONSUMER stream g new ; XGROUP DELCONSUMER stream g c"},
	{true, "XGROUP SETID stream g 0 ; XSETID stream 999999999999999-1"},
	{true, "FUNCTION FLUSH ; FUNCTION LOAD REPLACE LIBRARY ; FUNCTION RESTORE FUNCTIONS FLUSH ; FUNCTION RESTORE FUNCTIONS REPLACE"},
	{false, "FUNCTION LOAD LIBRARY2 ; FUNCTION RESTORE FUNCTIONS ; FUNCTION RESTORE FUNCTIONS APPEND ; FUNCTION DELETE lib"},
	{false, "HEXPIRE hash 100 FIELDS 1 f ; HPEXPIRE hash 100 FIELDS 1 f ; HEXPIREAT hash 100 FIELDS 1 f ; HPEXPIREAT hash 100 FIELDS 1 f"},
	{false, "HPERSIST hash FIELDS 1 f ; HGETDEL hash FIELDS 1 f ; HGETEX hash FIELDS 1 f ; HSETEX hash FIELDS 1 f v"},

	// Not writes by their flags.
	{true, "GET str ; XREAD STREAMS stream 0 ; TOUCH str ; EVAL_RO return 0 ; PFCOUNT hll hll2 ; PING ; ECHO x ; TYPE str"},
	{true, "CONFIG SET maxmemory 0 ; SCRIPT LOAD return ; SCRIPT EXISTS x ; SCRIPT FLUSH ; CONFIG GET maxmemory ; CONFIG RESETSTAT ; SLOWLOG RESET"},
	{false, "PUBLISH c m ; SPUBLISH c m ; BGSAVE ; BGREWRITEAOF ; WAIT 0 1 ; WAITAOF 0 0 1 ; CLIENT KILL x ; CLIENT UNBLOCK 1 ; LATENCY RESET ; ACL SETUSER x"},
	{false, "MULTI ; EXEC ; DISCARD ; WATCH str ; UNWATCH ; SUBSCRIBE c ; UNSUBSCRIBE ; HELLO 3 ; AUTH x ; SELECT 1 ; QUIT ; RESET ; SCRIPT KILL"},
}

func TestIdempotentIsWhatWasDecided(t *testing.T) {
	for _, group := range decided {
		for _, text := range strings.Split(group.in, " ; ") {
			args := line(text)
			if got := Lookup(args).Idempotent(args); got != group.want {
				t.Errorf("%s: idempotent is %v, want %v", text, got, group.want)
			}
		}
	}
}

func TestEveryWriteIsDecided(t *testing.T) {
	examples := map[string]bool{}
	for _, group := range decided {
		for _, text := range strings.Split(group.in, " ; ") {
			examples[Lookup(line(text)).Name] = true
		}
	}
	for _, list := range [][]Info{table, later} {
		for _, i := range list {
			if i.Flags.Has(Write) && (decisions[i.Name] == nil || !examples[i.Name]) {
				t.Errorf("%s writes: decide in idempotent.go whether it is idempotent, and give an example here", i.Name)
			}
		}
	}
	for name := range decisions {
		if i := Lookup(line(strings.ReplaceAll(name, "|", " "))); i == nil || i.Name != name {
			t.Errorf("a decision for %s, which is no command", name)
		}
	}
}

// fixture makes one key of every type. Time stands in no reply that the test
// compares.
const fixture = `FLUSHALL ; FUNCTION FLUSH ; SET str abcdef ; SET int 5 ; SET volatile v EX 5000
	; RPUSH list a b a c ; HSET hash f 1 n 2 ; SADD set a b c ; SADD set2 b ; SADD w_a 1 ; ZADD zset 1 a 2 b 3 c ; ZADD zset2 5 b
	; GEOADD geo 1 1 p 2 2 q ; PFADD hll a b ; PFADD hll2 c ; XADD stream 1-1 f v ; XADD stream 1-2 f v ; XGROUP CREATE stream g 0
	; XREADGROUP GROUP g c COUNT 1 STREAMS stream >`

// Whatever is declared idempotent is so on a real server: the second execution
// gives the reply of the first and leaves the data as they are.
func TestIdempotentCommandsAreSoOnARealServer(t *testing.T) {
	server := startServer(t)
	library := func(name string) string {
		return "#!lua name=" + name + "\nredis.register_function('" + name + "', function() return 1 end)"
	}
	if _, err := server.Ask("FUNCTION", "LOAD", library("restored")); err != nil {
		t.Fatal(err)
	}
	functions, err := server.Ask("FUNCTION", "DUMP")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Ask("SET", "str", "x"); err != nil {
		t.Fatal(err)
	}
	dumped, err := server.Ask("DUMP", "str")
	if err != nil {
		t.Fatal(err)
	}
	payloads := map[string]string{"DUMPED": dumped.(string), "FUNCTIONS": functions.(string), "LIBRARY": library("loaded")}
	for _, group := range decided {
		for _, text := range strings.Split(group.in, " ; ") {
			args := line(text)
			if i := Lookup(args); !group.want || i.Name == "config|resetstat" {
				continue
			}
			for k, arg := range args {
				if payload, ok := payloads[string(arg)]; ok {
					args[k] = []byte(payload)
				}
			}
			for _, setup := range strings.Split(fixture, ";") {
				if reply := ask(t, server, setup); strings.HasPrefix(reply, "-") {
					t.Fatalf("%s: %s", setup, reply)
				}
			}
			first := askWords(t, server, args)
			digest := ask(t, server, "DEBUG DIGEST") + ask(t, server, "FUNCTION DUMP")
			second := askWords(t, server, args)
			if again := ask(t, server, "DEBUG DIGEST") + ask(t, server, "FUNCTION DUMP"); again != digest || second != first {
				t.Errorf("%s: first %q, second %q; data equal: %v", text, first, second, again == digest)
			}
			if strings.HasPrefix(first, "-") {
				t.Errorf("%s proves nothing: %s", text, first)
			}
		}
	}
}
