// Command gen writes aws/wire/models: the service models of the AWS clients, cut down to the operations that
// this program knows. They come from botocore (Apache-2.0), which is what the AWS CLI and boto3 read:
//
//	go generate ./aws/wire              # asks python3 where its botocore is
//	go run ./gen -botocore DIR          # a folder that has data/ and __init__.py
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// served lists, for each service, the version of its API and the operations whose shapes are kept. An
// operation that is named here can be served; whether it is, says docs/aws.md.
var served = map[string]struct {
	version    string
	operations string
}{
	"elasticache": {"2015-02-02", `
		CreateReplicationGroup DescribeReplicationGroups ModifyReplicationGroup DeleteReplicationGroup TestFailover
		IncreaseReplicaCount DecreaseReplicaCount DescribeCacheClusters ModifyCacheCluster RebootCacheCluster
		DescribeEvents DescribeCacheEngineVersions ListAllowedNodeTypeModifications
		CreateCacheSubnetGroup DescribeCacheSubnetGroups ModifyCacheSubnetGroup DeleteCacheSubnetGroup
		CreateCacheParameterGroup DescribeCacheParameterGroups ModifyCacheParameterGroup ResetCacheParameterGroup
		DeleteCacheParameterGroup DescribeCacheParameters DescribeEngineDefaultParameters
		ListTagsForResource AddTagsToResource RemoveTagsFromResource
		CreateSnapshot DescribeSnapshots DeleteSnapshot CopySnapshot`},
	"cloudwatch": {"2010-08-01", `
		PutMetricAlarm PutCompositeAlarm DescribeAlarms DeleteAlarms SetAlarmState DescribeAlarmHistory
		DescribeAlarmsForMetric EnableAlarmActions DisableAlarmActions
		PutMetricData ListMetrics GetMetricStatistics GetMetricData
		PutDashboard GetDashboard ListDashboards DeleteDashboards
		ListTagsForResource TagResource UntagResource`},
	"sns": {"2010-03-31", `
		CreateTopic GetTopicAttributes SetTopicAttributes DeleteTopic ListTopics
		Subscribe ConfirmSubscription Unsubscribe GetSubscriptionAttributes SetSubscriptionAttributes
		ListSubscriptions ListSubscriptionsByTopic Publish PublishBatch
		ListTagsForResource TagResource UntagResource`},
	"sts": {"2011-06-15", `GetCallerIdentity`},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	botocore := flag.String("botocore", "", "botocore's folder; default: that of python3")
	to := flag.String("o", "models", "where to write")
	flag.Parse()
	if err := run(*botocore, *to); err != nil {
		log.Fatal(err)
	}
}

func run(botocore, to string) error {
	if botocore == "" {
		out, err := exec.Command("python3", "-c", "import botocore; print(botocore.__path__[0])").Output()
		if err != nil {
			return fmt.Errorf("ask python3 for botocore (pip install botocore, or name it with -botocore): %w", err)
		}
		botocore = strings.TrimSpace(string(out))
	}
	init, err := os.ReadFile(filepath.Join(botocore, "__init__.py"))
	if err != nil {
		return err
	}
	version := regexp.MustCompile(`(?m)^__version__ = '(.*)'$`).FindSubmatch(init)
	if version == nil {
		return errors.New("botocore does not say its version")
	}
	for name, s := range served {
		dir := filepath.Join(botocore, "data", name, s.version)
		m, err := trim(dir, strings.Fields(s.operations))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Source = "botocore " + string(version[1])
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(m); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name+".json"), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// read decodes the file called base, or its compressed form. A file that is not there is left out if that may be.
func read(dir, base string, optional bool, v any) error {
	if f, err := os.Open(filepath.Join(dir, base+".json.gz")); err == nil {
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(z)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, v)
	}
	text, err := os.ReadFile(filepath.Join(dir, base+".json"))
	if optional && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// source is a service-2.json as botocore ships it, as far as it is kept.
type source struct {
	Metadata struct {
		APIVersion     string
		EndpointPrefix string
		Protocols      []string
		ServiceID      string `json:"serviceId"`
		SigningName    string
		TargetPrefix   string
		JSONVersion    string    `json:"jsonVersion"`
		XMLNamespace   string    `json:"xmlNamespace"`
		Compatible     *struct{} `json:"awsQueryCompatible"`
	}
	Operations map[string]struct {
		Input  struct{ Shape string }
		Output struct{ Shape, ResultWrapper string }
		Errors []struct{ Shape string }
	}
	Shapes map[string]sourceShape
}

type ref struct{ Shape, LocationName string }

type sourceShape struct {
	Type               string
	Members            members
	Required           []string
	Member, Key, Value ref
	Enum               []string
	Min, Max           *float64
	Pattern            string
	Exception, Union   bool
	Error              struct {
		Code           string
		HTTPStatusCode int `json:"httpStatusCode"`
		SenderFault    *bool
	}
}

// members keep the order of the model: it is the order on the wire.
type members []member

type member struct {
	Name  string `json:"name,omitempty"`
	Shape string `json:"shape"`
	Wire  string `json:"wire,omitempty"`
}

func (m *members) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var r ref
		if err := d.Decode(&r); err != nil {
			return err
		}
		*m = append(*m, member{name.(string), r.Shape, r.LocationName})
	}
	return nil
}

// The rest is what is written; aws/wire reads it.
type model struct {
	Source     string                     `json:"source"`
	Service    string                     `json:"service"`
	Version    string                     `json:"version"`
	Signing    string                     `json:"signing"`
	Namespace  string                     `json:"namespace"`
	Protocols  []string                   `json:"protocols"`
	Target     string                     `json:"target,omitempty"`
	Compatible bool                       `json:"query_compatible,omitempty"`
	Operations map[string]operation       `json:"operations"`
	Unserved   []string                   `json:"unserved"`
	Waiters    map[string]json.RawMessage `json:"waiters,omitempty"`
	Shapes     map[string]shape           `json:"shapes"`
}

type operation struct {
	Input    string          `json:"input,omitempty"`
	Output   string          `json:"output,omitempty"`
	Wrapper  string          `json:"wrapper,omitempty"`
	Errors   []string        `json:"errors,omitempty"`
	Paginate json.RawMessage `json:"paginate,omitempty"`
}

type shape struct {
	Type     string   `json:"type"`
	Members  members  `json:"members,omitempty"`
	Required []string `json:"required,omitempty"`
	Member   *member  `json:"member,omitempty"`
	Key      *member  `json:"key,omitempty"`
	Value    *member  `json:"value,omitempty"`
	Enum     []string `json:"enum,omitempty"`
	Min      *float64 `json:"min,omitempty"`
	Max      *float64 `json:"max,omitempty"`
	Pattern  string   `json:"pattern,omitempty"`
	Union    bool     `json:"union,omitempty"`
	Error    *fault   `json:"error,omitempty"`
}

type fault struct {
	Code   string `json:"code"`
	Status int    `json:"status"`
	Sender bool   `json:"sender"`
}

// trim keeps the named operations, and every shape that they reach.
func trim(dir string, operations []string) (*model, error) {
	var s source
	if err := read(dir, "service-2", false, &s); err != nil {
		return nil, err
	}
	var pages struct{ Pagination map[string]json.RawMessage }
	if err := read(dir, "paginators-1", true, &pages); err != nil {
		return nil, err
	}
	var waits struct{ Waiters map[string]json.RawMessage }
	if err := read(dir, "waiters-2", true, &waits); err != nil {
		return nil, err
	}
	m := &model{
		Service: s.Metadata.ServiceID, Version: s.Metadata.APIVersion, Signing: s.Metadata.SigningName,
		Namespace: s.Metadata.XMLNamespace, Protocols: s.Metadata.Protocols, Target: s.Metadata.TargetPrefix,
		Compatible: s.Metadata.Compatible != nil,
		Operations: map[string]operation{}, Unserved: []string{}, Waiters: map[string]json.RawMessage{}, Shapes: map[string]shape{},
	}
	if m.Signing == "" {
		m.Signing = s.Metadata.EndpointPrefix
	}
	for name, o := range s.Operations {
		if !slices.Contains(operations, name) {
			m.Unserved = append(m.Unserved, name)
			continue
		}
		kept := operation{Input: o.Input.Shape, Output: o.Output.Shape, Wrapper: o.Output.ResultWrapper, Paginate: pages.Pagination[name]}
		for _, e := range o.Errors {
			kept.Errors = append(kept.Errors, e.Shape)
			s.keep(m, e.Shape)
		}
		m.Operations[name] = kept
		s.keep(m, o.Input.Shape)
		s.keep(m, o.Output.Shape)
	}
	slices.Sort(m.Unserved)
	for name, w := range waits.Waiters {
		var of struct{ Operation string }
		if err := json.Unmarshal(w, &of); err != nil {
			return nil, err
		}
		if slices.Contains(operations, of.Operation) {
			m.Waiters[name] = w
		}
	}
	if len(m.Operations) != len(operations) {
		return nil, fmt.Errorf("%d operations are wanted, the model has %d of them", len(operations), len(m.Operations))
	}
	return m, nil
}

// keep adds the shape, and those that it is made of, to m.
func (s *source) keep(m *model, name string) {
	if _, ok := m.Shapes[name]; ok || name == "" {
		return
	}
	from := s.Shapes[name]
	to := shape{Type: from.Type, Members: from.Members, Required: from.Required, Enum: from.Enum, Min: from.Min, Max: from.Max, Pattern: from.Pattern, Union: from.Union}
	if from.Exception {
		to.Error = &fault{Code: from.Error.Code, Status: from.Error.HTTPStatusCode, Sender: true}
		if to.Error.Code == "" {
			to.Error.Code = name
		}
		if to.Error.Status == 0 {
			to.Error.Status = 400
		}
		if from.Error.SenderFault != nil {
			to.Error.Sender = *from.Error.SenderFault
		}
		if to.Error.Status >= 500 {
			to.Error.Sender = false
		}
	}
	for _, part := range []struct {
		from ref
		to   **member
	}{{from.Member, &to.Member}, {from.Key, &to.Key}, {from.Value, &to.Value}} {
		if part.from.Shape != "" {
			*part.to = &member{Shape: part.from.Shape, Wire: part.from.LocationName}
		}
	}
	m.Shapes[name] = to
	for _, x := range from.Members {
		s.keep(m, x.Shape)
	}
	for _, x := range []ref{from.Member, from.Key, from.Value} {
		s.keep(m, x.Shape)
	}
}
