package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"understudy/aws/jmespath"
)

// globals are the options that every command takes, wherever they stand.
type globals struct {
	endpoint, query, output, profile, region, caBundle, color string
	noVerify, noPaginate, noSign, showVersion                 bool
	readTimeout, connectTimeout                               time.Duration
}

// setters take the value of an option; nil: none that does anything here.
func (g *globals) setters() map[string]func(string) error {
	text := func(to *string) func(string) error {
		return func(v string) error { *to = v; return nil }
	}
	one := func(to *string, name string, of ...string) func(string) error {
		return func(v string) error {
			for _, choice := range of {
				if v == choice {
					*to = v
					return nil
				}
			}
			return badChoice("--"+name, v, of)
		}
	}
	seconds := func(to *time.Duration, name string) func(string) error {
		return func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return badUsage("argument --%s: invalid int value: '%s'", name, v)
			}
			*to = time.Duration(n) * time.Second
			return nil
		}
	}
	var ignored string
	return map[string]func(string) error{
		"endpoint-url": text(&g.endpoint), "query": text(&g.query), "profile": text(&g.profile), "region": text(&g.region),
		"ca-bundle": text(&g.caBundle), "cli-binary-format": one(&ignored, "cli-binary-format", "base64", "raw-in-base64-out"),
		"output":           one(&g.output, "output", "json", "text", "table", "yaml", "yaml-stream"),
		"color":            one(&g.color, "color", "on", "off", "auto"),
		"cli-read-timeout": seconds(&g.readTimeout, "cli-read-timeout"), "cli-connect-timeout": seconds(&g.connectTimeout, "cli-connect-timeout"),
	}
}

func (g *globals) switches() map[string]*bool {
	var ignored bool
	return map[string]*bool{
		"no-verify-ssl": &g.noVerify, "no-paginate": &g.noPaginate, "no-sign-request": &g.noSign, "version": &g.showVersion,
		"no-cli-pager": &ignored, "no-cli-auto-prompt": &ignored, "debug": &ignored,
	}
}

// takeGlobals parts the global options from the other words.
func takeGlobals(args []string) (rest []string, g globals, err error) {
	g.readTimeout, g.connectTimeout = 60*time.Second, 60*time.Second
	setters, switches := g.setters(), g.switches()
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		name, option := strings.CutPrefix(name, "--")
		if on := switches[name]; option && on != nil && !given {
			*on = true
			continue
		}
		set := setters[name]
		if !option || set == nil {
			rest = append(rest, args[i])
			continue
		}
		if !given {
			if i++; i == len(args) {
				return nil, g, badUsage("argument --%s: expected one argument", name)
			}
			value = args[i]
		}
		if err := set(value); err != nil {
			return nil, g, err
		}
	}
	return rest, g, nil
}

func globalNames() (names []string) {
	g := &globals{}
	for name := range g.setters() {
		names = append(names, name)
	}
	for name := range g.switches() {
		names = append(names, name)
	}
	return names
}

// compile reads --query; nil: there is none.
func (g *globals) compile() (*jmespath.Query, error) {
	if g.query == "" {
		return nil, nil
	}
	q, err := jmespath.Compile(g.query)
	if errors.Is(err, jmespath.ErrFunction) { // the AWS CLI notices after the call: an alarm would be deleted first
		return nil, failure{exitFailed, err.Error()}
	}
	if err != nil {
		return nil, usage("Bad value for --query %s: %v", g.query, err)
	}
	return q, nil
}
