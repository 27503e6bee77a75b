package drill

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"understudy/cluster"
)

func TestALoadTakesTheEndpointsThatSpeakAsItDoes(t *testing.T) {
	plain := cluster.Endpoints{Primary: "p", Reader: "r"}
	both := cluster.Endpoints{Primary: "p", Reader: "r", PrimaryTLS: "P", ReaderTLS: "R", SplitTLS: "S"}
	secure := cluster.Endpoints{Primary: "P", Split: "S", PrimaryTLS: "P", SplitTLS: "S"}
	over := Login{TLS: &tls.Config{}}
	for _, c := range []struct {
		login               Login
		at                  cluster.Endpoints
		primary, read, both string
	}{
		{Login{}, plain, "p", "r", "p"},
		{Login{}, both, "p", "r", "p"},
		{over, both, "P", "R", "S"},
		{over, secure, "P", "P", "S"},
		{over, plain, "p", "r", "p"}, // something in front of it may speak TLS
	} {
		got, err := c.login.endpoints(c.at)
		if err != nil || got[wherePrimary] != c.primary || got[whereReader] != c.read || got[whereSplit] != c.both {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	if _, err := (Login{}).endpoints(secure); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "--tls-ca") {
		t.Error(err)
	}
}

func TestALoginThatIsRefusedIsSaidBeforeAnythingBreaks(t *testing.T) {
	s := startServer(t, 0)
	c := newClient(s.addr)
	defer c.Close()
	if err := c.ConfigSet(t.Context(), "requirepass", "sesame").Err(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		login Login
		is    error
	}{{Login{Password: "sesame"}, nil}, {Login{User: "default", Password: "sesame"}, nil}, {Login{}, ErrUsage}, {Login{Password: "thyme"}, ErrUsage}, {Login{Password: "sesame", TLS: &tls.Config{}}, ErrUnreachable}} {
		err := x.login.check(t.Context(), s.addr)
		if !errors.Is(err, x.is) || err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%+v: %v", x.login, err)
		}
	}
}
