package lazy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// session is one FUSE mount. The kernel keeps it for as long as a mount of it is left, or an overlay stands on one, and as
// somebody has its descriptor: gantryd has a copy, so that it outlives this process.
type session struct {
	device *os.File // /dev/fuse
	note   []byte   // what the kernel said when the session began, for who takes it over
	server *fuse.Server
}

// options are those of all sessions: a session is taken over with the same ones it began with.
func options() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name: "gantry-lazy", MaxBackground: 64, MaxWrite: 128 << 10, EnableSymlinkCaching: true,
		Logger: log.New(io.Discard, "", 0), // what a reader has to know it is answered; nobody reads what is written here
	}
}

// mount begins a session and mounts it at dir.
func mount(dir string, f *files) (*session, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("FUSE is not there (is the kernel module fuse loaded?): %w", &os.PathError{Op: "open", Path: "/dev/fuse", Err: err})
	}
	s := &session{device: os.NewFile(uintptr(fd), "/dev/fuse")}
	data := fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions,max_read=%d", fd, 128<<10)
	if err := unix.Mount("gantry-lazy", dir, "fuse.gantry-lazy", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, data); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting a layer at %s by FUSE: %w", dir, err), s.device.Close())
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) // the library closes its own
	if err == nil {
		s.server, err = fuse.NewServer(f, fmt.Sprintf("/dev/fd/%d", own), options())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning a FUSE session: %w", err), unix.Unmount(dir, unix.MNT_DETACH), s.device.Close())
	}
	var note bytes.Buffer
	if err := binary.Write(&note, binary.NativeEndian, s.server.KernelSettings()); err != nil {
		return nil, errors.Join(err, s.device.Close())
	}
	s.note = note.Bytes()
	return s, nil
}

// notifyResend asks the kernel to send again what was read by a process that is gone, and not answered
// (FUSE_NOTIFY_RESEND of include/uapi/linux/fuse.h, Linux 6.9).
const notifyResend = 7

// takeOver goes on with a session that another process began. The kernel says once only, at a session's beginning, what it
// can do (FUSE_INIT), and the library wants to hear it: it is told by a socket in the device's place, which is exchanged
// for the device before the first request is read.
func takeOver(device *os.File, note []byte, f *files) (*session, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	kernel := os.NewFile(uintptr(pair[1]), "socket")
	defer kernel.Close()
	if _, err := kernel.Write(note); err != nil {
		return nil, errors.Join(err, unix.Close(pair[0]))
	}
	s := &session{device: device, note: note}
	if s.server, err = fuse.NewServer(f, fmt.Sprintf("/dev/fd/%d", pair[0]), options()); err != nil {
		return nil, fmt.Errorf("taking over a FUSE session: %w", err)
	}
	if err := unix.Dup3(int(device.Fd()), pair[0], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("taking over a FUSE session: %w", err)
	}
	return s, s.resend()
}

// resend has the kernel repeat the requests that nobody answered. An older kernel cannot: those who wait could wait for
// ever, so the session is to end, and their reads with it.
func (s *session) resend() error {
	var head [16]byte // fuse_out_header: length, error (the notification's code), unique (0)
	binary.NativeEndian.PutUint32(head[0:], uint32(len(head)))
	binary.NativeEndian.PutUint32(head[4:], notifyResend)
	if _, err := unix.Write(int(s.device.Fd()), head[:]); err != nil {
		return fmt.Errorf("a FUSE session cannot be taken over by another process (Linux 6.9 and newer can): %w", err)
	}
	return nil
}

// serve answers until nobody needs the session any more.
func (s *session) serve() {
	s.server.Serve()
	_ = s.device.Close()
}
