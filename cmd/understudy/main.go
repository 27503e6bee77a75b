// Command understudy keeps applications running while their Redis fails over. Its main only parses,
// validates and wires: what it does lives in the packages that it wires.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"understudy/redis"
)

// version is set at build time: -ldflags "-X main.version=…".
var version = "dev"

// The exit codes, as users and scripts rely on them.
const (
	exitOK          = 0
	exitNo          = 1 // the answer is no, or something failed while running
	exitUsage       = 2 // usage or configuration
	exitUnreachable = 3 // no instance answers
	exitRefused     = 4 // refused for safety; the message says what to do
)

// coded is an error that ends the process with a code of its own.
type coded struct {
	code int
	err  error
}

func (c coded) Error() string { return c.err.Error() }
func (c coded) Unwrap() error { return c.err }

func usagef(format string, args ...any) error {
	return coded{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == redis.FencerArg {
		// Before anything else starts: the fencer is to be small, and alive when the rest is not.
		os.Exit(redis.FencerMain(os.Stdin))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run carries one command line out and returns the exit code. The first SIGINT or SIGTERM ends the
// command's context; a second one ends the process at once, and the fencer what it leaves behind.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(stderr, "understudy: interrupted again: ending at once")
		os.Exit(exitNo)
	}()

	root := newRoot()
	root.SetArgs(singleDash(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var c coded
	if !errors.As(err, &c) {
		c = coded{exitNo, err}
	}
	if c.err != nil && c.err != errSilent { //nolint:errorlint // the value itself, never wrapped
		fmt.Fprintln(stderr, "understudy:", c.err)
	}
	return c.code
}

// errSilent ends a command whose output has said everything.
var errSilent = errors.New("")
