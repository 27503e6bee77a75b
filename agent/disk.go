package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"understudy/atomicfile"
	"understudy/cluster"
)

// disk is what a node keeps between its runs: what its machine must not forget, its port, and
// redis-server's data set.
type disk struct {
	dir  string
	kept kept
}

// kept is the file "kept.json": what a restart of this agent may not forget, because others rely on it.
type kept struct {
	Epoch   cluster.Epoch `json:"epoch"`   // the highest seen
	Revoked cluster.Epoch `json:"revoked"` // promised, not to be followed again
	Lead    cluster.Lead  `json:"lead"`    // the newest record known
}

const (
	keptFile = "kept.json"
	aofDir   = "appendonlydir" // of redis-server, below its own
)

// openDisk reads what is there. A file that is damaged is an error: an agent that starts without what it has
// promised may follow a primary that the others have given up.
func openDisk(dir string) (disk, error) {
	d := disk{dir: dir}
	if err := os.MkdirAll(d.redisDir(), 0o700); err != nil {
		return d, fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(dir, keptFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d.kept)
	}
	if err == nil && d.kept.Epoch == 0 {
		err = errors.New("it names no epoch")
	}
	if err != nil {
		return d, fmt.Errorf("%s cannot be read: %w; it holds the highest epoch that this node has seen and what it has promised. Once the group has a primary without this node, move its whole directory %s away: the node starts anew and copies the data", path, err, dir)
	}
	return d, nil
}

func (d disk) redisDir() string { return filepath.Join(d.dir, "redis") }

// dataFiles names the files of the data set that redis-server left here, with their sizes; "" when there is
// none. It tells whether somebody has put another one there since.
func (d disk) dataFiles() string {
	files, err := os.ReadDir(filepath.Join(d.redisDir(), aofDir))
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, f := range files { // in the order of their names
		if st, err := f.Info(); err == nil {
			fmt.Fprintf(&b, "%s:%d ", f.Name(), st.Size())
		}
	}
	return b.String()
}

// keep puts it on disk: it is there when keep returns.
func (d disk) keep(k kept) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return atomicfile.WriteSync(filepath.Join(d.dir, keptFile), append(text, '\n'), 0o600)
}

// port chooses where redis-server listens: the wanted port, else the one of the last run if it is
// still free, else any free one.
func (d disk) port(host string, wanted int) (int, error) {
	if wanted != 0 && free(host, wanted) {
		return wanted, nil
	}
	path := filepath.Join(d.dir, "port")
	if text, err := os.ReadFile(path); err == nil {
		if p, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && free(host, p) {
			return p, nil
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", host, err)
	}
	p := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, err
	}
	return p, atomicfile.WriteSync(path, []byte(strconv.Itoa(p)+"\n"), 0o600)
}

func free(host string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
