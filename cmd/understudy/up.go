package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy/cluster"
)

func newUp() *cobra.Command {
	given := defaultConfig()
	var file string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a replication group on this machine",
		Long: `Runs one process tree: the store, one agent and redis-server a zone, the endpoints that
clients use, and an HTTP address. Prints "ready primary=… reader=… split=… http=…" once
the group has a primary and a replica that could take over, and writes the same to
understudy.json in the data directory.

SIGINT (Ctrl-C) or SIGTERM stops everything in order and keeps the data; a second one ends
it at once. The next "up" on the same data directory serves the same data.

Every setting is a flag, UNDERSTUDY_… in the environment, and a key of the file named with
--config; flags win over the environment, and that over the file.`,
		Example: "  understudy up\n  understudy up --print-config > understudy.yaml\n  understudy up --config understudy.yaml --primary-addr 127.0.0.1:6379",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file, cmd.Flags())
			if err != nil {
				return err
			}
			if printConfig {
				return c.print(cmd.OutOrStdout())
			}
			return up(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "file with settings, YAML")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the effective settings as such a file, and end")
	cmd.Flags().AddFlagSet(given.flags())
	return cmd
}

// stopWithin bounds the end of everything in order; what is left after it is killed.
const stopWithin = 4500 * time.Millisecond

// up runs the group until ctx ends or an essential part fails.
func up(ctx context.Context, c config, stdout, stderr io.Writer) error {
	// A reader of our log that goes away must not take the group with it.
	signal.Ignore(syscall.SIGPIPE)
	log := newLogger(c.LogFormat, stderr)
	limitMemory()
	a := newApp(log)
	err := serve(ctx, a, c, stdout, log)
	if err == nil {
		log.Info("stopping", "component", "up")
	} else if a.started() {
		log.Error("stopping", "component", "up", "error", err)
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(err, a.stop(bound))
}

// serve brings the group up, says so, and waits for its end. What it started is a's to stop.
func serve(ctx context.Context, a *app, c config, stdout io.Writer, log *slog.Logger) error {
	g, err := prepare(ctx, a, c, log)
	if err != nil {
		return coded{exitUsage, err}
	}
	if err := g.start(ctx, a); err != nil {
		return unlessDone(ctx, err)
	}
	e := g.endpoints()
	where := instance{Group: c.Group, Endpoints: e}
	c.door().tells(&where)
	if err := a.announceRunning(g.config.Data, where); err != nil {
		return err
	}
	if err := g.awaitReady(ctx, a); err != nil {
		return unlessDone(ctx, err)
	}
	if err := a.announce(g.config.Data, where); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "ready primary=%s reader=%s split=%s http=%s\n", e.Primary, e.Reader, e.Split, e.HTTP); err != nil {
		log.Warn("nobody reads what is printed", "error", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}

// unlessDone is nil when ctx was ended from outside: being stopped while starting is no failure.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// newLogger writes the log that operators read.
func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// ready reports whether the group serves and would survive the loss of its primary.
func ready(s cluster.Status) bool {
	if s.Writable() != "" {
		return false
	}
	for _, n := range s.Nodes {
		if n.Electable {
			return true
		}
	}
	return len(s.Nodes) == 1
}

// whyNotReady says what is waited for.
func whyNotReady(s cluster.Status) string {
	if why := s.Writable(); why != "" {
		return why
	}
	return strings.TrimSuffix("no replica can take over yet; "+s.Reasons(), "; ")
}
