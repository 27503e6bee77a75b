package main

import (
	"understudy/aws/cloudwatch"
	"understudy/aws/wire"
)

// withCloudWatch adds CloudWatch to the services when metrics are kept. Without them it is not served, and clients
// are told so.
func (g *local) withCloudWatch(services ...*wire.Service) ([]*wire.Service, error) {
	if g.series == nil {
		return services, nil
	}
	s, err := cloudwatch.New(cloudwatch.Options{Reader: g.series, Writer: g.series, Alarms: g.alarms})
	if err != nil {
		return nil, err
	}
	return append(services, s.Wire()), nil
}
