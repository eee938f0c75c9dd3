//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MemFile gives a sealed copy in memory of the executable at path: nobody, not
// even root in a container that finds it as /proc/self/exe, can write to it
// (CVE-2019-5736). Where the kernel forbids executable memory files it gives the file itself,
// opened for reading from a private clone of its mount that is read-only.
func MemFile(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gantry-init: %w", err)
	}
	fd, err := unix.MemfdCreate("gantry-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("gantry-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return readOnlyFile(src, path)
	}
	defer src.Close()
	mem := os.NewFile(uintptr(fd), "gantry-init")
	if _, err := io.Copy(mem, src); err != nil {
		mem.Close()
		return nil, fmt.Errorf("copying gantry-init to memory: %w", err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		mem.Close()
		return nil, fmt.Errorf("sealing gantry-init in memory: %w", err)
	}
	return mem, nil
}

// readOnlyFile reopens the file through a detached read-only mount, so that no
// descriptor for writing can be had through it.
func readOnlyFile(src *os.File, path string) (*os.File, error) {
	tree, err := unix.OpenTree(int(src.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	src.Close()
	if err != nil {
		return nil, fmt.Errorf("gantry-init %s: neither a memory file nor a private mount can be had: %w", path, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, fmt.Errorf("gantry-init %s: making a private mount read-only: %w", path, err)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", tree), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("gantry-init %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), "gantry-init"), nil
}
