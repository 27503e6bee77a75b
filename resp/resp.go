// Package resp finds the borders of RESP2 and RESP3 frames without building values.
//
// A proxy forwards bytes: it must know where a command or a reply ends, and
// which words a command consists of, and nothing else. The two scanners answer
// that over a growing buffer, remember how far they got when a frame is not
// whole yet, and look at every byte of a frame at most a constant number of
// times, however small the pieces are in which it arrives.
//
// The few places that must look inside a reply (ROLE, HELLO, tests) use Parse.
package resp

import "bytes"

// Limits. They are those of redis-server where it has them, so that the proxy
// refuses what the server would refuse, with the same words.
const (
	// MaxArgs is the largest number of words in a command. redis-server had
	// this limit up to 6.2; 7.0 raised it to 2^31-1, which no client needs.
	MaxArgs = 1024 * 1024
	// MaxBulkBytes is proto-max-bulk-len as redis-server sets it by default.
	MaxBulkBytes = 512 * 1024 * 1024
	// MaxInlineBytes bounds an inline command and every header line
	// (PROTO_INLINE_MAX_SIZE in redis's server.h).
	MaxInlineBytes = 64 * 1024
	// MaxDepth bounds how deep the aggregates of a reply may nest. Redis's Lua
	// stops somewhere below 8000 levels of nested tables; nothing else that a
	// server sends nests deeper than ten.
	MaxDepth = 8192
	// maxReplyLength bounds the length or count in a reply's header. The server
	// may be configured for bulks above MaxBulkBytes, so this only keeps the
	// arithmetic far from overflow.
	maxReplyLength = 1 << 40
)

// ProtocolError says that the bytes are no RESP. The connection they came from
// cannot be used any more, because nobody knows where the next frame starts.
// For commands the text is redis-server's own; send it as "ERR " + text.
type ProtocolError string

// Error gives the text, which starts with "Protocol error: ".
func (e ProtocolError) Error() string { return "Protocol error: " + string(e) }

// header reads the number of a header line such as "*3\r\n" or "$-1\r\n", whose
// type byte is buf[0]. size is the length of the line with its CRLF, 0 while
// it is not whole. ok is false when the text is not a number in redis's
// canonical form (string2ll: no sign "+", no leading zero, no "-0").
func header(buf []byte) (value int64, size int, ok bool) {
	i, negative := 1, false
	if len(buf) > 1 && buf[1] == '-' {
		negative = true
		i = 2
	}
	first := i
	for ; i < len(buf); i++ {
		digit := buf[i] - '0'
		if digit > 9 {
			break
		}
		if i-first > 17 { // 10^18 fits in an int64, and is far above every limit
			return 0, 0, false
		}
		value = value*10 + int64(digit)
	}
	if digits := i - first; digits > 0 && buf[first] == '0' && (digits > 1 || negative) {
		return 0, 0, false
	}
	switch {
	case i == len(buf):
		return 0, 0, true
	case buf[i] != '\r' || i == first:
		return 0, 0, false
	case i+1 == len(buf):
		return 0, 0, true
	case buf[i+1] != '\n':
		return 0, 0, false
	}
	if negative {
		value = -value
	}
	return value, i + 2, true
}

// lineEnd gives the offset behind the first CRLF at or after from, or 0 when
// there is none. A lone CR or LF is content, as for hiredis.
func lineEnd(buf []byte, from int) int {
	for from < len(buf) {
		i := bytes.IndexByte(buf[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		if from >= 2 && buf[from-2] == '\r' {
			return from
		}
	}
	return 0
}
