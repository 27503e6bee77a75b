package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// shorthand reads the AWS CLI's short form of a structure: Name=a,Value=b,List=c,d,Other=[e,f],Deep={k=v}. In '
// and " everything stands for itself, and \ does that for one sign. key@=file://path is the file's content.
func shorthand(text string) (map[string]any, error) {
	p := &shortParser{text: text}
	v, err := p.pairs("")
	if err == nil && p.at < len(text) {
		err = p.expected(",")
	}
	return v, err
}

type shortParser struct {
	text  string
	at    int
	depth int
}

// deepestShorthand bounds nesting; the models' deepest shape has six levels.
const deepestShorthand = 32

func (p *shortParser) peek() string {
	if p.at >= len(p.text) {
		return ""
	}
	return p.text[p.at : p.at+1]
}

// expected says what should stand at this place.
func (p *shortParser) expected(sign string) error {
	got := "EOF"
	if c := p.peek(); c != "" {
		got = c
	}
	//lint:ignore ST1005 AWS's text
	return fmt.Errorf("Expected: '%s', received: '%s' for input:\n%s\n%s^", sign, got, p.text, strings.Repeat(" ", p.at))
}

func (p *shortParser) expect(sign string) error {
	p.space()
	if p.peek() != sign {
		return p.expected(sign)
	}
	p.at++
	return nil
}

func (p *shortParser) space() {
	for p.at < len(p.text) && strings.ContainsRune(" \t\r\n", rune(p.text[p.at])) {
		p.at++
	}
}

// pairs reads key=value,… up to the sign that closes, or to the end.
func (p *shortParser) pairs(closing string) (map[string]any, error) {
	if p.depth++; p.depth > deepestShorthand {
		return nil, errors.New("it nests too deep")
	}
	defer func() { p.depth-- }()
	values := map[string]any{}
	for {
		p.space()
		if closing != "" && p.peek() == closing {
			return values, nil
		}
		key := p.key()
		file := strings.HasSuffix(key, "@") && p.peek() == "="
		if key = strings.TrimSuffix(key, "@"); key == "" {
			return nil, p.expected("=")
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		v, err := p.value()
		if err == nil && file {
			v, err = content(v)
		}
		if err != nil {
			return nil, err
		}
		if _, twice := values[key]; twice {
			//lint:ignore ST1005 AWS's text
			return nil, fmt.Errorf("Second instance of key \"%s\" encountered for input:\n%s\nThis is often because there is a preceding \",\" instead of a space.", key, p.text)
		}
		values[key] = v
		p.space()
		if p.peek() != "," {
			return values, nil
		}
		p.at++
	}
}

func content(v any) (any, error) {
	path, ok := v.(string)
	if !ok {
		return nil, errors.New("@= takes the name of a file")
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, "file://"), "fileb://")
	text, err := os.ReadFile(path)
	return string(text), err
}

func (p *shortParser) key() string {
	start := p.at
	for p.at < len(p.text) && (p.text[p.at] >= '0' && p.text[p.at] <= '9' || p.text[p.at]|0x20 >= 'a' && p.text[p.at]|0x20 <= 'z' || strings.ContainsRune("_.#/:+-@$", rune(p.text[p.at]))) {
		p.at++
	}
	return p.text[start:p.at]
}

// value reads one, or several with commas between: those that no = follows belong to the same key.
func (p *shortParser) value() (any, error) {
	p.space()
	switch p.peek() {
	case "{":
		p.at++
		v, err := p.pairs("}")
		if err != nil {
			return nil, err
		}
		return v, p.expect("}")
	case "[":
		p.at++
		return p.listed()
	}
	first, err := p.word()
	if err != nil {
		return nil, err
	}
	list := []any{first}
	for {
		before := p.at
		p.space()
		if p.peek() != "," {
			break
		}
		p.at++
		p.space()
		if p.at >= len(p.text) { // a comma at the end makes a list of one
			return list, nil
		}
		if at := p.at; p.key() != "" && (p.peek() == "=") {
			p.at = before
			break
		} else {
			p.at = at
		}
		if strings.ContainsAny(p.peek(), "}],") {
			p.at = before
			break
		}
		x, err := p.word()
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	if len(list) == 1 {
		return first, nil
	}
	return list, nil
}

// listed reads what stands in [ ].
func (p *shortParser) listed() (any, error) {
	if p.depth++; p.depth > deepestShorthand {
		return nil, errors.New("it nests too deep")
	}
	defer func() { p.depth-- }()
	list := []any{}
	for p.space(); p.peek() != "]"; p.space() {
		var x any
		var err error
		switch p.peek() {
		case "{":
			p.at++
			if x, err = p.pairs("}"); err == nil {
				err = p.expect("}")
			}
		case "[":
			p.at++
			x, err = p.listed()
		default:
			x, err = p.word()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, x)
		if p.space(); p.peek() != "," {
			break
		}
		p.at++
	}
	return list, p.expect("]")
}

// word is one value up to a comma or a closing bracket. Inside of brackets of its own, both belong to it only
// when they are quoted or escaped.
func (p *shortParser) word() (string, error) {
	if q := p.peek(); q == "'" || q == `"` {
		return p.quoted(q[0])
	}
	var b strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c == ',' || (c == ']' || c == '}') && p.depth > 1 {
			break
		}
		if c == '\\' && p.at+1 < len(p.text) && p.text[p.at+1] == ',' {
			p.at++
			c = ','
		}
		b.WriteByte(c)
		p.at++
	}
	return strings.TrimRight(b.String(), " \t\r\n"), nil
}

func (p *shortParser) quoted(quote byte) (string, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == quote:
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text) && (p.text[p.at+1] == quote || p.text[p.at+1] == '\\'):
			p.at++
			b.WriteByte(p.text[p.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", p.expected(string(quote))
}
