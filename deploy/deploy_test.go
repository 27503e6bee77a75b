// Package deploy_test checks the samples of deploy for Prometheus and Grafana against docs/metrics.md, which a test of
// e2e compares with what runs.
package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile     = "prometheus/understudy.rules.yaml"
	dashboardFile = "grafana/understudy.json"
)

var testFiles = []string{"prometheus/understudy.rules_test.yaml", "prometheus/understudy.days_test.yaml"}

type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(read(t, rulesFile), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 25 {
		t.Fatalf("only %d rules were found in %s", len(all), rulesFile)
	}
	return all
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// catalog has the labels of each metric that may be in an expression.
type catalog map[string][]string

// nameLabel is how a selector of the parser holds its metric.
const nameLabel = "__name__"

// scraped are the labels that Prometheus itself adds.
var scraped = []string{"job", "instance", nameLabel}

var metricRow = regexp.MustCompile("(?m)^\\| `(understudy_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z, ]*) ?\\|")

func readCatalog(t *testing.T, rules []rule) catalog {
	t.Helper()
	c := catalog{"up": scraped}
	for _, m := range metricRow.FindAllStringSubmatch(string(read(t, "../docs/metrics.md")), -1) {
		own := append(strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' }), scraped...)
		if m[2] != "histogram" {
			c[m[1]] = own
			continue
		}
		c[m[1]+"_bucket"], c[m[1]+"_sum"], c[m[1]+"_count"] = append(own, "le"), own, own
	}
	if len(c) < 80 {
		t.Fatalf("only %d metrics were found in docs/metrics.md", len(c))
	}
	for _, r := range rules {
		if r.Record != "" {
			c[r.Record] = []string{"group", nameLabel}
		}
	}
	return c
}

// check says what is wrong with an expression: it does not parse, or a metric, or one of its labels, is not there.
func (c catalog) check(expr string) error {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return err
	}
	var problems []error
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		problems = append(problems, c.checkNode(n))
		return nil
	})
	return errors.Join(problems...)
}

func (c catalog) checkNode(n parser.Node) error {
	switch n := n.(type) {
	case *parser.VectorSelector:
		known, ok := c[n.Name]
		if !ok {
			return fmt.Errorf("there is no metric %q", n.Name)
		}
		for _, m := range n.LabelMatchers {
			if !slices.Contains(known, m.Name) {
				return fmt.Errorf("%s has no label %q", n.Name, m.Name)
			}
		}
	case *parser.AggregateExpr:
		return c.checkLabels(n.Expr, n.Grouping)
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			return c.checkLabels(n.RHS, n.VectorMatching.MatchingLabels)
		}
	}
	return nil
}

// checkLabels says which of the names no metric in e has.
func (c catalog) checkLabels(e parser.Expr, names []string) error {
	var problems []error
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			for _, name := range names {
				if known, ok := c[s.Name]; ok && !slices.Contains(known, name) {
					problems = append(problems, fmt.Errorf("%s has no label %q", s.Name, name))
				}
			}
		}
		return nil
	})
	return errors.Join(problems...)
}

func TestCatalogRefusesWhatIsNotThere(t *testing.T) {
	c := readCatalog(t, nil)
	for _, expr := range []string{
		"understudy_group_writeable == 0",
		`understudy_group_writable{node="a"} == 0`,
		"sum by (node) (understudy_group_writable)",
		"understudy_proxy_hold_seconds",
		"group:nobody:records",
		"understudy_group_writable > on (node) understudy_group_voters",
		"understudy_group_writable ==",
	} {
		if c.check(expr) == nil {
			t.Errorf("%s passes", expr)
		}
	}
	if err := c.check(`sum by (group, le) (rate(understudy_proxy_hold_seconds_bucket{instance="p"}[5m]))`); err != nil {
		t.Error(err)
	}
}

func TestRulesAreOfMetricsThatExist(t *testing.T) {
	rules := readRules(t)
	c := readCatalog(t, rules)
	names := map[string]bool{}
	for _, r := range rules {
		name := r.Record + r.Alert
		if names[name] {
			t.Errorf("%s is there twice", name)
		}
		names[name] = true
		if err := c.check(r.Expr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r.Alert != "" {
			checkAlert(t, r)
		}
	}
}

var commandName = regexp.MustCompile("`(understudy [a-z]+(?: [a-z]+)?)")

// checkAlert looks at what the person on call is told.
func checkAlert(t *testing.T, r rule) {
	t.Helper()
	if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
		t.Errorf("%s has the severity %q", r.Alert, s)
	}
	if r.For != "" {
		if _, err := time.ParseDuration(strings.ReplaceAll(r.For, "1d", "24h")); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
	}
	for _, name := range []string{"summary", "description"} {
		if !strings.HasSuffix(r.Annotations[name], ".") {
			t.Errorf("%s: its %s is no sentence: %q", r.Alert, name, r.Annotations[name])
		}
	}
	cli := string(read(t, "../docs/cli.md"))
	for _, m := range commandName.FindAllStringSubmatch(r.Annotations["description"], -1) {
		if !strings.Contains(cli, "\n## "+m[1]+"\n") {
			t.Errorf("%s: there is no command %q", r.Alert, m[1])
		}
	}
}

type sampleTest struct {
	Expr    string `yaml:"expr"`
	Samples []any  `yaml:"exp_samples"`
}

// readTests gives for each alert how many of promtool's tests have it fire. Each of them names all that may: it is
// silent for the group beside the one with the fault.
func readTests(t *testing.T) map[string]int {
	t.Helper()
	fires := map[string]int{}
	alert := regexp.MustCompile(`alertname="(\w+)"`)
	for _, name := range testFiles {
		var file struct {
			Tests []struct {
				Tests []sampleTest `yaml:"promql_expr_test"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(read(t, name), &file); err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Tests {
			for _, test := range group.Tests {
				m := alert.FindStringSubmatch(test.Expr)
				if m == nil {
					t.Errorf("%s: %s is of no alert", name, test.Expr)
				} else if len(test.Samples) > 0 {
					fires[m[1]]++
				}
			}
		}
	}
	return fires
}

func TestEveryAlertHasATest(t *testing.T) {
	fires := readTests(t)
	for _, r := range readRules(t) {
		if r.Alert != "" && fires[r.Alert] == 0 {
			t.Errorf("no test of promtool has %s fire", r.Alert)
		}
	}
}

// TestPromtool plays the tests of the rules: each fires at its fault, and stays silent beside it.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("there is no promtool here, and this is CI: .ci/need prometheus")
	} else if err != nil {
		t.Skip("NOT TESTED: there is no promtool here (.ci/need prometheus), so nobody has seen the alerts of deploy/prometheus fire")
	}
	for _, args := range [][]string{
		append([]string{"test", "rules"}, testFiles...),
		{"check", "rules", rulesFile},
		{"check", "config", "--syntax-only", "prometheus/prometheus.yaml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

func TestDashboardShowsMetricsThatExist(t *testing.T) {
	var board struct {
		Title      string  `json:"title"`
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct{ Name, Query string } `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(read(t, dashboardFile), &board); err != nil {
		t.Fatal(err)
	}
	c := readCatalog(t, nil)
	for _, v := range board.Templating.List {
		if metric, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			if name, _, _ := strings.Cut(metric, ","); c[name] == nil {
				t.Errorf("the variable %s: there is no metric %q", v.Name, name)
			}
		}
	}
	seen, shown := map[int]bool{}, 0
	for _, p := range board.Panels {
		if seen[p.ID] || p.Title == "" {
			t.Errorf("panel %d is there twice, or has no title", p.ID)
		}
		seen[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			shown++
			// Grafana puts the step's length there.
			if err := c.check(strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")); err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
		}
	}
	if shown < 30 {
		t.Errorf("the dashboard has only %d expressions", shown)
	}
}
