package elasticache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/shelf"
)

// families are those of parameter groups; each has a default group.
var families = []string{"redis6.x", "redis7", "valkey7", "valkey8"}

// parameterGroup is one that a client made.
type parameterGroup struct {
	Name        string            `json:"name"`
	Family      string            `json:"family"`
	Description string            `json:"description"`
	Values      map[string]string `json:"values,omitempty"` // that differ from the family's
	Tags        map[string]string `json:"tags,omitempty"`
}

// parameter is one that redis-server really takes here.
type parameter struct {
	value   string // AWS's default
	allowed string // "0-100", or the words, separated by commas
	words   bool
	reboot  bool // redis-server takes it at its start only
	ours    bool // no directive: it goes into maxmemory
	about   string
}

const reservedMemory = "reserved-memory-percent"

var parameters = map[string]parameter{
	"activedefrag":                  {value: "no", allowed: "yes,no", words: true, about: "Active memory defragmentation."},
	"active-defrag-cycle-max":       {value: "75", allowed: "1-75", about: "Most effort for defragmentation, in percent of the processor."},
	"active-defrag-cycle-min":       {value: "5", allowed: "1-75", about: "Least effort for defragmentation, in percent of the processor."},
	"active-defrag-ignore-bytes":    {value: "104857600", allowed: "1048576-1099511627776", about: "Fragmentation waste below which nothing is defragmented, in bytes."},
	"active-defrag-max-scan-fields": {value: "1000", allowed: "1-1000000", about: "Most fields of a set, hash, sorted set or list that are processed at once."},
	"active-defrag-threshold-lower": {value: "10", allowed: "1-100", about: "Percentage of fragmentation at which defragmentation begins."},
	"active-defrag-threshold-upper": {value: "100", allowed: "1-100", about: "Percentage of fragmentation at which it does its most."},
	"active-expire-effort":          {value: "1", allowed: "1-10", about: "Effort for deleting expired keys."},
	"activerehashing":               {value: "yes", allowed: "yes,no", words: true, about: "Rehash the main tables while idle."},
	"acllog-max-len":                {value: "128", allowed: "1-10000", about: "Length of the ACL log."},
	"databases":                     {value: "16", allowed: "1-1200000", reboot: true, about: "Number of databases."},
	"hash-max-listpack-entries":     {value: "512", allowed: "0-10000", about: "Most entries of a hash that is kept compact."},
	"hash-max-listpack-value":       {value: "64", allowed: "0-10000", about: "Longest entry of a hash that is kept compact, in bytes."},
	"latency-tracking":              {value: "yes", allowed: "yes,no", words: true, about: "Latency histograms of commands."},
	"lazyfree-lazy-eviction":        {value: "no", allowed: "yes,no", words: true, about: "Free evicted keys in the background."},
	"lazyfree-lazy-expire":          {value: "no", allowed: "yes,no", words: true, about: "Free expired keys in the background."},
	"lazyfree-lazy-server-del":      {value: "no", allowed: "yes,no", words: true, about: "Free overwritten values in the background."},
	"lazyfree-lazy-user-del":        {value: "no", allowed: "yes,no", words: true, about: "DEL frees in the background."},
	"lfu-decay-time":                {value: "1", allowed: "0-10000", about: "Minutes after which the LFU counter is halved."},
	"lfu-log-factor":                {value: "10", allowed: "0-10000", about: "How fast the LFU counter saturates."},
	"list-compress-depth":           {value: "0", allowed: "0-10000", about: "Nodes at both ends of a list that are not compressed."},
	"list-max-listpack-size":        {value: "-2", allowed: "-5-10000", about: "Size of a list's node."},
	"maxmemory-policy":              {value: "volatile-lru", allowed: "volatile-lru,allkeys-lru,volatile-lfu,allkeys-lfu,volatile-random,allkeys-random,volatile-ttl,noeviction", words: true, about: "What is evicted when the memory is full."},
	"maxmemory-samples":             {value: "3", allowed: "1-64", about: "Samples that an eviction chooses among."},
	"maxmemory-clients":             {value: "0", allowed: "0-1099511627776", about: "Most memory of all clients' buffers, in bytes; 0: no bound."},
	"notify-keyspace-events":        {value: "", about: "Which keyspace events are published."},
	"proto-max-bulk-len":            {value: "536870912", allowed: "1048576-536870912", about: "Longest value of a request, in bytes."},
	reservedMemory:                  {value: "25", allowed: "0-100", ours: true, about: "Percentage of a node's memory that is kept for other uses than data: maxmemory is that much less."},
	"set-max-intset-entries":        {value: "512", allowed: "0-10000", about: "Most entries of a set of numbers that is kept compact."},
	"slowlog-log-slower-than":       {value: "10000", allowed: "-1-1000000000", about: "Execution time past which a command is logged, in microseconds."},
	"slowlog-max-len":               {value: "128", allowed: "0-10000", about: "Length of the slow log."},
	"stream-node-max-bytes":         {value: "4096", allowed: "0-1048576", about: "Most bytes of a stream's node."},
	"stream-node-max-entries":       {value: "100", allowed: "0-1000000", about: "Most entries of a stream's node."},
	"tcp-keepalive":                 {value: "300", allowed: "0-10000", about: "Seconds between probes of idle connections of the proxy."},
	"timeout":                       {value: "0", allowed: "0-10000", about: "Seconds after which redis-server closes idle connections: those of the proxy, not of clients."},
	"tracking-table-max-keys":       {value: "1000000", allowed: "1-100000000", about: "Most keys that are tracked for clients' caches."},
	"zset-max-listpack-entries":     {value: "128", allowed: "0-10000", about: "Most entries of a sorted set that is kept compact."},
	"zset-max-listpack-value":       {value: "64", allowed: "0-10000", about: "Longest entry of a sorted set that is kept compact, in bytes."},
}

// allows reports whether a value is one that the parameter can have.
func (p parameter) allows(value string) bool {
	if p.words {
		return slices.Contains(strings.Split(p.allowed, ","), value)
	}
	if p.allowed == "" {
		return strings.Trim(value, keyEvents+"AKEmn") == ""
	}
	dash := strings.LastIndexByte(p.allowed, '-')
	least, _ := strconv.ParseInt(p.allowed[:dash], 10, 64)
	most, _ := strconv.ParseInt(p.allowed[dash+1:], 10, 64)
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && n >= least && n <= most
}

// keyEvents are the kinds of keyspace events that A stands for, in the order in which redis-server names them.
const keyEvents = "g$lshzxetd"

// canonical is a value of notify-keyspace-events as redis-server shows it, whatever the order of its letters.
func canonical(value string) string {
	has := func(c rune) rune {
		if strings.ContainsRune(value, c) {
			return c
		}
		return -1
	}
	kinds := strings.Map(has, keyEvents)
	if kinds == keyEvents || strings.Contains(value, "A") {
		kinds = "A"
	}
	return kinds + strings.Map(has, "KEmn")
}

// directive is a value as redis-server's configuration has it.
func directive(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

// defaultOf is what a directive is at when nobody says.
func defaultOf(name string) string {
	if p, ok := parameters[name]; ok {
		return directive(p.value)
	}
	return "0" // maxmemory
}

// needsReboot reports whether redis-server takes one of the differences at its start only.
func needsReboot(was, is map[string]string) bool {
	for name, v := range is {
		if old, ok := was[name]; parameters[name].reboot && v != old && (ok || v != parameters[name].value) {
			return true
		}
	}
	return false
}

// values are the parameters of a group, with those that nobody set.
func (s *Service) values(group string) map[string]string {
	all := map[string]string{}
	for name, p := range parameters {
		all[name] = p.value
	}
	g, _ := s.parameters.Get(group)
	maps.Copy(all, g.Values)
	return all
}

func (s *Service) reserved(group string) int64 {
	n, _ := strconv.ParseInt(s.values(group)[reservedMemory], 10, 64)
	return n
}

// directives are the settings of redis-server that a record asks for. A group that no operation made is left as
// its maker has it until somebody gives it a type or parameters.
func (s *Service) directives(r record) map[string]string {
	all := map[string]string{}
	if r.NodeType == unlimited && strings.HasPrefix(r.Parameters, "default.") {
		return all
	}
	for name, value := range s.values(r.Parameters) {
		if p := parameters[name]; !p.ours && (!p.reboot || value != p.value) {
			all[name] = directive(value)
		}
	}
	bytes, _ := s.maxmemory(r.NodeType, s.reserved(r.Parameters))
	all["maxmemory"] = strconv.FormatInt(bytes, 10)
	return all
}

// parametersOf says whether a node goes by its group's parameters.
func parametersOf(r record, id cluster.NodeID) *types.CacheParameterGroupStatus {
	p := &types.CacheParameterGroupStatus{CacheParameterGroupName: aws.String(r.Parameters), ParameterApplyStatus: aws.String("in-sync"), CacheNodeIdsToReboot: []string{}}
	switch {
	case r.Task != nil && r.Task.Kind == taskModify:
		p.ParameterApplyStatus = aws.String("applying")
	case r.Members[id].Reboot:
		p.ParameterApplyStatus, p.CacheNodeIdsToReboot = aws.String("pending-reboot"), []string{cacheNode}
	}
	return p
}

// group is a parameter group by its name, a default one too.
func (s *Service) group(name string) (parameterGroup, error) {
	name = strings.ToLower(name)
	if family, ok := strings.CutPrefix(name, "default."); ok && slices.Contains(families, family) {
		return parameterGroup{Name: name, Family: family, Description: "Default parameter group for " + family}, nil
	}
	g, ok := s.parameters.Get(name)
	if !ok {
		return g, &types.CacheParameterGroupNotFoundFault{Message: aws.String("CacheParameterGroup " + name + " not found.")}
	}
	return g, nil
}

// checkParameters refuses a parameter group that is not there, or another engine's.
func (s *Service) checkParameters(name *string) error {
	if name == nil {
		return nil
	}
	g, err := s.group(*name)
	if err == nil && !strings.HasPrefix(g.Family, s.opts.Engine.Name) {
		err = combination("The parameter group %s is of the family %s, and %s %s is installed here.", g.Name, g.Family, s.opts.Engine.Name, s.opts.Engine.Version)
	}
	return err
}

func (s *Service) createCacheParameterGroup(ctx context.Context, in *elasticache.CreateCacheParameterGroupInput) (*elasticache.CreateCacheParameterGroupOutput, error) {
	name := strings.ToLower(*in.CacheParameterGroupName)
	if err := checkName("CacheParameterGroupName", name, 255); err != nil {
		return nil, err
	}
	if !slices.Contains(families, *in.CacheParameterGroupFamily) {
		return nil, invalid("CacheParameterGroupFamily %s is not a valid parameter group family.", *in.CacheParameterGroupFamily)
	}
	tags, err := wire.Tags{}.With(ctx, tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	g := parameterGroup{Name: name, Family: *in.CacheParameterGroupFamily, Description: *in.Description, Tags: tags}
	if err := s.parameters.Add(ctx, name, g); errors.Is(err, shelf.ErrThere) {
		return nil, &types.CacheParameterGroupAlreadyExistsFault{Message: aws.String("Parameter group " + name + " already exists")}
	} else if err != nil {
		return nil, err
	}
	return &elasticache.CreateCacheParameterGroupOutput{CacheParameterGroup: shownParameters(ctx, g)}, nil
}

func shownParameters(ctx context.Context, g parameterGroup) *types.CacheParameterGroup {
	return &types.CacheParameterGroup{
		ARN: aws.String(wire.CallOf(ctx).ARN("parametergroup:" + g.Name)), CacheParameterGroupName: &g.Name, CacheParameterGroupFamily: &g.Family,
		Description: &g.Description, IsGlobal: aws.Bool(false),
	}
}

func (s *Service) describeCacheParameterGroups(ctx context.Context, in *elasticache.DescribeCacheParameterGroupsInput) (*elasticache.DescribeCacheParameterGroupsOutput, error) {
	all := s.parameters.All()
	for _, f := range families {
		g, _ := s.group("default." + f)
		all = append(all, g)
	}
	if in.CacheParameterGroupName != nil {
		g, err := s.group(*in.CacheParameterGroupName)
		if err != nil {
			return nil, err
		}
		all = []parameterGroup{g}
	}
	slices.SortFunc(all, func(a, b parameterGroup) int { return strings.Compare(a.Name, b.Name) })
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, all, func(g parameterGroup) string { return g.Name })
	out := &elasticache.DescribeCacheParameterGroupsOutput{Marker: next}
	for _, g := range page {
		out.CacheParameterGroups = append(out.CacheParameterGroups, *shownParameters(ctx, g))
	}
	return out, err
}

// listed are parameters as AWS describes them, by name.
func listed(values, custom map[string]string, source string) (all []types.Parameter) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p, own := parameters[name], "system"
		_, changed := custom[name]
		if changed {
			own = "user"
		}
		if source != "" && source != own {
			continue
		}
		v := types.Parameter{
			ParameterName: aws.String(name), ParameterValue: aws.String(values[name]), Description: aws.String(p.about), Source: aws.String(own),
			DataType: aws.String("integer"), IsModifiable: aws.Bool(true), ChangeType: types.ChangeTypeImmediate, MinimumEngineVersion: aws.String("6.0.0"),
		}
		if p.words || p.allowed == "" {
			v.DataType = aws.String("string")
		}
		if p.allowed != "" {
			v.AllowedValues = aws.String(p.allowed)
		}
		if p.reboot {
			v.ChangeType = types.ChangeTypeRequiresReboot
		}
		all = append(all, v)
	}
	return all
}

func parameterName(p types.Parameter) string { return *p.ParameterName }

func (s *Service) describeCacheParameters(ctx context.Context, in *elasticache.DescribeCacheParametersInput) (*elasticache.DescribeCacheParametersOutput, error) {
	g, err := s.group(*in.CacheParameterGroupName)
	if err != nil {
		return nil, err
	}
	all := listed(s.values(g.Name), g.Values, aws.ToString(in.Source))
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, all, parameterName)
	return &elasticache.DescribeCacheParametersOutput{Parameters: page, Marker: next}, err
}

func (s *Service) describeEngineDefaultParameters(ctx context.Context, in *elasticache.DescribeEngineDefaultParametersInput) (*elasticache.DescribeEngineDefaultParametersOutput, error) {
	if !slices.Contains(families, *in.CacheParameterGroupFamily) {
		return nil, invalid("CacheParameterGroupFamily %s is not a valid parameter group family.", *in.CacheParameterGroupFamily)
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, listed(s.values(""), nil, ""), parameterName)
	return &elasticache.DescribeEngineDefaultParametersOutput{EngineDefaults: &types.EngineDefaults{CacheParameterGroupFamily: in.CacheParameterGroupFamily, Parameters: page, Marker: next}}, err
}

// modifyCacheParameterGroup changes values, and has every group that uses them go by them.
func (s *Service) modifyCacheParameterGroup(ctx context.Context, in *elasticache.ModifyCacheParameterGroupInput) (*elasticache.ModifyCacheParameterGroupOutput, error) {
	values := map[string]string{}
	for _, v := range in.ParameterNameValues {
		name, value := aws.ToString(v.ParameterName), aws.ToString(v.ParameterValue)
		p, ok := parameters[name]
		switch {
		case !ok:
			return nil, invalid("The parameter %s is not one that can be set here; see docs/aws.md.", name)
		case v.ParameterValue == nil || !p.allows(value):
			return nil, invalid("The parameter value %s of %s is not in the allowed values %s.", value, name, p.allowed)
		}
		if values[name] = value; p.allowed == "" {
			values[name] = canonical(value)
		}
	}
	if len(values) == 0 {
		return nil, invalid("ParameterNameValues must have at least one parameter.")
	}
	err := s.setParameters(ctx, *in.CacheParameterGroupName, func(g *parameterGroup) {
		if g.Values == nil {
			g.Values = map[string]string{}
		}
		maps.Copy(g.Values, values)
	})
	return &elasticache.ModifyCacheParameterGroupOutput{CacheParameterGroupName: in.CacheParameterGroupName}, err
}

// resetCacheParameterGroup puts parameters back to the family's values.
func (s *Service) resetCacheParameterGroup(ctx context.Context, in *elasticache.ResetCacheParameterGroupInput) (*elasticache.ResetCacheParameterGroupOutput, error) {
	if aws.ToBool(in.ResetAllParameters) == (len(in.ParameterNameValues) > 0) {
		return nil, combination("Either ResetAllParameters or ParameterNameValues must be given.")
	}
	err := s.setParameters(ctx, *in.CacheParameterGroupName, func(g *parameterGroup) {
		if aws.ToBool(in.ResetAllParameters) {
			g.Values = nil
		}
		for _, v := range in.ParameterNameValues {
			delete(g.Values, aws.ToString(v.ParameterName))
		}
	})
	return &elasticache.ResetCacheParameterGroupOutput{CacheParameterGroupName: in.CacheParameterGroupName}, err
}

// setParameters changes a group's values where all who use it can follow.
func (s *Service) setParameters(ctx context.Context, name string, f func(*parameterGroup)) error {
	g, err := s.group(name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(g.Name, "default.") {
		return &types.InvalidCacheParameterGroupStateFault{Message: aws.String("The parameter group " + g.Name + " is a default one and cannot be changed.")}
	}
	users := s.usersOf(g.Name)
	for _, r := range users {
		if err := available(r); err != nil {
			return &types.InvalidCacheParameterGroupStateFault{Message: aws.String("Replication group " + r.ID + ", which uses parameter group " + g.Name + ", is " + r.State + ".")}
		}
	}
	if _, err := s.parameters.Change(ctx, g.Name, func(g *parameterGroup) error { f(g); return nil }); err != nil {
		return err
	}
	for _, r := range users {
		if _, err := s.begin(ctx, r.ID, task{Kind: taskModify}, stateModifying, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) usersOf(parameters string) (users []record) {
	for _, r := range s.groups.All() {
		if r.Parameters == parameters {
			users = append(users, r)
		}
	}
	return users
}

func (s *Service) deleteCacheParameterGroup(ctx context.Context, in *elasticache.DeleteCacheParameterGroupInput) (*elasticache.DeleteCacheParameterGroupOutput, error) {
	g, err := s.group(*in.CacheParameterGroupName)
	switch {
	case err != nil:
		return nil, &types.CacheParameterGroupNotFoundFault{Message: aws.String("CacheParameterGroupnot found: " + *in.CacheParameterGroupName)}
	case strings.HasPrefix(g.Name, "default."):
		return nil, &types.InvalidCacheParameterGroupStateFault{Message: aws.String("The parameter group " + g.Name + " is a default one and cannot be deleted.")}
	case len(s.usersOf(g.Name)) > 0:
		return nil, &types.InvalidCacheParameterGroupStateFault{Message: aws.String("One or more cache clusters are still members of this parameter group " + g.Name + ", so the group cannot be deleted.")}
	}
	return &elasticache.DeleteCacheParameterGroupOutput{}, s.parameters.Remove(ctx, g.Name)
}
