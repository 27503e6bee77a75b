package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The libraries' own tests, through the proxy and on a redis-server without it: `make clients-suites`. What fails
// must be the same.

var clientSuites = flag.Bool("suites", false, "run the test suites of client libraries (make clients-suites)")

// suite is a library's test suite.
type suite struct {
	name    string
	command func(port, only string) *exec.Cmd // only: a test's name, "" all
	passed  *regexp.Regexp                    // a test that passed
	failed  *regexp.Regexp                    // one that did not, its name in the first group
	whole   *regexp.Regexp                    // says that the suite has come to its end
}

// outcome is what a suite said.
type outcome struct {
	passed int
	failed []string // sorted, each once
	again  []string // failed at first, and passed alone
	took   time.Duration
	output string
	broken error // it has not come to its end
}

func TestClientSuites(t *testing.T) {
	if !*clientSuites {
		t.Skip("make clients-suites runs it")
	}
	began, load := time.Now(), loadAverage(t)
	page := &strings.Builder{}
	fmt.Fprint(page, "| suite | direct: passed, failed | through the proxy: passed, failed | what fails |\n|---|---|---|---|\n")
	for _, s := range []suite{phpredisSuite(t), asynqSuite(t)} {
		t.Run(s.name, func(t *testing.T) {
			direct, through := s.both(t)
			fmt.Fprintf(page, "| %s | %d, %d | %d, %d | %s |\n", s.name, direct.passed, len(direct.failed), through.passed, len(through.failed), difference(direct, through)+retold(direct, through))
			t.Logf("direct: %d passed in %v, failed: %v; through the proxy: %d passed in %v, failed: %v", direct.passed, direct.took, direct.failed, through.passed, through.took, through.failed)
			if err := errors.Join(direct.broken, through.broken); err != nil {
				t.Errorf("it has not come to its end: %v\n%s\n%s", err, tail(direct.output, 2000), tail(through.output, 2000))
			}
			if !slices.Equal(direct.failed, through.failed) || direct.passed != through.passed {
				t.Errorf("what fails through the proxy is not what fails direct:\n%s", tail(through.output, 6000))
			}
		})
	}
	if *clientsPage != "" {
		must(t, writeBlock(*clientsPage, "suites", circumstances(began, load)+"\n\n"+page.String()))
	}
}

// difference says in a word what fails.
func difference(direct, through outcome) string {
	switch {
	case direct.broken != nil || through.broken != nil:
		return "**FAILED**: it has not come to its end"
	case slices.Equal(direct.failed, through.failed) && len(direct.failed) == 0:
		return "nothing"
	case slices.Equal(direct.failed, through.failed):
		return "the same: " + strings.Join(direct.failed, ", ")
	}
	text := "**FAILED**"
	for _, f := range through.failed {
		if !slices.Contains(direct.failed, f) {
			text += ", only through the proxy: " + f
		}
	}
	for _, f := range direct.failed {
		if !slices.Contains(through.failed, f) {
			text += ", only direct: " + f
		}
	}
	return text
}

// retold names what passed when it was run again.
func retold(direct, through outcome) string {
	all := slices.Concat(direct.again, through.again)
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return "; passed when run alone: " + strings.Join(slices.Compact(all), ", ")
}

// both runs the suite on both at a time: they mostly wait. What failed on one of them only is run again there,
// alone: the suites measure times to a fraction of a second, and a busy machine fails them on either.
func (s suite) both(t *testing.T) (direct, through outcome) {
	plain := startForeign(t, unusedPorts(t, 1)[0])
	must(t, plain.direct.ReplicaOf(t.Context(), "NO", "ONE").Err())
	// The suites write values of 512 MiB, on which redis-server stalls for longer than the fast profile takes for
	// a hang.
	g := StartGroup(t, "--profile", "wide", "--hold", "30s")
	g.WaitAvailable()
	var both sync.WaitGroup
	both.Go(func() { direct = s.run(t, plain.Addr(), "") })
	both.Go(func() { through = s.run(t, g.Primary, "") })
	both.Wait()
	one := slices.Clone(direct.failed)
	direct.retry(t, s, plain.Addr(), through.failed)
	through.retry(t, s, g.Primary, one)
	return direct, through
}

// attempts is how often a test that failed on one side only is run again.
const attempts = 3

func (o *outcome) retry(t *testing.T, s suite, addr string, others []string) {
	for _, name := range slices.Clone(o.failed) {
		if slices.Contains(others, name) {
			continue
		}
		for range attempts {
			if alone := s.run(t, addr, name); alone.passed > 0 && len(alone.failed) == 0 {
				o.passed++
				o.again = append(o.again, name)
				o.failed = slices.DeleteFunc(o.failed, func(f string) bool { return f == name })
				break
			}
		}
	}
}

// suiteWithin bounds one run of a suite; asynq's takes three and a half minutes, most of it waiting.
const suiteWithin = 15 * time.Minute

func (s suite) run(t *testing.T, addr, only string) outcome {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return outcome{broken: err}
	}
	ctx, cancel := context.WithTimeout(t.Context(), suiteWithin)
	defer cancel()
	made := s.command(port, only)
	cmd := exec.CommandContext(ctx, made.Path, made.Args[1:]...)
	cmd.Dir, cmd.Env = made.Dir, made.Env
	begin := time.Now()
	out, err := cmd.CombinedOutput() // exit 1 when a test fails: what it says counts
	o := outcome{output: string(out), took: time.Since(begin).Round(time.Second)}
	if !s.whole.Match(out) {
		o.broken = fmt.Errorf("%s on port %s: %w", s.name, port, errors.Join(err, ctx.Err()))
	}
	o.passed = len(s.passed.FindAll(out, -1))
	for _, m := range s.failed.FindAllSubmatch(out, -1) {
		o.failed = append(o.failed, string(m[1]))
	}
	slices.Sort(o.failed)
	o.failed = slices.Compact(o.failed)
	return o
}

// phpredisSuite is the one of the source package that apt has for the installed php-redis.
func phpredisSuite(t *testing.T) suite {
	t.Helper()
	fetch := exec.Command("clients/php/suite_source.sh", t.TempDir())
	fetch.Stderr = os.Stderr
	out, err := fetch.Output()
	if err != nil {
		t.Fatalf("the source of php-redis: %v", err)
	}
	tests := strings.TrimSpace(string(out))
	return suite{
		name: "phpredis (" + filepath.Base(filepath.Dir(tests)) + ")",
		command: func(port, only string) *exec.Cmd {
			cmd := exec.Command("php", "TestRedis.php", "--nocolors", "--port", port)
			if only != "" {
				cmd.Args = append(cmd.Args, "--test", only)
			}
			cmd.Dir = tests
			// The installed extension, for the processes that the tests start, too.
			cmd.Env = append(os.Environ(), "TEST_PHP_ARGS= ")
			return cmd
		},
		passed: regexp.MustCompile(`\[PASSED\]`),
		failed: regexp.MustCompile(`(?m)^(?:Assertion failed|Uncaught exception|assert).*\((test\w+)\)`),
		whole:  regexp.MustCompile(`(?m)^All tests passed|^Assertion failed|^Uncaught exception`),
	}
}

// asynqSuite is the one of the module that the Go clients are built with: the packages whose tests use a server.
func asynqSuite(t *testing.T) suite {
	t.Helper()
	find := exec.Command("go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "github.com/hibiken/asynq")
	find.Dir = "clients/go"
	must(t, exec.Command("go", "-C", "clients/go", "mod", "download", "github.com/hibiken/asynq").Run())
	out, err := find.Output()
	if err != nil {
		t.Fatalf("asynq's module: %v", err)
	}
	at, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	dir := filepath.Join(t.TempDir(), "asynq") // a module by itself, with the versions that it names
	must(t, os.CopyFS(dir, os.DirFS(at)))
	return suite{
		name: "asynq " + version,
		command: func(port, only string) *exec.Cmd {
			top, _, _ := strings.Cut(only, "/")
			cmd := exec.Command("go", "test", "-count=1", "-p", "1", "-v", "-run", "^"+top, ".", "./internal/rdb", "-redis_addr", "127.0.0.1:"+port)
			cmd.Dir = dir
			return cmd
		},
		passed: regexp.MustCompile(`(?m)^--- PASS: `),
		failed: regexp.MustCompile(`(?m)^--- FAIL: (\S+)`),
		whole:  regexp.MustCompile(`(?m)^(?:ok|FAIL)\s+github.com/hibiken/asynq/internal/rdb\s`),
	}
}
