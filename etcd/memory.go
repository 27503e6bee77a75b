package etcd

import (
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"understudy/cluster"
)

// A store that was restored from a backup gives revisions out again, unless it was told not to
// (etcdutl snapshot restore --bump-revision). A request that was made before, and comes late, may then meet
// another record under its revision. So a swap also says what it takes that record for, when it has seen it.

// remembered bounds what is kept of each key: a request is made of the newest record, or of one just before.
const remembered = 8

// memory keeps the newest records that were seen.
type memory struct {
	mu   sync.Mutex
	seen map[string][]cluster.Entry // oldest first
}

func (m *memory) keep(e cluster.Entry) {
	if e.Value == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string][]cluster.Entry{}
	}
	old := slices.DeleteFunc(m.seen[e.Key], func(x cluster.Entry) bool { return x.Revision == e.Revision })
	if len(old) == remembered {
		old = slices.Delete(old, 0, 1)
	}
	m.seen[e.Key] = append(old, e)
}

// unchanged is the condition that key is still what it was at rev.
func (m *memory) unchanged(key string, rev int64) []clientv3.Cmp {
	same := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", rev)}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.seen[key] {
		if e.Revision == rev {
			same = append(same, clientv3.Compare(clientv3.Value(key), "=", string(e.Value)))
		}
	}
	return same
}
