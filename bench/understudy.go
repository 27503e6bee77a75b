package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// group is an Understudy group as a user starts it: `understudy up`, three nodes in three zones.
type group struct {
	process   *process
	tool      string // path of understudy
	data      string
	endpoints cluster.Endpoints
	timeline  *timeline
}

// readyWithin bounds the start of a group, and the return of a node after a fault: far more than
// either takes.
const readyWithin = 20 * time.Second

func (b *bench) startGroup(ctx context.Context, durability string, more ...string) (*group, error) {
	b.say("starting an Understudy group, durability %s", durability)
	b.groups++
	dir := filepath.Join(b.dir, fmt.Sprintf("group-%d-%s", b.groups, durability))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	g := &group{tool: b.tools.understudy, data: filepath.Join(dir, "data")}
	args := []string{"up", "--data", g.data, "--durability", durability}
	for _, endpoint := range []string{"primary", "reader", "split", "http"} {
		args = append(args, "--"+endpoint+"-addr", "127.0.0.1:0")
	}
	args = append(args, more...)
	var err error
	if g.process, err = start(dir, "up", g.tool, args...); err != nil {
		return nil, err
	}
	err = await(ctx, "understudy up", readyWithin, func() error {
		text, err := os.ReadFile(filepath.Join(g.data, "understudy.json"))
		if err == nil {
			err = json.Unmarshal(text, &g.endpoints)
		}
		return err
	})
	if err == nil {
		err = g.ready(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w; its log ends with: %s", err, g.process.lastWords())
		_ = g.stop() // err is what went wrong first
		return nil, err
	}
	g.timeline = follow(g.endpoints.HTTP)
	return g, nil
}

// stop is Ctrl-C; `up` promises to end within 5 s.
func (g *group) stop() error {
	g.timeline.stop()
	return g.process.end(syscall.SIGINT, 7*time.Second)
}

// lost says what the group's process said last, when it has ended by itself.
func (g *group) lost() error {
	if g.process.running() {
		return nil
	}
	return fmt.Errorf("understudy up has ended; its log ends with: %s", g.process.lastWords())
}

func (g *group) name() string { return "understudy" }

// client is an ordinary client of the primary endpoint, with the library's defaults.
func (g *group) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: g.endpoints.Primary, MaintNotificationsConfig: noHints})
}

func (g *group) status(ctx context.Context) (cluster.Status, error) {
	var s cluster.Status
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.endpoints.HTTP+"/api/status", nil)
	if err != nil {
		return s, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	return s, json.NewDecoder(res.Body).Decode(&s)
}

// ready waits until the primary serves and both replicas could take over.
func (g *group) ready(ctx context.Context) error {
	return await(ctx, "an Understudy group of three that are ready", readyWithin, func() error {
		s, err := g.status(ctx)
		if err != nil {
			return err
		}
		electable := 0
		for _, n := range s.Nodes {
			if n.Electable {
				electable++
			}
		}
		if s.State != cluster.GroupAvailable || electable < 2 {
			return fmt.Errorf("it is %s with %d nodes that can take over", s.State, electable)
		}
		return nil
	})
}

func (g *group) primary(ctx context.Context) (server, error) {
	s, err := g.status(ctx)
	if err != nil {
		return server{}, err
	}
	return primaryOf(s)
}

func primaryOf(s cluster.Status) (server, error) {
	for _, n := range s.Nodes {
		if n.ID == s.Primary {
			return server{addr: n.Addr, pid: n.PID, node: n.ID}, nil
		}
	}
	return server{}, fmt.Errorf("the group is %s", s.State)
}

func (g *group) survivor(now server) *redis.Client { return direct(now.addr) }

func (g *group) switchover(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, g.tool, "switchover", "--data", g.data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("understudy switchover: %w: %s", err, out)
	}
	return nil
}

// heal has nothing to do: an agent brings its own node back.
func (g *group) heal(context.Context, server) error { return nil }
