package resp

import "fmt"

// ReplyScanner finds replies in what a server sends. The zero value is ready.
// One scanner belongs to one connection: it remembers how much of the reply at
// the start of the buffer it has already seen.
//
// After an error the connection is lost (see ProtocolError) and so is the
// scanner's state.
type ReplyScanner struct {
	pos   int     // offset of the first frame not yet accounted for
	seek  int     // offset from which the search for the end of a line goes on
	need  int     // what Need reports
	owed  int     // bytes of a bulk that Skip still expects, with its CRLF
	stack []int64 // open aggregates, the outermost first
}

// An open aggregate is the number of frames that it still lacks, or one of
// these. They are far apart so that the parity of a streamed map can be kept
// by flipping between two of them.
const (
	untilDot     = -1 // streamed array, set or push: until ".\r\n"
	untilDotEven = -2 // streamed map before a key
	untilDotOdd  = -3 // streamed map before a value, where it cannot end
	untilChunk0  = -4 // streamed string: chunks until ";0\r\n"
)

// keptDepth bounds the memory that an idle connection keeps from its deepest
// reply.
const keptDepth = 32

// Need is a lower bound for the bytes that are missing from the bulk which the
// last Scan was waiting for, 0 when it is not known.
func (s *ReplyScanner) Need() int { return s.need }

// Scan gives the length in bytes of the first whole reply in buf, or 0 when
// more bytes are needed: call again with the same bytes, moved or not,
// followed by more. Attributes belong to the reply behind them. Pushes are
// replies of their own (see IsPush). err is a ProtocolError.
func (s *ReplyScanner) Scan(buf []byte) (n int, err error) {
	if s.pos == 0 && len(buf) > 3 {
		end := 0
		switch buf[0] {
		case '$':
			end = quickBulk(buf)
		case '+', '-', ':':
			end = lineEnd(buf, max(s.seek, 1))
		}
		if end > 0 {
			s.seek, s.need = 0, 0
			return end, nil
		}
	}
	return s.scan(buf)
}

// quickBulk gives the length of the bulk string at the start of buf, with
// header and CRLF, when it is whole and has no more than eight digits of
// length, else 0: then the long way finds out what it is. Nearly every reply
// with a body, and nearly every element of an array, is such a bulk.
func quickBulk(buf []byte) int {
	size := 0
	for i := 1; i < len(buf) && i < 10; i++ {
		digit := buf[i] - '0'
		if digit <= 9 {
			size = size*10 + int(digit)
			continue
		}
		end := i + 4 + size
		switch {
		case i == 1:
			if len(buf) >= 5 && string(buf[:5]) == "$-1\r\n" {
				return 5
			}
		case end <= len(buf) && buf[i] == '\r' && buf[i+1] == '\n' &&
			buf[end-2] == '\r' && buf[end-1] == '\n' && (buf[1] != '0' || i == 2):
			return end
		}
		return 0
	}
	return 0
}

// scan goes on through the frames of the reply at the start of buf.
func (s *ReplyScanner) scan(buf []byte) (int, error) {
	s.need = 0
	for {
		s.quickElements(buf)
		size, err := s.frame(buf[s.pos:])
		if err != nil || size == 0 {
			return 0, err
		}
		s.pos += size
		s.seek = 0
		if s.closes() {
			n := s.pos
			s.pos = 0
			return n, nil
		}
	}
}

// closes takes the aggregates off the stack that are complete; true: and with them the whole reply is.
func (s *ReplyScanner) closes() bool {
	for len(s.stack) > 0 && s.stack[len(s.stack)-1] == 0 {
		s.stack = s.stack[:len(s.stack)-1]
	}
	if len(s.stack) > 0 {
		return false
	}
	if cap(s.stack) > keptDepth {
		s.stack = nil
	}
	return true
}

// Skip goes on with a reply of which Scan has not found the end, for a caller
// who passes its bytes on and keeps none: the first n bytes of buf belong to
// it, and done says that they end it. From its first call on it takes the
// place of Scan, on the same buffer, until done; what it leaves of buf comes
// again with more behind it. The CRLF of a bulk of which the end had not
// arrived with its header is not looked at. err is a ProtocolError.
func (s *ReplyScanner) Skip(buf []byte) (n int, done bool, err error) {
	n = s.pos
	s.pos = 0
	for {
		if s.owed > 0 {
			part := min(s.owed, len(buf)-n)
			n += part
			if s.owed -= part; s.owed > 0 {
				return n, false, nil
			}
			if len(s.stack) == 0 || s.stack[len(s.stack)-1] != untilChunk0 {
				s.took()
			}
		} else {
			s.need = 0
			size, err := s.frame(buf[n:])
			switch {
			case err != nil:
				return n, false, err
			case size > 0:
				n += size
				s.seek = 0
			case s.need > 0:
				s.owed = len(buf) - n + s.need
				continue
			default:
				return n, false, nil
			}
		}
		if s.closes() {
			s.need = 0
			return n, true, nil
		}
	}
}

// quickElements accounts for the bulks at pos as far as the innermost array
// wants them, except for its last element, whose end scan has to see.
func (s *ReplyScanner) quickElements(buf []byte) {
	if len(s.stack) == 0 {
		return
	}
	top := &s.stack[len(s.stack)-1]
	for *top > 1 && s.pos < len(buf) && buf[s.pos] == '$' {
		size := quickBulk(buf[s.pos:])
		if size == 0 {
			return
		}
		s.pos += size
		*top--
	}
}

// frame accounts for one frame (a scalar, or the header of an aggregate) at
// the start of buf; size is 0 while it is not whole. At the outermost level it
// opens a pseudo-aggregate of one, which an attribute leaves open.
func (s *ReplyScanner) frame(buf []byte) (size int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	kind := buf[0]
	if len(s.stack) > 0 && s.stack[len(s.stack)-1] == untilChunk0 && kind != ';' {
		return 0, ProtocolError(fmt.Sprintf("expected ';' in a streamed string, got %q", kind))
	}
	switch kind {
	case '+', '-', ':', ',', '(', '#', '_':
		return s.line(buf)
	case '$', '!', '=':
		return s.blob(buf)
	case ';':
		return s.chunk(buf)
	case '*', '~', '>', '%', '|':
		return s.aggregate(buf)
	case '.':
		return s.dot(buf)
	}
	return 0, ProtocolError(fmt.Sprintf("unknown reply type %q", kind))
}

func (s *ReplyScanner) line(buf []byte) (int, error) {
	end := lineEnd(buf, max(s.seek, 1))
	if end == 0 {
		s.seek = len(buf)
		return 0, nil
	}
	s.took()
	return end, nil
}

func (s *ReplyScanner) blob(buf []byte) (int, error) {
	if buf[0] == '$' && streamed(buf) {
		if len(buf) < 4 {
			return 0, partOf(buf[2:], "\r\n")
		}
		if err := partOf(buf[2:4], "\r\n"); err != nil {
			return 0, err
		}
		s.took()
		return 4, s.open(untilChunk0)
	}
	length, size, err := replyHeader(buf)
	if err != nil || size == 0 {
		return 0, err
	}
	if length == -1 && buf[0] == '$' {
		s.took()
		return size, nil
	}
	end, err := s.body(buf, length, size)
	if err == nil && end > 0 {
		s.took()
	}
	return end, err
}

// body checks that length bytes and a CRLF follow the header of size bytes.
func (s *ReplyScanner) body(buf []byte, length int64, size int) (end int, err error) {
	if length < 0 {
		return 0, ProtocolError(fmt.Sprintf("length %d of a %q reply", length, buf[0]))
	}
	body := size + int(length)
	if missing := body + 2 - len(buf); missing > 0 {
		s.need = missing
		if body < len(buf) {
			return 0, partOf(buf[body:], "\r\n")
		}
		return 0, nil
	}
	return body + 2, partOf(buf[body:body+2], "\r\n")
}

func (s *ReplyScanner) chunk(buf []byte) (int, error) {
	if len(s.stack) == 0 || s.stack[len(s.stack)-1] != untilChunk0 {
		return 0, ProtocolError("a chunk outside of a streamed string")
	}
	length, size, err := replyHeader(buf)
	if err != nil || size == 0 {
		return 0, err
	}
	if length == 0 {
		s.stack[len(s.stack)-1] = 0
		return size, nil
	}
	return s.body(buf, length, size)
}

func (s *ReplyScanner) aggregate(buf []byte) (int, error) {
	kind := buf[0]
	if streamed(buf) && kind != '|' {
		if len(buf) < 4 {
			return 0, partOf(buf[2:], "\r\n")
		}
		if err := partOf(buf[2:4], "\r\n"); err != nil {
			return 0, err
		}
		s.took()
		if kind == '%' {
			return 4, s.open(untilDotEven)
		}
		return 4, s.open(untilDot)
	}
	count, size, err := replyHeader(buf)
	if err != nil || size == 0 {
		return 0, err
	}
	if count == -1 && kind == '*' {
		s.took()
		return size, nil
	}
	if count < 0 {
		return 0, ProtocolError(fmt.Sprintf("length %d of a %q reply", count, kind))
	}
	if kind == '|' { // does not count: it belongs to the frame behind it
		if len(s.stack) == 0 {
			s.stack = append(s.stack, 1)
		}
		return size, s.open(2 * count)
	}
	s.took()
	if kind == '%' {
		count *= 2
	}
	return size, s.open(count)
}

func (s *ReplyScanner) dot(buf []byte) (int, error) {
	if len(s.stack) == 0 {
		return 0, ProtocolError("the end of a streamed reply outside of one")
	}
	if top := s.stack[len(s.stack)-1]; top != untilDot && top != untilDotEven {
		return 0, ProtocolError("the end of a streamed reply where a value is missing")
	}
	if len(buf) < 3 {
		return 0, partOf(buf[1:], "\r\n")
	}
	if err := partOf(buf[1:3], "\r\n"); err != nil {
		return 0, err
	}
	s.stack[len(s.stack)-1] = 0
	return 3, nil
}

// took counts one value against the aggregate that it stands in.
func (s *ReplyScanner) took() {
	if len(s.stack) == 0 {
		return
	}
	switch top := &s.stack[len(s.stack)-1]; *top {
	case untilDot:
	case untilDotEven:
		*top = untilDotOdd
	case untilDotOdd:
		*top = untilDotEven
	default:
		*top--
	}
}

func (s *ReplyScanner) open(frames int64) error {
	if len(s.stack) > MaxDepth {
		return ProtocolError(fmt.Sprintf("a reply nested deeper than %d", MaxDepth))
	}
	s.stack = append(s.stack, frames)
	return nil
}

// replyHeader is header with the limits of replies.
func replyHeader(buf []byte) (value int64, size int, err error) {
	value, size, ok := header(buf)
	if !ok || value > maxReplyLength {
		return 0, 0, ProtocolError(fmt.Sprintf("invalid length in the header of a %q reply", buf[0]))
	}
	return value, size, nil
}

func streamed(buf []byte) bool { return len(buf) > 1 && buf[1] == '?' }

// partOf reports an error unless got is the beginning of want.
func partOf(got []byte, want string) error {
	if len(got) > len(want) || string(got) != want[:len(got)] {
		return ProtocolError(fmt.Sprintf("expected %q, got %q", want, got))
	}
	return nil
}
