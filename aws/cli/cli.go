// Package cli takes the AWS CLI's command lines for what the front serves, without the AWS CLI: the same options,
// the same output and the same exit codes, from the same service models. See ../DESIGN.md.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// The exit codes of the AWS CLI, version 2.
const (
	exitUsage   = 252 // a command line, or parameters, that cannot be sent
	exitConfig  = 253 // no region, credentials or profile
	exitRefused = 254 // the service answered with an error
	exitFailed  = 255 // everything else: no connection, a wait that did not end well
)

// Front is where requests go when the command line, the environment and the AWS configuration name no endpoint.
type Front struct {
	URL    string
	Client *http.Client
}

// Options say with what one command line is carried out. Stdout and Stderr are needed.
type Options struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Find looks for the running instance; nil: an endpoint must be named.
	Find    func() (Front, error)
	Version string        // of this program, for its User-Agent
	Width   int           // of the terminal, in columns, for tables; 0: no terminal, which is taken for 80
	Poll    time.Duration // longest pause between two polls of a wait on the found instance; 0: a second
}

// failure ends a command line with an exit code of its own.
type failure struct {
	code int
	text string
}

func (f failure) Error() string { return f.text }

func usage(format string, args ...any) error { return failure{exitUsage, fmt.Sprintf(format, args...)} }

// program is how the command is called.
const program = "understudy aws"

const usageText = `usage: ` + program + ` [options] <command> <subcommand> [<subcommand> ...] [parameters]
To see help text, you can run:

  ` + program + ` help
  ` + program + ` <command> help
  ` + program + ` <command> <subcommand> help
`

func badUsage(format string, args ...any) error {
	return usage("%s\n%s: error: %s", usageText, program, fmt.Sprintf(format, args...))
}

// service is one that can be called.
type service struct {
	name  string // as the CLI calls it: "cloudwatch"
	env   string // in AWS_ENDPOINT_URL_…
	model *wire.Model
}

func services() []service {
	return []service{
		{"cloudwatch", "CLOUDWATCH", wire.CloudWatch()}, {"elasticache", "ELASTICACHE", wire.ElastiCache()},
		{"sns", "SNS", wire.SNS()}, {"sts", "STS", wire.STS()},
	}
}

// Run carries one command line out, without the program's name, and returns the exit code. What went wrong
// stands on Stderr.
func Run(ctx context.Context, args []string, o Options) int {
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	o.Width = cmp.Or(o.Width, 80)
	o.Poll = cmp.Or(o.Poll, time.Second)
	err := run(ctx, args, &o)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 128 + 2 // as after SIGINT
	}
	var f failure
	if !errors.As(err, &f) {
		f = failure{exitFailed, err.Error()}
	}
	fmt.Fprintf(o.Stderr, "\n%s\n", f.text)
	return f.code
}

// run goes from words to a service and an operation.
func run(ctx context.Context, args []string, o *Options) error {
	words, globals, err := takeGlobals(args)
	if err != nil {
		return err
	}
	if globals.showVersion {
		fmt.Fprintf(o.Stdout, "understudy/%s, in the manner of aws-cli/2\n", o.Version)
		return nil
	}
	c := &command{opts: o, globals: globals}
	if len(words) == 0 {
		return badUsage("the following arguments are required: command")
	}
	if words[0] == "help" {
		helpServices(o.Stdout)
		return nil
	}
	if c.service, err = findService(words[0]); err != nil {
		return err
	}
	if len(words) == 1 {
		return badUsage("the following arguments are required: operation")
	}
	if words[1] == "help" {
		helpOperations(o.Stdout, c.service)
		return nil
	}
	if words[1] == "wait" {
		return c.wait(ctx, words[2:])
	}
	if c.service.name == "elasticache" && words[1] == failoverPrimary {
		return c.failoverPrimary(ctx, words[2:])
	}
	operation, err := c.service.operation(words[1])
	if err != nil {
		return err
	}
	return c.call(ctx, operation, words[2:])
}

func findService(name string) (service, error) {
	var names []string
	for _, s := range services() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return service{}, badChoice("command", name, names)
}

// operation finds one by its name on the command line.
func (s service) operation(name string) (*wire.Operation, error) {
	var names []string
	for _, o := range s.model.Operations {
		if kebab(o.Name) == name {
			return o, nil
		}
		names = append(names, kebab(o.Name))
	}
	for _, unserved := range s.model.Unserved {
		if kebab(unserved) == name {
			return nil, badUsage("argument operation: AWS has %s %s, and Understudy does not serve it; `%s %s help` lists what is", s.name, name, program, s.name)
		}
	}
	names = append(names, "wait")
	if s.name == "elasticache" {
		names = append(names, failoverPrimary)
	}
	return nil, badChoice("operation", name, names)
}

// command is one call while it is made.
type command struct {
	opts    *Options
	globals globals
	service service
	client  *client
}

// call carries out one operation.
func (c *command) call(ctx context.Context, o *wire.Operation, words []string) error {
	if len(words) > 0 && words[0] == "help" {
		helpOptions(c.opts.Stdout, c.service, o)
		return nil
	}
	in, err := c.parse(o, words)
	if err != nil {
		return err
	}
	query, err := c.globals.compile()
	if err != nil {
		return err
	}
	switch in.skeleton {
	case "input", "yaml-input":
		return c.printInput(o, in.skeleton)
	case "output":
		return c.print(o.Name, sampleOutput(c.service.model, o), query)
	}
	if err := checkPaging(in); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if p := c.pages(o, in); p != nil {
		return c.printPages(ctx, p, query)
	}
	out, err := c.client.send(ctx, o, in.tree)
	if err != nil {
		return err
	}
	return c.print(o.Name, out, query)
}

// print shows one answer.
func (c *command) print(title string, answer any, query *jmespath.Query) error {
	answer, err := ask(query, answer)
	if err != nil {
		return err
	}
	format, err := c.format()
	if err != nil {
		return err
	}
	return format(c.opts.Stdout, title, answer)
}

func ask(query *jmespath.Query, answer any) (any, error) {
	if query == nil {
		return answer, nil
	}
	return query.Search(answer)
}

// note says something on the side, as one line on Stderr.
func (c *command) note(format string, args ...any) {
	fmt.Fprintln(c.opts.Stderr, program+": "+strings.TrimSpace(fmt.Sprintf(format, args...)))
}
