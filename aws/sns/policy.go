package sns

import (
	"bytes"
	"cmp"
	"encoding/json"

	"understudy/notify"
)

// request is how HTTP endpoints are posted to.
type request struct {
	ContentType string `json:"headerContentType,omitempty"`
}

// throttle is read, kept, and not carried out.
type throttle struct {
	MaxReceivesPerSecond int `json:"maxReceivesPerSecond,omitempty"`
}

// topicPolicy is the attribute DeliveryPolicy of a topic.
type topicPolicy struct {
	HTTP struct {
		Retry      *notify.Policy `json:"defaultHealthyRetryPolicy,omitempty"`
		NoOverride bool           `json:"disableSubscriptionOverrides"`
		Throttle   *throttle      `json:"defaultThrottlePolicy,omitempty"`
		Request    *request       `json:"defaultRequestPolicy,omitempty"`
	} `json:"http"`
}

// subscriptionPolicy is that of a subscription.
type subscriptionPolicy struct {
	Retry      *notify.Policy `json:"healthyRetryPolicy,omitempty"`
	Sick       *notify.Policy `json:"sicklyRetryPolicy,omitempty"` // AWS sends it, always null
	Throttle   *throttle      `json:"throttlePolicy,omitempty"`
	Request    *request       `json:"requestPolicy,omitempty"`
	Guaranteed bool           `json:"guaranteed,omitempty"`
}

// parseTopicPolicy reads the attribute; "" is SNS's default.
func parseTopicPolicy(text string) (p topicPolicy, err error) {
	if text != "" {
		if err := strictly(text, &p); err != nil {
			return p, invalid("DeliveryPolicy: %v", err)
		}
	}
	if p.HTTP.Retry == nil {
		usual := notify.HTTPPolicy
		p.HTTP.Retry = &usual
	}
	if p.HTTP.Request == nil {
		p.HTTP.Request = &request{ContentType: "text/plain; charset=UTF-8"}
	}
	p.HTTP.Retry.BackoffFunction = cmp.Or(p.HTTP.Retry.BackoffFunction, "linear")
	if err := p.HTTP.Retry.Validate(); err != nil {
		return p, invalid("DeliveryPolicy: http.defaultHealthyRetryPolicy: %v", err)
	}
	return p, nil
}

func (p topicPolicy) String() string { return text(p) }

// parseSubscriptionPolicy reads the attribute over what the topic says.
func parseSubscriptionPolicy(of string, topic topicPolicy) (p subscriptionPolicy, err error) {
	if of != "" {
		if err := strictly(of, &p); err != nil {
			return p, invalid("DeliveryPolicy: %v", err)
		}
	}
	if p.Retry == nil || topic.HTTP.NoOverride {
		p.Retry = topic.HTTP.Retry
	}
	if p.Request == nil || topic.HTTP.NoOverride {
		p.Request = topic.HTTP.Request
	}
	p.Retry.BackoffFunction = cmp.Or(p.Retry.BackoffFunction, "linear")
	if err := p.Retry.Validate(); err != nil {
		return p, invalid("DeliveryPolicy: healthyRetryPolicy: %v", err)
	}
	return p, nil
}

// strictly refuses members that SNS does not know.
func strictly(text string, into any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sns: " + err.Error()) // structs of texts and numbers
	}
	return string(b)
}
