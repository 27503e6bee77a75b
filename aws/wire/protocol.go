package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Protocol is how a client speaks.
type Protocol uint8

const (
	Query Protocol = iota // parameters in a form, XML back
	JSON                  // AWS JSON 1.0
	CBOR                  // Smithy RPC v2 CBOR
)

func (p Protocol) String() string { return [...]string{"query", "json", "cbor"}[p] }

// contentType is what an answer says of itself.
func (p Protocol) contentType() string {
	return [...]string{"text/xml", "application/x-amz-json-1.0", "application/cbor"}[p]
}

// inflate undoes the request's compression. What it gives is at most limit bytes long.
func inflate(encoding string, body []byte, limit int64) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, nil
	case "gzip":
	default:
		return nil, errMalformed("The content encoding %.40q is not supported", encoding)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, errMalformed("The request is not a gzip stream")
	}
	text, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return nil, errMalformed("The request is not a gzip stream")
	}
	if int64(len(text)) > limit {
		return nil, errTooLarge(limit)
	}
	return text, nil
}

// form reads the parameters of a Query request.
func form(r *http.Request, body []byte) (url.Values, error) {
	text := string(body)
	if r.Method == http.MethodGet || text == "" {
		text = r.URL.RawQuery
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, errMalformed("The request is not a form")
	}
	return values, nil
}

// jsonTree reads a body of JSON. No body is an input without members.
func jsonTree(body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, errMalformed("The request is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errMalformed("The request has more than one JSON value")
	}
	return tree, nil
}

// each is an object as a map, or a list, with every value as f has it.
func each(tree any, f func(any) any) any {
	if list, ok := tree.([]any); ok {
		all := make([]any, len(list))
		for i, item := range list {
			all[i] = f(item)
		}
		return all
	}
	o := tree.(object)
	m := make(map[string]any, len(o))
	for _, x := range o {
		m[x.member.Name] = f(x.value)
	}
	return m
}

// jsonValue is a tree as encoding/json writes it: times are epoch seconds, and what JSON has no number for is text.
func jsonValue(tree any) any {
	switch v := tree.(type) {
	case object, []any:
		return each(v, jsonValue)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return floatText(v)
		}
	case time.Time:
		return float64(v.UnixMilli()) / 1000
	}
	return tree
}

// What a client may nest and repeat is bounded before anything is built. PutMetricData has the longest lists:
// a thousand metrics.
var cborIn = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxNestedLevels: deepest, MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 17,
		IntDec: cbor.IntDecConvertSignedOrFail, DupMapKey: cbor.DupMapKeyEnforcedAPF,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var cborOut = func() cbor.EncMode {
	m, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical, NaNConvert: cbor.NaNConvertNone, InfConvert: cbor.InfConvertNone}.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// cborTree reads a body of CBOR. No body is an input without members.
func cborTree(body []byte) (any, error) {
	if len(body) == 0 {
		return map[string]any{}, nil
	}
	var tree any
	if err := cborIn.Unmarshal(body, &tree); err != nil {
		return nil, errMalformed("The request is not CBOR")
	}
	return plainTree(tree)
}

// plainTree turns what the library made into a tree of ours.
func plainTree(v any) (any, error) {
	switch v := v.(type) {
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, value := range v {
			name, ok := k.(string)
			if !ok {
				return nil, errMalformed("A key of a CBOR map is not text")
			}
			plain, err := plainTree(value)
			if err != nil {
				return nil, err
			}
			m[name] = plain
		}
		return m, nil
	case []any:
		for i, item := range v {
			plain, err := plainTree(item)
			if err != nil {
				return nil, err
			}
			v[i] = plain
		}
		return v, nil
	case nil, string, bool, int64, float64, []byte, time.Time:
		return v, nil
	}
	return nil, errMalformed("A CBOR value of this kind has no place in a request")
}

// cborValue is a tree as the library writes it.
func cborValue(tree any) any {
	switch v := tree.(type) {
	case object, []any:
		return each(v, cborValue)
	case time.Time:
		return cbor.Tag{Number: 1, Content: float64(v.UnixMilli()) / 1000}
	}
	return tree
}
