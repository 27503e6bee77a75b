package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"understudy/atomicfile"
	"understudy/cluster"
	"understudy/rpc"
)

// topology is what a proxy keeps of a group for its next start: where the agents are, of whom it hears the
// rest. It says nothing of who leads, so an old one does no harm: an agent that has moved does not answer for its node, and
// only one that holds a permit now is believed. What the store says counts as soon as it answers.
type topology struct {
	Group    string                     `json:"group"`
	Saved    time.Time                  `json:"saved"`
	Spec     *cluster.Spec              `json:"spec"`
	Machines map[string]cluster.Machine `json:"machines"`
}

// topologyFile is where a group's is kept: what the configuration says, else the service manager's directory
// for this service's state, else nowhere.
func (c *proxyConfig) topologyFile() string {
	if c.Topology != "" {
		return c.Topology
	}
	if dir := os.Getenv("STATE_DIRECTORY"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "topology-"+c.Group+".json")
	}
	return ""
}

// recall learns what was known when the last process ended.
func (d *directory) recall() {
	if d.file == "" {
		return
	}
	t, err := readTopology(d.file, d.group)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		d.log.Warn("where the group's agents were is not known before the store answers", "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec, d.machines = t.Spec, t.Machines
	d.news <- struct{}{}
	d.log.Info("until the store answers the group is sought where it was", "saved", t.Saved.UTC().Format(time.RFC3339))
}

// readTopology reads and checks a file.
func readTopology(file, group string) (t topology, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	switch {
	case err != nil:
		return t, fmt.Errorf("topology_file %s: %w", file, err)
	case t.Group != group || t.Spec == nil || len(t.Spec.Nodes) == 0 || t.Machines == nil:
		return t, fmt.Errorf("topology_file %s: is not of group %s", file, group)
	}
	for name, m := range t.Machines {
		if err := rpc.Valid(m.RPC); err != nil {
			return t, fmt.Errorf("topology_file %s: machine %s: %w", file, name, err)
		}
	}
	return t, nil
}

// keep writes the file anew when something in it has changed. The caller holds mu. A file that cannot be
// written is said, and costs nothing else.
func (d *directory) keep() {
	if d.file == "" || d.spec == nil || len(d.machines) == 0 {
		return
	}
	t := topology{Group: d.group, Spec: d.spec, Machines: d.machines}
	text, err := json.Marshal(t)
	if err == nil && bytes.Equal(text, d.kept) {
		return
	}
	same := text
	t.Saved = time.Now()
	if err == nil {
		text, err = json.MarshalIndent(t, "", "  ")
	}
	if err == nil {
		err = atomicfile.Write(d.file, append(text, '\n'), 0o600)
	}
	if err != nil {
		d.log.Warn("where the group's agents are is not kept for the next start", "error", err)
		return
	}
	d.kept = same
}
