package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/fxamacker/cbor/v2"
)

// now is the server's time in the tests of refusals.
var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// refuser serves a few operations that refuse in all the ways there are.
func refuser(t *testing.T, keys bool) *httptest.Server {
	t.Helper()
	ec, cw, sn := NewService(ElastiCache()), NewService(CloudWatch()), NewService(SNS())
	Handle(ec, func(_ context.Context, in *elasticache.TestFailoverInput) (*elasticache.TestFailoverOutput, error) {
		switch *in.ReplicationGroupId {
		case "rate":
			return nil, &types.APICallRateForCustomerExceededFault{Message: aws.String("at most 15 a day")}
		case "panic":
			panic("a bug")
		case "broken":
			return nil, errors.New("secret detail")
		}
		return nil, &types.ReplicationGroupNotFoundFault{Message: aws.String("ReplicationGroup " + *in.ReplicationGroupId + " not found.")}
	})
	Handle(cw, func(context.Context, *cloudwatch.SetAlarmStateInput) (*cloudwatch.SetAlarmStateOutput, error) {
		return nil, &cwtypes.ResourceNotFound{Message: aws.String("no such alarm")}
	})
	Handle(cw, func(context.Context, *cloudwatch.PutDashboardInput) (*cloudwatch.PutDashboardOutput, error) {
		return nil, &cwtypes.DashboardInvalidInputError{Message: aws.String("bad"), DashboardValidationMessages: []cwtypes.DashboardValidationMessage{{DataPath: aws.String("/widgets/0"), Message: aws.String("no type")}}}
	})
	Handle(cw, func(context.Context, *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
		return &cloudwatch.PutMetricAlarmOutput{}, nil
	})
	Handle(cw, func(context.Context, *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		return nil, nil
	})
	Handle(sn, func(context.Context, *sns.ConfirmSubscriptionInput) (*sns.ConfirmSubscriptionOutput, error) {
		return &sns.ConfirmSubscriptionOutput{SubscriptionArn: aws.String("arn")}, nil
	})
	sn.AllowUnsigned("ConfirmSubscription")
	o := ServerOptions{Services: []*Service{ec, cw, sn}, Region: "us-east-1", Account: "123456789012", Now: func() time.Time { return now }}
	if keys {
		o.Key = func(id string) (Key, bool) { return Key{Secret: testSecret}, id == testKey }
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h
}

// answer is what came back, whatever the protocol.
type answer struct {
	status                       int
	code, kind, message, request string
	header                       http.Header
	body                         []byte
}

func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: body, request: resp.Header.Get("X-Amzn-Requestid")}
	fields := map[string]any{}
	switch resp.Header.Get("Content-Type") {
	case "application/x-amz-json-1.0":
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	case "application/cbor":
		if err := cbor.Unmarshal(body, &fields); err != nil {
			t.Fatalf("%v: %x", err, body)
		}
	case "text/xml":
		a.code, a.kind, a.message = between(body, "Code"), between(body, "Type"), between(body, "Message")
		if id := between(body, "RequestId"); id != a.request {
			t.Errorf("request ids %q and %q", id, a.request)
		}
		return a
	}
	a.code, _ = fields["__type"].(string)
	a.message, _ = fields["message"].(string)
	return a
}

func between(body []byte, name string) string {
	_, rest, _ := strings.Cut(string(body), "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return strings.NewReplacer("&#39;", "'", "&lt;", "<", "&#34;", `"`, "&gt;", ">", "&amp;", "&").Replace(text)
}

func query(url, form string) *http.Request {
	r, err := http.NewRequest("POST", url, strings.NewReader(form))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

func jsonRequest(url, operation, body string) *http.Request {
	r := query(url, body)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801."+operation)
	return r
}

func cborRequest(url, operation string, input any) *http.Request {
	body, err := cbor.Marshal(input)
	if err != nil {
		panic(err)
	}
	r := query(url+"/service/GraniteServiceVersion20100801/operation/"+operation, string(body))
	r.Header.Set("Content-Type", "application/cbor")
	r.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
	return r
}

const (
	ecVersion = "Version=2015-02-02&"
	cwVersion = "Version=2010-08-01&"
)

func TestRefusalsInTheWordsOfAWS(t *testing.T) {
	u := refuser(t, false).URL
	for _, c := range []struct {
		name    string
		request *http.Request
		status  int
		code    string
		message string
	}{
		{"modelled", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=g&NodeGroupId=0001"), 404, "ReplicationGroupNotFoundFault", "ReplicationGroup g not found."},
		{"a code that is not the shape's name", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=rate&NodeGroupId=0001"), 400, "APICallRateForCustomerExceeded", "at most 15 a day"},
		{"missing, ElastiCache", query(u, ecVersion+"Action=TestFailover&NodeGroupId=0001"), 400, "InvalidParameterValue", "The parameter ReplicationGroupId must be provided and must not be null."},
		{"blank", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=&NodeGroupId=0001"), 400, "InvalidParameterValue", "The parameter ReplicationGroupId must be provided and must not be blank."},
		{"not UTF-8", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=%ff&NodeGroupId=0001"), 400, "MalformedInput", `The parameter "ReplicationGroupId" is not valid`},
		{"out of bounds", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=g&NodeGroupId=12345"), 400, "ValidationError", "1 validation error detected: Value '12345' at 'nodeGroupId' failed to satisfy constraint: Member must have length less than or equal to 4"},
		{"two at once", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=g&NodeGroupId=abcde"), 400, "ValidationError", `2 validation errors detected: Value 'abcde' at 'nodeGroupId' failed to satisfy constraint: Member must have length less than or equal to 4; Value 'abcde' at 'nodeGroupId' failed to satisfy constraint: Member must satisfy regular expression pattern: \d+`},
		{"enum", query(u, cwVersion+"Action=SetAlarmState&AlarmName=a&StateReason=r&StateValue=INVALID"), 400, "ValidationError", "1 validation error detected: Value 'INVALID' at 'stateValue' failed to satisfy constraint: Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]"},
		{"missing, CloudWatch", query(u, cwVersion+"Action=SetAlarmState&StateReason=r&StateValue=OK"), 400, "MissingParameter", "The parameter AlarmName is required."},
		{"missing, SNS", query(u, "Version=2010-03-31&Action=ConfirmSubscription&Token=t"), 400, "ValidationError", "1 validation error detected: Value null at 'topicArn' failed to satisfy constraint: Member must not be null"},
		{"not a number", query(u, cwVersion+"Action=PutMetricData&Namespace=n&MetricData.member.1.MetricName=m&MetricData.member.1.Value=x"), 400, "MalformedInput", "MetricData.1.Value is not a double"},
		{"unknown", query(u, ecVersion+"Action=Fly"), 400, "InvalidAction", "Could not find operation Fly for version 2015-02-02"},
		{"not served here", query(u, ecVersion+"Action=CreateUser"), 400, "InvalidAction", "The operation CreateUser of ElastiCache is not served here"},
		{"served by nobody, kept in the model", query(u, ecVersion+"Action=DescribeEvents"), 400, "InvalidAction", "The operation DescribeEvents of ElastiCache is not served here"},
		{"another version", query(u, "Version=2014-09-30&Action=TestFailover"), 400, "InvalidAction", `Could not find operation TestFailover for version 2014-09-30`},
		{"no action", query(u, "a=b"), 400, "MissingAction", "The request is missing an action or a required parameter."},
		{"nothing", query(u, ""), 400, "MissingAction", "The request is missing an action or a required parameter."},
		{"a bug", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=panic&NodeGroupId=0001"), 500, "InternalFailure", "The request processing has failed because of an unknown error, exception or failure."},
		{"a failure", query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=broken&NodeGroupId=0001"), 500, "InternalFailure", "The request processing has failed because of an unknown error, exception or failure."},
		{"JSON, modelled", jsonRequest(u, "SetAlarmState", `{"AlarmName":"a","StateReason":"r","StateValue":"OK"}`), 404, "com.amazonaws.cloudwatch#ResourceNotFound", "no such alarm"},
		{"JSON, missing", jsonRequest(u, "SetAlarmState", `{"StateReason":"r","StateValue":"OK"}`), 400, "com.amazonaws.cloudwatch#MissingRequiredParameterException", "The parameter AlarmName is required."},
		{"JSON, unknown", jsonRequest(u, "Fly", `{}`), 400, "com.amazon.coral.service#UnknownOperationException", "Could not find operation Fly for version 2010-08-01"},
		{"JSON, not JSON", jsonRequest(u, "SetAlarmState", `{"AlarmName":`), 400, "com.amazon.coral.service#SerializationException", "The request is not JSON"},
		{"JSON, another type", jsonRequest(u, "SetAlarmState", `{"AlarmName":7,"StateReason":"r","StateValue":"OK"}`), 400, "com.amazon.coral.service#SerializationException", "AlarmName is not a string"},
		{"JSON, a list", jsonRequest(u, "SetAlarmState", `[]`), 400, "com.amazon.coral.service#SerializationException", "The request is not a structure"},
		{"CBOR, modelled", cborRequest(u, "SetAlarmState", map[string]any{"AlarmName": "a", "StateReason": "r", "StateValue": "OK"}), 404, "com.amazonaws.cloudwatch#ResourceNotFound", "no such alarm"},
		{"CBOR, enum", cborRequest(u, "SetAlarmState", map[string]any{"AlarmName": "a", "StateReason": "r", "StateValue": "x"}), 400, "com.amazon.coral.service#ValidationError", "1 validation error detected: Value 'x' at 'stateValue' failed to satisfy constraint: Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]"},
		{"CBOR, not CBOR", func() *http.Request {
			r := cborRequest(u, "SetAlarmState", 1)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("\xff\xff")), 2
			return r
		}(), 400, "com.amazon.coral.service#SerializationException", "The request is not CBOR"},
		{"a union that is not supported", jsonRequest(u, "PutMetricData", `{"Namespace":"n","MetricData":{}}`), 400, "com.amazon.coral.service#SerializationException", "MetricData is not a list"},
		{"too new for the model", query(u, cwVersion+"Action=PutMetricAlarm&AlarmName=a&EvaluationWindow.SlidingWindow.x=1"), 400, "InvalidParameterValue", "EvaluationWindow is not supported here"},
		{"JSON, too new for the model", jsonRequest(u, "PutMetricAlarm", `{"AlarmName":"a","WarmUpConfiguration":{}}`), 400, "com.amazonaws.cloudwatch#InvalidParameterValueException", "WarmUpConfiguration is not supported here"},
		{"CBOR, too new for the model", cborRequest(u, "PutMetricAlarm", map[string]any{"AlarmName": "a", "ActionConfiguration": map[string]any{}}), 400, "com.amazonaws.cloudwatch#InvalidParameterValueException", "ActionConfiguration is not supported here"},
		{"two megabytes of garbage", query(u, strings.Repeat("\x00garbage", 1<<18)), 413, "RequestEntityTooLarge", "The request is longer than 1048576 bytes"},
		{"a service that is not here", query(u, "Version=2012-11-05&Action=SendMessage"), 400, "InvalidAction", `Could not find operation SendMessage for version 2012-11-05`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := do(t, c.request)
			if a.status != c.status || a.code != c.code || a.message != c.message || len(a.request) != 36 {
				t.Errorf("%d %s %q %s\nwant %d %s %q", a.status, a.code, a.message, a.request, c.status, c.code, c.message)
			}
			if strings.Contains(string(a.body), "secret") {
				t.Error("the answer tells what only the log should")
			}
		})
	}
}

// CloudWatch's clients read the code from a header, so that it is the one that Query clients know.
func TestCodesOfQueryReachJSONAndCBOR(t *testing.T) {
	u := refuser(t, false).URL
	for want, r := range map[string]*http.Request{
		"ResourceNotFound;Sender":      cborRequest(u, "SetAlarmState", map[string]any{"AlarmName": "a", "StateReason": "r", "StateValue": "OK"}),
		"MissingParameter;Sender":      cborRequest(u, "SetAlarmState", map[string]any{}),
		"InvalidAction;Sender":         jsonRequest(u, "Fly", "{}"),
		"InvalidParameterInput;Sender": jsonRequest(u, "PutDashboard", `{"DashboardName":"d","DashboardBody":"b"}`),
	} {
		if a := do(t, r); a.header.Get("X-Amzn-Query-Error") != want {
			t.Errorf("%s, want %s", a.header.Get("X-Amzn-Query-Error"), want)
		}
	}
}

// The SDK's typed errors arrive as such, with their members.
func TestTypedErrorsReachTheSDK(t *testing.T) {
	u := refuser(t, false).URL
	clients := goClients(u)
	cw := clients["monitoring"].Interface().(*cloudwatch.Client)
	_, err := cw.SetAlarmState(t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: aws.String("a"), StateReason: aws.String("r"), StateValue: cwtypes.StateValueOk})
	if e := (*cwtypes.ResourceNotFound)(nil); !errors.As(err, &e) || *e.Message != "no such alarm" {
		t.Error(err)
	}
	_, err = cw.PutDashboard(t.Context(), &cloudwatch.PutDashboardInput{DashboardName: aws.String("d"), DashboardBody: aws.String("{}")})
	if e := (*cwtypes.DashboardInvalidInputError)(nil); !errors.As(err, &e) || len(e.DashboardValidationMessages) != 1 || *e.DashboardValidationMessages[0].DataPath != "/widgets/0" {
		t.Error(err)
	}
	ec := clients["elasticache"].Interface().(*elasticache.Client)
	_, err = ec.TestFailover(t.Context(), &elasticache.TestFailoverInput{ReplicationGroupId: aws.String("g"), NodeGroupId: aws.String("0001")})
	if e := (*types.ReplicationGroupNotFoundFault)(nil); !errors.As(err, &e) {
		t.Error(err)
	}
}

// The SDK compresses what is longer than 10 KiB, and signs the compressed body.
func TestTheSDKsCompressedRequests(t *testing.T) {
	e := newEcho(t, false)
	var data []cwtypes.MetricDatum
	for range 300 {
		data = append(data, cwtypes.MetricDatum{MetricName: aws.String(strings.Repeat("m", 200)), Value: aws.Float64(1)})
	}
	cw := goClients(e.URL)["monitoring"].Interface().(*cloudwatch.Client)
	if _, err := cw.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("n"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
	if got := e.given["monitoring PutMetricData"].(*cloudwatch.PutMetricDataInput); len(got.MetricData) != 300 {
		t.Errorf("%d of 300 arrived", len(got.MetricData))
	}
	if e.compressed.Load() != 1 {
		t.Error("the request was not compressed")
	}
}

func TestCompressedRequests(t *testing.T) {
	u := refuser(t, false).URL
	squeeze := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	for name, c := range map[string]struct {
		encoding, body string
		status         int
	}{
		"plain":        {"gzip", squeeze(cwVersion + "Action=PutMetricData&Namespace=n"), 200},
		"a bomb":       {"gzip", squeeze(cwVersion + "Action=PutMetricData&Namespace=" + strings.Repeat("a", 1<<24)), 413},
		"not gzip":     {"gzip", cwVersion, 400},
		"cut":          {"gzip", squeeze(cwVersion + "Action=PutMetricData")[:30], 400},
		"another kind": {"br", "x", 400},
	} {
		r := query(u, c.body)
		r.Header.Set("Content-Encoding", c.encoding)
		if a := do(t, r); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// sign signs as a client does whose clock shows at.
func sign(r *http.Request, service, region, key, secret string, at time.Time) *http.Request {
	var body []byte
	if r.GetBody != nil {
		b, _ := r.GetBody()
		body, _ = io.ReadAll(b)
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		panic(err)
	}
	return r
}

func TestSignatures(t *testing.T) {
	u := refuser(t, true).URL
	failover := func() *http.Request {
		return query(u, ecVersion+"Action=TestFailover&ReplicationGroupId=g&NodeGroupId=0001")
	}
	with := func(r *http.Request, name, value string) *http.Request { r.Header.Set(name, value); return r }
	good := func() *http.Request { return sign(failover(), "elasticache", "us-east-1", testKey, testSecret, now) }
	for _, c := range []struct {
		name          string
		request       *http.Request
		status        int
		code, message string // message: how it begins
	}{
		{"good", good(), 404, "ReplicationGroupNotFoundFault", ""},
		{"good, fourteen minutes slow", sign(failover(), "elasticache", "us-east-1", testKey, testSecret, now.Add(-14*time.Minute)), 404, "ReplicationGroupNotFoundFault", ""},
		{"unsigned", failover(), 403, "MissingAuthenticationToken", "Request is missing Authentication Token"},
		{"unknown key", sign(failover(), "elasticache", "us-east-1", "AKIDOTHER", testSecret, now), 403, "InvalidClientTokenId", "The security token included in the request is invalid."},
		{"a session that is not ours", with(good(), "X-Amz-Security-Token", "t"), 403, "InvalidClientTokenId", "The security token included in the request is invalid."},
		{"wrong secret", sign(failover(), "elasticache", "us-east-1", testKey, "guess", now), 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."},
		{"expired", sign(failover(), "elasticache", "us-east-1", testKey, testSecret, now.Add(-16*time.Minute)), 403, "SignatureDoesNotMatch", "Signature expired: 20261130T114400Z is now earlier than 20261130T114500Z (20261130T120000Z - 15 min.)"},
		{"from the future", sign(failover(), "elasticache", "us-east-1", testKey, testSecret, now.Add(16*time.Minute)), 403, "SignatureDoesNotMatch", "Signature not yet current: 20261130T121600Z is still later than 20261130T121500Z (20261130T120000Z + 15 min.)"},
		{"another region", sign(failover(), "elasticache", "mars-1", testKey, testSecret, now), 403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'mars-1'."},
		{"another service", sign(failover(), "s3", "us-east-1", testKey, testSecret, now), 403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'elasticache'."},
		{"another scheme", with(failover(), "Authorization", "Basic abc"), 400, "IncompleteSignature", "Unsupported AWS 'algorithm': 'Basic'."},
		{"no signature", with(failover(), "Authorization", "AWS4-HMAC-SHA256 Credential=a/20261130/us-east-1/elasticache/aws4_request"), 400, "IncompleteSignature", "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4"},
		{"no pairs", with(failover(), "Authorization", "AWS4-HMAC-SHA256 x"), 400, "IncompleteSignature", "'x' not a valid key=value pair (missing equal-sign) in Authorization header:"},
		{"another body", func() *http.Request {
			r := good()
			text := strings.Replace(ecVersion+"Action=TestFailover&ReplicationGroupId=g&NodeGroupId=0001", "=g&", "=h&", 1)
			r.Body = io.NopCloser(strings.NewReader(text))
			return r
		}(), 403, "SignatureDoesNotMatch", "The request signature we calculated"},
		{"another date", with(good(), "X-Amz-Date", "20261130T115959Z"), 403, "SignatureDoesNotMatch", "The request signature we calculated"},
		{"another day", with(good(), "X-Amz-Date", "20261129T235959Z"), 403, "SignatureDoesNotMatch", "Date in Credential scope does not match YYYYMMDD"},
		{"not a date", with(good(), "X-Amz-Date", "today"), 400, "IncompleteSignature", "Date must be in ISO-8601 'basic format'. Got 'today'."},
		{"another type of content", with(good(), "Content-Type", "text/plain"), 403, "SignatureDoesNotMatch", "The request signature we calculated"},
		{"no signature of the host", with(good(), "Authorization", strings.Replace(good().Header.Get("Authorization"), ";host", "", 1)), 403, "SignatureDoesNotMatch", "'Host' or ':authority' must be a 'SignedHeader'"},
		{"JSON", sign(jsonRequest(u, "SetAlarmState", `{"AlarmName":"a","StateReason":"r","StateValue":"OK"}`), "monitoring", "us-east-1", testKey, testSecret, now), 404, "com.amazonaws.cloudwatch#ResourceNotFound", "no such alarm"},
		{"JSON, another target than was signed", with(sign(jsonRequest(u, "PutDashboard", `{"AlarmName":"a","StateReason":"r","StateValue":"OK"}`), "monitoring", "us-east-1", testKey, testSecret, now), "X-Amz-Target", "GraniteServiceVersion20100801.SetAlarmState"), 403, "com.amazon.coral.service#InvalidSignatureException", "The request signature we calculated"},
		{"JSON, a target that was not signed", with(sign(query(u, `{}`), "monitoring", "us-east-1", testKey, testSecret, now), "X-Amz-Target", "GraniteServiceVersion20100801.SetAlarmState"), 403, "com.amazon.coral.service#InvalidSignatureException", "'X-Amz-Target' must be a 'SignedHeader'"},
		{"CBOR, unsigned", cborRequest(u, "SetAlarmState", map[string]any{}), 403, "com.amazon.coral.service#MissingAuthenticationTokenException", "Request is missing Authentication Token"},
		{"CBOR, another operation than was signed", func() *http.Request {
			r := sign(cborRequest(u, "PutMetricData", map[string]any{}), "monitoring", "us-east-1", testKey, testSecret, now)
			r.URL.Path = strings.Replace(r.URL.Path, "PutMetricData", "SetAlarmState", 1)
			return r
		}(), 403, "com.amazon.coral.service#InvalidSignatureException", "The request signature we calculated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := do(t, c.request)
			if a.status != c.status || a.code != c.code || !strings.HasPrefix(a.message, c.message) {
				t.Errorf("%d %s %q\nwant %d %s %q", a.status, a.code, a.message, c.status, c.code, c.message)
			}
		})
	}
}

// A link in a message is followed with GET: by anybody where the token in it is proof enough, else with the
// signature in the URL.
func TestLinks(t *testing.T) {
	u := refuser(t, true).URL
	get := func(link string) answer {
		r, err := http.NewRequest("GET", link, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, r)
	}
	if a := get(u + "/?Action=ConfirmSubscription&TopicArn=arn&Token=t"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	presign := func(seconds string, at time.Time) string {
		q := url.Values{"Action": {"TestFailover"}, "Version": {"2015-02-02"}, "ReplicationGroupId": {"g h/ü"}, "NodeGroupId": {"0001"}, "X-Amz-Expires": {seconds}}
		r, err := http.NewRequest("GET", u+"/?"+q.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(nil)
		link, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hex.EncodeToString(sum[:]), "elasticache", "us-east-1", at)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	for name, c := range map[string]struct{ link, code string }{
		"good":            {presign("60", now), "ReplicationGroupNotFoundFault"},
		"a minute late":   {presign("60", now.Add(-61*time.Second)), "SignatureDoesNotMatch"},
		"an hour is left": {presign("7200", now.Add(-time.Hour)), "ReplicationGroupNotFoundFault"},
		"altered":         {strings.Replace(presign("60", now), "0001", "0002", 1), "SignatureDoesNotMatch"},
		"for ever":        {presign("604801", now), "IncompleteSignature"},
		"unsigned":        {u + "/?Action=TestFailover&Version=2015-02-02", "MissingAuthenticationToken"},
	} {
		if a := get(c.link); a.code != c.code {
			t.Errorf("%s: %s %s", name, a.code, a.message)
		}
	}
}

// A model that was made anew may know them: its operation refuses them then, or serves them.
func TestMembersThatAreTooNewAreNotInTheModel(t *testing.T) {
	m := CloudWatch()
	for shape, names := range tooNew {
		for _, member := range m.Shapes[shape].Members {
			if slices.Contains(names, member.Name) {
				t.Errorf("%s.%s is in the model now: take it out of tooNew, and see what its operation does", shape, member.Name)
			}
		}
	}
}
