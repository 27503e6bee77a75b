package metricmath

import (
	"fmt"
	"strings"
)

// Kind is what a value is, by CloudWatch's letters: it is known before any data is read.
type Kind string

// The kinds of values.
const (
	Scalar Kind = "S"    // one number
	One    Kind = "TS"   // one series
	Many   Kind = "TS[]" // a list of series
)

// function is what may be called by a name.
type function struct {
	least, most int // arguments
	kind        func(args []Kind) (Kind, bool)
}

func (f function) takes() string {
	if f.least == f.most {
		return arguments(f.least)
	}
	return fmt.Sprintf("%d to %s", f.least, arguments(f.most))
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// Shapes of functions.
var (
	fold1 = function{1, 1, func(a []Kind) (Kind, bool) { // a series to a number, a list to a series
		return map[Kind]Kind{One: Scalar, Many: One}[a[0]], a[0] == One || a[0] == Many
	}}
	each1 = function{1, 1, func(a []Kind) (Kind, bool) { return a[0], a[0] != text && a[0] != word }}
	over1 = function{1, 1, func(a []Kind) (Kind, bool) { return a[0], a[0] == One || a[0] == Many }}
)

var functions = map[string]function{
	"SUM": fold1, "AVG": fold1, "MIN": fold1, "MAX": fold1, "STDDEV": fold1,
	"ABS": each1, "CEIL": each1, "FLOOR": each1,
	"RATE": over1, "DIFF": over1,
	"PERIOD":  {1, 1, func(a []Kind) (Kind, bool) { return Scalar, a[0] == One }},
	"METRICS": {0, 1, func(a []Kind) (Kind, bool) { return Many, len(a) == 0 || a[0] == text }},
	"FILL": {2, 2, func(a []Kind) (Kind, bool) {
		return a[0], (a[0] == One || a[0] == Many) && (a[1] == word || a[1] == Scalar || a[1] == One)
	}},
	"IF": {2, 3, kindOfIf},
}

// Kinds of what is no value: it stands only where a function takes it.
const (
	text Kind = "string"
	word Kind = "keyword"
)

func kindOfIf(a []Kind) (Kind, bool) {
	kind := Scalar
	for _, k := range a {
		switch k {
		case One:
			kind = One
		case Scalar:
		default:
			return "", false
		}
	}
	return kind, true
}

// Kind tells what the expression's value is, and finds what does not fit together; of tells the kind of an id, false:
// there is none.
func (e *Expression) Kind(of func(id string) (Kind, bool)) (Kind, error) {
	k, err := e.root.kind(of)
	if err == nil && (k == text || k == word) {
		return "", fault("The expression is a %s, not a value", k)
	}
	return k, err
}

func (n node) kind(of func(id string) (Kind, bool)) (Kind, error) {
	switch n.op {
	case "number":
		return Scalar, nil
	case "text":
		return text, nil
	case "word":
		return word, nil
	case "id":
		if k, there := of(n.name); there {
			return k, nil
		}
		return "", fault("Undefined id '%s'", n.name)
	}
	kinds := make([]Kind, 0, len(n.args))
	for _, a := range n.args {
		k, err := a.kind(of)
		if err != nil {
			return "", err
		}
		kinds = append(kinds, k)
	}
	if n.op == "call" {
		if k, fits := functions[n.name].kind(kinds); fits {
			return k, nil
		}
		return "", fault("Unsupported argument types for function '%s': %s", n.name, listed(kinds))
	}
	if k, fits := joined(n.op, kinds); fits {
		return k, nil
	}
	return "", fault("Unsupported operand types for '%s': %s", n.op, listed(kinds))
}

func listed(kinds []Kind) string {
	var all []string
	for _, k := range kinds {
		all = append(all, string(k))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// joined is the kind of an array, of a value with a sign before it, and of two with a sign between them.
func joined(op string, kinds []Kind) (Kind, bool) {
	many := 0
	kind := Scalar
	for _, k := range kinds {
		switch {
		case k == text, k == word, op == "array" && k == Scalar:
			return "", false
		case k == Many:
			kind = Many
			many++
		case k == One && kind == Scalar:
			kind = One
		}
	}
	if op == "array" {
		return Many, len(kinds) > 0
	}
	return kind, many < 2
}
