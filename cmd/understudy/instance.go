package main

import (
	"bytes"
	"context"
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

	"understudy/cluster"
)

// instance is <data>/understudy.json: how to reach a running `understudy up`. It is there while the
// group is ready.
type instance struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Group   string `json:"group"`
	cluster.Endpoints
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
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// finder holds the flags by which a command finds a running instance.
type finder struct{ data, http string }

// defaultHTTP is where an instance answers when nothing says otherwise.
const defaultHTTP = "127.0.0.1:7390"

func (f *finder) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "data directory of the instance (UNDERSTUDY_DATA; default "+defaultData+")")
	cmd.Flags().StringVar(&f.http, "http", "", "HTTP address of the instance (UNDERSTUDY_HTTP; default: from the data directory, else "+defaultHTTP+")")
}

// find returns the HTTP address: what the flags say, else the environment, else the default data
// directory, else the default address. Of a pair, the more exact one wins: --http over --data.
func (f *finder) find() (string, error) {
	if f.http == "" && f.data == "" {
		f.http, f.data = os.Getenv("UNDERSTUDY_HTTP"), os.Getenv("UNDERSTUDY_DATA")
	}
	if f.http != "" {
		return strings.TrimSuffix(strings.TrimPrefix(f.http, "http://"), "/"), nil
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
		return defaultHTTP, nil
	}
	if err != nil {
		return "", coded{exitUnreachable, fmt.Errorf("no instance is ready in %s: %w; start one with `understudy up --data %s`", data, err, data)}
	}
	var i instance
	if err := json.Unmarshal(text, &i); err != nil || i.HTTP == "" {
		return "", coded{exitUnreachable, fmt.Errorf("%s does not say where the instance answers (%w); name it with --http HOST:PORT", instanceFile(data), err)}
	}
	return i.HTTP, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// call asks the instance and decodes its JSON. It returns the HTTP status; an instance that does not
// answer is exit 3.
func (f *finder) call(ctx context.Context, method, path string, body, into any) (int, error) {
	addr, err := f.find()
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
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, send)
	if err != nil {
		return 0, usagef("--http %q: not HOST:PORT", addr)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Timeout: answerWithin}).Do(req)
	if err != nil {
		return 0, coded{exitUnreachable, fmt.Errorf("no instance answers on %s: %w; start one with `understudy up`, or name it with --data or --http", addr, errors.Unwrap(err))}
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return 0, coded{exitUnreachable, fmt.Errorf("%s answers, and not as an instance does (%s, %w)", addr, res.Status, err)}
	}
	return res.StatusCode, nil
}

// answerWithin is longer than the slowest change of primary of the profile wide takes.
const answerWithin = 70 * time.Second
