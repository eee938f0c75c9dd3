package trust

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Find gets the signatures of a digest that its repository has: what refers to it, and what cosign's older form keeps under a
// tag. What is none, or cannot be read, is left out; notes say what. An error is one of asking.
func Find(ctx context.Context, repo Repository, subject digest.Digest) (found []*Proof, notes []string, err error) {
	list, err := repo.Referrers(ctx, subject)
	if err != nil {
		return nil, nil, err
	}
	old, err := repo.Resolve(ctx, strings.ReplaceAll(subject.String(), ":", "-")+".sig")
	switch {
	case err == nil:
		list = append([]ocispec.Descriptor{old}, list...)
	case !errdefs.IsNotFound(err):
		return nil, nil, err
	}
	get := func(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
		return download(ctx, repo, d, limit)
	}
	size, seen := 0, map[digest.Digest]bool{}
	for _, d := range list {
		if !plausible(d) || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if len(seen) > maxProofs || size > maxAllProofs {
			notes = append(notes, fmt.Sprintf("only the first %d of its signatures were looked at", len(seen)-1))
			break
		}
		d.URLs, d.Data = nil, nil
		p, err := readProof(ctx, d, subject, get)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			if d.ArtifactType != "" { // else it never said that it is one
				notes = append(notes, fmt.Sprintf("the signature %s cannot be read: %s", short(d.Digest), clip(err.Error())))
			}
			continue
		}
		size += p.size()
		found = append(found, p)
	}
	return found, notes, nil
}

// download reads a small blob of a registry whole, and verifies it.
func download(ctx context.Context, repo Repository, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("its part has the digest %q", clip(d.Digest.String()))
	}
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", short(d.Digest), d.Size, limit)
	}
	d.URLs = nil
	r, err := repo.Fetch(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != d.Size || digest.FromBytes(b) != d.Digest {
		return nil, fmt.Errorf("%s: the registry sent something else", short(d.Digest))
	}
	return b, nil
}

// short is a digest as messages show it where it does not matter.
func short(d digest.Digest) string { return d.Encoded()[:min(12, len(d.Encoded()))] }
