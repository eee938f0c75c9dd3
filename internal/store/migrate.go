package store

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

const (
	metaBucket = "gantry" // reserved: about the database itself
	schemaKey  = "schema"
)

// migrations bring a database from schema i to i+1. Append only: a step that
// has been released is never changed.
var migrations = []func(*bbolt.Tx) error{
	// 0 → 1: an empty file becomes a store; buckets are made as kinds appear.
	func(*bbolt.Tx) error { return nil },
}

// Schema is the newest schema that this version knows.
var Schema = len(migrations)

func (s *Store) migrate() error {
	have := 0
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil {
			return nil
		}
		have, err = strconv.Atoi(string(b.Get([]byte(schemaKey))))
		return err
	})
	if err != nil {
		return damaged(s.path, fmt.Errorf("its schema version is unreadable: %w", err))
	}
	if have > Schema {
		return fmt.Errorf("the data root's database %s has schema %d, written by a newer version of Gantry; this version knows schemas up to %d: "+
			"run the newer version, or give another --data-root: %w", s.path, have, Schema, errdefs.ErrFailedPrecondition)
	}
	if have == Schema {
		return nil
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for v := have; v < Schema; v++ {
			if err := migrations[v](tx); err != nil {
				return fmt.Errorf("migrating from schema %d to %d: %w", v, v+1, err)
			}
		}
		b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(schemaKey), []byte(strconv.Itoa(Schema)))
	})
	if err != nil {
		return explain("preparing", s.path, err)
	}
	return nil
}
