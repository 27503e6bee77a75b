package host

import "understudy/cluster"

// Zones says where the primaries are: the store's leader had better be elsewhere, because a zone that is
// cut off then takes either of them with it, and not both.
type Zones struct {
	of       map[string]string // machine -> zone
	primary  map[string]bool   // zones with a primary
	complete bool
}

// Primary reports whether a zone has a group's primary.
func (z Zones) Primary(zone string) bool { return z.primary[zone] }

// Free reports whether the machine is known and its zone has no primary.
func (z Zones) Free(machine string) bool {
	zone, known := z.of[machine]
	return known && z.complete && !z.primary[zone]
}

// Zones looks at the newest records.
func (h *Host) Zones() Zones {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.opts.Clock()
	z := Zones{of: map[string]string{}, primary: map[string]bool{}, complete: h.known}
	for name, m := range h.machines {
		if !m.gone && now-m.at < 3*h.opts.Renew { // one that is silent is no place to lead from
			z.of[name] = m.value.Zone
		}
	}
	for group, l := range h.leads {
		if l.State != cluster.LeadHeld {
			continue
		}
		if place, ok := h.specs[group].value.Place(l.Holder); ok {
			z.primary[place.Zone] = true
		}
	}
	return z
}
