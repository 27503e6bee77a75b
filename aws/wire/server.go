package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// ServerOptions say who answers. Services, Region and Account are needed.
type ServerOptions struct {
	Services []*Service
	Region   string // "us-east-1"
	Account  string // twelve digits
	// Key looks an access key up. nil: signatures are read and not checked, and whoever reaches the server may
	// use it.
	Key func(accessKey string) (Key, bool)
	// Admit refuses a request before anything else is looked at; nil: none.
	Admit func(*http.Request) error
	// Now tells the time that signatures are compared with; nil: time.Now.
	Now func() time.Time
	// Served is told of each request when it has been answered; nil: nobody is.
	Served func(Served)
}

// Key is a secret, and whose it is.
type Key struct{ Secret, User string }

// Served is a request that was answered.
type Served struct {
	Call
	Known  bool // the model has the operation
	Status int
	Code   string // of the error, "" when there was none
	Took   time.Duration
	Failed error // what was answered as a failure of ours, with the stack of a panic
}

// Server answers requests of all its services.
type Server struct {
	opts      ServerOptions
	bySigning map[string]*Service
	byTarget  map[string]*Service
}

// longestBody bounds a request, also when inflated: AWS takes 1 MB of PutMetricData, its longest.
const longestBody = 1 << 20

// drained is how much of a longer body is read and thrown away before it is refused.
const drained = 8 << 20

// bodyWithin bounds how long a body may take to arrive.
const bodyWithin = 30 * time.Second

// patience is the least time between a request of the AWS SDK for Go and its answer. That client closes the
// request's body when it sees an answer (smithy-go, ClientHandler.Handle); if the goroutine which wrote the body
// has not come back from its last write by then, the connection is torn down while the answer is read, and the
// SDK sends the request again: a second TestFailover. AWS is never this near.
const patience = 3 * time.Millisecond

// NewServer returns a server; the error names the option that is missing.
func NewServer(o ServerOptions) (*Server, error) {
	if len(o.Services) == 0 || o.Region == "" || o.Account == "" {
		return nil, errors.New("wire: Services, Region and Account are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Admit == nil {
		o.Admit = func(*http.Request) error { return nil }
	}
	if o.Served == nil {
		o.Served = func(Served) {}
	}
	s := &Server{opts: o, bySigning: map[string]*Service{}, byTarget: map[string]*Service{}}
	for _, service := range o.Services {
		if s.bySigning[service.model.Signing] != nil {
			return nil, fmt.Errorf("wire: Services has %s twice", service.model.Service)
		}
		s.bySigning[service.model.Signing] = service
		if service.model.Target != "" {
			s.byTarget[service.model.Target] = service
		}
	}
	return s, nil
}

// Wants tells a request of an AWS client from one for the pages on the same address.
func Wants(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost:
		return r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/service/")
	case http.MethodGet:
		return r.URL.Path == "/" && r.URL.Query().Has("Action")
	}
	return false
}

// request is one while it is answered.
type request struct {
	http      *http.Request
	call      Call
	arrived   time.Time // when the body had
	body      []byte    // as it came
	text      []byte    // inflated
	form      url.Values
	service   *Service // nil until it is known
	version   string
	operation *Operation
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.opts.Now()
	q := &request{http: r, call: Call{RequestID: newRequestID(), Region: s.opts.Region, Account: s.opts.Account, UserAgent: r.UserAgent(), From: r.RemoteAddr}}
	q.call.Protocol = protocolOf(r)
	out, err := s.answer(w, q)
	q.wait()
	served := Served{Call: q.call, Status: http.StatusOK}
	if err != nil {
		model := &Model{}
		if q.service != nil {
			model = q.service.model
		}
		refusal, known := model.asError(err)
		if !known {
			served.Failed = err
		}
		served.Code, served.Status = refusal.Code, refusal.status()
		writeError(w, q, model, refusal)
	} else {
		writeOutput(w, q, out)
	}
	served.Known = q.service != nil && q.service.model.Operations[q.call.Operation] != nil
	served.Call, served.Took = q.call, s.opts.Now().Sub(start)
	s.opts.Served(served)
}

// answer goes from bytes to the operation's output.
func (s *Server) answer(w http.ResponseWriter, q *request) (any, error) {
	if err := s.opts.Admit(q.http); err != nil {
		return nil, err
	}
	if err := q.readBody(w); err != nil {
		return nil, err
	}
	who, badClaim := readClaim(q.http)
	if err := s.identify(q, who); err != nil {
		return nil, err
	}
	if err := s.authenticate(q, who, badClaim); err != nil {
		return nil, err
	}
	q.operation = q.service.model.Operations[q.call.Operation]
	h, ok := q.service.handlers[q.call.Operation]
	if !ok || q.version != "" && q.version != q.service.model.Version {
		return nil, errUnknownOperation(q.service.model, q.call.Operation, cmpOr(q.version, q.service.model.Version))
	}
	in, err := q.input(h)
	if err != nil {
		return nil, err
	}
	return carryOut(WithCall(q.http.Context(), q.call), h, in)
}

// carryOut runs the operation; a panic is an error with its stack.
func carryOut(ctx context.Context, h handler, in any) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.do(ctx, in)
}

func (q *request) readBody(w http.ResponseWriter) error {
	// A body that trickles in must not hold the connection; what follows may take its time again.
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(bodyWithin))
	body, err := io.ReadAll(io.LimitReader(q.http.Body, longestBody+1))
	if len(body) > longestBody { // a client that is still sending would not see the answer
		_, _ = io.CopyN(io.Discard, q.http.Body, drained)
		err = errTooLarge(longestBody)
	} else if err != nil {
		err = errMalformed("The request's body did not arrive whole")
	}
	_ = deadline.SetReadDeadline(time.Time{})
	if err != nil {
		return err
	}
	q.body, q.arrived = body, time.Now()
	q.text, err = inflate(q.http.Header.Get("Content-Encoding"), body, longestBody)
	return err
}

// wait gives the AWS SDK for Go its patience.
func (q *request) wait() {
	left := patience - time.Since(q.arrived)
	if left <= 0 || !strings.Contains(q.call.UserAgent, "aws-sdk-go-v2") {
		return
	}
	select {
	case <-time.After(left):
	case <-q.http.Context().Done():
	}
}

// protocolOf is told by the path, else by the headers.
func protocolOf(r *http.Request) Protocol {
	switch {
	case strings.HasPrefix(r.URL.Path, "/service/"):
		return CBOR
	case r.Header.Get("X-Amz-Target") != "":
		return JSON
	}
	return Query
}

// identify finds the service and the operation's name.
func (s *Server) identify(q *request, who *claim) error {
	switch q.call.Protocol {
	case CBOR:
		part := strings.Split(q.http.URL.Path, "/") // "", "service", S, "operation", O
		if len(part) == 5 && part[3] == "operation" {
			q.service, q.call.Operation = s.byTarget[part[2]], part[4]
		}
		if smithy := q.http.Header.Get("Smithy-Protocol"); smithy != "rpc-v2-cbor" {
			return errMalformed("The header Smithy-Protocol must be rpc-v2-cbor, not %.40q", smithy)
		}
	case JSON:
		target, operation, _ := strings.Cut(q.http.Header.Get("X-Amz-Target"), ".")
		q.service, q.call.Operation = s.byTarget[target], operation
	case Query:
		form, err := form(q.http, q.text)
		if err != nil {
			return err
		}
		q.form, q.call.Operation, q.version = form, form.Get("Action"), form.Get("Version")
		if q.service = s.queryService(who, q.call.Operation, q.version); q.service != nil {
			q.call.Service = q.service.model.Signing
		}
		if q.call.Operation == "" {
			return Refuse("MissingAction", "The request is missing an action or a required parameter.")
		}
	}
	if q.service == nil {
		return errUnknownOperation(&Model{}, fmt.Sprintf("%.80s", q.call.Operation), cmpOr(q.version, "(none)"))
	}
	q.call.Service = q.service.model.Signing
	return nil
}

// queryService is the one that the credential is for, else the one whose version and operation these are.
func (s *Server) queryService(who *claim, action, version string) *Service {
	if who != nil {
		if service := s.bySigning[who.service]; service != nil {
			return service
		}
	}
	for _, service := range s.opts.Services {
		m := service.model
		if (version == "" || version == m.Version) && m.knows(action) {
			return service
		}
	}
	for _, service := range s.opts.Services {
		if version == service.model.Version {
			return service
		}
	}
	return nil
}

// authenticate checks who asks. Without keys it believes what the request says.
func (s *Server) authenticate(q *request, who *claim, bad error) error {
	if who != nil {
		q.call.AccessKey, q.call.User = who.accessKey, who.accessKey
	}
	if s.opts.Key == nil {
		return nil
	}
	if who == nil {
		if slices.Contains(q.service.unsigned, q.call.Operation) {
			return nil
		}
		return errUnsigned()
	}
	if bad != nil {
		return bad
	}
	key, ok := s.opts.Key(who.accessKey)
	// Keys of ours have no sessions: a token belongs to somebody else's.
	if !ok || q.http.Header.Get("X-Amz-Security-Token") != "" || q.http.URL.Query().Has("X-Amz-Security-Token") {
		return errUnknownKey()
	}
	q.call.User = cmpOr(key.User, who.accessKey)
	return who.verify(q.http.Context(), q.http, q.body, scope{s.opts.Region, q.service.model.Signing}, key.Secret, s.opts.Now())
}

// input decodes, validates and binds what the operation takes: a pointer to its struct.
func (q *request) input(h handler) (any, error) {
	in := reflect.New(h.input)
	if q.operation.Input == "" {
		return in.Interface(), nil
	}
	shape := q.service.model.Shapes[q.operation.Input]
	tree, err := q.tree(shape)
	if err != nil {
		return nil, err
	}
	if _, ok := tree.(map[string]any); !ok {
		return nil, errMalformed("The request is not a structure")
	}
	for _, name := range tooNew[shape.Name] {
		if q.asksFor(tree, name) {
			return nil, errUnsupported(name)
		}
	}
	if err := q.service.model.validate(shape, tree); err != nil {
		return nil, err
	}
	return in.Interface(), bind(shape, tree, in.Elem(), "")
}

// tooNew are members that newer models than ours have, and that change what an operation does. What a model lacks is
// ignored, as AWS does: these would then be alarms that ring otherwise than they were asked to.
var tooNew = map[string][]string{
	"PutMetricAlarmInput":    {"ActionConfiguration", "EvaluationWindow", "WarmUpConfiguration"},
	"PutCompositeAlarmInput": {"ActionConfiguration"},
}

// asksFor reports whether a request has a member, which our model may lack.
func (q *request) asksFor(tree any, name string) bool {
	if members, ok := tree.(map[string]any); ok && members[name] != nil {
		return true
	}
	for parameter := range q.form {
		if parameter == name || strings.HasPrefix(parameter, name+".") {
			return true
		}
	}
	return false
}

func (q *request) tree(shape *Shape) (any, error) {
	switch q.call.Protocol {
	case JSON:
		return jsonTree(q.text)
	case CBOR:
		return cborTree(q.text)
	}
	p, err := params(q.form)
	if err != nil {
		return nil, err
	}
	return queryTree(shape, p), nil
}

func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
