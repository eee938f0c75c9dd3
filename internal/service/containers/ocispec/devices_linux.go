package ocispec

import (
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// deviceAt describes the device node at path; ok is false for anything else.
func deviceAt(path string) (d specs.LinuxDevice, ok bool, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return d, false, err
	}
	st, isStat := fi.Sys().(*syscall.Stat_t)
	if !isStat || fi.Mode()&os.ModeDevice == 0 {
		return d, false, nil
	}
	mode := fi.Mode().Perm()
	d = specs.LinuxDevice{Path: path, Type: "b", FileMode: &mode, UID: &st.Uid, GID: &st.Gid}
	if fi.Mode()&os.ModeCharDevice != 0 {
		d.Type = "c"
	}
	// The kernel's 64-bit device number (include/linux/kdev_t.h, new_encode_dev and the C library's gnu_dev_major).
	rdev := uint64(st.Rdev)
	d.Major = int64(rdev>>8&0xfff | rdev>>32&^0xfff)
	d.Minor = int64(rdev&0xff | rdev>>12&^0xff&0xffffffff)
	return d, true, nil
}
