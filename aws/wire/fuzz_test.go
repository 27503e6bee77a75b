package wire

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/google/go-cmp/cmp"
)

// Whatever arrives, a decoder ends with a value that the model allows, or with a refusal; and the value, written
// by the encoder of that protocol and read again, is the same.

var fuzzed = CloudWatch()

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"MetricData.member.1.MetricName=m&MetricData.member.1.Value=1.5&MetricData.member.1.Timestamp=2026-11-30T12:00:00Z&Namespace=n",
		"MetricData.member.1.Dimensions.member.2.Name=a&MetricData.member.1.Dimensions.member.2.Value=b&Namespace=n",
		"MetricData.1.Value=NaN&Namespace=n", "MetricData=&Namespace=", "MetricData.member.1=x&MetricData.member.01.Value=1", ".=&..=&a.=b",
		"MetricData.member.99999999999999999999.Value=1", strings.Repeat("a.", 40) + "=1", "%zz", "a=1;b=2",
	} {
		f.Add(seed)
	}
	shape := fuzzed.Shapes["PutMetricDataInput"]
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		p, err := params(values)
		if err != nil {
			return
		}
		if tree := queryTree(shape, p); tree != nil {
			bindAny(t, shape, tree)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"Namespace":"n","MetricData":[{"MetricName":"m","Value":1.5,"Timestamp":1796000000.25,"StatisticValues":{"SampleCount":1,"Sum":1,"Minimum":"NaN","Maximum":"Infinity"}}]}`,
		`{"MetricData":[{"Values":[1,2e400],"StorageResolution":60.0}]}`, `{"MetricData":[null,{"Timestamp":-1}]}`, `[]`, `null`, `{"Namespace":{}}`, `{} {}`,
		strings.Repeat(`{"a":`, 10000), `{"MetricData":[{"Timestamp":1e300}]}`, `{"StrictEntityValidation":"true"}`,
	} {
		f.Add([]byte(seed))
	}
	shape := fuzzed.Shapes["PutMetricDataInput"]
	f.Fuzz(func(t *testing.T, body []byte) {
		tree, err := jsonTree(body)
		if err != nil {
			return
		}
		again(t, shape, tree, func(v any) (any, error) { return jsonTree(jsonBytes(jsonValue(v))) })
	})
}

func FuzzCBOR(f *testing.F) {
	whole := cborBytes(cborValue(object{{&Member{Name: "Namespace"}, "n"}, {&Member{Name: "MetricData"}, []any{object{{&Member{Name: "Timestamp"}, time.Unix(1796000000, 0)}, {&Member{Name: "Value"}, 1.5}}}}}))
	for _, seed := range [][]byte{
		whole, {0xbf, 0x69, 'N', 'a', 'm', 'e', 's', 'p', 'a', 'c', 'e', 0x61, 'n', 0xff}, {0x9f, 0xff}, {0xa0}, {0xff}, {0xc1, 0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0},
		{0xa1, 0x01, 0x02}, {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0x81}, 100), {0xf7}, {0xc2, 0x41, 0x01},
	} {
		f.Add(seed)
	}
	shape := fuzzed.Shapes["PutMetricDataInput"]
	f.Fuzz(func(t *testing.T, body []byte) {
		tree, err := cborTree(body)
		if err != nil {
			return
		}
		again(t, shape, tree, func(v any) (any, error) { return cborTree(cborBytes(cborValue(v))) })
	})
}

// bindAny is the struct of a tree that the model allows, nil for others.
func bindAny(t *testing.T, s *Shape, tree any) *cloudwatch.PutMetricDataInput {
	t.Helper()
	if _, ok := tree.(map[string]any); !ok {
		return nil
	}
	in := new(cloudwatch.PutMetricDataInput)
	if err := fuzzed.validate(s, tree); err != nil {
		return nil
	}
	if err := bind(s, tree, reflect.ValueOf(in).Elem(), ""); err != nil {
		return nil
	}
	if in.Namespace == nil || *in.Namespace == "" {
		t.Fatal("a required member is missing")
	}
	return in
}

func again(t *testing.T, s *Shape, tree any, through func(any) (any, error)) {
	t.Helper()
	first := bindAny(t, s, tree)
	if first == nil {
		return
	}
	out, _ := unbind(s, reflect.ValueOf(first), false)
	back, err := through(out)
	if err != nil {
		t.Fatal(err)
	}
	second := new(cloudwatch.PutMetricDataInput)
	if err := bind(s, back, reflect.ValueOf(second).Elem(), ""); err != nil {
		t.Fatal(err)
	}
	twice, _ := unbind(s, reflect.ValueOf(second), false)
	if d := cmp.Diff(plain(milliseconds(out)), plain(milliseconds(twice)), cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })); d != "" {
		t.Fatal(d)
	}
}

// milliseconds drops what no encoder carries of a time.
func milliseconds(tree any) any {
	switch v := tree.(type) {
	case object:
		for i := range v {
			v[i].value = milliseconds(v[i].value)
		}
	case []any:
		for i := range v {
			v[i] = milliseconds(v[i])
		}
	case time.Time:
		return v.Truncate(time.Millisecond)
	}
	return tree
}

// FuzzServer throws whole requests at a server with keys: what is not signed never gets through, and nothing is
// answered with a failure of ours.
func FuzzServer(f *testing.F) {
	f.Add("POST", "/", "Action=PutMetricData&Version=2010-08-01", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/us-east-1/monitoring/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "20261130T120000Z", "", "")
	f.Add("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", "\xbf\xff", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f/g", "", "", "gzip")
	f.Add("POST", "/", "{}", "AWS4-HMAC-SHA256 =,=,=", "2026", "GraniteServiceVersion20100801.PutMetricData", "")
	f.Add("GET", "/?Action=PutMetricData&X-Amz-Signature=00&X-Amz-Credential=AKIDEXAMPLE/20261130/us-east-1/monitoring/aws4_request&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261130T120000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=60", "", "", "", "", "")
	reached := false
	cw := NewService(CloudWatch())
	cw.handlers["PutMetricData"] = handler{input: reflect.TypeFor[cloudwatch.PutMetricDataInput](), do: nil}
	s, err := NewServer(ServerOptions{
		Services: []*Service{cw}, Region: "us-east-1", Account: "123456789012", Now: func() time.Time { return now },
		Key:    func(id string) (Key, bool) { return Key{Secret: testSecret}, id == testKey },
		Served: func(s Served) { reached = reached || s.Status < 400 || s.Failed != nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, body, authorization, date, amzTarget, encoding string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method != "GET" && method != "POST" {
			return
		}
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.URL = u
		for name, value := range map[string]string{"Authorization": authorization, "X-Amz-Date": date, "X-Amz-Target": amzTarget, "Content-Encoding": encoding, "Smithy-Protocol": "rpc-v2-cbor"} {
			if value != "" {
				r.Header[http.CanonicalHeaderKey(name)] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if reached || w.Code < 400 || w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
