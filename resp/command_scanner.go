package resp

import "bytes"

// CommandScanner finds commands in what a client sends. The zero value is
// ready. One scanner belongs to one connection: it remembers how much of the
// command at the start of the buffer it has already seen.
//
// After an error the connection is lost (see ProtocolError) and so is the
// scanner's state.
type CommandScanner struct {
	pos   int    // offset of the first byte not yet accounted for
	left  int    // words of a multibulk still to come; 0 between commands
	bulk  int    // bytes of the bulk at pos, when inBulk
	need  int    // what Need reports
	words []span // words found so far
	owed  int    // bytes of a bulk that Skip still expects, with its CRLF

	inBulk bool // the header before pos announced a bulk
}

// span is a word of the command as offsets into the buffer, which may move
// between two calls of Scan.
type span struct{ start, end int }

// keptWords bounds the memory that an idle connection keeps from its largest
// command: 64 spans are 1 KiB.
const keptWords = 64

// Need is a lower bound for the bytes that are missing from the bulk which the
// last Scan was waiting for, 0 when it is not known. A client may announce
// MaxBulkBytes and send nothing: grow towards it in bounded steps.
func (s *CommandScanner) Need() int { return s.need }

// Scan looks for the first whole command in buf, as a multibulk or as an
// inline command. n is its length in bytes; out is args[:0] plus its words,
// which are slices of buf (an inline word with escapes is a copy).
//
//   - n == 0, err == nil: more bytes are needed. Call again with the same
//     bytes, moved or not, followed by more.
//   - n > 0, len(out) == 0: an empty line or an empty multibulk, which
//     redis-server skips without a reply.
//   - err != nil: a ProtocolError with the text that redis-server sends before
//     it closes the connection.
func (s *CommandScanner) Scan(buf []byte, args [][]byte) (n int, out [][]byte, err error) {
	out = args[:0]
	s.need = 0
	if s.left == 0 {
		if len(buf) == 0 {
			return 0, out, nil
		}
		if buf[0] != '*' {
			return s.scanInline(buf, out)
		}
		count, size, ok := header(buf)
		if !ok || count > MaxArgs {
			return 0, out, ProtocolError("invalid multibulk length")
		}
		if size == 0 {
			return 0, out, nil
		}
		if count <= 0 {
			return size, out, nil
		}
		s.pos, s.left = size, int(count)
	}
	done, err := s.scanBulks(buf)
	if err != nil || !done {
		return 0, out, err
	}
	for _, w := range s.words {
		out = append(out, buf[w.start:w.end:w.end])
	}
	n = s.pos
	s.reset()
	return n, out, nil
}

// scanBulks goes on through the bulks of a multibulk; done when it has all.
func (s *CommandScanner) scanBulks(buf []byte) (done bool, err error) {
	for s.left > 0 {
		if !s.inBulk {
			if s.pos >= len(buf) {
				return false, nil
			}
			length, size, err := bulkHeader(buf[s.pos:])
			if err != nil || size == 0 {
				return false, err
			}
			s.pos += size
			s.bulk, s.inBulk = length, true
		}
		// Like redis-server, do not look at the two bytes behind the bulk: both
		// sides must agree on the borders even when a client sends rubbish there.
		if missing := s.pos + s.bulk + 2 - len(buf); missing > 0 {
			s.need = missing
			return false, nil
		}
		s.words = append(s.words, span{s.pos, s.pos + s.bulk})
		s.pos += s.bulk + 2
		s.inBulk = false
		s.left--
	}
	return true, nil
}

// bulkHeader reads the header of a word at the start of buf, which is not empty; size is 0 while it is not
// whole.
func bulkHeader(buf []byte) (length, size int, err error) {
	if c := buf[0]; c != '$' {
		return 0, 0, ProtocolError("expected '$', got '" + string([]byte{c}) + "'")
	}
	n, size, ok := header(buf)
	if !ok || n < 0 || n > MaxBulkBytes {
		return 0, 0, ProtocolError("invalid bulk length")
	}
	return int(n), size, nil
}

// Begun tells of a multibulk of which the last Scan of buf has not found the
// end: out is args[:0] plus its whole words, count is how many words it has in
// all, and bulk is the length of the word that has begun, 0 before its header
// is whole. count is 0 when no multibulk has begun.
func (s *CommandScanner) Begun(buf []byte, args [][]byte) (out [][]byte, count, bulk int) {
	out = args[:0]
	if s.left == 0 {
		return out, 0, 0
	}
	for _, w := range s.words {
		out = append(out, buf[w.start:w.end:w.end])
	}
	if s.inBulk {
		bulk = s.bulk
	}
	return out, len(s.words) + s.left, bulk
}

// Skip goes on with the multibulk that Begun tells of, for a caller who passes
// its bytes on and keeps none: the first n bytes of buf belong to it, and done
// says that they end it. From its first call on it takes the place of Scan, on
// the same buffer, until done; what it leaves of buf comes again with more
// behind it. err is a ProtocolError.
func (s *CommandScanner) Skip(buf []byte) (n int, done bool, err error) {
	n, s.need = s.pos, 0
	if s.inBulk {
		s.owed = s.bulk + 2
	}
	s.pos, s.inBulk = 0, false
	for {
		if s.owed > 0 {
			part := min(s.owed, len(buf)-n)
			n += part
			if s.owed -= part; s.owed > 0 {
				return n, false, nil
			}
			s.left--
		}
		if s.left == 0 {
			s.reset()
			return n, true, nil
		}
		if n == len(buf) {
			return n, false, nil
		}
		length, size, err := bulkHeader(buf[n:])
		if err != nil || size == 0 {
			return n, false, err
		}
		n += size
		s.owed = length + 2
	}
}

func (s *CommandScanner) reset() {
	s.pos, s.left, s.bulk, s.inBulk = 0, 0, 0, false
	if cap(s.words) > keptWords {
		s.words = nil
	}
	s.words = s.words[:0]
}

// scanInline reads a line of words, as people type it into a telnet session.
// pos is where the search for the end of the line goes on.
func (s *CommandScanner) scanInline(buf []byte, out [][]byte) (int, [][]byte, error) {
	window := buf[:min(len(buf), MaxInlineBytes+1)]
	i := bytes.IndexByte(window[s.pos:], '\n')
	if i < 0 {
		if len(window) > MaxInlineBytes {
			return 0, out, ProtocolError("too big inline request")
		}
		s.pos = len(window)
		return 0, out, nil
	}
	end := s.pos + i
	s.pos = 0
	line := buf[:end]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	if bytes.IndexByte(line, 0) >= 0 {
		// redis-server does not see the end of such a line and waits for ever.
		return 0, out, ProtocolError("a NUL byte in an inline request")
	}
	out, ok := splitInline(line, out)
	if !ok {
		return 0, out[:0], ProtocolError("unbalanced quotes in request")
	}
	return end + 1, out, nil
}
