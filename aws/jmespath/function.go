package jmespath

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// argument is what a function is given: a value, or an expression to apply to several.
type argument struct {
	node       node
	expression bool
}

// builtin is a function: for each parameter the types that it takes, "&" being an expression, and "…" behind
// the last that any number of them may follow.
type builtin struct {
	takes []string
	do    func(args []any) (any, error)
}

var functions map[string]builtin

func init() { // not a literal: some of them call others through it
	functions = map[string]builtin{
		"abs":         {[]string{"number"}, func(a []any) (any, error) { return absolute(a[0]), nil }},
		"avg":         {[]string{"numbers"}, average},
		"ceil":        {[]string{"number"}, rounded(math.Ceil)},
		"contains":    {[]string{"list string", "any"}, contains},
		"ends_with":   {[]string{"string", "string"}, texts(strings.HasSuffix)},
		"floor":       {[]string{"number"}, rounded(math.Floor)},
		"join":        {[]string{"string", "strings"}, join},
		"keys":        {[]string{"object"}, keys},
		"length":      {[]string{"list string object"}, size},
		"map":         {[]string{"&", "list"}, mapped},
		"max":         {[]string{"numbers strings"}, extreme(1, nil)},
		"max_by":      {[]string{"list", "&"}, extremeBy(1)},
		"merge":       {[]string{"object", "object…"}, merge},
		"min":         {[]string{"numbers strings"}, extreme(-1, nil)},
		"min_by":      {[]string{"list", "&"}, extremeBy(-1)},
		"not_null":    {[]string{"any", "any…"}, notNull},
		"reverse":     {[]string{"list string"}, reverse},
		"sort":        {[]string{"numbers strings"}, func(a []any) (any, error) { return sorted(a[0].([]any), a[0].([]any)) }},
		"sort_by":     {[]string{"list", "&"}, sortBy},
		"starts_with": {[]string{"string", "string"}, texts(strings.HasPrefix)},
		"sum":         {[]string{"numbers"}, func(a []any) (any, error) { return sum(a[0].([]any)), nil }},
		"to_array":    {[]string{"any"}, toArray},
		"to_number":   {[]string{"any"}, toNumber},
		"to_string":   {[]string{"any"}, toString},
		"type":        {[]string{"any"}, func(a []any) (any, error) { return typeOf(a[0]), nil }},
		"values":      {[]string{"object"}, func(a []any) (any, error) { return values(itself)(a[0]) }},
	}
}

// ErrFunction is the error of an expression that calls a function which there is not.
//
//lint:ignore ST1005 AWS's text
var ErrFunction = errors.New("Unknown function")

// function makes a call. A name or a number of arguments that is wrong is seen before anything is asked.
func function(name string, args []argument) (node, error) {
	f, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s()", ErrFunction, name)
	}
	fixed := len(f.takes)
	open := strings.HasSuffix(f.takes[fixed-1], "…")
	if open {
		fixed--
	}
	if len(args) < fixed || len(args) > fixed && !open {
		return nil, fmt.Errorf("%s() takes %d arguments, and was given %d", name, fixed, len(args))
	}
	return func(v any) (any, error) {
		given := make([]any, len(args))
		for i, a := range args {
			takes := strings.TrimSuffix(f.takes[min(i, len(f.takes)-1)], "…")
			if a.expression != (takes == "&") {
				return nil, fmt.Errorf("%s(): argument %d is %s an expression", name, i+1, pick(a.expression, "not to be", "to be"))
			}
			if a.expression {
				given[i] = a.node
				continue
			}
			x, err := a.node(v)
			if err != nil {
				return nil, err
			}
			if !is(x, strings.Fields(takes)) {
				return nil, fmt.Errorf("%s(): argument %d is %s, and must be one of: %s", name, i+1, typeOf(x), takes)
			}
			given[i] = x
		}
		return f.do(given)
	}, nil
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int64, float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

func is(v any, kinds []string) bool {
	for _, kind := range kinds {
		list, isList := v.([]any)
		only := func(of string) bool {
			return isList && !slices.ContainsFunc(list, func(x any) bool { return typeOf(x) != of })
		}
		switch {
		case kind == "any", kind == typeOf(v), kind == "list" && isList,
			kind == "numbers" && only("number"), kind == "strings" && only("string"):
			return true
		}
	}
	return false
}

func absolute(v any) any {
	if n, ok := v.(int64); ok {
		return max(n, -n)
	}
	return math.Abs(v.(float64))
}

func rounded(how func(float64) float64) func([]any) (any, error) {
	return func(a []any) (any, error) {
		if f, ok := a[0].(float64); ok {
			return int64(how(f)), nil
		}
		return a[0], nil
	}
}

func sum(list []any) any {
	var whole int64
	var double float64
	doubles := false
	for _, v := range list {
		switch v := v.(type) {
		case int64:
			whole += v
		case float64:
			double, doubles = double+v, true
		}
	}
	if doubles {
		return double + float64(whole)
	}
	return whole
}

func average(a []any) (any, error) {
	list := a[0].([]any)
	if len(list) == 0 {
		return nil, nil
	}
	total, _ := number(sum(list))
	return total / float64(len(list)), nil
}

func contains(a []any) (any, error) {
	if text, ok := a[0].(string); ok {
		part, ok := a[1].(string)
		return ok && strings.Contains(text, part), nil
	}
	return slices.ContainsFunc(a[0].([]any), func(x any) bool { return Equal(x, a[1]) }), nil
}

func texts(how func(a, b string) bool) func([]any) (any, error) {
	return func(a []any) (any, error) { return how(a[0].(string), a[1].(string)), nil }
}

func join(a []any) (any, error) {
	var parts []string
	for _, v := range a[1].([]any) {
		parts = append(parts, v.(string))
	}
	return strings.Join(parts, a[0].(string)), nil
}

func keys(a []any) (any, error) {
	list := []any{}
	for _, m := range a[0].(Object) {
		list = append(list, m.Name)
	}
	return list, nil
}

func size(a []any) (any, error) {
	switch v := a[0].(type) {
	case string:
		return length(v), nil
	case []any:
		return int64(len(v)), nil
	}
	return int64(len(a[0].(Object))), nil
}

// mapped keeps nulls, unlike a projection.
func mapped(a []any) (any, error) { return through(a[1].([]any), a[0].(node)) }

func through(list []any, n node) ([]any, error) {
	made := make([]any, len(list))
	for i, v := range list {
		x, err := n(v)
		if err != nil {
			return nil, err
		}
		made[i] = x
	}
	return made, nil
}

// order compares two numbers or two texts.
func order(a, b any) int {
	if x, ok := number(a); ok {
		y, _ := number(b)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return strings.Compare(a.(string), b.(string))
}

func extreme(sign int, by []any) func([]any) (any, error) {
	return func(a []any) (any, error) {
		list, by := a[0].([]any), by
		if by == nil {
			by = list
		}
		if len(list) == 0 {
			return nil, nil
		}
		best := 0
		for i := range list {
			if sign*order(by[i], by[best]) > 0 {
				best = i
			}
		}
		return list[best], nil
	}
}

// ranks are what an expression makes of a list: all numbers, or all texts.
func ranks(list []any, n node) ([]any, error) {
	by, err := through(list, n)
	if err != nil {
		return nil, err
	}
	if !is(by, []string{"numbers", "strings"}) {
		return nil, fmt.Errorf("an expression to sort by must give numbers only, or strings only")
	}
	return by, nil
}

func extremeBy(sign int) func([]any) (any, error) {
	return func(a []any) (any, error) {
		by, err := ranks(a[0].([]any), a[1].(node))
		if err != nil {
			return nil, err
		}
		return extreme(sign, by)(a)
	}
}

func sortBy(a []any) (any, error) {
	by, err := ranks(a[0].([]any), a[1].(node))
	if err != nil {
		return nil, err
	}
	return sorted(a[0].([]any), by)
}

func sorted(list, by []any) (any, error) {
	places := make([]int, len(list))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(i, j int) int { return order(by[i], by[j]) })
	made := make([]any, len(list))
	for i, place := range places {
		made[i] = list[place]
	}
	return made, nil
}

func merge(a []any) (any, error) {
	o := Object{}
	for _, part := range a {
		for _, m := range part.(Object) {
			o = o.With(m.Name, m.Value)
		}
	}
	return o, nil
}

func notNull(a []any) (any, error) {
	for _, v := range a {
		if v != nil {
			return v, nil
		}
	}
	return nil, nil
}

func reverse(a []any) (any, error) {
	if text, ok := a[0].(string); ok {
		letters := []rune(text)
		slices.Reverse(letters)
		return string(letters), nil
	}
	list := slices.Clone(a[0].([]any))
	slices.Reverse(list)
	return list, nil
}

func toArray(a []any) (any, error) {
	if list, ok := a[0].([]any); ok {
		return list, nil
	}
	return []any{a[0]}, nil
}

func toNumber(a []any) (any, error) {
	switch v := a[0].(type) {
	case int64, float64:
		return v, nil
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n, nil
		}
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return f, nil
		}
	}
	return nil, nil
}

func toString(a []any) (any, error) {
	if text, ok := a[0].(string); ok {
		return text, nil
	}
	return JSON(a[0], 0), nil
}
