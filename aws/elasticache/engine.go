package elasticache

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
)

const (
	engineRedis  = "redis"
	engineValkey = "valkey"
)

// versionForm: "7.0.15", "7.1", "6.x".
var versionForm = regexp.MustCompile(`^([0-9]+)\.(x|[0-9]+)(\.[0-9]+)?$`)

// checkEngine refuses engines and versions that AWS does not have either. Which server runs is another matter:
// the one that is installed, and that is what every answer says.
func checkEngine(engine, version *string) error {
	if e := aws.ToString(engine); engine != nil && e != engineRedis && e != engineValkey {
		return invalid("Invalid engine %s: redis and valkey are served here.", e)
	}
	if version == nil {
		return nil
	}
	m := versionForm.FindStringSubmatch(*version)
	if m == nil {
		return invalid("Invalid version number %s.", *version)
	}
	if major, _ := strconv.Atoi(m[1]); major < 5 || major > 9 {
		return invalid("Cannot find version %s for %s.", *version, or(aws.ToString(engine), engineRedis))
	}
	return nil
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// is reports whether the installed server is what was asked for: "7.x", "7.0" and "7.0.15" are 7.0.15.
func (e Engine) is(engine, version string) bool {
	if engine != "" && engine != e.Name {
		return false
	}
	want := strings.TrimSuffix(version, ".x")
	return version == "" || e.Version == want || strings.HasPrefix(e.Version, want+".")
}

// family is the family of parameter groups of the installed server: "redis7", "valkey8".
func (e Engine) family() string {
	major, _, _ := strings.Cut(e.Version, ".")
	if e.Name == engineRedis && major == "6" {
		major = "6.x"
	}
	return e.Name + major
}

func (e Engine) defaultGroup() string { return "default." + e.family() }

// describeCacheEngineVersions tells of the one that is installed.
func (s *Service) describeCacheEngineVersions(ctx context.Context, in *elasticache.DescribeCacheEngineVersionsInput) (*elasticache.DescribeCacheEngineVersionsOutput, error) {
	e := s.opts.Engine
	var list []types.CacheEngineVersion
	if e.is(aws.ToString(in.Engine), aws.ToString(in.EngineVersion)) && (in.CacheParameterGroupFamily == nil || *in.CacheParameterGroupFamily == e.family()) {
		list = append(list, types.CacheEngineVersion{
			Engine: &e.Name, EngineVersion: &e.Version, CacheParameterGroupFamily: aws.String(e.family()),
			CacheEngineDescription: aws.String(strings.ToUpper(e.Name[:1]) + e.Name[1:]), CacheEngineVersionDescription: aws.String(e.Name + " version " + e.Version + ", installed on this machine"),
		})
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, list, func(v types.CacheEngineVersion) string { return *v.EngineVersion })
	return &elasticache.DescribeCacheEngineVersionsOutput{CacheEngineVersions: page, Marker: next}, err
}

// unlimited is the type of a node whose memory nothing bounds: that of groups which no operation made.
const unlimited = "cache.local"

// nodeTypes are the bytes that AWS gives redis-server of each, "maxmemory" of its table of node-type specific
// parameters.
var nodeTypes = map[string]int64{
	"cache.t2.micro": 581959680, "cache.t2.small": 1665138688, "cache.t2.medium": 3461349376,
	"cache.t3.micro": 536870912, "cache.t3.small": 1471026299, "cache.t3.medium": 3317862236,
	"cache.t4g.micro": 536870912, "cache.t4g.small": 1471026299, "cache.t4g.medium": 3317862236,
	"cache.m4.large": 6892593152, "cache.m4.xlarge": 15328501760, "cache.m4.2xlarge": 31891126272, "cache.m4.4xlarge": 65257290629, "cache.m4.10xlarge": 166047614239,
	"cache.m5.large": 6854542746, "cache.m5.xlarge": 13891921715, "cache.m5.2xlarge": 27966669210, "cache.m5.4xlarge": 56116178125, "cache.m5.12xlarge": 168715971994, "cache.m5.24xlarge": 337500562842,
	"cache.m6g.large": 6854542746, "cache.m6g.xlarge": 13891921715, "cache.m6g.2xlarge": 27966669210, "cache.m6g.4xlarge": 56116178125, "cache.m6g.8xlarge": 111325552312, "cache.m6g.12xlarge": 168715971994, "cache.m6g.16xlarge": 225000375228,
	"cache.m7g.large": 6854542746, "cache.m7g.xlarge": 13891921715, "cache.m7g.2xlarge": 27966669210, "cache.m7g.4xlarge": 56116178125, "cache.m7g.8xlarge": 111325552312, "cache.m7g.12xlarge": 168715971994, "cache.m7g.16xlarge": 225000375228,
	"cache.r4.large": 13201781556, "cache.r4.xlarge": 26898228839, "cache.r4.2xlarge": 54197537997, "cache.r4.4xlarge": 108858546586, "cache.r4.8xlarge": 218255432090, "cache.r4.16xlarge": 437021573120,
	"cache.r5.large": 14037181030, "cache.r5.xlarge": 28261849702, "cache.r5.2xlarge": 56711183565, "cache.r5.4xlarge": 113609865216, "cache.r5.12xlarge": 341206346547, "cache.r5.24xlarge": 682485973811,
	"cache.r6g.large": 14037181030, "cache.r6g.xlarge": 28261849702, "cache.r6g.2xlarge": 56711183565, "cache.r6g.4xlarge": 113609865216, "cache.r6g.8xlarge": 225000375228, "cache.r6g.12xlarge": 341206346547, "cache.r6g.16xlarge": 450000750456,
	"cache.r7g.large": 14037181030, "cache.r7g.xlarge": 28261849702, "cache.r7g.2xlarge": 56711183565, "cache.r7g.4xlarge": 113609865216, "cache.r7g.8xlarge": 225000375228, "cache.r7g.12xlarge": 341206346547, "cache.r7g.16xlarge": 450000750456,
}

// LeastNodeMemory is the least that Options.NodeMemory may be: an empty redis-server needs some of it.
const LeastNodeMemory = 16 << 20

// defaultNodeType is what a group is made of when nobody says: the smallest.
const defaultNodeType = "cache.t4g.micro"

func checkNodeType(name string) error {
	if _, ok := nodeTypes[name]; !ok && name != unlimited {
		return invalid("Invalid Cache Node Type: %s.", name)
	}
	return nil
}

// maxmemory is what redis-server may use for data on a node: the type's, less what the parameters reserve,
// within the setting's bound; 0: anything.
func (s *Service) maxmemory(nodeType string, reserved int64) (bytes int64, bounded bool) {
	bytes = nodeTypes[nodeType] / 100 * (100 - reserved)
	if limit := s.opts.NodeMemory; limit > 0 && (bytes == 0 || bytes > limit) {
		return limit, true
	}
	return bytes, false
}

// listAllowedNodeTypeModifications tells the types with more and with less memory.
func (s *Service) listAllowedNodeTypeModifications(_ context.Context, in *elasticache.ListAllowedNodeTypeModificationsInput) (*elasticache.ListAllowedNodeTypeModificationsOutput, error) {
	var now string
	switch {
	case (in.ReplicationGroupId == nil) == (in.CacheClusterId == nil):
		return nil, combination("One of CacheClusterId and ReplicationGroupId must be given.")
	case in.ReplicationGroupId != nil:
		r, err := s.find(*in.ReplicationGroupId)
		if err != nil {
			return nil, err
		}
		now = r.NodeType
	default:
		r, _, err := s.member(*in.CacheClusterId)
		if err != nil {
			return nil, err
		}
		now = r.NodeType
	}
	out := &elasticache.ListAllowedNodeTypeModificationsOutput{}
	for name, bytes := range nodeTypes {
		switch {
		case name == now:
		case now != unlimited && bytes >= nodeTypes[now]:
			out.ScaleUpModifications = append(out.ScaleUpModifications, name)
		default:
			out.ScaleDownModifications = append(out.ScaleDownModifications, name)
		}
	}
	slices.Sort(out.ScaleUpModifications)
	slices.Sort(out.ScaleDownModifications)
	return out, nil
}
