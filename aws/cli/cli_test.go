package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"understudy/aws/wire"
)

// stub answers a few operations over the real wire, and keeps what it was asked.
type stub struct {
	*httptest.Server
	mu     sync.Mutex
	inputs []any
	states []string // of the group, one for each Describe; the last one stays
}

func (s *stub) keep(in any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inputs = append(s.inputs, in)
}

func (s *stub) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[0]
	if len(s.states) > 1 {
		s.states = s.states[1:]
	}
	return state
}

func member(id, zone, role string) types.NodeGroupMember {
	return types.NodeGroupMember{CacheClusterId: aws.String(id), PreferredAvailabilityZone: aws.String(zone), CurrentRole: aws.String(role)}
}

func newStub(t *testing.T, key string, states ...string) *stub {
	t.Helper()
	s := &stub{states: append(states, "available")}
	e := wire.NewService(wire.ElastiCache())
	wire.Handle(e, func(_ context.Context, in *elasticache.DescribeReplicationGroupsInput) (*elasticache.DescribeReplicationGroupsOutput, error) {
		s.keep(in)
		if aws.ToString(in.ReplicationGroupId) == "none" {
			return nil, &types.ReplicationGroupNotFoundFault{Message: aws.String("ReplicationGroup none not found.")}
		}
		return &elasticache.DescribeReplicationGroupsOutput{ReplicationGroups: []types.ReplicationGroup{{
			ReplicationGroupId: aws.String("main"), Status: aws.String(s.state()), ClusterEnabled: aws.Bool(false), SnapshotRetentionLimit: aws.Int32(7),
			ReplicationGroupCreateTime: aws.Time(time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)),
			NodeGroups:                 []types.NodeGroup{{NodeGroupId: aws.String("0001"), NodeGroupMembers: []types.NodeGroupMember{member("main-001", "us-east-1a", "replica"), member("main-002", "us-east-1b", "primary")}}},
		}}}, nil
	})
	wire.Handle(e, func(_ context.Context, in *elasticache.CreateReplicationGroupInput) (*elasticache.CreateReplicationGroupOutput, error) {
		s.keep(in)
		return &elasticache.CreateReplicationGroupOutput{}, nil
	})
	wire.Handle(e, func(_ context.Context, in *elasticache.TestFailoverInput) (*elasticache.TestFailoverOutput, error) {
		s.keep(in)
		return &elasticache.TestFailoverOutput{ReplicationGroup: &types.ReplicationGroup{ReplicationGroupId: in.ReplicationGroupId, Status: aws.String("modifying")}}, nil
	})
	wire.Handle(e, func(_ context.Context, in *elasticache.DescribeEventsInput) (*elasticache.DescribeEventsOutput, error) {
		s.keep(in)
		pages := map[string]string{"": "ab", "2": "cd", "4": "e"} // by the token
		out := &elasticache.DescribeEventsOutput{}
		for _, name := range pages[aws.ToString(in.Marker)] {
			out.Events = append(out.Events, types.Event{SourceIdentifier: aws.String(string(name))})
		}
		out.Marker = map[string]*string{"": aws.String("2"), "2": aws.String("4")}[aws.ToString(in.Marker)]
		return out, nil
	})
	c := wire.NewService(wire.CloudWatch())
	wire.Handle(c, func(_ context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
		s.keep(in)
		return &cloudwatch.PutMetricAlarmOutput{}, nil
	})
	wire.Handle(c, func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		s.keep(in)
		return &cloudwatch.PutMetricDataOutput{}, nil
	})
	n := wire.NewService(wire.SNS())
	wire.Handle(n, func(_ context.Context, in *sns.CreateTopicInput) (*sns.CreateTopicOutput, error) {
		s.keep(in)
		return &sns.CreateTopicOutput{TopicArn: aws.String("arn")}, nil
	})
	o := wire.ServerOptions{Services: []*wire.Service{e, c, n}, Region: "us-east-1", Account: "000000000000"}
	if key != "" {
		o.Key = func(id string) (wire.Key, bool) { return wire.Key{Secret: "secret", User: "tester"}, id == key }
	}
	server, err := wire.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(server)
	t.Cleanup(s.Close)
	return s
}

// alone keeps the settings of whoever runs the tests out of them.
func alone(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ELASTICACHE", "AWS_DEFAULT_OUTPUT", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// say runs one command line against the stub, as the instance that was found.
func (s *stub) say(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	code = Run(t.Context(), args, Options{Stdin: strings.NewReader(""), Stdout: &o, Stderr: &e, Poll: time.Millisecond,
		Find: func() (Front, error) { return Front{URL: s.URL, Client: s.Client()}, nil }})
	return code, o.String(), e.String()
}

func (s *stub) last() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inputs) == 0 {
		return nil
	}
	return s.inputs[len(s.inputs)-1]
}

func TestOptionsBecomeInputs(t *testing.T) {
	alone(t)
	file := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(file, []byte(`{"AlarmName":"from the file","EvaluationPeriods":2,"ComparisonOperator":"LessThanThreshold"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	alarm := &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("Redis-Replication-Lag-High"), MetricName: aws.String("ReplicationLag"), Namespace: aws.String("AWS/ElastiCache"), Statistic: "Average",
		Period: aws.Int32(300), Threshold: aws.Float64(-10), ComparisonOperator: "GreaterThanThreshold", EvaluationPeriods: aws.Int32(2), DatapointsToAlarm: aws.Int32(2),
		Dimensions: []cwtypes.Dimension{{Name: aws.String("CacheClusterId"), Value: aws.String("g")}}, TreatMissingData: aws.String("notBreaching"),
		AlarmActions: []string{"arn:aws:sns:us-east-1:123456789012:t"}, ActionsEnabled: aws.Bool(false),
	}
	for _, c := range []struct {
		args []string
		want any
	}{
		{[]string{"cloudwatch", "put-metric-alarm", "--alarm-name", "Redis-Replication-Lag-High", "--metric-name", "ReplicationLag", "--namespace", "AWS/ElastiCache",
			"--statistic", "Average", "--period", "300", "--threshold", "-10", "--comparison-operator", "GreaterThanThreshold", "--dimensions", "Name=CacheClusterId,Value=g",
			"--evaluation-periods=2", "--datapoints-to-alarm", "2", "--treat-missing-data", "notBreaching", "--alarm-actions", "arn:aws:sns:us-east-1:123456789012:t", "--no-actions-enabled"}, alarm},
		{[]string{"cloudwatch", "put-metric-alarm", "--cli-input-json", "file://" + file, "--alarm-name", "x"},
			&cloudwatch.PutMetricAlarmInput{AlarmName: aws.String("x"), EvaluationPeriods: aws.Int32(2), ComparisonOperator: "LessThanThreshold"}},
		{[]string{"cloudwatch", "put-metric-data", "--namespace", "n", "--metric-name", "m", "--value", "1.5", "--dimensions", "a=b,c=d", "--timestamp", "2026-01-02T03:04:05Z"},
			&cloudwatch.PutMetricDataInput{Namespace: aws.String("n"), MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("m"), Value: aws.Float64(1.5),
				Timestamp: aws.Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Dimensions: []cwtypes.Dimension{{Name: aws.String("a"), Value: aws.String("b")}, {Name: aws.String("c"), Value: aws.String("d")}}}}}},
		{[]string{"cloudwatch", "put-metric-data", "--namespace", "n", "--metric-data", `MetricName=m,Values=1,2,StatisticValues={Sum=1,SampleCount=2,Minimum=0,Maximum=1},Dimensions=[{Name="x, y",Value='q"'}],Unit=Count`},
			&cloudwatch.PutMetricDataInput{Namespace: aws.String("n"), MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("m"), Values: []float64{1, 2}, Unit: "Count",
				StatisticValues: &cwtypes.StatisticSet{Sum: aws.Float64(1), SampleCount: aws.Float64(2), Minimum: aws.Float64(0), Maximum: aws.Float64(1)},
				Dimensions:      []cwtypes.Dimension{{Name: aws.String("x, y"), Value: aws.String(`q"`)}}}}}},
		{[]string{"sns", "create-topic", "--name", "t", "--attributes", "A=1,B=2", "--tags", `[{"Key":"k","Value":"v"}]`},
			&sns.CreateTopicInput{Name: aws.String("t"), Attributes: map[string]string{"A": "1", "B": "2"}, Tags: []snstypes.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}},
	} {
		s := newStub(t, "")
		code, out, errs := s.say(t, c.args...)
		if code != 0 {
			t.Errorf("%v: %d %s%s", c.args, code, out, errs)
			continue
		}
		if d := cmp.Diff(c.want, s.last(), cmpopts.IgnoreUnexported(cloudwatch.PutMetricAlarmInput{}, cloudwatch.PutMetricDataInput{}, sns.CreateTopicInput{},
			cwtypes.Dimension{}, cwtypes.MetricDatum{}, cwtypes.StatisticSet{}, snstypes.Tag{})); d != "" {
			t.Errorf("%v:\n%s", c.args, d)
		}
	}
}

// TestRefusedCommandLines have the AWS CLI's exit codes and texts, and send nothing.
func TestRefusedCommandLines(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"", 252, "the following arguments are required: command"},
		{"elasticashe x", 252, "* elasticache"},
		{"elasticache", 252, "the following arguments are required: operation"},
		{"elasticache test-failovr", 252, "  * test-failover"},
		{"elasticache describe-users", 252, "AWS has elasticache describe-users, and Understudy does not serve it"},
		{"elasticache test-failover --replication-group-id g", 252, "the following arguments are required: --node-group-id"},
		{"elasticache test-failover --replication-group g --node-group-id 1", 252, "Unknown options: --replication-group, g\n--replication-group: did you mean --replication-group-id?"},
		{"elasticache describe-events --duration x", 255, "invalid literal for int() with base 10: 'x'"},
		{"elasticache describe-events --duration", 252, "argument --duration: expected one argument"},
		{"elasticache describe-events --output csv", 252, "argument --output: Invalid choice"},
		{"elasticache describe-events --query a[[", 252, "Bad value for --query a[[:"},
		{"elasticache describe-events --query f(@)", 255, "Unknown function: f()"},
		{"elasticache describe-events --max-items x", 255, "invalid literal for int()"},
		{"elasticache describe-events --cli-input-json {", 252, "Invalid JSON received"},
		{`elasticache describe-events --cli-input-json {"Nope":1}`, 252, `Unknown parameter in input: "Nope", must be one of: SourceIdentifier, `},
		{`elasticache describe-events --cli-input-json {"Duration":"1"}`, 252, "Invalid type for parameter Duration, value: 1, type: <class 'str'>, valid types: <class 'int'>"},
		{"elasticache add-tags-to-resource --resource-name a --tags Kee=c", 252, `Unknown parameter in Tags[0]: "Kee", must be one of: Key, Value`},
		{"elasticache add-tags-to-resource --resource-name a --tags nokey", 252, "Error parsing parameter '--tags': Expected: '=', received: 'EOF' for input:"},
		{"cloudwatch put-metric-data --namespace n --metric-name m --metric-data MetricName=x", 252, "cannot be specified together"},
		{"elasticache wait replication-group-there", 252, "Invalid choice"},
		{"elasticache describe-events --profile nobody", 255, "The config profile (nobody) could not be found"},
		{"elasticache describe-events --endpoint-url http://127.0.0.1:1 --region r", 253, "Unable to locate credentials"},
		{"elasticache describe-events --endpoint-url nowhere", 255, "Invalid endpoint: nowhere"},
	} {
		s := newStub(t, "")
		code, out, errs := s.say(t, strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" || s.last() != nil {
			t.Errorf("%s: %d %s%s\nwant %d %s; sent %v", c.line, code, out, errs, c.code, c.want, s.last())
		}
	}
}

func TestOutputIsTheAWSCLIs(t *testing.T) {
	alone(t)
	for _, c := range []struct{ line, want string }{
		{"--query ReplicationGroups[0].[ReplicationGroupId,SnapshotRetentionLimit,ClusterEnabled,ReplicationGroupCreateTime,Description]",
			"[\n    \"main\",\n    7,\n    false,\n    \"2026-01-02T03:04:05.006000+00:00\",\n    null\n]\n"},
		{"--query ReplicationGroups[].NodeGroups[].NodeGroupMembers[].{Zone:PreferredAvailabilityZone,Role:CurrentRole} --output text", "replica\tus-east-1a\nprimary\tus-east-1b\n"},
		{"--query ReplicationGroups[].NodeGroups[].NodeGroupMembers[].{Zone:PreferredAvailabilityZone,Role:CurrentRole} --output table",
			"---------------------------\n" + "|DescribeReplicationGroups|\n" + "+----------+--------------+\n" + "|   Role   |    Zone      |\n" + "+----------+--------------+\n" +
				"|  replica |  us-east-1a  |\n" + "|  primary |  us-east-1b  |\n" + "+----------+--------------+\n"},
		{"--query ReplicationGroups[0].{b:Status,a:SnapshotRetentionLimit} --output yaml", "a: 7\nb: available\n"},
	} {
		s := newStub(t, "")
		code, out, errs := s.say(t, append([]string{"elasticache", "describe-replication-groups"}, strings.Fields(c.line)...)...)
		if code != 0 || out != c.want {
			t.Errorf("%s: %d %s\n%s\nwant\n%s", c.line, code, errs, out, c.want)
		}
	}
}

func TestPagesAreTurned(t *testing.T) {
	alone(t)
	s := newStub(t, "")
	names := []string{"elasticache", "describe-events", "--query", "[Events[].SourceIdentifier,NextToken]", "--output", "json"}
	compact := func(text string) string { return strings.Join(strings.Fields(text), "") }
	if code, out, errs := s.say(t, names...); code != 0 || compact(out) != `[["a","b","c","d","e"],null]` {
		t.Errorf("all: %d %s%s", code, out, errs)
	}
	// As botocore writes it: {"Marker": "…", "boto_truncate_amount": 1}.
	code, out, errs := s.say(t, append(names, "--max-items", "3")...)
	if code != 0 || !strings.HasPrefix(compact(out), `[["a","b","c"],"`) {
		t.Fatalf("three: %d %s%s", code, out, errs)
	}
	token := strings.Split(out, `"`)[7]
	if code, out, errs := s.say(t, append(names, "--starting-token", token)...); code != 0 || compact(out) != `[["d","e"],null]` {
		t.Errorf("the rest: %d %s%s", code, out, errs)
	}
	if code, out, errs := s.say(t, append(names, "--no-paginate")...); code != 0 || compact(out) != `[["a","b"],null]` {
		t.Errorf("one page: %d %s%s", code, out, errs)
	}
}

func TestWaits(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		line   string
		states []string
		code   int
		want   string
	}{
		{"replication-group-available --replication-group-id main", []string{"creating", "creating"}, 0, ""},
		{"replication-group-available --replication-group-id main", []string{"creating", "deleted"}, 255, "Waiter ReplicationGroupAvailable failed: Waiter encountered a terminal failure state: "},
		{"replication-group-deleted --replication-group-id none", nil, 0, ""},
		{"replication-group-deleted --replication-group-id main", nil, 255, "Waiter ReplicationGroupDeleted failed: "},
		{"replication-group-available --replication-group-id none", nil, 255, "Waiter ReplicationGroupAvailable failed: An error occurred (ReplicationGroupNotFoundFault): ReplicationGroup none not found."},
	} {
		s := newStub(t, "", c.states...)
		code, out, errs := s.say(t, append([]string{"elasticache", "wait"}, strings.Fields(c.line)...)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%s %v: %d %s%s", c.line, c.states, code, out, errs)
		}
	}
}

// TestTheGuidesSpelling is what AWS's own CLI refuses and this one carries out.
func TestTheGuidesSpelling(t *testing.T) {
	alone(t)
	s := newStub(t, "")
	code, _, errs := s.say(t, strings.Fields("elasticache create-replication-group --replication-group-id my-shopify-redis-cluster --replication-group-description d "+
		"--engine redis --cache-node-type cache.m5.large --num-node-groups 1 --replicas-per-node-group 1 --multi-az-enabled --automatic-failover-enabled "+
		"--snapshot-window 03:00-04:00 --snapshot-retention-limit 7 --subnet-group-name my-redis-subnet-group --security-group-ids sg-xxxxxxxxxxxxxxxxx --engine-version 6.x")...)
	in, _ := s.last().(*elasticache.CreateReplicationGroupInput)
	if code != 0 || in == nil || aws.ToString(in.CacheSubnetGroupName) != "my-redis-subnet-group" || !aws.ToBool(in.MultiAZEnabled) || aws.ToInt32(in.ReplicasPerNodeGroup) != 1 ||
		!strings.Contains(errs, "--cache-subnet-group-name") {
		t.Errorf("%d %s %+v", code, errs, in)
	}
	fail := []string{"elasticache", "failover-primary-instance", "--replication-group-id", "main", "--primary-availability-zone"}
	code, _, errs = s.say(t, append(fail, "us-east-1a")...)
	if _, asked := s.last().(*elasticache.TestFailoverInput); asked || code != 254 || !strings.Contains(errs, "is in us-east-1b and not in us-east-1a. Nothing was done.") {
		t.Errorf("the wrong zone: %d %s", code, errs)
	}
	code, out, errs := s.say(t, append(fail, "us-east-1b", "--query", "ReplicationGroup.Status")...)
	if test, asked := s.last().(*elasticache.TestFailoverInput); !asked || *test.NodeGroupId != "0001" || code != 0 || out != "\"modifying\"\n" ||
		!strings.Contains(errs, "elasticache test-failover --replication-group-id main --node-group-id 0001") {
		t.Errorf("the right zone: %d %s%s", code, out, errs)
	}
	if code, _, errs := s.say(t, append([]string{}, "elasticache", "failover-primary-instance", "--replication-group-id", "none")...); code != 254 || !strings.Contains(errs, "ReplicationGroupNotFoundFault") {
		t.Errorf("no such group: %d %s", code, errs)
	}
}

func TestSignsWithTheSDKsCredentials(t *testing.T) {
	alone(t)
	s := newStub(t, "AKIDEXAMPLE")
	line := strings.Fields("elasticache describe-replication-groups --query ReplicationGroups[0].Status --output text")
	if code, _, errs := s.say(t, line...); code != 254 || !strings.Contains(errs, "An error occurred (MissingAuthenticationToken) when calling the DescribeReplicationGroups operation: ") {
		t.Errorf("without keys: %d %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[shop]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n[wrong]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	if code, out, errs := s.say(t, append(line, "--profile", "shop")...); code != 0 || out != "available\n" {
		t.Errorf("with a profile: %d %s%s", code, out, errs)
	}
	if code, _, errs := s.say(t, append(line, "--profile", "wrong")...); code != 254 || !strings.Contains(errs, "(SignatureDoesNotMatch)") {
		t.Errorf("with a wrong secret: %d %s", code, errs)
	}
}

func TestFailuresOfTheServiceAreAskedAgain(t *testing.T) {
	alone(t)
	var calls int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls < 3 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("<R><DescribeEventsResult><Events></Events></DescribeEventsResult></R>"))
	}))
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_ELASTICACHE", server.URL)
	s := &stub{Server: server}
	if code, out, errs := s.say(t, strings.Fields("elasticache describe-events --no-sign-request")...); code != 0 || calls != 3 || out != "{\n    \"Events\": []\n}\n" {
		t.Errorf("%d %d %s%s", code, calls, out, errs)
	}
}

func FuzzShorthand(f *testing.F) {
	for _, text := range []string{"Name=a,Value=b", "a=b,c,d=e", "a=[1,2],b={c=d}", `a="x, y",b='z'`, "a=b,", "a={b=[{c=d}]}", `a=\,`, "=", "a=[", "a={"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "@") {
			return // that names files
		}
		if v, err := shorthand(text); err == nil && v == nil {
			t.Errorf("%q: neither a value nor an error", text)
		}
	})
}
