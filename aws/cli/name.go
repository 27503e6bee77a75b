package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	plural     = regexp.MustCompile(`[A-Z]{2,}s$`)       // AZs
	capitals   = regexp.MustCompile(`(.)([A-Z][a-z]+)`)  // AZMode: AZ-Mode
	lowerUpper = regexp.MustCompile(`([a-z0-9])([A-Z])`) // cacheCluster: cache-Cluster
)

// kebab is a model's name as the AWS CLI spells it: NumNodeGroups is num-node-groups.
func kebab(name string) string {
	if last := plural.FindString(name); last != "" {
		name = strings.TrimSuffix(name, last) + "-" + strings.ToLower(last)
	}
	name = capitals.ReplaceAllString(name, "$1-$2")
	return strings.ToLower(lowerUpper.ReplaceAllString(name, "$1-$2"))
}

// badChoice refuses a word, and names the near ones.
func badChoice(what, got string, choices []string) error {
	slices.Sort(choices)
	var b strings.Builder
	fmt.Fprintf(&b, "argument %s: Invalid choice, valid choices are:\n", what)
	for i := 0; i < len(choices); i += 2 {
		fmt.Fprintf(&b, "\n%-40s", choices[i])
		if i+1 < len(choices) {
			fmt.Fprintf(&b, " | %-40s", choices[i+1])
		}
	}
	if near := nearest(got, choices); near != "" {
		fmt.Fprintf(&b, "\n\nInvalid choice: '%s', maybe you meant:\n\n  * %s", got, near)
	}
	return badUsage("%s", b.String())
}

// nearest is the choice that got is likely to mean, "" when there is none: one that has it as a part at a
// word's border, or few letters away.
func nearest(got string, choices []string) string {
	best, distance := "", max(2, len(got)/3)+1
	for _, c := range choices {
		d := Edits(got, c)
		if got != "" && (strings.HasPrefix(c, got+"-") || strings.HasSuffix(c, "-"+got)) {
			d = min(d, 1)
		}
		if d < distance || d == distance && best != "" && c < best {
			best, distance = c, d
		}
	}
	return best
}

// Edits is the Levenshtein distance: it counts the letters that must be put in, taken out or replaced to make b of a.
func Edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
