package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// hostStopping tells whether systemd is taking the whole machine down. Containers that are kept when
// only the daemon ends would then be killed without their stop signal, at the very end of the
// shutdown, and hold it up as long as systemd waits for them.
func hostStopping(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := dbus.NewSystemdConnectionContext(ctx) // PID 1's own socket: the bus may be down already
	if err != nil {
		return false
	}
	defer conn.Close()
	state, err := conn.GetManagerProperty("SystemState")
	return err == nil && strings.Trim(state, `"`) == "stopping"
}
