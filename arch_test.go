package understudy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// floors says on which floor each package lives. Imports go down only; packages of one floor never
// import one another. A package that is not listed here has no place in the house yet.
var floors = map[string]int{
	"cluster": 0, "resp": 0, "command": 0, "metric": 0, "atomicfile": 0,
	"failover": 1, "alarm": 1, "shelf": 1, "metricmath": 1, "history": 1, "placement": 1, "aws/jmespath": 1,
	"etcd": 2, "redis": 2, "failover/sim": 2, "rpc": 2, "certs": 2, "aws/wire": 2, "aws/remote": 2, "backup": 2, "series": 2, "notify": 2, "alarm/watch": 2, "remotewrite": 2,
	"agent": 3, "host": 3, "proxy": 3, "upstream": 3, "drill": 3, "dashboard": 3, "monitor": 3, "shopify": 3,
	"alarm/pack": 3, "doctor": 3, "aws": 3, "aws/elasticache": 3, "aws/cloudwatch": 3, "aws/sns": 3, "aws/sts": 3, "aws/cli": 3,
	"fleet":          4,
	"cmd/understudy": 5,
}

// outside lists the folders beside the house: they drive it from the outside and may import what
// they measure.
var outside = []string{"e2e", "bench", "examples", "deploy"}

// libraries are the direct dependencies, each with the reason why it is not our own code. Those
// marked "tests" must not be imported by the program itself.
var libraries = map[string]string{
	"github.com/HdrHistogram/hdrhistogram-go":          "latency percentiles of drills and benchmarks without keeping every sample",
	"github.com/anishathalye/porcupine":                "linearizability checking is a research subject of its own",
	"github.com/aws/aws-sdk-go-v2":                     "the retry codes and types of AWS's own client, below",
	"github.com/aws/aws-sdk-go-v2/config":              "where AWS's clients find their region and credentials: environment, files, the machine's role",
	"github.com/aws/aws-sdk-go-v2/credentials":         "credentials for its client that were given to us",
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds":    "the switch that keeps its credential chain from waiting for a machine of EC2",
	"github.com/aws/aws-sdk-go-v2/service/elasticache": "what ElastiCache's operations take and give, as structs; its client asks and breaks real groups",
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch":  "what CloudWatch's operations take and give, as structs; its client reads real groups' metrics, and speaks CBOR to the front in tests",
	"github.com/aws/aws-sdk-go-v2/service/sns":         "the same of SNS",
	"github.com/aws/aws-sdk-go-v2/service/sts":         "the same of STS: GetCallerIdentity, also of a drill's own credentials",
	"github.com/aws/smithy-go":                         "the interface of the SDK's errors, which our operations return",
	"github.com/cockroachdb/datadriven":                "tests: script files beside the failover machine",
	"github.com/fxamacker/cbor/v2":                     "CBOR with bounds on what a stranger may nest and repeat; the SDK's own says that it is for the SDK only",
	"github.com/goccy/go-yaml":                         "strict YAML with the line of an unknown key",
	"github.com/gomodule/redigo":                       "a plain Redis client: tests and the drill's clients, one connection one socket",
	"github.com/google/go-cmp":                         "tests: readable differences",
	"github.com/nicholas-fedor/shoutrrr":               "notifications to chat services: each has an interface of its own; the kept fork of containrrr/shoutrrr (last release 2023)",
	"github.com/prometheus/client_golang":              "the exposition format of /metrics",
	"github.com/prometheus/client_golang/exp":          "the client of the remote-write protocol: compression, backoff, which answers are final",
	"github.com/prometheus/client_model":               "gathering the metrics of parts that come and go; tests read metrics back",
	"github.com/prometheus/prometheus":                 "the time-series database below series: its log survives kill -9, its chunks take a byte or two a sample",
	"github.com/redis/go-redis/v9":                     "the Redis client that most Go applications use: drills and benchmarks speak through it",
	"github.com/rogpeppe/go-internal":                  "tests: testscript plays the CLI's stories",
	"github.com/spf13/cobra":                           "commands, help, completion and the CLI's page from one source",
	"github.com/spf13/pflag":                           "cobra's flags, bound to the settings",
	"github.com/wneessen/go-mail":                      "e-mail: MIME, STARTTLS and the logins of mail servers, which net/smtp (frozen) has not; 0.8.2 needs a newer Go",
	"go.etcd.io/etcd/api/v3":                           "types and errors of the store",
	"go.etcd.io/etcd/client/v3":                        "the store's client",
	"go.etcd.io/etcd/server/v3":                        "the store itself, embedded",
	"go.uber.org/zap":                                  "the embedded store logs through it; bridged into our log",
	"golang.org/x/sys":                                 "pidfd, timerfd, epoll and flock",
	"google.golang.org/grpc":                           "status codes of the store's errors",
}

// forbidden lists imports, and functions of package time, that make a decision depend on more than
// its input.
var forbidden = map[string][]string{
	"failover":   {"net", "net/http", "os", "sync", "sync/atomic", "log", "log/slog", "math/rand", "context"},
	"alarm":      {"net", "net/http", "os", "sync", "sync/atomic", "log", "log/slog", "math/rand", "context"},
	"metricmath": {"net", "net/http", "os", "sync", "sync/atomic", "log", "log/slog", "math/rand", "context"},
}

var (
	impureTime  = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	globalRand  = []string{"New", "NewPCG", "NewZipf", "NewChaCha8"} // all else in math/rand/v2 is the global source
	vagueNames  = []string{"pkg", "util", "utils", "common", "types", "manager", "helpers", "misc", "lib"}
	screenLines = 70 // a function fits a screen; longer ones hide their branches
)

// source is one Go file of the house.
type source struct {
	pkg     string // folder, with slashes, "" for the root
	name    string
	test    bool
	ignored bool // built only on demand: generators
	file    *ast.File
	fset    *token.FileSet
}

// generatedLine is the mark of generated code: https://go.dev/s/generatedcode.
var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// sources are all Go files below the module's root.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files were found: is this the module's root?", len(all))
	}
	return all
}

var parsed = sync.OnceValues(parse)

func parse() ([]source, error) {
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "understudy-data") {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(p, "go.mod")); d.IsDir() && p != "." && err == nil {
			return fs.SkipDir // a module of its own: its dependencies are not ours
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(p))
		if pkg == "." {
			pkg = ""
		}
		all = append(all, source{pkg: pkg, name: filepath.ToSlash(p), test: strings.HasSuffix(p, "_test.go"),
			ignored: generatedLine.Match(text), file: f, fset: fset})
		return nil
	})
	return all, err
}

func (s source) imports() []string {
	var paths []string
	for _, i := range s.file.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

// house is the folder's place: "command/gen" belongs to "command".
func house(pkg string) (string, int, bool) {
	for p := pkg; p != "." && p != ""; p = path.Dir(p) {
		if floor, ok := floors[p]; ok {
			return p, floor, true
		}
	}
	return "", 0, false
}

func isOutside(pkg string) bool {
	root, _, _ := strings.Cut(pkg, "/")
	return pkg == "" || slices.Contains(outside, root)
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		if isOutside(s.pkg) {
			continue
		}
		own, floor, ok := house(s.pkg)
		if !ok {
			t.Errorf("%s: package %s is on no floor; give it one in arch_test.go", s.name, s.pkg)
			continue
		}
		for _, i := range s.imports() {
			target, inside := strings.CutPrefix(i, "understudy/")
			if !inside {
				continue
			}
			other, below, ok := house(target)
			switch {
			case !ok:
				t.Errorf("%s imports %s, which is on no floor", s.name, i)
			case other == own:
			case below >= floor:
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go down only, and neighbours meet over RESP, HTTP or the store", s.name, floor, i, below)
			}
		}
	}
}

func TestGroundFloorNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, s := range sources(t) {
		if _, floor, ok := house(s.pkg); !ok || floor > 0 || s.test {
			continue
		}
		for _, i := range s.imports() {
			if first, _, _ := strings.Cut(i, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", s.name, i)
			}
		}
	}
}

func TestDecisionsDependOnTheirInputOnly(t *testing.T) {
	for _, s := range sources(t) {
		banned, pure := forbidden[s.pkg]
		if !pure || s.test {
			continue
		}
		for _, i := range s.imports() {
			if slices.Contains(banned, i) {
				t.Errorf("%s imports %s", s.name, i)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "time" && slices.Contains(impureTime, sel.Sel.Name) ||
				x.Name == "rand" && ast.IsExported(sel.Sel.Name) && !slices.Contains(globalRand, sel.Sel.Name) && sel.Sel.Name != "Rand" && sel.Sel.Name != "Source" && sel.Sel.Name != "PCG" {
				t.Errorf("%s uses %s.%s: time and chance are inputs", s.fset.Position(n.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
		for _, d := range s.file.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if g, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s starts a goroutine", s.fset.Position(g.Pos()))
				}
				return true
			})
		}
	}
}

func TestFoldersAreNouns(t *testing.T) {
	for _, s := range sources(t) {
		for part := range strings.SplitSeq(s.pkg, "/") {
			if slices.Contains(vagueNames, part) {
				t.Errorf("%s: a folder named %q says nothing", s.name, part)
			}
		}
	}
}

func TestEveryPackageMakesItsPromise(t *testing.T) {
	promised := map[string]string{}
	files := map[string]bool{}
	for _, s := range sources(t) {
		if s.test && (s.pkg == "" || isOutside(s.pkg)) {
			continue
		}
		if !s.test {
			files[s.pkg] = true
		}
		if s.file.Doc != nil && !s.test {
			promised[s.pkg] = s.file.Doc.Text()
		}
	}
	for pkg := range files {
		doc := promised[pkg]
		if !strings.HasPrefix(doc, "Package ") && !strings.HasPrefix(doc, "Command ") {
			t.Errorf("package %s has no comment that says what it promises", pkg)
		}
	}
}

func TestFunctionsFitAScreen(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.ignored {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			from, to := s.fset.Position(f.Pos()), s.fset.Position(f.End())
			if n := to.Line - from.Line + 1; n > screenLines {
				t.Errorf("%s: %s has %d lines, at most %d fit a screen", from, f.Name.Name, n, screenLines)
			}
		}
	}
}

func TestDirectDependenciesAreChosen(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, i := range s.imports() {
			if first, _, _ := strings.Cut(i, "/"); !strings.Contains(first, ".") {
				continue
			}
			module := library(i)
			if module == "" {
				t.Errorf("%s imports %s: add its module to arch_test.go with a reason, or do without it", s.name, i)
				continue
			}
			used[module] = true
			if strings.HasPrefix(libraries[module], "tests:") && !s.test && !isOutside(s.pkg) && s.pkg != "cluster/clustertest" {
				t.Errorf("%s imports %s, which is for tests only", s.name, i)
			}
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(mod), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.Contains(fields[0], ".") && strings.HasPrefix(fields[1], "v") && !used[fields[0]] {
			t.Errorf("go.mod requires %s directly, and nothing imports it: run `go mod tidy`", fields[0])
		}
	}
	for module := range libraries {
		if !used[module] {
			t.Logf("%s is allowed, and not used yet", module)
		}
	}
}

// library is the allowed module that a package path belongs to, "" when there is none.
func library(importPath string) string {
	best := ""
	for module := range libraries {
		if (importPath == module || strings.HasPrefix(importPath, module+"/")) && len(module) > len(best) {
			best = module
		}
	}
	return best
}

// The page of the hardest cases names a script and a test for each: they must be there.
func TestHardestCasesNameWhatIsThere(t *testing.T) {
	page, err := os.ReadFile("docs/hardest-cases.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test {
				there[f.Name.Name] = true
			}
		}
	}
	scripts, err := filepath.Glob("failover/testdata/machine/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		there[strings.TrimSuffix(filepath.Base(s), ".txt")] = true
	}
	cases := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || !strings.Contains(line, "`") {
			continue
		}
		cases++
		named := 0
		for _, name := range regexp.MustCompile("`([^`…]+)`").FindAllStringSubmatch(line, -1) {
			named++
			if !there[name[1]] {
				t.Errorf("%.40s: %s is not there", line, name[1])
			}
		}
		if named < 2 {
			t.Errorf("%.40s: names no script and no test", line)
		}
	}
	if cases != 10 {
		t.Errorf("%d cases, want 10", cases)
	}
}

// `make test` names the packages that it tests, by how they may share the machine: none may be forgotten.
func TestMakeTestsEveryPackage(t *testing.T) {
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var tested []string
	for _, list := range regexp.MustCompile(`(?m)^(?:PURE|SIM|CALM|TIMED|E2E) = (.*)$`).FindAllStringSubmatch(string(text), -1) {
		for _, p := range regexp.MustCompile(`\./[a-z0-9/]*|(?:^| )\.(?: |$)`).FindAllString(list[1], -1) {
			tested = append(tested, strings.Trim(strings.TrimPrefix(strings.TrimSpace(p), "./"), "/."))
		}
	}
	for _, s := range sources(t) {
		if s.test && !slices.ContainsFunc(tested, func(p string) bool { return s.pkg == p || p != "" && strings.HasPrefix(s.pkg, p+"/") }) {
			t.Errorf("%s: no list of the Makefile has its package", s.name)
		}
	}
}
