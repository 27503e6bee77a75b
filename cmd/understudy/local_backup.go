package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"understudy/aws/elasticache"
	"understudy/backup"
	"understudy/cluster"
	"understudy/fleet"
	"understudy/redis"
)

// backups are the archive of this process, and what is asked of it.
type backups struct {
	archive *backup.Archive
	api     *backup.API
}

// openBackups opens the archive below the data directory, and removes groups whose restore was not finished.
func (g *local) openBackups(ctx context.Context, a *app) error {
	if err := g.fleet.RollBack(ctx); err != nil {
		return err
	}
	registry, forget := g.metrics.Add("backups")
	a.onStop("backup metrics", func(context.Context) error { forget(); return nil })
	archive, err := backup.Open(backup.Options{
		Dir: filepath.Join(g.config.Data, "backups"), Groups: g.groupNames, Metrics: registry, Logger: g.log, OnEvent: g.showBackupEvent,
		Check: func(ctx context.Context, path string) (backup.Contents, error) {
			c, err := redis.ReadDump(ctx, g.binary, path)
			return backup.Contents(c), err
		},
	})
	if err != nil {
		return err
	}
	g.backups.archive = archive
	g.backups.api = backup.NewAPI(backup.APIOptions{Archive: archive, Source: dumps{g}, Home: g.config.Group, Restore: g.restore, Logger: g.log})
	return nil
}

func (g *local) groupNames() (names []string) {
	for _, x := range g.fleet.Groups() {
		names = append(names, x.Name())
	}
	return names
}

// showBackupEvent puts an event of a backup into its group's timeline.
func (g *local) showBackupEvent(e cluster.Event) {
	if x, err := g.fleet.Group(e.Group); err == nil {
		x.Record(e)
	}
}

// withBackups answers for the archive, at /api/backups, and below the page of any group, too.
func (g *local) withBackups(pages http.Handler) http.Handler {
	api := g.backups.api.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, "/groups/"); ok {
			group, below, _ := strings.Cut(rest, "/")
			if path = "/" + below; isBackups(path) {
				r = r.Clone(r.Context())
				q := r.URL.Query()
				q.Set("group", group)
				r.URL.Path, r.URL.RawQuery = path, q.Encode()
			}
		}
		if isBackups(path) {
			api.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

func isBackups(path string) bool {
	return path == "/api/backups" || strings.HasPrefix(path, "/api/backups/")
}

// dumps has the fleet's groups write their data sets.
type dumps struct{ *local }

var _ backup.Source = dumps{}

// DataSize implements backup.Source.
func (d dumps) DataSize(ctx context.Context, group string) (int64, error) {
	g, err := d.fleet.Group(group)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", backup.ErrRequest, err)
	}
	return g.DataSize(ctx)
}

// Dump implements backup.Source.
func (d dumps) Dump(ctx context.Context, group, to string) (backup.Dumped, error) {
	g, err := d.fleet.Group(group)
	if err != nil {
		return backup.Dumped{}, fmt.Errorf("%w: %w", backup.ErrRequest, err)
	}
	got, err := g.Dump(ctx, to)
	return backup.Dumped(got), err
}

// snapshots are the archive as the ElastiCache front needs it.
func (g *local) snapshots() *elasticache.Backups {
	return &elasticache.Backups{
		Archive: g.backups.archive, Source: dumps{g}, Seed: g.fleet.Seed,
		Contents: func(ctx context.Context, group string) (backup.Contents, error) {
			x, err := g.fleet.Group(group)
			if err != nil {
				return backup.Contents{}, err
			}
			c, err := x.Contents(ctx)
			return backup.Contents(c), err
		},
	}
}

// restore makes a group of a backup.
func (g *local) restore(ctx context.Context, ask backup.RestoreAsk) (cluster.Endpoints, error) {
	b, err := g.backups.archive.Get(ask.ID)
	if err != nil {
		return cluster.Endpoints{}, err
	}
	spec, err := g.restoredSpec(b, ask)
	if err != nil {
		return cluster.Endpoints{}, fmt.Errorf("%w: %w", backup.ErrRequest, err)
	}
	if _, err := g.fleet.Group(spec.Name); err == nil {
		return cluster.Endpoints{}, fmt.Errorf("%w: group %s: %w; a backup is never restored over a group: name another", cluster.ErrRefused, spec.Name, fleet.ErrExists)
	}
	if err := (awsGroups{g}).placeEndpoints(ctx, &spec); err != nil {
		return cluster.Endpoints{}, fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	}
	f, err := g.openDoor(spec.Name, spec.Listen, g.elasticache.Door(spec.Name))
	if err != nil {
		return cluster.Endpoints{}, fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	}
	x, err := g.fleet.Restore(ctx, fleet.Definition{Spec: spec, Profile: g.profile, Proxy: f.proxy, EndMetrics: f.forget, Tap: g.config.Doors.Tap},
		fleet.Restored{Keys: redis.Contents{Keys: b.Keys, Expires: b.Expires}, Put: func(path string) error { return g.backups.archive.Put(ctx, b.ID, path) }})
	if errors.Is(err, fleet.ErrExists) {
		err = fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	}
	if err != nil {
		return cluster.Endpoints{}, err
	}
	at := plainOr(x.Addrs())
	return cluster.Endpoints{Primary: at.Primary, Reader: at.Reader, Split: at.Split}, nil
}

// mostNodes is how many a group may have.
const mostNodes = 6

// restoredSpec is the group that is to be made: as the one was that was backed up, but for what is asked for.
func (g *local) restoredSpec(b backup.Backup, ask backup.RestoreAsk) (cluster.Spec, error) {
	spec := b.Spec
	spec.Name, spec.Listen, spec.Secret, spec.PreferredZone, spec.ReturnWindow = ask.Group, cluster.Endpoints{}, "", "", ""
	if ask.Port != 0 {
		spec.Listen.Primary = net.JoinHostPort("", strconv.Itoa(ask.Port))
	}
	zones := ask.Zones
	for _, n := range b.Spec.Nodes {
		if len(ask.Zones) == 0 {
			zones = append(zones, n.Zone)
		}
	}
	nodes := ask.Nodes
	if nodes == 0 {
		nodes = max(1, len(b.Spec.Nodes))
	}
	switch {
	case !groupName.MatchString(ask.Group) || strings.HasSuffix(ask.Group, "-") || strings.Contains(ask.Group, "--"):
		return spec, fmt.Errorf("group %q: 1 to 40 lower-case letters, digits and single hyphens, beginning with a letter, are a name", ask.Group)
	case nodes < 1 || nodes > mostNodes:
		return spec, fmt.Errorf("%d nodes: a group has 1 to %d", nodes, mostNodes)
	case ask.Port < 0 || ask.Port > 65535:
		return spec, fmt.Errorf("port %d: 1 to 65535 are ports", ask.Port)
	case len(zones) == 0:
		zones = g.config.Zones
	}
	spec.Nodes = nil
	for i := range nodes {
		spec.Nodes = append(spec.Nodes, cluster.NodePlace{ID: cluster.NodeName(spec.Name, i+1), Zone: zones[i%len(zones)]})
	}
	return spec, nil
}
