package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Query: parameters in a form, NodeGroupsToRetain.NodeGroupToRetain.1=0001, and XML back.

// deepest bounds how far names may be nested; the models' deepest has nine parts.
const deepest = 32

// param is a part of the names of parameters: Tags has member, that has 1, that has Key.
type param struct {
	value string
	given bool // this very name has a value
	parts map[string]*param
}

// params makes a tree of a form. Of a name that comes twice, the first counts.
func params(form url.Values) (*param, error) {
	root := &param{}
	for name, values := range form {
		if len(values) == 0 || strings.Count(name, ".") > deepest || !utf8.ValidString(values[0]) {
			return nil, errMalformed("The parameter %.100q is not valid", name)
		}
		at := root
		for part := range strings.SplitSeq(name, ".") {
			next := at.parts[part]
			if next == nil {
				if at.parts == nil {
					at.parts = map[string]*param{}
				}
				next = &param{}
				at.parts[part] = next
			}
			at = next
		}
		at.value, at.given = values[0], true
	}
	return root, nil
}

// queryTree picks what the shape has. A parameter that has no place in it is ignored.
func queryTree(s *Shape, p *param) any {
	if p == nil {
		return nil
	}
	switch s.Type {
	case "structure":
		if p.parts == nil {
			return nil
		}
		values := map[string]any{}
		for _, m := range s.Members {
			if v := queryTree(m.Shape, p.parts[m.wire("")]); v != nil {
				values[m.Name] = v
			}
		}
		return values
	case "list":
		return queryList(s, p)
	case "map":
		return queryMap(s, p)
	}
	if !p.given {
		return nil
	}
	return p.value
}

// queryList takes the modelled name of the items, "member", or none at all: clients of all three kinds exist.
func queryList(s *Shape, p *param) any {
	for _, items := range []*param{p.parts[s.tag()], p.parts["member"], p} {
		if items == nil {
			continue
		}
		if list := numbered(items); list != nil {
			values := make([]any, 0, len(list))
			for _, item := range list {
				if v := queryTree(s.Member.Shape, item); v != nil {
					values = append(values, v)
				}
			}
			return values
		}
	}
	if p.given && p.value == "" { // "Tags=" is the empty list
		return []any{}
	}
	return nil
}

func queryMap(s *Shape, p *param) any {
	var values map[string]any
	for _, entries := range []*param{p.parts["entry"], p} {
		if entries == nil {
			continue
		}
		for _, e := range numbered(entries) {
			key := e.parts[s.Key.wire("key")]
			if key == nil || !key.given {
				continue
			}
			if values == nil {
				values = map[string]any{}
			}
			values[key.value] = queryTree(s.Value.Shape, e.parts[s.Value.wire("value")])
		}
		if values != nil {
			return values
		}
	}
	return nil
}

// numbered are the parts 1, 2, 3 … in that order. Gaps do not matter.
func numbered(p *param) []*param {
	type item struct {
		n int
		p *param
	}
	var items []item
	for name, part := range p.parts {
		if n, err := strconv.Atoi(name); err == nil && n >= 0 {
			items = append(items, item{n, part})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.n - b.n })
	var list []*param
	for _, i := range items {
		list = append(list, i.p)
	}
	return list
}

// writeXML writes a tree as the content of the element that it stands in.
func writeXML(b *bytes.Buffer, s *Shape, tree any) {
	switch v := tree.(type) {
	case object:
		if s.Type == "map" {
			for _, f := range v {
				b.WriteString("<entry>")
				element(b, s.Key.wire("key"), func() { escape(b, f.member.Name) })
				element(b, s.Value.wire("value"), func() { writeXML(b, s.Value.Shape, f.value) })
				b.WriteString("</entry>")
			}
			return
		}
		for _, f := range v {
			element(b, f.member.wire(""), func() { writeXML(b, f.member.Shape, f.value) })
		}
	case []any:
		for _, item := range v {
			element(b, s.tag(), func() { writeXML(b, s.Member.Shape, item) })
		}
	case string:
		escape(b, v)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case time.Time:
		b.WriteString(timeText(v))
	case []byte:
		b.WriteString(base64.StdEncoding.EncodeToString(v))
	}
}

func element(b *bytes.Buffer, name string, content func()) {
	b.WriteString("<" + name + ">")
	content()
	b.WriteString("</" + name + ">")
}

// escape also replaces what XML 1.0 cannot hold at all.
func escape(b *bytes.Buffer, text string) { _ = xml.EscapeText(b, []byte(text)) }

// floatText is a double as Java prints it, as far as clients can tell: NaN, Infinity, 1.0E10 are all read.
func floatText(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	text := strconv.FormatFloat(v, 'G', -1, 64)
	if !strings.ContainsAny(text, ".EN") {
		text += ".0"
	}
	return text
}

// timeText has milliseconds only where there are any, as AWS does.
func timeText(t time.Time) string {
	if t = t.Truncate(time.Millisecond); t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05Z")
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

func sortStrings(keys []reflect.Value) {
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
}
