// Package gantrynet starts gantry-net when it is needed and connects to it. Who uses a connection
// (published ports, names) keeps what gantry-net should know, and says it again over every new one.
package gantrynet

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
)

// Program is an engine's gantry-net: one process, whoever starts it.
type Program struct {
	exe, socket string
	starting    sync.Mutex
}

// New makes a program. exe is gantry-net's executable, socket the path of its UNIX socket below the exec root.
func New(exe, socket string) *Program { return &Program{exe: exe, socket: socket} }

// Find connects to a gantry-net that runs. lost gets a word when the connection ends and nobody closed it; it has
// room for one.
func (p *Program) Find(lost chan<- struct{}) (*Link, error) { return dial(p.socket, lost) }

// Start connects to the gantry-net that runs, or starts one.
func (p *Program) Start(ctx context.Context, lost chan<- struct{}) (*Link, error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	if l, err := dial(p.socket, lost); err == nil {
		return l, nil
	}
	// One thread polls the containers' sockets, the other one waits for servers and for gantryd.
	err := sibling.Start(sibling.Program{Exe: p.exe, Network: "unix", Socket: p.socket, Env: []string{"GOMAXPROCS=2", "GOGC=50"}})
	if err != nil {
		return nil, fmt.Errorf("gantry-net, which serves published ports and names, cannot be started: %w: %w", err, errdefs.ErrUnavailable)
	}
	failpoint.Hit("gantryd.net-started")
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	l, err := dial(p.socket, lost)
	if err != nil {
		return nil, fmt.Errorf("connecting to gantry-net: %w", err)
	}
	return l, nil
}
