package dashboard

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Pages are the pages of several groups on one HTTP address: "/groups/NAME/" is a group's, "/" the first one's,
// and "/api/groups" names all. The zero value has none.
type Pages struct {
	// First are the groups that "/" shows, the first of them that there is; else it shows any.
	First []string
	// Missing says why a group that is asked for is not there yet; "": it says which groups there are.
	Missing string

	mu    sync.Mutex
	pages map[string]http.Handler
}

// Set shows a group; it replaces the page of that name.
func (p *Pages) Set(group string, page http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages == nil {
		p.pages = map[string]http.Handler{}
	}
	p.pages[group] = page
}

// Remove ends a group's page.
func (p *Pages) Remove(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pages, group)
}

// Names are the groups that are shown, in order.
func (p *Pages) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.pages))
}

// page is the group of that name; "" is the first.
func (p *Pages) page(name string) http.Handler {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name != "" {
		return p.pages[name]
	}
	for _, first := range p.First {
		if page := p.pages[first]; page != nil {
			return page
		}
	}
	for _, any := range slices.Sorted(maps.Keys(p.pages)) {
		return p.pages[any]
	}
	return nil
}

// ServeHTTP finds the group that a path is about.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/groups" {
		answer(w, http.StatusOK, p.Names())
		return
	}
	name, prefix := "", ""
	if rest, ok := strings.CutPrefix(r.URL.Path, "/groups/"); ok {
		name, _, _ = strings.Cut(rest, "/")
		prefix = "/groups/" + name
	}
	page := p.page(name)
	if page == nil {
		code, why := http.StatusServiceUnavailable, p.Missing
		if names := p.Names(); len(names) > 0 || why == "" {
			code, why = http.StatusNotFound, fmt.Sprintf("there is no group %q: there are %s", name, strings.Join(names, ", "))
		}
		answer(w, code, Outcome{Message: why})
		return
	}
	http.StripPrefix(prefix, page).ServeHTTP(w, r)
}
