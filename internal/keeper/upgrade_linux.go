package keeper

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// upgrade replaces this process by a new binary: what it needs is on the exec root, and with the anchor, just as after a
// crash; and its descriptors go along with it, should the anchor die at that instant.
func (k *Keeper) upgrade(path string) error {
	failpoint.Hit("keeper.upgrade-asked")
	fd, err := k.anchor.prepareExec()
	if err != nil {
		return fmt.Errorf("there is no anchor to hold the descriptors: %w", err)
	}
	k.log.printf("upgrade: executing %s", path)
	do := k.cfg.Exec
	if do == nil {
		do = unix.Exec
	}
	k.cfg.Spawner.Close()
	time.Sleep(time.Millisecond) // the answer leaves
	h, err := handOver(int(k.lock.Fd()), k.table, k.loop)
	if err != nil {
		unix.CloseOnExec(fd)
		return fmt.Errorf("handing the descriptors over: %w", err)
	}
	failpoint.Hit("keeper.upgrade-exec")
	err = do(path, upgradeArgs(fd), append(os.Environ(), h.env()))
	h.close()
	unix.CloseOnExec(fd)
	return err
}

// upgradeArgs are this process's arguments with the anchor's socket's number in place.
func upgradeArgs(fd int) []string {
	args := []string{os.Args[0]}
	for i := 1; i < len(os.Args); i++ {
		if os.Args[i] == "--anchor-fd" {
			i++
			continue
		}
		args = append(args, os.Args[i])
	}
	return append(args, "--anchor-fd", fmt.Sprint(fd))
}
