package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dataset is what the files of a data set looked like, in the order in which redis-server reads them: the base,
// then the increments, as the manifest of the append-only file names them. What a note says of a data set
// holds only while these are the files: between the agent's look at them and redis-server's, somebody may
// delete them, or put others there.
type dataset []datafile

// datafile is one of them.
type datafile struct {
	Name  string    `json:"name"`
	Size  int64     `json:"size"`
	Mod   time.Time `json:"mod"`
	Inode uint64    `json:"inode"`
}

// manifestFile is what redis-server calls it as long as nobody names its append-only file otherwise: then
// no data set is known, and none passes for whole.
const manifestFile = "appendonly.aof.manifest"

// dataset looks at the files that redis-server would read now; nil when there are none. An error says which of
// them is not there.
func (d disk) dataset() (dataset, error) {
	dir := filepath.Join(d.redisDir(), aofDir)
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all dataset
	for _, name := range manifestNames(text) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		f := datafile{Name: name, Size: st.Size(), Mod: st.ModTime().UTC()}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			f.Inode = sys.Ino
		}
		all = append(all, f)
	}
	return all, nil
}

// manifestNames are the files of a manifest that make up the data set: not those that are only still to be
// deleted (type h).
func manifestNames(text []byte) []string {
	var base, increments []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text()) // file NAME seq N type b|i|h
		if len(f) < 6 || f[0] != "file" || strings.HasPrefix(f[1], "\"") {
			continue
		}
		switch f[5] {
		case "b":
			base = append(base, f[1])
		case "i":
			increments = append(increments, f[1])
		}
	}
	return append(base, increments...)
}

// changed says what became of the files since; "" when all that was there is there. The last increment may
// have grown: redis-server appends to it. cut is how long redis-server says that it has left a file that ended
// in the middle of a command, which a killed one leaves behind; nil: nobody can say.
func (before dataset) changed(now dataset, cut func(name string) (int64, bool)) string {
	for i, old := range before {
		if i >= len(now) || now[i].Name != old.Name {
			return fmt.Sprintf("%s is not part of the data set any more", old.Name)
		}
		f, last := now[i], i == len(before)-1
		switch {
		case f.Inode != old.Inode:
			return fmt.Sprintf("%s is another file than the one that was there", old.Name)
		case f == old, last && f.Size > old.Size:
		case last && cut != nil && wasCut(f, cut):
		default:
			return fmt.Sprintf("%s has %d bytes of %v; it had %d of %v", old.Name, f.Size, f.Mod, old.Size, old.Mod)
		}
	}
	return ""
}

func wasCut(f datafile, cut func(string) (int64, bool)) bool {
	to, ok := cut(f.Name)
	return ok && f.Size >= to
}
