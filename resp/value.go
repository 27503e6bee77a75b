package resp

import (
	"bytes"
	"fmt"
	"strconv"
)

// Value is one parsed reply.
type Value struct {
	// Kind is the type byte of the reply: '+' '-' ':' '$' '*', in RESP3 also
	// ',' '(' '#' '!' '=' '%' '~' '>', and '_' for every null ("$-1" and "*-1"
	// too).
	Kind byte
	// Str is the text of anything that is not an aggregate or a null: without
	// type byte and CRLF, without the "txt:" of a verbatim string, with the
	// chunks of a streamed string joined.
	Str []byte
	// Int is the number of ':' and 1 or 0 for '#'.
	Int int64
	// Elems are the elements of an aggregate; a map of n pairs has 2n.
	Elems []Value
}

// Parse builds the first reply in reply and gives its length in bytes, 0 when
// it is not whole. Attributes are skipped. It allocates: for the few places
// that must look inside a reply. err is a ProtocolError.
func Parse(reply []byte) (Value, int, error) {
	p := parser{buf: reply}
	v, err := p.value(0)
	if err != nil {
		if err == errShort {
			err = nil
		}
		return Value{}, 0, err
	}
	if v.Kind == '.' {
		return Value{}, 0, ProtocolError("the end of a streamed reply outside of one")
	}
	return v, p.pos, nil
}

// errShort travels up inside the parser when the reply is not whole.
const errShort = ProtocolError("the reply is not whole")

type parser struct {
	buf []byte
	pos int
}

// value reads one reply with the attributes before it. It gives Kind '.' for
// the end of a streamed aggregate; callers decide whether it may stand there.
func (p *parser) value(depth int) (Value, error) {
	for {
		if p.pos == len(p.buf) {
			return Value{}, errShort
		}
		switch kind := p.buf[p.pos]; kind {
		case '+', '-', ':', ',', '(', '#', '_':
			return p.scalar(kind)
		case '$', '!', '=':
			return p.bulk(kind)
		case '*', '~', '>', '%':
			return p.aggregate(kind, depth)
		case '.':
			return Value{Kind: '.'}, p.expect(".\r\n")
		case '|':
			if _, err := p.aggregate('|', depth+1); err != nil {
				return Value{}, err
			}
		default:
			return Value{}, ProtocolError(fmt.Sprintf("unknown reply type %q", kind))
		}
	}
}

func (p *parser) scalar(kind byte) (Value, error) {
	end := lineEnd(p.buf[p.pos:], 1)
	if end == 0 {
		return Value{}, errShort
	}
	v := Value{Kind: kind, Str: p.buf[p.pos+1 : p.pos+end-2]}
	p.pos += end
	var err error
	switch kind {
	case ':':
		v.Int, err = strconv.ParseInt(string(v.Str), 10, 64)
	case '#':
		if string(v.Str) == "t" {
			v.Int = 1
		} else if string(v.Str) != "f" {
			err = strconv.ErrSyntax
		}
	case ',':
		_, err = strconv.ParseFloat(string(v.Str), 64)
	case '_':
		if len(v.Str) > 0 {
			err = strconv.ErrSyntax
		}
		v.Str = nil
	}
	if err != nil {
		return Value{}, ProtocolError(fmt.Sprintf("invalid %q reply %q", kind, v.Str))
	}
	return v, nil
}

func (p *parser) bulk(kind byte) (Value, error) {
	if kind == '$' && streamed(p.buf[p.pos:]) {
		return p.streamedString()
	}
	n, err := p.length()
	if err != nil {
		return Value{}, err
	}
	if n == -1 && kind == '$' {
		return Value{Kind: '_'}, nil
	}
	text, err := p.text(n)
	if err != nil {
		return Value{}, err
	}
	if kind == '=' {
		if len(text) < 4 || text[3] != ':' {
			return Value{}, ProtocolError("a verbatim string without its format")
		}
		text = text[4:]
	}
	return Value{Kind: kind, Str: text}, nil
}

func (p *parser) streamedString() (Value, error) {
	if err := p.expect("$?\r\n"); err != nil {
		return Value{}, err
	}
	v := Value{Kind: '$', Str: []byte{}}
	for {
		if p.pos == len(p.buf) {
			return Value{}, errShort
		}
		if c := p.buf[p.pos]; c != ';' {
			return Value{}, ProtocolError(fmt.Sprintf("expected ';' in a streamed string, got %q", c))
		}
		n, err := p.length()
		if err != nil || n == 0 {
			return v, err
		}
		text, err := p.text(n)
		if err != nil {
			return Value{}, err
		}
		v.Str = append(v.Str, text...)
	}
}

func (p *parser) aggregate(kind byte, depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, ProtocolError(fmt.Sprintf("a reply nested deeper than %d", MaxDepth))
	}
	if kind != '|' && streamed(p.buf[p.pos:]) {
		return p.streamedAggregate(kind, depth)
	}
	n, err := p.length()
	if err != nil {
		return Value{}, err
	}
	if n == -1 && kind == '*' {
		return Value{Kind: '_'}, nil
	}
	if n < 0 {
		return Value{}, ProtocolError(fmt.Sprintf("length %d of a %q reply", n, kind))
	}
	if kind == '%' || kind == '|' {
		n *= 2
	}
	// The count is a claim; the bytes that are there bound it (an element has
	// at least three), so that a short reply cannot ask for much memory.
	v := Value{Kind: kind, Elems: make([]Value, 0, min(n, int64(len(p.buf)-p.pos)/3))}
	for range n {
		elem, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		if elem.Kind == '.' {
			return Value{}, ProtocolError("the end of a streamed reply where a value is missing")
		}
		v.Elems = append(v.Elems, elem)
	}
	return v, nil
}

func (p *parser) streamedAggregate(kind byte, depth int) (Value, error) {
	if err := p.expect(string(kind) + "?\r\n"); err != nil {
		return Value{}, err
	}
	v := Value{Kind: kind, Elems: []Value{}}
	for {
		elem, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		if elem.Kind != '.' {
			v.Elems = append(v.Elems, elem)
			continue
		}
		if kind == '%' && len(v.Elems)%2 == 1 {
			return Value{}, ProtocolError("the end of a streamed reply where a value is missing")
		}
		return v, nil
	}
}

// length reads a header line.
func (p *parser) length() (int64, error) {
	n, size, err := replyHeader(p.buf[p.pos:])
	if err == nil && size == 0 {
		err = errShort
	}
	p.pos += size
	return n, err
}

// text reads n bytes and their CRLF.
func (p *parser) text(n int64) ([]byte, error) {
	if n < 0 {
		return nil, ProtocolError(fmt.Sprintf("length %d of a bulk", n))
	}
	if int64(len(p.buf)-p.pos) < n {
		return nil, errShort
	}
	text := p.buf[p.pos : p.pos+int(n)]
	p.pos += int(n)
	return text, p.expect("\r\n")
}

func (p *parser) expect(want string) error {
	have := p.buf[p.pos:min(len(p.buf), p.pos+len(want))]
	if !bytes.HasPrefix([]byte(want), have) {
		return ProtocolError(fmt.Sprintf("expected %q, got %q", want, have))
	}
	if len(have) < len(want) {
		return errShort
	}
	p.pos += len(want)
	return nil
}
