package jmespath

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A value is nil, bool, int64, float64, string, []any or Object. Integers and doubles stay apart, as in Python:
// the AWS CLI prints a port as 6379 and a threshold as 10.0.

// Object is a JSON object that keeps the order of its members.
type Object []Member

// Member is a part of an object.
type Member struct {
	Name  string
	Value any
}

// Get is the member's value; nil when there is none.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// Has tells a member that is null from one that is not there.
func (o Object) Has(name string) bool {
	return slices.ContainsFunc(o, func(m Member) bool { return m.Name == name })
}

// With is o with the member set: in its place when o has it, else at the end. o itself stays as it is.
func (o Object) With(name string, value any) Object {
	o = slices.Clone(o)
	for i := range o {
		if o[i].Name == name {
			o[i].Value = value
			return o
		}
	}
	return append(o, Member{name, value})
}

// Names are those of the members, in their order.
func (o Object) Names() []string {
	var all []string
	for _, m := range o {
		all = append(all, m.Name)
	}
	return all
}

// Equal compares by content; 1 and 1.0 are equal, and the order of members does not matter.
func Equal(a, b any) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case Object:
		b, ok := b.(Object)
		if !ok || len(a) != len(b) {
			return false
		}
		for _, m := range a {
			if !b.Has(m.Name) || !Equal(m.Value, b.Get(m.Name)) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, Object:
		return false
	}
	return a == b
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// truth says what counts as true: all but null, false, and what is empty.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case Object:
		return len(v) > 0
	}
	return true
}

// JSON writes a value as Python's json.dumps does without escaping what is not ASCII. indent 0 is all on one
// line without spaces.
func JSON(v any, indent int) string {
	var b strings.Builder
	writeJSON(&b, v, indent, 0)
	return b.String()
}

func writeJSON(b *strings.Builder, v any, indent, depth int) {
	line := func(depth int) {
		if indent > 0 {
			b.WriteString("\n" + strings.Repeat(" ", indent*depth))
		}
	}
	switch v := v.(type) {
	case []any:
		if len(v) == 0 {
			b.WriteString("[]")
			return
		}
		for i, item := range v {
			b.WriteString(pick(i == 0, "[", ","))
			line(depth + 1)
			writeJSON(b, item, indent, depth+1)
		}
		line(depth)
		b.WriteString("]")
	case Object:
		if len(v) == 0 {
			b.WriteString("{}")
			return
		}
		for i, m := range v {
			b.WriteString(pick(i == 0, "{", ","))
			line(depth + 1)
			writeString(b, m.Name)
			b.WriteString(pick(indent > 0, ": ", ":"))
			writeJSON(b, m.Value, indent, depth+1)
		}
		line(depth)
		b.WriteString("}")
	case string:
		writeString(b, v)
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(Double(v))
	}
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// Double is a double as Python prints it: the shortest digits that read back, never without a point or exponent.
func Double(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	if size := math.Abs(v); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

var short = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}

func writeString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch escaped := short[r]; {
		case escaped != "":
			b.WriteString(escaped)
		case r < 0x20:
			b.WriteString(`\u00` + strconv.FormatInt(int64(r)+0x100, 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

func length(s string) int64 { return int64(utf8.RuneCountInString(s)) }
