// Package backup keeps copies of groups' data sets: a directory in which every backup is whole, verified, and
// either there or not.
package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"understudy/cluster"
)

// Kind says who asked for a backup.
type Kind string

// The kinds. Retention ends automatic ones only.
const (
	KindManual    Kind = "manual"
	KindAutomatic Kind = "automatic"
	KindFinal     Kind = "final" // of a group that was deleted then
)

// State is what a backup is good for.
type State string

// The states. Only an available one can be restored or copied.
const (
	StateCreating  State = "creating"
	StateAvailable State = "available"
	StateDamaged   State = "damaged" // its bytes are not those that were written
	StateDeleting  State = "deleting"
	StateFailed    State = "failed" // it was not made; known until the process ends
)

// Manifest is the file manifest.json of a backup.
type Manifest struct {
	Schema        int              `json:"schema"` // 1
	ID            string           `json:"id"`
	Group         string           `json:"group"`
	Kind          Kind             `json:"kind"`
	Node          cluster.NodeID   `json:"node"` // that wrote it
	Zone          string           `json:"zone"`
	Role          cluster.Role     `json:"role"` // of the node then
	Epoch         cluster.Epoch    `json:"epoch"`
	Engine        string           `json:"engine"` // "redis" or "valkey"
	EngineVersion string           `json:"engine_version"`
	Keys          int64            `json:"keys"`    // in all databases
	Expires       int64            `json:"expires"` // those of them that have a time to live
	Bytes         int64            `json:"bytes"`   // of the RDB file
	SHA256        string           `json:"sha256"`  // of the RDB file, in hexadecimal digits
	Created       time.Time        `json:"created"` // the data set is of a moment after it, all that was acked before is in it
	Finished      time.Time        `json:"finished"`
	Spec          cluster.Spec     `json:"spec"` // how the group was to be
	CopyOf        string           `json:"copy_of,omitempty"`
	Attributes    *json.RawMessage `json:"attributes,omitempty"` // whoever asked for it keeps them here
}

// Backup is one, and how it is.
type Backup struct {
	Manifest
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it is damaged, or failed
}

// Whole reports whether all of it was written once.
func (b Backup) Whole() bool { return b.State == StateAvailable || b.State == StateDamaged }

// Errors, compared with errors.Is.
var (
	ErrNotFound = errors.New("there is no backup of that name")
	ErrExists   = errors.New("there is a backup of that name")
	ErrState    = errors.New("its state does not allow that")
	ErrDamaged  = errors.New("the backup is damaged")
	ErrRoom     = errors.New("there is not enough room on the disk")
	ErrBusy     = errors.New("too many backups wait for their turn")
	ErrName     = errors.New("no name of a backup")
)

// name is what a backup may be called: a folder's name in lower case, with nothing in it that a shell or a path
// would take for something else.
var name = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9._:-]{0,253}[a-z0-9])?$`)

// CheckName refuses what no backup may be called. Errors: ErrName.
func CheckName(id string) error {
	if !name.MatchString(id) {
		return fmt.Errorf("%q: %w: letters a to z, digits, and . _ : - between them, at most 255", id, ErrName)
	}
	return nil
}

// NameAt is what a backup is called whose maker gives it no name.
func NameAt(group string, at time.Time) string {
	return strings.ToLower(group) + "-" + at.UTC().Format("20060102-150405.000")
}
