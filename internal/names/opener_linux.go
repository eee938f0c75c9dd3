package names

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// opener makes sockets in the namespaces of containers, on a thread that goes there and comes back.
type opener struct{ orders chan order }

// order asks for a socket where another one is.
type order struct {
	beside       int // descriptor of a socket in the namespace, open until the reply
	domain, kind int
	reply        chan<- opened
}

type opened struct {
	fd  int
	err error
}

func newOpener() *opener {
	o := &opener{orders: make(chan order)}
	go o.run()
	return o
}

func (o *opener) close() { close(o.orders) }

// open makes a non-blocking socket in the namespace of another one.
func (o *opener) open(beside, domain, kind int) (int, error) {
	reply := make(chan opened, 1)
	o.orders <- order{beside: beside, domain: domain, kind: kind, reply: reply}
	done := <-reply
	return done.fd, done.err
}

func (o *opener) run() {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread() // it never left
		for x := range o.orders {
			x.reply <- opened{err: fmt.Errorf("opening the host's network namespace: %w", err)}
		}
		return
	}
	defer home.Close()
	for x := range o.orders {
		fd, err := visit(x)
		back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		x.reply <- opened{fd, err}
		if back != nil { // the thread ends with this goroutine, as it is locked to it; another one takes over
			go o.run()
			return
		}
	}
	runtime.UnlockOSThread()
}

func visit(x order) (int, error) {
	ns, err := unix.IoctlRetInt(x.beside, unix.SIOCGSKNS)
	if err != nil {
		return -1, fmt.Errorf("finding a container's network namespace: %w", err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("entering a container's network namespace: %w", err)
	}
	return socket(x.domain, x.kind)
}

func socket(domain, kind int) (int, error) {
	return unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}
