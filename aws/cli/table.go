package cli

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"understudy/aws/jmespath"
)

// section is a part of a table: a title, a line of headers, and rows.
type section struct {
	title   string
	depth   int
	headers []string
	rows    [][]string
}

// table draws an answer as the AWS CLI does: nested parts below, each with one more | at its sides. Headers are
// in the order of the alphabet. What is wider than the terminal is turned by a right angle.
func (c *command) table(w io.Writer, title string, v any) error {
	t := &table{}
	if err := t.add(title, v, 0); err != nil || len(t.sections) == 0 {
		return err
	}
	width := t.width()
	if width > c.opts.Width {
		t.turn()
		width = t.width()
	}
	var b strings.Builder
	b.WriteString(strings.Repeat("-", width) + "\n")
	for _, s := range t.sections {
		s.draw(&b, width-2*s.depth)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type table struct{ sections []*section }

func (t *table) section(title string, depth int) *section {
	s := &section{title: title, depth: depth}
	t.sections = append(t.sections, s)
	return s
}

func (t *table) last() *section { return t.sections[len(t.sections)-1] }

func (s *section) row(fields ...string) error {
	if len(s.rows) > 0 && len(s.rows[0]) != len(fields) || len(s.headers) > 0 && len(s.headers) != len(fields) {
		//lint:ignore ST1005 AWS's text
		return fmt.Errorf("Row should have %d elements, instead it has %d", max(len(s.headers), len(s.rows)), len(fields))
	}
	s.rows = append(s.rows, fields)
	return nil
}

// add draws a value below a title; "" goes on in the section before.
func (t *table) add(title string, v any, depth int) error {
	switch v := v.(type) {
	case jmespath.Object:
		if len(v) == 0 {
			return nil
		}
		if title != "" || len(t.sections) == 0 {
			t.section(title, depth)
		}
		return t.object(v, depth)
	case []any:
		if len(v) == 0 {
			return nil
		}
		if title != "" || len(t.sections) == 0 {
			t.section(title, depth)
		}
		if _, ok := v[0].(jmespath.Object); ok {
			return t.objects(v, title, depth)
		}
		return t.items(v)
	case nil:
		return nil
	}
	t.section(title, depth)
	return t.last().row(plainText(v))
}

func (t *table) items(list []any) error {
	for _, x := range list {
		inner, isList := x.([]any)
		var err error
		switch {
		case isPlain(x):
			err = t.last().row(plainText(x))
		case isList && !slices.ContainsFunc(inner, func(x any) bool { return !isPlain(x) }):
			var fields []string
			for _, y := range inner {
				fields = append(fields, plainText(y))
			}
			err = t.last().row(fields...)
		default:
			err = t.add("", x, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// members are the names of an object's scalars and of its other parts, sorted.
func members(list ...any) (plain, parts []string) {
	for _, x := range list {
		o, _ := x.(jmespath.Object)
		for _, m := range o {
			to := &parts
			if isPlain(m.Value) {
				to = &plain
			}
			if !slices.Contains(*to, m.Name) {
				*to = append(*to, m.Name)
			}
		}
	}
	slices.Sort(plain)
	slices.Sort(parts)
	return plain, parts
}

func (t *table) object(o jmespath.Object, depth int) error {
	plain, parts := members(o)
	var fields []string
	for _, name := range plain {
		fields = append(fields, plainText(o.Get(name)))
	}
	var err error
	if len(plain) == 1 {
		err = t.last().row(plain[0], fields[0])
	} else if len(plain) > 1 {
		t.last().headers = plain
		err = t.last().row(fields...)
	}
	for _, name := range parts {
		if err == nil {
			err = t.add(name, o.Get(name), depth+1)
		}
	}
	return err
}

func (t *table) objects(list []any, title string, depth int) error {
	plain, parts := members(list...)
	t.last().headers = plain
	for i, x := range list {
		o, _ := x.(jmespath.Object)
		if i > 0 && len(parts) > 0 {
			t.section(title, depth).headers = plain
		}
		fields := []string{}
		for _, name := range plain {
			field := ""
			if o.Has(name) && isPlain(o.Get(name)) {
				field = plainText(o.Get(name))
			}
			fields = append(fields, field)
		}
		if err := t.last().row(fields...); err != nil {
			return err
		}
		for _, name := range parts {
			if o.Has(name) {
				if err := t.add(name, o.Get(name), depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// turn makes rows of the columns of every section that has one row only.
func (t *table) turn() {
	for i, s := range t.sections {
		if len(s.rows) != 1 || len(s.headers) == 0 {
			continue
		}
		turned := &section{title: s.title, depth: s.depth}
		for j, header := range s.headers {
			turned.rows = append(turned.rows, []string{header, s.rows[0][j]})
		}
		t.sections[i] = turned
	}
}

func (t *table) width() (width int) {
	for _, s := range t.sections {
		n := 0
		for _, w := range s.columns() {
			n += w
		}
		width = max(width, n+2+2*s.depth, columns(s.title)+2+2*s.depth)
	}
	return width
}

// columns is how wide a text is shown: East Asian signs take two.
func columns(text string) (n int) {
	for _, r := range text {
		n++
		if r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff ||
			r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd) {
			n++
		}
	}
	return n
}

// cellPadding is the space around a field.
const cellPadding = 4

func (s *section) columns() (widths []int) {
	for _, row := range append([][]string{s.headers}, s.rows...) {
		for i, field := range row {
			if i == len(widths) {
				widths = append(widths, cellPadding)
			}
			widths[i] = max(widths[i], columns(field)+cellPadding)
		}
	}
	return widths
}

// scaled stretches the columns over the table's width.
func (s *section) scaled(width int) []int {
	widths := s.columns()
	sum := 0
	for _, w := range widths {
		sum += w
	}
	over := -width
	for i, w := range widths {
		widths[i] = int(math.RoundToEven(float64(width) / float64(sum) * float64(w)))
		over += widths[i]
	}
	for i := 0; over > 0; i++ { // from the left
		widths[i%len(widths)]--
		over--
	}
	for i := len(widths) - 1; over < 0; i-- { // from the right
		widths[(i+len(widths)*(1-over))%len(widths)]++
		over++
	}
	return widths
}

func (s *section) draw(b *strings.Builder, width int) {
	edge := strings.Repeat("|", s.depth)
	line := func(text string) { b.WriteString(edge + text + edge + "\n") }
	if s.title != "" {
		line(centre(s.title, width, "|"))
		if len(s.headers) == 0 && len(s.rows) == 0 {
			line("+" + strings.Repeat("-", width-2) + "+")
		}
	}
	if len(s.headers) == 0 && len(s.rows) == 0 {
		return
	}
	widths := s.scaled(width)
	rule := "+"
	for i, w := range widths {
		rule += strings.Repeat("-", w-1-first(i)) + "+"
	}
	if len(s.headers) > 0 {
		line(rule)
		text := ""
		for i, header := range s.headers {
			text += centre(header, widths[i], strings.Repeat("|", first(i)))
		}
		line(text)
	}
	if len(s.rows) == 0 || len(widths) == 0 {
		return
	}
	line(rule)
	for _, row := range s.rows {
		text := ""
		for i, field := range row {
			text += left(field, widths[i], strings.Repeat("|", first(i)))
		}
		line(text)
	}
	line(rule)
}

// first is 1 for the first column, which has an edge on its left.
func first(i int) int {
	if i == 0 {
		return 1
	}
	return 0
}

func centre(text string, width int, edge string) string {
	n := columns(text)
	before := max(0, width/2-n/2-1)
	return edge + strings.Repeat(" ", before) + text + strings.Repeat(" ", max(0, width-1-len(edge)-before-n)) + "|"
}

func left(text string, width int, edge string) string {
	n, padding := columns(text), 2
	if width < n+padding+len(edge)+1 {
		padding = 0
	}
	return edge + strings.Repeat(" ", padding) + text + strings.Repeat(" ", max(0, width-len(edge)-padding-n-1)) + "|"
}
