package keeper

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// launchPatience bounds how long a list waits for another client's launches.
const launchPatience = 10 * time.Second

// launching notes that a launch of c is under way, until the returned function is called.
func (k *Keeper) launching(c *client) (done func()) {
	over := make(chan struct{})
	k.cmu.Lock()
	k.launches[over] = c
	k.cmu.Unlock()
	return func() {
		k.cmu.Lock()
		delete(k.launches, over)
		k.cmu.Unlock()
		close(over)
	}
}

// waitForLaunches waits for what other clients launch. A gantryd that was killed while it launched
// has a successor, who asks what there is: the answer must tell of this process too.
func (k *Keeper) waitForLaunches(c *client) {
	k.cmu.Lock()
	var others []chan struct{}
	for over, by := range k.launches {
		if by != c {
			others = append(others, over)
		}
	}
	k.cmu.Unlock()
	if len(others) == 0 {
		return
	}
	t := time.NewTimer(launchPatience)
	defer t.Stop()
	for _, over := range others {
		select {
		case <-over:
		case <-t.C:
			return
		}
	}
}

// hungUp tells whether the other side has closed the connection. What it said before may still be
// unread.
func hungUp(uc *net.UnixConn) bool {
	raw, err := uc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, perr := unix.Poll(p, 0)
		gone = perr == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
	})
	return err != nil || gone
}
