package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"understudy/proxy"
)

// logins reads who may log in at the endpoints themselves.
func (e *entrance) logins() (l proxy.Logins, err error) {
	if e.PasswordFile != "" {
		if l.Passwords, err = readPasswords(e.PasswordFile); err != nil {
			return l, err
		}
	}
	if e.UsersFile != "" {
		l.Users, err = readUsers(e.UsersFile)
	}
	return l, err
}

// readUsers reads a file with a user a line: NAME PASSWORD, and where the servers know him by another name
// USER PASSWORD of there. A name that stands there twice has two passwords. What begins with # is none.
func readUsers(path string) (all []proxy.User, err error) {
	lines, err := readSecrets("user", path)
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) != 2 && len(words) != 4 {
			return nil, fmt.Errorf("user file %s: entry %d has %d words: NAME PASSWORD, or NAME PASSWORD USER PASSWORD", path, i+1, len(words))
		}
		u := proxy.User{Name: words[0], Passwords: words[1:2]}
		if len(words) == 4 {
			u.ServerUser, u.ServerPassword = words[2], words[3]
		}
		if n, ok := at[u.Name]; ok {
			old := &all[n]
			if old.ServerUser != u.ServerUser || old.ServerPassword != u.ServerPassword {
				return nil, fmt.Errorf("user file %s: entry %d: %s is two users of the servers", path, i+1, u.Name)
			}
			old.Passwords = append(old.Passwords, words[1])
			continue
		}
		at[u.Name] = len(all)
		all = append(all, u)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("user file %s: there is no user in it", path)
	}
	return all, nil
}

// followEvery is how often files with passwords are looked at.
const followEvery = time.Second

// follow has a proxy go by the files as they are, until ctx ends. Files that make no sense are said, and what
// was read before stays in force.
func (e *entrance) follow(ctx context.Context, p *proxy.Proxy, log *slog.Logger) {
	if e.PasswordFile == "" && e.UsersFile == "" {
		return
	}
	was := stampsOf(e.PasswordFile, e.UsersFile)
	look := time.NewTicker(followEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		now := stampsOf(e.PasswordFile, e.UsersFile)
		if now == was {
			continue
		}
		was = now
		l, err := e.logins()
		if err == nil {
			err = p.SetLogins(l)
		}
		if err != nil {
			log.Error("the new passwords are of no use: the old ones stay in force", "component", "proxy", "error", err)
			continue
		}
		log.Info("passwords read anew", "component", "proxy", "passwords", len(l.Passwords), "users", len(l.Users))
	}
}

// stampsOf is what a change of files shows in.
func stampsOf(paths ...string) string {
	var b strings.Builder
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, "%d %d;", info.Size(), info.ModTime().UnixNano())
		} else {
			b.WriteByte(';')
		}
	}
	return b.String()
}

// followLogins has the endpoints go by the files with passwords as they are.
func (g *local) followLogins(ctx context.Context) error {
	g.config.Doors.entrance().follow(ctx, g.front.proxy, g.log)
	<-ctx.Done()
	return nil
}
