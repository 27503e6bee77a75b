package sts

import (
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"understudy/aws/wire"
)

func TestCallerIdentity(t *testing.T) {
	key := func(id string) (wire.Key, bool) { return wire.Key{Secret: "s", User: "deploy"}, id == "AKIDEXAMPLE" }
	for name, c := range map[string]struct {
		key         func(string) (wire.Key, bool)
		credentials aws.CredentialsProvider
		arn         string
	}{
		"a user with a key": {key, credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "s", ""), "arn:aws:iam::123456789012:user/deploy"},
		"whoever says so":   {nil, credentials.NewStaticCredentialsProvider("test", "test", ""), "arn:aws:iam::123456789012:user/test"},
		"nobody":            {nil, aws.AnonymousCredentials{}, "arn:aws:iam::123456789012:root"},
	} {
		server, err := wire.NewServer(wire.ServerOptions{Services: []*wire.Service{New()}, Region: "us-east-1", Account: "123456789012", Key: c.key})
		if err != nil {
			t.Fatal(err)
		}
		h := httptest.NewServer(server)
		client := sts.New(sts.Options{BaseEndpoint: aws.String(h.URL), Region: "us-east-1", Credentials: c.credentials})
		out, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		h.Close()
		if err != nil || *out.Arn != c.arn || *out.Account != "123456789012" || len(*out.UserId) != 21 && *out.UserId != *out.Account {
			t.Errorf("%s: %v %v", name, out, err)
		}
	}
}
