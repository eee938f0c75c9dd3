//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/flags"
	"github.com/gantry-engine/gantry/internal/registryserver/server"
	"github.com/gantry-engine/gantry/internal/registryserver/settings"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// collect collects garbage: through the registry that serves the folder, or in the folder itself where none does.
func collect(args []string) error {
	f := flagSet("gc")
	var o flags.Collect
	o.Register(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("gc takes no arguments: %q", f.Args())
	}
	serve := flags.Serve{Config: o.Config, Data: o.Data, GCGrace: o.Grace, GCUntagged: o.Untagged, LogLevel: "warn", LogFormat: "text"}
	cfg, err := settings.Load(&serve, func(name string) bool {
		return name == "data" && f.Changed("data") || name == "gc-grace" && f.Changed("grace") || name == "gc-untagged" && f.Changed("untagged")
	})
	if err != nil {
		return err
	}
	c, err := collectIn(cfg, o.DryRun, f.Changed("untagged"), f.Changed("grace"))
	if err != nil {
		return err
	}
	report(os.Stdout, c, o.DryRun, o.Quiet)
	return nil
}

func collectIn(cfg *settings.Config, dryRun, untagged, grace bool) (storage.Collected, error) {
	ctx := context.Background()
	if _, err := os.Stat(cfg.Data); err != nil {
		return storage.Collected{}, fmt.Errorf("there is no registry's folder: %w", err)
	}
	log := newLog(cfg.Log, os.Stderr)
	s, err := storage.Open(storage.Options{Dir: cfg.Data, Log: log, Spare: cfg.Cached})
	if errdefs.IsFailedPrecondition(err) {
		var u *bool
		var g *time.Duration
		if untagged {
			u = &cfg.GC.Untagged
		}
		if grace {
			g = &cfg.GC.Grace
		}
		return server.CollectRunning(ctx, cfg.Data, dryRun, u, g)
	}
	if err != nil {
		return storage.Collected{}, err
	}
	c, err := s.Collector().Collect(ctx, storage.Policy{Grace: cfg.GC.Grace, Untagged: cfg.GC.Untagged, Uploads: cfg.GC.Uploads, DryRun: dryRun})
	return c, errors.Join(err, s.Close())
}

func report(w io.Writer, c storage.Collected, dryRun, quiet bool) {
	did := "Removed"
	if dryRun {
		did = "Would remove"
	}
	if !quiet {
		for _, m := range c.Manifests {
			fmt.Fprintln(w, "manifest", m)
		}
		for _, b := range c.Blobs {
			fmt.Fprintln(w, "blob", b)
		}
	}
	fmt.Fprintf(w, "%s %d manifests, %d blobs, %d files without an owner, %d abandoned uploads: %s\n",
		did, len(c.Manifests), len(c.Blobs), c.Files, c.Uploads, units.HumanSize(float64(c.Bytes)))
}

// user keeps the file of users.
func user(args []string) error {
	if len(args) == 0 {
		return errors.New("user add|ls|rm is needed")
	}
	f := flagSet("user " + args[0])
	var o flags.User
	o.Register(f, args[0] == "add")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	names := f.Args()
	switch args[0] {
	case "ls":
		if len(names) > 0 {
			return errors.New("user ls takes no arguments")
		}
		users, err := access.ListUsers(o.Htpasswd)
		for _, u := range users {
			fmt.Println(u)
		}
		return err
	case "rm":
		if len(names) == 0 {
			return errors.New("user rm needs a user's name")
		}
		for _, n := range names {
			if err := access.RemoveUser(o.Htpasswd, n); err != nil {
				return err
			}
		}
		return nil
	case "add":
		if len(names) != 1 {
			return errors.New("user add needs one user's name")
		}
		password, err := readPassword(o.PasswordStdin)
		if err != nil {
			return err
		}
		return access.SetUser(o.Htpasswd, names[0], password)
	}
	return fmt.Errorf("user %s is not known: add, ls and rm are", args[0])
}

// readPassword asks twice at a terminal, or reads one line.
func readPassword(stdin bool) (string, error) {
	fd := int(os.Stdin.Fd())
	if stdin || !term.IsTerminal(fd) {
		if !stdin {
			return "", errors.New("there is no terminal to ask for the password at: give it with --password-stdin")
		}
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, 1024)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(os.Stderr, what)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(os.Stderr)
		return string(b), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask("Again: ")
	if err == nil && first != second {
		err = errors.New("the two passwords differ")
	}
	return first, err
}
