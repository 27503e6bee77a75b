package sns

import (
	"context"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"understudy/aws/wire"
	"understudy/notify"
	"understudy/shelf"
)

// mostSubscriptions bounds one topic here: each message has all of its targets in one record of the store.
const mostSubscriptions = 500

// unconfirmed are what SNS says in place of an ARN.
const (
	pendingAnswer = "pending confirmation"
	pendingListed = "PendingConfirmation"
)

// awaits reports whether the endpoint must confirm. Services of shoutrrr and plain webhooks cannot.
func awaits(protocol string) bool { return protocol != notify.Shoutrrr && protocol != notify.Webhook }

// subscriptions are those of a topic that anybody sees.
func (s *Service) subscriptions(ctx context.Context, topic string) ([]subscription, error) {
	all, err := shelf.List[subscription](ctx, s.opts.Store, subscriptionPrefix+topic+"/")
	now := s.now()
	return slices.DeleteFunc(all, func(x subscription) bool { return !x.Removed.IsZero() || x.over(now) }), err
}

func (s *Service) subscriptionARN(x subscription) string { return s.arn(x.Topic) + ":" + x.ID }

// subscribe makes a subscription; of a protocol that can be asked, the endpoint is asked to confirm it.
func (s *Service) subscribe(ctx context.Context, in *sns.SubscribeInput) (*sns.SubscribeOutput, error) {
	t, err := s.topic(ctx, in.TopicArn)
	if err != nil {
		return nil, err
	}
	x := subscription{ID: newID(), Topic: t.Name, Protocol: *in.Protocol, Endpoint: aws.ToString(in.Endpoint), Created: s.now(), Attributes: map[string]string{}}
	if err := s.checkEndpoint(x); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		if err := x.set(t, name, in.Attributes[name]); err != nil {
			return nil, err
		}
	}
	if x.Pending = awaits(x.Protocol); x.Pending {
		x.Token = strings.ReplaceAll(newID()+newID(), "-", "")
	}
	have, err := s.twin(ctx, x)
	if err != nil {
		return nil, err
	}
	if have.ID == "" {
		if err := shelf.Put(ctx, s.opts.Store, x.key(), x, 0); err != nil {
			return nil, err
		}
		have = x
	}
	if !have.Pending {
		return &sns.SubscribeOutput{SubscriptionArn: aws.String(s.subscriptionARN(have))}, nil
	}
	if err := s.ask(ctx, t, have, notify.SubscriptionConfirmation); err != nil {
		return nil, err
	}
	if in.ReturnSubscriptionArn {
		return &sns.SubscribeOutput{SubscriptionArn: aws.String(s.subscriptionARN(have))}, nil
	}
	return &sns.SubscribeOutput{SubscriptionArn: aws.String(pendingAnswer)}, nil
}

// others are protocols of SNS that need the rest of AWS.
var others = []string{"sqs", "lambda", "sms", "application", "firehose"}

func (s *Service) checkEndpoint(x subscription) error {
	switch {
	case slices.Contains(others, x.Protocol):
		return invalid("Protocol Reason: %s is not served here; %s are", x.Protocol, strings.Join(notify.Protocols, ", "))
	case !slices.Contains(notify.Protocols, x.Protocol):
		return invalid("Does not support this protocol string: %.100s", x.Protocol)
	case len(x.Endpoint) > 2048:
		return invalid("Endpoint Reason: it is longer than 2048 bytes")
	}
	if err := notify.CheckEndpoint(x.Protocol, x.Endpoint); err != nil {
		return invalid("Endpoint Reason: Endpoint must match the specified protocol: %v", err)
	}
	if strings.HasPrefix(x.Protocol, notify.Email) && !s.opts.Mail {
		return invalid("Protocol Reason: this front has no mail server; see the settings smtp-…")
	}
	return nil
}

// twin is the subscription of the same endpoint that is there already, if any. It also takes away what is over.
func (s *Service) twin(ctx context.Context, x subscription) (have subscription, err error) {
	all, err := shelf.List[subscription](ctx, s.opts.Store, subscriptionPrefix+x.Topic+"/")
	if err != nil {
		return have, err
	}
	seen := 0
	for _, other := range all {
		if other.over(s.now()) {
			if err := shelf.Remove(ctx, s.opts.Store, other.key()); err != nil {
				return have, err
			}
			continue
		}
		if !other.Removed.IsZero() {
			continue
		}
		seen++
		if other.Protocol == x.Protocol && other.Endpoint == x.Endpoint {
			have = other
		}
	}
	switch {
	case have.ID != "" && len(x.Attributes) > 0 && !maps.Equal(x.Attributes, have.Attributes):
		return have, invalid("Attributes Reason: Subscription already exists with different attributes")
	case have.ID == "" && seen >= mostSubscriptions:
		return have, &types.SubscriptionLimitExceededException{Message: aws.String("A topic has at most " + strconv.Itoa(mostSubscriptions) + " subscriptions here")}
	}
	return have, nil
}

// ask sends the endpoint a message with the token.
func (s *Service) ask(ctx context.Context, t topic, x subscription, kind notify.Kind) error {
	m := notify.Message{
		Kind: kind, ID: newID(), Topic: s.arn(x.Topic), At: s.now(), Token: x.Token, Signature: t.Attributes["SignatureVersion"], Sender: t.Attributes["DisplayName"],
		Body: "You have chosen to subscribe to the topic " + s.arn(x.Topic) + ".\nTo confirm the subscription, visit the SubscribeURL included in this message.",
	}
	if kind == notify.UnsubscribeConfirmation {
		m.Body = "You have chosen to deactivate subscription " + s.subscriptionARN(x) + ".\nTo cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
	}
	target := notify.Target{Subscription: s.subscriptionARN(x), Protocol: x.Protocol, Endpoint: x.Endpoint}
	return refused(s.opts.Courier.Send(ctx, m, []notify.Target{target}, false))
}

// confirmSubscription takes the token that an endpoint was sent. It also brings back what was ended by a link.
func (s *Service) confirmSubscription(ctx context.Context, in *sns.ConfirmSubscriptionInput) (*sns.ConfirmSubscriptionOutput, error) {
	t, err := s.topic(ctx, in.TopicArn)
	if err != nil {
		return nil, err
	}
	all, err := shelf.List[subscription](ctx, s.opts.Store, subscriptionPrefix+t.Name+"/")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(x subscription) bool {
		return x.Token != "" && subtle.ConstantTimeCompare([]byte(x.Token), []byte(*in.Token)) == 1 && !x.over(s.now())
	})
	if i < 0 {
		return nil, invalid("Token")
	}
	x, err := s.changeSubscription(ctx, all[i], func(x *subscription) error {
		if x.Pending || !x.Removed.IsZero() {
			x.Signed = strings.EqualFold(aws.ToString(in.AuthenticateOnUnsubscribe), "true")
		}
		x.Pending = false
		x.Removed = time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("a subscription is confirmed", "subscription", s.subscriptionARN(x), "protocol", x.Protocol)
	return &sns.ConfirmSubscriptionOutput{SubscriptionArn: aws.String(s.subscriptionARN(x))}, nil
}

func (s *Service) changeSubscription(ctx context.Context, x subscription, f func(*subscription) error) (subscription, error) {
	x, err := shelf.Change(ctx, s.opts.Store, x.key(), nil, f)
	if errors.Is(err, shelf.ErrNone) {
		err = noSubscription()
	}
	return x, err
}

// subscription finds one by its ARN.
func (s *Service) subscription(ctx context.Context, arn string) (subscription, error) {
	topic, id, err := s.topicOf(arn, "SubscriptionArn")
	if err != nil {
		return subscription{}, err
	}
	if id == "" || strings.Contains(id, "/") {
		return subscription{}, invalid("SubscriptionArn Reason: An ARN must have at least 7 elements, with a subscription's id")
	}
	x, _, err := shelf.Get[subscription](ctx, s.opts.Store, subscription{Topic: topic, ID: id}.key())
	if errors.Is(err, shelf.ErrNone) || err == nil && (!x.Removed.IsZero() || x.over(s.now())) {
		return x, noSubscription()
	}
	return x, err
}

// unsubscribe ends a subscription. Who comes by the link of a message is told how to take it back.
func (s *Service) unsubscribe(ctx context.Context, in *sns.UnsubscribeInput) (*sns.UnsubscribeOutput, error) {
	x, err := s.subscription(ctx, *in.SubscriptionArn)
	if _, none := err.(*types.NotFoundException); none {
		return &sns.UnsubscribeOutput{}, nil // SNS's is idempotent
	}
	if err != nil {
		return nil, err
	}
	owner := wire.CallOf(ctx).AccessKey != ""
	switch {
	case x.Pending:
		return nil, invalid("SubscriptionArn Reason: This subscription is pending confirmation")
	case x.Signed && !owner:
		return nil, unauthorized("this subscription can only be ended by its owner")
	}
	if owner || x.Token == "" {
		err = shelf.Remove(ctx, s.opts.Store, x.key())
	} else {
		_, err = s.changeSubscription(ctx, x, func(x *subscription) error { x.Removed = s.now(); return nil })
	}
	if err != nil {
		return nil, err
	}
	t, err := s.changeTopic(ctx, x.Topic, func(t *topic) error { t.Deleted++; return nil })
	if err == nil && !owner && x.Token != "" {
		err = s.ask(ctx, t, x, notify.UnsubscribeConfirmation)
	}
	return &sns.UnsubscribeOutput{}, err
}

// set puts an attribute in place, or says why not.
func (x *subscription) set(t topic, name, value string) error {
	switch name {
	case "RawMessageDelivery":
		raw, err := strconv.ParseBool(strings.ToLower(value))
		if err != nil {
			return invalid("RawMessageDelivery: must be true or false")
		}
		if raw && strings.HasPrefix(x.Protocol, notify.Email) {
			return invalid("Attributes Reason: Delivery protocol [%s] does not support raw message delivery.", x.Protocol)
		}
		value = strconv.FormatBool(raw)
	case "FilterPolicy", "FilterPolicyScope":
		filterText, scope := x.Attributes["FilterPolicy"], x.Attributes["FilterPolicyScope"]
		if name == "FilterPolicy" {
			filterText = value
		} else if scope = value; scope != "MessageAttributes" && scope != "MessageBody" {
			return invalid("FilterPolicyScope: Invalid value [%.40s]. Please use either MessageBody or MessageAttributes", scope)
		}
		// The scope may come after its policy, which then must fit it: attributes are set in the order of their names.
		if _, err := parseFilter(filterText, scope == "MessageBody"); err != nil {
			if _, fits := parseFilter(filterText, true); name != "FilterPolicy" || fits != nil || x.Attributes["FilterPolicyScope"] != "" {
				return invalid("FilterPolicy: %v", err)
			}
		}
	case "DeliveryPolicy":
		of, err := parseTopicPolicy(t.Attributes["DeliveryPolicy"])
		if err != nil {
			return err
		}
		if _, err := parseSubscriptionPolicy(value, of); err != nil {
			return err
		}
	case "RedrivePolicy":
		if _, err := deadLetters(value); err != nil {
			return err
		}
	case "ReplayPolicy", "SubscriptionRoleArn":
		return invalid("AttributeName Reason: %s is not served here", name)
	default:
		return invalid("AttributeName")
	}
	if value == "" {
		delete(x.Attributes, name)
		return nil
	}
	x.Attributes[name] = value
	return nil
}

// deadLetters is the queue that a RedrivePolicy names. There are no queues here: the name is shown in the list.
func deadLetters(policy string) (arn string, err error) {
	if policy == "" {
		return "", nil
	}
	var p struct {
		Target string `json:"deadLetterTargetArn"`
	}
	if err := strictly(policy, &p); err != nil || !strings.HasPrefix(p.Target, "arn:") {
		return "", invalid("RedrivePolicy: deadLetterTargetArn must be an ARN")
	}
	return p.Target, nil
}

func (s *Service) setSubscriptionAttributes(ctx context.Context, in *sns.SetSubscriptionAttributesInput) (*sns.SetSubscriptionAttributesOutput, error) {
	x, err := s.subscription(ctx, *in.SubscriptionArn)
	if err != nil {
		return nil, err
	}
	t, _, err := shelf.Get[topic](ctx, s.opts.Store, topicPrefix+x.Topic)
	if errors.Is(err, shelf.ErrNone) {
		return nil, noSubscription()
	}
	if err != nil {
		return nil, err
	}
	_, err = s.changeSubscription(ctx, x, func(x *subscription) error {
		if x.Attributes == nil {
			x.Attributes = map[string]string{}
		}
		return x.set(t, *in.AttributeName, aws.ToString(in.AttributeValue))
	})
	return &sns.SetSubscriptionAttributesOutput{}, err
}

func (s *Service) getSubscriptionAttributes(ctx context.Context, in *sns.GetSubscriptionAttributesInput) (*sns.GetSubscriptionAttributesOutput, error) {
	x, err := s.subscription(ctx, *in.SubscriptionArn)
	if err != nil {
		return nil, err
	}
	t, _, err := shelf.Get[topic](ctx, s.opts.Store, topicPrefix+x.Topic)
	if err != nil {
		return nil, err
	}
	all := map[string]string{
		"SubscriptionArn": s.subscriptionARN(x), "TopicArn": s.arn(x.Topic), "Owner": s.opts.Account, "Protocol": x.Protocol, "Endpoint": x.Endpoint,
		"PendingConfirmation": strconv.FormatBool(x.Pending), "ConfirmationWasAuthenticated": strconv.FormatBool(x.Signed || !awaits(x.Protocol)),
		"RawMessageDelivery": "false", "SubscriptionPrincipal": "arn:aws:iam::" + s.opts.Account + ":root",
	}
	maps.Copy(all, x.Attributes)
	if x.Attributes["FilterPolicy"] != "" && x.Attributes["FilterPolicyScope"] == "" {
		all["FilterPolicyScope"] = "MessageAttributes"
	}
	if p, err := x.policy(t); err == nil && (x.Protocol == notify.HTTP || x.Protocol == notify.HTTPS) {
		all["EffectiveDeliveryPolicy"] = text(p)
	}
	return &sns.GetSubscriptionAttributesOutput{Attributes: all}, nil
}

// policy is how the subscription is delivered to: its own, else its topic's.
func (x subscription) policy(t topic) (subscriptionPolicy, error) {
	of, err := parseTopicPolicy(t.Attributes["DeliveryPolicy"])
	if err != nil {
		return subscriptionPolicy{}, err
	}
	return parseSubscriptionPolicy(x.Attributes["DeliveryPolicy"], of)
}

func (s *Service) listSubscriptions(ctx context.Context, in *sns.ListSubscriptionsInput) (*sns.ListSubscriptionsOutput, error) {
	page, next, err := s.page(ctx, subscriptionPrefix, in.NextToken)
	return &sns.ListSubscriptionsOutput{Subscriptions: page, NextToken: next}, err
}

func (s *Service) listSubscriptionsByTopic(ctx context.Context, in *sns.ListSubscriptionsByTopicInput) (*sns.ListSubscriptionsByTopicOutput, error) {
	t, err := s.topic(ctx, in.TopicArn)
	if err != nil {
		return nil, err
	}
	page, next, err := s.page(ctx, subscriptionPrefix+t.Name+"/", in.NextToken)
	return &sns.ListSubscriptionsByTopicOutput{Subscriptions: page, NextToken: next}, err
}

func (s *Service) page(ctx context.Context, below string, token *string) (shown []types.Subscription, next *string, err error) {
	all, err := shelf.List[subscription](ctx, s.opts.Store, below)
	if err != nil {
		return nil, nil, err
	}
	now := s.now()
	all = slices.DeleteFunc(all, func(x subscription) bool { return !x.Removed.IsZero() || x.over(now) })
	page, next, err := wire.Page(ctx, wire.Paging{Token: token}, all, func(x subscription) string { return x.key() })
	for _, x := range page {
		arn := s.subscriptionARN(x)
		if x.Pending {
			arn = pendingListed
		}
		shown = append(shown, types.Subscription{
			SubscriptionArn: aws.String(arn), TopicArn: aws.String(s.arn(x.Topic)), Owner: aws.String(s.opts.Account),
			Protocol: aws.String(x.Protocol), Endpoint: aws.String(masked(x)),
		})
	}
	return shown, next, err
}

// masked is an endpoint as lists show it: without a password, as SNS does, and without what tokens a chat's URL has.
func masked(x subscription) string {
	scheme, rest, ok := strings.Cut(x.Endpoint, "://")
	if !ok {
		return x.Endpoint
	}
	if x.Protocol == notify.Shoutrrr {
		return scheme + "://****"
	}
	authority, path, slash := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = "****" + authority[i:]
	}
	if slash {
		authority += "/"
	}
	return scheme + "://" + authority + path
}
