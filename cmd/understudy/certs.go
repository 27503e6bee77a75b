package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/certs"
)

func newCerts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make the private authority and certificates for several machines",
		Long: `Makes a private certificate authority and, signed by it, one certificate for each machine.
Agents and proxies show them to one another, TLS 1.3, both sides. Keep the authority's
ca.key off the machines: only ca.pem goes there, with the machine's own NAME.pem and NAME.key.

Running parts read the files anew when they change, without a restart.`,
		Example: "  understudy certs init --dir ./certs\n  understudy certs issue m1 --host 10.0.0.11 --dir ./certs\n  understudy certs show --dir ./certs",
	}
	cmd.AddCommand(newCertsInit(), newCertsIssue(), newCertsShow())
	demandSubcommand(cmd)
	return cmd
}

// certsDir is where the authority is kept when nothing else is said.
const certsDir = "./certs"

func newCertsInit() *cobra.Command {
	var dir, name string
	var force bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make a private authority (ECDSA P-256, 10 years)",
		Example: "  understudy certs init --dir ./certs",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := certs.Init(dir, name, force); err != nil {
				return certsError(err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s goes to every machine; keep %s off them\n",
				filepath.Join(dir, certs.AuthorityCert), filepath.Join(dir, certs.AuthorityKey))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", certsDir, "directory of the authority")
	cmd.Flags().StringVar(&name, "name", "understudy", "the authority's name")
	cmd.Flags().BoolVar(&force, "force", false, "replace an authority that is there: what it has issued is worthless then")
	return cmd
}

func newCertsIssue() *cobra.Command {
	var dir string
	var r certs.Request
	cmd := &cobra.Command{
		Use: "issue NAME", Short: "Issue a certificate for a machine or a proxy (1 year)",
		Long: `Issues NAME.pem and NAME.key, good for both sides of a connection. --host names every IP
address and DNS name under which others reach the machine; it may be given several times.`,
		Example: "  understudy certs issue m1 --host 10.0.0.11 --dir ./certs",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one machine: `%s`", cmd.UseLine())
			}
			r.Name = args[0]
			if err := certs.Issue(dir, r); err != nil {
				return certsError(err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s and %s go to %s\n", filepath.Join(dir, r.Name+".pem"), filepath.Join(dir, r.Name+".key"), r.Name)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", certsDir, "directory of the authority")
	cmd.Flags().StringSliceVar(&r.Hosts, "host", nil, "IP address or DNS name under which others reach it")
	cmd.Flags().BoolVar(&r.Force, "force", false, "replace files that are there, to renew a certificate")
	return cmd
}

// certsError gives a refusal to overwrite its own exit code.
func certsError(err error) error {
	if errors.Is(err, certs.ErrExists) {
		return coded{exitRefused, err}
	}
	return coded{exitUsage, err}
}

// certLine is one certificate as `certs show` tells it.
type certLine struct {
	File      string    `json:"file"`
	Name      string    `json:"name"`
	Authority bool      `json:"authority"`
	Hosts     []string  `json:"hosts,omitempty"`
	Until     time.Time `json:"until"`
	DaysLeft  int       `json:"days_left"`
	Trusted   bool      `json:"trusted"` // the authority in the directory vouches for it
}

func newCertsShow() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show", Short: "Show the certificates of a directory and how long they last",
		Example: "  understudy certs show --dir ./certs",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lines, err := certLines(dir, time.Now())
			if err != nil {
				return coded{exitUsage, err}
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(lines)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FILE\tNAME\tHOSTS\tUNTIL\tDAYS LEFT\tTRUSTED")
			for _, l := range lines {
				hosts := strings.Join(l.Hosts, ",")
				if l.Authority {
					hosts = "(authority)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%t\n", l.File, l.Name, hosts, l.Until.Format(time.DateOnly), l.DaysLeft, l.Trusted)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&dir, "dir", certsDir, "directory of the authority")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func certLines(dir string, now time.Time) ([]certLine, error) {
	authorities, err := certs.Read(filepath.Join(dir, certs.AuthorityCert))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range authorities {
		pool.AddCert(c)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var lines []certLine
	for _, path := range files {
		all, err := certs.Read(path)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			l := certLine{File: filepath.Base(path), Name: c.Subject.CommonName, Authority: c.IsCA, Hosts: c.DNSNames,
				Until: c.NotAfter.UTC(), DaysLeft: int(c.NotAfter.Sub(now) / (24 * time.Hour))}
			for _, ip := range c.IPAddresses {
				l.Hosts = append(l.Hosts, ip.String())
			}
			_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			l.Trusted = err == nil
			lines = append(lines, l)
		}
	}
	return lines, nil
}
