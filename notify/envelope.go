package notify

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// field is a line of the JSON that SNS posts.
type field struct {
	name  string
	value any
}

// stamp is how SNS writes times.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// subscribeURL confirms a subscription; whoever has the token may open it.
func (c *Courier) subscribeURL(m Message) string {
	return c.opts.URL + "/?Action=ConfirmSubscription&TopicArn=" + url.QueryEscape(m.Topic) + "&Token=" + url.QueryEscape(m.Token)
}

func (c *Courier) unsubscribeURL(t Target) string {
	return c.opts.URL + "/?Action=Unsubscribe&SubscriptionArn=" + url.QueryEscape(t.Subscription)
}

// bodyOf is what one subscription is told.
func bodyOf(m Message, t Target) string {
	if t.Body != "" {
		return t.Body
	}
	return m.Body
}

// toSign is the text under the signature, by AWS's rules: names and values by turns, each on a line, in the order of
// the names.
func (c *Courier) toSign(m Message, t Target) string {
	fields := []field{{"Message", bodyOf(m, t)}, {"MessageId", m.ID}}
	switch {
	case m.Kind != Notification:
		fields = append(fields, field{"SubscribeURL", c.subscribeURL(m)}, field{"Timestamp", stamp(m.At)}, field{"Token", m.Token})
	case m.Subject != "":
		fields = append(fields, field{"Subject", m.Subject}, field{"Timestamp", stamp(m.At)})
	default:
		fields = append(fields, field{"Timestamp", stamp(m.At)})
	}
	fields = append(fields, field{"TopicArn", m.Topic}, field{"Type", string(m.Kind)})
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f.name + "\n" + f.value.(string) + "\n")
	}
	return b.String()
}

// envelope is the JSON document that a subscriber gets, member by member as SNS writes it.
func (c *Courier) envelope(k *signingKey, m Message, t Target) ([]byte, error) {
	version := m.Signature
	if version == "" {
		version = "1"
	}
	signature, err := k.sign(version, c.toSign(m, t))
	if err != nil {
		return nil, err
	}
	fields := []field{{"Type", string(m.Kind)}, {"MessageId", m.ID}}
	if m.Kind != Notification {
		fields = append(fields, field{"Token", m.Token})
	}
	fields = append(fields, field{"TopicArn", m.Topic})
	if m.Kind == Notification && m.Subject != "" {
		fields = append(fields, field{"Subject", m.Subject})
	}
	fields = append(fields, field{"Message", bodyOf(m, t)})
	if m.Kind != Notification {
		fields = append(fields, field{"SubscribeURL", c.subscribeURL(m)})
	}
	fields = append(fields, field{"Timestamp", stamp(m.At)}, field{"SignatureVersion", version}, field{"Signature", signature}, field{"SigningCertURL", c.opts.URL + k.path})
	if m.Kind == Notification {
		fields = append(fields, field{"UnsubscribeURL", c.unsubscribeURL(t)})
		if len(m.Attributes) > 0 {
			fields = append(fields, field{"MessageAttributes", m.Attributes})
		}
	}
	return document(fields), nil
}

// document writes JSON with SNS's spaces: some subscribers compare bytes.
func document(fields []field) []byte {
	var b bytes.Buffer
	b.WriteString("{\n")
	for i, f := range fields {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString("  " + quoted(f.name) + " : ")
		if all, ok := f.value.(map[string]Attribute); ok {
			for j, name := range slices.Sorted(maps.Keys(all)) {
				b.WriteString([]string{"{\n", ",\n"}[min(j, 1)])
				b.WriteString("    " + quoted(name) + " : {\"Type\":" + quoted(all[name].Type) + ",\"Value\":" + quoted(all[name].Value) + "}")
			}
			b.WriteString("\n  }")
			continue
		}
		b.WriteString(quoted(f.value.(string)))
	}
	b.WriteString("\n}")
	return b.Bytes()
}

// quoted is a JSON text without the escapes that only HTML needs.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text has no reason to fail
	return strings.TrimSuffix(b.String(), "\n")
}
