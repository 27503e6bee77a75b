package doctor

import (
	"context"

	"understudy/aws/remote"
)

// Hands carry fixes out. Each returns when what it did is done, as far as that can be seen.
type Hands interface {
	ChangeGroup(ctx context.Context, group string, c remote.Change) error
	EnableAlarmActions(ctx context.Context, names ...string) error
	PutAlarm(ctx context.Context, a remote.Alarm) error
	// BackUp makes a backup: of a local group, which names it itself; of ElastiCache's node under a name.
	BackUp(ctx context.Context, of, name string) error
}
