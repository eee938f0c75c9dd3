package keeper

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/logformat/jsonfile"
	"github.com/gantry-engine/gantry/internal/spec"
)

const (
	slotMagic = 0x47414e5452593031 // "GANTRY01"
	carrySize = jsonfile.MaxLine
)

// slotPage is the mapped slot. It is written by one keeper at a time; what a
// kill leaves is exactly the stores that were made, in order. Readers in other
// processes look at the first fields (see keeperproto).
type slotPage struct {
	magic   uint64
	gen     uint64        // the launch
	tail    atomic.Uint64 // spool: complete frames end here
	floor   atomic.Uint64 // spool: what is before may be punched out
	ended   atomic.Uint64 // 1: no more output
	started atomic.Int64  // Unix nanoseconds; 0: not known to run yet

	pendTime   atomic.Int64  // the frame that a splice is about to append
	pendStream atomic.Uint64 // its stream
	dropped    atomic.Uint64 // bytes that found no place in the spool
	endTime    atomic.Int64  // time of the last incomplete lines

	commit atomic.Uint64 // the lowest bit selects the valid half of log
	log    [2]logState
	_      [4096 - 11*8 - 2*unsafe.Sizeof(logState{})]byte

	carry [2][2][carrySize]byte // by half and stream: the beginning of a line not ended yet
}

// logState is the log writer's position: everything before (frame, inside) is in
// the log file's first offset bytes, but for the carried beginnings of lines.
type logState struct {
	frame    uint64 // position of a frame's header in the spool
	inside   uint64 // bytes of that frame's data consumed
	offset   int64  // size of the log file so far
	rotate   int64  // step of the rotation under way, 0 for none
	lostB    uint64 // bytes not logged because the disk was full, not yet noted in the log
	dropSeen uint64 // of the slot's dropped, how many are in lostB or were noted
	carryLen [2]uint32
	flushed  uint64 // 1: the last incomplete lines were written
}

const slotSize = int(unsafe.Sizeof(slotPage{}))

// mapSlot maps a slot file, making it big enough first.
func mapSlot(fd int) (*slotPage, error) {
	if err := unix.Ftruncate(fd, int64(slotSize)); err != nil {
		return nil, fmt.Errorf("sizing a slot: %w", err)
	}
	b, err := unix.Mmap(fd, 0, slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping a slot: %w", err)
	}
	return (*slotPage)(unsafe.Pointer(&b[0])), nil
}

func (s *slotPage) unmap() {
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(s)), slotSize))
}

// check refuses a slot that no keeper wrote.
func (s *slotPage) check() error {
	if s.magic != slotMagic {
		return fmt.Errorf("slot: %w", keeperproto.ErrMalformed)
	}
	for i := range s.log {
		for _, n := range s.log[i].carryLen {
			if n > carrySize {
				return fmt.Errorf("slot: %w: %d carried bytes", keeperproto.ErrMalformed, n)
			}
		}
	}
	return nil
}

// logCursor is a log writer's state in memory.
type logCursor struct {
	logState
	carry [2][]byte
}

func streamIndex(s spec.Stream) int {
	if s == spec.Stderr {
		return 1
	}
	return 0
}

// load reads the committed half.
func (s *slotPage) load(c *logCursor) {
	half := s.commit.Load() & 1
	c.logState = s.log[half]
	for i := range c.carry {
		c.carry[i] = append(c.carry[i][:0], s.carry[half][i][:c.carryLen[i]]...)
	}
}

// store commits a state: all of it or, if a kill comes first, nothing. It gives false, and has committed
// nothing, when the exec root has no room for the beginning of a line: the page is mapped, but not there.
func (s *slotPage) store(c *logCursor) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	v := s.commit.Load() + 1
	half := v & 1
	for i := range c.carry {
		c.carryLen[i] = uint32(copy(s.carry[half][i][:], c.carry[i]))
	}
	s.log[half] = c.logState
	s.commit.Store(v)
	return true
}
