package wire

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "a secret/with+signs="
)

// clientTypes have a method for each operation of the models: their types are what the echo takes and gives.
var clientTypes = map[string]reflect.Type{
	"elasticache": reflect.TypeFor[*elasticache.Client](), "monitoring": reflect.TypeFor[*cloudwatch.Client](),
	"sns": reflect.TypeFor[*sns.Client](), "sts": reflect.TypeFor[*sts.Client](),
}

// echo serves every operation of every model: it keeps what it was given, and gives what was made for it.
type echo struct {
	*httptest.Server
	services []*Service
	served   []Served
	// compressed counts the requests that came as gzip.
	compressed atomic.Int32

	mu    sync.Mutex
	given map[string]any // by service and operation: a pointer to a struct
	out   map[string]any
}

func newEcho(t testing.TB, required bool) *echo {
	t.Helper()
	e := &echo{given: map[string]any{}, out: map[string]any{}}
	for _, m := range []*Model{ElastiCache(), CloudWatch(), SNS(), STS()} {
		s := NewService(m)
		g := &sampler{part: 250 * time.Millisecond}
		for _, name := range operations(m) {
			method, _ := clientTypes[m.Signing].MethodByName(name)
			key, o := m.Signing+" "+name, m.Operations[name]
			out := reflect.New(method.Type.Out(0).Elem())
			if o.Output != "" {
				out = sampleOf(m.Shapes[o.Output], g.tree(m.Shapes[o.Output], required), method.Type.Out(0).Elem())
			}
			e.out[key] = out.Interface()
			s.handlers[name] = handler{input: method.Type.In(2).Elem(), do: func(_ context.Context, in any) (any, error) {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.given[key] = in
				return e.out[key], nil
			}}
		}
		e.services = append(e.services, s)
	}
	server, err := NewServer(ServerOptions{
		Services: e.services, Region: "eu-central-1", Account: "123456789012",
		Key: func(id string) (Key, bool) { return Key{Secret: testSecret, User: "tester"}, id == testKey },
		Served: func(s Served) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.served = append(e.served, s)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") == "gzip" {
			e.compressed.Add(1)
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func operations(m *Model) []string {
	var all []string
	for name := range m.Operations {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// goClients are the SDK's, for the echo.
func goClients(url string) map[string]reflect.Value {
	base := aws.String(url)
	keys := credentials.NewStaticCredentialsProvider(testKey, testSecret, "")
	return map[string]reflect.Value{
		"elasticache": reflect.ValueOf(elasticache.New(elasticache.Options{BaseEndpoint: base, Region: "eu-central-1", Credentials: keys})),
		"monitoring":  reflect.ValueOf(cloudwatch.New(cloudwatch.Options{BaseEndpoint: base, Region: "eu-central-1", Credentials: keys})),
		"sns":         reflect.ValueOf(sns.New(sns.Options{BaseEndpoint: base, Region: "eu-central-1", Credentials: keys})),
		"sts":         reflect.ValueOf(sts.New(sts.Options{BaseEndpoint: base, Region: "eu-central-1", Credentials: keys})),
	}
}

// Every operation with every member, and with the required ones only, through the SDK's clients: Query for
// three services, CBOR for CloudWatch, all signed.
func TestGoClientsCarryEveryMember(t *testing.T) {
	for _, required := range []bool{false, true} {
		e := newEcho(t, required)
		clients := goClients(e.URL)
		for _, s := range e.services {
			m, g := s.model, &sampler{}
			for _, name := range operations(m) {
				method := clients[m.Signing].MethodByName(name)
				in := reflect.New(method.Type().In(1).Elem())
				shape := m.Shapes[m.Operations[name].Input]
				if shape != nil {
					in = sampleOf(shape, g.tree(shape, required), method.Type().In(1).Elem())
				}
				back := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
				if err := back[1].Interface(); err != nil {
					t.Errorf("%s %s: %v", m.Service, name, err)
					continue
				}
				key := m.Signing + " " + name
				compare(t, key+" input", shape, in.Interface(), e.given[key], false)
				compare(t, key+" output", m.Shapes[m.Operations[name].Output], e.out[key], back[0].Interface(), true)
			}
		}
	}
}

// compare looks at what the model has of two values.
func compare(t *testing.T, what string, s *Shape, want, got any, top bool) {
	t.Helper()
	if s == nil {
		return
	}
	w, _ := unbind(s, reflect.ValueOf(want), top)
	g, _ := unbind(s, reflect.ValueOf(got), top)
	if d := cmp.Diff(plain(w), plain(g)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// plain is a tree that can be compared and, as JSON, told to another language.
func plain(tree any) any {
	switch v := tree.(type) {
	case object:
		m := map[string]any{}
		for _, f := range v {
			m[f.member.Name] = plain(f.value)
		}
		return m
	case []any:
		list := []any{}
		for _, item := range v {
			list = append(list, plain(item))
		}
		return list
	case time.Time:
		return map[string]any{"$time": float64(v.UnixMilli()) / 1000}
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(v)}
	}
	return tree
}

// pythonCase is one call that testdata/roundtrip.py makes, and what it must get.
type pythonCase struct {
	Service, Protocol, Operation string
	Input, Output                any
}

// botocore has its own serialisers and parsers: of CloudWatch in all three protocols.
func TestBotocoreCarriesEveryMember(t *testing.T) {
	python := needPython(t)
	e := newEcho(t, false)
	names := map[string]string{"elasticache": "elasticache", "monitoring": "cloudwatch", "sns": "sns", "sts": "sts"}
	var cases []pythonCase
	inputs := map[string]any{}
	for _, s := range e.services {
		m, g := s.model, &sampler{}
		for _, name := range operations(m) {
			o := m.Operations[name]
			c := pythonCase{Service: names[m.Signing], Operation: name, Input: map[string]any{}, Output: map[string]any{}}
			if shape := m.Shapes[o.Input]; shape != nil {
				in := sampleOf(shape, g.tree(shape, false), s.handlers[name].input)
				tree, _ := unbind(shape, in, false)
				c.Input, inputs[m.Signing+" "+name] = plain(tree), in.Interface()
			}
			if shape := m.Shapes[o.Output]; shape != nil {
				tree, _ := unbind(shape, reflect.ValueOf(e.out[m.Signing+" "+name]), true)
				c.Output = plain(tree)
			}
			for _, c.Protocol = range m.Protocols {
				cases = append(cases, c)
			}
		}
	}
	text, err := json.Marshal(map[string]any{"url": e.URL, "key": testKey, "secret": testSecret, "cases": cases})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/roundtrip.py")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range e.services {
		for name, o := range s.model.Operations {
			compare(t, name+" input", s.model.Shapes[o.Input], inputs[s.model.Signing+" "+name], e.given[s.model.Signing+" "+name], false)
		}
	}
	protocols := map[Protocol]int{}
	for _, s := range e.served {
		protocols[s.Protocol]++
	}
	if n := len(CloudWatch().Operations); protocols[JSON] != n || protocols[CBOR] != n || len(e.served) != len(cases) {
		t.Errorf("%d requests, %v; want %d, CloudWatch's %d in each protocol", len(e.served), protocols, len(cases), n)
	}
}

func reflectValue(v any) reflect.Value { return reflect.ValueOf(v) }

// needPython is a python3 whose botocore is no older than the models: an older one lacks members, and CBOR.
// Without one the test is skipped; `make test-aws` puts one into bin/botocore.
func needPython(t *testing.T) string {
	t.Helper()
	_, version, _ := strings.Cut(ElastiCache().Source, " ")
	check := "import botocore; n = lambda v: tuple(map(int, v.split('.'))); assert n(botocore.__version__) >= n('" + version + "')"
	for _, python := range []string{"../../bin/botocore/bin/python", "python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", check).Run() == nil {
			return python
		}
	}
	if wanted {
		t.Fatalf("no python3 here has botocore %s or newer", version)
	}
	t.Skipf("no python3 here has botocore %s or newer: make test-aws installs it", version)
	return ""
}
