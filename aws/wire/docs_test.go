package wire

import (
	"os"
	"strings"
	"testing"
)

// The page lists each operation that the front knows, and no other.
func TestThePageListsEveryOperation(t *testing.T) {
	page, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## Operations")
	text, _, _ = strings.Cut(text, "## Metrics")
	var of *Model
	listed := map[string]int{}
	for line := range strings.Lines(text) {
		for _, m := range []*Model{ElastiCache(), CloudWatch(), SNS(), STS()} {
			if strings.HasPrefix(line, "### "+m.Service) {
				of = m
			}
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 || of == nil || strings.Contains(cells[1], "---") || strings.TrimSpace(cells[1]) == "operation" {
			continue
		}
		if name := strings.TrimSpace(cells[1]); of.Operations[name] == nil {
			t.Errorf("the page lists %s of %s, which the front does not know", name, of.Service)
		}
		listed[of.Service]++
	}
	for _, m := range []*Model{ElastiCache(), CloudWatch(), SNS(), STS()} {
		if listed[m.Service] != len(m.Operations) {
			t.Errorf("the page lists %d operations of %s, there are %d", listed[m.Service], m.Service, len(m.Operations))
		}
	}
}
