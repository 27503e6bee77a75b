package jmespath

import "slices"

func itself(v any) (any, error) { return v, nil }

func field(name string) node {
	return func(v any) (any, error) {
		o, _ := v.(Object)
		return o.Get(name), nil
	}
}

func chain(left, right node) node {
	return func(v any) (any, error) {
		v, err := left(v)
		if err != nil {
			return nil, err
		}
		return right(v)
	}
}

func not(n node) node {
	return func(v any) (any, error) {
		v, err := n(v)
		return !truth(v), err
	}
}

// either gives left when its truth is what ends the question, else right.
func either(left, right node, ends bool) node {
	return func(v any) (any, error) {
		l, err := left(v)
		if err != nil || truth(l) == ends {
			return l, err
		}
		return right(v)
	}
}

func compare(left, right node, sign string) node {
	return func(v any) (any, error) {
		l, err := left(v)
		if err != nil {
			return nil, err
		}
		r, err := right(v)
		if err != nil {
			return nil, err
		}
		switch sign {
		case "==":
			return Equal(l, r), nil
		case "!=":
			return !Equal(l, r), nil
		}
		way, ok := ordered(l, r)
		if !ok {
			return nil, nil
		}
		switch sign {
		case "<":
			return way < 0, nil
		case "<=":
			return way <= 0, nil
		case ">":
			return way > 0, nil
		}
		return way >= 0, nil
	}
}

// ordered compares two numbers, or two texts as the AWS CLI does: times are asked for like that. Nothing else has
// an order.
func ordered(a, b any) (way int, ok bool) {
	if typeOf(a) != typeOf(b) || typeOf(a) != "number" && typeOf(a) != "string" {
		return 0, false
	}
	return order(a, b), true
}

func index(i int) node {
	return func(v any) (any, error) {
		list, _ := v.([]any)
		if i < 0 {
			i := i + len(list)
			if i < 0 {
				return nil, nil
			}
			return list[i], nil
		}
		if i >= len(list) {
			return nil, nil
		}
		return list[i], nil
	}
}

// slice is start, stop and step, as Python has them.
func slice(parts []*int64) node {
	return func(v any) (any, error) {
		list, ok := v.([]any)
		if !ok {
			return nil, nil
		}
		step := int64(1)
		if len(parts) == 3 && parts[2] != nil {
			step = *parts[2]
		}
		n, picked := int64(len(list)), []any{}
		low, high := int64(0), n // the bounds of start and stop
		start, stop := low, high
		if step < 0 {
			low, high = -1, n-1
			start, stop = high, low
		}
		for i, at := range []*int64{&start, &stop} {
			if parts[i] == nil {
				continue
			}
			if *at = *parts[i]; *at < 0 {
				*at += n
			}
			*at = min(max(*at, low), high)
		}
		for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
			picked = append(picked, list[i])
			if step > n || step < -n { // else the sum may overflow
				break
			}
		}
		return picked, nil
	}
}

// elements is a list as it is, and nothing of what is none.
func elements(of node) node {
	return func(v any) (any, error) {
		v, err := of(v)
		if _, ok := v.([]any); !ok {
			return nil, err
		}
		return v, err
	}
}

func values(of node) node {
	return func(v any) (any, error) {
		v, err := of(v)
		o, ok := v.(Object)
		if !ok {
			return nil, err
		}
		list := []any{}
		for _, m := range o {
			list = append(list, m.Value)
		}
		return list, err
	}
}

func flat(of node) node {
	return func(v any) (any, error) {
		v, err := of(v)
		list, ok := v.([]any)
		if !ok {
			return nil, err
		}
		merged := []any{}
		for _, item := range list {
			if inner, ok := item.([]any); ok {
				merged = append(merged, inner...)
			} else {
				merged = append(merged, item)
			}
		}
		return merged, err
	}
}

func filter(of, condition node) node {
	return func(v any) (any, error) {
		v, err := of(v)
		list, ok := v.([]any)
		if !ok {
			return nil, err
		}
		kept := []any{}
		for _, item := range list {
			c, err := condition(item)
			if err != nil {
				return nil, err
			}
			if truth(c) {
				kept = append(kept, item)
			}
		}
		return kept, err
	}
}

// each leaves out what right makes null.
func each(over, right node) node {
	return func(v any) (any, error) {
		v, err := over(v)
		list, ok := v.([]any)
		if err != nil || !ok {
			return nil, err
		}
		made := []any{}
		for _, item := range list {
			x, err := right(item)
			if err != nil {
				return nil, err
			}
			if x != nil {
				made = append(made, x)
			}
		}
		return made, nil
	}
}

func listOf(parts []node) node {
	return func(v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		list := []any{}
		for _, n := range parts {
			x, err := n(v)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	}
}

func hashOf(names []string, parts []node) node {
	return func(v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		o := Object{}
		for i, n := range parts {
			x, err := n(v)
			if err != nil {
				return nil, err
			}
			o = o.With(names[i], x)
		}
		return slices.Clip(o), nil
	}
}
