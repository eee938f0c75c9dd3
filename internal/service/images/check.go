package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images/recall"
	"github.com/gantry-engine/gantry/internal/spec"
)

// checker finds out whether what images are made of is still what it was, and repairs it.
//
//	each blob:   its file has its digest           ─► or it is dropped, since its layer makes it again; or fetched anew
//	each layer:  its files are those of its archive ─► or mended from its blob, as it is here or fetched anew
type checker struct {
	catalog *catalog
	store   *blobs
	content ContentCheck
	layers  LayerCheck
	sources recall.Sources
}

// check is one run.
type check struct {
	*checker
	repair bool
	tell   func(spec.CheckStep)
	sum    spec.CheckSum

	blobs  map[digest.Digest]part // of all images
	layers map[digest.Digest]part // by diff ID
	order  []digest.Digest        // of layers
}

// part is a blob or a layer, with what is known of it.
type part struct {
	blob   ocispec.Descriptor
	diffID digest.Digest // "" is no layer
	of     []string      // images, by name or ID
	repos  []string      // canonical names of the repositories that may give it
}

// Check looks at every blob and every layer, and says what it finds. With repair it puts right what it can.
func (c *checker) Check(ctx context.Context, repair bool, tell func(spec.CheckStep)) (spec.CheckSum, error) {
	k := &check{checker: c, repair: repair, tell: tell, blobs: map[digest.Digest]part{}, layers: map[digest.Digest]part{}}
	ctx = c.catalog.content.Context(ctx)
	if c.content == nil || c.layers == nil {
		return k.sum, fmt.Errorf("the image store cannot be checked: %w", errdefs.ErrNotImplemented)
	}
	for _, err := range c.content.CheckRecords() {
		k.found(spec.Finding{Kind: "records", ID: "content/meta.db", Problem: "damaged", Detail: err.Error(), Advice: "stop the engine and restore the file from a backup"})
	}
	if err := k.list(ctx); err != nil {
		return k.sum, err
	}
	if err := k.checkBlobs(ctx); err != nil {
		return k.sum, err
	}
	failpoint.Hit("gantryd.fsck-blobs")
	if err := k.checkLayers(ctx); err != nil {
		return k.sum, err
	}
	return k.sum, k.orphans(ctx)
}

func (k *check) found(f spec.Finding) {
	k.sum.Found++
	if f.Repaired {
		k.sum.Repaired++
		f.Advice = ""
	}
	k.tell(spec.CheckStep{Finding: &f})
}

// list collects what all images are made of. An image that cannot be read is told.
func (k *check) list(ctx context.Context) error {
	names, err := k.catalog.content.Images().List(ctx)
	if err != nil {
		return err
	}
	for _, n := range names {
		if k.catalog.byExact(n.Target.Digest) == nil {
			k.found(spec.Finding{Kind: "image", ID: n.Target.Digest.String(), Problem: "damaged", Detail: "its manifest cannot be read", Of: []string{familiar(n.Name)}, Advice: "pull or load it again"})
		}
	}
	for _, e := range k.catalog.all() {
		k.sum.Images++
		of := e.repoTags()
		if len(of) == 0 {
			of = []string{e.target.Digest.String()}
		}
		var repos []string
		for _, n := range e.names {
			if named, err := reference.ParseNormalizedNamed(n); err == nil {
				repos = append(repos, named.Name())
			}
		}
		k.add(k.blobs, e.target.Digest, part{blob: e.target, of: of, repos: repos})
		for _, m := range e.manifests {
			k.add(k.blobs, m.desc.Digest, part{blob: m.desc, of: of, repos: repos})
			k.add(k.blobs, m.config.Digest, part{blob: m.config, of: of, repos: repos})
			for i, l := range m.layers {
				p := part{blob: l, of: of, repos: repos}
				if m.kind == kindImage && i < len(m.image.RootFS.DiffIDs) {
					p.diffID = m.image.RootFS.DiffIDs[i]
				}
				k.add(k.blobs, l.Digest, p)
				if _, ok := k.catalog.layers.Unpacked(m.image.RootFS.DiffIDs); p.diffID != "" && (ok || k.gone(l)) {
					if _, known := k.layers[p.diffID]; !known {
						k.order = append(k.order, p.diffID)
					}
					k.add(k.layers, p.diffID, p)
				}
			}
		}
	}
	return nil
}

// gone tells whether a layer's blob has no file: then the layer has to be here.
func (k *check) gone(l ocispec.Descriptor) bool {
	_, dropped := k.store.recall.dropped(l.Digest)
	return dropped
}

func (k *check) add(to map[digest.Digest]part, d digest.Digest, p part) {
	if d == "" {
		return
	}
	was, ok := to[d]
	if ok {
		p.of, p.repos = append(was.of, p.of...), append(was.repos, p.repos...)
		slices.Sort(p.of)
		slices.Sort(p.repos)
		p.of, p.repos = slices.Compact(p.of), slices.Compact(p.repos)
		if p.diffID == "" {
			p.diffID = was.diffID
		}
	}
	to[d] = p
}

// checkBlobs reads every file of the content store.
func (k *check) checkBlobs(ctx context.Context) error {
	var list []digest.Digest
	err := k.catalog.content.Blobs().Walk(ctx, func(i content.Info) error {
		if _, dropped := k.store.recall.dropped(i.Digest); !dropped {
			list = append(list, i.Digest)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for n, d := range list {
		k.tell(spec.CheckStep{Progress: &spec.CheckProgress{Doing: "blobs", Done: n, Of: len(list)}})
		k.sum.Blobs++
		err := k.content.CheckBlob(ctx, d)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, ierr := k.catalog.content.Blobs().Info(ctx, d); errdefs.IsNotFound(ierr) || k.gone(ocispec.Descriptor{Digest: d}) {
			continue // deleted or dropped meanwhile
		}
		k.blob(ctx, d, err)
	}
	return nil
}

// blob tells of a blob that is not what it was, and repairs it.
func (k *check) blob(ctx context.Context, d digest.Digest, problem error) {
	p := k.blobs[d]
	f := spec.Finding{Kind: "blob", ID: d.String(), Problem: "damaged", Detail: problem.Error(), Of: p.of, Advice: "check again with --repair"}
	if errdefs.IsNotFound(problem) {
		f.Problem = "missing"
	}
	if k.repair {
		err := k.again(ctx, d, p)
		f.Repaired = err == nil
		if err != nil {
			f.Advice = "pull or load the image again: " + err.Error()
		}
	}
	k.found(f)
}

// again makes a blob anew: of its layer, or of what a registry gives.
func (k *check) again(ctx context.Context, d digest.Digest, p part) error {
	if p.diffID == d && k.store.recall.Layers != nil && k.store.recall.Layers.Prove(ctx, d) == nil {
		return k.store.recall.Shelf.Drop(ctx, []recall.Blob{{Digest: d, Recipe: recall.Recipe{DiffID: d, Plain: true}}})
	}
	return k.fetch(ctx, d, p, func(r io.Reader) error { return k.content.RestoreBlob(ctx, d, r) })
}

// fetch gets a blob of one of the repositories that may have it.
func (k *check) fetch(ctx context.Context, d digest.Digest, p part, use func(io.Reader) error) error {
	repos := p.repos
	if k.store.recall.Shelf != nil {
		if r, ok := k.store.recall.dropped(d); ok && r.Source != "" {
			repos = append([]string{r.Source}, repos...)
		} else if s := k.store.recall.Shelf.Source(ctx, d); s != "" {
			repos = append([]string{s}, repos...)
		}
	}
	if len(repos) == 0 || k.sources == nil {
		return fmt.Errorf("no registry is known to have %s: %w", d, errdefs.ErrNotFound)
	}
	var errs []error
	for _, repo := range slices.Compact(repos) {
		r, err := k.sources.Fetch(ctx, repo, p.blob)
		if err == nil {
			err = errors.Join(use(r), r.Close())
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkLayers compares every unpacked layer with its archive.
func (k *check) checkLayers(ctx context.Context) error {
	for n, diffID := range k.order {
		k.tell(spec.CheckStep{Progress: &spec.CheckProgress{Doing: "layers", Done: n, Of: len(k.order)}})
		k.sum.Layers++
		p := k.layers[diffID]
		if _, served := k.catalog.lazy.state(p.blob.Digest); served {
			k.sum.Unverified++ // it is compared when it has come
			continue
		}
		wrong, err := k.checker.layers.Check(ctx, diffID, nil)
		if errdefs.IsUnavailable(err) {
			wrong, err = k.byBlob(ctx, p)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errdefs.IsUnavailable(err):
			k.sum.Unverified++
		case errdefs.IsNotFound(err) && k.catalog.byDigest(p.blob.Digest) == nil && !k.gone(p.blob):
			// deleted meanwhile
		case err != nil || len(wrong) > 0:
			k.layer(ctx, diffID, p, wrong, err)
		}
	}
	return nil
}

// byBlob checks a layer by its blob's file.
func (k *check) byBlob(ctx context.Context, p part) ([]string, error) {
	if k.gone(p.blob) || k.content.CheckBlob(ctx, p.blob.Digest) != nil {
		return nil, fmt.Errorf("there is nothing to compare the layer %s with: %w", p.diffID, errdefs.ErrUnavailable)
	}
	return k.checker.layers.Check(ctx, p.diffID, k.opener(p))
}

// opener reads a layer's archive of its blob's file.
func (k *check) opener(p part) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		ra, err := k.catalog.content.Blobs().ReaderAt(ctx, p.blob)
		if err != nil {
			return nil, err
		}
		z, err := decompress(bound{ctx, content.NewReader(ra)})
		if err != nil {
			return nil, errors.Join(err, ra.Close())
		}
		return layerReader{z, z, ra}, nil
	}
}

// maxWrong bounds how many wrong files of a layer are named.
const maxWrong = 5

// layer tells of a layer whose files are not what they were, and repairs it.
func (k *check) layer(ctx context.Context, diffID digest.Digest, p part, wrong []string, problem error) {
	f := spec.Finding{Kind: "layer", ID: diffID.String(), Problem: "damaged", Of: p.of, Advice: "check again with --repair"}
	switch {
	case errdefs.IsNotFound(problem):
		f.Problem, f.Detail = "missing", problem.Error()
	case problem != nil:
		f.Detail = problem.Error()
	default:
		f.Detail = strings.Join(wrong[:min(maxWrong, len(wrong))], "; ")
		if len(wrong) > maxWrong {
			f.Detail += fmt.Sprintf("; and %d more", len(wrong)-maxWrong)
		}
	}
	if k.repair {
		err := k.mend(ctx, diffID, p, f.Problem == "missing")
		f.Repaired = err == nil
		if err != nil {
			f.Advice = "remove the image and pull or load it again: " + err.Error()
		}
	}
	k.found(f)
}

// mend brings a layer back: from its blob's file, which is fetched if it is not here.
func (k *check) mend(ctx context.Context, diffID digest.Digest, p part, missing bool) error {
	fetched := k.gone(p.blob) || k.content.CheckBlob(ctx, p.blob.Digest) != nil
	if fetched {
		err := k.fetch(ctx, p.blob.Digest, p, func(r io.Reader) error { return k.content.RestoreBlob(ctx, p.blob.Digest, r) })
		if err != nil {
			return err
		}
	}
	if missing {
		return k.unpackAgain(ctx, diffID)
	}
	if err := k.checker.layers.Mend(ctx, diffID, k.opener(p)); err != nil {
		return err
	}
	wrong, err := k.checker.layers.Check(ctx, diffID, nil)
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("it is still damaged: %s: %w", wrong[0], errdefs.ErrDataLoss)
	}
	if errdefs.IsUnavailable(err) {
		err = nil // it was compared with the blob
	}
	if err == nil && fetched {
		for _, e := range k.catalog.all() {
			if e.diffIDs()[diffID] {
				k.catalog.offer(ctx, e)
			}
		}
	}
	return err
}

// unpackAgain unpacks the images that have a layer.
func (k *check) unpackAgain(ctx context.Context, diffID digest.Digest) error {
	for _, e := range k.catalog.all() {
		for _, m := range e.manifests {
			if m.kind != kindImage || !m.available || !slices.Contains(m.image.RootFS.DiffIDs, diffID) {
				continue
			}
			release, err := k.store.unpack(ctx, m, nil)
			if err != nil {
				return err
			}
			release()
		}
		k.catalog.offer(ctx, e)
	}
	return nil
}

// orphans finds what belongs to nothing.
func (k *check) orphans(ctx context.Context) error {
	blobs, err := k.content.Orphans(ctx)
	if err != nil {
		return err
	}
	layers, err := k.checker.layers.Orphans()
	if err != nil {
		return err
	}
	for _, d := range blobs {
		repaired := k.repair && k.content.DiscardOrphan(ctx, d) == nil
		k.found(spec.Finding{Kind: "blob", ID: d.String(), Problem: "orphan", Detail: "no record knows the file", Repaired: repaired, Advice: "check again with --repair: it will be deleted"})
	}
	for _, name := range layers {
		repaired := k.repair && k.checker.layers.Discard(name) == nil
		k.found(spec.Finding{Kind: "layer", ID: name, Problem: "orphan", Detail: "no image's stack knows the directory", Repaired: repaired, Advice: "check again with --repair: it will be deleted"})
	}
	return nil
}
