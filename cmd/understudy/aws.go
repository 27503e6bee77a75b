package main

import (
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"understudy/aws/cli"
)

func newAWS() *cobra.Command {
	var f finder
	cmd := &cobra.Command{
		Use:   "aws [--data DIR | --http ADDR] SERVICE OPERATION [OPTIONS]",
		Short: "Speak to the AWS front as the AWS CLI does, without it",
		Long: `Takes the AWS CLI's command lines for elasticache, cloudwatch, sns and sts: the same options,
--query, --output json, text, table or yaml, wait, pages, --cli-input-json and
--generate-cli-skeleton, and the exit codes of AWS CLI 2 (252 usage, 253 configuration,
254 refused by the service, 255 everything else).

Requests go to the running instance unless --endpoint-url, AWS_ENDPOINT_URL or the AWS
configuration names another endpoint. Keys and region come from where AWS's own clients
find them; an instance without keys needs neither.

Two spellings of a widely read guide that AWS's CLI refuses are taken as well, and the
right ones are said: elasticache create-replication-group --subnet-group-name, and
elasticache failover-primary-instance.`,
		Example: `  understudy aws elasticache describe-replication-groups --query 'ReplicationGroups[].Status'
  understudy aws elasticache test-failover --replication-group-id main --node-group-id 0001
  understudy aws elasticache wait replication-group-available --replication-group-id main
  understudy aws elasticache create-replication-group help`,
		DisableFlagParsing: true, // the grammar is the AWS CLI's
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
				return cmd.Help()
			}
			args, err := f.leading(args)
			if err != nil {
				return err
			}
			code := cli.Run(cmd.Context(), args, cli.Options{
				Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
				Find: f.front, Version: version, Width: terminalWidth(),
			})
			if code != exitOK {
				return coded{code, errSilent}
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

// leading takes the finder's own flags where they stand before the service.
func (f *finder) leading(args []string) ([]string, error) {
	flags := map[string]*string{"--data": &f.data, "--http": &f.http, "--token-file": &f.tokenFile, "--tls-ca": &f.ca}
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		to := flags[name]
		if to == nil {
			return args, nil
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return nil, usagef("%s needs a value", name)
			}
			value, args = args[0], args[1:]
		}
		*to = value
	}
	return args, nil
}

// longestAWSCall bounds one request to the instance: creating a group answers at once.
const longestAWSCall = time.Minute

// findFront finds the running instance for AWS's clients: its front is at the address itself, whatever group a page is
// about.
func (f *finder) findFront() (reachable, error) {
	a, err := f.find()
	a.at, _, _ = strings.Cut(a.at, "/")
	a.token = "" // its place is the signature's, and the front knows clients by their keys
	return a, err
}

// front is the running instance as AWS's clients reach it.
func (f *finder) front() (cli.Front, error) {
	a, err := f.findFront()
	if err != nil {
		return cli.Front{}, err
	}
	return cli.Front{URL: a.url(""), Client: &http.Client{Timeout: longestAWSCall, Transport: a.transport()}}, nil
}

// terminalWidth is that of the terminal on standard output; 0: it is none.
func terminalWidth() int {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
