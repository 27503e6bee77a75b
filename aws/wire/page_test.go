package wire

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func of(service, operation string) Call { return Call{Service: service, Operation: operation} }

func ptr[T any](v T) *T { return &v }

// Items come and go while a client reads the pages: none that stays is missed or shown twice.
func TestPagesWhileItemsComeAndGo(t *testing.T) {
	for _, descending := range []bool{false, true} {
		ctx := WithCall(t.Context(), of(serviceElastiCache, "DescribeEvents"))
		var items []string
		for i := range 100 {
			items = append(items, fmt.Sprintf("%03d", 2*i))
		}
		if descending {
			slices.Reverse(items)
		}
		id := func(s string) string { return s }
		var seen []string
		var token *string
		for round := 0; ; round++ {
			page, next, err := Page(ctx, Paging{Token: token, Limit: ptr(int32(20)), Descending: descending}, items, id)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, page...)
			if token = next; token == nil {
				break
			}
			// The item that the token names goes, one before it and one far behind it come.
			at := slices.Index(items, page[len(page)-1])
			items = slices.Delete(items, at, at+1)
			items = slices.Insert(items, 0, map[bool]string{false: "-", true: "zzz"}[descending]+fmt.Sprint(9-round))
		}
		if len(seen) != 100 {
			t.Errorf("descending %v: %d items, want 100: %v", descending, len(seen), seen)
		}
	}
}

func TestPagesRefuseWhatAWSRefuses(t *testing.T) {
	items := []string{"a", "b"}
	id := func(s string) string { return s }
	good := writeToken("ListTopics", "a")
	for _, c := range []struct {
		call Call
		p    Paging
		code string // "" is fine
	}{
		{of(serviceElastiCache, "DescribeEvents"), Paging{Limit: ptr(int32(19))}, "InvalidParameterValue"},
		{of(serviceElastiCache, "DescribeEvents"), Paging{Limit: ptr(int32(101))}, "InvalidParameterValue"},
		{of(serviceElastiCache, "DescribeEvents"), Paging{Limit: ptr(int32(20))}, ""},
		{of(serviceElastiCache, "DescribeEvents"), Paging{Token: &good}, "InvalidParameterValue"},
		{of(serviceElastiCache, "DescribeSnapshots"), Paging{Limit: ptr(int32(51))}, "InvalidParameterValue"},
		{of(serviceCloudWatch, "DescribeAlarms"), Paging{Token: ptr("%%")}, "InvalidNextToken"},
		{of(serviceCloudWatch, "DescribeAlarms"), Paging{Limit: ptr(int32(1))}, ""},
		{of(serviceSNS, "ListTopics"), Paging{Token: ptr("nothing")}, "InvalidParameter"},
		{of(serviceSNS, "ListTopics"), Paging{Token: &good}, ""},
	} {
		_, _, err := Page(WithCall(t.Context(), c.call), c.p, items, id)
		var e *Error
		if errors.As(err, &e); c.code == "" && err != nil || c.code != "" && (e == nil || e.Code != c.code) {
			t.Errorf("%s %+v: %v, want %q", c.call.Operation, c.p, err, c.code)
		}
	}
}

func TestTagsKeepTheRulesOfAWS(t *testing.T) {
	ctx := WithCall(t.Context(), of(serviceElastiCache, "AddTagsToResource"))
	tag := func(k, v string) Tag { return Tag{&k, &v} }
	was := Tags{"a": "1", "b": "2"}
	now, err := was.With(ctx, []Tag{tag("b", "3"), tag("c", "")})
	if err != nil || len(was) != 2 || now["b"] != "3" || fmt.Sprint(now.Sorted()) != "[a b c]" {
		t.Errorf("%v %v %v", was, now, err)
	}
	var many []Tag
	for i := range 51 {
		many = append(many, tag(fmt.Sprint(i), ""))
	}
	long := string(make([]byte, 129))
	for _, c := range []struct {
		list []Tag
		code string
	}{
		{[]Tag{{}}, "InvalidParameterValue"}, {[]Tag{tag(long, "")}, "InvalidParameterValue"}, {[]Tag{tag("k", long+long)}, "InvalidParameterValue"},
		{[]Tag{tag("AWS:x", "")}, "InvalidParameterValue"}, {[]Tag{tag("k", ""), tag("k", "")}, "InvalidParameterValue"}, {many, "TagQuotaPerResourceExceeded"},
	} {
		_, err := was.With(ctx, c.list)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%v, want %s", err, c.code)
		}
		if s := ElastiCache().Shapes[e.Shape]; s == nil || s.Fault == nil || s.Fault.Code != c.code {
			t.Errorf("ElastiCache has no shape %s with code %s", e.Shape, c.code)
		}
	}
	if _, err := was.Without(ctx, []string{"x"}); err == nil || err.(*Error).Code != "TagNotFound" {
		t.Error(err)
	}
	if left, err := was.Without(WithCall(t.Context(), of(serviceSNS, "UntagResource")), []string{"x", "a"}); err != nil || fmt.Sprint(left.Sorted()) != "[b]" {
		t.Errorf("%v %v", left, err)
	}
}
