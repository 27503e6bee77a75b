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
	given, began := map[string]bool{}, time.Now()
	for {
		if time.Since(began) > directivesKept {
			clear(given)
		}
		why, err := g.applied(ctx, live, given)
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

// directivesKept is how long the record of the agents is waited for. They look once a second; a primary that has
// taken over since takes what it has for what it was started with, and has nothing to record.
const directivesKept = 3 * time.Second

// applied gives the nodes what they lack of the settings, the primary first, and says what is missing still.
// given are those that the agents have to record.
func (g *Group) applied(ctx context.Context, want map[string]string, given map[string]bool) (why string, err error) {
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
		login, ok := g.Login(n.ID)
		if !ok {
			continue // it goes
		}
		gave, err := give(ctx, login, want)
		if err != nil {
			return "", fmt.Errorf("%s: %w", n.ID, err)
		}
		for _, name := range gave {
			given[name] = given[name] || n.ID == s.Primary
			why = fmt.Sprintf("%s has just been given them", n.ID)
		}
	}
	if why != "" {
		return why, nil
	}
	return g.spreadDiffers(ctx, want, given)
}

// give has one server take what differs, and names it.
func give(ctx context.Context, login redis.Login, want map[string]string) (gave []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	c, err := login.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	now, err := c.Settings(ctx)
	if err != nil {
		return nil, err
	}
	lacks := map[string]string{}
	for name, value := range want {
		if have, known := now.Config[name]; known && have != value {
			lacks[name] = value
		}
	}
	if len(lacks) == 0 {
		return nil, nil
	}
	return slices.Sorted(maps.Keys(lacks)), c.Apply(ctx, redis.Settings{Config: lacks}, nil)
}

// spreadDiffers says which of the settings the agents would have a server that starts go by otherwise: the record
// of CONFIG SET at a primary wins over a server's configuration.
// What was given to the primary must be in it: a server that dies now starts with what it was started with before.
func (g *Group) spreadDiffers(ctx context.Context, want map[string]string, given map[string]bool) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	key := cluster.SettingsKey(g.Name())
	entries, _, err := g.fleet.opts.Store.List(ctx, key)
	if err != nil {
		return "", err
	}
	var kept redis.Settings
	for _, e := range entries {
		if e.Key != key {
			continue
		}
		if err := json.Unmarshal(e.Value, &kept); err != nil {
			return "", fmt.Errorf("read %s: %w", key, err)
		}
	}
	for name, value := range want {
		if have, ok := kept.Config[name]; ok && have != value || !ok && given[name] {
			return fmt.Sprintf("the agents do not keep %s %s yet", name, value), nil
		}
	}
	return "", nil
}

// SetLogins says who may log in at the group's endpoints from now on.
func (g *Group) SetLogins(l proxy.Logins) error { return g.def.Proxy.SetLogins(l) }
