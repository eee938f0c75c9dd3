package dockerroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// maxDatabase bounds a database, in bytes, attempts the copies that are made until one is not disturbed.
const (
	maxDatabase = 1 << 30
	attempts    = 10
)

// each calls f for every pair in a bucket of a database, which a running engine has locked and may be writing: a copy is
// read, and one that was disturbed is made again. A database that is not there is empty.
func each(path, bucket string, f func(k, v []byte)) (err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	dir, err := os.MkdirTemp("", "gantry-import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "db")
	for range attempts {
		if err = undisturbed(path, copied); err == nil {
			if err = walk(copied, bucket, f); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s cannot be read: %w", path, err)
}

// undisturbed copies a file and fails when it was written meanwhile.
func undisturbed(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	before, err := src.Stat()
	if err != nil {
		return err
	}
	if before.Size() > maxDatabase {
		return fmt.Errorf("is larger than %d bytes", int64(maxDatabase))
	}
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	after, err := src.Stat()
	if err == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = errors.New("is being written all the time")
	}
	return err
}

// walk reads a bucket of a database that nobody else has, after a check of all its pages: the library panics over bad ones.
func walk(path, bucket string, f func(k, v []byte)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("is damaged: %v", p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second, PreLoadFreelist: true})
	if err != nil {
		return err
	}
	defer db.Close()
	type pair struct{ k, v []byte }
	var pairs []pair
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("is damaged: %w", err)
		}
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			pairs = append(pairs, pair{append([]byte(nil), k...), append([]byte(nil), v...)})
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, p := range pairs {
		f(p.k, p.v)
	}
	return nil
}
