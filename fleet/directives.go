package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/proxy"
	"understudy/redis"
)

// SetDirectives makes settings of redis-server the group's, by their names in its configuration. It returns when
// all nodes that run go by those that redis-server takes while it runs; the others wait for a node's next start
// by Reboot, or by a new process. A setting that is left out stays as it is until then: give it its default.
//
// The primary is given them as an operator's CONFIG SET would, and its agent has them outlive it: see
// agent/settings.go. The other nodes need not wait for that.
func (g *Group) SetDirectives(ctx context.Context, directives map[string]string) error {
	g.change.Lock()
	defer g.change.Unlock()
	next := g.Spec()
	next.Directives = maps.Clone(directives)
	if err := g.fleet.keep(ctx, next); err != nil {
		return err
	}
	g.mu.Lock()
	g.spec = next
	g.mu.Unlock()
	live := map[string]string{}
	for name, value := range directives {
		if redis.Live(name) {
			live[name] = redis.Unquoted(value)
		}
	}
	tick := time.NewTicker(directivesEvery)
	defer tick.Stop()
	for {
		why, err := g.applied(ctx, live)
		if err != nil {
			return fmt.Errorf("set the directives of %s: %w", g.Name(), err)
		}
		if why == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("set the directives of %s: %s: %w", g.Name(), why, ctx.Err())
		}
	}
}

// directivesEvery is how often it is looked whether all nodes have taken their settings.
const directivesEvery = 50 * time.Millisecond

// applied gives the nodes what they lack of the settings, the primary first, and says what is missing still.
func (g *Group) applied(ctx context.Context, want map[string]string) (why string, err error) {
	s := g.Status()
	slices.SortStableFunc(s.Nodes, func(a, b cluster.StatusNode) int {
		switch s.Primary {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	if s.Primary == "" {
		return "there is no primary", nil
	}
	for _, n := range s.Nodes {
		if n.State == cluster.StateDown || n.State == cluster.StateLoading {
			why = fmt.Sprintf("%s is %s", n.ID, n.State)
			continue
		}
		gave, err := give(ctx, n.Addr, want)
		if err != nil {
			return "", fmt.Errorf("%s: %w", n.ID, err)
		}
		if gave {
			why = fmt.Sprintf("%s has just been given them", n.ID)
		}
	}
	if why != "" {
		return why, nil
	}
	return g.spreadDiffers(ctx, want)
}

// give has one server take what differs; gave says whether something did.
func give(ctx context.Context, addr string, want map[string]string) (gave bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	c, err := redis.Login{Addr: addr}.Dial(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	now, err := c.Settings(ctx)
	if err != nil {
		return false, err
	}
	lacks := map[string]string{}
	for name, value := range want {
		if have, known := now.Config[name]; known && have != value {
			lacks[name] = value
		}
	}
	if len(lacks) == 0 {
		return false, nil
	}
	return true, c.Apply(ctx, redis.Settings{Config: lacks}, nil)
}

// spreadDiffers says which of the settings the agents would have a server that starts go by otherwise: the record
// of CONFIG SET at a primary wins over a server's configuration.
func (g *Group) spreadDiffers(ctx context.Context, want map[string]string) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	key := cluster.SettingsKey(g.Name())
	entries, _, err := g.fleet.opts.Store.List(ctx, key)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		var kept redis.Settings
		if e.Key != key {
			continue
		}
		if err := json.Unmarshal(e.Value, &kept); err != nil {
			return "", fmt.Errorf("read %s: %w", key, err)
		}
		for name, value := range want {
			if have, ok := kept.Config[name]; ok && have != value {
				return fmt.Sprintf("the agents still keep %s %s", name, have), nil
			}
		}
	}
	return "", nil
}

// SetLogins says who may log in at the group's endpoints from now on.
func (g *Group) SetLogins(l proxy.Logins) error { return g.def.Proxy.SetLogins(l) }
