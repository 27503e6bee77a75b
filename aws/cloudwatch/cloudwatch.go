// Package cloudwatch carries out the operations of CloudWatch over metrics that somebody else keeps.
package cloudwatch

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm/watch"
	"understudy/aws/wire"
	"understudy/metric"
)

// Options say over what. Reader and Writer are needed.
type Options struct {
	Reader metric.Reader
	Writer metric.Writer
	Alarms *watch.Watch // nil: the operations of alarms are not served
	Now    func() time.Time
}

// Service is CloudWatch. It keeps nothing itself.
type Service struct{ opts Options }

// New returns the service; the error names what is missing.
func New(o Options) (*Service, error) {
	if o.Reader == nil || o.Writer == nil {
		return nil, errors.New("cloudwatch: Reader and Writer are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{o}, nil
}

// Wire is what aws.New takes: the operations.
func (s *Service) Wire() *wire.Service {
	w := wire.NewService(wire.CloudWatch())
	wire.Handle(w, s.putMetricData)
	wire.Handle(w, s.listMetrics)
	wire.Handle(w, s.getMetricStatistics)
	wire.Handle(w, s.getMetricData)
	if s.opts.Alarms != nil {
		s.handleAlarms(w)
	}
	return w
}

func badValue(format string, args ...any) error {
	return &types.InvalidParameterValueException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func badCombination(format string, args ...any) error {
	return &types.InvalidParameterCombinationException{Message: aws.String(fmt.Sprintf(format, args...))}
}

// reserved reports whether a namespace is not for users' metrics: AWS's, and ours.
func reserved(namespace string) bool {
	return strings.HasPrefix(namespace, "AWS/") || namespace == metric.Understudy
}

// named is the metric of those words. Dimensions are unordered in AWS.
func named(namespace, name string, dimensions []types.Dimension) metric.ID {
	id := metric.ID{Namespace: namespace, Name: name}
	for _, d := range dimensions {
		id.Dimensions = append(id.Dimensions, metric.Dimension{Name: *d.Name, Value: *d.Value})
	}
	id.Sort()
	return id
}
