package doctor

import (
	"encoding/json"
	"time"

	"understudy/aws/remote"
)

// linesJSON writes an expression's lines as the AWS CLI reads them.
func linesJSON(lines []remote.AlarmLine) string {
	type dimension struct{ Name, Value string }
	type named struct {
		Namespace, MetricName string
		Dimensions            []dimension
	}
	type stat struct {
		Metric named
		Period int
		Stat   string
	}
	type query struct {
		ID         string `json:"Id"`
		Expression string `json:",omitempty"`
		MetricStat *stat  `json:",omitempty"`
		ReturnData bool
	}
	var all []query
	for _, l := range lines {
		q := query{ID: l.ID, Expression: l.Expression, ReturnData: l.Returned}
		if l.Expression == "" {
			s := &stat{Metric: named{Namespace: l.Metric.Namespace, MetricName: l.Metric.Name}, Period: int(l.Period / time.Second), Stat: l.Stat}
			for _, d := range l.Metric.Dimensions {
				s.Metric.Dimensions = append(s.Metric.Dimensions, dimension{d.Name, d.Value})
			}
			q.MetricStat = s
		}
		all = append(all, q)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings, numbers and bools
	}
	return string(text)
}
