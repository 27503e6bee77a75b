package main

import (
	"os"

	"github.com/spf13/cobra"

	"understudy/drill"
)

// loginFlags say how a load comes in at the endpoints. There is no flag for a password: everybody on a machine
// may read its command lines.
type loginFlags struct{ user, passwordFile, cert, key string }

func (l *loginFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&l.user, "user", "", "user of the endpoints (default: the default one)")
	fs.StringVar(&l.passwordFile, "password-file", "", "file with the endpoints' password; its first line is sent (default: REDISCLI_AUTH in the environment, else none)")
	fs.StringVar(&l.cert, "tls-cert", "", "certificate to show to the endpoints, with --tls-ca, where they ask for one")
	fs.StringVar(&l.key, "tls-key", "", "its key")
}

// login reads the files. ca is the authority of the endpoints' certificate; "": no TLS.
func (l *loginFlags) login(ca string) (drill.Login, error) {
	o := drill.Login{User: l.user, Password: os.Getenv("REDISCLI_AUTH")}
	var err error
	if l.passwordFile != "" {
		if o.Password, err = readFirst("password", l.passwordFile); err != nil {
			return o, usagef("--password-file: %w", err)
		}
	}
	files := nodeTLSConfig{Enabled: ca != "", CA: ca, Cert: l.cert, Key: l.key}
	switch err = files.validate("--tls-ca"); {
	case o.User != "" && o.Password == "":
		return o, usagef("--user %s: --password-file or REDISCLI_AUTH is needed with it", o.User)
	case ca == "" && (l.cert != "" || l.key != ""):
		return o, usagef("--tls-cert and --tls-key: --tls-ca is needed with them")
	case err != nil:
		return o, usagef("%w", err)
	}
	if o.TLS, err = files.config(); err != nil {
		return o, usagef("--tls-ca: %w", err)
	}
	return o, nil
}

// demo is login for an instance of one's own, and the flags with which it is to be started.
func (l *loginFlags) demo(ca string) (login drill.Login, up []string, err error) {
	if login, err = l.login(ca); err != nil {
		return login, nil, err
	}
	if l.passwordFile == "" {
		login.Password = "" // REDISCLI_AUTH is for another one
	} else {
		up = append(up, "--password-file", l.passwordFile)
	}
	if ca != "" {
		const any = "127.0.0.1:0"
		up = append(up, "--tls-ca", ca, "--tls-cert", l.cert, "--tls-key", l.key,
			"--primary-tls-addr", any, "--reader-tls-addr", any, "--split-tls-addr", any)
	}
	return login, up, nil
}
