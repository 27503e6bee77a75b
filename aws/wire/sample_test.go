package wire

import (
	"fmt"
	"reflect"
	"time"
)

// sampler makes values of shapes: every member, lists of two, and texts that are hard to carry. The same
// sampler makes the same values.
type sampler struct {
	n    int
	part time.Duration // of a second, in timestamps: not all clients send any
}

var hardTexts = []string{`a<b>&"'c`, "Zürich 北京", " spaced  out ", "two\nlines\ttab", "100%+1/=?&a=b;.", "é́combining", "plain-name"}

var patternTexts = map[string]string{`\d+`: "0001", `[a-zA-Z][a-zA-Z0-9\-]*`: "ug-1", `[^:].*`: "App/Web",
	`[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+`: "arn:aws:iam::123456789012:user/tester"}

// tree is a value of s; required leaves out what may be left out.
func (g *sampler) tree(s *Shape, required bool, above ...*Shape) any {
	g.n++
	switch s.Type {
	case "structure":
		m := map[string]any{}
		for i, x := range s.Members {
			// Query has no way to say "a structure with nothing in it".
			needed := i == 0 && len(s.Required) == 0 && len(above) > 0
			for _, r := range s.Required {
				needed = needed || r == x.Name
			}
			if x.Shape.Union || required && !needed {
				continue
			}
			m[x.Name] = g.tree(x.Shape, required, append(above, s)...)
		}
		return m
	case "list":
		var list []any
		for range g.count(s) {
			list = append(list, g.tree(s.Member.Shape, required, append(above, s)...))
		}
		return list
	case "map":
		m := map[string]any{}
		for range g.count(s) {
			m[g.tree(s.Key.Shape, required).(string)+fmt.Sprint(g.n)] = g.tree(s.Value.Shape, required, append(above, s)...)
		}
		return m
	}
	return g.scalar(s)
}

func (g *sampler) count(s *Shape) int {
	n := 2
	if s.Min != nil {
		n = max(n, int(*s.Min))
	}
	if s.Max != nil {
		n = min(n, int(*s.Max))
	}
	return n
}

func (g *sampler) scalar(s *Shape) any {
	switch s.Type {
	case "string":
		if len(s.Enum) > 0 {
			return s.Enum[g.n%len(s.Enum)]
		}
		if s.Pattern != "" {
			text, ok := patternTexts[s.Pattern]
			if !ok {
				panic("a sample text is needed for the pattern " + s.Pattern)
			}
			return text
		}
		return hardTexts[g.n%len(hardTexts)]
	case "integer":
		n := int64(g.n)
		if s.Min != nil {
			n = max(n, int64(*s.Min))
		}
		if s.Max != nil {
			n = min(n, int64(*s.Max))
		}
		return n
	case "long":
		return int64(1)<<40 + int64(g.n)
	case "double":
		return []float64{0.1, -3, 1e10, 12345.678, 5e-324, 0}[g.n%6]
	case "boolean":
		return g.n%2 == 0
	case "timestamp":
		return time.Unix(1796000000+int64(g.n), 0).Add(g.part).UTC()
	case "blob":
		return []byte{0, 255, byte(g.n), '<'}
	}
	panic(s.Type)
}

// sampleOf is a struct of the operation's type with what the tree has.
func sampleOf(s *Shape, tree any, t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if err := bind(s, tree, v.Elem(), ""); err != nil {
		panic(err)
	}
	return v
}
