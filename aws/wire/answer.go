package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// nowhere is the XML namespace of an error that belongs to no service.
const nowhere = "http://webservices.amazon.com/AWSFault/2005-15-09"

// writeOutput answers with what the operation gave.
func writeOutput(w http.ResponseWriter, q *request, out any) {
	m, o := q.service.model, q.operation
	var tree any = object{}
	var shape *Shape
	if o.Output != "" {
		shape = m.Shapes[o.Output]
		if t, ok := unbind(shape, reflect.ValueOf(out), true); ok {
			tree = t
		}
	}
	switch q.call.Protocol {
	case JSON:
		send(w, q, http.StatusOK, jsonBytes(jsonValue(tree)))
	case CBOR:
		if shape == nil { // says the protocol: an operation without output has no body
			send(w, q, http.StatusOK, nil)
			return
		}
		send(w, q, http.StatusOK, cborBytes(cborValue(tree)))
	case Query:
		var b bytes.Buffer
		b.WriteString("<" + o.Name + `Response xmlns="` + m.Namespace + `">`)
		if shape != nil {
			wrapper := cmpOr(o.Wrapper, o.Name+"Result")
			element(&b, wrapper, func() { writeXML(&b, shape, tree) })
		}
		b.WriteString("<ResponseMetadata><RequestId>" + q.call.RequestID + "</RequestId></ResponseMetadata></" + o.Name + "Response>")
		send(w, q, http.StatusOK, b.Bytes())
	}
}

func (e *Error) status() int {
	switch {
	case e.Status != 0:
		return e.Status
	case e.Server:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func (e *Error) kind() string {
	if e.Server {
		return "Receiver"
	}
	return "Sender"
}

// details are the further members of the error's shape.
func (e *Error) details(m *Model) (*Shape, object) {
	s := m.Shapes[e.Shape]
	if s == nil || e.Details == nil {
		return nil, nil
	}
	tree, _ := unbind(s, reflect.ValueOf(e.Details), false)
	all, _ := tree.(object)
	var further object
	for _, f := range all {
		if !strings.EqualFold(f.member.Name, "message") {
			further = append(further, f)
		}
	}
	return s, further
}

// writeError answers with a refusal, or a failure, as the client's protocol has it.
func writeError(w http.ResponseWriter, q *request, m *Model, e *Error) {
	_, further := e.details(m)
	if q.call.Protocol == Query {
		var b bytes.Buffer
		b.WriteString(`<ErrorResponse xmlns="` + cmpOr(m.Namespace, nowhere) + `"><Error><Type>` + e.kind() + "</Type>")
		element(&b, "Code", func() { escape(&b, e.Code) })
		element(&b, "Message", func() { escape(&b, e.Message) })
		for _, f := range further {
			element(&b, f.member.wire(""), func() { writeXML(&b, f.member.Shape, f.value) })
		}
		b.WriteString("</Error><RequestId>" + q.call.RequestID + "</RequestId></ErrorResponse>")
		send(w, q, e.status(), b.Bytes())
		return
	}
	if m.Compatible || m.Service == "" {
		w.Header().Set("X-Amzn-Query-Error", e.Code+";"+e.kind())
	}
	body := map[string]any{"__type": e.typeName(m), "message": e.Message}
	if q.call.Protocol == JSON {
		for _, f := range further {
			body[f.member.Name] = jsonValue(f.value)
		}
		send(w, q, e.status(), jsonBytes(body))
		return
	}
	for _, f := range further {
		body[f.member.Name] = cborValue(f.value)
	}
	send(w, q, e.status(), cborBytes(body))
}

// typeName is the error's shape with its namespace: the service's, or that of AWS's framework.
func (e *Error) typeName(m *Model) string {
	name := cmpOr(e.Shape, e.Code)
	if s := m.Shapes[name]; s != nil && s.Fault != nil {
		return "com.amazonaws." + strings.ToLower(m.Service) + "#" + name
	}
	return "com.amazon.coral.service#" + name
}

func jsonBytes(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // jsonValue leaves nothing that JSON cannot hold
	}
	return text
}

func cborBytes(v any) []byte {
	text, err := cborOut.Marshal(v)
	if err != nil {
		panic(err) // cborValue makes maps, lists and scalars only
	}
	return text
}

func send(w http.ResponseWriter, q *request, status int, body []byte) {
	h := w.Header()
	h.Set("X-Amzn-Requestid", q.call.RequestID)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if q.call.Protocol == CBOR {
		h.Set("Smithy-Protocol", "rpc-v2-cbor")
	}
	if len(body) > 0 || q.call.Protocol != CBOR {
		h.Set("Content-Type", q.call.Protocol.contentType())
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone, and nobody else wants to know
}
