package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"understudy/proxy"
)

// policyConfig is what requests for keys with a prefix do while they cannot be served: proxy.Policy as a file
// spells it, in proxy.yaml and in understudy.yaml.
type policyConfig struct {
	Prefix        string        `yaml:"prefix"`
	OnUnavailable string        `yaml:"on_unavailable"`
	MaxHold       time.Duration `yaml:"max_hold,omitempty"`
	MaxStaleness  time.Duration `yaml:"max_staleness,omitempty"`
}

// policyList is a setting of several policies. As a flag and in the environment it is written as in a file, on
// one line: [{prefix: "session:", on_unavailable: fail}].
type policyList []policyConfig

// Set implements pflag.Value.
func (p *policyList) Set(s string) error {
	*p = nil
	return decodeStrict([]byte(s), p)
}

// String implements pflag.Value: the form that Set reads.
func (p *policyList) String() string {
	if len(*p) == 0 {
		return ""
	}
	text, err := yaml.MarshalWithOptions(*p, yaml.Flow(true))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}

// Type implements pflag.Value.
func (p *policyList) Type() string { return "policies" }

func (p policyList) policies() (all []proxy.Policy) {
	for _, x := range p {
		all = append(all, proxy.Policy{Prefix: x.Prefix, OnUnavailable: proxy.OnUnavailable(x.OnUnavailable), MaxHold: x.MaxHold, MaxStaleness: x.MaxStaleness})
	}
	return all
}

// waits says how much is held, what classes of data do instead, and how old what is read may be. In proxy.yaml
// the keys have underscores; `understudy up` has a flag for each.
type waits struct {
	HoldRequests int           `yaml:"hold-requests"`
	HoldBytes    int           `yaml:"hold-bytes"`
	Policies     policyList    `yaml:"policies"`
	MaxStaleness time.Duration `yaml:"max-staleness"`
	MaxLagBytes  int64         `yaml:"max-lag-bytes"`
	Once         list          `yaml:"once"`
	Allow        list          `yaml:"allow"`
}

func defaultWaits() waits {
	return waits{HoldRequests: proxy.DefaultHoldRequests, HoldBytes: proxy.DefaultHoldBytes, Policies: policyList{}, Once: list{}, Allow: list{}}
}

// flags binds every setting to a flag.
func (w *waits) flags(fs *pflag.FlagSet) {
	fs.IntVar(&w.HoldRequests, "hold-requests", w.HoldRequests, "most requests that are held; past it the oldest gets a retryable error")
	fs.IntVar(&w.HoldBytes, "hold-bytes", w.HoldBytes, "bytes of them; past it the oldest gets a retryable error")
	fs.Var(&w.Policies, "policies", `what requests do while they cannot be served, by prefix of their keys, e.g. [{prefix: "session:", on_unavailable: fail}]. hold, fail, or stale with max_staleness; the longest prefix counts`)
	fs.DurationVar(&w.MaxStaleness, "max-staleness", w.MaxStaleness, "how old the data of a replica may be that answers on the reader and the split endpoint, from 100ms; 0: not bounded")
	fs.Int64Var(&w.MaxLagBytes, "max-lag-bytes", w.MaxLagBytes, "how far behind such a replica may be; 0: not bounded")
	fs.Var(&w.Once, "once", "prefixes of keys: a write that must not run twice, and all of whose keys have one, runs exactly once")
	fs.Var(&w.Allow, "allow", "commands that would be refused and are carried all the same, e.g. CLIENT PAUSE")
}

// validate checks the settings against hold; called is how a key is called where it was written.
func (w *waits) validate(called func(key string) string, hold time.Duration) error {
	switch {
	case w.HoldRequests < 0:
		return fmt.Errorf("%s %d: from 1, or 0 for the default", called("hold_requests"), w.HoldRequests)
	case w.HoldBytes != 0 && w.HoldBytes < leastLimit:
		return fmt.Errorf("%s %d: at least %d bytes, or 0 for the default", called("hold_bytes"), w.HoldBytes, leastLimit)
	case w.MaxLagBytes < 0:
		return fmt.Errorf("%s %d: from 1, or 0 for no bound", called("max_lag_bytes"), w.MaxLagBytes)
	}
	if w.MaxStaleness != 0 {
		if err := proxy.CheckStaleness(w.MaxStaleness); err != nil {
			return fmt.Errorf("%s: %s", called("max_staleness"), strings.TrimPrefix(err.Error(), "max_staleness "))
		}
	}
	if err := proxy.CheckPolicies(w.Policies.policies(), hold); err != nil {
		return fmt.Errorf("%s: %w", called("policies"), err)
	}
	for _, prefix := range w.Once {
		if prefix == "" {
			return errors.New(called("once") + ": an empty prefix would be every key's; name the prefixes")
		}
	}
	if err := proxy.CheckAllowed(w.Allow); err != nil {
		return fmt.Errorf("%s: %w", called("allow"), err)
	}
	return nil
}

// apply completes a proxy's options.
func (w *waits) apply(o *proxy.Options) {
	o.HoldRequests, o.HoldBytes, o.Policies = w.HoldRequests, w.HoldBytes, w.Policies.policies()
	o.MaxStaleness, o.MaxLagBytes, o.Once, o.Allow = w.MaxStaleness, w.MaxLagBytes, w.Once, w.Allow
}

// waits are the settings of a proxy's file.
func (c *proxyConfig) waits() *waits {
	return &waits{c.HoldRequests, c.HoldBytes, c.Policies, c.MaxStaleness, c.MaxLagBytes, c.Once, c.Allow}
}
