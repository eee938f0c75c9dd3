package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// flag is what an option sets or clears (mount(8), file-system independent options).
type flag struct {
	bits  uintptr
	clear bool
}

var flags = map[string]flag{
	"defaults": {}, "ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"dirsync": {unix.MS_DIRSYNC, false}, "mand": {unix.MS_MANDLOCK, false}, "nomand": {unix.MS_MANDLOCK, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
}

// mountFlags splits an option string into mount(2)'s flags and the file system's own data.
func mountFlags(o string) (bits uintptr, data string) {
	var rest []string
	for part := range strings.SplitSeq(o, ",") {
		f, known := flags[part]
		switch {
		case part == "":
		case !known:
			rest = append(rest, part)
		case f.clear:
			bits &^= f.bits
		default:
			bits |= f.bits
		}
	}
	return bits, strings.Join(rest, ",")
}

// mount makes a volume's own mount at the folder at.
func mount(ctx context.Context, device, at, typ, o string) error {
	bits, data := mountFlags(o)
	if bits&unix.MS_BIND != 0 {
		if _, err := os.Stat(device); err != nil {
			return err
		}
	}
	data, err := resolveAddr(ctx, typ, data)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, at, typ, bits, data); err != nil {
		return fmt.Errorf("mount %s:%s, data: %s: %w", device, at, data, err)
	}
	// A bind mount takes its other flags by a second call.
	if bits&unix.MS_BIND != 0 && bits&^(unix.MS_BIND|unix.MS_REC) != 0 {
		if err := unix.Mount("", at, "", bits|unix.MS_REMOUNT, ""); err != nil {
			return errors.Join(fmt.Errorf("mount %s:%s: %w", device, at, err), unix.Unmount(at, unix.MNT_DETACH))
		}
	}
	return nil
}

// resolveAddr turns a network file system's addr=name into a number: the kernel resolves no names.
func resolveAddr(ctx context.Context, typ, data string) (string, error) {
	if typ != "nfs" && typ != "nfs4" && typ != "cifs" {
		return data, nil
	}
	parts := strings.Split(data, ",")
	for i, p := range parts {
		host, ok := strings.CutPrefix(p, "addr=")
		if !ok || net.ParseIP(host) != nil {
			continue
		}
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		parts[i] = "addr=" + addrs[0]
	}
	return strings.Join(parts, ","), nil
}
