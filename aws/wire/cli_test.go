package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// wanted is set by `make test-aws`: it has installed AWS's command lines and libraries, so that one which is
// missing is a failure. Elsewhere their tests are skipped: a command line takes a second for every call.
var wanted = os.Getenv("UNDERSTUDY_TEST_AWS") != ""

// commandLines are the different `aws` here, by their version.
func commandLines(t *testing.T) map[string]string {
	t.Helper()
	if !wanted {
		t.Skip("AWS's command lines are tried by `make test-aws`")
	}
	found := map[string]string{}
	for _, name := range []string{"aws", "/usr/bin/aws"} {
		if out, err := exec.Command(name, "--version").CombinedOutput(); err == nil {
			version, _, _ := strings.Cut(string(out), " ")
			found[version] = name
		}
	}
	if len(found) == 0 {
		t.Fatal("no aws here: apt-get install awscli")
	}
	return found
}

// run is what a command line prints, and its exit status.
func run(t *testing.T, aws, url string, args ...string) (out, errs string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), aws, append([]string{"--endpoint-url", url}, args...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret, "AWS_DEFAULT_REGION=eu-central-1",
		"AWS_REGION=eu-central-1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=")
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), strings.TrimSpace(e.String()), cmd.ProcessState.ExitCode()
}

func TestCommandLinesReadAnswers(t *testing.T) {
	e := newEcho(t, false)
	first := func(key, list, member string) string {
		shape := map[string]*Model{"elasticache": ElastiCache(), "monitoring": CloudWatch(), "sns": SNS()}[strings.Fields(key)[0]]
		tree := plainOutput(shape, key, e.out[key])
		return tree[list].([]any)[0].(map[string]any)[member].(string)
	}
	for version, aws := range commandLines(t) {
		for _, c := range []struct{ command, want string }{
			{"elasticache describe-replication-groups --no-paginate --query ReplicationGroups[0].ReplicationGroupId", first("elasticache DescribeReplicationGroups", "ReplicationGroups", "ReplicationGroupId")},
			{"cloudwatch describe-alarms --no-paginate --query MetricAlarms[0].AlarmName", first("monitoring DescribeAlarms", "MetricAlarms", "AlarmName")},
			{"sns list-topics --no-paginate --query Topics[0].TopicArn", first("sns ListTopics", "Topics", "TopicArn")},
			{"sts get-caller-identity --query Arn", "arn:aws:iam::123456789012:user/tester"},
		} {
			out, errs, status := run(t, aws, e.URL, append(strings.Fields(c.command), "--output", "json")...)
			var got string
			if err := json.Unmarshal([]byte(out), &got); err != nil || got != c.want || status != 0 {
				t.Errorf("%s %s: %q, want %q\n%d %s", version, c.command, got, c.want, status, errs)
			}
		}
	}
}

func plainOutput(m *Model, key string, out any) map[string]any {
	shape := m.Shapes[m.Operations[strings.Fields(key)[1]].Output]
	tree, _ := unbind(shape, reflectValue(out), true)
	return plain(tree).(map[string]any)
}

func TestCommandLinesReadRefusals(t *testing.T) {
	open, keys := refuser(t, false).URL, refuser(t, true).URL
	for version, aws := range commandLines(t) {
		// CLI 1.x ends with 255 when the service refuses, 2.x with 254.
		failed := 254
		if strings.HasPrefix(version, "aws-cli/1.") {
			failed = 255
		}
		for _, c := range []struct{ url, command, want string }{
			{open, "elasticache test-failover --replication-group-id g --node-group-id 0001", "An error occurred (ReplicationGroupNotFoundFault) when calling the TestFailover operation: ReplicationGroup g not found."},
			{open, "cloudwatch set-alarm-state --alarm-name a --state-reason r --state-value INVALID", "An error occurred (ValidationError) when calling the SetAlarmState operation: 1 validation error detected: Value 'INVALID' at 'stateValue' failed to satisfy constraint: Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]"},
			{open, "sns list-topics", "An error occurred (InvalidAction) when calling the ListTopics operation: The operation ListTopics of SNS is not served here"},
			// The server's clock stands in the past.
			{keys, "elasticache test-failover --replication-group-id g --node-group-id 0001", "An error occurred (SignatureDoesNotMatch) when calling the TestFailover operation: "},
		} {
			_, errs, status := run(t, aws, c.url, strings.Fields(c.command)...)
			if status != failed || !strings.Contains(errs, c.want) {
				t.Errorf("%s %s: %d %s\nwant %d %s", version, c.command, status, errs, failed, c.want)
			}
		}
	}
}
