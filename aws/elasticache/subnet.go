package elasticache

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/shelf"
)

// defaultSubnets is the subnet group that is always there.
const defaultSubnets = "default"

// subnetGroup is kept and given back; there are no subnets here.
type subnetGroup struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Subnets     []string          `json:"subnets"`
	Tags        map[string]string `json:"tags,omitempty"`
}

func noSubnets(name string) error {
	return &types.CacheSubnetGroupNotFoundFault{Message: aws.String("Cache Subnet Group " + name + " does not exist.")}
}

func (s *Service) subnetGroup(name string) (subnetGroup, error) {
	name = strings.ToLower(name)
	if g, ok := s.subnets.Get(name); ok {
		return g, nil
	}
	if name == defaultSubnets {
		return subnetGroup{Name: name, Description: "Default CacheSubnetGroup"}, nil
	}
	return subnetGroup{}, noSubnets(name)
}

func (s *Service) checkSubnets(name *string) error {
	if name == nil {
		return nil
	}
	_, err := s.subnetGroup(*name)
	return err
}

// shownSubnets places subnets in the zones in turn: which zone a real one is in, only AWS knows.
func (s *Service) shownSubnets(ctx context.Context, g subnetGroup) *types.CacheSubnetGroup {
	out := &types.CacheSubnetGroup{
		ARN: aws.String(wire.CallOf(ctx).ARN("subnetgroup:" + g.Name)), CacheSubnetGroupName: &g.Name, CacheSubnetGroupDescription: &g.Description,
		VpcId: aws.String("vpc-00000000"), Subnets: []types.Subnet{}, SupportedNetworkTypes: []types.NetworkType{types.NetworkTypeIpv4},
	}
	for i, id := range g.Subnets {
		out.Subnets = append(out.Subnets, types.Subnet{SubnetIdentifier: aws.String(id), SupportedNetworkTypes: []types.NetworkType{types.NetworkTypeIpv4},
			SubnetAvailabilityZone: &types.AvailabilityZone{Name: aws.String(s.opts.Zones[i%len(s.opts.Zones)])}})
	}
	return out
}

func (s *Service) createCacheSubnetGroup(ctx context.Context, in *elasticache.CreateCacheSubnetGroupInput) (*elasticache.CreateCacheSubnetGroupOutput, error) {
	name := strings.ToLower(*in.CacheSubnetGroupName)
	if err := checkName("CacheSubnetGroupName", name, 255); err != nil {
		return nil, err
	}
	if err := checkSubnetIDs(in.SubnetIds); err != nil {
		return nil, err
	}
	tags, err := wire.Tags{}.With(ctx, tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	g := subnetGroup{Name: name, Description: *in.CacheSubnetGroupDescription, Subnets: in.SubnetIds, Tags: tags}
	if err := s.subnets.Add(ctx, name, g); errors.Is(err, shelf.ErrThere) || name == defaultSubnets {
		return nil, &types.CacheSubnetGroupAlreadyExistsFault{Message: aws.String("Cache subnet group " + name + " already exists.")}
	} else if err != nil {
		return nil, err
	}
	return &elasticache.CreateCacheSubnetGroupOutput{CacheSubnetGroup: s.shownSubnets(ctx, g)}, nil
}

func checkSubnetIDs(ids []string) error {
	if len(ids) == 0 {
		return invalid("At least one subnet must be given.")
	}
	for _, id := range ids {
		if !strings.HasPrefix(id, "subnet-") {
			return &types.InvalidSubnet{Message: aws.String("The subnet ID '" + id + "' does not exist")}
		}
	}
	return nil
}

func (s *Service) describeCacheSubnetGroups(ctx context.Context, in *elasticache.DescribeCacheSubnetGroupsInput) (*elasticache.DescribeCacheSubnetGroupsOutput, error) {
	all := s.subnets.All()
	if in.CacheSubnetGroupName != nil {
		g, err := s.subnetGroup(*in.CacheSubnetGroupName)
		if err != nil {
			return nil, err
		}
		all = []subnetGroup{g}
	} else if g, _ := s.subnetGroup(defaultSubnets); !slices.ContainsFunc(all, func(g subnetGroup) bool { return g.Name == defaultSubnets }) {
		all = append(all, g)
		slices.SortFunc(all, func(a, b subnetGroup) int { return strings.Compare(a.Name, b.Name) })
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, all, func(g subnetGroup) string { return g.Name })
	out := &elasticache.DescribeCacheSubnetGroupsOutput{Marker: next}
	for _, g := range page {
		out.CacheSubnetGroups = append(out.CacheSubnetGroups, *s.shownSubnets(ctx, g))
	}
	return out, err
}

func (s *Service) modifyCacheSubnetGroup(ctx context.Context, in *elasticache.ModifyCacheSubnetGroupInput) (*elasticache.ModifyCacheSubnetGroupOutput, error) {
	if len(in.SubnetIds) > 0 {
		if err := checkSubnetIDs(in.SubnetIds); err != nil {
			return nil, err
		}
	}
	g, err := s.subnets.Change(ctx, strings.ToLower(*in.CacheSubnetGroupName), func(g *subnetGroup) error {
		if in.CacheSubnetGroupDescription != nil {
			g.Description = *in.CacheSubnetGroupDescription
		}
		if len(in.SubnetIds) > 0 {
			g.Subnets = in.SubnetIds
		}
		return nil
	})
	if errors.Is(err, shelf.ErrNone) {
		return nil, noSubnets(*in.CacheSubnetGroupName)
	}
	if err != nil {
		return nil, err
	}
	return &elasticache.ModifyCacheSubnetGroupOutput{CacheSubnetGroup: s.shownSubnets(ctx, g)}, nil
}

func (s *Service) deleteCacheSubnetGroup(ctx context.Context, in *elasticache.DeleteCacheSubnetGroupInput) (*elasticache.DeleteCacheSubnetGroupOutput, error) {
	name := strings.ToLower(*in.CacheSubnetGroupName)
	if _, err := s.subnetGroup(name); err != nil {
		return nil, err
	}
	for _, r := range s.groups.All() {
		if or(r.Subnets, defaultSubnets) == name {
			return nil, &types.CacheSubnetGroupInUse{Message: aws.String("Cache subnet group " + name + " is currently in use by a cache cluster.")}
		}
	}
	if name == defaultSubnets {
		return nil, &types.CacheSubnetGroupInUse{Message: aws.String("The default cache subnet group cannot be deleted.")}
	}
	return &elasticache.DeleteCacheSubnetGroupOutput{}, s.subnets.Remove(ctx, name)
}
