package main

import (
	"path/filepath"
	"time"

	"understudy/certs"
	"understudy/cluster"
	"understudy/drill"
)

// ages are what grows old unnoticed: it is looked at with the metrics, and seldom read anew.
type ages struct {
	drills drill.Passed
	certs  map[string]certAge // by file
}

// certAge is how long the certificates of a file are good; zero: it cannot be read.
type certAge struct {
	until  time.Time
	looked time.Time
}

// readCertsEvery: days are told.
const readCertsEvery = time.Minute

// until is when the first certificate of a file ends; zero: none can be read.
func (a *ages) until(file string, now time.Time) time.Time {
	known := a.certs[file]
	if since := now.Sub(known.looked); since >= 0 && since < readCertsEvery {
		return known.until
	}
	read := certAge{looked: now}
	all, err := certs.Read(file)
	for i, c := range all {
		if err == nil && (i == 0 || c.NotAfter.Before(read.until)) {
			read.until = c.NotAfter
		}
	}
	if a.certs == nil {
		a.certs = map[string]certAge{}
	}
	a.certs[file] = read
	return read.until
}

// certificate is when the first of the certificates ends that clients of a group meet: at its endpoints, or at the HTTP
// address. Zero: they meet none.
func (g *local) certificate(s cluster.Status, now time.Time) (first time.Time) {
	for _, file := range g.certificateFiles(s.Group, s.Endpoints) {
		if at := g.ages.until(file, now); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

func (g *local) certificateFiles(group string, at cluster.Endpoints) (files []string) {
	if f := g.config.door().TLS.Cert; f != "" {
		files = append(files, f)
	}
	switch own := g.config.Doors.entrance().TLSCert; {
	case at.PrimaryTLS == "" && at.ReaderTLS == "" && at.SplitTLS == "":
		return files
	case group == g.config.Group && own != "":
		return append(files, own)
	default:
		return append(files, filepath.Join(g.tlsDir(), endpointsCert+".pem"))
	}
}
