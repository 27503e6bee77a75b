package sns

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"understudy/notify"
)

// filter is a filter policy of SNS: which messages a subscription wants. It is a pure function of the message.
type filter struct {
	root branch
	body bool // it looks at the body, not at the attributes
}

// branch is an object of the policy: every key must match, and one of each list of alternatives ("$or").
type branch struct {
	leaves   map[string][]condition // by key: one of them must match
	branches map[string]branch
	either   [][]branch
}

// condition is one entry of a key's list.
type condition struct {
	match  func(value any) bool // value is a string, json.Number, bool or nil
	absent bool                 // {"exists": false}
	exists bool                 // {"exists": true}: anything
}

// The bounds of SNS.
const (
	mostKeys         = 5
	mostCombinations = 150
	longestPolicy    = 256 << 10
	deepestPolicy    = 32
)

// parseFilter reads the attribute FilterPolicy; "" and {} want everything: nil. The error is the text after
// "FilterPolicy: ".
func parseFilter(text string, body bool) (*filter, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if len(text) > longestPolicy {
		return nil, badPolicy("it is longer than %d bytes", longestPolicy)
	}
	tree, err := jsonTree(text)
	if err != nil {
		return nil, badPolicy("failed to parse JSON")
	}
	policy, ok := tree.(map[string]any)
	if !ok {
		return nil, badPolicy("Filter policy must be a JSON object")
	}
	if len(policy) == 0 {
		return nil, nil
	}
	p := &parser{body: body, combinations: 1}
	root, err := p.branch(policy, 0)
	switch {
	case err != nil:
		return nil, err
	case p.keys > mostKeys:
		return nil, badPolicy("Filter policy can not have more than %d keys", mostKeys)
	case p.combinations > mostCombinations:
		return nil, badPolicy("Filter policy is too complex: it has more than %d combinations of values", mostCombinations)
	}
	return &filter{root: root, body: body}, nil
}

// badPolicy is an error in the words of SNS, which begin as they like.
func badPolicy(format string, args ...any) error { return fmt.Errorf(format, args...) }

// jsonTree reads one JSON value, with numbers as they were written.
func jsonTree(text string) (tree any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, badPolicy("there is something behind it")
	}
	return tree, nil
}

// parser counts what a policy has.
type parser struct {
	body               bool
	keys, combinations int
}

func (p *parser) branch(policy map[string]any, depth int) (b branch, err error) {
	if depth > deepestPolicy {
		return b, badPolicy("it is nested too deep")
	}
	b = branch{leaves: map[string][]condition{}, branches: map[string]branch{}}
	for key, value := range policy {
		switch value := value.(type) {
		case []any:
			if key == "$or" {
				alternatives, err := p.either(value, depth)
				if err != nil {
					return b, err
				}
				b.either = append(b.either, alternatives)
				continue
			}
			if b.leaves[key], err = p.leaf(key, value, depth); err != nil {
				return b, err
			}
		case map[string]any:
			if !p.body {
				return b, badPolicy("Filter policy scope MessageAttributes does not support nested filter policy")
			}
			if b.branches[key], err = p.branch(value, depth+1); err != nil {
				return b, err
			}
		default:
			return b, badPolicy("%q must be an object or an array", key)
		}
	}
	return b, nil
}

// either is the list of "$or": at least two objects, one of which must match.
func (p *parser) either(list []any, depth int) (all []branch, err error) {
	if len(list) < 2 {
		return nil, badPolicy("\"$or\" must have at least two alternatives")
	}
	for _, x := range list {
		object, ok := x.(map[string]any)
		if !ok {
			return nil, badPolicy("\"$or\" must be a list of objects")
		}
		b, err := p.branch(object, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

func (p *parser) leaf(key string, list []any, depth int) (all []condition, err error) {
	if len(list) == 0 {
		return nil, badPolicy("%q: Empty arrays are not allowed", key)
	}
	p.keys++
	p.combinations = min(mostCombinations+1, p.combinations*len(list)*max(1, depth+1))
	for _, x := range list {
		c, err := parseCondition(x)
		if err != nil {
			return nil, badPolicy("%q: %v", key, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// parseCondition reads one entry of a list: a value, or an object with one operator.
func parseCondition(x any) (condition, error) {
	operator, ok := x.(map[string]any)
	if !ok {
		if _, list := x.([]any); list {
			return condition{}, badPolicy("Match value must be String, number, true, false, or null")
		}
		return condition{match: func(v any) bool { return same(x, v) }}, nil
	}
	if len(operator) != 1 {
		return condition{}, badPolicy("Only one key allowed in match expression")
	}
	for name, operand := range operator {
		if name == "exists" {
			want, ok := operand.(bool)
			if !ok {
				return condition{}, badPolicy("exists match pattern must be either true or false.")
			}
			return condition{match: func(any) bool { return want }, absent: !want, exists: want}, nil
		}
		match, err := parseOperator(name, operand)
		return condition{match: match}, err
	}
	return condition{}, nil
}

// texts are the operators that compare one text.
var texts = map[string]func(value, operand string) bool{
	"prefix":             strings.HasPrefix,
	"suffix":             strings.HasSuffix,
	"equals-ignore-case": strings.EqualFold,
}

func parseOperator(name string, operand any) (func(any) bool, error) {
	if compare, ok := texts[name]; ok {
		text, ok := operand.(string)
		if !ok || text == "" {
			return nil, badPolicy("%s match pattern must be a string", name)
		}
		return func(v any) bool { s, ok := v.(string); return ok && compare(s, text) }, nil
	}
	switch name {
	case "anything-but":
		return parseAnythingBut(operand)
	case "numeric":
		return parseNumeric(operand)
	case "cidr":
		text, _ := operand.(string)
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, badPolicy("%.40q is no CIDR", text)
		}
		return func(v any) bool {
			s, _ := v.(string)
			a, err := netip.ParseAddr(s)
			return err == nil && network.Contains(a)
		}, nil
	}
	return nil, badPolicy("Unrecognized match type %s", name)
}

// parseAnythingBut takes a value, a list of values, or a prefix, suffix or equals-ignore-case with one or several texts.
func parseAnythingBut(operand any) (func(any) bool, error) {
	var not []func(any) bool
	switch x := operand.(type) {
	case map[string]any:
		if len(x) != 1 {
			return nil, badPolicy("Only one key allowed in match expression")
		}
		for name, inner := range x {
			if texts[name] == nil {
				return nil, badPolicy("Unsupported anything-but pattern: %s", name)
			}
			for _, one := range oneOrMore(inner) {
				f, err := parseOperator(name, one)
				if err != nil {
					return nil, err
				}
				not = append(not, f)
			}
		}
	default:
		for _, one := range oneOrMore(operand) {
			switch one.(type) {
			case string, json.Number:
			default:
				return nil, badPolicy("Value of anything-but must be an array or single string/number value.")
			}
			not = append(not, func(v any) bool { return same(one, v) })
		}
	}
	if len(not) == 0 {
		return nil, badPolicy("Value of anything-but must be an array or single string/number value.")
	}
	return func(v any) bool { return !slices.ContainsFunc(not, func(f func(any) bool) bool { return f(v) }) }, nil
}

func oneOrMore(x any) []any {
	if list, ok := x.([]any); ok {
		return list
	}
	return []any{x}
}

// most is the largest number, either way, that SNS compares.
const most = 1e9

// parseNumeric takes ["=", n], or one or two bounds: [">", n, "<=", n].
func parseNumeric(operand any) (func(any) bool, error) {
	list, ok := operand.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		return nil, badPolicy("Value of numeric must be an array of an operator and a number, or two of each.")
	}
	var all []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		operator, _ := list[i].(string)
		number, ok := list[i+1].(json.Number)
		bound, err := number.Float64()
		if !ok || err != nil || bound < -most || bound > most {
			return nil, badPolicy("Value of %s must be numeric, from -10^9 to 10^9", operator)
		}
		compare := map[string]func(float64) bool{
			"=": func(f float64) bool { return f == bound },
			"<": func(f float64) bool { return f < bound }, "<=": func(f float64) bool { return f <= bound },
			">": func(f float64) bool { return f > bound }, ">=": func(f float64) bool { return f >= bound },
		}[operator]
		switch {
		case compare == nil:
			return nil, badPolicy("Unrecognized numeric range operator: %.20s", operator)
		case len(list) == 4 && (i == 0) != strings.HasPrefix(operator, ">"):
			return nil, badPolicy("Bad numeric range: a lower bound (>, >=) comes first, then an upper one (<, <=)")
		}
		all = append(all, compare)
	}
	return func(v any) bool {
		n, ok := v.(json.Number)
		f, err := n.Float64()
		return ok && err == nil && !slices.ContainsFunc(all, func(c func(float64) bool) bool { return !c(f) })
	}, nil
}

// same compares two values: numbers by what they are, not by how they were written.
func same(a, b any) bool {
	x, ok := a.(json.Number)
	y, also := b.(json.Number)
	if !ok || !also {
		return ok == also && a == b
	}
	f, err := x.Float64()
	g, wrong := y.Float64()
	return err == nil && wrong == nil && f == g
}

// wants reports whether the subscription gets a message with these attributes and this body.
func (f *filter) wants(attributes map[string]notify.Attribute, body string) bool {
	if f == nil {
		return true
	}
	if !f.body {
		return f.root.matches(attributeTree(attributes))
	}
	tree, err := jsonTree(body)
	object, ok := tree.(map[string]any)
	return err == nil && ok && f.root.matches(object)
}

// attributeTree are attributes as the members of an object. Binary ones cannot be filtered on.
func attributeTree(attributes map[string]notify.Attribute) map[string]any {
	tree := map[string]any{}
	for name, a := range attributes {
		kind, _, _ := strings.Cut(a.Type, ".")
		switch {
		case a.Type == "String.Array":
			if list, err := jsonTree(a.Value); err == nil {
				tree[name] = list
			}
		case kind == "Number":
			if _, err := strconv.ParseFloat(a.Value, 64); err == nil {
				tree[name] = json.Number(a.Value)
			}
		case kind == "String":
			tree[name] = a.Value
		}
	}
	return tree
}

func (b branch) matches(object map[string]any) bool {
	for key, conditions := range b.leaves {
		if !anyMatches(conditions, object[key], has(object, key)) {
			return false
		}
	}
	for key, inner := range b.branches {
		if !inner.matchesIn(object[key]) {
			return false
		}
	}
	for _, alternatives := range b.either {
		if !slices.ContainsFunc(alternatives, func(a branch) bool { return a.matches(object) }) {
			return false
		}
	}
	return true
}

func has(object map[string]any, key string) bool {
	_, ok := object[key]
	return ok
}

// matchesIn looks into an object, or into each of a list; where there is none, all of its keys are absent.
func (b branch) matchesIn(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return b.matches(v)
	case []any:
		return slices.ContainsFunc(v, b.matchesIn)
	}
	return b.matches(nil)
}

// anyMatches reports whether one of the conditions holds of a value, or of one of a list's.
func anyMatches(conditions []condition, value any, there bool) bool {
	var values []any
	if there {
		values = flat(value)
	}
	for _, c := range conditions {
		switch {
		case c.absent:
			if len(values) == 0 {
				return true
			}
		case slices.ContainsFunc(values, c.match):
			return true
		}
	}
	return false
}

// flat are the values of a leaf. An object is none: SNS looks at leaves alone.
func flat(value any) (all []any) {
	switch v := value.(type) {
	case []any:
		for _, x := range v {
			all = append(all, flat(x)...)
		}
	case map[string]any:
	default:
		all = append(all, v)
	}
	return all
}
