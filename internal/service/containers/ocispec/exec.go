package ocispec

import (
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// Exec makes the configuration of a further process in a running container:
// only the fields that spec.Launch reads for an exec are set, the container's namespaces among them. in describes the
// container, req the process.
func Exec(in Input, req *container.ExecCreateRequest, host facts.Host) (*specs.Spec, error) {
	sec, err := ParseSecurity(in.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	hc := *in.HostConfig
	hc.Privileged = hc.Privileged || req.Privileged
	caps, err := Capabilities(&hc, host.CapBounding)
	if err != nil {
		return nil, err
	}
	config := *in.Config
	config.Tty = req.Tty
	in.Config, in.Path, in.Args = &config, req.Cmd[0], req.Cmd[1:]
	p := process(in, caps, sec)
	if req.User != "" {
		p.User.Username = req.User
	}
	if req.WorkingDir != "" {
		p.Cwd = req.WorkingDir
	}
	p.Env = ReplaceEnv(p.Env, req.Env)
	p.ConsoleSize, p.OOMScoreAdj = nil, nil
	if req.Tty && req.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: req.ConsoleSize[0], Width: req.ConsoleSize[1]}
	}
	if req.Privileged {
		p.ApparmorProfile = ""
	}
	s := &specs.Spec{Version: specs.Version, Process: p, Annotations: annotations(&hc), Linux: &specs.Linux{Namespaces: namespaces(in)}}
	s.Linux.Seccomp, err = seccompOf(sec.Seccomp, in.SeccompBody, hc.Privileged, host.Seccomp, s)
	return s, err
}
