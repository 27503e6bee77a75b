package dashboard

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Registries are the metrics of a process with parts that come and go: each part has its own, and ends with it.
type Registries struct {
	own *prometheus.Registry

	mu    sync.Mutex
	parts map[string]*prometheus.Registry
}

var _ prometheus.Gatherer = (*Registries)(nil)

// NewRegistries returns those of a process whose own, lasting metrics are in own.
func NewRegistries(own *prometheus.Registry) *Registries {
	return &Registries{own: own, parts: map[string]*prometheus.Registry{}}
}

// Own are the process's own.
func (r *Registries) Own() *prometheus.Registry { return r.own }

// Add returns the metrics of one part, and the func that ends them. A second part of that name takes the
// first one's place.
func (r *Registries) Add(name string) (part *prometheus.Registry, end func()) {
	part = prometheus.NewRegistry()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[name] = part
	return part, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.parts[name] == part {
			delete(r.parts, name)
		}
	}
}

// Gather implements prometheus.Gatherer.
func (r *Registries) Gather() ([]*dto.MetricFamily, error) {
	r.mu.Lock()
	all := prometheus.Gatherers{r.own}
	for _, name := range slices.Sorted(maps.Keys(r.parts)) {
		all = append(all, r.parts[name])
	}
	r.mu.Unlock()
	return all.Gather()
}

// Both registers with one part and gathers all.
type Both struct {
	prometheus.Registerer
	prometheus.Gatherer
}
