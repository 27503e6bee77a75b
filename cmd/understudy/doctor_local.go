package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	cloud "understudy/aws/remote"
	"understudy/backup"
	"understudy/cluster"
	"understudy/doctor"
)

// examineLocal reads a group of a running instance.
func (f *doctorFlags) examineLocal(ctx context.Context) (doctor.Patient, error) {
	p := doctor.Patient{At: time.Now(), Local: true, Place: doctor.Place{Local: true, Own: f.ownFlags(), Front: f.frontFlags(), Drills: f.drillFlags()}}
	var answer struct {
		cluster.Status
		Message string `json:"message"`
	}
	code, err := f.call(ctx, http.MethodGet, "/api/status", nil, &answer)
	if err != nil {
		return p, err
	}
	if code != http.StatusOK || answer.Group == "" {
		return p, coded{exitUnreachable, fmt.Errorf("the instance answers %d to /api/status; %s", code, orDash(answer.Message))}
	}
	p.Status = &answer.Status
	if err := f.readFront(ctx, &p); err != nil {
		return p, err
	}
	f.readBackups(ctx, &p)
	f.readHold(ctx, &p)
	f.readDrills(&p, "local")
	f.readEndpoints(ctx, &p)
	return p, nil
}

// ownFlags are those by which this program finds the instance again.
func (f *doctorFlags) ownFlags() (words []string) {
	for _, x := range [][2]string{{"--data", f.data}, {"--http", f.http}, {"--token-file", f.tokenFile}, {"--tls-ca", f.ca}} {
		if x[1] != "" {
			words = append(words, x[0], x[1])
		}
	}
	return words
}

// frontFlags are those of `understudy aws`: its front is at the address itself, whatever group a page is about.
func (f *doctorFlags) frontFlags() []string {
	words := f.ownFlags()
	for i, w := range words {
		words[i], _, _ = strings.Cut(w, "/groups/")
	}
	return words
}

// readFront asks the instance as AWS's clients do.
func (f *doctorFlags) readFront(ctx context.Context, p *doctor.Patient) error {
	a, err := f.findFront()
	if err != nil {
		return err
	}
	o := cloud.Options{Endpoint: a.url(""), Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"), TLS: a.roots, Attempts: 1}
	if os.Getenv("AWS_ACCESS_KEY_ID") == "" && os.Getenv("AWS_PROFILE") == "" {
		o.AccessKey, o.SecretKey = "understudy", "understudy" // an instance without keys takes any
	}
	if f.cloud, err = cloud.New(ctx, o); err != nil {
		return coded{exitUsage, err}
	}
	_ = p.ReadCloud(ctx, f.cloud, p.Status.Group) // what was not read is a finding
	return nil
}

func (f *doctorFlags) readBackups(ctx context.Context, p *doctor.Patient) {
	var list []backup.Backup
	if code, err := f.call(ctx, http.MethodGet, "/api/backups?"+url.Values{"group": {p.Status.Group}}.Encode(), nil, &list); err != nil || code != http.StatusOK {
		p.Missed(doctor.FromBackups, "the instance has none to tell of: an agent or a proxy keeps no backups")
		return
	}
	for _, b := range list {
		is := doctor.Backup{Name: b.ID, Whole: b.Whole(), Automatic: b.Kind == backup.KindAutomatic, Created: b.Created, Read: true}
		if b.State == backup.StateDamaged {
			is.Damaged = cmp.Or(b.Reason, "it is not what was written")
		}
		p.Backup = append(p.Backup, is)
	}
}

// readHold reads from /metrics how long the group's proxy holds a request.
func (f *doctorFlags) readHold(ctx context.Context, p *doctor.Patient) {
	a, err := f.find()
	if err != nil {
		p.Missed(doctor.FromProxy, err.Error())
		return
	}
	a.at, _, _ = strings.Cut(a.at, "/")
	text, code, err := a.get(ctx, "/metrics")
	if err != nil || code != http.StatusOK {
		p.Missed(doctor.FromProxy, fmt.Sprintf("/metrics answers %d (%v)", code, err))
		return
	}
	group := fmt.Sprintf("group=%q", p.Status.Group)
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if strings.HasPrefix(name, "understudy_proxy_hold_limit{") && strings.Contains(name, `bound="time"`) && strings.Contains(name, group) {
			seconds, _ := strconv.ParseFloat(value, 64)
			p.Hold = time.Duration(seconds * float64(time.Second))
		}
	}
	if p.Hold == 0 {
		p.Missed(doctor.FromProxy, "/metrics tells no bound of holding for the group: another process may be its proxy")
	}
}

// get asks for a page that is no JSON.
func (a reachable) get(ctx context.Context, path string) (text string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url(path), nil)
	if err != nil {
		return "", 0, err
	}
	t := a.transport()
	res, err := t.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return string(b), res.StatusCode, err
}

// readEndpoints comes in as a client does.
func (f *doctorFlags) readEndpoints(ctx context.Context, p *doctor.Patient) {
	e, l := p.Status.Endpoints, f.credentials
	primary, reader := e.Primary, e.Reader
	if l.TLS != nil && e.PrimaryTLS != "" {
		primary, reader = e.PrimaryTLS, cmp.Or(e.ReaderTLS, e.PrimaryTLS)
	}
	if primary == e.PrimaryTLS && l.TLS == nil { // there is no other
		l.TLS = systemTLS()
	}
	f.readDoors(ctx, p)
	p.ReadServer(ctx, primary, nil, l)
	if reader == "" || len(p.Status.Nodes) < 2 {
		reader = primary
	}
	p.ReadKeys(ctx, reader, l)
}

// readDoors finds out who may come in: whoever is let in without a word shows that anybody is.
func (f *doctorFlags) readDoors(ctx context.Context, p *doctor.Patient) {
	e := p.Status.Endpoints
	type addr struct {
		name, at string
		tls      bool
	}
	all := []addr{{"primary endpoint", e.Primary, e.Primary == e.PrimaryTLS}, {"reader endpoint", e.Reader, e.Reader == e.ReaderTLS}, {"split endpoint", e.Split, e.Split == e.SplitTLS},
		{"primary TLS endpoint", e.PrimaryTLS, true}, {"reader TLS endpoint", e.ReaderTLS, true}, {"split TLS endpoint", e.SplitTLS, true}}
	for i, x := range all {
		if x.at == "" || slices.ContainsFunc(all[:i], func(y addr) bool { return y.at == x.at }) {
			continue
		}
		d := doctor.Door{Name: x.name, Addr: x.at, TLS: x.tls, Auth: true}
		if host, _, err := net.SplitHostPort(x.at); err == nil && !loopback(host) {
			d.Auth = !letsIn(ctx, x.at, x.tls)
		}
		p.Doors = append(p.Doors, d)
	}
	a, err := f.find()
	if err != nil {
		return
	}
	d := doctor.Door{Name: "HTTP address", Addr: e.HTTP, TLS: a.secure, Auth: true}
	a.token = ""
	a.at, _, _ = strings.Cut(a.at, "/")
	if _, code, err := a.get(ctx, "/api/status"); err == nil && code != http.StatusUnauthorized {
		d.Auth = false
	}
	p.Doors = append(p.Doors, d)
}

// letsIn reports whether an endpoint serves somebody who says nothing of himself.
func letsIn(ctx context.Context, addr string, secure bool) bool {
	o := &redis.Options{Addr: addr, MaxRetries: -1, PoolSize: 1, DisableIdentity: true, Protocol: 2, DialTimeout: 3 * time.Second, ReadTimeout: 3 * time.Second}
	if secure {
		// Whose certificate it is does not matter here: nothing is told, and nothing believed.
		o.TLSConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
	}
	c := redis.NewClient(o)
	defer c.Close()
	return c.Do(ctx, "DBSIZE").Err() == nil
}

// systemTLS trusts the system's authorities.
func systemTLS() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
