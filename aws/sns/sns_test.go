package sns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"

	"understudy/aws/wire"
	"understudy/cluster/clustertest"
	"understudy/notify"
)

const (
	account = "000000000000"
	region  = "us-east-1"
)

// sent is what the courier was given.
type sent struct {
	notify.Message
	targets  []notify.Target
	remember bool
}

// courier remembers instead of delivering.
type courier struct {
	sent     []sent
	filtered int
	fail     error
}

func (c *courier) Send(_ context.Context, m notify.Message, targets []notify.Target, remember bool) error {
	if c.fail == nil {
		c.sent = append(c.sent, sent{m, targets, remember})
	}
	return c.fail
}

func (c *courier) Published(_ string, _, filtered int) { c.filtered += filtered }

// last takes the newest message.
func (c *courier) last(t *testing.T) sent {
	t.Helper()
	if len(c.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	return c.sent[len(c.sent)-1]
}

// front is the service with a clock that stands.
type front struct {
	*Service
	courier *courier
	now     time.Time
	ctx     context.Context // signed
	link    context.Context // not signed: from a link
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{courier: &courier{}, now: time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)}
	var err error
	f.Service, err = New(Options{Store: &clustertest.Memory{}, Courier: f.courier, Region: region, Account: account, Mail: true, Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	f.Wire()
	call := wire.Call{Service: "sns", Region: region, Account: account}
	f.link = wire.WithCall(t.Context(), call)
	call.AccessKey = "AKIA"
	f.ctx = wire.WithCall(t.Context(), call)
	return f
}

// topic makes a topic.
func (f *front) make(t *testing.T, name string, attributes map[string]string) *string {
	t.Helper()
	out, err := f.createTopic(f.ctx, &sns.CreateTopicInput{Name: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return out.TopicArn
}

// join subscribes and confirms.
func (f *front) join(t *testing.T, topic *string, protocol, endpoint string, attributes map[string]string) *string {
	t.Helper()
	out, err := f.subscribe(f.ctx, &sns.SubscribeInput{TopicArn: topic, Protocol: &protocol, Endpoint: &endpoint, Attributes: attributes, ReturnSubscriptionArn: true})
	if err != nil {
		t.Fatal(err)
	}
	if awaits(protocol) {
		token := f.courier.last(t).Token
		if _, err := f.confirmSubscription(f.link, &sns.ConfirmSubscriptionInput{TopicArn: topic, Token: &token}); err != nil {
			t.Fatal(err)
		}
	}
	return out.SubscriptionArn
}

// refusal checks an error's code on the wire.
func refusal(t *testing.T, what string, err error, code, part string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), part) {
		t.Errorf("%s: %v, want %s with %q", what, err, code, part)
	}
}

const (
	badParameter = "InvalidParameter"
	notFound     = "NotFound"
)

func TestATopicIsMadeOnce(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", map[string]string{"DisplayName": "A"})
	if *arn != "arn:aws:sns:us-east-1:000000000000:alerts" || *f.make(t, "alerts", nil) != *arn || *f.make(t, "alerts", map[string]string{"DisplayName": "A"}) != *arn {
		t.Error(*arn)
	}
	_, err := f.createTopic(f.ctx, &sns.CreateTopicInput{Name: aws.String("alerts"), Attributes: map[string]string{"DisplayName": "B"}})
	refusal(t, "other attributes", err, badParameter, "already exists with different attributes")
	_, err = f.createTopic(f.ctx, &sns.CreateTopicInput{Name: aws.String("alerts"), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
	refusal(t, "other tags", err, badParameter, "already exists with different tags")
	for _, name := range []string{"", "a b", "a/b", "x.fifo", strings.Repeat("x", 257)} {
		_, err := f.createTopic(f.ctx, &sns.CreateTopicInput{Name: &name})
		refusal(t, name, err, badParameter, "Topic Name")
	}
	f.make(t, "alerts2", nil)
	if out, err := f.listTopics(f.ctx, &sns.ListTopicsInput{}); err != nil || len(out.Topics) != 2 {
		t.Errorf("%+v %v", out, err)
	}
	for range 2 {
		if _, err := f.deleteTopic(f.ctx, &sns.DeleteTopicInput{TopicArn: arn}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.getTopicAttributes(f.ctx, &sns.GetTopicAttributesInput{TopicArn: arn})
	refusal(t, "deleted", err, notFound, "Topic does not exist")
	_, err = f.listTagsForResource(f.ctx, &sns.ListTagsForResourceInput{ResourceArn: arn})
	refusal(t, "tags of a deleted one", err, "ResourceNotFound", "")
	for bad, code := range map[string]string{"alerts": badParameter, "arn:aws:sns:eu-west-1:000000000000:alerts": badParameter, "arn:aws:sns:us-east-1:111111111111:alerts": "AuthorizationError"} {
		_, err = f.getTopicAttributes(f.ctx, &sns.GetTopicAttributesInput{TopicArn: &bad})
		refusal(t, bad, err, code, "")
	}
}

func TestAttributesOfTopicsAreCheckedAndKept(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	set := func(name, value string) error {
		_, err := f.setTopicAttributes(f.ctx, &sns.SetTopicAttributesInput{TopicArn: arn, AttributeName: &name, AttributeValue: &value})
		return err
	}
	const policy = `{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":5,"numRetries":4}}}`
	for name, value := range map[string]string{"DisplayName": "Alerts", "SignatureVersion": "2", "DeliveryPolicy": policy, "Policy": "{}", "HTTPSuccessFeedbackRoleArn": "arn:aws:iam::1:role/x", "KmsMasterKeyId": ""} {
		if err := set(name, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, value := range map[string]string{"Nothing": "", "SignatureVersion": "3", "DisplayName": strings.Repeat("x", 101), "DeliveryPolicy": `{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":9,"maxDelayTarget":5,"numRetries":4}}}`, "FifoTopic": "true"} {
		refusal(t, name, set(name, value), badParameter, "")
	}
	out, err := f.getTopicAttributes(f.ctx, &sns.GetTopicAttributesInput{TopicArn: arn})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"DisplayName": "Alerts", "SignatureVersion": "2", "DeliveryPolicy": policy, "Policy": "{}", "Owner": account, "SubscriptionsConfirmed": "0", "SubscriptionsPending": "0", "SubscriptionsDeleted": "0"} {
		if out.Attributes[name] != want {
			t.Errorf("%s is %q, want %q", name, out.Attributes[name], want)
		}
	}
	if !strings.Contains(out.Attributes["EffectiveDeliveryPolicy"], `"numRetries":4`) {
		t.Error(out.Attributes["EffectiveDeliveryPolicy"])
	}
	url := f.join(t, arn, "http", "http://h/", nil)
	if _, err := f.publish(f.ctx, &sns.PublishInput{TopicArn: arn, Message: aws.String("m")}); err != nil {
		t.Fatal(err)
	}
	got := f.courier.last(t)
	if got.Signature != "2" || got.Sender != "Alerts" || got.targets[0].Policy.NumRetries != 4 || got.targets[0].Subscription != *url {
		t.Errorf("%+v", got)
	}
}

func TestASubscriptionWaitsForItsEndpoint(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	in := &sns.SubscribeInput{TopicArn: arn, Protocol: aws.String("http"), Endpoint: aws.String("http://u:secret@h/x")}
	out, err := f.subscribe(f.ctx, in)
	if err != nil || *out.SubscriptionArn != "pending confirmation" {
		t.Fatalf("%+v %v", out, err)
	}
	asked := f.courier.last(t)
	if asked.Kind != notify.SubscriptionConfirmation || len(asked.Token) != 64 || asked.targets[0].Endpoint != *in.Endpoint {
		t.Errorf("%+v", asked)
	}
	in.ReturnSubscriptionArn = true
	again, err := f.subscribe(f.ctx, in)
	if err != nil || f.courier.last(t).Token != asked.Token || len(f.courier.sent) != 2 {
		t.Errorf("asked again: %+v %v", f.courier.sent, err)
	}
	list := func() []types.Subscription {
		out, err := f.listSubscriptionsByTopic(f.ctx, &sns.ListSubscriptionsByTopicInput{TopicArn: arn})
		if err != nil {
			t.Fatal(err)
		}
		return out.Subscriptions
	}
	if all := list(); len(all) != 1 || *all[0].SubscriptionArn != "PendingConfirmation" || *all[0].Endpoint != "http://****@h/x" {
		t.Errorf("%+v", all)
	}
	if _, err := f.publish(f.ctx, &sns.PublishInput{TopicArn: arn, Message: aws.String("m")}); err != nil || len(f.courier.last(t).targets) != 0 {
		t.Errorf("a pending subscription was told: %v", err)
	}
	_, err = f.confirmSubscription(f.link, &sns.ConfirmSubscriptionInput{TopicArn: arn, Token: aws.String("wrong")})
	refusal(t, "a wrong token", err, badParameter, "Token")
	for range 2 {
		out, err := f.confirmSubscription(f.link, &sns.ConfirmSubscriptionInput{TopicArn: arn, Token: &asked.Token})
		if err != nil || *out.SubscriptionArn != *again.SubscriptionArn {
			t.Fatalf("%+v %v", out, err)
		}
	}
	if n, err := f.Confirmed(f.ctx, *arn); n != 1 || err != nil {
		t.Errorf("%d confirmed, %v", n, err)
	}
	// By the link of a message, and back by the link that this brings.
	if _, err := f.unsubscribe(f.link, &sns.UnsubscribeInput{SubscriptionArn: again.SubscriptionArn}); err != nil || f.courier.last(t).Kind != notify.UnsubscribeConfirmation || len(list()) != 0 {
		t.Errorf("%v %+v", err, list())
	}
	if _, err := f.confirmSubscription(f.link, &sns.ConfirmSubscriptionInput{TopicArn: arn, Token: aws.String(f.courier.last(t).Token), AuthenticateOnUnsubscribe: aws.String("true")}); err != nil || len(list()) != 1 {
		t.Errorf("%v %+v", err, list())
	}
	_, err = f.unsubscribe(f.link, &sns.UnsubscribeInput{SubscriptionArn: again.SubscriptionArn})
	refusal(t, "not the owner", err, "AuthorizationError", "")
	if _, err := f.unsubscribe(f.ctx, &sns.UnsubscribeInput{SubscriptionArn: again.SubscriptionArn}); err != nil || len(list()) != 0 {
		t.Errorf("%v %+v", err, list())
	}
}

func TestAnEndpointThatNeverConfirmsIsForgotten(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	if _, err := f.subscribe(f.ctx, &sns.SubscribeInput{TopicArn: arn, Protocol: aws.String("email"), Endpoint: aws.String("a@b.example")}); err != nil {
		t.Fatal(err)
	}
	token := f.courier.last(t).Token
	f.now = f.now.Add(tokenFor + time.Second)
	_, err := f.confirmSubscription(f.link, &sns.ConfirmSubscriptionInput{TopicArn: arn, Token: &token})
	refusal(t, "late", err, badParameter, "Token")
	if out, err := f.listSubscriptions(f.ctx, &sns.ListSubscriptionsInput{}); err != nil || len(out.Subscriptions) != 0 {
		t.Errorf("%+v %v", out, err)
	}
}

func TestBadSubscriptionsAreRefused(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	for _, x := range []struct{ protocol, endpoint, name, value, part string }{
		{"sqs", "arn:aws:sqs:us-east-1:000000000000:q", "", "", "not served here"},
		{"pigeon", "x", "", "", "Does not support this protocol string"},
		{"http", "https://h", "", "", "Endpoint must match"},
		{"email", "nobody", "", "", "Endpoint must match"},
		{"email", "a@b.example", "RawMessageDelivery", "true", "does not support raw message delivery"},
		{"http", "http://h", "RawMessageDelivery", "maybe", "RawMessageDelivery"},
		{"http", "http://h", "FilterPolicy", `{"a":`, "failed to parse JSON"},
		{"http", "http://h", "FilterPolicy", `{"a":{"b":["c"]}}`, ""},
		{"http", "http://h", "FilterPolicyScope", "Everything", "Please use either MessageBody or MessageAttributes"},
		{"http", "http://h", "DeliveryPolicy", `{"healthyRetryPolicy":{"numRetries":1000}}`, "numRetries"},
		{"http", "http://h", "RedrivePolicy", `{"deadLetterTargetArn":"x"}`, "RedrivePolicy"},
		{"http", "http://h", "Colour", "red", "AttributeName"},
	} {
		in := &sns.SubscribeInput{TopicArn: arn, Protocol: &x.protocol, Endpoint: &x.endpoint}
		if x.name != "" {
			in.Attributes = map[string]string{x.name: x.value}
		}
		_, err := f.subscribe(f.ctx, in)
		if x.part == "" && err == nil { // the scope that fits it may come later; nothing matches until then
			continue
		}
		refusal(t, fmt.Sprintf("%+v", x), err, badParameter, x.part)
	}
}

func TestEachSubscriptionGetsWhatItWants(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	all := f.join(t, arn, "webhook", "http://all/", map[string]string{"RawMessageDelivery": "true", "RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead"}`})
	red := f.join(t, arn, "http", "http://red/", map[string]string{"FilterPolicy": `{"colour":["red"]}`})
	body := f.join(t, arn, "http", "http://body/", map[string]string{"FilterPolicy": `{"a":{"b":[{"numeric":[">",1]}]}}`, "FilterPolicyScope": "MessageBody"})
	publish := func(message string, colour string) (to []string) {
		in := &sns.PublishInput{TopicArn: arn, Message: &message}
		if colour != "" {
			in.MessageAttributes = map[string]types.MessageAttributeValue{"colour": {DataType: aws.String("String"), StringValue: &colour}}
		}
		if _, err := f.publish(f.ctx, in); err != nil {
			t.Fatal(err)
		}
		for _, x := range f.courier.last(t).targets {
			to = append(to, x.Subscription)
		}
		return to
	}
	for _, x := range []struct {
		message, colour string
		want            []string
	}{{"m", "", []string{*all}}, {"m", "red", []string{*all, *red}}, {"m", "blue", []string{*all}}, {`{"a":{"b":2}}`, "red", []string{*all, *red, *body}}} {
		got := publish(x.message, x.colour)
		slices.Sort(got)
		slices.Sort(x.want)
		if !slices.Equal(got, x.want) {
			t.Errorf("%s %s: %v, want %v", x.message, x.colour, got, x.want)
		}
	}
	if f.courier.filtered != 2+1+2+0 {
		t.Errorf("%d were filtered out", f.courier.filtered)
	}
	for _, x := range f.courier.last(t).targets {
		if x.Subscription == *all && (!x.Raw || x.DeadLetters != "arn:aws:sqs:us-east-1:000000000000:dead") {
			t.Errorf("%+v", x)
		}
	}
	if _, err := f.setSubscriptionAttributes(f.ctx, &sns.SetSubscriptionAttributesInput{SubscriptionArn: red, AttributeName: aws.String("FilterPolicy"), AttributeValue: aws.String("{}")}); err != nil {
		t.Fatal(err)
	}
	if got := publish("m", "blue"); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	none := "arn:aws:sns:us-east-1:000000000000:none"
	for _, x := range []struct {
		in   sns.PublishInput
		code string
		part string
	}{
		{sns.PublishInput{TopicArn: arn, Message: aws.String("")}, badParameter, "Empty message"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String(strings.Repeat("x", longestMessage+1))}, badParameter, "Message too long"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), Subject: aws.String("")}, badParameter, "Subject"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), Subject: aws.String("a\nb")}, badParameter, "Subject"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), Subject: aws.String(strings.Repeat("ü", 101))}, badParameter, "Subject"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), MessageStructure: aws.String("json")}, badParameter, "failed to parse"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String(`{"http":"x"}`), MessageStructure: aws.String("json")}, badParameter, "No default entry"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), MessageStructure: aws.String("xml")}, badParameter, "MessageStructure"},
		{sns.PublishInput{Message: aws.String("m")}, badParameter, "TopicArn"},
		{sns.PublishInput{Message: aws.String("m"), PhoneNumber: aws.String("+1")}, badParameter, "sms"},
		{sns.PublishInput{TopicArn: &none, Message: aws.String("m")}, notFound, "Topic does not exist"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), MessageAttributes: map[string]types.MessageAttributeValue{"a": {DataType: aws.String("Number"), StringValue: aws.String("x")}}}, "ParameterValueInvalid", "number"},
		{sns.PublishInput{TopicArn: arn, Message: aws.String("m"), MessageAttributes: map[string]types.MessageAttributeValue{"a": {DataType: aws.String("Colour"), StringValue: aws.String("x")}}}, "ParameterValueInvalid", "type"},
	} {
		_, err := f.publish(f.ctx, &x.in)
		refusal(t, x.part, err, x.code, x.part)
	}
	f.courier.fail = notify.ErrFull
	_, err := f.publish(f.ctx, &sns.PublishInput{TopicArn: arn, Message: aws.String("m")})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != "Throttled" || e.Status != 429 {
		t.Errorf("%v", err)
	}
}

func TestAMessageMayDifferByProtocol(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	f.join(t, arn, "http", "http://h/", nil)
	f.join(t, arn, "email", "a@b.example", nil)
	if _, err := f.publish(f.ctx, &sns.PublishInput{TargetArn: arn, Message: aws.String(`{"default":"d","email":"e"}`), MessageStructure: aws.String("json")}); err != nil {
		t.Fatal(err)
	}
	got := f.courier.last(t)
	for _, x := range got.targets {
		if want := map[string]string{"http": "", "email": "e"}[x.Protocol]; x.Body != want || got.Body != "d" {
			t.Errorf("%+v", x)
		}
	}
}

func TestPartsOfThisProgramPublishUnderTheirOwnID(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	if err := f.Publish(t.Context(), notify.Post{Topic: *arn, ID: "alarm-7", Subject: "s", Message: "m"}); err != nil {
		t.Fatal(err)
	}
	if got := f.courier.last(t); got.ID != "alarm-7" || !got.remember {
		t.Errorf("%+v", got)
	}
	if err := f.Publish(t.Context(), notify.Post{Topic: *arn, Message: "m"}); err != nil || f.courier.last(t).remember || f.courier.last(t).ID == "" {
		t.Errorf("%+v %v", f.courier.last(t), err)
	}
	refusal(t, "no topic", f.Publish(t.Context(), notify.Post{Topic: *arn + "x", Message: "m"}), notFound, "")
}

func TestABatchFailsOneByOne(t *testing.T) {
	f := newFront(t)
	arn := f.make(t, "alerts", nil)
	entry := func(id, message string) types.PublishBatchRequestEntry {
		return types.PublishBatchRequestEntry{Id: &id, Message: &message}
	}
	out, err := f.publishBatch(f.ctx, &sns.PublishBatchInput{TopicArn: arn, PublishBatchRequestEntries: []types.PublishBatchRequestEntry{entry("a", "m"), entry("b", "")}})
	if err != nil || len(out.Successful) != 1 || len(out.Failed) != 1 || *out.Failed[0].Code != badParameter || !out.Failed[0].SenderFault {
		t.Errorf("%+v %v", out, err)
	}
	_, err = f.publishBatch(f.ctx, &sns.PublishBatchInput{TopicArn: arn})
	refusal(t, "empty", err, "EmptyBatchRequest", "")
	_, err = f.publishBatch(f.ctx, &sns.PublishBatchInput{TopicArn: arn, PublishBatchRequestEntries: []types.PublishBatchRequestEntry{entry("a", "m"), entry("a", "m")}})
	refusal(t, "twice", err, "BatchEntryIdsNotDistinct", "")
}
