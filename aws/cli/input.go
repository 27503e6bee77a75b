package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"understudy/aws/wire"
)

// A tree of input is map[string]any, []any, string, bool and json.Number.

// readInput begins the tree with what --cli-input-json or --cli-input-yaml gives.
func (c *command) readInput(in *input) error {
	for _, name := range []string{"cli-input-json", "cli-input-yaml"} {
		word := in.own[name]
		if word == "" {
			continue
		}
		if in.own["cli-input-json"] != "" && in.own["cli-input-yaml"] != "" {
			return usage("--cli-input-json cannot be specified with --cli-input-yaml")
		}
		text, err := load(name, word)
		if word == "-" {
			var all []byte
			all, err = io.ReadAll(c.opts.Stdin)
			text = string(all)
		}
		if err != nil {
			return err
		}
		if name == "cli-input-yaml" {
			made, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				return usage("Error parsing parameter 'cli-input-yaml': Invalid YAML received: %v", err)
			}
			text = string(made)
		}
		tree, err := readJSON(text)
		if err != nil {
			return usage("Error parsing parameter '%s': Invalid JSON received: %v", name, err)
		}
		object, ok := tree.(map[string]any)
		if !ok {
			return usage("Error parsing parameter '%s': Invalid type: expecting map, received %s", name, strings.TrimSpace(text))
		}
		in.tree = object
	}
	return nil
}

func readJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("there is more behind the value")
	}
	return v, nil
}

// value is what an option's words say.
func (c *command) value(g given) (any, error) {
	s := g.member.Shape
	if s.Type == "boolean" {
		return !g.off, nil
	}
	words := slices.Clone(g.words)
	if len(words) == 1 {
		text, err := load(g.name, words[0])
		if err != nil {
			return nil, err
		}
		words[0] = text
	}
	if s.Type != "list" && s.Type != "map" && s.Type != "structure" {
		return scalar(s, words[0])
	}
	if len(words) > 0 && looksLikeJSON(words[0]) {
		return jsonValue(g, words)
	}
	var v any
	var err error
	switch {
	case s.Type == "list" && isScalar(s.Member.Shape):
		list := []any{}
		for _, w := range words {
			x, err := scalar(s.Member.Shape, w)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	case s.Type == "list":
		list := []any{}
		for _, w := range words {
			x, err := shorthand(w)
			if err != nil {
				return nil, usage("Error parsing parameter '--%s': %v", g.name, err)
			}
			list = append(list, x)
		}
		v, err = settle(s, list)
	default:
		var x map[string]any
		if x, err = shorthand(words[0]); err == nil {
			v, err = settle(s, x)
		}
	}
	if err != nil {
		return nil, usage("Error parsing parameter '--%s': %v", g.name, err)
	}
	return v, nil
}

func looksLikeJSON(word string) bool {
	word = strings.TrimSpace(word)
	return strings.HasPrefix(word, "[") || strings.HasPrefix(word, "{")
}

// jsonValue is a list as one text, or its items as several.
func jsonValue(g given, words []string) (any, error) {
	var list []any
	for _, w := range words {
		v, err := readJSON(w)
		if err != nil {
			return nil, usage("Error parsing parameter '--%s': Invalid JSON: %v\nJSON received: %s", g.name, err, w)
		}
		if whole, ok := v.([]any); ok && len(words) == 1 && g.member.Shape.Type == "list" {
			return whole, nil
		}
		list = append(list, v)
	}
	if g.member.Shape.Type == "list" {
		return list, nil
	}
	return list[0], nil
}

func isScalar(s *wire.Shape) bool {
	return s.Type != "list" && s.Type != "map" && s.Type != "structure"
}

// scalar is a word as the shape has it. The errors are Python's, which the AWS CLI shows.
func scalar(s *wire.Shape, word string) (any, error) {
	switch s.Type {
	case "integer", "long":
		if _, err := strconv.ParseInt(strings.TrimSpace(word), 10, 64); err != nil {
			return nil, failure{exitFailed, fmt.Sprintf("invalid literal for int() with base 10: '%s'", word)}
		}
		return json.Number(strings.TrimSpace(word)), nil
	case "double", "float":
		if _, err := strconv.ParseFloat(strings.TrimSpace(word), 64); err != nil {
			return nil, failure{exitFailed, fmt.Sprintf("could not convert string to float: '%s'", word)}
		}
		return json.Number(strings.TrimSpace(word)), nil
	case "boolean":
		return strings.EqualFold(word, "true"), nil
	}
	return word, nil
}

// settle gives what shorthand read the types of a shape: there, everything is text.
func settle(s *wire.Shape, v any) (any, error) {
	switch s.Type {
	case "structure":
		values, ok := v.(map[string]any)
		if !ok {
			return v, nil
		}
		for name, x := range values {
			m := memberOf(s, name)
			if m == nil { // check says so
				continue
			}
			x, err := settle(m.Shape, x)
			if err != nil {
				return nil, err
			}
			values[name] = x
		}
		return values, nil
	case "list":
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for i, x := range list {
			x, err := settle(s.Member.Shape, x)
			if err != nil {
				return nil, err
			}
			list[i] = x
		}
		return list, nil
	case "map":
		values, _ := v.(map[string]any)
		for key, x := range values {
			x, err := settle(s.Value.Shape, x)
			if err != nil {
				return nil, err
			}
			values[key] = x
		}
		return v, nil
	}
	if text, ok := v.(string); ok {
		return scalar(s, text)
	}
	return v, nil
}

func memberOf(s *wire.Shape, name string) *wire.Member {
	for _, m := range s.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func memberNames(s *wire.Shape) (names []string) {
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	return names
}

// check refuses what botocore refuses before it sends: unknown and missing members, wrong types, texts and lists
// that are too short, numbers that are too small.
func check(s *wire.Shape, tree any) error {
	var wrong []string
	inspect(s, tree, "", &wrong)
	if len(wrong) == 0 {
		return nil
	}
	return usage("Parameter validation failed:\n%s", strings.Join(wrong, "\n"))
}

var pythonTypes = map[string]string{
	"structure": "<class 'dict'>", "map": "<class 'dict'>", "list": "<class 'list'>, <class 'tuple'>", "string": "<class 'str'>",
	"integer": "<class 'int'>", "long": "<class 'int'>", "boolean": "<class 'bool'>",
	"double": "<class 'float'>, <class 'decimal.Decimal'>, <class 'int'>", "float": "<class 'float'>, <class 'decimal.Decimal'>, <class 'int'>",
}

func inspect(s *wire.Shape, v any, path string, wrong *[]string) {
	say := func(format string, args ...any) { *wrong = append(*wrong, fmt.Sprintf(format, args...)) }
	shown := strings.TrimPrefix(path, ".")
	if !fits(s, v) {
		say("Invalid type for parameter %s, value: %s, type: %s, valid types: %s", shown, python(v), pythonType(v), pythonTypes[s.Type])
		return
	}
	short := func(n int, what string) {
		if s.Min != nil && float64(n) < *s.Min {
			say("Invalid %s for parameter %s, value: %d, valid min %s: %s", what, shown, n, what, strconv.FormatFloat(*s.Min, 'f', -1, 64))
		}
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type == "map" {
			for key, x := range v {
				inspect(s.Value.Shape, x, path+"."+key, wrong)
			}
			return
		}
		inspectMembers(s, v, path, say)
		for _, m := range s.Members {
			if x, ok := v[m.Name]; ok && x != nil {
				inspect(m.Shape, x, path+"."+m.Name, wrong)
			}
		}
	case []any:
		short(len(v), "length")
		for i, x := range v {
			inspect(s.Member.Shape, x, fmt.Sprintf("%s[%d]", path, i), wrong)
		}
	case string:
		if s.Type == "string" {
			short(len([]rune(v)), "length")
		}
	case json.Number:
		if n, err := v.Float64(); err == nil && s.Min != nil && n < *s.Min && s.Type != "timestamp" {
			say("Invalid value for parameter %s, value: %s, valid min value: %s", shown, v, strconv.FormatFloat(*s.Min, 'f', -1, 64))
		}
	}
}

// inspectMembers says which members a structure lacks, and which it should not have.
func inspectMembers(s *wire.Shape, v map[string]any, path string, say func(string, ...any)) {
	where := "input"
	if path != "" {
		where = strings.TrimPrefix(path, ".")
	}
	for _, name := range s.Required {
		if v[name] == nil {
			say("Missing required parameter in %s: \"%s\"", where, name)
		}
	}
	var strange []string
	for name := range v {
		if memberOf(s, name) == nil {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	for _, name := range strange {
		say("Unknown parameter in %s: \"%s\", must be one of: %s", where, name, strings.Join(memberNames(s), ", "))
	}
}

func fits(s *wire.Shape, v any) bool {
	switch s.Type {
	case "structure", "map":
		_, ok := v.(map[string]any)
		return ok
	case "list":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "integer", "long":
		n, ok := v.(json.Number)
		return ok && !strings.ContainsAny(string(n), ".eE")
	case "double", "float":
		_, ok := v.(json.Number)
		return ok
	case "timestamp":
		_, err := timestamp(v)
		return err == nil
	}
	return true
}

func pythonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "<class 'NoneType'>"
	case map[string]any:
		return "<class 'dict'>"
	case []any:
		return "<class 'list'>"
	case bool:
		return "<class 'bool'>"
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return "<class 'float'>"
		}
		return "<class 'int'>"
	}
	return "<class 'str'>"
}

// python is a value as Python shows it.
func python(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case []any:
		var parts []string
		for _, x := range v {
			if text, ok := x.(string); ok {
				x = "'" + text + "'"
			}
			parts = append(parts, python(x))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		text, _ := json.Marshal(v)
		return string(text)
	}
	return fmt.Sprint(v)
}

// timestamp reads a point in time as the AWS CLI takes it: ISO 8601, with the local zone when it names none, or
// seconds since 1970.
func timestamp(v any) (time.Time, error) {
	text := strings.TrimSpace(fmt.Sprint(v))
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02", "20060102"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds < -1e11 || seconds > 1e11 {
		return time.Time{}, fmt.Errorf("%q is no point in time", text)
	}
	return time.UnixMicro(int64(seconds * 1e6)), nil
}
