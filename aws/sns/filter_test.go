package sns

import (
	"encoding/json"
	"strings"
	"testing"

	"understudy/notify"
)

func TestFilterPolicies(t *testing.T) {
	attributes := map[string]notify.Attribute{
		"store": {Type: "String", Value: "example_corp"}, "price": {Type: "Number", Value: "300.50"}, "interests": {Type: "String.Array", Value: `["soccer","rugby",7,true,null]`},
		"raw": {Type: "Binary", Value: "AAAA"}, "ip": {Type: "String", Value: "10.1.2.3"}, "Case": {Type: "String", Value: "AbC"},
	}
	const body = `{"store":"example_corp","nested":{"price":12,"tags":["a","b"],"gone":null},"list":[{"k":"x","v":1},{"k":"y","v":2}]}`
	for _, x := range []struct {
		policy string
		body   bool
		want   bool
	}{
		{`{"store":["example_corp"]}`, false, true},
		{`{"store":["other","example_corp"]}`, false, true},
		{`{"store":["other"]}`, false, false},
		{`{"store":["example_corp"],"price":[300.5]}`, false, true},
		{`{"store":["example_corp"],"price":[300.51]}`, false, false},
		{`{"price":["300.50"]}`, false, false}, // a text is no number
		{`{"price":[{"numeric":["=",3.005e2]}]}`, false, true},
		{`{"price":[{"numeric":[">",300,"<=",300.5]}]}`, false, true},
		{`{"price":[{"numeric":["<",300.5]}]}`, false, false},
		{`{"store":[{"numeric":["=",1]}]}`, false, false},
		{`{"store":[{"prefix":"example"}]}`, false, true},
		{`{"store":[{"suffix":"_corp"}]}`, false, true},
		{`{"store":[{"prefix":"corp"}]}`, false, false},
		{`{"Case":[{"equals-ignore-case":"aBc"}]}`, false, true},
		{`{"case":["AbC"]}`, false, false}, // names have a case
		{`{"store":[{"anything-but":"example_corp"}]}`, false, false},
		{`{"store":[{"anything-but":["a","b"]}]}`, false, true},
		{`{"store":[{"anything-but":{"prefix":"exam"}}]}`, false, false},
		{`{"store":[{"anything-but":{"suffix":["x","y"]}}]}`, false, true},
		{`{"price":[{"anything-but":[300.5]}]}`, false, false},
		{`{"missing":[{"anything-but":"x"}]}`, false, false},
		{`{"missing":[{"exists":false}]}`, false, true},
		{`{"store":[{"exists":false}]}`, false, false},
		{`{"store":[{"exists":true}]}`, false, true},
		{`{"missing":[{"exists":true}]}`, false, false},
		{`{"raw":[{"exists":true}]}`, false, false}, // binary ones are not looked at
		{`{"interests":["rugby"]}`, false, true},
		{`{"interests":["tennis"]}`, false, false},
		{`{"interests":[7]}`, false, true},
		{`{"interests":[null]}`, false, true},
		{`{"interests":[{"anything-but":["soccer","rugby"]}]}`, false, true}, // one of them is another
		{`{"ip":[{"cidr":"10.0.0.0/8"}]}`, false, true},
		{`{"ip":[{"cidr":"10.2.0.0/16"}]}`, false, false},
		{`{"$or":[{"store":["x"]},{"price":[300.5]}]}`, false, true},
		{`{"$or":[{"store":["x"]},{"price":[1]}]}`, false, false},
		{`{}`, false, true},
		{``, false, true},

		{`{"store":["example_corp"]}`, true, true},
		{`{"nested":{"price":[{"numeric":[">=",12]}]}}`, true, true},
		{`{"nested":{"price":[11]}}`, true, false},
		{`{"nested":{"tags":["b"]}}`, true, true},
		{`{"nested":{"gone":[null]}}`, true, true},
		{`{"nested":{"gone":["null"]}}`, true, false},
		{`{"nested":{"none":[{"exists":false}]}}`, true, true},
		{`{"nowhere":{"none":[{"exists":false}]}}`, true, true},
		{`{"nested":[{"exists":true}]}`, true, false}, // not a leaf
		{`{"list":{"k":["x"],"v":[1]}}`, true, true},
		{`{"list":{"k":["x"],"v":[2]}}`, true, false}, // not of the same item
	} {
		f, err := parseFilter(x.policy, x.body)
		if err != nil {
			t.Errorf("%s: %v", x.policy, err)
			continue
		}
		if got := f.wants(attributes, body); got != x.want {
			t.Errorf("%s (body %v): %v", x.policy, x.body, got)
		}
	}
	f, err := parseFilter(`{"a":[{"exists":false}]}`, true)
	if err != nil || f.wants(nil, "not JSON") || f.wants(nil, "[1]") {
		t.Error("a text that is no JSON object passes a filter of the body")
	}
}

func TestBadFilterPoliciesAreRefused(t *testing.T) {
	for policy, part := range map[string]string{
		`{`: "parse", `{} {}`: "parse", `[]`: "object", `{"a":"b"}`: "must be an object or an array", `{"a":[]}`: "Empty arrays", `{"a":[["b"]]}`: "Match value",
		`{"a":{"b":["c"]}}`: "nested", `{"a":[{"like":"b"}]}`: "Unrecognized match type like", `{"a":[{"prefix":1}]}`: "prefix", `{"a":[{"prefix":"a","suffix":"b"}]}`: "Only one key",
		`{"a":[{"exists":"yes"}]}`: "exists", `{"a":[{"numeric":["=","x"]}]}`: "numeric", `{"a":[{"numeric":["~",1]}]}`: "operator", `{"a":[{"numeric":["<",1,">",2]}]}`: "lower bound",
		`{"a":[{"numeric":["=",2e9]}]}`: "10^9", `{"a":[{"anything-but":[]}]}`: "anything-but", `{"a":[{"anything-but":{"numeric":1}}]}`: "anything-but", `{"a":[{"cidr":"x"}]}`: "CIDR",
		`{"a":["1"],"b":["1"],"c":["1"],"d":["1"],"e":["1"],"f":["1"]}`: "5 keys", `{"a":[` + strings.Repeat(`"x",`, 150) + `"x"]}`: "combinations", `{"$or":[{"a":["b"]}]}`: "$or",
	} {
		if _, err := parseFilter(policy, false); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q", policy, err, part)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`{"a":[{"anything-but":{"prefix":"x"}},{"numeric":[">",1,"<",2]}],"$or":[{"b":[null]},{"c":[{"exists":false}]}]}`, `{"a":["x",1.5,{"b":[]}],"b":null}`, "x")
	f.Add(`{"a":{"b":[{"cidr":"10.0.0.0/8"}]}}`, `{"a":[{"b":"10.0.0.1"}]}`, "1e400")
	f.Fuzz(func(t *testing.T, policy, body, value string) {
		for _, scope := range []bool{false, true} {
			p, err := parseFilter(policy, scope)
			if err != nil {
				continue
			}
			if policy != "" && p != nil && !json.Valid([]byte(policy)) {
				t.Errorf("%q is taken", policy)
			}
			a := map[string]notify.Attribute{"a": {Type: "Number", Value: value}, "b": {Type: "String.Array", Value: body}, "c": {Type: "String", Value: value}}
			again, err := parseFilter(policy, scope)
			if err != nil || p.wants(a, body) != again.wants(a, body) {
				t.Errorf("the order of its keys matters: %v", err)
			}
		}
	})
}
