package netproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is a connection's two ends: ours, and the bare socket of the other side.
func pair(t *testing.T) (*Conn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return NewConn(ends[0]), ends[1]
}

// files are n descriptors that can be told from each other.
func files(t *testing.T, n int) (out []*os.File) {
	t.Helper()
	for i := range n {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		out = append(out, f)
	}
	return out
}

func content(t *testing.T, f *os.File) byte {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	return b[0]
}

// Lines and descriptors arrive in order, however the kernel cuts and joins them.
func TestDescriptorsGoWithTheirLines(t *testing.T) {
	in, socket := pair(t)
	out := NewConn(socket)
	fs := files(t, 6)
	done := make(chan error, 1)
	go func() {
		big := strings.Repeat("x", 300_000)
		done <- errors.Join(
			out.Send(Request{Op: "a"}),
			out.Send(Request{Op: "b", FDs: 2}, fs[0], fs[1]),
			out.Send(Request{Op: "c", Owner: big}),
			out.Send(Request{Op: "d", FDs: 1, Owner: big}, fs[2]),
			out.Send(Request{Op: "e", FDs: 2}, fs[3], fs[4]),
			out.Send(Request{Op: "f", FDs: 1}, fs[5]),
		)
	}()
	var ops string
	var got []byte
	for range 6 {
		line, err := in.Receive()
		if err != nil {
			t.Fatal(err)
		}
		var req Request
		if err := json.Unmarshal(line, &req); err != nil {
			t.Fatal(err)
		}
		ops += req.Op
		all, err := in.Files(req.FDs)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			got = append(got, content(t, f))
		}
	}
	if err := <-done; err != nil || ops != "abcdef" || !bytes.Equal(got, []byte{0, 1, 2, 3, 4, 5}) {
		t.Errorf("%s %v %v", ops, got, err)
	}
	_ = out.Close()
	if _, err := in.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestMalformedStreams(t *testing.T) {
	c, socket := pair(t)
	go func(to *net.UnixConn) { _, _ = to.Write(bytes.Repeat([]byte("x"), MaxLine+1)) }(socket)
	if _, err := c.Receive(); !errors.Is(err, ErrMalformed) {
		t.Errorf("an endless line: %v", err)
	}
	c, socket = pair(t)
	if _, err := socket.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
	if _, err := c.Receive(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a line: %v", err)
	}
	c, socket = pair(t)
	if _, err := socket.Write([]byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, -1, MaxFDs + 1} {
		if _, err := c.Files(n); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d descriptors that did not come: %v", n, err)
		}
	}
	// descriptors that nobody announces are bounded, and closed
	c, socket = pair(t)
	before := open(t)
	fs := files(t, 1)
	rights := unix.UnixRights(int(fs[0].Fd()))
	go func(to *net.UnixConn) {
		for range unclaimed + 1 {
			if _, _, err := to.WriteMsgUnix([]byte("{}\n"), rights, nil); err != nil {
				return
			}
		}
	}(socket)
	var err error
	for range unclaimed + 1 {
		if _, err = c.Receive(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("descriptors that no line announces: %v", err)
	}
	if now := open(t); now > before+1 {
		t.Errorf("%d descriptors, %d before", now, before)
	}
	if err := c.Send(Request{Owner: strings.Repeat("x", MaxLine)}); err == nil {
		t.Error("a giant was sent")
	}
	if err := c.Send(Request{}, fs[0], fs[0], fs[0]); err == nil {
		t.Error("too many descriptors were sent")
	}
}

func open(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
