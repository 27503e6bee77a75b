package cloudwatch

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
)

// setAlarmState is for trying what an alarm does: the next evaluation puts a metric alarm back.
func (s *Service) setAlarmState(ctx context.Context, in *cloudwatch.SetAlarmStateInput) (*cloudwatch.SetAlarmStateOutput, error) {
	data := aws.ToString(in.StateReasonData)
	if data != "" && !json.Valid([]byte(data)) {
		return nil, &types.InvalidFormatFault{Message: aws.String("StateReasonData is not valid JSON.")}
	}
	return &cloudwatch.SetAlarmStateOutput{}, alarmError(s.opts.Alarms.SetState(ctx, *in.AlarmName, alarm.State(in.StateValue), *in.StateReason, data))
}

func (s *Service) enableAlarmActions(ctx context.Context, in *cloudwatch.EnableAlarmActionsInput) (*cloudwatch.EnableAlarmActionsOutput, error) {
	return &cloudwatch.EnableAlarmActionsOutput{}, alarmError(s.opts.Alarms.Enable(ctx, in.AlarmNames))
}

func (s *Service) disableAlarmActions(ctx context.Context, in *cloudwatch.DisableAlarmActionsInput) (*cloudwatch.DisableAlarmActionsOutput, error) {
	return &cloudwatch.DisableAlarmActionsOutput{}, alarmError(s.opts.Alarms.Disable(ctx, in.AlarmNames))
}

// deleteAlarms lets names pass that there are not, as CloudWatch does, although its model has ResourceNotFound for them.
func (s *Service) deleteAlarms(ctx context.Context, in *cloudwatch.DeleteAlarmsInput) (*cloudwatch.DeleteAlarmsOutput, error) {
	composite := ""
	for _, name := range in.AlarmNames {
		a, ok := s.opts.Alarms.Alarm(name)
		if !ok || a.Composite == nil || name == composite {
			continue
		}
		if composite != "" {
			return nil, invalidAlarm("Only one composite alarm can be deleted at a time, not %s and %s", composite, name)
		}
		composite = name
	}
	return &cloudwatch.DeleteAlarmsOutput{}, alarmError(s.opts.Alarms.Delete(ctx, in.AlarmNames))
}
