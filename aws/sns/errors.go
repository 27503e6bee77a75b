package sns

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"understudy/aws/wire"
	"understudy/notify"
)

func invalid(format string, args ...any) error {
	return &types.InvalidParameterException{Message: aws.String("Invalid parameter: " + fmt.Sprintf(format, args...))}
}

func unauthorized(why string) error {
	return &types.AuthorizationErrorException{Message: aws.String("Not authorized: " + why)}
}

func noTopic() error {
	return &types.NotFoundException{Message: aws.String("Topic does not exist")}
}

func noSubscription() error {
	return &types.NotFoundException{Message: aws.String("Subscription does not exist")}
}

// refused puts an error of the courier into AWS's words.
func refused(err error) error {
	switch {
	case errors.Is(err, notify.ErrFull):
		return &wire.Error{Code: "Throttled", Shape: "ThrottledException", Status: 429, Message: "Rate exceeded: " + err.Error()}
	case errors.Is(err, notify.ErrTooLong):
		return invalid("Message too long for its subscriptions: %v", err)
	}
	return err
}
