package cli

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"understudy/aws/wire"
)

// option is one that an operation takes: made of a member of its input, or the CLI's own.
type option struct {
	name     string
	member   *wire.Member // nil: the CLI's own
	required bool
	hidden   bool // not in help
	off      bool // --no-name
}

// renamed are options that the AWS CLI does not call after their member, because a global option is called so.
var renamed = map[string]string{"Subscribe Endpoint": "notification-endpoint"}

// aliases are further spellings. AWS's CLI has the first, the source document the second.
var aliases = map[string][]string{
	"CreateReplicationGroup preferred-cache-cluster-azs": {"preferred-cache-cluster-a-zs"},
	"CreateReplicationGroup cache-subnet-group-name":     {"subnet-group-name"},
}

// foreign are spellings that AWS's own CLI refuses; the user is told.
var foreign = map[string]string{"CreateReplicationGroup subnet-group-name": "cache-subnet-group-name"}

// options of an operation, in the order of its input's members; the CLI's own behind.
func (c *command) options(o *wire.Operation) []option {
	var all []option
	add := func(x option) {
		all = append(all, x)
		for _, alias := range aliases[o.Name+" "+x.name] {
			twin := x
			twin.name, twin.required, twin.hidden = alias, false, true
			all = append(all, twin)
		}
	}
	if input := c.service.model.Shapes[o.Input]; input != nil {
		for _, m := range input.Members {
			x := option{name: cmp.Or(renamed[o.Name+" "+m.Name], kebab(m.Name)), member: m, required: slices.Contains(input.Required, m.Name)}
			x.hidden = o.Paginate != nil && (slices.Contains(o.Paginate.Input, m.Name) || o.Paginate.Limit == m.Name)
			add(x)
			if m.Shape.Type == "boolean" {
				x.name, x.off, x.required = "no-"+x.name, true, false
				add(x)
			}
		}
	}
	own := []string{"cli-input-json", "cli-input-yaml", "generate-cli-skeleton"}
	if o.Paginate != nil {
		own = append(own, "starting-token", "max-items")
		if o.Paginate.Limit != "" {
			own = append(own, "page-size")
		}
	}
	if o.Name == "PutMetricData" {
		own = append(own, promoted...)
	}
	for _, name := range own {
		all = append(all, option{name: name})
	}
	return all
}

// input is what a command line asks for.
type input struct {
	tree     map[string]any // by the names of members
	own      map[string]string
	skeleton string
	paging   bool // a member that turns pages was given: they are not turned here
}

// given is an option with the words behind it.
type given struct {
	option
	words []string
}

var numeric = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// parse reads the words behind an operation.
func (c *command) parse(o *wire.Operation, words []string) (*input, error) {
	all := c.options(o)
	got, unknown, err := split(all, words)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		return nil, unknownOptions(unknown, all)
	}
	for _, g := range got {
		if right := foreign[o.Name+" "+g.name]; right != "" {
			c.note("AWS's own CLI has no --%s here; with it, write --%s", g.name, right)
		}
	}
	in := &input{tree: map[string]any{}, own: map[string]string{}}
	for _, g := range got {
		if g.member == nil {
			in.own[g.name] = strings.Join(g.words, " ")
			if g.name == "generate-cli-skeleton" {
				in.skeleton = cmp.Or(in.own[g.name], "input")
			}
		}
	}
	if err := required(o, all, got, in); err != nil {
		return nil, err
	}
	if err := c.fill(o, got, in); err != nil {
		return nil, err
	}
	if in.skeleton == "input" || in.skeleton == "yaml-input" {
		return in, nil
	}
	if shape := c.service.model.Shapes[o.Input]; shape != nil {
		return in, check(shape, in.tree)
	}
	return in, nil
}

// split parts words into options with their values, and words that belong to none.
func split(all []option, words []string) (got []given, unknown []string, err error) {
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		name, dashed := strings.CutPrefix(name, "--")
		at := slices.IndexFunc(all, func(x option) bool { return x.name == name })
		if !dashed || at < 0 {
			unknown = append(unknown, words[i])
			continue
		}
		g := given{option: all[at]}
		if joined {
			g.words = []string{value}
		}
		for !joined && i+1 < len(words) && (!strings.HasPrefix(words[i+1], "-") || words[i+1] == "-" || numeric.MatchString(words[i+1]) || strings.Contains(words[i+1], " ")) {
			if !g.several() && len(g.words) == g.most() {
				break
			}
			i++
			g.words = append(g.words, words[i])
		}
		if err := g.count(joined); err != nil {
			return nil, nil, err
		}
		got = append(got, g)
	}
	return got, unknown, nil
}

func (x option) several() bool {
	return x.member != nil && x.member.Shape.Type == "list"
}

// most is how many words an option takes that does not take several.
func (x option) most() int {
	if x.member != nil && x.member.Shape.Type == "boolean" {
		return 0
	}
	return 1
}

func (g given) count(joined bool) error {
	switch {
	case g.several() || g.name == "generate-cli-skeleton":
		return nil
	case joined && g.most() == 0:
		return badUsage("argument --%s: ignored explicit argument '%s'", g.name, g.words[0])
	case len(g.words) < g.most():
		return badUsage("argument --%s: expected one argument", g.name)
	}
	return nil
}

// unknownOptions refuses words; the nearest right option is named.
func unknownOptions(unknown []string, all []option) error {
	var names, hints []string
	for _, x := range all {
		names = append(names, x.name)
	}
	names = append(names, globalNames()...)
	for _, word := range unknown {
		name, option := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if near := nearest(name, names); option && near != "" {
			hints = append(hints, fmt.Sprintf("\n%s: did you mean --%s?", word, near))
		}
	}
	return usage("%s\nUnknown options: %s%s\n", usageText, strings.Join(unknown, ", "), strings.Join(hints, ""))
}

// required refuses a command line without what the operation needs.
func required(o *wire.Operation, all []option, got []given, in *input) error {
	if in.own["cli-input-json"] != "" || in.own["cli-input-yaml"] != "" || in.skeleton != "" && in.skeleton != "output" {
		return nil
	}
	var missing []string
	for _, x := range all {
		there := slices.ContainsFunc(got, func(g given) bool { return g.member != nil && g.member == x.member })
		if x.required && !there && (o.Name != "PutMetricData" || x.name != "metric-data") {
			missing = append(missing, "--"+x.name)
		}
	}
	if len(missing) > 0 {
		return badUsage("the following arguments are required: %s", strings.Join(missing, ", "))
	}
	return nil
}

// fill makes the input's tree: what --cli-input-json says, and over it the options.
func (c *command) fill(o *wire.Operation, got []given, in *input) error {
	if err := c.readInput(in); err != nil {
		return err
	}
	for _, g := range got {
		if g.member == nil {
			continue
		}
		v, err := c.value(g)
		if err != nil {
			return err
		}
		in.tree[g.member.Name] = v
		in.paging = in.paging || o.Paginate != nil && g.hidden && (slices.Contains(o.Paginate.Input, g.member.Name) || o.Paginate.Limit == g.member.Name)
	}
	if o.Name == "PutMetricData" {
		return promote(in)
	}
	return nil
}

// load reads what a value names instead of saying it.
func load(name, word string) (string, error) {
	path, file := strings.CutPrefix(word, "file://")
	if !file {
		if path, file = strings.CutPrefix(word, "fileb://"); !file {
			return word, nil
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usage("Error parsing parameter '--%s': Unable to load paramfile %s: %v", name, word, err)
	}
	return string(text), nil
}
