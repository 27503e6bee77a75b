package cli

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// All four services are asked in Query: so does the AWS CLI 2, also of CloudWatch.

// form writes a tree of input as the parameters of a request.
func form(to url.Values, s *wire.Shape, v any, prefix string) {
	under := func(name string) string {
		if prefix == "" {
			return name
		}
		return prefix + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type == "map" {
			for i, key := range sortedKeys(v) {
				entry := under("entry." + strconv.Itoa(i+1))
				to.Set(entry+"."+cmp.Or(s.Key.Wire, "key"), key)
				form(to, s.Value.Shape, v[key], entry+"."+cmp.Or(s.Value.Wire, "value"))
			}
			return
		}
		for _, m := range s.Members {
			if x := v[m.Name]; x != nil {
				form(to, m.Shape, x, under(cmp.Or(m.Wire, m.Name)))
			}
		}
	case []any:
		if len(v) == 0 {
			to.Set(prefix, "")
		}
		for i, x := range v {
			form(to, s.Member.Shape, x, under(cmp.Or(s.Member.Wire, "member")+"."+strconv.Itoa(i+1)))
		}
	case bool:
		to.Set(prefix, strconv.FormatBool(v))
	default:
		if s.Type == "timestamp" {
			t, err := timestamp(v)
			if err == nil { // check has seen that it is one
				to.Set(prefix, utc(t, "Z"))
			}
			return
		}
		to.Set(prefix, fmt.Sprint(v))
	}
}

// utc is a point in time with microseconds where there are any, as Python writes it.
func utc(t time.Time, zone string) string {
	if t = t.UTC().Truncate(time.Microsecond); t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05") + zone
	}
	return t.Format("2006-01-02T15:04:05.000000") + zone
}

func sortedKeys(m map[string]any) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// element is a part of an XML answer.
type element struct {
	name  string
	text  string
	parts []*element
}

// deepestAnswer bounds how far an answer may nest.
const deepestAnswer = 64

// readXML reads a whole document.
func readXML(text []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	root := &element{}
	open := []*element{root}
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 1 && len(root.parts) == 1 {
			return root.parts[0], nil
		}
		if err != nil {
			return nil, err
		}
		at := open[len(open)-1]
		switch t := t.(type) {
		case xml.StartElement:
			if len(open) > deepestAnswer {
				return nil, errors.New("the answer nests too deep")
			}
			e := &element{name: t.Name.Local}
			at.parts = append(at.parts, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			at.text += string(t)
		}
	}
}

func (e *element) part(name string) *element {
	if e == nil {
		return nil
	}
	for _, p := range e.parts {
		if p.name == name {
			return p
		}
	}
	return nil
}

// value is what the shape makes of an element. Members come in the model's order, whatever that of the answer.
func (e *element) value(s *wire.Shape) any {
	switch s.Type {
	case "structure":
		o := jmespath.Object{}
		for _, m := range s.Members {
			if p := e.part(cmp.Or(m.Wire, m.Name)); p != nil {
				o = append(o, jmespath.Member{Name: m.Name, Value: p.value(m.Shape)})
			}
		}
		return o
	case "list":
		list := []any{}
		for _, p := range e.parts {
			if p.name == cmp.Or(s.Member.Wire, "member") {
				list = append(list, p.value(s.Member.Shape))
			}
		}
		return list
	case "map":
		o := jmespath.Object{}
		for _, p := range e.parts {
			key, value := p.part(cmp.Or(s.Key.Wire, "key")), p.part(cmp.Or(s.Value.Wire, "value"))
			if key != nil && value != nil {
				o = o.With(key.text, value.value(s.Value.Shape))
			}
		}
		return o
	}
	return scalarOf(s, e.text)
}

// scalarOf is a text with its type; what does not read as that stays text.
func scalarOf(s *wire.Shape, text string) any {
	switch s.Type {
	case "boolean":
		return text == "true"
	case "integer", "long":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "double", "float":
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	case "timestamp":
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return utc(t, "+00:00")
		}
	}
	return text
}

// answer reads an operation's output.
func answer(m *wire.Model, o *wire.Operation, text []byte) (jmespath.Object, error) {
	shape := m.Shapes[o.Output]
	if shape == nil {
		return jmespath.Object{}, nil
	}
	root, err := readXML(text)
	if err != nil {
		//lint:ignore ST1005 AWS's text
		return nil, fmt.Errorf("Unable to parse response (%w), invalid XML received: %.500s", err, text)
	}
	if inner := root.part(cmp.Or(o.Wrapper, o.Name+"Result")); inner != nil {
		root = inner
	}
	out, _ := root.value(shape).(jmespath.Object)
	return out, nil
}

// refusal is an error that the service answered with.
type refusal struct {
	code, message string
	operation     string
	status        int
	tries         int
}

func (r *refusal) Error() string {
	again := ""
	if r.tries > 1 {
		again = fmt.Sprintf(" (reached max retries: %d)", r.tries-1)
	}
	return fmt.Sprintf("An error occurred (%s) when calling the %s operation%s: %s", r.code, r.operation, again, r.message)
}

// readRefusal makes one of an answer that is no success; of one that is no AWS's, the status is the code.
func readRefusal(operation string, status int, reason string, text []byte) *refusal {
	r := &refusal{code: strconv.Itoa(status), message: reason, operation: operation, status: status}
	root, err := readXML(text)
	if err != nil {
		return r
	}
	e := root.part("Error")
	if code := e.part("Code"); code != nil {
		r.code, r.message = code.text, ""
		if m := e.part("Message"); m != nil {
			r.message = m.text
		}
	}
	return r
}
