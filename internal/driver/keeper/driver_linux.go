// Package keeper is gantryd's side of the keeper: it implements the containers
// service's ports Processes, Lifetimes and Outputs. It starts the anchor (and so
// the keeper) when none runs, comes back when the keeper was replaced, and reads
// output out of the spool by itself.
package keeper

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Compiler makes a program for gantry-init of a launch: the program, and what is
// needed at clone time. The namespaces of spec.Launch.Join and NetNS are not its business.
type Compiler func(l spec.Launch) (program, facts []byte, err error)

// Config is a driver's.
type Config struct {
	ExecRoot   string // tmpfs
	KeeperPath string
	AnchorPath string
	InitPath   string
	Compile    Compiler
	Logger     *slog.Logger // nil for the default one
}

// Driver talks to one engine's keeper. Its own methods are about the processes there; the
// connection, the followers of output and the board of exits have theirs.
type Driver struct {
	*connection
	*followers
	*exitBoard
	compile Compiler
}

// New connects to the running keeper or starts one, and returns when it answers.
func New(cfg Config) (*Driver, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Compile == nil {
		cfg.Compile = func(spec.Launch) ([]byte, []byte, error) {
			return nil, nil, fmt.Errorf("launching: this engine has no runtime compiler: %w", errdefs.ErrNotImplemented)
		}
	}
	exits := newExitBoard()
	conn := newConnection(cfg, exits)
	d := &Driver{connection: conn, followers: newFollowers(conn), exitBoard: exits, compile: cfg.Compile}
	conn.watches = d.followers
	if err := conn.connect(); err != nil {
		return nil, err
	}
	if err := conn.renew(); err != nil { // it does its work all the same
		cfg.Logger.Warn("the keeper runs an older executable and could not be replaced", "error", err)
	}
	return d, nil
}

var (
	_ containers.Processes = (*Driver)(nil)
	_ containers.Lifetimes = (*Driver)(nil)
	_ containers.Outputs   = (*Driver)(nil)
	_ io.Closer            = (*Driver)(nil)
)
