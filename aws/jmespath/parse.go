// Package jmespath asks JSON values questions in JMESPath, as the AWS CLI's --query does. It exists beside the
// known libraries because those lose the order of members and the difference between 10 and 10.0, both of which
// the AWS CLI prints.
//
// The language is that of https://jmespath.org/specification.html.
package jmespath

import "fmt"

// Query is an expression that was read.
type Query struct{ root node }

// node gives what its part of the expression makes of a value.
type node func(v any) (any, error)

// Compile reads an expression. The error says what was not understood, and where.
func Compile(text string) (*Query, error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	n, err := p.expression(0)
	if err == nil && p.peek() != "end" {
		err = p.unexpected()
	}
	if err != nil {
		return nil, err
	}
	return &Query{n}, nil
}

// Search evaluates the expression on v. Errors come from functions that were given what they do not take.
func (q *Query) Search(v any) (any, error) { return q.root(v) }

// binds says how strongly a sign holds what stands left of it. Below projectionEnds it ends a projection.
var binds = map[string]int{
	"|": 1, "||": 2, "&&": 3, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5,
	"[]": 9, "*": 20, "[?": 21, ".": 40, "!": 45, "{": 50, "[": 55, "(": 60,
}

const projectionEnds = 10

// deepest bounds how far an expression may nest: it comes from a command line, but a stack has an end.
const deepest = 500

type parser struct {
	tokens []token
	at     int
	depth  int
}

func (p *parser) peek() string { return p.tokens[p.at].kind }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != "end" {
		p.at++
	}
	return t
}

func (p *parser) expect(kind string) error {
	if p.peek() != kind {
		return p.unexpected()
	}
	p.take()
	return nil
}

func (p *parser) unexpected() error {
	t := p.tokens[p.at]
	if t.kind == "end" {
		return fmt.Errorf("the expression ends too early, at column %d", t.at)
	}
	shown := t.kind
	if t.text != "" {
		shown = t.text
	}
	return fmt.Errorf("unexpected %q at column %d", shown, t.at)
}

// expression reads on while the next sign binds more strongly than power.
func (p *parser) expression(power int) (node, error) {
	if p.depth++; p.depth > deepest {
		return nil, fmt.Errorf("the expression nests deeper than %d", deepest)
	}
	defer func() { p.depth-- }()
	left, err := p.first()
	for err == nil && power < binds[p.peek()] {
		left, err = p.further(left)
	}
	return left, err
}

// first reads what may begin an expression.
func (p *parser) first() (node, error) {
	t := p.tokens[p.at]
	switch t.kind {
	case "name", "quoted", "literal", "@", "*", "(", "!", "[", "[?", "[]", "{":
		p.take()
	}
	switch t.kind {
	case "name":
		if p.peek() == "(" {
			return p.call(t)
		}
		return field(t.text), nil
	case "quoted":
		return field(t.text), nil
	case "literal":
		return func(any) (any, error) { return t.value, nil }, nil
	case "@":
		return itself, nil
	case "*":
		return p.project(values(itself), binds["*"])
	case "(":
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	case "!":
		n, err := p.expression(binds["!"])
		return not(n), err
	case "[?", "[]":
		return p.behindBracket(t.kind, itself)
	case "[":
		if k := p.peek(); k == "number" || k == ":" || k == "*" && p.tokens[p.at+1].kind == "]" {
			return p.behindBracket(t.kind, itself)
		}
		return p.list()
	case "{":
		return p.hash()
	}
	return nil, p.unexpected()
}

// further reads what goes on from left.
func (p *parser) further(left node) (node, error) {
	t := p.take()
	switch t.kind {
	case ".":
		if p.peek() == "*" {
			p.take()
			return p.project(values(left), binds["*"])
		}
		right, err := p.behindDot(binds["."])
		return chain(left, right), err
	case "|":
		right, err := p.expression(binds["|"])
		return chain(left, right), err
	case "||", "&&":
		right, err := p.expression(binds[t.kind])
		return either(left, right, t.kind == "||"), err
	case "==", "!=", "<", "<=", ">", ">=":
		right, err := p.expression(binds[t.kind])
		return compare(left, right, t.kind), err
	case "[", "[?", "[]":
		return p.behindBracket(t.kind, left)
	}
	p.at--
	return nil, p.unexpected()
}

func (p *parser) behindDot(power int) (node, error) {
	switch p.peek() {
	case "name", "quoted", "*":
		return p.expression(power)
	case "[":
		p.take()
		return p.list()
	case "{":
		p.take()
		return p.hash()
	}
	return nil, p.unexpected()
}

// behindBracket reads an index, a slice or a projection of left: the sign itself was taken.
func (p *parser) behindBracket(sign string, left node) (node, error) {
	switch sign {
	case "[]":
		return p.project(flat(left), binds["[]"])
	case "[?":
		condition, err := p.expression(0)
		if err == nil {
			err = p.expect("]")
		}
		if err != nil {
			return nil, err
		}
		return p.project(filter(left, condition), binds["[?"])
	}
	if p.peek() == "*" {
		p.take()
		if err := p.expect("]"); err != nil {
			return nil, err
		}
		return p.project(elements(left), binds["*"])
	}
	parts, err := p.numbers()
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		if parts[0] == nil {
			return nil, p.unexpected()
		}
		return chain(left, index(int(*parts[0]))), nil
	}
	if len(parts) == 3 && parts[2] != nil && *parts[2] == 0 {
		return nil, fmt.Errorf("a slice's step is 0")
	}
	return p.project(chain(left, slice(parts)), binds["*"])
}

// numbers reads up to three numbers with colons between them, and the bracket behind.
func (p *parser) numbers() (parts []*int64, err error) {
	parts = []*int64{nil}
	for {
		switch t := p.take(); {
		case t.kind == "number" && parts[len(parts)-1] == nil:
			n, ok := t.value.(int64)
			if !ok {
				return nil, fmt.Errorf("%v at column %d is too large", t.value, t.at)
			}
			parts[len(parts)-1] = &n
		case t.kind == ":" && len(parts) < 3:
			parts = append(parts, nil)
		case t.kind == "]":
			return parts, nil
		default:
			if t.kind != "end" {
				p.at--
			}
			return nil, p.unexpected()
		}
	}
}

// project applies what follows to each element of what over gives.
func (p *parser) project(over node, power int) (node, error) {
	right, err := itself, error(nil)
	switch k := p.peek(); {
	case binds[k] < projectionEnds:
	case k == "[" || k == "[?":
		right, err = p.expression(power)
	case k == ".":
		p.take()
		right, err = p.behindDot(power)
	default:
		err = p.unexpected()
	}
	return each(over, right), err
}

func (p *parser) list() (node, error) {
	var parts []node
	for {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		parts = append(parts, n)
		if p.peek() != "," {
			break
		}
		p.take()
	}
	return listOf(parts), p.expect("]")
}

func (p *parser) hash() (node, error) {
	var names []string
	var parts []node
	for {
		if k := p.peek(); k != "name" && k != "quoted" {
			return nil, p.unexpected()
		}
		t := p.take()
		if err := p.expect(":"); err != nil {
			return nil, err
		}
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		names, parts = append(names, t.text), append(parts, n)
		if p.peek() != "," {
			break
		}
		p.take()
	}
	return hashOf(names, parts), p.expect("}")
}

// call reads a function's arguments.
func (p *parser) call(name token) (node, error) {
	p.take()
	var args []argument
	for p.peek() != ")" {
		if len(args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		expression := p.peek() == "&"
		if expression {
			p.take()
		}
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		args = append(args, argument{n, expression})
	}
	p.take()
	return function(name.text, args)
}
