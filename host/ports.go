package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"understudy/atomicfile"
	"understudy/cluster"
)

// ports remembers which nodes this machine has, and which port each has: the same after a restart, so
// that what others know of it stays true.
type ports struct {
	path string
	base int

	mu    sync.Mutex
	taken map[cluster.NodeID]int
}

func openPorts(path string, base int) (*ports, error) {
	p := &ports{path: path, base: base, taken: map[cluster.NodeID]int{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = json.Unmarshal(text, &p.taken)
	}
	if err != nil {
		return nil, fmt.Errorf("host: the ports of this machine's nodes, %s: %w", path, err)
	}
	return p, nil
}

// of returns a node's port, on disk when it returns.
func (p *ports) of(id cluster.NodeID) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok := p.taken[id]; ok {
		return port, nil
	}
	port := p.base
	for used := slices.Collect(maps.Values(p.taken)); slices.Contains(used, port); {
		port++
	}
	p.taken[id] = port
	if err := p.keep(); err != nil {
		delete(p.taken, id)
		return 0, fmt.Errorf("host: keep the port of %s: %w", id, err)
	}
	return port, nil
}

// forget frees the port of a node that is elsewhere now.
func (p *ports) forget(id cluster.NodeID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, id)
	return p.keep()
}

// keep writes the file. mu is held.
func (p *ports) keep() error {
	text, err := json.MarshalIndent(p.taken, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteSync(p.path, append(text, '\n'), 0o600)
}

func (p *ports) all() map[cluster.NodeID]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.taken)
}
