package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// Membership makes an embedded member one of several.
type Membership struct {
	Name    string            // of this one
	Members map[string]Member // all, this one included: 3 or 5
	TLS     *TLS              // nil: plain TCP
	// Heartbeat is how often the store's leader shows itself, Election how long it may be silent: the
	// others elect a new one after 1 to 2 times that. Zero: 50 ms and 500 ms. Less changes leaders on a
	// machine that is merely busy: with 30 ms and 300 ms, a load of 15 on two cores did every few seconds.
	Heartbeat, Election time.Duration
}

// Member says where a member is reached.
type Member struct {
	Peer   string // HOST:PORT for the other members
	Client string // HOST:PORT for clients
}

// TLS names the files with which members show themselves, and makes the configuration of clients.
// Members read certificate and key anew for each connection; the authorities when they start.
type TLS struct {
	CA, Cert, Key string
	Client        func(host string) *tls.Config
}

// The store's own times: see Membership.
const (
	defaultHeartbeat = 50 * time.Millisecond
	defaultElection  = 500 * time.Millisecond
	// askWithin bounds one question to another member before this one starts.
	askWithin = time.Second
	askAgain  = 500 * time.Millisecond
)

// Validate says what is wrong with the members; nil when nothing is.
func (m *Membership) Validate() error {
	if _, ok := m.Members[m.Name]; !ok {
		return fmt.Errorf("store: no member is named %q", m.Name)
	}
	if n := len(m.Members); n != 1 && n != 3 && n != 5 {
		return fmt.Errorf("store: %d members: 1, 3 or 5 can agree, and 3 or 5 survive the loss of one", n)
	}
	for name, x := range m.Members {
		for _, place := range []string{x.Peer, x.Client} {
			if _, _, err := net.SplitHostPort(place); err != nil {
				return fmt.Errorf("store: member %s: %w", name, err)
			}
		}
	}
	return nil
}

// others are the names of the other members, in order.
func (m *Membership) others() []string {
	var names []string
	for name := range m.Members {
		if name != m.Name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// clients are for when this member does not answer: one for each of the others.
func (m *Membership) clients() ([]*clientv3.Client, error) {
	o := DialOptions{}
	for _, name := range m.others() {
		o.Endpoints = append(o.Endpoints, m.Members[name].Client)
	}
	if m.TLS != nil {
		o.TLS = m.TLS.Client
	}
	if len(o.Endpoints) == 0 {
		return nil, nil
	}
	return dialAll(o)
}

// apply makes the configuration one of a member of several. A member that had been started before and
// has lost its data is replaced in the list first: it may have voted for what it does not remember.
func (m *Membership) apply(ctx context.Context, c *embed.Config, o EmbedOptions) error {
	if err := m.Validate(); err != nil {
		return err
	}
	self := m.Members[m.Name]
	scheme := "http"
	if m.TLS != nil {
		scheme = "https"
		info := &c.PeerTLSInfo
		info.CertFile, info.KeyFile, info.TrustedCAFile, info.ClientCertAuth = m.TLS.Cert, m.TLS.Key, m.TLS.CA, true
		info.MinVersion, info.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
		// Machines have several addresses, and the certificate names those at which they are reached.
		info.SkipClientSANVerify = true
		c.ClientTLSInfo = *info
	}
	at := func(place string) []url.URL { return []url.URL{{Scheme: scheme, Host: place}} }
	c.Name = m.Name
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(self.Peer), at(self.Peer)
	c.ListenClientUrls, c.AdvertiseClientUrls = at(self.Client), at(self.Client)
	var initial []string
	for name, x := range m.Members {
		initial = append(initial, name+"="+scheme+"://"+x.Peer)
	}
	slices.Sort(initial)
	c.InitialCluster = strings.Join(initial, ",")
	c.TickMs, c.ElectionMs = uint(defaultHeartbeat.Milliseconds()), uint(defaultElection.Milliseconds())
	if m.Heartbeat > 0 && m.Election > 0 {
		c.TickMs, c.ElectionMs = uint(m.Heartbeat.Milliseconds()), uint(m.Election.Milliseconds())
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "member", "wal")); err == nil {
		return nil // it goes on with its data
	}
	joined, err := m.rejoin(ctx, o)
	if joined {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	return err
}

// rejoin makes a member without data a new one when the others know it as one that had been started.
// When none of them answers this is the first start, or a majority is gone: then it waits for them.
func (m *Membership) rejoin(ctx context.Context, o EmbedOptions) (joined bool, err error) {
	clients, err := m.clients()
	if err != nil {
		return false, err
	}
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	for {
		for _, c := range clients {
			if joined, err = m.rejoinThrough(ctx, c, o); err == nil || !errors.Is(err, errNoAnswer) {
				break
			}
		}
		switch {
		case errors.Is(err, errNoAnswer):
			return false, nil
		case !errors.Is(err, rpctypes.ErrUnhealthy) && !errors.Is(err, errNotInTime):
			return joined, err
		}
		// The others change the list of members only when they have seen one another for 5 s, and not while
		// they have no leader. What a request without an answer did is in the list.
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return false, err
		}
	}
}

var (
	errNoAnswer  = errors.New("the member does not answer")
	errNotInTime = errors.New("the members did not change their list in time")
)

func (m *Membership) rejoinThrough(ctx context.Context, c *clientv3.Client, o EmbedOptions) (bool, error) {
	bound, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	list, err := c.MemberList(bound)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	scheme := "http://"
	if m.TLS != nil {
		scheme = "https://"
	}
	url := scheme + m.Members[m.Name].Peer
	i := slices.IndexFunc(list.Members, func(x *pb.Member) bool { return x.Name == m.Name || slices.Contains(x.PeerURLs, url) })
	if i >= 0 {
		known := list.Members[i]
		switch {
		case known.Name == "": // added, and not started since
			return true, nil
		case len(known.ClientURLs) == 0: // one of the first, and never started
			return false, nil
		}
		o.Logger.Warn("this member of the store has lost its data: it joins as a new one", "component", "store", "member", m.Name)
		if _, err := c.MemberRemove(bound, known.ID); err != nil {
			return false, fmt.Errorf("replace member %s of the store: %w", m.Name, late(bound, err))
		}
	}
	if _, err := c.MemberAdd(bound, []string{url}); err != nil {
		return false, fmt.Errorf("add member %s to the store: %w", m.Name, late(bound, err))
	}
	return true, nil
}

// late says of an error that came with the end of its time that it may be tried again.
func late(bound context.Context, err error) error {
	if bound.Err() != nil {
		return fmt.Errorf("%w: %w", errNotInTime, err)
	}
	return err
}
