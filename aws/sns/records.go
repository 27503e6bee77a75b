package sns

import "time"

const (
	topicPrefix        = "/understudy/aws/sns/topics/"
	subscriptionPrefix = "/understudy/aws/sns/subscriptions/"
)

// topic is a topic's record.
type topic struct {
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Deleted    int               `json:"deleted_subscriptions,omitempty"`
}

// subscription is a subscription's record.
type subscription struct {
	ID       string    `json:"id"`
	Topic    string    `json:"topic"` // its name
	Protocol string    `json:"protocol"`
	Endpoint string    `json:"endpoint"`
	Created  time.Time `json:"created"`
	Pending  bool      `json:"pending,omitempty"`
	Token    string    `json:"token,omitempty"`  // confirms it
	Signed   bool      `json:"signed,omitempty"` // the confirmation was: only its owner may end it
	// Removed: whoever has the token may bring it back for a while.
	Removed    time.Time         `json:"removed,omitzero"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (x subscription) key() string { return subscriptionPrefix + x.Topic + "/" + x.ID }

// tokenFor is how long a token is good, and how long AWS keeps a subscription that nobody confirms.
const tokenFor = 3 * 24 * time.Hour

// over reports whether nobody sees the record any more.
func (x subscription) over(now time.Time) bool {
	return x.Pending && now.Sub(x.Created) > tokenFor || !x.Removed.IsZero() && now.Sub(x.Removed) > tokenFor
}
