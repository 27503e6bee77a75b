// Package sts tells clients of AWS who they are: many ask before anything else.
package sts

import (
	"context"
	"crypto/sha256"
	"encoding/base32"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"understudy/aws/wire"
)

// New serves GetCallerIdentity.
func New() *wire.Service {
	s := wire.NewService(wire.STS())
	wire.Handle(s, callerIdentity)
	return s
}

// callerIdentity names the user whose key signed. A request without a signature, which only an open front
// answers, is the account's own.
func callerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	c := wire.CallOf(ctx)
	out := &sts.GetCallerIdentityOutput{Account: aws.String(c.Account), UserId: aws.String(c.Account), Arn: aws.String("arn:aws:iam::" + c.Account + ":root")}
	if c.User != "" {
		out.Arn = aws.String("arn:aws:iam::" + c.Account + ":user/" + c.User)
		out.UserId = aws.String(userID(c.Account, c.User))
	}
	return out, nil
}

// userID has the form of an IAM user's id, and is the same for the same user.
func userID(account, user string) string {
	sum := sha256.Sum256([]byte(account + "/" + user))
	return "AIDA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}
