package remote

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// front answers every call with one refusal, in the Query protocol.
func front(t *testing.T, status int, code string) (url string, calls *atomic.Int32) {
	calls = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = w.Write([]byte("<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>no</Message></Error><RequestId>id-1</RequestId></ErrorResponse>"))
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func TestRefusalsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
	}{
		{404, "ReplicationGroupNotFoundFault", ErrUnknown}, {403, "InvalidClientTokenId", ErrDenied}, {403, "SignatureDoesNotMatch", ErrDenied},
		{403, "AccessDenied", ErrDenied}, {400, "InvalidReplicationGroupState", ErrRefused}, {400, "APICallRateForCustomerExceeded", ErrRefused}, {500, "InternalFailure", ErrUnreachable},
	} {
		url, calls := front(t, c.status, c.code)
		var heard []Call
		client, err := New(t.Context(), Options{Region: "us-east-1", Endpoint: url, AccessKey: "AKIDTEST", SecretKey: "secret-word", Attempts: 1, Called: func(c Call) { heard = append(heard, c) }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Group(t.Context(), "shop"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.code, err, c.want)
		}
		if len(heard) != 1 || heard[0].Operation != "DescribeReplicationGroups" || heard[0].RequestID != "id-1" || heard[0].Error == "" || strings.Contains(heard[0].Error, "secret-word") {
			t.Errorf("%s: heard %+v", c.code, heard)
		}
		if calls.Load() != 1 || client.Amazon() {
			t.Errorf("%s: %d calls; AWS itself: %v", c.code, calls.Load(), client.Amazon())
		}
	}
}

// A call whose answer was lost may have failed the group over: a second one would do it again.
func TestACallThatChangesTheGroupIsMadeOnce(t *testing.T) {
	url, calls := front(t, 500, "InternalFailure")
	var changes int
	c, err := New(t.Context(), Options{Region: "us-east-1", Endpoint: url, AccessKey: "AKIDTEST", SecretKey: "secret-word", Called: func(c Call) {
		if c.Changes {
			changes++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.TestFailover(t.Context(), "shop", "0001"), c.Promote(t.Context(), "shop", "shop-002")); err == nil {
		t.Error("an internal failure is no error")
	}
	if calls.Load() != 2 || changes != 2 {
		t.Errorf("%d requests for 2 calls, %d were said to change the group", calls.Load(), changes)
	}
}

func TestConfigurationIsLookedAtFirst(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	for _, o := range []Options{{}, {Region: "us-east-1", Endpoint: "127.0.0.1:1"}, {Region: "us-east-1", AccessKey: "x"}} {
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		if _, err := New(t.Context(), o); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
