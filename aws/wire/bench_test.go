package wire

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// BenchmarkDescribe is one signed DescribeReplicationGroups with every member of two groups, without the network.
func BenchmarkDescribe(b *testing.B) {
	server := newEcho(b, false).Config.Handler
	form := "Action=DescribeReplicationGroups&Version=2015-02-02"
	for b.Loop() {
		r := sign(query("http://127.0.0.1/", form), "elasticache", "eu-central-1", testKey, testSecret, time.Now())
		r.Body, r.RequestURI, r.RemoteAddr = io.NopCloser(strings.NewReader(form)), "/", "127.0.0.1:1"
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
