package wire

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
)

//go:generate go run ./gen

//go:embed models/*.json
var models embed.FS

// Model is the table that every codec works from: a service's operations, and the shapes of what they take and
// give. It comes from the service models of the AWS clients; see gen.
type Model struct {
	Source     string                `json:"source"`    // where it comes from, with the version
	Service    string                `json:"service"`   // "ElastiCache"
	Version    string                `json:"version"`   // of the API: "2015-02-02"
	Signing    string                `json:"signing"`   // the service's name in a credential scope: "elasticache"
	Namespace  string                `json:"namespace"` // of its XML
	Protocols  []string              `json:"protocols"` // "query", "json", "smithy-rpc-v2-cbor"
	Target     string                `json:"target"`    // prefix of X-Amz-Target, and the service's name in a path
	Compatible bool                  `json:"query_compatible"`
	Operations map[string]*Operation `json:"operations"`
	// Unserved are the service's other operations: a client that asks for one is told that it exists, and not here.
	Unserved []string           `json:"unserved"`
	Waiters  map[string]*Waiter `json:"waiters"`
	Shapes   map[string]*Shape  `json:"shapes"`
}

// Operation is one thing that can be asked for.
type Operation struct {
	Name     string    `json:"-"`
	Input    string    `json:"input"`   // shape, "" when it takes nothing
	Output   string    `json:"output"`  // shape, "" when it gives nothing
	Wrapper  string    `json:"wrapper"` // the XML element around the output
	Errors   []string  `json:"errors"`  // shapes
	Paginate *Paginate `json:"paginate"`
}

// Paginate says how a client follows pages: it sends Output's value as Input until there is none.
type Paginate struct {
	Input  names  `json:"input_token"`
	Output names  `json:"output_token"`
	Limit  string `json:"limit_key"`
	Result names  `json:"result_key"`
}

// Waiter says what `aws … wait` polls for.
type Waiter struct {
	Operation string     `json:"operation"`
	Delay     int        `json:"delay"` // seconds
	Attempts  int        `json:"maxAttempts"`
	Acceptors []Acceptor `json:"acceptors"`
}

// Acceptor ends a wait in State ("success", "failure", "retry") when Argument, a JMESPath, compares to Expected
// as Matcher says: "path", "pathAll", "pathAny", "error", "status".
type Acceptor struct {
	State    string `json:"state"`
	Matcher  string `json:"matcher"`
	Argument string `json:"argument"`
	Expected any    `json:"expected"`
}

// names is one name or several: the models have both.
type names []string

func (n *names) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*n = names{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(n))
}

// Shape is the type of a value: "structure", "list", "map", "string", "integer", "long", "double", "float",
// "boolean", "timestamp" or "blob".
type Shape struct {
	Name     string    `json:"-"`
	Type     string    `json:"type"`
	Members  []*Member `json:"members"` // of a structure, in the order of the wire
	Required []string  `json:"required"`
	Member   *Member   `json:"member"` // of a list
	Key      *Member   `json:"key"`    // of a map
	Value    *Member   `json:"value"`
	Enum     []string  `json:"enum"`
	Min      *float64  `json:"min"` // of a number, or of the length of a string, list or map
	Max      *float64  `json:"max"`
	Pattern  string    `json:"pattern"`
	Union    bool      `json:"union"` // a structure of which one member is given; an interface in the SDK
	Fault    *Fault    `json:"error"` // of an error's shape
}

// Member is a part of a shape.
type Member struct {
	Name  string `json:"name"`  // of a structure's member
	Of    string `json:"shape"` // the name of its shape
	Wire  string `json:"wire"`  // its name in Query and XML, where that differs
	Shape *Shape `json:"-"`
}

// Fault is how an error appears on the wire.
type Fault struct {
	Code   string `json:"code"` // not the shape's name: CacheClusterNotFoundFault is CacheClusterNotFound
	Status int    `json:"status"`
	Sender bool   `json:"sender"` // the sender's fault, not ours
}

// The models that are built in. Each call reads its own copy, which the caller may not change.
func ElastiCache() *Model { return load("elasticache") }
func CloudWatch() *Model  { return load("cloudwatch") }
func SNS() *Model         { return load("sns") }
func STS() *Model         { return load("sts") }

// load reads a model that is part of the program: if it is not whole, the program is broken.
func load(name string) *Model {
	text, err := models.ReadFile("models/" + name + ".json")
	if err != nil {
		panic(err)
	}
	m := new(Model)
	if err := json.Unmarshal(text, m); err != nil {
		panic(fmt.Sprintf("model %s: %v", name, err))
	}
	if err := m.link(); err != nil {
		panic(fmt.Sprintf("model %s: %v", name, err))
	}
	return m
}

// link resolves the names of shapes.
func (m *Model) link() error {
	for name, s := range m.Shapes {
		s.Name = name
		for _, part := range append(slices.Clone(s.Members), s.Member, s.Key, s.Value) {
			if part == nil {
				continue
			}
			if part.Shape = m.Shapes[part.Of]; part.Shape == nil {
				return fmt.Errorf("%s: shape %s is missing", name, part.Of)
			}
		}
	}
	for name, o := range m.Operations {
		o.Name = name
		for _, s := range append([]string{o.Input, o.Output}, o.Errors...) {
			if s != "" && m.Shapes[s] == nil {
				return fmt.Errorf("%s: shape %s is missing", name, s)
			}
		}
	}
	return nil
}

// tag is the name of a list's items in Query and XML.
func (s *Shape) tag() string {
	if s.Member.Wire != "" {
		return s.Member.Wire
	}
	return "member"
}

// wire is the member's name in Query and XML.
func (m *Member) wire(otherwise string) string {
	if m.Wire != "" {
		return m.Wire
	}
	if m.Name != "" {
		return m.Name
	}
	return otherwise
}
