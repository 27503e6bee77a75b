package jmespath

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// token is a word of an expression.
type token struct {
	kind  string // "name", "quoted", "literal", "number", "end", or the sign itself
	text  string // of a name
	value any    // of a literal or number
	at    int    // where it begins, in bytes
}

// signs are the words that are not names, the longer ones first.
var signs = []string{"||", "&&", "==", "!=", "<=", ">=", "[?", "[]", ".", "*", "[", "]", "{", "}", "(", ")", ",", ":", "@", "&", "|", "!", "<", ">"}

func letter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// lex cuts an expression into tokens; the last one is "end".
func lex(text string) (tokens []token, err error) {
	for i := 0; i < len(text); {
		t, n, err := next(text, i)
		if err != nil {
			return nil, err
		}
		if t.kind != "" {
			tokens = append(tokens, t)
		}
		i += n
	}
	return append(tokens, token{kind: "end", at: len(text)}), nil
}

// next is the token at i and how long it is; kind "" for space.
func next(text string, i int) (t token, n int, err error) {
	rest := text[i:]
	span := func(in func(byte) bool) int {
		n := 1
		for n < len(rest) && in(rest[n]) {
			n++
		}
		return n
	}
	switch c := rest[0]; {
	case strings.IndexByte(" \t\r\n", c) >= 0:
		return t, 1, nil
	case letter(c):
		n = span(func(c byte) bool { return letter(c) || digit(c) })
		return token{kind: "name", text: rest[:n], at: i}, n, nil
	case digit(c) || c == '-':
		n = span(digit)
		v, err := Decode(rest[:n])
		if err != nil {
			return t, 0, fmt.Errorf("bad number %q at column %d", rest[:n], i)
		}
		return token{kind: "number", value: v, at: i}, n, nil
	case c == '"' || c == '\'' || c == '`':
		return quoted(rest, i)
	}
	for _, s := range signs {
		if strings.HasPrefix(rest, s) {
			return token{kind: s, at: i}, len(s), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return t, 0, fmt.Errorf("bad character %q at column %d", r, i)
}

// quoted is a name in ", text in ' or JSON in `.
func quoted(rest string, at int) (token, int, error) {
	quote := rest[0]
	end := 1
	for ; end < len(rest) && rest[end] != quote; end++ {
		if rest[end] == '\\' {
			end++
		}
	}
	if end >= len(rest) {
		return token{}, 0, fmt.Errorf("unclosed %c at column %d", quote, at)
	}
	inner, n := rest[1:end], end+1
	switch quote {
	case '\'':
		return token{kind: "literal", value: strings.ReplaceAll(inner, `\'`, "'"), at: at}, n, nil
	case '"':
		v, err := Decode(rest[:n])
		name, ok := v.(string)
		if err != nil || !ok {
			return token{}, 0, fmt.Errorf("bad name %s at column %d", rest[:n], at)
		}
		return token{kind: "quoted", text: name, at: at}, n, nil
	}
	inner = strings.TrimSpace(strings.ReplaceAll(inner, "\\`", "`"))
	v, err := Decode(inner)
	if err != nil { // as of old, `text` may stand for `"text"`
		if v, err = Decode(`"` + inner + `"`); err != nil {
			return token{}, 0, fmt.Errorf("bad literal %s at column %d", rest[:n], at)
		}
	}
	return token{kind: "literal", value: v, at: at}, n, nil
}
