// Package source asks a real redis-server about its commands, for the
// generator of the command table and for the tests that compare with it.
package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds how long the server may take to answer. It starts empty
// and needs some 20 ms.
const startTimeout = 10 * time.Second

// askTimeout bounds one command.
const askTimeout = 10 * time.Second

// ErrMissing is returned by Start when the binary is not installed.
var ErrMissing = errors.New("redis-server is not installed (Debian: apt-get install redis-server)")

// Server is a running redis-server without persistence, on a Unix socket in a
// directory of its own. DEBUG works on it, for DEBUG DIGEST in tests.
type Server struct {
	cmd  *exec.Cmd
	dir  string
	conn net.Conn
	in   *bufio.Reader
}

// Start starts the binary (a path, or a name on the PATH). The caller stops it.
func Start(binary string) (*Server, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	dir, err := os.MkdirTemp("", "command-source-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	socket := filepath.Join(dir, "redis.sock")
	s := &Server{dir: dir}
	s.cmd = exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "local")
	// Even a killed test leaves no server behind.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), os.RemoveAll(dir))
	}
	if err := s.connect(socket); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), s.Stop())
	}
	return s, nil
}

// connect tries until the server listens.
func (s *Server) connect(socket string) (err error) {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s.conn, err = net.Dial("unix", socket); err == nil {
			s.in = bufio.NewReader(s.conn)
			return nil
		}
	}
	return err
}

// Stop kills the server, which has nothing to save, and removes its directory.
func (s *Server) Stop() error {
	if s.conn != nil {
		s.conn.Close()
	}
	err := s.cmd.Process.Kill()
	s.cmd.Wait() // its error is the kill
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Reply is an error reply of the server.
type Reply string

func (r Reply) Error() string { return string(r) }

// Ask sends a command and gives its reply: string, int64, nil or []any. An
// error reply is an error of type Reply.
func (s *Server) Ask(words ...string) (any, error) {
	if err := s.conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := s.conn.Write(request); err != nil {
		return nil, fmt.Errorf("ask %s: %w", words[0], err)
	}
	return s.read()
}

// read reads one RESP2 reply.
func (s *Server) read() (any, error) {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '+':
		return line[1:], nil
	case '-':
		return nil, Reply(line[1:])
	}
	n, err := strconv.ParseInt(line[1:], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read reply %q: %w", line, err)
	}
	switch {
	case line[0] == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case line[0] == '$':
		text := make([]byte, n+2)
		_, err := io.ReadFull(s.in, text)
		return string(text[:n]), err
	}
	elems := make([]any, n)
	for i := range elems {
		if elems[i], err = s.read(); err != nil {
			return nil, err
		}
	}
	return elems, nil
}

// Version is the server's name and version, such as "redis 7.0.15".
func (s *Server) Version() (string, error) {
	reply, err := s.Ask("INFO", "server")
	if err != nil {
		return "", err
	}
	info, _ := reply.(string)
	for _, name := range []string{"valkey", "redis"} {
		if _, after, ok := strings.Cut(info, name+"_version:"); ok {
			version, _, _ := strings.Cut(after, "\r\n")
			return name + " " + version, nil
		}
	}
	return "", fmt.Errorf("no version in INFO server: %q", info)
}

// Command is what COMMAND says of one command or subcommand.
type Command struct {
	Name                           string // lower case, subcommands as "client|setname"
	Arity, FirstKey, LastKey, Step int
	Flags                          []string // sorted; "container" when it has subcommands
	Tips                           []string
}

// Commands gives all commands and subcommands, sorted by name.
func (s *Server) Commands() ([]Command, error) {
	reply, err := s.Ask("COMMAND")
	if err != nil {
		return nil, err
	}
	var all []Command
	if err := collect(reply, &all); err != nil {
		return nil, fmt.Errorf("read COMMAND: %w", err)
	}
	slices.SortFunc(all, func(x, y Command) int { return strings.Compare(x.Name, y.Name) })
	return all, nil
}

// collect reads a list of ten-element entries: name, arity, flags, first key,
// last key, step, ACL categories, tips, key specifications, subcommands.
func collect(list any, all *[]Command) error {
	entries, ok := list.([]any)
	if !ok {
		return fmt.Errorf("expected a list, got %v", list)
	}
	for _, entry := range entries {
		fields, ok := entry.([]any)
		if !ok || len(fields) < 10 {
			return fmt.Errorf("expected ten fields (Redis 7.0 or later), got %v", entry)
		}
		name, _ := fields[0].(string)
		command := Command{
			Name: strings.ToLower(name), Arity: number(fields[1]),
			FirstKey: number(fields[3]), LastKey: number(fields[4]), Step: number(fields[5]),
			Flags: texts(fields[2]), Tips: texts(fields[7]),
		}
		if subs, _ := fields[9].([]any); len(subs) > 0 {
			command.Flags = append(command.Flags, "container")
		}
		slices.Sort(command.Flags)
		*all = append(*all, command)
		if err := collect(fields[9], all); err != nil {
			return err
		}
	}
	return nil
}

func number(field any) int {
	n, _ := field.(int64)
	return int(n)
}

func texts(field any) []string {
	list, _ := field.([]any)
	out := make([]string, 0, len(list)+1)
	for _, elem := range list {
		if text, ok := elem.(string); ok {
			out = append(out, text)
		}
	}
	return out
}
