package proxy

import (
	"bytes"
	"strconv"
)

// frames finds where the values of a RESP stream end, without keeping them: a body is passed over as it
// comes. Only the first line of each value is kept, and of a command its first words.
type frames struct {
	line  []byte   // as far as it has come; no more than keptLine bytes
	first []byte   // of the value under way
	words [][]byte // the first bulk strings of the value under way
	skip  int      // bytes of a body and its end that are still to come
	keep  bool     // what comes of that body is a word
	todo  []int    // elements that are still to come, of each aggregate that is open
	deep  bool     // inside a value
	attrs bool     // the value under way is an attribute, which belongs to the next one

	whole func(first []byte, words [][]byte) // called at the end of each value
}

const (
	keptLine   = 128 // bytes of a line: an error's code, an inline command's words
	keptWords  = 2   // a command and its subcommand
	keptWord   = 32
	deepest    = 64 // aggregates within one another: more is no reply of redis-server
	mostOfBulk = 1 << 40
)

// feed takes what has arrived; false: it is no RESP, and the stream cannot be followed any further.
func (f *frames) feed(p []byte) bool {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			if last := len(f.words) - 1; f.keep && last >= 0 {
				f.words[last] = append(f.words[last], p[:max(0, min(n, f.skip-2, keptWord-len(f.words[last])))]...)
			}
			f.skip -= n
			p = p[n:]
			if f.skip == 0 {
				f.keep = false
				f.done()
			}
			continue
		}
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		f.line = append(f.line, part[:min(len(part), keptLine-len(f.line))]...)
		if end < 0 {
			return true
		}
		p = p[end+1:]
		ok := f.header(bytes.TrimSuffix(f.line, []byte("\r")))
		f.line = f.line[:0]
		if !ok {
			return false
		}
	}
	return true
}

// header takes the line with which a value begins.
func (f *frames) header(line []byte) bool {
	if !f.deep {
		f.first, f.words, f.attrs = append(f.first[:0], line...), f.words[:0], len(line) > 0 && line[0] == '|'
	}
	f.deep = true
	if len(line) == 0 {
		f.done()
		return true
	}
	size := 0
	if bytes.IndexByte([]byte("$=!*~>%|"), line[0]) >= 0 {
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n < -1 || n > mostOfBulk {
			return false
		}
		size = n
	}
	switch line[0] {
	case '$', '=', '!':
		if size < 0 {
			break
		}
		f.skip = size + 2
		if len(f.words) < keptWords {
			f.words, f.keep = append(f.words, nil), true
		}
		return true
	case '%', '|':
		size *= 2
		fallthrough
	case '*', '~', '>':
		if size > 0 {
			f.todo = append(f.todo, size)
			return len(f.todo) <= deepest
		}
	}
	f.done()
	return true
}

// done ends a value, and the aggregates that end with it.
func (f *frames) done() {
	for len(f.todo) > 0 {
		last := len(f.todo) - 1
		if f.todo[last]--; f.todo[last] > 0 {
			return
		}
		f.todo = f.todo[:last]
	}
	f.deep = false
	if !f.attrs {
		f.whole(f.first, f.words)
	}
}
