package wire

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/aws/smithy-go"
)

// Error is a refusal in AWS's words. Operations may return one, or an error of the SDK's types package
// (&types.ReplicationGroupNotFoundFault{…}), whose code and status the model knows. Everything else is answered
// as a failure of ours, 500, and logged.
type Error struct {
	Code    string // on the wire: "InvalidParameterValue"
	Message string
	Status  int    // 0: 400
	Server  bool   // the fault is ours, not the sender's
	Shape   string // the name in JSON and CBOR, where it is not Code
	Details any    // further members of the error's shape: a struct of the SDK's types
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Refuse is an Error with status 400.
func Refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// What the front itself says, whatever the service. The codes of Query are also what a client of CloudWatch
// sees over JSON and CBOR, because of the header X-Amzn-Query-Error; their shapes are those of AWS's framework.
func errUnknownOperation(m *Model, action, version string) *Error {
	e := Refuse("InvalidAction", "Could not find operation %s for version %s", action, version)
	e.Shape = "UnknownOperationException"
	if version == m.Version && m.knows(action) {
		e.Message = fmt.Sprintf("The operation %s of %s is not served here", action, m.Service)
	}
	return e
}

func errUnsupported(member string) *Error {
	e := Refuse("InvalidParameterValue", "%s is not supported here", member)
	e.Shape = "InvalidParameterValueException"
	return e
}

func errMalformed(format string, args ...any) *Error {
	e := Refuse("MalformedInput", format, args...)
	e.Shape = "SerializationException"
	return e
}

func errTooLarge(limit int64) *Error {
	return &Error{Code: "RequestEntityTooLarge", Status: http.StatusRequestEntityTooLarge, Shape: "RequestEntityTooLargeException",
		Message: fmt.Sprintf("The request is longer than %d bytes", limit)}
}

// asError puts any error into AWS's words; own is false when it was none of them.
func (m *Model) asError(err error) (e *Error, own bool) {
	if errors.As(err, &e) {
		return e, true
	}
	var modelled smithy.APIError
	if !errors.As(err, &modelled) {
		return &Error{Code: "InternalFailure", Status: http.StatusInternalServerError, Server: true,
			Message: "The request processing has failed because of an unknown error, exception or failure."}, false
	}
	e = &Error{Code: modelled.ErrorCode(), Message: modelled.ErrorMessage(), Server: modelled.ErrorFault() == smithy.FaultServer}
	if s := m.faultShape(modelled); s != nil {
		e.Code, e.Status, e.Server, e.Shape = s.Fault.Code, s.Fault.Status, !s.Fault.Sender, s.Name
		if _, generic := modelled.(*smithy.GenericAPIError); !generic {
			e.Details = modelled
		}
	}
	return e, true
}

// faultShape finds an error's shape by its Go type, its shape's name or its code.
func (m *Model) faultShape(err smithy.APIError) *Shape {
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, name := range []string{t.Name(), err.ErrorCode()} {
		if s := m.Shapes[name]; s != nil && s.Fault != nil {
			return s
		}
	}
	var found *Shape // codes are unique but for CloudWatch's ResourceNotFound, whose shape has that very name
	for _, s := range m.Shapes {
		if s.Fault != nil && s.Fault.Code == err.ErrorCode() && (found == nil || s.Name < found.Name) {
			found = s
		}
	}
	return found
}
