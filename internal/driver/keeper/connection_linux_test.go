package keeper

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/keeperproto"
)

// TestKeeperThatDiesAfterItsGreeting: the link may break before it is the connection's, which must notice it all the same.
func TestKeeperThatDiesAfterItsGreeting(t *testing.T) {
	root, err := os.MkdirTemp("/dev/shm", "gk")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Mkdir(filepath.Join(root, keeperproto.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(root, keeperproto.Dir, keeperproto.SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const deaths = 300
	go func() {
		for n := 0; ; n++ {
			socket, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			serve := func() {
				defer socket.Close()
				conn := keeperproto.NewConn(socket)
				for {
					m, err := conn.Receive()
					if err != nil {
						return
					}
					var answer []byte
					switch m.Type {
					case keeperproto.TypeHello:
						answer = keeperproto.HelloReply{PID: int32(os.Getpid())}.Encode()
					case keeperproto.TypeList:
						answer = keeperproto.List{}.Encode()
					}
					if conn.Send(keeperproto.Message{Type: keeperproto.TypeOK, ID: m.ID, Payload: answer}) != nil || n < deaths {
						return
					}
				}
			}
			if n < deaths {
				serve()
			} else {
				go serve()
			}
		}
	}()
	d, err := New(Config{ExecRoot: root, KeeperPath: "/nowhere", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	answered := make(chan error, 1)
	go func() { _, err := d.Alive(context.Background()); answered <- err }()
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the connection kept a link that had broken")
	}
}
