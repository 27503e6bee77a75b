package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/smithy-go"
)

// Errors of a Client, compared with errors.Is. Others are AWS's own, or those of the connection.
var (
	// ErrConfig: region, endpoint or credentials cannot be found or do not go together.
	ErrConfig = errors.New("configuration of the AWS client")
	// ErrDenied: AWS does not know the credentials, or they may not do this.
	ErrDenied = errors.New("AWS does not let these credentials do it")
	// ErrUnknown: there is no such group, as far as these credentials can see.
	ErrUnknown = errors.New("no such replication group")
	// ErrRefused: AWS understood the call and will not carry it out: the group's state, a limit, a setting.
	ErrRefused = errors.New("refused by the ElastiCache API")
	// ErrUnreachable: no answer came.
	ErrUnreachable = errors.New("the ElastiCache API does not answer")
)

// deniedCodes are AWS's words for "who are you?" and "you may not".
var deniedCodes = []string{
	"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch",
	"IncompleteSignature", "MissingAuthenticationToken", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "OptInRequired",
}

// Throttled reports whether AWS refused a call because there were too many.
func Throttled(err error) bool {
	code := codeOf(err)
	_, known := retry.DefaultThrottleErrorCodes[code]
	return known || code == "APICallRateForCustomerExceeded"
}

func codeOf(err error) string {
	var coded smithy.APIError
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return ""
}

// explain puts one of this package's errors in front of the SDK's, which stays in the chain.
func explain(err error) error {
	if err == nil {
		return nil
	}
	code := codeOf(err)
	var gone *types.ReplicationGroupNotFoundFault
	var said smithy.APIError
	var answered *awshttp.ResponseError
	switch {
	case errors.As(err, &gone):
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case slices.Contains(deniedCodes, code):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	// The SDK has no type for it: no credentials were found, or the place they come from failed.
	case code == "" && strings.Contains(err.Error(), "get credentials"):
		return fmt.Errorf("%w: there are no credentials: %w", ErrDenied, err)
	case errors.As(err, &said) && !(errors.As(err, &answered) && answered.HTTPStatusCode() >= 500):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
