// Package logopt reads the options of the log drivers (--log-opt) that write
// files: sizes, numbers, compression. It is used where options are checked and where
// they are turned into what the keeper is told.
package logopt

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

// Options of a file-writing log driver, with defaults filled in.
type Options struct {
	MaxSize     int64 // bytes; 0 is without bound
	MaxFile     int
	Compress    bool
	NonBlocking bool
	MaxBuffer   int64
}

var known = map[string][]string{
	"json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"},
	"local":     {"max-size", "max-file", "compress", "mode", "max-buffer-size"},
	"none":      nil,
}

// Drivers are the log drivers' names.
func Drivers() []string { return []string{"json-file", "local", "none"} }

// Parse checks a driver's options. Without a size, json-file rotates at 10 MB and keeps 3
// files, local at 20 MB and 5, compressed. json-file with a size and no number keeps one file.
func Parse(driver string, opts map[string]string) (o Options, err error) {
	names, ok := known[driver]
	if !ok {
		return o, fmt.Errorf("error looking up logging plugin %s: plugin %q not found: %w", driver, driver, errdefs.ErrInvalidArgument)
	}
	if driver == "none" {
		return o, nil
	}
	for k := range opts {
		if !slices.Contains(names, k) {
			return o, fmt.Errorf("unknown log opt '%s' for %s log driver: %w", k, driver, errdefs.ErrInvalidArgument)
		}
	}
	o = Options{MaxSize: 10 * units.MB, MaxFile: 3, MaxBuffer: 1 << 20}
	if driver == "local" {
		o = Options{MaxSize: 20 * units.MB, MaxFile: 5, Compress: true, MaxBuffer: 1 << 20}
	}
	bad := func(name, why string) error {
		return fmt.Errorf("log option %s=%q: %s: %w", name, opts[name], why, errdefs.ErrInvalidArgument)
	}
	if v, ok := opts["max-size"]; ok {
		switch n, err := units.FromHumanSize(v); {
		case v == "-1":
			o.MaxSize = 0
		case err != nil || n <= 0:
			return o, bad("max-size", "a size above 0 is needed, such as 10m, or -1 for no bound")
		default:
			o.MaxSize = n
		}
		if driver == "json-file" {
			o.MaxFile = 1
		}
	}
	if v, ok := opts["max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 10000 {
			return o, bad("max-file", "a number from 1 on is needed")
		}
		if n > 1 && o.MaxSize == 0 {
			return o, bad("max-file", "several files need a max-size")
		}
		o.MaxFile = n
	}
	if v, ok := opts["compress"]; ok {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return o, bad("compress", "true or false is needed")
		}
		if b && (o.MaxFile < 2 || o.MaxSize == 0) {
			return o, bad("compress", "only rotated files are compressed: set max-size, and max-file to 2 or more")
		}
		o.Compress = b
	}
	if o.MaxFile < 2 {
		o.Compress = false
	}
	switch v := opts["mode"]; v {
	case "", "blocking":
	case "non-blocking":
		o.NonBlocking = true
	default:
		return o, bad("mode", "blocking or non-blocking is needed")
	}
	if v, ok := opts["max-buffer-size"]; ok {
		n, err := units.RAMInBytes(v)
		if err != nil || n <= 0 || !o.NonBlocking {
			return o, bad("max-buffer-size", "a size above 0 is needed, with mode=non-blocking")
		}
		o.MaxBuffer = n
	}
	return o, nil
}
