// Package engine is where the engine of a command line is and how it is reached: by the flags in front of the command,
// the environment and the contexts, over a local socket, TCP with or without TLS, or ssh.
package engine

import (
	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/config"
)

// Engine is the engine one run of the program is about. Nothing is resolved before it is asked for, nothing dialled before the
// first request.
type Engine struct {
	program string // gantry or docker: which socket and which variables come first
	env     func(string) string
	home    *config.Home
	flags   flags

	client *api.Client
}

// New is the engine for a program name, an environment and the client's directory.
func New(program string, env func(string) string, home *config.Home) *Engine {
	return &Engine{program: program, env: env, home: home}
}
