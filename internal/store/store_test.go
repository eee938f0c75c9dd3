package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

var ctx = context.Background()

func roots(t *testing.T) Options {
	d := t.TempDir()
	return Options{DataRoot: filepath.Join(d, "data"), ExecRoot: filepath.Join(d, "exec")}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func all(b *Bucket) map[string]string {
	m := map[string]string{}
	for k, v := range b.All(ctx) {
		m[k] = string(v)
	}
	return m
}

func TestRecordsSurviveReopening(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	b := s.Bucket("containers")
	must(t, b.Save(ctx, "a", []byte("1")))
	must(t, b.Save(ctx, "b", []byte("2")))
	b.SaveSoon("a", []byte("1.1"))
	b.SaveSoon("c", []byte("3"))
	must(t, b.SaveVolatile(ctx, "v", []byte("4")))
	b.SaveSoon("v", []byte("5"))
	must(t, b.Save(ctx, "gone", []byte("x")))
	b.SaveSoon("gone", []byte("y"))
	must(t, b.Remove(ctx, "gone"))
	must(t, b.Remove(ctx, "never"))
	must(t, s.Bucket("volumes").Save(ctx, "a", []byte("other kind")))
	want := map[string]string{"a": "1.1", "b": "2", "c": "3", "v": "5"}
	if got := all(b); !maps.Equal(got, want) {
		t.Errorf("before closing: %v", got)
	}
	must(t, s.Close())
	if err := b.Save(ctx, "late", nil); err == nil {
		t.Error("saving into a closed store succeeded")
	}

	s = open(t, o)
	defer s.Close()
	if got := all(s.Bucket("containers")); !maps.Equal(got, want) {
		t.Errorf("after reopening: %v", got)
	}
	// A volatile record stays volatile after the daemon's restart, and goes with the boot.
	must(t, s.Bucket("containers").Save(ctx, "v", []byte("6")))
	if n := durable(t, s, "containers"); n["v"] != "" || n["a"] == "" {
		t.Errorf("the database holds %v", n)
	}
}

func durable(t *testing.T, s *Store, bucket string) map[string]string {
	m := map[string]string{}
	must(t, s.w.flush())
	must(t, s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error { m[string(k)] = string(v); return nil })
	}))
	return m
}

func TestVolatileRecordsEndWithTheBoot(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	must(t, s.Bucket("c").SaveVolatile(ctx, "v", []byte("1")))
	must(t, s.Bucket("c").Save(ctx, "d", []byte("2")))
	must(t, s.Close())
	real := bootID
	bootID = func() string { return "another boot" }
	defer func() { bootID = real }()
	s = open(t, o)
	defer s.Close()
	if got := all(s.Bucket("c")); len(got) != 1 || got["d"] != "2" {
		t.Errorf("after a reboot: %v", got)
	}
}

// The order of a SaveSoon and the Save or Remove around it is kept, whatever
// batch they end up in.
func TestOrder(t *testing.T) {
	s := open(t, roots(t))
	defer s.Close()
	b := s.Bucket("c")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			id := strconv.Itoa(i)
			for n := range 20 {
				b.SaveSoon(id, []byte(fmt.Sprint("soon ", n)))
				if err := b.Save(ctx, id, []byte(fmt.Sprint("saved ", n))); err != nil {
					t.Error(err)
				}
			}
			if i%2 == 0 {
				b.SaveSoon(id, []byte("late"))
			}
			if i%5 == 0 {
				if err := b.Remove(ctx, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := all(b)
	for i := range 50 {
		want := "saved 19"
		if i%2 == 0 {
			want = "late"
		}
		if i%5 == 0 {
			want = ""
		}
		if got[strconv.Itoa(i)] != want {
			t.Errorf("%d: %q, want %q", i, got[strconv.Itoa(i)], want)
		}
	}
}

func TestSavesShareCommits(t *testing.T) {
	s := open(t, roots(t))
	defer s.Close()
	b := s.Bucket("c")
	for i := range 500 {
		b.SaveSoon(strconv.Itoa(i), bytes.Repeat([]byte("x"), 100))
	}
	must(t, b.Save(ctx, "last", []byte("x")))
	if txid(s) > 10 {
		t.Errorf("501 records took %d transactions", txid(s))
	}
	if got := all(b); len(got) != 501 {
		t.Errorf("%d records", len(got))
	}
}

func txid(s *Store) int {
	var id int
	_ = s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
	return id
}

func TestTwoDaemonsCannotShareADataRoot(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	_, err := Open(o)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the second daemon: %v; want the first one's PID", err)
	}
	must(t, s.Close())
	must(t, open(t, o).Close())
}

func TestNewerDataRootIsRefused(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(metaBucket)).Put([]byte(schemaKey), []byte("99"))
	}))
	must(t, s.Close())
	before, err := os.ReadFile(filepath.Join(o.DataRoot, File))
	must(t, err)
	if _, err := Open(o); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "99") || !strings.Contains(err.Error(), "newer") {
		t.Fatalf("opening a newer data root: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(o.DataRoot, File))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the refused database was changed")
	}
}

func TestDamageIsFoundAtStart(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"garbage":        func(b []byte) []byte { return bytes.Repeat([]byte("no database"), len(b)/11) },
		"truncated":      func(b []byte) []byte { return b[:3*os.Getpagesize()] },
		"very short":     func([]byte) []byte { return []byte("x") },
		"pages zeroed":   func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b },
		"pages mangled":  func(b []byte) []byte { mangle(b[2*os.Getpagesize():]); return b },
		"both metas bad": func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b },
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			o := roots(t)
			s := open(t, o)
			for i := range 200 {
				s.Bucket("c").SaveSoon(strconv.Itoa(i), bytes.Repeat([]byte("v"), 300))
			}
			must(t, s.Close())
			path := filepath.Join(o.DataRoot, File)
			b, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, hurt(b), 0o600))
			s, err = Open(o)
			if err == nil {
				_ = s.Close()
			}
			if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), path) {
				t.Errorf("opening: %v; want the class data loss and the file's name", err)
			}
		})
	}
}

func mangle(b []byte) {
	for i := range b {
		b[i] ^= 0x5a
	}
}

func TestCheck(t *testing.T) {
	s := open(t, roots(t))
	defer s.Close()
	must(t, s.Bucket("c").Save(ctx, "good", []byte(`{"a":1}`)))
	if found := s.Check(); len(found) != 0 {
		t.Errorf("a sound store: %v", found)
	}
	must(t, s.Bucket("c").Save(ctx, "bad", []byte(`{"a":`)))
	if found := s.Check(); len(found) != 1 || !errdefs.IsDataLoss(found[0]) || !strings.Contains(found[0].Error(), "bad") {
		t.Errorf("a record cut short: %v", found)
	}
}

func TestBadIDs(t *testing.T) {
	s := open(t, roots(t))
	defer s.Close()
	for _, id := range []string{"", ".", "..", "../x", "a/b", "\x00", strings.Repeat("x", 256)} {
		if err := s.Bucket("c").Save(ctx, id, []byte("x")); !errdefs.IsInvalidArgument(err) {
			t.Errorf("saving %q: %v", id, err)
		}
		if err := s.Bucket("c").SaveVolatile(ctx, id, []byte("x")); !errdefs.IsInvalidArgument(err) {
			t.Errorf("saving %q: %v", id, err)
		}
	}
}

func BenchmarkSave(b *testing.B) {
	d := b.TempDir()
	s, err := Open(Options{DataRoot: d, ExecRoot: filepath.Join(d, "x")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rec := bytes.Repeat([]byte("r"), 6000)
	for i := range b.N {
		if err := s.Bucket("c").Save(ctx, strconv.Itoa(i%1000), rec); err != nil {
			b.Fatal(err)
		}
	}
}
