package drill

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"understudy/cluster"
)

// whole reports whether the group is as redundant as it can be.
func whole(s cluster.Status) bool {
	return s.State == cluster.GroupAvailable && len(s.Nodes) > 0 && s.Ready() == len(s.Nodes)
}

// maxBody bounds what is read of one answer.
const maxBody = 4 << 20

// instance is how a drill knows the group that it breaks.
type instance interface {
	// status asks once. Errors: ErrUnreachable.
	status(context.Context) (cluster.Status, error)
	// events sends what happens in the group to fn until ctx ends.
	events(ctx context.Context, fn func(cluster.Event)) error
	// switchover asks for a planned change of primary, and returns what was said to it. Errors: cluster.ErrRefused.
	switchover(context.Context) (string, error)
	close()
}

var _ instance = (*api)(nil)

// api speaks with the instance.
type api struct {
	base   string
	client *http.Client // without a timeout of its own: every call carries a deadline, the event stream ends with its context
}

func newAPI(addr string, by http.RoundTripper) *api {
	base := addr
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	if by == nil { // a transport of its own: its idle connections end with the run
		by = &http.Transport{MaxIdleConnsPerHost: 4}
	}
	return &api{strings.TrimSuffix(base, "/"), &http.Client{Transport: by}}
}

func (a *api) close() { a.client.CloseIdleConnections() }

func (a *api) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; is `understudy up` running, and is this its http address?", ErrUnreachable, err)
	}
	return resp, nil
}

// status asks once. Errors: ErrUnreachable.
func (a *api) status(ctx context.Context) (cluster.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := a.do(ctx, http.MethodGet, "/api/status", nil)
	if err != nil {
		return cluster.Status{}, err
	}
	defer resp.Body.Close()
	var s cluster.Status
	if resp.StatusCode == http.StatusUnauthorized {
		return s, fmt.Errorf("%w: %s asks for a token: --token-file, or UNDERSTUDY_TOKEN_FILE in the environment", cluster.ErrRefused, a.base)
	}
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%w: GET %s/api/status answered %s", ErrUnreachable, a.base, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&s); err != nil {
		return s, fmt.Errorf("%w: GET %s/api/status: %w", ErrUnreachable, a.base, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return s, nil
}

// events sends each event of the group's stream to fn until ctx ends or the stream does. A stream
// that cannot be had is an empty one: the drill judges by what clients saw.
func (a *api) events(ctx context.Context, fn func(cluster.Event)) error {
	resp, err := a.do(ctx, http.MethodGet, "/api/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s/api/events answered %s", a.base, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var e cluster.Event
		if json.Unmarshal([]byte(data), &e) == nil && e.Name != "" {
			fn(e)
		}
	}
	return lines.Err()
}

// switchover asks for a planned change of primary and returns what the instance said. Errors:
// cluster.ErrRefused, ErrUnreachable.
func (a *api) switchover(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	resp, err := a.do(ctx, http.MethodPost, "/api/switchover", []byte(`{}`))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Message string `json:"message"`
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&answer) // the code says whether it worked
	switch resp.StatusCode {
	case http.StatusOK:
		return answer.Message, nil
	case http.StatusConflict:
		return "", fmt.Errorf("switchover %w: %s", cluster.ErrRefused, answer.Message)
	default:
		return "", fmt.Errorf("switchover failed with %s: %s", resp.Status, answer.Message)
	}
}
