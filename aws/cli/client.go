package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"understudy/aws/jmespath"
	"understudy/aws/wire"
)

// client sends the requests of one command line.
type client struct {
	service service
	url     string
	found   bool // the running instance, which nobody had named
	region  string
	sign    bool
	keys    aws.Credentials
	agent   string
	http    *http.Client
}

// tries is how often a request is sent: what the AWS CLI does in its standard mode.
const tries = 3

// longestAnswer bounds what is read; AWS's longest pages are far below.
const longestAnswer = 64 << 20

// connect finds out where requests go and who signs them.
func (c *command) connect(ctx context.Context) error {
	k := &client{service: c.service, agent: "understudy-aws/" + cmp.Or(c.opts.Version, "dev"), sign: !c.globals.noSign}
	settings, err := c.configuration(ctx)
	if err != nil {
		return err
	}
	k.region = cmp.Or(c.globals.region, settings.Region)
	k.url = cmp.Or(c.globals.endpoint, configured(settings, c.service))
	if k.url != "" {
		at, err := url.Parse(k.url)
		if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
			return failure{exitFailed, fmt.Sprintf("Invalid endpoint: %s", k.url)}
		}
		if k.http, err = c.transport(); err != nil {
			return err
		}
	} else if err := c.find(k); err != nil {
		return err
	}
	c.client = k
	return c.credentials(ctx, k, settings)
}

// configuration is what the SDK reads from the environment and AWS's files. The instance metadata of EC2 is asked
// only when an endpoint is named: it takes seconds to find that there is none.
func (c *command) configuration(ctx context.Context) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{}
	if c.globals.profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(c.globals.profile))
	}
	if c.globals.endpoint == "" {
		opts = append(opts, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	settings, err := config.LoadDefaultConfig(ctx, opts...)
	var missing config.SharedConfigProfileNotExistError
	if errors.As(err, &missing) {
		return settings, failure{exitFailed, fmt.Sprintf("The config profile (%s) could not be found", missing.Profile)}
	}
	if err != nil {
		return settings, failure{exitConfig, err.Error()}
	}
	return settings, nil
}

// configured is the endpoint that the environment or AWS's files name, for this service or for all; "": none.
// The SDK's clients know the rules.
func configured(settings aws.Config, s service) string {
	var base *string
	switch s.name {
	case "elasticache":
		base = elasticache.NewFromConfig(settings).Options().BaseEndpoint
	case "cloudwatch":
		base = cloudwatch.NewFromConfig(settings).Options().BaseEndpoint
	case "sns":
		base = sns.NewFromConfig(settings).Options().BaseEndpoint
	case "sts":
		base = sts.NewFromConfig(settings).Options().BaseEndpoint
	}
	return aws.ToString(base)
}

// find takes the running instance.
func (c *command) find(k *client) error {
	if c.opts.Find == nil {
		return failure{exitConfig, "No endpoint: name one with --endpoint-url"}
	}
	front, err := c.opts.Find()
	if err != nil {
		return failure{exitFailed, err.Error()}
	}
	k.url, k.http, k.found = front.URL, front.Client, true
	k.region = cmp.Or(k.region, "us-east-1")
	if k.http == nil {
		k.http, err = c.transport()
	}
	return err
}

// transport goes to a named endpoint, over TLS as the options say.
func (c *command) transport() (*http.Client, error) {
	t, _ := http.DefaultTransport.(*http.Transport)
	t = t.Clone()
	t.DialContext = (&net.Dialer{Timeout: c.globals.connectTimeout}).DialContext
	t.ResponseHeaderTimeout = c.globals.readTimeout
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: c.globals.noVerify} //nolint:gosec // --no-verify-ssl asks for it
	if bundle := cmp.Or(c.globals.caBundle, os.Getenv("AWS_CA_BUNDLE")); bundle != "" && !c.globals.noVerify {
		text, err := os.ReadFile(bundle)
		if err != nil {
			return nil, failure{exitFailed, fmt.Sprintf("Invalid CA bundle %s: %v", bundle, err)}
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, failure{exitFailed, fmt.Sprintf("Invalid CA bundle %s: there is no certificate in it", bundle)}
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// credentials takes those of the SDK's chain. The found instance may need none: without any, requests to it go
// unsigned, and it says if it wants them signed.
func (c *command) credentials(ctx context.Context, k *client, settings aws.Config) error {
	if !k.sign {
		return nil
	}
	if k.region == "" {
		return failure{exitConfig, "You must specify a region. You can also configure your region by running \"aws configure\"."}
	}
	keys, err := settings.Credentials.Retrieve(ctx)
	switch {
	case err == nil:
		k.keys = keys
	case ctx.Err() != nil:
		return ctx.Err()
	case k.found:
		k.sign = false
	default:
		return failure{exitConfig, "Unable to locate credentials. You can configure credentials by running \"aws configure\"."}
	}
	return nil
}

// send asks for an operation and reads the answer. A failure of the service, or being told to slow down, is asked
// again, as the AWS CLI does.
func (k *client) send(ctx context.Context, o *wire.Operation, tree map[string]any) (jmespath.Object, error) {
	values := url.Values{"Action": {o.Name}, "Version": {k.service.model.Version}}
	if shape := k.service.model.Shapes[o.Input]; shape != nil {
		form(values, shape, tree, "")
	}
	body := values.Encode()
	for try := 1; ; try++ {
		status, reason, text, err := k.post(ctx, body)
		var refused *refusal
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil && status < 300:
			return answer(k.service.model, o, text)
		case err == nil:
			refused = readRefusal(o.Name, status, reason, text)
			refused.tries = try
			if !refused.transient() {
				refused.tries = 1
				return nil, failure{exitRefused, refused.Error()}.because(refused)
			}
		}
		if try == tries {
			if refused != nil {
				return nil, failure{exitRefused, refused.Error()}.because(refused)
			}
			return nil, k.unreachable(err)
		}
		if err := pause(ctx, rand.N(time.Duration(1<<try)*time.Second/4)); err != nil {
			return nil, err
		}
	}
}

// because keeps the refusal for those who ask for its code.
func (f failure) because(r *refusal) error { return refused{f, r} }

type refused struct {
	failure
	refusal *refusal
}

func (r refused) Unwrap() []error { return []error{r.failure, r.refusal} }

func (r *refusal) transient() bool {
	switch r.code {
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequestsException", "RequestTimeout":
		return true
	}
	return r.status == 500 || r.status == 502 || r.status == 503 || r.status == 504
}

func (k *client) unreachable(err error) error {
	text := fmt.Sprintf("Could not connect to the endpoint URL: \"%s\"", strings.TrimSuffix(k.url, "/")+"/")
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		text = fmt.Sprintf("Read timeout on endpoint URL: \"%s\"", strings.TrimSuffix(k.url, "/")+"/")
	}
	return failure{exitFailed, fmt.Sprintf("%s (%v)", text, err)}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// post sends one request.
func (k *client) post(ctx context.Context, body string) (status int, reason string, text []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(k.url, "/")+"/", strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("User-Agent", k.agent)
	if k.sign {
		hash := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(ctx, k.keys, r, hex.EncodeToString(hash[:]), k.service.model.Signing, k.region, time.Now()); err != nil {
			return 0, "", nil, err
		}
	}
	answer, err := k.http.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	_, reason, _ = strings.Cut(answer.Status, " ")
	return answer.StatusCode, reason, text, err
}
