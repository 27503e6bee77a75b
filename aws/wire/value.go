package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A request's decoder makes a tree of its body, guided by the shape; bind puts the tree into a struct. Trees are
// map[string]any (structures and maps), []any, string, json.Number, int64, float64, bool, time.Time and []byte.
// unbind goes the other way, and keeps the model's order: object, []any and the same scalars.

type object []field

type field struct {
	member *Member
	value  any
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	bytesType = reflect.TypeFor[[]byte]()
)

// fieldCache finds a struct's field for a member: Go's names begin with a capital.
var fieldCache sync.Map // fieldKey -> []int, nil when there is none

type fieldKey struct {
	t    reflect.Type
	name string
}

func fieldOf(t reflect.Type, member string) []int {
	key := fieldKey{t, member}
	if i, ok := fieldCache.Load(key); ok {
		return i.([]int)
	}
	var index []int
	if f, ok := t.FieldByName(strings.ToUpper(member[:1]) + member[1:]); ok {
		index = f.Index
	}
	fieldCache.Store(key, index)
	return index
}

// fits reports the first member of s that a value of type t cannot hold.
func fits(s *Shape, t reflect.Type, seen []*Shape) error {
	for _, above := range seen {
		if above == s {
			return nil
		}
	}
	seen = append(seen, s)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case s.Union: // an interface of the SDK, which nothing here needs; see bind
		return nil
	case s.Type == "structure" && t.Kind() == reflect.Struct:
		for _, m := range s.Members {
			i := fieldOf(t, m.Name)
			if i == nil {
				return fmt.Errorf("%s has no field for %s.%s", t, s.Name, m.Name)
			}
			if err := fits(m.Shape, t.FieldByIndex(i).Type, seen); err != nil {
				return err
			}
		}
		return nil
	case s.Type == "list" && t.Kind() == reflect.Slice:
		return fits(s.Member.Shape, t.Elem(), seen)
	case s.Type == "map" && t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		return fits(s.Value.Shape, t.Elem(), seen)
	case s.Type == "timestamp" && t == timeType, s.Type == "blob" && t == bytesType,
		s.Type == "string" && t.Kind() == reflect.String, s.Type == "boolean" && t.Kind() == reflect.Bool,
		(s.Type == "integer" || s.Type == "long") && (t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64),
		(s.Type == "double" || s.Type == "float") && (t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32):
		return nil
	}
	return fmt.Errorf("%s cannot hold %s, a %s", t, s.Name, s.Type)
}

// bind sets to from a tree. Members that the model does not have are ignored, as AWS does; a value of another
// type is an error, which names the path.
func bind(s *Shape, tree any, to reflect.Value, path string) error {
	if tree == nil {
		return nil
	}
	if s.Union {
		return errUnsupported(path)
	}
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		return bind(s, tree, to.Elem(), path)
	}
	switch s.Type {
	case "structure", "map":
		values, ok := tree.(map[string]any)
		if !ok {
			return errMalformed("%s is not a %s", path, s.Type)
		}
		if s.Type == "map" {
			return bindMap(s, values, to, path)
		}
		for _, m := range s.Members {
			if err := bind(m.Shape, values[m.Name], to.FieldByIndex(fieldOf(to.Type(), m.Name)), join(path, m.Name)); err != nil {
				return err
			}
		}
		return nil
	case "list":
		items, ok := tree.([]any)
		if !ok {
			return errMalformed("%s is not a list", path)
		}
		list := reflect.MakeSlice(to.Type(), len(items), len(items))
		for i, item := range items {
			if err := bind(s.Member.Shape, item, list.Index(i), fmt.Sprintf("%s.%d", path, i+1)); err != nil {
				return err
			}
		}
		to.Set(list)
		return nil
	}
	return bindScalar(s, tree, to, path)
}

func bindMap(s *Shape, values map[string]any, to reflect.Value, path string) error {
	all := reflect.MakeMapWithSize(to.Type(), len(values))
	for k, v := range values {
		value := reflect.New(to.Type().Elem()).Elem()
		if err := bind(s.Value.Shape, v, value, join(path, k)); err != nil {
			return err
		}
		all.SetMapIndex(reflect.ValueOf(k).Convert(to.Type().Key()), value)
	}
	to.Set(all)
	return nil
}

func bindScalar(s *Shape, tree any, to reflect.Value, path string) error {
	v, ok := scalar(s.Type, tree)
	if !ok {
		return errMalformed("%s is not a %s", path, s.Type)
	}
	switch v := v.(type) {
	case string:
		to.SetString(v)
	case bool:
		to.SetBool(v)
	case int64:
		if to.OverflowInt(v) {
			return errMalformed("%s is out of range", path)
		}
		to.SetInt(v)
	case float64:
		to.SetFloat(v)
	case time.Time:
		to.Set(reflect.ValueOf(v))
	case []byte:
		to.SetBytes(v)
	}
	return nil
}

// scalar turns a tree's leaf into the shape's type: string, bool, int64, float64, time.Time or []byte.
func scalar(kind string, tree any) (any, bool) {
	switch kind {
	case "string":
		v, ok := tree.(string)
		return v, ok
	case "boolean":
		if text, ok := tree.(string); ok {
			return strings.EqualFold(text, "true"), strings.EqualFold(text, "true") || strings.EqualFold(text, "false")
		}
		v, ok := tree.(bool)
		return v, ok
	case "integer", "long":
		return integer(tree, kind == "integer")
	case "double", "float":
		return float(tree)
	case "timestamp":
		return timestamp(tree)
	case "blob":
		if text, ok := tree.(string); ok {
			v, err := base64.StdEncoding.DecodeString(text)
			return v, err == nil
		}
		v, ok := tree.([]byte)
		return v, ok
	}
	return nil, false
}

func integer(tree any, short bool) (any, bool) {
	var v int64
	switch tree := tree.(type) {
	case int64:
		v = tree
	case string:
		n, err := strconv.ParseInt(tree, 10, 64)
		if err != nil {
			return nil, false
		}
		v = n
	case json.Number:
		n, err := strconv.ParseInt(string(tree), 10, 64)
		if err != nil { // 60.0 and 6e1 are integers too
			f, err := tree.Float64()
			if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
				return nil, false
			}
			n = int64(f)
		}
		v = n
	case float64:
		if tree != math.Trunc(tree) || math.Abs(tree) > 1<<53 {
			return nil, false
		}
		v = int64(tree)
	default:
		return nil, false
	}
	return v, !short || v == int64(int32(v))
}

func float(tree any) (any, bool) {
	switch tree := tree.(type) {
	case float64:
		return tree, true
	case int64:
		return float64(tree), true
	case json.Number:
		v, err := tree.Float64()
		return v, err == nil
	case string: // Query; and NaN, Infinity and -Infinity in JSON
		v, err := strconv.ParseFloat(tree, 64)
		return v, err == nil && !strings.ContainsAny(tree, "xX_")
	}
	return nil, false
}

// layouts are the forms of a timestamp in Query: ISO 8601, with what may be left out.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"}

// latest bounds timestamps: the end of the year 9999, past which no text can show one.
const latest = 253402300799

func timestamp(tree any) (any, bool) {
	switch tree := tree.(type) {
	case time.Time:
		return tree.UTC(), tree.Year() > 0 && tree.Year() < 10000
	case int64:
		return time.Unix(tree, 0).UTC(), 0 <= tree && tree <= latest
	case float64:
		if !(0 <= tree && tree <= latest) { // also NaN
			return nil, false
		}
		return time.UnixMicro(int64(math.Round(tree * 1e6))).UTC(), true
	case json.Number:
		v, err := tree.Float64()
		if err != nil {
			return nil, false
		}
		return timestamp(v)
	case string:
		for _, layout := range layouts {
			if t, err := time.Parse(layout, tree); err == nil {
				return timestamp(t)
			}
		}
		return timestampDigits(tree)
	}
	return nil, false
}

// timestampDigits reads epoch seconds in a text.
func timestampDigits(text string) (any, bool) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" {
		return nil, false
	}
	return timestamp(v)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unbind is the tree of a value; ok is false when there is none. top keeps lists that are empty, as AWS does in
// the outermost structure: clients look for them.
func unbind(s *Shape, v reflect.Value, top bool) (tree any, ok bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil, false
		}
		v = v.Elem()
	}
	switch s.Type {
	case "structure":
		if s.Union {
			return nil, false
		}
		var o object
		for _, m := range s.Members {
			i := fieldOf(v.Type(), m.Name)
			if i == nil { // an error's struct may lack a member
				continue
			}
			part := v.FieldByIndex(i)
			value, ok := unbind(m.Shape, part, false)
			if !ok && top && m.Shape.Type == "list" {
				value, ok = []any{}, true
			}
			if ok {
				o = append(o, field{m, value})
			}
		}
		return o, true
	case "list":
		if v.IsNil() {
			return nil, false
		}
		items := make([]any, 0, v.Len())
		for i := range v.Len() {
			if item, ok := unbind(s.Member.Shape, v.Index(i), false); ok {
				items = append(items, item)
			}
		}
		return items, true
	case "map":
		return unbindMap(s, v)
	}
	return unbindScalar(s, v)
}

func unbindMap(s *Shape, v reflect.Value) (any, bool) {
	if v.IsNil() {
		return nil, false
	}
	keys := v.MapKeys()
	sortStrings(keys)
	o := make(object, 0, len(keys))
	for _, k := range keys {
		if value, ok := unbind(s.Value.Shape, v.MapIndex(k), false); ok {
			o = append(o, field{&Member{Name: k.String(), Shape: s.Value.Shape}, value})
		}
	}
	return o, true
}

func unbindScalar(s *Shape, v reflect.Value) (any, bool) {
	switch s.Type {
	case "string": // the SDK's enums are strings, and "" is none of their values
		return v.String(), v.String() != "" || v.Type() == reflect.TypeFor[string]()
	case "boolean":
		return v.Bool(), true
	case "integer", "long":
		return v.Int(), true
	case "double", "float":
		return v.Float(), true
	case "timestamp":
		return v.Interface().(time.Time).UTC(), true
	case "blob":
		return v.Bytes(), !v.IsNil()
	}
	panic(fmt.Sprintf("wire: shape %s has the type %q", s.Name, s.Type))
}
