package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// servedGroup is one of several groups behind one process: its name, its addresses, and what differs from
// the settings at the top of the file.
type servedGroup struct {
	Name     string         `yaml:"name"`
	Zone     string         `yaml:"zone,omitempty"`
	Listen   groupListen    `yaml:"listen"`
	Store    endpointConfig `yaml:"store,omitempty"`
	TLS      tlsConfig      `yaml:"tls,omitempty"`
	Insecure bool           `yaml:"insecure,omitempty"`
	Hold     time.Duration  `yaml:"hold,omitempty"`

	HoldRequests int           `yaml:"hold_requests"`
	HoldBytes    int           `yaml:"hold_bytes"`
	Policies     policyList    `yaml:"policies"`
	MaxStaleness time.Duration `yaml:"max_staleness"`
	MaxLagBytes  int64         `yaml:"max_lag_bytes"`

	Reads    string          `yaml:"reads,omitempty"`
	Clients  entrance        `yaml:"clients,omitempty"`
	NodeTLS  bool            `yaml:"node_tls,omitempty"`
	Once     []string        `yaml:"once,omitempty"`
	Allow    []string        `yaml:"allow,omitempty"`
	Upstream *upstreamConfig `yaml:"upstream,omitempty"`
	Topology string          `yaml:"topology_file,omitempty"`
	Observe  bool            `yaml:"observe,omitempty"`
}

// groupListen is listenConfig without the HTTP address, which is one for all.
type groupListen struct {
	Primary string `yaml:"primary,omitempty"`
	Reader  string `yaml:"reader,omitempty"`
	Split   string `yaml:"split,omitempty"`
}

// servedGroups are the entries of groups as they stand in the file, and what they come to.
type servedGroups struct {
	nodes []ast.Node
	all   []*proxyConfig
}

// UnmarshalYAML implements yaml.NodeUnmarshaler: what an entry inherits is known once the whole file is
// read.
func (g *servedGroups) UnmarshalYAML(n ast.Node) error {
	if list, ok := n.(*ast.SequenceNode); ok && len(list.Values) > 0 {
		g.nodes = list.Values
		return nil
	}
	return errors.New("groups: a list is needed, of name and listen")
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (g servedGroups) MarshalYAML() (any, error) {
	var all []servedGroup
	for _, c := range g.all {
		all = append(all, c.entry())
	}
	return all, nil
}

// groups are the configurations of the groups, each as if it were alone.
func (c *proxyConfig) groups() []*proxyConfig {
	if len(c.Groups.all) == 0 {
		return []*proxyConfig{c}
	}
	return c.Groups.all
}

// entry is a group's part of its configuration.
func (c *proxyConfig) entry() servedGroup {
	return servedGroup{
		Name: c.Group, Zone: c.Zone, Listen: groupListen{c.Listen.Primary, c.Listen.Reader, c.Listen.Split}, Store: c.Store, TLS: c.TLS, Insecure: c.Insecure,
		Hold: c.Hold, HoldRequests: c.HoldRequests, HoldBytes: c.HoldBytes, Policies: c.Policies, MaxStaleness: c.MaxStaleness, MaxLagBytes: c.MaxLagBytes,
		Reads: c.Reads, Clients: c.Clients, NodeTLS: c.NodeTLS, Once: c.Once, Allow: c.Allow, Upstream: c.Upstream, Topology: c.Topology, Observe: c.Observe,
	}
}

// with is the configuration with a group's part in it.
func (c proxyConfig) with(g servedGroup) *proxyConfig {
	c.Group, c.Zone, c.Store, c.TLS, c.Insecure = g.Name, g.Zone, g.Store, g.TLS, g.Insecure
	c.Listen.Primary, c.Listen.Reader, c.Listen.Split = g.Listen.Primary, g.Listen.Reader, g.Listen.Split
	c.Hold, c.Reads, c.Clients, c.NodeTLS, c.Once, c.Allow, c.Upstream, c.Topology, c.Observe = g.Hold, g.Reads, g.Clients, g.NodeTLS, g.Once, g.Allow, g.Upstream, g.Topology, g.Observe
	c.HoldRequests, c.HoldBytes, c.Policies, c.MaxStaleness, c.MaxLagBytes = g.HoldRequests, g.HoldBytes, g.Policies, g.MaxStaleness, g.MaxLagBytes
	c.Groups = servedGroups{}
	return &c
}

// loadGroups reads the entries on top of the rest of the file.
func (c *proxyConfig) loadGroups(file string) error {
	top := proxyConfig{Reads: c.Reads, Drain: c.Drain, BusyPoll: c.BusyPoll, Clients: defaultEntrance(), LogFormat: c.LogFormat, Listen: listenConfig{HTTP: defaultListen().HTTP}}
	if err := readSettings(file, &top); err != nil {
		return err
	}
	l := top.Listen
	switch {
	case top.Group != "":
		return fmt.Errorf("groups: group %s is named too; make it one of groups", top.Group)
	case l.Primary != "" || l.Reader != "" || l.Split != "" || top.Clients.secure():
		return errors.New("groups: an endpoint has its address at the group that it is for; at the top listen says http only")
	case top.Upstream != nil || top.Topology != "":
		return errors.New("groups: upstream and topology_file are one group's: say them there")
	}
	for _, n := range top.Groups.nodes {
		g, err := top.inherit(n)
		if err != nil {
			return err
		}
		top.Groups.all = append(top.Groups.all, top.with(g))
	}
	*c = top
	return nil
}

// inherit reads an entry. What it does not say is as at the top, but for how a store is reached by a group
// that has none.
func (c *proxyConfig) inherit(n ast.Node) (g servedGroup, err error) {
	known := func() []string { return yamlKeys(reflect.TypeFor[servedGroup]()) }
	own := servedGroup{}
	if err := yaml.NodeToValue(n, &own, yaml.DisallowUnknownField()); err != nil {
		return g, inTheFile(err, known)
	}
	g = c.entry()
	if own.Upstream != nil {
		g.Store, g.TLS, g.Insecure, g.NodeTLS = endpointConfig{}, tlsConfig{}, false, false
	}
	if len(own.Store.Endpoints) > 0 {
		g.Store = endpointConfig{}
	}
	g.Once, g.Allow, g.Policies = slices.Clone(g.Once), slices.Clone(g.Allow), slices.Clone(g.Policies)
	if err := yaml.NodeToValue(n, &g, yaml.DisallowUnknownField()); err != nil {
		return g, inTheFile(err, known)
	}
	return g, nil
}

// validateAll checks each group, and that none has what is another's.
func (c *proxyConfig) validateAll() error {
	if len(c.Groups.all) == 0 {
		return c.validate()
	}
	taken, names := map[string]string{}, map[string]bool{}
	for _, g := range c.Groups.all {
		name := "groups: " + g.Group
		if err := g.validate(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if names[g.Group] {
			return fmt.Errorf("%s: is named twice", name)
		}
		names[g.Group] = true
		for _, a := range append(g.Listen.addrs(), g.Clients.tlsAddrs()...) {
			if a.value == "" || strings.HasSuffix(a.value, ":0") || a.flag == "listen.http" {
				continue
			}
			if other := taken[a.value]; other != "" {
				return fmt.Errorf("%s: %s %s: group %s has that address already", name, a.flag, a.value, other)
			}
			taken[a.value] = g.Group
		}
	}
	return nil
}

// names are the groups that are served.
func (c *proxyConfig) names() (all []string) {
	for _, g := range c.groups() {
		all = append(all, g.Group)
	}
	return all
}

// observeAll has every group's endpoints forward and report only.
func (c *proxyConfig) observeAll() error {
	for _, g := range c.groups() {
		g.Observe = true
		if err := g.validate(); err != nil {
			return err
		}
	}
	return nil
}
