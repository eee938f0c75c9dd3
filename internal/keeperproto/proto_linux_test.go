package keeperproto

import (
	"io"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestRoundTrip(t *testing.T) {
	l := Launch{
		Key: spec.ProcessKey{Container: "c", Exec: "e"}, Program: []byte{1, 2}, Facts: []byte{3}, Terminal: true, Stdin: true,
		Log:     Log{Driver: LogJSON, Path: "/x", MaxSize: 5, MaxFile: 2, Compress: true, Attrs: []byte("{}")},
		OOMFile: "/o", Join: []Join{{Kind: "net", Key: spec.ProcessKey{Container: "d"}}}, Watches: []uint32{7, 8},
	}
	if got, err := DecodeLaunch(l.Encode()); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v", got, err)
	}
	x := Exited{Gen: 9, PID: 4, Exit: spec.Exit{Key: l.Key, Code: 137, Signal: 9, Time: time.Unix(0, 123), OOM: true}}
	if got, err := DecodeExited(x.Encode()); err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := DecodeExited(append(x.Encode(), 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
	if _, err := DecodeExited(x.Encode()[:10]); err == nil {
		t.Error("half a message was accepted")
	}
}

func TestConnCarriesDescriptors(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return NewConn(c.(*net.UnixConn))
	}
	a, b := conn(pair[0]), conn(pair[1])
	r, w, _ := os.Pipe()
	defer r.Close()
	defer w.Close()
	big := make([]byte, 1<<20)
	go func() {
		_ = a.Send(Message{Type: TypeLaunch, ID: 5, Payload: big, FDs: []int{int(w.Fd())}})
		_ = a.Send(Message{Type: TypeList, ID: 6})
	}()
	m, err := b.Receive()
	if err != nil || m.Type != TypeLaunch || m.ID != 5 || len(m.Payload) != len(big) || len(m.FDs) != 1 {
		t.Fatalf("%v %d %d bytes, %v, %v", m.Type, m.ID, len(m.Payload), m.FDs, err)
	}
	if _, err := unix.Write(m.FDs[0], []byte("x")); err != nil {
		t.Error(err)
	}
	m.CloseFDs()
	if m, err = b.Receive(); err != nil || m.ID != 6 || len(m.FDs) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestProcName(t *testing.T) {
	for _, k := range []spec.ProcessKey{{}, {Container: ".."}, {Container: "a/b"}, {Container: "a", Exec: "."}, {Container: "a.b"}} {
		if n, err := ProcName(k); err == nil {
			t.Errorf("%v became %q", k, n)
		}
	}
	k := spec.ProcessKey{Container: "abc", Exec: "def"}
	if n, err := ProcName(k); err != nil || KeyOf(n) != k {
		t.Errorf("%q, %v", n, err)
	}
}

// FuzzDecode: nothing that comes makes a decoder fail otherwise than with an error.
func FuzzDecode(f *testing.F) {
	f.Add(Launch{Key: spec.ProcessKey{Container: "c"}, Watches: []uint32{1}}.Encode())
	f.Add(Exited{}.Encode())
	f.Add(List{Entries: []Entry{{}}}.Encode())
	f.Add(Hold{Name: "x", Kinds: []FDKind{1, 2}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := DecodeLaunch(b); err == nil {
			if again, err := DecodeLaunch(l.Encode()); err != nil || !reflect.DeepEqual(l, again) {
				t.Errorf("%+v became %+v, %v", l, again, err)
			}
		}
		_, _ = DecodeHello(b)
		_, _ = DecodeHelloReply(b)
		_, _ = DecodeLaunchReply(b)
		_, _ = DecodeKeyRequest(b)
		_, _ = DecodeWatch(b)
		_, _ = DecodeWatchReply(b)
		_, _ = DecodeAck(b)
		_, _ = DecodeList(b)
		_, _ = DecodeExited(b)
		_, _ = DecodeError(b)
		_, _ = DecodeHold(b)
		_, _ = DecodeOrphan(b)
		_, _ = ParseFrame(b)
		_, _ = ParseSlot(b)
		_, _, _, _, _ = parseHeader(b)
	})
}

// TestPacketsOfTheDead: who dies with something unread resets the connection, but what it has said before counts.
func TestPacketsOfTheDead(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for i := range byte(3) {
		if err := SendPacket(pair[0], Message{Type: TypeHold, Payload: []byte{i}, FDs: []int{int(null.Fd())}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := SendPacket(pair[1], Message{Type: TypeEcho}); err != nil { // which it does not live to read
		t.Fatal(err)
	}
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	for i := range byte(3) {
		m, err := ReceivePacket(pair[1])
		if err != nil || m.Type != TypeHold || len(m.Payload) != 1 || m.Payload[0] != i || len(m.FDs) != 1 {
			t.Fatalf("packet %d: %+v, %v", i, m, err)
		}
		m.CloseFDs()
	}
	for range 2 {
		if _, err := ReceivePacket(pair[1]); err != io.EOF {
			t.Errorf("after all it had said: %v", err)
		}
	}
}
