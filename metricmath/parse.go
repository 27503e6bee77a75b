// Package metricmath computes series from series with CloudWatch's expressions: SUM(METRICS()) / PERIOD(m1). It is
// pure: the series are given. DESIGN.md says what of the language is there, and how values join.
package metricmath

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds on an expression, so that a stranger's cannot cost much.
const (
	longest = 2048 // characters: CloudWatch's bound of MetricDataQuery.Expression
	deepest = 64   // brackets, signs and calls within one another; ours
)

// Expression is a text that was understood.
type Expression struct {
	text string
	root node
	ids  []string
}

// String returns the text.
func (e *Expression) String() string { return e.text }

// IDs are the ids that the text names, in the order of their first appearance.
func (e *Expression) IDs() []string { return slices.Clone(e.ids) }

// fault is an error that clients see as it is, after "Error in expression 'e1': ".
func fault(format string, args ...any) error { return fmt.Errorf(format, args...) }

// node is a part of an expression.
type node struct {
	op     string // "number", "id", "text", "word", "array", "call", "negative", or a sign between two
	name   string // of an id, a text, a word (REPEAT, LINEAR), or the function that is called
	number float64
	args   []node
}

// levels are the signs between two values, those that bind least first.
var levels = [][]string{
	{"OR", "||"},
	{"AND", "&&"},
	{"==", "!=", "<=", ">=", "<", ">"},
	{"+", "-"},
	{"*", "/"},
}

// Parse reads an expression. The error says what is wrong and where.
func Parse(text string) (*Expression, error) {
	if len(text) > longest {
		return nil, fault("The expression has %d characters; %d are allowed", len(text), longest)
	}
	p := &parser{text: text}
	root, err := p.binary(0, 0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(text) {
		return nil, p.unexpected()
	}
	return &Expression{text: text, root: root, ids: p.ids}, nil
}

type parser struct {
	text string
	at   int
	ids  []string
}

func (p *parser) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) unexpected() error {
	if p.skip(); p.at >= len(p.text) {
		return fault("Unexpected end of the expression")
	}
	r := []rune(p.text[p.at:])[0]
	return fault("Unexpected character %q at position %d", r, p.at+1)
}

// sign takes one of the signs; a word is one only when it ends.
func (p *parser) sign(signs ...string) (string, bool) {
	p.skip()
	for _, s := range signs {
		if !strings.HasPrefix(p.text[p.at:], s) {
			continue
		}
		end := p.at + len(s)
		if letter(s[0]) && end < len(p.text) && (letter(p.text[end]) || digit(p.text[end])) {
			continue
		}
		p.at = end
		return s, true
	}
	return "", false
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

func (p *parser) binary(level, depth int) (node, error) {
	if level == len(levels) {
		return p.unary(depth)
	}
	a, err := p.binary(level+1, depth)
	for err == nil {
		s, found := p.sign(levels[level]...)
		if !found {
			return a, nil
		}
		switch s {
		case "||":
			s = "OR"
		case "&&":
			s = "AND"
		}
		var b node
		b, err = p.binary(level+1, depth)
		a = node{op: s, args: []node{a, b}}
	}
	return node{}, err
}

// unary reads signs before a value, which bind less than ^: -2^2 is -4.
func (p *parser) unary(depth int) (node, error) {
	if depth >= deepest {
		return node{}, fault("The expression nests too deeply")
	}
	if _, found := p.sign("-"); found {
		a, err := p.unary(depth + 1)
		return node{op: "negative", args: []node{a}}, err
	}
	a, err := p.value(depth)
	if err != nil {
		return a, err
	}
	if _, found := p.sign("^"); found { // from the right: 2^3^2 is 2^9
		b, err := p.unary(depth + 1)
		return node{op: "^", args: []node{a, b}}, err
	}
	return a, nil
}

func (p *parser) value(depth int) (node, error) {
	p.skip()
	if p.at == len(p.text) {
		return node{}, p.unexpected()
	}
	switch c := p.text[p.at]; {
	case c == '(':
		p.at++
		a, err := p.binary(0, depth+1)
		if err != nil {
			return a, err
		}
		if _, closed := p.sign(")"); !closed {
			return a, p.unexpected()
		}
		return a, nil
	case c == '[':
		p.at++
		args, err := p.list("]", depth+1)
		return node{op: "array", args: args}, err
	case digit(c) || c == '.':
		return p.numeral()
	case c == '"' || c == '\'':
		inner, _, closed := strings.Cut(p.text[p.at+1:], string(c))
		if !closed {
			p.at = len(p.text)
			return node{}, p.unexpected()
		}
		p.at += len(inner) + 2
		return node{op: "text", name: inner}, nil
	case letter(c) && c != '_':
		return p.word(depth)
	}
	return node{}, p.unexpected()
}

func (p *parser) numeral() (node, error) {
	from := p.at
	for p.at < len(p.text) && (digit(p.text[p.at]) || p.text[p.at] == '.') {
		p.at++
	}
	if rest := p.text[p.at:]; len(rest) > 1 && (rest[0] == 'e' || rest[0] == 'E') {
		digits := strings.TrimLeft(rest[1:], "+-")
		if len(rest)-1-len(digits) <= 1 && digits != "" && digit(digits[0]) {
			p.at += len(rest) - len(digits)
			for p.at < len(p.text) && digit(p.text[p.at]) {
				p.at++
			}
		}
	}
	v, err := strconv.ParseFloat(p.text[from:p.at], 64)
	if err != nil {
		return node{}, fault("%q is not a number", p.text[from:p.at])
	}
	return node{op: "number", number: v}, nil
}

// word reads an id, which begins with a small letter, or a function's call.
func (p *parser) word(depth int) (node, error) {
	from := p.at
	for p.at < len(p.text) && (letter(p.text[p.at]) || digit(p.text[p.at])) {
		p.at++
	}
	name := p.text[from:p.at]
	if name[0] >= 'a' {
		if !slices.Contains(p.ids, name) {
			p.ids = append(p.ids, name)
		}
		return node{op: "id", name: name}, nil
	}
	if name == "REPEAT" || name == "LINEAR" {
		return node{op: "word", name: name}, nil
	}
	f, there := functions[name]
	if !there {
		return node{}, fault("Function '%s' not found", name)
	}
	if _, opened := p.sign("("); !opened {
		return node{}, p.unexpected()
	}
	args, err := p.list(")", depth+1)
	if err == nil && (len(args) < f.least || len(args) > f.most) {
		err = fault("Function '%s' takes %s, not %d", name, f.takes(), len(args))
	}
	return node{op: "call", name: name, args: args}, err
}

// list reads values with commas between them, up to the end.
func (p *parser) list(end string, depth int) ([]node, error) {
	if _, closed := p.sign(end); closed {
		return nil, nil
	}
	var args []node
	for {
		a, err := p.binary(0, depth)
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		if _, closed := p.sign(end); closed {
			return args, nil
		}
		if _, more := p.sign(","); !more {
			return nil, p.unexpected()
		}
	}
}
