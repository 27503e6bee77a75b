package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	cloud "understudy/aws/remote"
	"understudy/doctor"
	"understudy/drill"
)

// doctorFlags are those of `understudy doctor`.
type doctorFlags struct {
	finder
	login       loginFlags
	target      string
	aws         cloud.Options
	drills      string
	json        bool
	fix, yes    bool
	cmd         *cobra.Command
	cloud       *cloud.Client
	wait        time.Duration // between two looks at a group that is being changed
	local       bool
	credentials doctor.Login
}

func newDoctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor [--target local | elasticache://GROUP] [--fix [--yes]]",
		Short: "Examine a group before a failover does",
		Long: `Looks at copies and zones, failover, alarms and who hears them, backups, drills, clients and
memory of a group, and says what is wrong: how bad, in one sentence with the figures, and the
command that repairs it. Nothing is written. What could not be looked at is said, too.

With --fix it shows what of it can be mended without interrupting anybody, asks, does it, and
looks again. docs/doctor.md has a section for each finding; "doctor explain ID" prints it.

Exit 0: nothing of warning or above; 1: findings; 3: not reachable.`,
		Example: "  understudy doctor\n  understudy doctor --fix\n  understudy doctor --json\n  understudy doctor --target elasticache://my-group --region us-east-1\n  understudy doctor explain alarm-silent-after-promotion",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().SortFlags = false
	fs := cmd.Flags()
	fs.StringVar(&f.target, "target", "local", "what to examine: local, the instance that --data or --http names; elasticache://GROUP")
	f.register(cmd)
	f.login.register(cmd)
	fs.StringVar(&f.aws.Region, "region", "", "region of elasticache:// (default: as AWS's own clients find it)")
	fs.StringVar(&f.aws.Endpoint, "endpoint-url", "", "URL to ask instead of AWS (default: AWS_ENDPOINT_URL, else AWS)")
	fs.StringVar(&f.drills, "drills", defaultDrills, "where `understudy drill` keeps its runs")
	fs.BoolVar(&f.fix, "fix", false, "show what can be mended safely, ask, and do it")
	fs.BoolVar(&f.yes, "yes", false, "with --fix: do not ask")
	fs.BoolVar(&f.json, "json", false, "print JSON, for programs")
	cmd.AddCommand(newDoctorExplain())
	return cmd
}

func newDoctorExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain [ID]", Short: "Say what a finding means; without an ID list them", Example: "  understudy doctor explain\n  understudy doctor explain no-backup",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(doctor.IDs(), "\n"))
				return err
			}
			text, ok := doctor.Explain(args[0])
			if !ok {
				return usagef("there is no finding %q%s; `understudy doctor explain` lists them", args[0], didYouMean(args[0], doctor.IDs(), ""))
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
}

func (f *doctorFlags) run(cmd *cobra.Command) error {
	if f.yes && !f.fix {
		return usagef("--yes: --fix is needed with it")
	}
	f.cmd = cmd
	examine, err := f.open()
	if err != nil {
		return err
	}
	p, err := examine(cmd.Context())
	if err != nil {
		return err
	}
	found := doctor.Examine(p)
	if f.fix {
		return f.mend(p, found, examine)
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), newReport(p, found))
	} else {
		err = printFindings(cmd.OutOrStdout(), p, found)
	}
	return errors.Join(err, verdict(found))
}

// verdict is exit 1 when there is something to do: the output has said what.
func verdict(found []doctor.Finding) error {
	if doctor.Faults(found) > 0 {
		return coded{exitNo, errSilent}
	}
	return nil
}

// open finds the target, and returns how it is read.
func (f *doctorFlags) open() (func(context.Context) (doctor.Patient, error), error) {
	login, err := f.login.login(f.ca)
	if err != nil {
		return nil, err
	}
	f.credentials = doctor.Login{User: login.User, Password: login.Password, TLS: login.TLS}
	if f.target == "local" {
		if f.aws.Region != "" || f.aws.Endpoint != "" {
			return nil, usagef("--region and --endpoint-url are of --target elasticache://GROUP")
		}
		f.local, f.wait = true, 100*time.Millisecond
		return f.examineLocal, nil
	}
	group, ok := strings.CutPrefix(f.target, "elasticache://")
	if !ok || group == "" || strings.ContainsAny(group, "/ ") {
		return nil, usagef("--target %q: not one of local, elasticache://GROUP", f.target)
	}
	f.wait = 5 * time.Second
	return func(ctx context.Context) (doctor.Patient, error) { return f.examineCloud(ctx, group) }, nil
}

// examineCloud reads a group of ElastiCache.
func (f *doctorFlags) examineCloud(ctx context.Context, group string) (doctor.Patient, error) {
	p := doctor.Patient{At: time.Now(), Place: doctor.Place{Drills: f.drillFlags()}}
	for _, x := range [][2]string{{"--region", f.aws.Region}, {"--endpoint-url", f.aws.Endpoint}} {
		if x[1] != "" {
			p.Place.Flags = append(p.Place.Flags, x[0], x[1])
		}
	}
	var err error
	if f.cloud, err = cloud.New(ctx, f.aws); err != nil {
		return p, coded{exitUsage, err}
	}
	p.Group.ID = group
	switch err := p.ReadCloud(ctx, f.cloud, group); {
	case errors.Is(err, cloud.ErrUnknown):
		return p, coded{exitUsage, err}
	case errors.Is(err, cloud.ErrDenied) && p.Unread[doctor.FromAlarms] != "": // without credentials nothing can be read
		return p, coded{exitUsage, err}
	case errors.Is(err, cloud.ErrUnreachable):
		return p, coded{exitUnreachable, err}
	}
	p.ReadSnapshots(ctx, f.cloud, group)
	f.readDrills(&p, f.target)
	p.ReadEvents(ctx, f.cloud, group)
	f.readNodes(ctx, &p)
	return p, nil
}

// readNodes asks the servers themselves.
func (f *doctorFlags) readNodes(ctx context.Context, p *doctor.Patient) {
	g, l := p.Group, f.credentials
	if g.Primary == "" {
		for _, s := range []doctor.Source{doctor.FromSettings, doctor.FromClients, doctor.FromKeys} {
			p.Missed(s, "the API names no endpoint")
		}
		return
	}
	if g.TLS && l.TLS == nil {
		l.TLS = systemTLS()
	}
	p.Doors = []doctor.Door{{Name: "primary endpoint", Addr: g.Primary, TLS: g.TLS, Auth: g.Auth}}
	var others []string
	for _, n := range g.Nodes {
		if !n.Primary {
			others = append(others, n.Addr)
		}
	}
	p.ReadServer(ctx, g.Primary, others, l)
	at := g.Primary
	if g.Reader != "" && len(g.Nodes) > 1 {
		at = g.Reader
	}
	p.ReadKeys(ctx, at, l)
}

func (f *doctorFlags) drillFlags() []string {
	if f.drills == defaultDrills {
		return nil
	}
	return []string{"--dir", f.drills}
}

// readDrills looks for the newest drill of the group among the records; target is how they name it.
func (f *doctorFlags) readDrills(p *doctor.Patient, target string) {
	runs, err := drill.List(f.drills)
	if err != nil {
		p.Missed(doctor.FromDrills, err.Error())
	}
	group := p.Name()
	for _, r := range slices.Backward(runs) {
		// An inconclusive one has tried nothing.
		if r.Group == group && r.Target == target && r.Verdict != drill.Inconclusive {
			p.Drill = doctor.Drill{At: r.Started, ID: r.ID, Failed: r.Verdict == drill.Fail}
			return
		}
	}
}
