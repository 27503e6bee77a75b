package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy/atomicfile"
	"understudy/cluster"
)

// instance is <data>/understudy.json: how to reach a running `understudy up`. It is there while the
// group is ready.
type instance struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Group   string `json:"group"`
	cluster.Endpoints
	// How http is asked: whether over TLS, which authority vouches for it, and where the token is. Paths only.
	HTTPS         bool   `json:"https,omitempty"`
	HTTPCA        string `json:"http_ca,omitempty"`
	HTTPTokenFile string `json:"http_token_file,omitempty"`
}

// instanceFile names the file in a data directory.
func instanceFile(data string) string { return filepath.Join(data, "understudy.json") }

// runningFile is like the instance file, and there from when the instance answers, ready or not: a group that
// waits for an operator is not ready.
func runningFile(data string) string { return filepath.Join(data, "running.json") }

// write puts the file there whole or not at all.
func (i instance) write(path string) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := atomicfile.Write(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// finder holds the flags by which a command finds a running instance.
type finder struct{ data, http, tokenFile, ca string }

// defaultHTTP is where an instance answers when nothing says otherwise.
const defaultHTTP = "127.0.0.1:7390"

func (f *finder) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "data directory of the instance (UNDERSTUDY_DATA; default "+defaultData+")")
	cmd.Flags().StringVar(&f.http, "http", "", "HTTP address of the instance, or https://HOST:PORT (UNDERSTUDY_HTTP; default: from the data directory, else "+defaultHTTP+")")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the instance's token; its first line is sent (UNDERSTUDY_TOKEN_FILE; default: as the data directory says)")
	cmd.Flags().StringVar(&f.ca, "tls-ca", "", "authority of the instance's certificate; --http is https then (UNDERSTUDY_CA_FILE; default: as the data directory says, else the system's)")
}

// reachable is where an instance answers, and how it is asked.
type reachable struct {
	at     string // HOST:PORT, and the path of a group's page behind it
	secure bool
	said   bool        // secure is not to be guessed
	ca     string      // "": the system's authorities
	token  string      // "": none
	roots  *tls.Config // of ca
}

// url is that of a page of the instance.
func (a reachable) url(path string) string {
	if a.secure {
		return "https://" + a.at + path
	}
	return "http://" + a.at + path
}

// find returns the address: what the flags say, else the environment, else the default data directory, else the
// default address. Of a pair, the more exact one wins: --http over --data. Every error has its exit code.
func (f *finder) find() (reachable, error) {
	a, tokenFile, err := f.where()
	if err != nil {
		return a, err
	}
	a.ca = cmp.Or(f.ca, os.Getenv("UNDERSTUDY_CA_FILE"), a.ca)
	a.secure = a.secure || a.ca != "" && !a.said
	if a.secure {
		if a.roots, err = (nodeTLSConfig{Enabled: true, CA: a.ca}).config(); err != nil {
			return a, usagef("--tls-ca: %w", err)
		}
	}
	if tokenFile = cmp.Or(f.tokenFile, os.Getenv("UNDERSTUDY_TOKEN_FILE"), tokenFile); tokenFile != "" {
		if a.token, err = readFirst("token", tokenFile); err != nil {
			return a, usagef("--token-file: %w", err)
		}
	}
	return a, nil
}

// where is find without the files; tokenFile is what the instance's own file names.
func (f *finder) where() (a reachable, tokenFile string, err error) {
	if f.http == "" && f.data == "" {
		f.http, f.data = os.Getenv("UNDERSTUDY_HTTP"), os.Getenv("UNDERSTUDY_DATA")
	}
	if f.http != "" {
		at, secure := strings.CutPrefix(f.http, "https://")
		at, plain := strings.CutPrefix(at, "http://")
		return reachable{at: strings.TrimSuffix(at, "/"), secure: secure, said: secure || plain}, "", nil
	}
	data := f.data
	if data == "" {
		data = defaultData
	}
	text, err := os.ReadFile(instanceFile(data))
	if errors.Is(err, os.ErrNotExist) {
		if running, e := os.ReadFile(runningFile(data)); e == nil {
			text, err = running, nil
		}
	}
	if errors.Is(err, os.ErrNotExist) && f.data == "" {
		return reachable{at: defaultHTTP}, "", nil
	}
	if err != nil {
		return a, "", coded{exitUnreachable, fmt.Errorf("no instance is ready in %s: %w; start one with `understudy up --data %s`", data, err, data)}
	}
	var i instance
	if err := json.Unmarshal(text, &i); err != nil || i.HTTP == "" {
		return a, "", coded{exitUnreachable, fmt.Errorf("%s does not say where the instance answers (%w); name it with --http HOST:PORT", instanceFile(data), err)}
	}
	return reachable{at: i.HTTP, secure: i.HTTPS, said: true, ca: i.HTTPCA}, i.HTTPTokenFile, nil
}

// transport sends requests to the instance, with its token.
func (a reachable) transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.Proxy = a.roots, nil
	t.MaxIdleConnsPerHost = 4
	return withToken{a.token, t}
}

// withToken is a transport that shows a token.
type withToken struct {
	token string
	*http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	return t.Transport.RoundTrip(r)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// call asks the instance and decodes its JSON. It returns the HTTP status; an instance that does not
// answer is exit 3, one that asks for a token exit 4.
func (f *finder) call(ctx context.Context, method, path string, body, into any) (int, error) {
	a, err := f.find()
	if err != nil {
		return 0, err
	}
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, fmt.Errorf("%s %s: %w", method, path, err)
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url(path), send)
	if err != nil {
		return 0, usagef("--http %q: not HOST:PORT", a.at)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: answerWithin, Transport: a.transport()}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return 0, a.unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusUnauthorized {
		return 0, a.locked()
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return 0, coded{exitUnreachable, fmt.Errorf("%s answers, and not as an instance does (%s, %w)%s", a.at, res.Status, err, a.otherScheme(res.StatusCode))}
	}
	return res.StatusCode, nil
}

// unreachable says what may be done about an instance that does not answer.
func (a reachable) unreachable(err error) error {
	if why := errors.Unwrap(err); why != nil {
		err = why
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return coded{exitUnreachable, fmt.Errorf("the certificate of %s is from an authority that is not trusted here: %w; name it with --tls-ca", a.at, err)}
	}
	return coded{exitUnreachable, fmt.Errorf("no instance answers on %s: %w; start one with `understudy up`, or name it with --data or --http", a.at, err)}
}

// locked is the error of an instance that asks for another token.
func (a reachable) locked() error {
	if a.token == "" {
		return coded{exitRefused, fmt.Errorf("%s asks for a token: name its file with --token-file, or in UNDERSTUDY_TOKEN_FILE", a.at)}
	}
	return coded{exitRefused, fmt.Errorf("%s does not take the token that was sent: is it in the file that the instance was started with?", a.at)}
}

// otherScheme explains the answer of a server that speaks TLS to one who does not.
func (a reachable) otherScheme(status int) string {
	if !a.secure && status == http.StatusBadRequest {
		return "; if it speaks TLS, say https:// before its address, or --tls-ca"
	}
	return ""
}

// answerWithin is longer than the slowest change of primary of the profile wide takes.
const answerWithin = 70 * time.Second
