package elasticache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/backup"
	"understudy/cluster"
)

// Backups are what snapshots are kept in, and where their data come from and go to.
type Backups struct {
	Archive *backup.Archive
	Source  backup.Source
	// Seed has a node that has never run begin with the RDB file that put writes. A seed that is whole stays.
	Seed func(node cluster.NodeID, put func(path string) error) error
	// Contents counts the keys that a group has now.
	Contents func(ctx context.Context, group string) (backup.Contents, error)
}

// snapshots implement Snapshots.
type snapshots struct {
	Backups
	service *Service
}

var _ Snapshots = snapshots{}

// attributes are what AWS's clients see of a snapshot and its manifest has no word for. They are the group's when
// it was taken.
type attributes struct {
	Description string            `json:"description,omitempty"`
	NodeType    string            `json:"node_type"`
	Parameters  string            `json:"parameters,omitempty"`
	Subnets     string            `json:"subnets,omitempty"`
	Maintenance string            `json:"maintenance,omitempty"`
	Window      string            `json:"window,omitempty"`
	Retention   int32             `json:"retention"`
	Topic       string            `json:"topic,omitempty"`
	Automatic   bool              `json:"automatic_failover"`
	AutoMinor   bool              `json:"auto_minor"`
	Port        int32             `json:"port,omitempty"`
	Created     time.Time         `json:"created"` // the group
	Source      string            `json:"source"`  // the cluster that was named, or the one that wrote it
	Key         string            `json:"kms_key,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// openSnapshots has the snapshots be those of an archive, if there is one.
func (s *Service) openSnapshots() {
	if b := s.opts.Backups; b != nil {
		s.opts.Snapshots = snapshots{*b, s}
	}
}

// serveSnapshots names the operations.
func (s *Service) serveSnapshots(w *wire.Service) {
	wire.Handle(w, s.createSnapshot)
	wire.Handle(w, s.describeSnapshots)
	wire.Handle(w, s.copySnapshot)
	wire.Handle(w, s.deleteSnapshot)
}

func noSnapshot(name string) error {
	return &types.SnapshotNotFoundFault{Message: aws.String("Snapshot " + name + " not found.")}
}

// archive is where snapshots are; an error when there is none.
func (s *Service) archive() (*backup.Archive, error) {
	if s.opts.Backups == nil {
		return nil, &types.SnapshotFeatureNotSupportedFault{Message: aws.String("This front keeps no snapshots.")}
	}
	return s.opts.Backups.Archive, nil
}

// refused puts an archive's refusal into AWS's words.
func refused(name string, err error) error {
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return noSnapshot(name)
	case errors.Is(err, backup.ErrExists):
		return &types.SnapshotAlreadyExistsFault{Message: aws.String("Snapshot " + name + " already exists.")}
	case errors.Is(err, backup.ErrState):
		return &types.InvalidSnapshotStateFault{Message: aws.String("Snapshot " + name + " is not in available state, or is in use.")}
	case errors.Is(err, backup.ErrDamaged):
		return &types.InvalidSnapshotStateFault{Message: aws.String("Snapshot " + name + " is damaged: " + err.Error())}
	}
	return err
}

// createSnapshot begins one and answers: what it does not know yet, a later look will tell.
func (s *Service) createSnapshot(ctx context.Context, in *elasticache.CreateSnapshotInput) (*elasticache.CreateSnapshotOutput, error) {
	name := strings.ToLower(*in.SnapshotName)
	if err := checkName("SnapshotName", name, 255); err != nil {
		return nil, err
	}
	var r record
	var source cluster.NodeID
	var err error
	switch {
	case (in.ReplicationGroupId == nil) == (in.CacheClusterId == nil):
		return nil, combination("Either ReplicationGroupId or CacheClusterId must be provided, and not both.")
	case in.ReplicationGroupId != nil:
		r, err = s.find(*in.ReplicationGroupId)
	default:
		r, source, err = s.member(*in.CacheClusterId)
	}
	if err == nil {
		err = s.mayBeTaken(r)
	}
	if err != nil {
		return nil, err
	}
	tags, err := wire.Tags{}.With(ctx, tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	a := s.attributesOf(r, source)
	a.Tags, a.Key = tags, aws.ToString(in.KmsKeyId)
	b, err := s.take(backup.Request{ID: name, Group: r.ID, Kind: backup.KindManual, Attributes: a})
	if err != nil {
		return nil, err
	}
	return &elasticache.CreateSnapshotOutput{Snapshot: s.shownSnapshot(ctx, b, true)}, nil
}

// mayBeTaken refuses a snapshot of a group that is not at rest.
func (s *Service) mayBeTaken(r record) error {
	if _, err := s.archive(); err != nil {
		return err
	}
	if err := available(r); err != nil {
		return err
	}
	if s.snapshotting(r.ID) {
		r.State = stateSnapshotting
		return available(r)
	}
	if _, runs := s.opts.Groups.Find(r.ID); !runs {
		r.State = stateModifying
		return available(r)
	}
	return nil
}

// snapshotting reports whether a snapshot of a group is being taken now.
func (s *Service) snapshotting(group string) bool {
	if s.opts.Backups == nil {
		return false
	}
	return slices.ContainsFunc(s.opts.Backups.Archive.List(group), func(b backup.Backup) bool {
		return b.State == backup.StateCreating && b.CopyOf == ""
	})
}

// attributesOf are a group's now. source is the cluster that was named; "": none was.
func (s *Service) attributesOf(r record, source cluster.NodeID) attributes {
	a := attributes{
		Description: r.Description, NodeType: r.NodeType, Parameters: r.Parameters, Subnets: r.Subnets, Maintenance: r.Maintenance, Window: r.Window,
		Retention: r.Retention, Topic: r.Topic, Automatic: r.Automatic, AutoMinor: r.AutoMinor, Created: r.Created, Source: string(source),
	}
	if l := s.live(r.ID); l.runs {
		if _, port, err := net.SplitHostPort(l.endpoints.Primary); err == nil {
			n, _ := strconv.Atoi(port)
			a.Port = int32(n)
		}
	}
	return a
}

// take begins a snapshot, has a goroutine take it, and tells of its end.
func (s *Service) take(r backup.Request) (backup.Backup, error) {
	w, err := s.opts.Backups.Archive.Begin(r, s.opts.Backups.Source)
	if err != nil {
		return backup.Backup{}, refused(r.ID, err)
	}
	b := w.Backup()
	s.behind(func(ctx context.Context) { _ = s.taken(ctx, w) })
	return b, nil
}

// taken carries a snapshot out, and tells.
func (s *Service) taken(ctx context.Context, w *backup.Work) error {
	b, err := w.Do(ctx)
	told := context.WithoutCancel(ctx)
	if err != nil {
		s.Tell(told, b.Group, fmt.Sprintf("Snapshot failed for snapshot with ID '%s' of replication group with ID '%s': %v", b.ID, b.Group, err), "SnapshotFailed")
		return err
	}
	s.Tell(told, b.Group, fmt.Sprintf("Snapshot succeeded for snapshot with ID '%s' of replication group with ID '%s'", b.ID, b.Group), "SnapshotComplete")
	return nil
}

// behind runs f until the service stops; what has not ended then has left nothing.
func (s *Service) behind(f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := s.ctx
	if ctx == nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		ctx = ended // the work fails, which takes its name back
	}
	s.work.Go(func() { f(ctx) })
}

// describeSnapshots lists them by their names.
func (s *Service) describeSnapshots(ctx context.Context, in *elasticache.DescribeSnapshotsInput) (*elasticache.DescribeSnapshotsOutput, error) {
	archive, err := s.archive()
	if err != nil {
		return nil, err
	}
	kind := aws.ToString(in.SnapshotSource)
	if kind != "" && kind != "system" && kind != "user" {
		return nil, invalid("Invalid SnapshotSource %s: it must be system or user.", kind)
	}
	list := archive.List(strings.ToLower(aws.ToString(in.ReplicationGroupId)))
	name := strings.ToLower(aws.ToString(in.SnapshotName))
	list = slices.DeleteFunc(list, func(b backup.Backup) bool {
		return name != "" && b.ID != name || kind == "system" && b.Kind != backup.KindAutomatic || kind == "user" && b.Kind == backup.KindAutomatic ||
			in.CacheClusterId != nil && !strings.EqualFold(*in.CacheClusterId, clusterOf(b))
	})
	if name != "" && len(list) == 0 {
		return nil, noSnapshot(name)
	}
	slices.SortFunc(list, func(a, b backup.Backup) int { return strings.Compare(a.ID, b.ID) })
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, list, func(b backup.Backup) string { return b.ID })
	if err != nil {
		return nil, err
	}
	out := &elasticache.DescribeSnapshotsOutput{Marker: next}
	for _, b := range page {
		out.Snapshots = append(out.Snapshots, *s.shownSnapshot(ctx, b, aws.ToBool(in.ShowNodeGroupConfig)))
	}
	return out, nil
}

func attributesIn(b backup.Backup) (a attributes) {
	if b.Attributes != nil {
		_ = json.Unmarshal(*b.Attributes, &a) // of another maker: there are none
	}
	return a
}

// clusterOf is the node that a snapshot is said to be of: the one that was named, else the one that wrote it.
func clusterOf(b backup.Backup) string { return or(attributesIn(b).Source, string(b.Node)) }

// shownSnapshot is a snapshot as AWS describes it.
func (s *Service) shownSnapshot(ctx context.Context, b backup.Backup, config bool) *types.Snapshot {
	a, source := attributesIn(b), "manual"
	if b.Kind == backup.KindAutomatic {
		source = "automated"
	}
	out := &types.Snapshot{
		ARN: aws.String(wire.CallOf(ctx).ARN("snapshot:" + b.ID)), SnapshotName: &b.ID, ReplicationGroupId: &b.Group, ReplicationGroupDescription: &a.Description,
		SnapshotStatus: aws.String(status(b)), SnapshotSource: &source, CacheNodeType: aws.String(or(a.NodeType, unlimited)),
		Engine: aws.String(or(b.Engine, s.opts.Engine.Name)), EngineVersion: aws.String(or(b.EngineVersion, s.opts.Engine.Version)),
		NumCacheNodes: aws.Int32(1), NumNodeGroups: aws.Int32(1), AutoMinorVersionUpgrade: &a.AutoMinor, AutomaticFailover: types.AutomaticFailoverStatusDisabled,
		CacheParameterGroupName: aws.String(or(a.Parameters, s.opts.Engine.defaultGroup())), CacheSubnetGroupName: aws.String(or(a.Subnets, defaultSubnets)),
		SnapshotRetentionLimit: &a.Retention, VpcId: aws.String("vpc-00000000"), DataTiering: types.DataTieringStatusDisabled,
	}
	if a.Automatic {
		out.AutomaticFailover = types.AutomaticFailoverStatusEnabled
	}
	for to, value := range map[**string]string{&out.CacheClusterId: clusterOf(b), &out.PreferredAvailabilityZone: b.Zone, &out.PreferredMaintenanceWindow: a.Maintenance,
		&out.SnapshotWindow: a.Window, &out.TopicArn: a.Topic, &out.KmsKeyId: a.Key} {
		if value != "" {
			*to = &value
		}
	}
	if a.Port != 0 {
		out.Port = &a.Port
	}
	if !a.Created.IsZero() {
		out.CacheClusterCreateTime = &a.Created
	}
	if b.Whole() {
		out.NodeSnapshots = []types.NodeSnapshot{shownNodeSnapshot(b, a, config)}
	}
	return out
}

// status is a snapshot's as AWS calls it.
func status(b backup.Backup) string {
	switch {
	case b.State == backup.StateCreating && b.CopyOf != "":
		return "copying"
	case b.State == backup.StateDamaged:
		return "failed"
	}
	return string(b.State)
}

// shownNodeSnapshot is the one node group's part of a snapshot.
func shownNodeSnapshot(b backup.Backup, a attributes, config bool) types.NodeSnapshot {
	n := types.NodeSnapshot{
		CacheClusterId: aws.String(clusterOf(b)), NodeGroupId: aws.String(nodeGroup), CacheNodeId: aws.String(cacheNode), CacheSize: aws.String(fmt.Sprintf("%d MB", (b.Bytes+1<<20-1)>>20)),
		SnapshotCreateTime: aws.Time(b.Created.Truncate(time.Millisecond)),
	}
	if !a.Created.IsZero() {
		n.CacheNodeCreateTime = &a.Created
	}
	if !config {
		return n
	}
	c := &types.NodeGroupConfiguration{NodeGroupId: aws.String(nodeGroup), Slots: aws.String("0-16383"), ReplicaCount: aws.Int32(int32(max(0, len(b.Spec.Nodes)-1)))}
	for i, p := range b.Spec.Nodes {
		if i == 0 {
			c.PrimaryAvailabilityZone = aws.String(p.Zone)
			continue
		}
		c.ReplicaAvailabilityZones = append(c.ReplicaAvailabilityZones, p.Zone)
	}
	n.NodeGroupConfiguration = c
	return n
}

// copySnapshot copies one on this machine.
func (s *Service) copySnapshot(ctx context.Context, in *elasticache.CopySnapshotInput) (*elasticache.CopySnapshotOutput, error) {
	archive, err := s.archive()
	if err != nil {
		return nil, err
	}
	from, to := strings.ToLower(*in.SourceSnapshotName), strings.ToLower(*in.TargetSnapshotName)
	if in.TargetBucket != nil {
		return nil, combination("TargetBucket: snapshots are not exported from this machine; see docs/aws.md")
	}
	if err := checkName("TargetSnapshotName", to, 255); err != nil {
		return nil, err
	}
	b, err := archive.Get(from)
	if err != nil {
		return nil, refused(from, err)
	}
	a := attributesIn(b)
	tags, err := wire.Tags{}.With(ctx, tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	a.Tags = tags
	if in.KmsKeyId != nil {
		a.Key = *in.KmsKeyId
	}
	w, err := archive.BeginCopy(from, to, a)
	if errors.Is(err, backup.ErrExists) {
		return nil, refused(to, err)
	}
	if err != nil {
		return nil, refused(from, err)
	}
	b = w.Backup()
	s.behind(func(ctx context.Context) { _ = s.taken(ctx, w) })
	return &elasticache.CopySnapshotOutput{Snapshot: s.shownSnapshot(ctx, b, true)}, nil
}

func (s *Service) deleteSnapshot(ctx context.Context, in *elasticache.DeleteSnapshotInput) (*elasticache.DeleteSnapshotOutput, error) {
	archive, err := s.archive()
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(*in.SnapshotName)
	b, err := archive.Get(name)
	if err == nil {
		err = archive.Delete(name)
	}
	if err != nil {
		return nil, refused(name, err)
	}
	b.State = backup.StateDeleting
	return &elasticache.DeleteSnapshotOutput{Snapshot: s.shownSnapshot(ctx, b, true)}, nil
}

// snapshotTags puts what f returns in place of a snapshot's tags; nil: it only reads them.
func (s *Service) snapshotTags(name string, f func(wire.Tags) (wire.Tags, error)) (wire.Tags, error) {
	archive, err := s.archive()
	if err != nil {
		return nil, err
	}
	b, err := archive.Get(name)
	if err != nil {
		return nil, refused(name, err)
	}
	a := attributesIn(b)
	if f == nil {
		return a.Tags, nil
	}
	if a.Tags, err = f(a.Tags); err != nil {
		return nil, err
	}
	return a.Tags, refused(name, archive.SetAttributes(name, a))
}

// Check implements Snapshots.
func (n snapshots) Check(_ context.Context, snapshot string) error {
	name := strings.ToLower(snapshot)
	b, err := n.Archive.Get(name)
	if err == nil && b.State != backup.StateAvailable {
		err = fmt.Errorf("%s: %w", b.State, backup.ErrState)
	}
	return refused(name, err)
}

// Seed implements Snapshots.
func (n snapshots) Seed(ctx context.Context, snapshot string, node cluster.NodeID) error {
	err := n.Backups.Seed(node, func(path string) error { return n.Archive.Put(ctx, strings.ToLower(snapshot), path) })
	if errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrNotFound) {
		return given{err}
	}
	return err
}

// retryFinal is the pause after a final snapshot that failed: the deletion of its group waits for it.
const retryFinal = time.Minute

// Final implements Snapshots.
func (n snapshots) Final(ctx context.Context, group, snapshot string) error {
	name := strings.ToLower(snapshot)
	b, err := n.Archive.Get(name)
	switch {
	case err == nil && b.State == backup.StateAvailable && b.Kind == backup.KindFinal && b.Group == group:
		return nil
	case err == nil && b.State == backup.StateFailed && n.service.now().Sub(b.Created) < retryFinal:
		return errors.New(b.Reason) // the disk is full, say: each attempt is an event
	}
	// After a crash this may come before the group runs again. Without its data it must not go.
	if _, runs := n.service.opts.Groups.Find(group); !runs {
		return fmt.Errorf("group %s does not run yet, and snapshot %s is not there", group, name)
	}
	r, _ := n.service.groups.Get(group)
	w, err := n.Archive.Begin(backup.Request{ID: name, Group: group, Kind: backup.KindFinal, Attributes: n.service.attributesOf(r, "")}, n.Source)
	if err != nil {
		return err
	}
	return n.service.taken(ctx, w)
}

// checkFinal refuses a name that a final snapshot cannot have.
func (s *Service) checkFinal(name string) error {
	name = strings.ToLower(name)
	if err := checkName("FinalSnapshotIdentifier", name, 255); err != nil {
		return err
	}
	archive, err := s.archive()
	if err != nil {
		return err
	}
	if b, err := archive.Get(name); err == nil && b.State != backup.StateFailed {
		return refused(name, backup.ErrExists)
	}
	return nil
}

// restored makes sure that a group which begins with a snapshot has all of its keys. A key with a time to live may
// be gone by now.
func (s *Service) restored(ctx context.Context, group, snapshot string) error {
	b, err := s.opts.Backups.Archive.Get(strings.ToLower(snapshot))
	if err != nil {
		return nil // it was deleted since: its file was compared when it was copied
	}
	have, err := s.opts.Backups.Contents(ctx, group)
	if err != nil {
		return err
	}
	if lasting := b.Keys - b.Expires; have.Keys-have.Expires < lasting {
		return given{fmt.Errorf("%d keys without a time to live are there, and snapshot %s has %d", have.Keys-have.Expires, b.ID, lasting)}
	}
	return nil
}
