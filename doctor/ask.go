package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	server "understudy/redis"
)

// Login is how a server or an endpoint is spoken to.
type Login struct {
	User, Password string
	TLS            *tls.Config // nil: in the clear
}

// askWithin bounds one answer of a server.
const askWithin = 5 * time.Second

// open connects to an address, on one connection.
func open(addr string, db int, l Login) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, DB: db, Username: l.User, Password: l.Password, TLSConfig: l.TLS, PoolSize: 1, MaxRetries: -1, Protocol: 2,
		DisableIdentity: true, DialTimeout: askWithin, ReadTimeout: askWithin, WriteTimeout: askWithin, ClientName: ownName,
	})
}

// ownName is how the doctor's own connections are told from the others.
const ownName = "understudy-doctor"

// ReadServer fills in settings and clients from where clients reach the primary. Each of others is one more server
// whose clients are counted: the replicas of ElastiCache; behind a proxy there is none.
func (p *Patient) ReadServer(ctx context.Context, addr string, others []string, l Login) {
	c := open(addr, 0, l)
	defer c.Close()
	info, err := c.Info(ctx).Result()
	if err != nil {
		p.unless(FromSettings, err)
		p.unless(FromClients, err)
		return
	}
	fields := server.InfoFields(info)
	p.Server.Version = fields["redis_version"]
	// INFO has them where CONFIG is not for clients, as on ElastiCache.
	p.Server.MaxMemory, err = strconv.ParseInt(fields["maxmemory"], 10, 64)
	if p.Server.Policy = fields["maxmemory_policy"]; err != nil {
		p.Missed(FromSettings, "INFO tells no maxmemory")
	}
	if got, err := c.ConfigGet(ctx, "timeout").Result(); err == nil {
		p.Server.Timeout, _ = strconv.Atoi(got["timeout"])
	}
	p.unless(FromClients, p.list(ctx, c))
	for _, other := range others {
		x := open(other, 0, l)
		p.unless(FromClients, p.list(ctx, x))
		_ = x.Close()
	}
}

func (p *Patient) list(ctx context.Context, c *redis.Client) error {
	text, err := c.Do(ctx, "CLIENT", "LIST").Text()
	if err != nil {
		return err
	}
	p.Users = append(p.Users, clientsIn(text)...)
	return nil
}

// clientsIn reads an answer to CLIENT LIST, without replicas, primaries and the doctor itself.
func clientsIn(text string) (all []Client) {
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := map[string]string{}
		for pair := range strings.FieldsSeq(lines.Text()) {
			name, value, _ := strings.Cut(pair, "=")
			fields[name] = value
		}
		if fields["addr"] == "" || fields["name"] == ownName || strings.ContainsAny(fields["flags"], "SM") {
			continue
		}
		all = append(all, Client{Library: fields["lib-name"], Version: fields["lib-ver"], Name: fields["name"], Addr: fields["addr"]})
	}
	return all
}

// The bounds of the sample: what a busy server does not notice.
const (
	mostKeys   = 10_000
	sampleTime = time.Second
	scanCount  = 500
)

// ReadKeys looks at a sample of the keys, on a replica where there is one. It changes nothing: SCAN, TYPE and PTTL
// do not touch what eviction goes by.
func (p *Patient) ReadKeys(ctx context.Context, addr string, l Login) {
	began := time.Now()
	p.Keys = Keys{Classes: map[Class]Share{}}
	var strangers Share
	whole := true
	for _, db := range p.databases(ctx, addr, l) {
		done, err := p.sample(ctx, addr, db, l, began, &strangers)
		if err != nil {
			p.unless(FromKeys, err)
			return
		}
		whole = whole && done
	}
	p.Keys.All = whole
	// Strings that expire are a cache when they are many: otherwise locks, counters of attempts, tokens.
	if strangers.Keys*10 >= p.Keys.Seen && strangers.Keys > 0 {
		s := p.Keys.Classes[Cache]
		p.Keys.Classes[Cache] = Share{Keys: s.Keys + strangers.Keys, Expires: s.Expires + strangers.Keys, Example: or(s.Example, strangers.Example)}
	}
}

// databases are those that have keys, the fullest first.
func (p *Patient) databases(ctx context.Context, addr string, l Login) (dbs []int) {
	c := open(addr, 0, l)
	defer c.Close()
	text, err := c.Info(ctx, "keyspace").Result()
	if err != nil {
		p.unless(FromKeys, err)
		return nil
	}
	sizes := map[int]int{}
	for line := range strings.Lines(text) {
		var db, keys int
		if n, _ := fmt.Sscanf(line, "db%d:keys=%d", &db, &keys); n == 2 {
			dbs, sizes[db] = append(dbs, db), keys
		}
	}
	slices.SortFunc(dbs, func(a, b int) int { return sizes[b] - sizes[a] })
	return dbs
}

// sample looks at the keys of one database until the bounds are reached; done: it saw all of them.
func (p *Patient) sample(ctx context.Context, addr string, db int, l Login, began time.Time, strangers *Share) (done bool, err error) {
	c := open(addr, db, l)
	defer c.Close()
	for cursor := uint64(0); ; {
		if p.Keys.Seen >= mostKeys || time.Since(began) > sampleTime {
			return false, nil
		}
		var keys []string
		if keys, cursor, err = c.Scan(ctx, cursor, "", scanCount).Result(); err != nil {
			return false, err
		}
		if err := p.classify(ctx, c, keys, strangers); err != nil {
			return false, err
		}
		if cursor == 0 {
			return true, nil
		}
	}
}

func (p *Patient) classify(ctx context.Context, c *redis.Client, keys []string, strangers *Share) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := c.Pipeline()
	types, ttls := make([]*redis.StatusCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, k := range keys {
		types[i], ttls[i] = pipe.Type(ctx, k), pipe.PTTL(ctx, k)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for i, k := range keys {
		kind, expires := types[i].Val(), ttls[i].Val() > 0
		p.Keys.Seen++
		class := classOf(k, kind, expires)
		if class == "" {
			if expires && kind == "string" {
				strangers.Keys++
				strangers.Example = or(strangers.Example, shown(k))
			}
			continue
		}
		s := p.Keys.Classes[class]
		s.Keys++
		if expires {
			s.Expires++
		}
		s.Example = or(s.Example, shown(k))
		p.Keys.Classes[class] = s
	}
	return nil
}
