package cloudwatch

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/metric"
)

// place is where a page begins: what NextToken says. It names the last point that was given, not how many were, so
// that points which come between two pages hide and repeat no others.
type place struct {
	Of     string `json:"of"`           // the request: a token of another one is a mistake worth telling
	Now    int64  `json:"now"`          // ms: when the first page was asked for
	Query  int    `json:"q"`            // which query
	Member int    `json:"m,omitempty"`  // and which series of its list
	After  *int64 `json:"at,omitempty"` // ms: the last point that was given of it; nil: none
}

// begin reads the token; without one a request begins at its first point.
func (r *request) begin() (place, error) {
	text, err := r.fingerprint()
	if err != nil {
		return place{}, err
	}
	if aws.ToString(r.in.NextToken) == "" {
		return place{Of: text, Now: r.now.UnixMilli()}, nil
	}
	var p place
	raw, err := base64.RawURLEncoding.DecodeString(*r.in.NextToken)
	if err != nil || json.Unmarshal(raw, &p) != nil || p.Of != text || p.Query < 0 || p.Member < 0 {
		return place{}, &types.InvalidNextToken{Message: aws.String("The next token specified is invalid.")}
	}
	r.now = time.UnixMilli(p.Now)
	return p, nil
}

// fingerprint tells requests apart. How much a page holds may change from one to the next.
func (r *request) fingerprint() (string, error) {
	in := *r.in
	in.NextToken, in.MaxDatapoints = nil, nil
	text, err := json.Marshal(in)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), err
}

func (p place) token() *string {
	text, err := json.Marshal(p)
	if err != nil {
		panic("cloudwatch: a place that is no JSON: " + err.Error()) // numbers and texts always are
	}
	return aws.String(base64.RawURLEncoding.EncodeToString(text))
}

// page is the answer from a place on. A series that did not fit is PartialData here and goes on in the next page;
// series behind it are not in this one.
func (r *request) page(ctx context.Context, at place) (*cloudwatch.GetMetricDataOutput, error) {
	out := &cloudwatch.GetMetricDataOutput{MetricDataResults: []types.MetricDataResult{}, Messages: []types.MessageData{}}
	left := mostDatapoints
	if r.in.MaxDatapoints != nil {
		left = int(*r.in.MaxDatapoints)
	}
	for ; at.Query < len(r.in.MetricDataQueries); at.Query, at.Member, at.After = at.Query+1, 0, nil {
		q := r.in.MetricDataQueries[at.Query]
		if !returned(q) {
			continue
		}
		lines, err := r.lines(ctx, q)
		if err != nil {
			return nil, err
		}
		for ; at.Member < len(lines); at.Member, at.After = at.Member+1, nil {
			l := lines[at.Member]
			points := r.behind(l.points, at.After)
			fit := min(left, len(points))
			if fit == 0 && len(points) > 0 || len(out.MetricDataResults) == mostSeries {
				out.NextToken = at.token()
				return out, nil
			}
			out.MetricDataResults = append(out.MetricDataResults, result(*q.Id, l, points[:fit]))
			if left -= fit; fit < len(points) {
				out.MetricDataResults[len(out.MetricDataResults)-1].StatusCode = types.StatusCodePartialData
				at.After = aws.Int64(points[fit-1].At.UnixMilli())
				out.NextToken = at.token()
				return out, nil
			}
		}
	}
	return out, nil
}

// behind are the points that are still to be given, in the order that was asked for: newest first, unless a client
// says otherwise. It leaves the given ones as they are: lists share them.
func (r *request) behind(points []metric.Point, after *int64) []metric.Point {
	ascending := r.in.ScanBy == types.ScanByTimestampAscending
	left := make([]metric.Point, 0, len(points))
	for i := range points {
		p := points[i]
		if !ascending {
			p = points[len(points)-1-i]
		}
		at := p.At.UnixMilli()
		if after == nil || ascending && at > *after || !ascending && at < *after {
			left = append(left, p)
		}
	}
	return left
}

// result is one series of a page.
func result(id string, l line, points []metric.Point) types.MetricDataResult {
	d := types.MetricDataResult{Id: &id, Label: &l.label, StatusCode: types.StatusCodeComplete,
		Timestamps: make([]time.Time, len(points)), Values: make([]float64, len(points))}
	for i, p := range points {
		d.Timestamps[i], d.Values[i] = p.At.UTC(), p.Value
	}
	if l.mixed {
		d.Messages = []types.MessageData{{Code: aws.String("MixedUnits"),
			Value: aws.String("There are periods with data of several units: those of the unit with the most samples are returned. Specify Unit to choose.")}}
	}
	return d
}
