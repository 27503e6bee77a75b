package wire

import (
	"context"
	"encoding/base64"
	"strings"
)

// Paging is what a client asks of a list: the token of the page before, and how many it wants.
type Paging struct {
	Token *string // Marker, NextToken
	Limit *int32  // MaxRecords, MaxResults; nil: as many as AWS gives
	// Descending: the items' keys go down, newest first.
	Descending bool
}

// pageSizes are how many items a page has when the client does not say, by service, and by operation where that
// differs. They are also the most.
var pageSizes = map[string]int{
	serviceElastiCache:                        100,
	serviceElastiCache + " DescribeSnapshots": 50,
	serviceSNS:                            100,
	serviceCloudWatch:                     100,
	serviceCloudWatch + " ListMetrics":    500,
	serviceCloudWatch + " ListDashboards": 1000,
}

// usual are sizes that are given without being asked for, where a client may ask for more.
var usual = map[string]int{serviceCloudWatch + " DescribeAlarms": 50, serviceCloudWatch + " DescribeAlarmHistory": 50}

// leastRecords is the smallest page that ElastiCache gives.
const leastRecords = 20

// Page cuts the page that p asks for out of items, which are in the order of their keys, ascending
// unless p says otherwise. Keys are unique. next is nil on the last page. A page begins behind the last key of the one
// before, so items that come or go between two requests repeat or hide no others.
//
// A bad token and a bad limit are refused in the words of the service that ctx's call belongs to.
func Page[T any](ctx context.Context, p Paging, items []T, key func(T) string) (page []T, next *string, err error) {
	call := CallOf(ctx)
	limit, err := p.limit(call)
	if err != nil {
		return nil, nil, err
	}
	if p.Token != nil && *p.Token != "" {
		after, ok := readToken(call.Operation, *p.Token)
		if !ok {
			return nil, nil, badToken(call)
		}
		items = behind(items, key, after, p.Descending)
	}
	if len(items) > limit {
		token := writeToken(call.Operation, key(items[limit-1]))
		return items[:limit], &token, nil
	}
	if items == nil {
		items = []T{}
	}
	return items, nil, nil
}

// behind skips what is not behind the key.
func behind[T any](items []T, key func(T) string, after string, descending bool) []T {
	for i, item := range items {
		if k := key(item); k > after && !descending || k < after && descending {
			return items[i:]
		}
	}
	return nil
}

func (p Paging) limit(c Call) (int, error) {
	most, ok := pageSizes[c.Service+" "+c.Operation]
	if !ok {
		most = pageSizes[c.Service]
	}
	if most == 0 {
		most = 100
	}
	if p.Limit == nil {
		if n, ok := usual[c.Service+" "+c.Operation]; ok {
			return n, nil
		}
		return most, nil
	}
	n := int(*p.Limit)
	if c.Service == serviceElastiCache && (n < leastRecords || n > most) {
		return 0, &Error{Code: "InvalidParameterValue", Shape: "InvalidParameterValueException",
			Message: Refuse("", "Invalid value %d for MaxRecords. Must be between %d and %d", n, leastRecords, most).Message}
	}
	return max(1, min(n, most)), nil
}

// A token names its operation: one of another operation is a mistake worth telling.
func writeToken(operation, key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(operation + "\n" + key))
}

func readToken(operation, token string) (key string, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", false
	}
	of, key, ok := strings.Cut(string(text), "\n")
	return key, ok && of == operation
}

func badToken(c Call) *Error {
	switch c.Service {
	case serviceCloudWatch:
		return Refuse("InvalidNextToken", "The next token specified is invalid.")
	case serviceSNS:
		e := Refuse("InvalidParameter", "Invalid parameter: NextToken")
		e.Shape = "InvalidParameterException"
		return e
	}
	e := Refuse("InvalidParameterValue", "The parameter Marker is not valid.")
	e.Shape = "InvalidParameterValueException"
	return e
}
