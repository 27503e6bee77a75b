package main

import (
	"errors"
	"fmt"
)

// addrList is a list of addresses, HOST:PORT or URLs, as people write them: without quotes too.
type addrList []string

// UnmarshalYAML takes back what the YAML library makes of an unquoted HOST:PORT in a flow list: a map of
// one pair.
func (a *addrList) UnmarshalYAML(unmarshal func(any) error) error {
	var items []any
	if err := unmarshal(&items); err != nil {
		return errors.New("a list of addresses is wanted, such as [10.0.0.11:2379, 10.0.0.12:2379]")
	}
	*a = make(addrList, 0, len(items))
	for _, item := range items {
		switch x := item.(type) {
		case string:
			*a = append(*a, x)
			continue
		case map[string]any:
			if addr, ok := onePair(x); ok {
				*a = append(*a, addr)
				continue
			}
		}
		return fmt.Errorf("%v: no address; HOST:PORT is one, in quotes where it has other signs than letters, digits, dots and hyphens", item)
	}
	return nil
}

// onePair joins the only key and value of a map with a colon, as they stood in the text.
func onePair(m map[string]any) (addr string, ok bool) {
	if len(m) != 1 {
		return "", false
	}
	for host, port := range m {
		switch port.(type) {
		case uint64, int64, int, string:
			return fmt.Sprintf("%s:%v", host, port), true
		}
	}
	return "", false
}
