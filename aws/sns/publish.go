package sns

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"understudy/notify"
)

// The bounds of SNS.
const (
	longestMessage = 256 << 10 // with attributes, in bytes
	longestSubject = 100       // in characters
	mostBatched    = 10
)

// draft is a message before it has an id.
type draft struct {
	subject    string
	message    string
	attributes map[string]notify.Attribute
	bodies     map[string]string // by protocol, of MessageStructure json
	size       int
}

// publish takes a message for all subscriptions of a topic.
func (s *Service) publish(ctx context.Context, in *sns.PublishInput) (*sns.PublishOutput, error) {
	arn := in.TopicArn
	if arn == nil {
		arn = in.TargetArn
	}
	switch {
	case in.PhoneNumber != nil:
		return nil, invalid("PhoneNumber Reason: sms is not served here")
	case arn == nil:
		return nil, invalid("TopicArn or TargetArn Reason: no value for required parameter")
	}
	d, err := newDraft(in.Subject, in.Message, in.MessageStructure, in.MessageAttributes)
	if err != nil {
		return nil, err
	}
	id := newID()
	if err := s.deliver(ctx, arn, id, d, false); err != nil {
		return nil, err
	}
	return &sns.PublishOutput{MessageId: aws.String(id)}, nil
}

// Publish is for the parts of this program: alarms and ElastiCache's events. When it returns nil the message is safe, and
// every subscription that wants it gets it at least once. A Post with an ID is taken once, however often it is
// published. Errors: types.NotFoundException, when there is no such topic; types.InvalidParameterException.
func (s *Service) Publish(ctx context.Context, p notify.Post) error {
	d := draft{subject: p.Subject, message: p.Message, attributes: p.Attributes}
	if err := d.check(); err != nil {
		return err
	}
	id := p.ID
	if id == "" {
		id = newID()
	}
	return s.deliver(ctx, &p.Topic, id, d, p.ID != "")
}

// Confirmed is how many confirmed subscriptions a topic has. Errors: types.NotFoundException.
func (s *Service) Confirmed(ctx context.Context, topicARN string) (n int, err error) {
	t, err := s.topic(ctx, &topicARN)
	if err != nil {
		return 0, err
	}
	all, err := s.subscriptions(ctx, t.Name)
	for _, x := range all {
		if !x.Pending {
			n++
		}
	}
	return n, err
}

// deliver hands a message to the courier, for each subscription that wants it.
func (s *Service) deliver(ctx context.Context, topicARN *string, id string, d draft, remember bool) error {
	t, err := s.topic(ctx, topicARN)
	if err != nil {
		return err
	}
	all, err := s.subscriptions(ctx, t.Name)
	if err != nil {
		return err
	}
	var targets []notify.Target
	filtered := 0
	for _, x := range all {
		if x.Pending {
			continue
		}
		target, wanted := s.target(t, x, d)
		if !wanted {
			filtered++
			continue
		}
		targets = append(targets, target)
	}
	m := notify.Message{Kind: notify.Notification, ID: id, Topic: *topicARN, Subject: d.subject, Body: d.message, At: s.now(), Attributes: d.attributes,
		Signature: t.Attributes["SignatureVersion"], Sender: t.Attributes["DisplayName"]}
	if err := s.opts.Courier.Send(ctx, m, targets, remember); err != nil {
		return refused(err)
	}
	s.opts.Courier.Published(*topicARN, d.size, filtered)
	return nil
}

// target is a subscription for the courier, unless its filter does not want the message.
func (s *Service) target(t topic, x subscription, d draft) (target notify.Target, wanted bool) {
	body, ok := d.bodies[x.Protocol]
	if !ok {
		body = d.message
	}
	f, err := parseFilter(x.Attributes["FilterPolicy"], x.Attributes["FilterPolicyScope"] == "MessageBody")
	if err != nil {
		s.log.Error("a filter policy cannot be read: its subscription gets everything", "subscription", s.subscriptionARN(x), "error", err)
	}
	if !f.wants(d.attributes, body) {
		return target, false
	}
	target = notify.Target{Subscription: s.subscriptionARN(x), Protocol: x.Protocol, Endpoint: x.Endpoint, Raw: x.Attributes["RawMessageDelivery"] == "true"}
	target.DeadLetters, _ = deadLetters(x.Attributes["RedrivePolicy"])
	if body != d.message {
		target.Body = body
	}
	if p, err := x.policy(t); err == nil && (x.Protocol == notify.HTTP || x.Protocol == notify.HTTPS || x.Protocol == notify.Webhook) {
		target.Policy, target.ContentType = *p.Retry, p.Request.ContentType
	}
	return target, true
}

// newDraft checks what a client sends.
func newDraft(subject, message, structure *string, attributes map[string]types.MessageAttributeValue) (d draft, err error) {
	d = draft{subject: aws.ToString(subject), message: aws.ToString(message), attributes: map[string]notify.Attribute{}}
	if subject != nil && *subject == "" {
		return d, invalid("Subject")
	}
	d.size = len(d.message)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if d.attributes[name], err = attribute(name, attributes[name]); err != nil {
			return d, err
		}
		d.size += len(name) + len(d.attributes[name].Type) + len(d.attributes[name].Value)
	}
	if err := d.check(); err != nil {
		return d, err
	}
	switch {
	case structure == nil:
		return d, nil
	case *structure != "json":
		return d, invalid("MessageStructure")
	}
	return d, d.structure()
}

// structure takes the message apart into what each protocol is told.
func (d *draft) structure() error {
	var bodies map[string]any
	if err := json.Unmarshal([]byte(d.message), &bodies); err != nil || bodies == nil {
		return invalid("Message Structure - JSON message body failed to parse")
	}
	d.bodies = map[string]string{}
	for protocol, body := range bodies {
		if text, ok := body.(string); ok {
			d.bodies[protocol] = text
		}
	}
	usual, ok := d.bodies["default"]
	if !ok {
		return invalid("Message Structure - No default entry in JSON message body")
	}
	d.message = usual
	return nil
}

func (d *draft) check() error {
	d.size = max(d.size, len(d.message))
	switch {
	case d.message == "":
		return invalid("Empty message")
	case d.size > longestMessage:
		return invalid("Message too long")
	case !utf8.ValidString(d.message):
		return invalid("Message Reason: it is not UTF-8")
	case utf8.RuneCountInString(d.subject) > longestSubject || strings.ContainsFunc(d.subject, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.HasPrefix(d.subject, " "):
		return invalid("Subject")
	}
	return nil
}

var attributeName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,256}$`)

// attribute checks one attribute of a message.
func attribute(name string, v types.MessageAttributeValue) (a notify.Attribute, err error) {
	kind, _, _ := strings.Cut(*v.DataType, ".")
	a = notify.Attribute{Type: *v.DataType, Value: aws.ToString(v.StringValue)}
	value := &types.InvalidParameterValueException{}
	switch {
	case !attributeName.MatchString(name) || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, ".."):
		value.Message = aws.String("The message attribute name '" + name + "' is invalid.")
	case kind == "Binary" && len(v.BinaryValue) > 0:
		a.Value = base64.StdEncoding.EncodeToString(v.BinaryValue)
		return a, nil
	case kind != "String" && kind != "Number" && kind != "Binary":
		value.Message = aws.String("The message attribute '" + name + "' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.")
	case a.Value == "":
		value.Message = aws.String("The message attribute '" + name + "' must contain non-empty message attribute value for message attribute type '" + *v.DataType + "'.")
	case kind == "Number":
		if _, err := strconv.ParseFloat(a.Value, 64); err != nil {
			value.Message = aws.String("Could not cast message attribute '" + name + "' value to number.")
			break
		}
		return a, nil
	default:
		return a, nil
	}
	return a, value
}

// publishBatch takes up to ten messages; each may fail by itself.
func (s *Service) publishBatch(ctx context.Context, in *sns.PublishBatchInput) (*sns.PublishBatchOutput, error) {
	if _, err := s.topic(ctx, in.TopicArn); err != nil {
		return nil, err
	}
	seen, size := map[string]bool{}, 0
	for _, e := range in.PublishBatchRequestEntries {
		switch {
		case !batchID.MatchString(*e.Id):
			return nil, &types.InvalidBatchEntryIdException{Message: aws.String("The Id of a batch entry has 1 to 80 letters, digits, hyphens and underscores.")}
		case seen[*e.Id]:
			return nil, &types.BatchEntryIdsNotDistinctException{Message: aws.String("Two or more batch entries in the request have the same Id.")}
		}
		seen[*e.Id] = true
		size += len(aws.ToString(e.Message))
	}
	switch {
	case len(seen) == 0:
		return nil, &types.EmptyBatchRequestException{Message: aws.String("The batch request doesn't contain any entries.")}
	case len(seen) > mostBatched:
		return nil, &types.TooManyEntriesInBatchRequestException{Message: aws.String("The batch request contains more entries than permissible: more than 10.")}
	case size > longestMessage:
		return nil, &types.BatchRequestTooLongException{Message: aws.String("The length of all the batch messages put together is more than the limit.")}
	}
	out := &sns.PublishBatchOutput{Successful: []types.PublishBatchResultEntry{}, Failed: []types.BatchResultErrorEntry{}}
	for _, e := range in.PublishBatchRequestEntries {
		id := newID()
		d, err := newDraft(e.Subject, e.Message, e.MessageStructure, e.MessageAttributes)
		if err == nil {
			err = s.deliver(ctx, in.TopicArn, id, d, false)
		}
		if err != nil {
			out.Failed = append(out.Failed, s.failedEntry(e.Id, err))
			continue
		}
		out.Successful = append(out.Successful, types.PublishBatchResultEntry{Id: e.Id, MessageId: aws.String(id)})
	}
	return out, nil
}

var batchID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// failedEntry says why one message of a batch was not taken.
func (s *Service) failedEntry(id *string, err error) types.BatchResultErrorEntry {
	code, message, sender := "InternalError", "An unexpected error occurred.", false
	if e, ok := err.(interface {
		ErrorCode() string
		ErrorMessage() string
	}); ok {
		code, message, sender = strings.TrimSuffix(e.ErrorCode(), "Exception"), e.ErrorMessage(), true
	} else {
		s.log.Error("a message of a batch is not taken", "error", err)
	}
	return types.BatchResultErrorEntry{Id: id, Code: aws.String(code), Message: aws.String(message), SenderFault: sender}
}
