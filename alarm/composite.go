package alarm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Expression is the AlarmRule of a composite alarm: ALARM("a") AND NOT (OK(b) OR FALSE).
type Expression struct {
	text string
	root node
	deps []string
}

// Bounds of CloudWatch on an expression.
const (
	longestExpression = 10240 // characters
	mostChildren      = 100
	deepest           = 100 // brackets and NOTs within one another; ours
)

// node is a part of an expression.
type node interface {
	holds(state func(name string) State) bool
}

type (
	is    struct{ name, state string }
	not   struct{ of node }
	and   struct{ a, b node }
	or    struct{ a, b node }
	fixed bool
)

func (n is) holds(state func(string) State) bool      { return string(state(n.name)) == n.state }
func (n not) holds(state func(string) State) bool     { return !n.of.holds(state) }
func (n and) holds(state func(string) State) bool     { return n.a.holds(state) && n.b.holds(state) }
func (n or) holds(state func(string) State) bool      { return n.a.holds(state) || n.b.holds(state) }
func (n fixed) holds(func(string) State) bool         { return bool(n) }
func (e *Expression) String() string                  { return e.text }
func (e *Expression) Children() []string              { return slices.Clone(e.deps) }
func (e *Expression) Holds(s func(string) State) bool { return e.root.holds(s) }

// Parse reads an AlarmRule. Alarms are named by name or ARN, in quotes or without; of an ARN the name counts. The
// error says where.
func Parse(text string) (*Expression, error) {
	if len(text) > longestExpression {
		return nil, fmt.Errorf("the rule has %d characters; %d are allowed", len(text), longestExpression)
	}
	p := &parser{text: text}
	root, err := p.disjunction(0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(text) {
		return nil, p.unexpected("AND, OR or the end")
	}
	if len(p.names) > mostChildren {
		return nil, fmt.Errorf("the rule names %d alarms; %d are allowed", len(p.names), mostChildren)
	}
	return &Expression{text: text, root: root, deps: p.names}, nil
}

type parser struct {
	text  string
	at    int
	names []string // in the order of their first appearance
}

func (p *parser) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) unexpected(want string) error {
	p.skip()
	if p.at == len(p.text) {
		return fmt.Errorf("the rule ends where %s was expected", want)
	}
	return fmt.Errorf("at character %d (%.20q): %s was expected", p.at+1, p.text[p.at:], want)
}

// word takes a keyword, in capitals or not; it is one only when no letter follows.
func (p *parser) word(w string) bool {
	p.skip()
	end := p.at + len(w)
	if end > len(p.text) || !strings.EqualFold(p.text[p.at:end], w) {
		return false
	}
	if end < len(p.text) && (isLetter(p.text[end]) || p.text[end] == '_') {
		return false
	}
	p.at = end
	return true
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func (p *parser) sign(c byte) bool {
	p.skip()
	if p.at == len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

var errDeep = errors.New("the rule nests too deeply")

func (p *parser) disjunction(depth int) (node, error) {
	a, err := p.conjunction(depth)
	for err == nil && p.word("OR") {
		var b node
		b, err = p.conjunction(depth)
		a = or{a, b}
	}
	return a, err
}

func (p *parser) conjunction(depth int) (node, error) {
	a, err := p.factor(depth)
	for err == nil && p.word("AND") {
		var b node
		b, err = p.factor(depth)
		a = and{a, b}
	}
	return a, err
}

func (p *parser) factor(depth int) (node, error) {
	if depth == deepest {
		return nil, errDeep
	}
	switch {
	case p.word("NOT"):
		of, err := p.factor(depth + 1)
		return not{of}, err
	case p.sign('('):
		n, err := p.disjunction(depth + 1)
		if err == nil && !p.sign(')') {
			err = p.unexpected(`")"`)
		}
		return n, err
	case p.word("TRUE"):
		return fixed(true), nil
	case p.word("FALSE"):
		return fixed(false), nil
	}
	for _, state := range []State{Alarm, OK, InsufficientData} {
		if p.word(string(state)) {
			name, err := p.name()
			return is{name, string(state)}, err
		}
	}
	return nil, p.unexpected("ALARM(…), OK(…), INSUFFICIENT_DATA(…), NOT, TRUE, FALSE or a bracket")
}

// name takes ("name"), ('name') or (name).
func (p *parser) name() (string, error) {
	if !p.sign('(') {
		return "", p.unexpected(`"("`)
	}
	p.skip()
	var name string
	switch {
	case p.at < len(p.text) && (p.text[p.at] == '"' || p.text[p.at] == '\''):
		quoted, _, found := strings.Cut(p.text[p.at+1:], p.text[p.at:p.at+1])
		if !found {
			return "", p.unexpected("the end of a name in quotes")
		}
		name = quoted
		p.at += len(quoted) + 2
	default:
		bare, _, _ := strings.Cut(p.text[p.at:], ")")
		p.at += len(bare)
		name = strings.TrimSpace(bare)
	}
	name = NameOf(name)
	if name == "" {
		return "", p.unexpected("an alarm's name")
	}
	if !p.sign(')') {
		return "", p.unexpected(`")"`)
	}
	if !slices.Contains(p.names, name) {
		p.names = append(p.names, name)
	}
	return name, nil
}

// NameOf is the name of an alarm that is given by its name or its ARN.
func NameOf(text string) string {
	if _, name, ok := strings.Cut(text, ":alarm:"); ok && strings.HasPrefix(text, "arn:") {
		return name
	}
	return text
}

// Cycle returns the alarms by which name depends on itself, name at both ends; nil: it does not. children tells what a
// composite alarm depends on.
func Cycle(name string, children func(name string) []string) []string {
	done := map[string]bool{}
	path := []string{name}
	var walk func() bool
	walk = func() bool {
		for _, child := range children(path[len(path)-1]) {
			if child != name && done[child] {
				continue
			}
			done[child] = true
			path = append(path, child)
			if child == name || walk() {
				return true
			}
			path = path[:len(path)-1]
		}
		return false
	}
	if walk() {
		return path
	}
	return nil
}
