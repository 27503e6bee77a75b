package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// wait polls until a resource is as the waiter's name says.
func (c *command) wait(ctx context.Context, words []string) error {
	var names []string
	for name := range c.service.model.Waiters {
		names = append(names, kebab(name))
	}
	if len(words) == 0 {
		return badUsage("the following arguments are required: subcommand")
	}
	if words[0] == "help" {
		helpWaiters(c.opts.Stdout, c.service, names)
		return nil
	}
	for name, w := range c.service.model.Waiters {
		if kebab(name) == words[0] {
			return c.await(ctx, name, w, words[1:])
		}
	}
	return badChoice("subcommand", words[0], names)
}

func (c *command) await(ctx context.Context, name string, w *wire.Waiter, words []string) error {
	o := c.service.model.Operations[w.Operation]
	in, err := c.parse(o, words)
	if err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	delay, attempts := time.Duration(w.Delay)*time.Second, w.Attempts
	if c.client.found && delay > c.opts.Poll { // it is here, and changes within seconds
		attempts = int(time.Duration(attempts) * delay / c.opts.Poll)
		delay = c.opts.Poll
	}
	ends := func(why string) error {
		return failure{exitFailed, fmt.Sprintf("Waiter %s failed: %s", name, why)}
	}
	for n := 1; ; n++ {
		out, err := c.client.send(ctx, o, in.tree)
		var r refused
		if err != nil && !errors.As(err, &r) {
			return err
		}
		state, why := decide(w, out, r.refusal)
		switch {
		case state == "success":
			return nil
		case state == "failure":
			return ends("Waiter encountered a terminal failure state: " + why)
		case state == "" && err != nil:
			return ends(fmt.Sprintf("An error occurred (%s): %s", r.refusal.code, r.refusal.message))
		case n >= attempts && state == "retry":
			return ends("Max attempts exceeded. Previously accepted state: " + why)
		case n >= attempts:
			return ends("Max attempts exceeded")
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
}

// decide is the state of the first acceptor that an answer fits, and why; "": of none.
func decide(w *wire.Waiter, out jmespath.Object, r *refusal) (state, why string) {
	for _, a := range w.Acceptors {
		if why, ok := accepts(a, out, r); ok {
			return a.State, why
		}
	}
	return "", ""
}

func accepts(a wire.Acceptor, out jmespath.Object, r *refusal) (why string, ok bool) {
	switch a.Matcher {
	case "error":
		return fmt.Sprintf("Matched expected service error code: %v", a.Expected), r != nil && r.code == a.Expected
	case "status":
		expected, _ := a.Expected.(float64)
		status := 200
		if r != nil {
			status = r.status
		}
		return fmt.Sprintf("Matched expected HTTP status code: %v", a.Expected), status == int(expected)
	}
	if r != nil {
		return "", false
	}
	found := search(out, a.Argument)
	list, _ := found.([]any)
	matches := 0
	for _, x := range list {
		if jmespath.Equal(x, a.Expected) {
			matches++
		}
	}
	switch a.Matcher {
	case "pathAll":
		return fmt.Sprintf("For expression \"%s\" all members matched expected path: \"%v\"", a.Argument, a.Expected), len(list) > 0 && matches == len(list)
	case "pathAny":
		return fmt.Sprintf("For expression \"%s\" we matched expected path: \"%v\" at least once", a.Argument, a.Expected), matches > 0
	}
	return fmt.Sprintf("For expression \"%s\" we matched expected path: \"%v\"", a.Argument, a.Expected), jmespath.Equal(found, a.Expected)
}
