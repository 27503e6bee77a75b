package main

import (
	"fmt"
	"os"
	"strings"

	"understudy/certs"
	"understudy/etcd"
)

// storeAccess is how a store that runs elsewhere is reached.
type storeAccess struct {
	endpoints          []string
	user, passwordFile string
	tls                tlsConfig // of an etcd that has an authority of its own
}

// dialStore reaches for a store, with our own certificate unless it has an authority of its own; ours is nil
// without TLS.
func dialStore(s storeAccess, ours *certs.Files, log logger) (*etcd.Store, error) {
	files := ours
	var err error
	if !s.tls.empty() {
		if files, err = certs.Open(certs.Paths(s.tls), log); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	o := etcd.DialOptions{Endpoints: s.endpoints, User: s.user}
	if files != nil {
		o.TLS = files.Client
	}
	if o.Password, err = readPassword(s.passwordFile); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return etcd.Dial(o)
}

// readPassword is the file's text without the blanks around it; "" without a file.
func readPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(text))
	if password == "" {
		return "", fmt.Errorf("%s: is empty", file)
	}
	return password, nil
}
