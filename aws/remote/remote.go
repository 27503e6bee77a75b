// Package remote reads, breaks and mends a real ElastiCache group through AWS's own client: what the group is, what
// happened to it, what CloudWatch measured and alarms of it, who is told, the two calls that change its primary, and
// those with which a doctor mends it. It decides nothing, and it calls nothing that deploy/aws/iam-policy.json does
// not allow.
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// The bounds of calls.
const (
	// defaultAttempts is the SDK's own number: the first call, and two more when AWS throttles or breaks.
	defaultAttempts = 3
	// defaultWithin bounds one call with all its attempts: a drill asks in the middle of a failover.
	defaultWithin = 10 * time.Second
)

// Options say where the API is, and who asks. The zero value is the SDK's own chain for all of them.
type Options struct {
	Region string // "": AWS_REGION, the shared configuration, the machine's own
	// Endpoint is the URL of the API; "": AWS_ENDPOINT_URL, else the region's own.
	Endpoint string
	// AccessKey, SecretKey and SessionToken; empty: environment, files, the machine's role.
	AccessKey, SecretKey, SessionToken string
	// Attempts is how often one call is made at most; 0: 3. 1 for who asks again anyway.
	Attempts int
	Within   time.Duration // bounds one call with its attempts; 0: 10 s
	// TLS says whose certificates the endpoint may show; nil: the system's, and AWS_CA_BUNDLE's.
	TLS *tls.Config
	// Called is told of every call that has ended, from the goroutine that made it; nil: nobody.
	Called func(Call)
}

// Call is one call that has ended, for a record: AWS's support finds it by its request id.
type Call struct {
	Operation string        `json:"operation"`
	RequestID string        `json:"request_id"` // "" when no answer came
	At        time.Time     `json:"at"`         // when it was made
	Took      time.Duration `json:"-"`
	Error     string        `json:"error,omitempty"`
	// Changes: it is one of those that change the group, or its alarms.
	Changes bool `json:"changes,omitempty"`
	// Ahead is how far the API's clock is ahead of this machine's, to a second: its answers tell whole seconds.
	// Nil when no answer came.
	Ahead *time.Duration `json:"-"`
}

// Client asks one region's API. It may be used by any number of goroutines.
type Client struct {
	opts   Options
	region string
	groups *elasticache.Client
	watch  *cloudwatch.Client
	tokens *sts.Client
	topics *sns.Client
}

// New finds region, endpoint and credentials; it makes no call but those that finding them needs. Errors: ErrConfig.
func New(ctx context.Context, o Options) (*Client, error) {
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return nil, fmt.Errorf("%w: the access key and the secret key go together", ErrConfig)
	}
	o.Attempts = cmp.Or(o.Attempts, defaultAttempts)
	o.Within = cmp.Or(o.Within, defaultWithin)
	ctx, cancel := context.WithTimeout(ctx, o.Within)
	defer cancel()
	c, err := config.LoadDefaultConfig(ctx, o.load()...)
	if err != nil {
		return nil, fmt.Errorf("%w: set up the AWS client: %w", ErrConfig, err)
	}
	if c.Region == "" {
		return nil, fmt.Errorf("%w: no region: give one, or set AWS_REGION", ErrConfig)
	}
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%w: the endpoint %q is no http:// or https:// URL", ErrConfig, o.Endpoint)
		}
		c.BaseEndpoint = &o.Endpoint
	}
	return &Client{opts: o, region: c.Region, groups: elasticache.NewFromConfig(c), watch: cloudwatch.NewFromConfig(c), tokens: sts.NewFromConfig(c), topics: sns.NewFromConfig(c)}, nil
}

func (o Options) load() []func(*config.LoadOptions) error {
	retryer := func() aws.Retryer { return aws.NopRetryer{} }
	if o.Attempts > 1 {
		retryer = func() aws.Retryer { return retry.AddWithMaxAttempts(retry.NewStandard(), o.Attempts) }
	}
	all := []func(*config.LoadOptions) error{config.WithRetryer(retryer)}
	if o.Region != "" {
		all = append(all, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		all = append(all, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken)))
	}
	if o.TLS != nil {
		all = append(all, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig = o.TLS.Clone() })))
	}
	if o.Called != nil {
		all = append(all, config.WithAPIOptions([]func(*middleware.Stack) error{o.listen}))
	}
	return all
}

// changing are the operations that do not only look.
var changing = []string{"TestFailover", "ModifyReplicationGroup", "CreateSnapshot", "EnableAlarmActions", "PutMetricAlarm"}

// listen has Called hear of each call, with all of its attempts behind it.
func (o Options) listen(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("understudy.called",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			began := time.Now()
			out, meta, err := next.HandleInitialize(ctx, in)
			c := Call{Operation: stack.ID(), At: began, Took: time.Since(began)}
			c.RequestID, _ = awsmiddleware.GetRequestIDMetadata(meta)
			c.Changes = slices.Contains(changing, c.Operation)
			if server, ok := awsmiddleware.GetServerTime(meta); ok {
				if at, ok := awsmiddleware.GetResponseAt(meta); ok {
					ahead := server.Sub(at)
					c.Ahead = &ahead
				}
			}
			if err != nil {
				c.Error = err.Error()
				var answered *awshttp.ResponseError
				if errors.As(err, &answered) {
					c.RequestID = answered.ServiceRequestID()
				}
			}
			o.Called(c)
			return out, meta, err
		}), middleware.Before)
}

// bound gives one call its deadline.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opts.Within)
}

// Region is where the group is.
func (c *Client) Region() string { return c.region }

// Endpoint is the URL that is asked instead of AWS's own; "" for AWS's own.
func (c *Client) Endpoint() string { return aws.ToString(c.groups.Options().BaseEndpoint) }

// Amazon reports whether AWS itself is asked, and not another front with the same words.
func (c *Client) Amazon() bool {
	if c.Endpoint() == "" {
		return true
	}
	u, err := url.Parse(c.Endpoint())
	return err == nil && (strings.HasSuffix(u.Hostname(), ".amazonaws.com") || strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn") || strings.HasSuffix(u.Hostname(), ".api.aws"))
}

// Caller is who asks, as an ARN. AWS lets everybody ask this of himself.
func (c *Client) Caller(ctx context.Context) (string, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	out, err := c.tokens.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", explain(err)
	}
	return aws.ToString(out.Arn), nil
}
