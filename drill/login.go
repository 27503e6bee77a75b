package drill

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// Login is how clients come in at the group's endpoints. The zero value suits those that ask for nothing. Nodes
// are asked without it: on this machine they are open to this user.
type Login struct {
	User     string // "": the default one
	Password string
	TLS      *tls.Config // nil: in the clear
}

// client opens connections to an endpoint.
func (l Login) client(addr string) *redis.Client {
	o := clientOptions(addr)
	o.Username, o.Password, o.TLSConfig = l.User, l.Password, l.TLS
	return redis.NewClient(o)
}

// sentinel opens connections to the node that the sentinels name, or to a replica.
func (l Login) sentinel(p place, replica bool) *redis.Client {
	o := clientOptions("")
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: p.name, SentinelAddrs: p.at, ReplicaOnly: replica, Username: l.User, Password: l.Password, TLSConfig: l.TLS,
		MaxRetries: o.MaxRetries, DialerRetries: o.DialerRetries, DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
	})
}

// endpoints are the addresses at which clients with this login come in. Errors: ErrUsage.
func (l Login) endpoints(e cluster.Endpoints) (map[string]string, error) {
	all := map[string]string{wherePrimary: e.Primary, whereReader: e.Reader, whereSplit: e.Split}
	secure := map[string]string{wherePrimary: e.PrimaryTLS, whereReader: e.ReaderTLS, whereSplit: e.SplitTLS}
	for where, addr := range secure {
		switch {
		case addr == "":
		case l.TLS != nil:
			all[where] = addr
		case addr == all[where]:
			return nil, fmt.Errorf("%w: the %s endpoint speaks TLS only: name its authority with --tls-ca", ErrUsage, where)
		}
	}
	for where, addr := range all {
		if addr == "" { // a group without that endpoint is read at its primary one
			all[where] = all[wherePrimary]
		}
	}
	return all, nil
}

// check makes sure that the primary endpoint lets these clients in: a drill that is refused everywhere says
// nothing about the group. Errors: ErrUsage, ErrUnreachable.
func (l Login) check(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout+time.Second)
	defer cancel()
	c := l.client(addr)
	defer c.Close()
	err := c.Ping(ctx).Err()
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(err.Error(), "NOAUTH"):
		return fmt.Errorf("%w: the endpoint %s asks for a password: --password-file, or REDISCLI_AUTH in the environment (%w)", ErrUsage, addr, err)
	case strings.HasPrefix(err.Error(), "WRONGPASS"):
		return fmt.Errorf("%w: the endpoint %s does not take this user and password: %w", ErrUsage, addr, err)
	}
	return fmt.Errorf("%w: the endpoint %s: %w", ErrUnreachable, addr, err)
}
