package content

import (
	"context"
	"fmt"
	"maps"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	service "github.com/gantry-engine/gantry/internal/service/images"
)

// records are what is known of blobs and images: names, labels, leases. They know no files.
type records struct {
	bolt   *bolt.DB
	db     *metadata.DB
	leases leases.Manager
}

func (r *records) dropLeases(ctx context.Context) error {
	ctx = r.Context(ctx)
	old, err := r.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("listing leases: %w", err)
	}
	for _, l := range old {
		if err := r.leases.Delete(ctx, l); err != nil {
			return fmt.Errorf("dropping an abandoned lease: %w", err)
		}
	}
	return nil
}

// Context gives ctx the namespace that all calls need.
func (r *records) Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}

// Blobs is the content store. Commit of its writers verifies digest and size.
func (r *records) Blobs() ccontent.Store { return r.db.ContentStore() }

// Images is the store of image names and their targets.
func (r *records) Images() images.Store { return metadata.NewImageStore(r.db) }

// Leases is the lease manager.
func (r *records) Leases() leases.Manager { return r.leases }

// Hold makes a lease: what is written with the returned context stays until
// release, which never fails visibly: a lease left over expires.
func (r *records) Hold(ctx context.Context) (held context.Context, release func(), err error) {
	ctx = r.Context(ctx)
	l, err := r.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseLife))
	if err != nil {
		return nil, nil, fmt.Errorf("taking a lease on content: %w", err)
	}
	return leases.WithLease(ctx, l.ID), func() {
		_ = r.leases.Delete(context.WithoutCancel(ctx), l)
	}, nil
}

// Update runs fn in one transaction: every change of names and labels made with
// the context it gets becomes durable together, or not at all.
func (r *records) Update(ctx context.Context, fn func(context.Context) error) error {
	return r.db.Update(func(tx *bolt.Tx) error {
		return fn(boltutil.WithTransaction(r.Context(ctx), tx))
	})
}

// Close closes the records. The store cannot be used afterwards.
func (r *records) Close() error { return r.db.Close() }

// register makes the record of a blob whose file is in its place.
func (r *records) register(ctx context.Context, a service.Arrival) error {
	if a.Source != "" {
		a.Labels = maps.Clone(a.Labels)
		if a.Labels == nil {
			a.Labels = map[string]string{}
		}
		a.Labels[sourceLabel] = a.Source
	}
	blobs := r.Blobs()
	w, err := blobs.Writer(ctx, ccontent.WithRef("adopt-"+a.Digest.String()), ccontent.WithDescriptor(ocispec.Descriptor{Digest: a.Digest, Size: a.Size}))
	switch {
	case err == nil:
		defer w.Close()
		err = w.Commit(ctx, a.Size, a.Digest, ccontent.WithLabels(a.Labels))
		if !errdefs.IsAlreadyExists(err) {
			return err
		}
	case !errdefs.IsAlreadyExists(err):
		return err
	}
	if len(a.Labels) == 0 {
		return nil
	}
	var fields []string
	for k := range a.Labels {
		fields = append(fields, "labels."+k)
	}
	_, err = blobs.Update(ctx, ccontent.Info{Digest: a.Digest, Labels: a.Labels}, fields...)
	return err
}

// CheckRecords implements images.ContentCheck: it walks the database of names and labels.
func (r *records) CheckRecords() (errs []error) {
	_ = r.bolt.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return nil
	})
	return errs
}
