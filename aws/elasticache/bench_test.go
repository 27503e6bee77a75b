package elasticache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"

	"understudy/aws/wire"
)

// BenchmarkDescribe is what the front itself needs for one DescribeReplicationGroups of one group over Query.
func BenchmarkDescribe(b *testing.B) {
	w := newWorld()
	p := &process{world: w, end: func() {}}
	s, err := New(b.Context(), Options{Groups: p, Store: p, Zones: []string{"a", "b", "c"}, Engine: Engine{Name: "redis", Version: "7.0.15"}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.createReplicationGroup(call(b.Context(), "CreateReplicationGroup"), &elasticache.CreateReplicationGroupInput{
		ReplicationGroupId: aws.String("shop"), ReplicationGroupDescription: aws.String("d"), NumCacheClusters: aws.Int32(3),
	}); err != nil {
		b.Fatal(err)
	}
	front, err := wire.NewServer(wire.ServerOptions{Services: []*wire.Service{s.Wire()}, Region: "us-east-1", Account: "000000000000"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=DescribeReplicationGroups&Version=2015-02-02&ReplicationGroupId=shop"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		front.ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			b.Fatal(answer.Body)
		}
	}
}
