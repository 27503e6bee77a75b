package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"understudy/cluster"
)

func newAgent() *cobra.Command {
	var file string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this machine's nodes of groups that span several machines",
		Long: `Runs the nodes that the store places on this machine, of any number of groups, each an agent
beside a redis-server; a member of the store, unless an etcd is named; and an HTTP address
that tells how the groups are, wherever their nodes run.

Machines show certificates to one another (see "understudy certs"). Groups that the file
names are written to the store once; after that the store's copy counts. A node whose
machine has been silent for replace_after moves to another machine of its zone with room.

SIGTERM stops everything in order and keeps the data: a primary hands over first.`,
		Example: "  understudy agent --config /etc/understudy/agent.yaml\n  understudy agent --config agent.yaml --print-config",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--config FILE is needed; deploy/agent-m1.yaml in the source is one to begin with")
			}
			c, err := loadMachineConfig(file)
			if err != nil {
				return err
			}
			if printConfig {
				return c.print(cmd.OutOrStdout())
			}
			return runMachine(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file with this machine's settings, YAML")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "check the file, print the effective settings, and end")
	return cmd
}

// runMachine runs the agents of this machine until ctx ends or an essential part fails.
func runMachine(ctx context.Context, c machineConfig, stdout, stderr io.Writer) error {
	signal.Ignore(syscall.SIGPIPE)
	log := newLogger(c.LogFormat, stderr)
	limitMemory()
	a := newApp(log)
	err := serveMachine(ctx, a, c, stdout, log)
	if err == nil {
		log.Info("stopping", "component", "agent")
	} else if a.started() {
		log.Error("stopping", "component", "agent", "error", err)
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMachineWithin)
	defer cancel()
	return errors.Join(err, a.stop(bound))
}

// serveMachine brings the parts up, says so, and waits for their end. What it started is a's to stop.
func serveMachine(ctx context.Context, a *app, c machineConfig, stdout io.Writer, log logger) error {
	m, err := prepareMachine(ctx, a, c, log)
	if err != nil {
		return coded{exitUsage, err}
	}
	if err := m.start(ctx, a); err != nil {
		return unlessDone(ctx, err)
	}
	i := instance{Endpoints: cluster.Endpoints{HTTP: m.http.Addr().String()}}
	if len(c.Groups) > 0 {
		i.Group = c.Groups[0].Name
	}
	c.door().tells(&i)
	if err := a.announce(c.Data, i); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "ready machine=%s rpc=%s http=%s\n", c.Machine, m.address(), m.http.Addr()); err != nil {
		log.Warn("nobody reads what is printed", "error", err)
	}
	if err := notifyReady(); err != nil {
		log.Warn("the service manager is not told that this is ready", "error", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}
