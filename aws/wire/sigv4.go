package wire

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoBasic   = "20060102T150405Z"
)

// skew is how far a signature's time may be from ours. AWS's own messages say 15 minutes.
const skew = 15 * time.Minute

// longestPresigned is AWS's bound for a URL that carries its signature.
const longestPresigned = 7 * 24 * time.Hour

// claim is who a request says that it is from, and the proof.
type claim struct {
	accessKey, date, region, service, end string // the credential: AKID/20261130/us-east-1/sns/aws4_request
	signed                                []string
	signature                             string
	at                                    string // X-Amz-Date
	expires                               time.Duration
	presigned                             bool
}

// readClaim is nil when the request has none. The error is an IncompleteSignature; the claim is as far as it
// could be read.
func readClaim(r *http.Request) (*claim, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		return headerClaim(r, h)
	}
	q := r.URL.Query()
	if !q.Has("X-Amz-Signature") && !q.Has("X-Amz-Credential") {
		return nil, nil
	}
	c := &claim{presigned: true, signature: q.Get("X-Amz-Signature"), at: q.Get("X-Amz-Date"), signed: strings.Split(q.Get("X-Amz-SignedHeaders"), ";")}
	seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	c.expires = time.Duration(seconds) * time.Second
	switch {
	case !c.credential(q.Get("X-Amz-Credential")):
		return c, incomplete("Credential must have at least 5 slash-delimited elements (e.g. keyid/date/region/service/term), got '%s'", q.Get("X-Amz-Credential"))
	case q.Get("X-Amz-Algorithm") != algorithm || c.signature == "" || c.at == "" || q.Get("X-Amz-SignedHeaders") == "":
		return c, incomplete("AWS query-string parameters must include 'X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature', 'X-Amz-SignedHeaders' and 'X-Amz-Date'.")
	case err != nil || c.expires < 0 || seconds > int(longestPresigned.Seconds()):
		return c, incomplete("X-Amz-Expires must be between 0 and %d seconds", int(longestPresigned.Seconds()))
	}
	return c, nil
}

func headerClaim(r *http.Request, h string) (*claim, error) {
	c := &claim{at: r.Header.Get("X-Amz-Date")}
	name, rest, _ := strings.Cut(h, " ")
	if name != algorithm {
		return c, incomplete("Unsupported AWS 'algorithm': '%.40s'.", name)
	}
	var lacks []string
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return c, incomplete("'%.100s' not a valid key=value pair (missing equal-sign) in Authorization header: '%.500s'.", part, h)
		}
		parts[key] = value
	}
	for _, key := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[key] == "" {
			lacks = append(lacks, "Authorization header requires '"+key+"' parameter.")
		}
	}
	if c.at == "" {
		lacks = append(lacks, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	c.signature, c.signed = parts["Signature"], strings.Split(parts["SignedHeaders"], ";")
	ok := c.credential(parts["Credential"])
	if lacks != nil {
		return c, incomplete("%s Authorization=%.500s", strings.Join(lacks, " "), h)
	}
	if !ok {
		return c, incomplete("Credential must have at least 5 slash-delimited elements (e.g. keyid/date/region/service/term), got '%.200s'", parts["Credential"])
	}
	return c, nil
}

// credential reads the scope. The access key may have slashes, as AWS allows.
func (c *claim) credential(text string) bool {
	p := strings.Split(text, "/")
	n := len(p)
	if n < 5 {
		return false
	}
	c.accessKey, c.date, c.region, c.service, c.end = strings.Join(p[:n-4], "/"), p[n-4], p[n-3], p[n-2], p[n-1]
	return true
}

func incomplete(format string, args ...any) *Error {
	e := Refuse("IncompleteSignature", format, args...)
	e.Shape = "IncompleteSignatureException"
	return e
}

func errUnsigned() *Error {
	return &Error{Code: "MissingAuthenticationToken", Shape: "MissingAuthenticationTokenException", Status: http.StatusForbidden, Message: "Request is missing Authentication Token"}
}

func errUnknownKey() *Error {
	return &Error{Code: "InvalidClientTokenId", Shape: "UnrecognizedClientException", Status: http.StatusForbidden, Message: "The security token included in the request is invalid."}
}

func errSignature(format string, args ...any) *Error {
	return &Error{Code: "SignatureDoesNotMatch", Shape: "InvalidSignatureException", Status: http.StatusForbidden, Message: fmt.Sprintf(format, args...)}
}

// scope is what a credential has to be for.
type scope struct{ region, service string }

// verify checks the claim: the scope, the time, and the signature over what came. body is as it came, before
// any inflation. secret is that of the claim's access key.
func (c *claim) verify(ctx context.Context, r *http.Request, body []byte, of scope, secret string, now time.Time) error {
	at, err := time.Parse(isoBasic, c.at)
	if err != nil {
		return incomplete("Date must be in ISO-8601 'basic format'. Got '%.40s'. See http://en.wikipedia.org/wiki/ISO_8601", c.at)
	}
	if err := c.inScope(of); err != nil {
		return err
	}
	if err := c.inTime(at, now.UTC()); err != nil {
		return err
	}
	if !slices.Contains(c.signed, "host") {
		return errSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if r.Header.Get("X-Amz-Target") != "" && !slices.Contains(c.signed, "x-amz-target") {
		return errSignature("'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.")
	}
	signature, err := c.signAgain(ctx, r, body, aws.Credentials{AccessKeyID: c.accessKey, SecretAccessKey: secret}, at)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(signature), []byte(c.signature)) != 1 {
		return errSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (c *claim) inScope(of scope) error {
	switch {
	case c.end != terminator:
		return errSignature("Credential should be scoped with a valid terminator: '%s', not '%.40s'.", terminator, c.end)
	case c.service != of.service:
		return errSignature("Credential should be scoped to correct service: '%s'.", of.service)
	case c.region != of.region:
		return errSignature("Credential should be scoped to a valid region, not '%.40s'.", c.region)
	case c.date != c.at[:min(8, len(c.at))]:
		return errSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.8s' != '%.8s', from '%.16s'.", c.date, c.at, c.at)
	}
	return nil
}

func (c *claim) inTime(at, now time.Time) error {
	lasts := skew
	if c.presigned {
		lasts = c.expires
	}
	if limit := now.Add(-lasts); at.Before(limit) {
		return errSignature("Signature expired: %s is now earlier than %s (%s - %s)", c.at, limit.Format(isoBasic), now.Format(isoBasic), minutes(lasts))
	}
	if limit := now.Add(skew); at.After(limit) {
		return errSignature("Signature not yet current: %s is still later than %s (%s + %s)", c.at, limit.Format(isoBasic), now.Format(isoBasic), minutes(skew))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d sec.", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min.", int(d.Minutes()))
}

// signAgain is the signature that the request should have: the SDK signs a copy that has only the headers which
// the client signed. A header that the SDK never signs (User-Agent, Expect) makes the two differ.
func (c *claim) signAgain(ctx context.Context, r *http.Request, body []byte, as aws.Credentials, at time.Time) (string, error) {
	u := *r.URL
	again := &http.Request{Method: r.Method, URL: &u, Host: r.Host, Header: http.Header{}}
	for _, name := range c.signed {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = slices.Clone(r.Header.Values(name))
		}
	}
	signer := v4.NewSigner() // a signer of its own: one that is kept goes on with a secret that has been changed
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if c.presigned {
		q := u.Query()
		for _, name := range []string{"X-Amz-Signature", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders"} {
			q.Del(name)
		}
		u.RawQuery = q.Encode()
		signed, _, err := signer.PresignHTTP(ctx, as, again, hash, c.service, c.region, at)
		if err != nil {
			return "", fmt.Errorf("sign the URL again: %w", err)
		}
		back, err := url.Parse(signed)
		if err != nil {
			return "", fmt.Errorf("sign the URL again: %w", err)
		}
		return back.Query().Get("X-Amz-Signature"), nil
	}
	if err := signer.SignHTTP(ctx, as, again, hash, c.service, c.region, at); err != nil {
		return "", fmt.Errorf("sign the request again: %w", err)
	}
	_, signature, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	return signature, nil
}
