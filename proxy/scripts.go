package proxy

import (
	"bytes"
	"container/list"
	"crypto/sha1"
	"encoding/hex"
	"hash/maphash"

	"understudy/resp"
)

// A server keeps the scripts that it was sent, by their SHA-1, and replicas are not told of them: after a
// failover EVALSHA finds nothing. The proxy keeps the bodies too. A connection's first EVALSHA of a body
// that is kept is sent as the EVAL of it, which loads it and stays in its place among the client's
// commands; so is each one between MULTI and EXEC, because that may be sent anew. What the proxy has not
// seen is never guessed: the client gets the server's NOSCRIPT.

const (
	// keptScripts and keptScriptBytes bound what is kept; the least lately used goes first. Applications have
	// tens of scripts; who builds a script for each call has no use for them.
	keptScripts     = 1000
	keptScriptBytes = 16 << 20
)

// scriptBook keeps the bodies of scripts.
type scriptBook struct {
	seed   maphash.Seed
	bySHA  map[string]*list.Element // of *script
	byHash map[uint64]*list.Element
	order  list.List // the most lately used first
	bytes  int
}

type script struct {
	sha  string // 40 hex digits in lower case
	hash uint64
	body []byte
}

func (s *scriptBook) init(seed maphash.Seed) {
	s.seed = seed
	s.bySHA, s.byHash = map[string]*list.Element{}, map[uint64]*list.Element{}
}

// keep remembers a body. It is called for each EVAL: the SHA-1 is worked out once.
func (s *scriptBook) keep(body []byte) {
	if len(body) > keptScriptBytes/16 {
		return
	}
	hash := maphash.Bytes(s.seed, body)
	if e := s.byHash[hash]; e != nil {
		if bytes.Equal(e.Value.(*script).body, body) {
			s.order.MoveToFront(e)
			return
		}
		s.drop(e)
	}
	sum := sha1.Sum(body)
	x := &script{hex.EncodeToString(sum[:]), hash, bytes.Clone(body)}
	e := s.order.PushFront(x)
	s.bySHA[x.sha], s.byHash[hash] = e, e
	s.bytes += len(body)
	for s.order.Len() > keptScripts || s.bytes > keptScriptBytes {
		s.drop(s.order.Back())
	}
}

func (s *scriptBook) drop(e *list.Element) {
	x := s.order.Remove(e).(*script)
	delete(s.bySHA, x.sha)
	delete(s.byHash, x.hash)
	s.bytes -= len(x.body)
}

// find gives the script of a SHA-1 in any case; nil when it is not kept.
func (s *scriptBook) find(sha []byte) *script {
	var lower [2 * sha1.Size]byte
	if len(sha) != len(lower) {
		return nil
	}
	for i, c := range sha {
		if c >= 'A' && c <= 'F' {
			c |= 0x20
		}
		lower[i] = c
	}
	e := s.bySHA[string(lower[:])]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*script)
}

// findBody gives a script by its body; nil when it is not kept.
func (s *scriptBook) findBody(body string) *script {
	e := s.byHash[maphash.String(s.seed, body)]
	if e == nil {
		return nil
	}
	return e.Value.(*script)
}

// flush forgets all: a client has asked the server to.
func (s *scriptBook) flush() {
	clear(s.bySHA)
	clear(s.byHash)
	s.order.Init()
	s.bytes = 0
}

// meetScript looks at a command that names a script; it is called for every command that runs one, and
// for SCRIPT.
func (l *loop) meetScript(r *request, args [][]byte) {
	switch r.info.Name {
	case "eval", "eval_ro":
		if len(args) > 1 {
			l.scripts.keep(args[1])
		}
	case "script|load":
		if len(args) == 3 {
			l.scripts.keep(args[2])
		}
	case "script|exists":
		r.edit = l.existing(args[min(2, len(args)):])
	case "script|flush":
		l.scripts.flush()
	case "evalsha", "evalsha_ro":
		if len(args) > 1 {
			r.body = l.scripts.find(args[1])
		}
	}
}

// existing makes the answer to SCRIPT EXISTS say that a script is there which EVALSHA would find.
func (l *loop) existing(shas [][]byte) edit {
	var there []bool
	for _, sha := range shas {
		there = append(there, l.scripts.find(sha) != nil)
	}
	return func(_ *loop, _ *client, reply []byte) []byte {
		all := elements(reply)
		for i := range min(len(all), len(there)) {
			if there[i] {
				all[i] = []byte(":1\r\n")
			}
		}
		return append(resp.AppendArray(nil, len(all)), bytes.Join(all, nil)...)
	}
}

// spellOut makes an EVALSHA the EVAL of its body.
func (l *loop) spellOut(r *request) {
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	if err != nil || len(args) < 2 {
		return
	}
	next := append([][]byte(nil), args...)
	next[0], next[1] = []byte("EVAL"), r.body.body
	if r.info.Name == "evalsha_ro" {
		next[0] = []byte("EVAL_RO")
	}
	r.frame = resp.AppendCommandBytes(nil, next...)
	r.body = nil
	l.count.reloaded++
}

// introduceScript spells an EVALSHA out when it is the first of its body on the connection.
func (l *loop) introduceScript(b *backend, r *request) {
	if r.body == nil {
		return
	}
	if _, ok := b.scripts[r.body.sha]; ok && !r.noScript {
		return
	}
	if b.scripts == nil || len(b.scripts) >= keptScripts {
		b.scripts = map[string]struct{}{}
	}
	b.scripts[r.body.sha] = struct{}{}
	l.spellOut(r)
}

// unloaded reports whether the server does not have a script that is kept here, which happens when somebody
// else has flushed them: nothing was executed, and the request can be sent anew, spelled out.
func (l *loop) unloaded(r *request, reply []byte) bool {
	if r.body == nil || r.noScript || string(resp.ErrorCode(reply)) != "NOSCRIPT" {
		return false
	}
	r.noScript = true
	return true
}
