package tarfs

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// dirTimes are the times of the directories that an archive describes, until all of them are filled.
type dirTimes struct {
	root int
	list []dirTime
}

type dirTime struct {
	path string
	time [2]unix.Timespec
}

// later remembers the times of the directory at full.
func (d *dirTimes) later(full string, times [2]unix.Timespec) {
	d.list = append(d.list, dirTime{full, times})
}

// set gives directories their times last: filling them has changed them.
func (d *dirTimes) set() error {
	for _, t := range d.list {
		fd, err := OpenDirIn(d.root, t.path)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // replaced or deleted by a later entry
		}
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(fd, ".", t.time[:], 0)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("setting the time of /%s: %w", t.path, err)
		}
	}
	return nil
}

// utimes works for symbolic links too, since the descriptor is the link's own.
func utimes(fd int, times [2]unix.Timespec) error {
	if err := unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("setting the time: %w", err)
	}
	return nil
}

func timespec(t time.Time) unix.Timespec {
	const first, last = -1 << 31, 1<<34 - 1 // what ext4 can hold
	return unix.Timespec{Sec: min(max(t.Unix(), first), last), Nsec: int64(t.Nanosecond())}
}
