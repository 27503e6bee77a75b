package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// prometheus is a real one.
type prometheus struct {
	t     *testing.T
	path  string
	dir   string
	addr  string
	flags []string
	cmd   *exec.Cmd
	log   bytes.Buffer
}

// newPrometheus returns one that is not started, with a configuration; nil: there is none on this machine.
func newPrometheus(t *testing.T, config string, flags ...string) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no prometheus here, and this is CI: .ci/need prometheus")
		}
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, path: path, dir: t.TempDir(), addr: l.Addr().String(), flags: flags}
	_ = l.Close()
	if err := os.WriteFile(filepath.Join(p.dir, "prometheus.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of prometheus:\n%s", p.log.String())
		}
	})
	return p
}

func (p *prometheus) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.path, append([]string{"--config.file=" + filepath.Join(p.dir, "prometheus.yaml"), "--storage.tsdb.path=" + filepath.Join(p.dir, "data"),
		"--web.listen-address=" + p.addr}, p.flags...)...)
	p.cmd.Stderr, p.cmd.SysProcAttr = &p.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *prometheus) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// value is what an expression comes to now; false: nothing.
func (p *prometheus) value(expr string) (float64, bool) {
	text, err := fetch("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, false
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if json.Unmarshal([]byte(text), &answer) != nil || len(answer.Data.Result) != 1 {
		return 0, false
	}
	v, err := strconv.ParseFloat(answer.Data.Result[0].Value[1].(string), 64)
	return v, err == nil
}
