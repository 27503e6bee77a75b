package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// forAWS is set by `make test-aws`, which installs AWS's clients: elsewhere they are not tried, because each of
// their calls takes a second.
func forAWS(t *testing.T) {
	t.Helper()
	if os.Getenv("UNDERSTUDY_TEST_AWS") == "" {
		t.Skip("AWS's clients are tried by `make test-aws`")
	}
}

// awsEnv has no settings of whoever runs the tests.
func awsEnv() []string {
	return append(os.Environ(), "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any", "AWS_DEFAULT_REGION=us-east-1", "AWS_REGION=us-east-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "UNDERSTUDY_HTTP=")
}

// said is what a program printed and how it ended.
type said struct {
	out, errs string
	code      int
}

func say(t *testing.T, dir, name string, args ...string) (s said) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, awsEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// TestTheCommandLineIsTheAWSCLIs gives the same command lines to the AWS CLI 2 and to ours: standard output and
// exit code are the same, byte by byte, and standard error where the service refused.
func TestTheCommandLineIsTheAWSCLIs(t *testing.T) {
	forAWS(t)
	const theirs = "/usr/bin/aws"
	if v := say(t, "", theirs, "--version"); !strings.HasPrefix(v.out, "aws-cli/2.") {
		t.Fatalf("%s is %s: the AWS CLI 2 is wanted", theirs, v.out)
	}
	g := StartGroup(t)
	for line := range strings.Lines(commandLines) {
		args := strings.Split(strings.TrimSpace(line), " ")
		if len(args) < 2 {
			continue
		}
		args = append(args, "--endpoint-url", "http://"+g.HTTP)
		a, b := say(t, "", theirs, args...), say(t, "", program, append([]string{"aws"}, args...)...)
		if a.out != b.out || a.code != b.code || a.code == 254 && a.errs != b.errs {
			t.Errorf("%s\nthe AWS CLI: %d %s%s\nours: %d %s%s", line, a.code, a.out, a.errs, b.code, b.out, b.errs)
		}
	}
}

// commandLines avoid members that the AWS CLI of Debian is too old to know.
const commandLines = `
sts get-caller-identity
sts get-caller-identity --output text
sts get-caller-identity --output table
elasticache describe-replication-groups --query ReplicationGroups[].NodeGroups
elasticache describe-replication-groups --query ReplicationGroups[].NodeGroups --output table
elasticache describe-replication-groups --query ReplicationGroups[].NodeGroups --output text
elasticache describe-replication-groups --query ReplicationGroups[].{Id:ReplicationGroupId,A:Status,When:ReplicationGroupCreateTime}
elasticache describe-cache-clusters --show-cache-node-info
elasticache describe-cache-clusters --show-cache-node-info --output text
elasticache describe-cache-clusters --show-cache-node-info --output table
elasticache describe-cache-clusters --query CacheClusters[?CacheClusterCreateTime>='2020'].CacheClusterId --output text
elasticache describe-cache-clusters --max-items 2
elasticache describe-cache-clusters --max-items 2 --output text --query CacheClusters[].CacheClusterId
elasticache describe-cache-clusters --no-paginate --max-records 20 --query length(CacheClusters)
elasticache describe-cache-parameters --cache-parameter-group-name default.redis7 --max-items 3
elasticache describe-cache-parameters --cache-parameter-group-name default.redis7 --page-size 20 --query length(Parameters)
elasticache describe-engine-default-parameters --cache-parameter-group-family redis7 --max-items 2
elasticache describe-events --query Events[].SourceType
elasticache describe-cache-subnet-groups
elasticache add-tags-to-resource --resource-name arn:aws:elasticache:us-east-1:000000000000:replicationgroup:main --tags Key=a,Value=b Key=c,Value="x"
elasticache add-tags-to-resource --resource-name arn:aws:elasticache:us-east-1:000000000000:replicationgroup:main --tags [{"Key":"k","Value":"v"}]
elasticache list-tags-for-resource --resource-name arn:aws:elasticache:us-east-1:000000000000:replicationgroup:main
elasticache describe-replication-groups --cli-input-json {"ReplicationGroupId":"main"} --query ReplicationGroups[0].Status
elasticache describe-replication-groups --generate-cli-skeleton
elasticache describe-events --generate-cli-skeleton output
sns subscribe --generate-cli-skeleton
elasticache wait replication-group-available --replication-group-id main
elasticache wait replication-group-available --replication-group-id none
elasticache wait replication-group-deleted --replication-group-id none
elasticache describe-replication-groups --replication-group-id none
elasticache test-failover --replication-group-id main --node-group-id 9999
elasticache describe-replication-groups --max-records 5 --no-paginate
elasticache describe-replication-groups --cli-input-json {"ReplicationGroupId":7}
elasticache test-failover --replication-group-id none
elasticache test-failovr --replication-group-id none
elasticache describe-events --duration x
elasticache describe-events --bogus
elasticache describe-replication-groups --query a[[
elasticache create-replication-group --replication-group-id x
cloudwatch put-metric-alarm --alarm-name lag --metric-name ReplicationLag --namespace AWS/ElastiCache --statistic Average --period 300 --threshold 10 --comparison-operator GreaterThanThreshold --evaluation-periods 2 --datapoints-to-alarm 2 --treat-missing-data notBreaching --alarm-actions arn:aws:sns:us-east-1:000000000000:none --dimensions Name=ReplicationGroupId,Value=main --tags Key=a,Value=b
cloudwatch describe-alarms --alarm-names lag --query MetricAlarms[].{A:AlarmName,B:Threshold,C:Dimensions,D:AlarmActions,E:OKActions,F:TreatMissingData,G:Unit,H:DatapointsToAlarm}
cloudwatch describe-alarms --alarm-names lag --query MetricAlarms[].[AlarmArn,Threshold,Period,ActionsEnabled] --output text
cloudwatch describe-alarms --alarm-name-prefix lag --state-value ALARM
cloudwatch describe-alarms-for-metric --metric-name ReplicationLag --namespace AWS/ElastiCache --dimensions Name=ReplicationGroupId,Value=main --query MetricAlarms[].AlarmName --output table
cloudwatch put-composite-alarm --alarm-name page --alarm-rule ALARM(lag)
cloudwatch describe-alarms --alarm-types CompositeAlarm --query CompositeAlarms[].AlarmRule
cloudwatch describe-alarms --parents-of-alarm-name lag
cloudwatch describe-alarms --children-of-alarm-name page --query MetricAlarms[].AlarmName
cloudwatch describe-alarms --alarm-types MetricAlarm CompositeAlarm --max-items 2 --query length(MetricAlarms)
cloudwatch describe-alarm-history --alarm-name lag --history-item-type ConfigurationUpdate --query AlarmHistoryItems[].HistorySummary
cloudwatch list-tags-for-resource --resource-arn arn:aws:cloudwatch:us-east-1:000000000000:alarm:lag
cloudwatch wait alarm-exists --alarm-names lag
cloudwatch wait composite-alarm-exists --alarm-names page --alarm-types CompositeAlarm
cloudwatch set-alarm-state --alarm-name lag --state-value INVALID --state-reason x
cloudwatch set-alarm-state --alarm-name none --state-value OK --state-reason x
cloudwatch set-alarm-state --alarm-name lag --state-value OK --state-reason x --state-reason-data {
cloudwatch put-metric-alarm --alarm-name x --evaluation-periods 1 --comparison-operator GreaterThanThreshold
cloudwatch disable-alarm-actions --alarm-names lag
cloudwatch describe-alarms --alarm-names lag --query MetricAlarms[].ActionsEnabled
cloudwatch delete-alarms --alarm-names lag
cloudwatch delete-alarms --alarm-names page
cloudwatch delete-alarms --alarm-names lag
cloudwatch describe-alarms --alarm-names lag page --alarm-types MetricAlarm CompositeAlarm
`

// TestBoto3OperatesAGroup has botocore's own parser read every answer.
func TestBoto3OperatesAGroup(t *testing.T) {
	forAWS(t)
	python, err := filepath.Abs("../bin/botocore/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	g := StartGroup(t)
	if s := say(t, "", python, "aws/story.py", "http://"+g.HTTP); s.code != 0 {
		t.Errorf("%s%s", s.out, s.errs)
	} else {
		t.Log(s.out)
	}
}

// TestTerraformAppliesTheModule makes deploy/terraform's group on a running instance: apply, a plan without changes,
// more replicas and another retention, and the end. Without Terraform and its AWS provider it says that nothing was
// tested. TF_CLI_CONFIG_FILE names where providers are, for a machine without a way to the registry.
func TestTerraformAppliesTheModule(t *testing.T) {
	forAWS(t)
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("NOT TESTED: there is no terraform here")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../deploy")); err != nil {
		t.Fatal(err)
	}
	proxy, local := filepath.Join(dir, "terraform", "proxy"), filepath.Join(dir, "terraform", "examples", "local")
	terraform := func(at string, want int, args ...string) said {
		t.Helper()
		s := say(t, at, "terraform", append(args, "-no-color")...)
		if s.code != want {
			t.Fatalf("terraform %s: %d, want %d\n%s%s", strings.Join(args, " "), s.code, want, s.out, s.errs)
		}
		return s
	}
	for _, at := range []string{proxy, local} {
		if s := say(t, at, "terraform", "init", "-input=false", "-no-color"); s.code != 0 {
			t.Skipf("NOT TESTED: terraform finds no AWS provider:\n%s", s.errs)
		}
		terraform(at, 0, "validate")
	}
	g := StartGroup(t)
	settings := []string{"-input=false", "-var", "endpoint=http://" + g.HTTP, "-var", "alarms=true"}
	with := func(args ...string) []string { return append(args, settings...) }
	terraform(local, 0, with("apply", "-auto-approve")...)
	terraform(local, 0, with("plan", "-detailed-exitcode")...) // 2 would be: there are changes
	more := []string{"-var", "replicas=1", "-var", "snapshot_retention_days=3"}
	terraform(local, 0, append(with("apply", "-auto-approve"), more...)...)
	terraform(local, 0, append(with("plan", "-detailed-exitcode"), more...)...)
	terraform(local, 0, with("destroy", "-auto-approve")...)
}

// TestTerraformKeepsAlarms makes alarms of every kind: a second plan finds nothing to change, also after an update.
func TestTerraformKeepsAlarms(t *testing.T) {
	forAWS(t)
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("NOT TESTED: there is no terraform here")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("aws/alarms")); err != nil {
		t.Fatal(err)
	}
	if s := say(t, dir, "terraform", "init", "-input=false", "-no-color"); s.code != 0 {
		t.Skipf("NOT TESTED: terraform finds no AWS provider:\n%s", s.errs)
	}
	g := StartGroup(t)
	for _, args := range [][]string{
		{"apply", "-auto-approve"}, {"plan", "-detailed-exitcode"}, // 2 would be: there are changes
		{"apply", "-auto-approve", "-var", "threshold=20"}, {"plan", "-detailed-exitcode", "-var", "threshold=20"},
		{"destroy", "-auto-approve"},
	} {
		args = append(args, "-input=false", "-no-color", "-var", "endpoint=http://"+g.HTTP)
		if s := say(t, dir, "terraform", args...); s.code != 0 {
			t.Fatalf("terraform %s: %d\n%s%s", strings.Join(args, " "), s.code, s.out, s.errs)
		}
	}
}
