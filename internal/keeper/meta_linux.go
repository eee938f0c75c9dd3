package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/spec"
)

// meta is what a new keeper must know of a process; it is on disk before the process runs.
type meta struct {
	key       spec.ProcessKey
	gen       uint64
	pid       int
	startTick uint64 // from /proc/PID/stat: with the PID it names a process for good
	terminal  bool
	stdin     bool
	log       keeperproto.Log
	oomFile   string
	oomBase   uint64 // the counter at launch
	note      []byte // gantryd's
}

// encode reuses the Launch message's shape, with the further numbers in front.
func (m meta) encode() []byte {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, m.gen)
	b = binary.BigEndian.AppendUint64(b, uint64(m.pid))
	b = binary.BigEndian.AppendUint64(b, m.startTick)
	b = binary.BigEndian.AppendUint64(b, m.oomBase)
	return append(b, keeperproto.Launch{
		Key: m.key, Terminal: m.terminal, Stdin: m.stdin, Log: m.log, OOMFile: m.oomFile, Note: m.note,
	}.Encode()...)
}

func decodeMeta(b []byte) (m meta, err error) {
	if len(b) < 32 {
		return m, fmt.Errorf("meta: %w", keeperproto.ErrMalformed)
	}
	l, err := keeperproto.DecodeLaunch(b[32:])
	if err != nil {
		return m, err
	}
	return meta{
		gen: binary.BigEndian.Uint64(b), pid: int(binary.BigEndian.Uint64(b[8:])),
		startTick: binary.BigEndian.Uint64(b[16:]), oomBase: binary.BigEndian.Uint64(b[24:]),
		key: l.Key, terminal: l.Terminal, stdin: l.Stdin, log: l.Log, oomFile: l.OOMFile, note: l.Note,
	}, nil
}

func (p *proc) writeMeta() error {
	return atomicfile.WriteVolatile(filepath.Join(p.dir, metaName), p.meta.encode(), 0o600)
}

// startTick reads when a process started, in clock ticks since boot.
func startTick(pid int) (uint64, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// zombieStatus reads the wait status of a process that has ended and was not reaped, whoever its
// parent is: proc_pid_stat(5), fields 3, 22 and 52.
func zombieStatus(pid int, tick uint64) (int32, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	if f[0] != "Z" || len(f) < 50 || f[19] != strconv.FormatUint(tick, 10) {
		return 0, fmt.Errorf("process %d is no zombie: %w", pid, os.ErrNotExist)
	}
	n, err := strconv.ParseInt(f[49], 10, 32)
	return int32(n), err
}

// statFields splits /proc/PID/stat from field 3, the state, on.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The command's name, in parentheses, may contain anything.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: %w", pid, keeperproto.ErrMalformed)
	}
	return f, nil
}

// readExit reads the exit record in a process's folder; nil if there is none.
func readExit(dir string) (*keeperproto.Exited, error) {
	b, err := os.ReadFile(filepath.Join(dir, keeperproto.ExitName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := keeperproto.DecodeExited(b)
	if err != nil {
		return nil, err
	}
	return &x, nil
}
