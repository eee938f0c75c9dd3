package keeper_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/logformat/local"
	"github.com/gantry-engine/gantry/internal/spec"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t testing.TB, dir string, size int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+strconv.Itoa(size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

var (
	missing = regexp.MustCompile(`gantry: (\d+) bytes of output are missing here`)
	tooSlow = regexp.MustCompile(`gantry: this client was too slow, \d+ bytes of output are missing here`)
)

// accounted wants every byte of output in the log or in what the log says it lacks.
func accounted(t *testing.T, logged, notes string, printed int) {
	t.Helper()
	lost := 0
	for _, m := range missing.FindAllStringSubmatch(notes, -1) {
		n, _ := strconv.Atoi(m[1])
		lost += n
	}
	if lost == 0 {
		t.Error("the log does not say that anything is missing")
	}
	if len(logged)+lost != printed {
		t.Errorf("%d bytes logged and %d told of as missing are not the %d that were printed", len(logged), lost, printed)
	}
}

// TestLogDiskFull: a full disk neither stops nor ends the process. What finds no room is counted and said in
// the log as soon as there is room.
func TestLogDiskFull(t *testing.T) {
	w := newWorld(t)
	disk := filepath.Join(w.root, "disk")
	smallDisk(t, disk, 256<<10)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := w.launch("full", fmt.Sprintf(`yes 0123456789 | head -n 20000; touch %[1]s/printed; while [ ! -e %[1]s/go ]; do sleep 0.01; done; echo after; exit 5`, w.root))
	l.Log.Path = filepath.Join(disk, "log")
	w.start(l)
	eventually(t, "the process is not held back", func() bool { _, err := os.Stat(filepath.Join(w.root, "printed")); return err == nil })
	time.Sleep(100 * time.Millisecond)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond) // a full disk is tried again after a second
	if err := os.WriteFile(filepath.Join(w.root, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if x := w.exit(); x.Code != 5 {
		t.Errorf("exit = %+v", x)
	}
	out, notes := w.logged(l.Log.Path)
	if !strings.HasSuffix(out, "after\n") {
		t.Errorf("what came when there was room is not logged; the log ends %q", out[max(0, len(out)-40):])
	}
	accounted(t, out, notes, 20000*11+len("after\n"))
}

// TestSpoolFull: when the exec root has no room, those who lag behind lose first; what the log lacks it
// says; the process goes on.
func TestSpoolFull(t *testing.T) {
	t.Run("lines", func(t *testing.T) {
		spoolFull(t, `yes 0123456789 | head -c 8800000; exit 4`, strings.Repeat("0123456789\n", 800000))
	})
	// The beginning of a line is kept beside the spool, where there is no room either.
	t.Run("no line ends", func(t *testing.T) {
		spoolFull(t, `yes 0123456789 | tr '\n' x | head -c 8800000; exit 4`, strings.Repeat("0123456789x", 800000))
	})
}

func spoolFull(t *testing.T, script, want string) {
	w := newWorldOn(t, 2<<20)
	logs := t.TempDir()
	l := w.launch("spool", script)
	l.Log.Path = filepath.Join(logs, "log")
	slow, err := w.d.Follow(w.ctx, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	w.start(l)
	if x := w.exit(); x.Code != 4 {
		t.Errorf("exit = %+v", x)
	}
	out, notes := w.logged(l.Log.Path)
	if notes != "" {
		accounted(t, out, notes, 800000*11)
	} else if out != want {
		t.Errorf("logged %d bytes of %d, and not a word of it", len(out), 800000*11)
	}
	if len(out) < 800000*10 {
		t.Errorf("of %d bytes only %d are logged, and the log's disk is not full", 800000*11, len(out))
	}
	seen, err := readAll(w.ctx, slow)
	if err != nil || !tooSlow.MatchString(seen) {
		t.Errorf("the client that lagged behind saw %d bytes, %v, and no word of what is missing", len(seen), err)
	}
}

// TestSlowClientAmongMany: one of fifty that does not read costs neither the process nor the others anything.
func TestSlowClientAmongMany(t *testing.T) {
	const bytesEach = 6 << 20
	w := newWorld(t)
	l := w.launch("fifty", fmt.Sprintf(`i=0; while [ $i -lt 64 ]; do i=$((i+1)); yes 0123456789abcde | head -c %d; sleep 0.02; done`, bytesEach/64))
	l.Log.Driver = "none"
	slow, err := w.d.Follow(w.ctx, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	got := make(chan error, 49)
	for range 49 {
		r, err := w.d.Follow(w.ctx, l.Key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		go func() {
			n := 0
			for {
				c, err := r.Next(w.ctx)
				if err == io.EOF && n == bytesEach {
					err = nil
				} else if err == nil {
					// It pauses as a client on a network would; what it missed it is told.
					if n += len(c.Data); !tooSlow.Match(c.Data) {
						continue
					}
					err = fmt.Errorf("missed something after %d bytes", n)
				} else {
					err = fmt.Errorf("%d bytes of %d: %w", n, bytesEach, err)
				}
				got <- err
				return
			}
		}()
	}
	w.start(l)
	if x := w.exit(); x.Code != 0 {
		t.Errorf("exit = %+v", x)
	}
	bad := 0
	for range 49 {
		if err := <-got; err != nil {
			bad++
			t.Log(err)
		}
	}
	// The spool keeps 4 MB here for who lags behind; on a busy machine a reader or two may.
	if bad > 5 {
		t.Errorf("%d of the 49 that read did not get everything", bad)
	}
}

// TestOOMFlag: the kernel's count of kills in the cgroup since the launch makes the flag.
func TestOOMFlag(t *testing.T) {
	for _, killed := range []bool{true, false} {
		w := newWorld(t)
		file := filepath.Join(w.root, "memory.oom_control")
		write := func(n int) string { return fmt.Sprintf("oom_kill_disable 0\nunder_oom 0\noom_kill %d\n", n) }
		if err := os.WriteFile(file, []byte(write(3)), 0o600); err != nil {
			t.Fatal(err)
		}
		script := "kill -9 $$"
		if killed {
			script = fmt.Sprintf("printf '%s' > %s; kill -9 $$", strings.ReplaceAll(write(4), "\n", "\\n"), file)
		}
		l := w.launch("oom", script)
		l.Cgroup = spec.Cgroup{Dirs: map[string]string{"memory": w.root}}
		w.start(l)
		if x := w.exit(); x.Code != 137 || x.OOM != killed {
			t.Errorf("killed for memory %v: exit = %+v", killed, x)
		}
	}
}

// peak is the most memory that the keeper has had, in KiB.
func (w *world) peak() int {
	w.t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, []byte("/keeper\x00")) || !bytes.Contains(b, []byte("--exec-root\x00"+w.root)) {
			continue
		}
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "status"))
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
				n, _ := strconv.Atoi(f[1])
				return n
			}
		}
	}
	w.t.Fatal("found no keeper")
	return 0
}

// TestCompressedRotation: files moved on are compressed, in memory that does not depend on their size,
// and hold what was printed.
func TestCompressedRotation(t *testing.T) {
	w := newWorld(t)
	warm := w.launch("warm", `yes 0123456789 | head -n 100000`)
	w.start(warm)
	w.exit()
	before := w.peak()
	l := w.launch("gz", `yes 0123456789 | head -n 1000000; sleep 0.5; exit 3`)
	l.Log.Options = map[string]string{"max-size": "20m", "max-file": "8", "compress": "true"}
	w.start(l)
	if x := w.exit(); x.Code != 3 {
		t.Errorf("exit = %+v", x)
	}
	if after := w.peak(); after > before+16<<10 {
		t.Errorf("the keeper had %d KiB, and %d when it compressed files of 20 MB", before, after)
	}
	eventually(t, "the compression ends", func() bool { left, _ := filepath.Glob(l.Log.Path + ".*.tmp"); return len(left) == 0 })
	lines, compressed := 0, 0
	for n := range 8 {
		path := l.Log.Path
		if n > 0 {
			path += "." + strconv.Itoa(n)
		}
		b, gz := unzipped(t, path)
		lines += bytes.Count(b, []byte("\n"))
		if gz {
			compressed++
		}
	}
	if lines != 1000000 || compressed < 3 {
		t.Errorf("%d lines in all, %d files compressed", lines, compressed)
	}
}

// unzipped reads a log file, compressed or not; nothing if there is none.
func unzipped(t *testing.T, path string) (content []byte, gz bool) {
	t.Helper()
	if b, err := os.ReadFile(path); err == nil {
		return b, false
	}
	f, err := os.Open(path + ".gz")
	if err != nil {
		return nil, false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err == nil {
		content, err = io.ReadAll(z)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content, true
}

// TestLocalDriver: the format of `local` goes through the keeper as json-file does, rotation included.
func TestLocalDriver(t *testing.T) {
	w := newWorld(t)
	l := w.launch("local", strings.Replace(numbered, "exit 5", "sleep 0.3; exit 5", 1))
	l.Log.Driver = "local"
	l.Log.Options = map[string]string{"max-size": "30k", "max-file": "20"}
	w.start(l)
	if x := w.exit(); x.Code != 5 {
		t.Errorf("exit = %+v", x)
	}
	time.Sleep(100 * time.Millisecond)
	var out, errs strings.Builder
	files := 0
	for n := 19; n >= 0; n-- {
		path := l.Log.Path
		if n > 0 {
			path += "." + strconv.Itoa(n)
		}
		b, _ := unzipped(t, path)
		if len(b) > 0 {
			files++
		}
		for len(b) > 0 {
			var r local.Record
			n, err := local.Decode(b, &r)
			if err != nil || n == 0 {
				t.Fatalf("%s: %d bytes are left over: %v", path, len(b), err)
			}
			if r.Stream == spec.Stderr {
				errs.Write(r.Line)
			} else {
				out.Write(r.Line)
			}
			b = b[n:]
		}
	}
	wantNumbered(t, out.String(), errs.String())
	if files < 2 {
		t.Errorf("there are %d files: nothing was rotated", files)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 10 s: %s", what)
}
