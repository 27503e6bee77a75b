// Package wire answers AWS's own clients in the protocols that they speak: Query with XML, JSON 1.0, and RPC v2
// CBOR, signed with SigV4. What an operation takes and gives is a struct, as a rule one of the AWS SDK for Go;
// the service models say how it looks on the wire, so no operation has a codec of its own.
package wire

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Service is one AWS service with the operations that it serves.
type Service struct {
	model    *Model
	handlers map[string]handler
	unsigned []string
}

// handler carries out one operation.
type handler struct {
	input reflect.Type // a struct
	do    func(ctx context.Context, input any) (any, error)
}

// NewService serves nothing of m yet; see Handle.
func NewService(m *Model) *Service { return &Service{model: m, handlers: map[string]handler{}} }

// Model is what the service speaks.
func (s *Service) Model() *Model { return s.model }

// Served are the operations that have a handler, sorted.
func (s *Service) Served() []string {
	var all []string
	for name := range s.handlers {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// AllowUnsigned lets anybody call the operations, as AWS does where a token in the request proves enough:
// ConfirmSubscription and Unsubscribe of SNS come from a link in a message.
func (s *Service) AllowUnsigned(operations ...string) { s.unsigned = append(s.unsigned, operations...) }

// Handle serves one operation with f. Its name is I's without "Input", as the SDK names its types:
//
//	wire.Handle(s, func(ctx context.Context, in *elasticache.TestFailoverInput) (*elasticache.TestFailoverOutput, error) {…})
//
// f is given an input whose required members are there and whose values are within the model's bounds. It tells
// what it knows of the request with CallOf(ctx), and returns an *Error or an error of the SDK's types package.
// Handle panics when the model lacks the operation, when it is served already, or when I or O lacks a member:
// that is a mistake in the program, and shows at its start.
func Handle[I, O any](s *Service, f func(context.Context, *I) (*O, error)) {
	input, output := reflect.TypeFor[I](), reflect.TypeFor[O]()
	name := strings.TrimSuffix(input.Name(), "Input")
	operation := s.model.Operations[name]
	if operation == nil {
		panic(fmt.Sprintf("wire: %s has no operation %s", s.model.Service, name))
	}
	if _, twice := s.handlers[name]; twice {
		panic(fmt.Sprintf("wire: %s of %s is served twice", name, s.model.Service))
	}
	for shape, t := range map[string]reflect.Type{operation.Input: input, operation.Output: output} {
		if shape == "" {
			continue
		}
		if err := fits(s.model.Shapes[shape], t, nil); err != nil {
			panic(fmt.Sprintf("wire: %s of %s: %v", name, s.model.Service, err))
		}
	}
	s.handlers[name] = handler{input: input, do: func(ctx context.Context, in any) (any, error) {
		out, err := f(ctx, in.(*I))
		if err != nil {
			return nil, err
		}
		return out, nil
	}}
}

// Call is what is known of a request beside its input.
type Call struct {
	Service   string // as in a credential scope: "elasticache"
	Operation string
	Protocol  Protocol
	RequestID string
	Region    string // of this front
	Account   string // twelve digits
	AccessKey string // whose signature was good, or who says so in open mode; "": unsigned
	User      string // whose key that is: a name from the configuration, else the access key
	UserAgent string
	From      string // the client's address
}

type callKey struct{}

// CallOf is the request that ctx belongs to.
func CallOf(ctx context.Context) Call {
	c, _ := ctx.Value(callKey{}).(Call)
	return c
}

// WithCall is for tests of operations: they run outside of a request.
func WithCall(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// ARN names a resource of the call's service and account: resource is "replicationgroup:main".
func (c Call) ARN(resource string) string {
	return "arn:aws:" + c.Service + ":" + c.Region + ":" + c.Account + ":" + resource
}

// knows says whether AWS's service has the operation.
func (m *Model) knows(operation string) bool {
	return m.Operations[operation] != nil || slices.Contains(m.Unserved, operation)
}
