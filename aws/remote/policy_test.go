package remote

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// prefixes are IAM's names of the services whose clients are made here.
var prefixes = map[string]string{"elasticache": "elasticache", "cloudwatch": "cloudwatch", "sns": "sns", "sts": "sts"}

const sdkServices = "github.com/aws/aws-sdk-go-v2/service/"

// The least that drills, the doctor and the proxy need is what their calls are: a call that is not in the policy
// fails on a real account only, and one that is there without being made is a right too much.
func TestThePolicyAllowsWhatIsCalledAndNothingMore(t *testing.T) {
	called := callsIn(t, ".")
	allowed := allowedActions(t)
	if !slices.Equal(called, allowed) {
		t.Errorf("the code calls %q, deploy/aws/iam-policy.json allows %q", called, allowed)
	}
	if len(called) < 6 {
		t.Errorf("only %q were found: does this test still see the calls?", called)
	}
}

// Nobody else makes a client of AWS's, or the test above sees only a part.
func TestAWSIsCalledFromHereOnly(t *testing.T) {
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(p)
		dir := filepath.ToSlash(filepath.Dir(p))
		// aws/cli makes clients to learn the endpoint that they would ask, and calls what its user says.
		fine := []string{"../../aws/remote", "../../aws/cli", "../../e2e"}
		if strings.Contains(string(text), ".NewFromConfig(") && strings.Contains(string(text), sdkServices) && !slices.Contains(fine, dir) {
			t.Errorf("%s makes a client of AWS's of its own: ask package aws/remote", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// callsIn finds the operations whose inputs a folder's code makes, as IAM actions, sorted.
func callsIn(t *testing.T, dir string) []string {
	t.Helper()
	var calls []string
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		services := servicesOf(t, f)
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			sel, ok := lit.Type.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			operation, is := strings.CutSuffix(sel.Sel.Name, "Input")
			if ok && is && services[pkg.Name] != "" {
				calls = append(calls, services[pkg.Name]+":"+operation)
			}
			return true
		})
	}
	slices.Sort(calls)
	return slices.Compact(calls)
}

// servicesOf maps the names by which a file knows the SDK's services to IAM's.
func servicesOf(t *testing.T, f *ast.File) map[string]string {
	services := map[string]string{}
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		service, ok := strings.CutPrefix(p, sdkServices)
		if !ok || strings.Contains(service, "/") {
			continue
		}
		prefix, known := prefixes[service]
		if !known {
			t.Errorf("service %s is called: add its name in IAM to this test", service)
		}
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		services[name] = prefix
	}
	return services
}

// words is a string, or a list of them: a policy may have both.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

func allowedActions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/aws/iam-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect      string
			Action, Resource words
			Condition        map[string]map[string]string
		}
	}
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, s := range policy.Statement {
		if s.Effect != "Allow" || policy.Version != "2012-10-17" {
			t.Errorf("statement %s: %s, version %s", s.Sid, s.Effect, policy.Version)
		}
		for _, a := range s.Action {
			if strings.Contains(a, "*") {
				t.Errorf("statement %s allows %s: name the actions", s.Sid, a)
			}
			breaks := a == "elasticache:TestFailover" || a == "elasticache:ModifyReplicationGroup"
			if breaks && (slices.Contains(s.Resource, "*") || len(s.Condition) == 0) {
				t.Errorf("statement %s allows %s on every group", s.Sid, a)
			}
		}
		allowed = append(allowed, s.Action...)
	}
	slices.Sort(allowed)
	return slices.Compact(allowed) // drills and the doctor have a statement each for the same call
}
