package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// readSettings reads a file of settings into a struct with yaml tags. Every error is exit 2.
func readSettings(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return usagef("--config: %w", err)
	}
	if err := decodeStrict(text, into); err != nil {
		return usagef("%s: %w", file, err)
	}
	return nil
}

// decodeStrict reads YAML into a struct with yaml tags. The error names the line, and for an unknown key
// the nearest known one.
func decodeStrict(text []byte, into any) error {
	return decodeKnown(text, into, func() []string { return yamlKeys(reflect.TypeOf(into)) })
}

// decodeKnown is decodeStrict where the keys that are offered are not all those of the struct.
func decodeKnown(text []byte, into any, known func() []string) (err error) {
	defer func() {
		// Anchors in places where they make no sense have made the library crash.
		if r := recover(); r != nil {
			err = fmt.Errorf("it is no YAML that makes sense (%v)", r)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(into)
	if err == nil || errors.Is(err, io.EOF) { // an empty file says nothing
		return nil
	}
	return inTheFile(err, known)
}

// inTheFile is the library's error with the line, and for an unknown key the nearest known one.
func inTheFile(err error, known func() []string) error {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := unknown.GetToken()
		return fmt.Errorf("line %d: unknown key %q%s", key.Position.Line, key.Value, didYouMean(key.Value, known(), ""))
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return fmt.Errorf("line %d: %s", at.GetToken().Position.Line, at.GetMessage())
	}
	return err
}

// yamlKeys are all keys of a struct and of those within.
func yamlKeys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	var keys []string
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		if key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); key != "" {
			keys = append(append(keys, key), yamlKeys(t.Field(i).Type)...)
		}
	}
	return keys
}

// printSettings writes a struct of settings as a file that `--config` reads, each key with its help. A key
// with omitempty is left out while it says nothing.
func printSettings(w io.Writer, headline string, settings any) error {
	b := bytes.NewBufferString(headline + "\n")
	v := reflect.ValueOf(settings)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if option == "omitempty" && v.Field(i).IsZero() {
			continue
		}
		item := yaml.MapSlice{{Key: key, Value: v.Field(i).Interface()}}
		text, err := yaml.MarshalWithOptions(item, yaml.Flow(false), yaml.IndentSequence(true))
		if err != nil {
			return fmt.Errorf("print the configuration: %w", err)
		}
		fmt.Fprintf(b, "\n# %s\n%s", f.Tag.Get("help"), text)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// fromDir takes paths of a file of settings as meant from the directory in which that lies.
func fromDir(dir string, paths ...*string) {
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// hostPort takes HOST:PORT apart; the port is a number from 0 to 65535.
func hostPort(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err == nil && (port < 0 || port > 65535) {
		err = fmt.Errorf("port %d: not from 0 to 65535", port)
	}
	return host, port, err
}
