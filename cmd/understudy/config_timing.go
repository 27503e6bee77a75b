package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy/failover"
)

// timing are single times in place of the profile's; nil is the profile's own. The yaml keys are those of
// --timing.
type timing struct {
	Renew       *time.Duration `yaml:"renew,omitempty"`
	TTL         *time.Duration `yaml:"ttl,omitempty"`
	Delta       *time.Duration `yaml:"delta,omitempty"`
	Probe       *time.Duration `yaml:"probe,omitempty"`
	Misses      *int           `yaml:"misses,omitempty"`
	Window      *time.Duration `yaml:"window,omitempty"`
	Drain       *time.Duration `yaml:"drain,omitempty"`
	ShrinkAfter *time.Duration `yaml:"shrink-after,omitempty"`
	StallAfter  *time.Duration `yaml:"stall-after,omitempty"`
}

// customProfile is what the profile is called once a time of it is changed.
const customProfile = "custom"

// timingField is one time of a timing and of a profile.
type timingField struct {
	name string
	own  **time.Duration
	of   *time.Duration
}

// fields pairs the times with those of a profile, in the order of --print-config.
func (t *timing) fields(p *failover.Profile) []timingField {
	return []timingField{
		{"renew", &t.Renew, &p.Renew}, {"ttl", &t.TTL, &p.TTL}, {"delta", &t.Delta, &p.Delta}, {"probe", &t.Probe, &p.Probe},
		{"window", &t.Window, &p.Window}, {"drain", &t.Drain, &p.Drain},
		{"shrink-after", &t.ShrinkAfter, &p.ShrinkAfter}, {"stall-after", &t.StallAfter, &p.StallAfter},
	}
}

// timingNames are the keys that can be given.
func timingNames() []string {
	names := []string{"misses"}
	for _, f := range new(timing).fields(new(failover.Profile)) {
		names = append(names, f.name)
	}
	return names
}

// apply returns the profile with the changes in it.
func (t *timing) apply(p failover.Profile) failover.Profile {
	changed := t.Misses != nil
	if changed {
		p.Misses = *t.Misses
	}
	for _, f := range t.fields(&p) {
		if *f.own != nil {
			*f.of, changed = **f.own, true
		}
	}
	if changed {
		p.Name = customProfile
	}
	return p
}

// ackEvery is how often a replica says by itself where it is.
const ackEvery = time.Second

// validateTiming checks what Profile.Validate leaves to whoever changes a profile.
func validateTiming(p failover.Profile) error {
	switch {
	case p.Drain < 0 || p.Drain > p.Window:
		return fmt.Errorf("profile %s: drain (%v) must fit into window (%v): a node drains before it answers", p.Name, p.Drain, p.Window)
	case p.ShrinkAfter <= 0:
		return fmt.Errorf("profile %s: shrink-after must be above zero", p.Name)
	case p.StallAfter <= ackEvery:
		return fmt.Errorf("profile %s: stall-after (%v) must be above %v: replicas say where they are once in that time", p.Name, p.StallAfter, ackEvery)
	}
	return nil
}

// Set reads "renew=150ms,ttl=1s,…"; it is the flag's and the environment's form.
func (t *timing) Set(s string) error {
	*t = timing{}
	if s == "" {
		return nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return fmt.Errorf("%q: not NAME=TIME, e.g. renew=150ms", pair)
		}
		if err := t.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (t *timing) set(name, value string) error {
	if name == "misses" {
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("misses=%s: not a number", value)
		}
		t.Misses = &n
		return nil
	}
	for _, f := range t.fields(new(failover.Profile)) {
		if f.name != name {
			continue
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return fmt.Errorf("%s=%s: not a time, e.g. 150ms", name, value)
		}
		*f.own = &d
		return nil
	}
	return fmt.Errorf("unknown key %q%s", name, didYouMean(name, timingNames(), ""))
}

// String is the form that Set reads.
func (t *timing) String() string {
	var pairs []string
	for _, f := range t.fields(new(failover.Profile)) {
		if *f.own != nil {
			pairs = append(pairs, f.name+"="+(*f.own).String())
		}
	}
	if t.Misses != nil {
		pairs = append(pairs, "misses="+strconv.Itoa(*t.Misses))
	}
	return strings.Join(pairs, ",")
}

// Type names the form in the help.
func (t *timing) Type() string { return "times" }
