package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func newTap() *cobra.Command {
	var f finder
	var passwordFile string
	cmd := &cobra.Command{
		Use:   "tap",
		Short: "Show what clients send, without their values",
		Long: `Shows each command as it arrives at an endpoint: when, the database, the client's address,
the endpoint and the user; then the command's name and its keys, and of everything else the
length. Passwords and values are never shown. Lines are lost when they come faster than they
are read, and a line that begins with # says how many.

The instance must have been started with --tap (up) or clients: {tap: true} (proxy). From
another machine the endpoints' password is needed, or the instance's token.`,
		Example: "  understudy tap\n  understudy tap --http 10.0.0.21:7390 --password-file /etc/understudy/password",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.tap(cmd.Context(), passwordFile, cmd.OutOrStdout())
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the endpoints' password; its first line is sent")
	return cmd
}

// tap copies lines until ctx ends, which is no error.
func (f *finder) tap(ctx context.Context, passwordFile string, out io.Writer) error {
	a, err := f.find()
	if err != nil {
		return err
	}
	at := a.at
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url("/api/tap"), nil)
	if err != nil {
		return usagef("--http %q: not HOST:PORT", at)
	}
	if passwordFile != "" {
		passwords, err := readPasswords(passwordFile)
		if err != nil {
			return usagef("--password-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+passwords[0])
	}
	client := &http.Client{Transport: a.transport()}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return a.unreachable(err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return coded{exitNo, fmt.Errorf("%s shows nothing: start it with --tap (proxy.yaml: clients: {tap: true})", at)}
	case http.StatusUnauthorized:
		if text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)); !bytes.Contains(text, []byte("the tap shows keys")) {
			return a.locked()
		} else {
			return coded{exitRefused, fmt.Errorf("%s: %s", at, bytes.TrimSpace(text))}
		}
	default:
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return coded{exitRefused, fmt.Errorf("%s: %s", at, strings.TrimSpace(string(text)))}
	}
	if _, err = io.Copy(out, res.Body); ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("the instance ended")
	}
	return coded{exitUnreachable, fmt.Errorf("the tap of %s is closed: %w", at, err)}
}
