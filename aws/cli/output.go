package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"understudy/aws/jmespath"
)

// printer writes one answer; title is the operation.
type printer func(w io.Writer, title string, v any) error

// output is the format's name: the option's, the environment's or json. What the AWS configuration files say of
// it is not read by the SDK.
func (c *command) output() (string, error) {
	name := cmp.Or(c.globals.output, os.Getenv("AWS_DEFAULT_OUTPUT"), "json")
	if !slices.Contains([]string{"json", "text", "table", "yaml", "yaml-stream"}, name) {
		return "", failure{exitFailed, "Unknown output type: " + name}
	}
	return name, nil
}

func (c *command) format() (printer, error) {
	name, err := c.output()
	switch name {
	case "text":
		return func(w io.Writer, _ string, v any) error {
			t := &textWriter{w: w}
			t.write(v, "", nil)
			return t.err
		}, err
	case "table":
		return c.table, err
	case "yaml":
		return printYAML, err
	case "yaml-stream":
		return func(w io.Writer, title string, v any) error { return printYAML(w, title, []any{v}) }, err
	}
	return printJSON, err
}

func empty(v any) bool {
	o, ok := v.(jmespath.Object)
	return ok && len(o) == 0
}

func printJSON(w io.Writer, _ string, v any) error {
	if empty(v) { // an operation that gives nothing
		return nil
	}
	_, err := fmt.Fprintln(w, jmespath.JSON(v, 4))
	return err
}

func printYAML(w io.Writer, title string, v any) error {
	switch v.(type) {
	case []any, jmespath.Object:
	default:
		return printJSON(w, title, v)
	}
	if empty(v) {
		return nil
	}
	text, err := yaml.MarshalWithOptions(yamlOf(v, true), yaml.UseSingleQuote(true))
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// yamlOf is a value for the YAML library; sorted is how the AWS CLI shows answers.
func yamlOf(v any, sorted bool) any {
	switch v := v.(type) {
	case jmespath.Object:
		if sorted {
			v = slices.SortedFunc(slices.Values(v), func(a, b jmespath.Member) int { return strings.Compare(a.Name, b.Name) })
		}
		m := yaml.MapSlice{}
		for _, x := range v {
			m = append(m, yaml.MapItem{Key: x.Name, Value: yamlOf(x.Value, sorted)})
		}
		return m
	case []any:
		list := []any{}
		for _, x := range v {
			list = append(list, yamlOf(x, sorted))
		}
		return list
	}
	return v
}

// plainText is a scalar as Python's str has it.
func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return python(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return jmespath.Double(v)
	}
	return fmt.Sprint(v)
}

func isPlain(v any) bool {
	switch v.(type) {
	case []any, jmespath.Object:
		return false
	}
	return true
}

// textWriter writes lines of fields with tabs between, each behind the name of the list that it belongs to.
type textWriter struct {
	w   io.Writer
	err error
}

func (t *textWriter) line(fields ...string) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.w, strings.Join(fields, "\t"))
	}
}

// write goes down a value. names are the scalar members that every object of a list shows, so that columns match.
func (t *textWriter) write(v any, title string, names []string) {
	switch v := v.(type) {
	case jmespath.Object:
		t.object(v, title, names)
	case []any:
		t.list(v, title)
	default:
		t.line(plainText(v))
	}
}

func (t *textWriter) object(o jmespath.Object, title string, names []string) {
	all := o.Names()
	slices.Sort(all)
	var fields []string
	if names == nil {
		for _, name := range all {
			if isPlain(o.Get(name)) {
				fields = append(fields, plainText(o.Get(name)))
			}
		}
	}
	for _, name := range names {
		field := ""
		if o.Has(name) {
			field = plainText(o.Get(name))
		}
		fields = append(fields, field)
	}
	if len(fields) > 0 {
		if title != "" {
			fields = append([]string{strings.ToUpper(title)}, fields...)
		}
		t.line(fields...)
	}
	for _, name := range all {
		if !slices.Contains(names, name) && !isPlain(o.Get(name)) {
			t.write(o.Get(name), name, nil)
		}
	}
}

func (t *textWriter) list(list []any, title string) {
	objects := slices.ContainsFunc(list, func(x any) bool { _, ok := x.(jmespath.Object); return ok })
	lists := slices.ContainsFunc(list, func(x any) bool { _, ok := x.([]any); return ok })
	switch {
	case objects:
		names := []string{}
		for _, x := range list {
			o, _ := x.(jmespath.Object)
			for _, m := range o {
				if isPlain(m.Value) && !slices.Contains(names, m.Name) {
					names = append(names, m.Name)
				}
			}
		}
		slices.Sort(names)
		for _, x := range list {
			t.write(x, title, names)
		}
	case lists:
		t.scalars(slices.DeleteFunc(slices.Clone(list), func(x any) bool { return !isPlain(x) }), title)
		for _, x := range list {
			if !isPlain(x) {
				t.write(x, title, nil)
			}
		}
	default:
		t.scalars(list, title)
	}
}

func (t *textWriter) scalars(list []any, title string) {
	var fields []string
	for _, x := range list {
		if title != "" {
			t.line(strings.ToUpper(title), plainText(x))
		}
		fields = append(fields, plainText(x))
	}
	if title == "" && len(fields) > 0 {
		t.line(fields...)
	}
}
