package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// pages turns the pages of an operation, as the AWS CLI does unless it is told not to.
type pages struct {
	operation *wire.Operation
	tree      map[string]any
	most      int // items in all; 0: no bound
	skip      int // items of the first page that were shown before
	next      any // the token of the page to come; nil: the first
	resume    string
	ended     bool
	shown     int
}

// position is what a --starting-token says, in base64: the page's token, and how many of its items were shown.
type position map[string]any

const truncated = "boto_truncate_amount"

// pages are those of a call; nil when its operation has none, or they are not to be turned. Mistakes in the
// paging options show when the first page is asked for.
func (c *command) pages(o *wire.Operation, in *input) *pages {
	if o.Paginate == nil || len(o.Paginate.Input) != 1 || c.globals.noPaginate || in.paging {
		return nil
	}
	p := &pages{operation: o, tree: maps.Clone(in.tree)}
	p.next = p.tree[o.Paginate.Input[0]]
	p.most, _ = strconv.Atoi(in.own["max-items"])
	if size := in.own["page-size"]; size != "" {
		p.tree[o.Paginate.Limit] = json.Number(size)
	}
	if token := in.own["starting-token"]; token != "" {
		p.start(token)
	}
	return p
}

// start goes on where --max-items had stopped. A token that is not of that kind is the service's own.
func (p *pages) start(token string) {
	text, err := base64.StdEncoding.DecodeString(token)
	var at position
	if err != nil || json.Unmarshal(text, &at) != nil {
		p.next = token
		return
	}
	p.next = at[p.operation.Paginate.Input[0]]
	if n, ok := at[truncated].(float64); ok {
		p.skip = int(n)
	}
}

// checkPaging refuses values of the paging options that are no numbers.
func checkPaging(in *input) error {
	for _, name := range []string{"max-items", "page-size"} {
		if text, given := in.own[name]; given {
			if _, err := strconv.Atoi(text); err != nil {
				return failure{exitFailed, fmt.Sprintf("invalid literal for int() with base 10: '%s'", text)}
			}
		}
	}
	return nil
}

// page asks for the next one, and cuts from it what was shown or is too much.
func (p *pages) page(ctx context.Context, k *client) (jmespath.Object, error) {
	paginate := p.operation.Paginate
	before := p.next
	if before != nil {
		p.tree[paginate.Input[0]] = before
	}
	out, err := k.send(ctx, p.operation, p.tree)
	if err != nil {
		return nil, err
	}
	items, _ := search(out, paginate.Result[0]).([]any)
	skipped := min(p.skip, len(items))
	p.skip = 0
	items = items[skipped:]
	next, _ := search(out, paginate.Output[0]).(string)
	p.ended = next == ""
	if p.most > 0 && p.shown+len(items) >= p.most {
		kept := p.most - p.shown
		switch {
		case kept < len(items):
			p.resume = position{paginate.Input[0]: before, truncated: skipped + kept}.token()
			items = items[:kept]
		case next != "":
			p.resume = position{paginate.Input[0]: next}.token()
		}
		p.ended = true
	}
	p.shown += len(items)
	if len(items) > 0 || skipped > 0 {
		out = put(out, paginate.Result[0], items)
	}
	if !p.ended && before == any(next) {
		return nil, failure{exitFailed, "Error during pagination: The same next token was received twice: " + next}
	}
	p.next = next
	return out, nil
}

// token is the position as Python's json writes it, in base64.
func (at position) token() string {
	var parts []string
	for _, name := range sortedKeys(at) {
		text, _ := json.Marshal(at[name])
		parts = append(parts, fmt.Sprintf("%q: %s", name, text))
	}
	return base64.StdEncoding.EncodeToString([]byte("{" + strings.Join(parts, ", ") + "}"))
}

// search looks a name of the model up in an answer; in some it is a path.
func search(v any, path string) any {
	q, err := jmespath.Compile(path)
	if err != nil {
		panic(fmt.Sprintf("the model's path %q: %v", path, err))
	}
	found, err := q.Search(v)
	if err != nil {
		return nil
	}
	return found
}

// put sets what a path of names leads to: "EngineDefaults.Parameters".
func put(o jmespath.Object, path string, v any) jmespath.Object {
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return o.With(name, v)
	}
	inner, _ := o.Get(name).(jmespath.Object)
	return o.With(name, put(inner, rest, v))
}

// printPages shows all pages: as text each when it is there, else all as one answer.
func (c *command) printPages(ctx context.Context, p *pages, query *jmespath.Query) error {
	format, err := c.format()
	if err != nil {
		return err
	}
	title := p.operation.Name
	output, _ := c.output()
	whole := jmespath.Object{}
	for first := true; !p.ended; first = false {
		page, err := p.page(ctx, c.client)
		if err != nil {
			return err
		}
		if output == "text" || output == "yaml-stream" {
			if !first && output == "text" {
				page = p.results(page)
			}
			shown, err := ask(query, page)
			if err != nil {
				return err
			}
			if err := format(c.opts.Stdout, title, shown); err != nil {
				return err
			}
			continue
		}
		whole = p.join(whole, page)
	}
	if output == "text" && p.resume != "" {
		more, err := ask(query, jmespath.Object{{Name: "NextToken", Value: jmespath.Object{{Name: "NextToken", Value: p.resume}}}})
		if err != nil {
			return err
		}
		return format(c.opts.Stdout, title, more)
	}
	if output == "text" || output == "yaml-stream" {
		return nil
	}
	if p.resume != "" {
		whole = whole.With("NextToken", p.resume)
	}
	shown, err := ask(query, whole)
	if err != nil {
		return err
	}
	return format(c.opts.Stdout, title, shown)
}

// results are the lists of a page, without its token and what else it says.
func (p *pages) results(page jmespath.Object) jmespath.Object {
	only := jmespath.Object{}
	for _, name := range p.operation.Paginate.Result {
		if found := search(page, name); found != nil {
			only = put(only, name, found)
		}
	}
	return only
}

// join puts the lists of a page behind those of the pages before.
func (p *pages) join(whole, page jmespath.Object) jmespath.Object {
	for _, name := range p.operation.Paginate.Result {
		items, ok := search(page, name).([]any)
		if !ok {
			continue
		}
		before, _ := search(whole, name).([]any)
		whole = put(whole, name, append(before[:len(before):len(before)], items...))
	}
	return whole
}
