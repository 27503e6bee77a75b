package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// subscriber is an HTTP endpoint of a topic. It hangs until it is told to answer.
type subscriber struct {
	url    string
	asked  chan string // the id of each message that came
	answer chan struct{}
}

func newSubscriber(t *testing.T) *subscriber {
	t.Helper()
	s := &subscriber{asked: make(chan string, 100), answer: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.asked <- r.Header.Get("x-amz-sns-message-id")
		select {
		case <-s.answer:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// came waits for the next message.
func (s *subscriber) came(t *testing.T) string {
	t.Helper()
	select {
	case id := <-s.asked:
		return id
	case <-time.After(patience):
		t.Fatal("no message came")
		return ""
	}
}

// publishTo makes a topic with the subscriber, and publishes: the message is on its way when it returns.
func publishTo(t *testing.T, g *Group, s *subscriber) (message string) {
	t.Helper()
	c := sns.New(sns.Options{BaseEndpoint: aws.String("http://" + g.HTTP), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("any", "any", "")})
	topic, err := c.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("alerts")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("webhook"), Endpoint: &s.url}); err != nil {
		t.Fatal(err)
	}
	out, err := c.Publish(t.Context(), &sns.PublishInput{TopicArn: topic.TopicArn, Message: aws.String("m")})
	if err != nil {
		t.Fatal(err)
	}
	if id := s.came(t); id != *out.MessageId {
		t.Errorf("%s came, %s was published", id, *out.MessageId)
	}
	return *out.MessageId
}
