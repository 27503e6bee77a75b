package cloudwatch

import (
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/aws/wire"
)

// The operations of alarms over a watch.Watch, which keeps and evaluates them. What was put is read back as it was put:
// a member that was not given is not there, because clients compare.

func (s *Service) handleAlarms(w *wire.Service) {
	wire.Handle(w, s.putMetricAlarm)
	wire.Handle(w, s.putCompositeAlarm)
	wire.Handle(w, s.describeAlarms)
	wire.Handle(w, s.describeAlarmsForMetric)
	wire.Handle(w, s.describeAlarmHistory)
	wire.Handle(w, s.deleteAlarms)
	wire.Handle(w, s.enableAlarmActions)
	wire.Handle(w, s.disableAlarmActions)
	wire.Handle(w, s.setAlarmState)
	wire.Handle(w, s.listTagsForResource)
	wire.Handle(w, s.tagResource)
	wire.Handle(w, s.untagResource)
}

// invalidAlarm is how the operations of alarms refuse: their models have few errors of their own.
func invalidAlarm(format string, args ...any) error {
	return wire.Refuse("ValidationError", format, args...)
}

// alarmError puts the errors of a Watch into CloudWatch's words; any other stays what it is.
func alarmError(err error) error {
	var bad alarm.Invalid
	switch {
	case errors.As(err, &bad):
		return invalidAlarm("%s", string(bad))
	case errors.Is(err, watch.ErrNone):
		return &types.ResourceNotFound{Message: aws.String("There is no alarm of that name.")}
	case errors.Is(err, watch.ErrFull):
		return &types.LimitExceededFault{Message: aws.String("The quota of alarms has been reached: " + err.Error() + ".")}
	case errors.Is(err, watch.ErrStopped): // clients try again
		return &wire.Error{Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable, Server: true,
			Message: "Alarms are not kept at this moment: this instance starts or stops. Try again."}
	}
	return err
}
