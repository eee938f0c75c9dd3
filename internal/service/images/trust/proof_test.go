package trust

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestNewProofRefusesWhatIsNoBundle(t *testing.T) {
	for _, s := range []string{"", "x", "{}", `{"mediaType":"text/plain"}`, `{"mediaType":"` + BundleType + `","x":"` + strings.Repeat("x", maxPart) + `"}`} {
		if _, err := NewProof(ocispec.Descriptor{}, []byte(s), time.Now()); err == nil {
			t.Errorf("%.50q was taken", s)
		}
	}
}

// Whatever manifest a registry gives: a proof that refers to the image, and is not large, or an error.
func FuzzReadProof(f *testing.F) {
	image := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 5}
	p, err := NewProof(image, []byte(`{"mediaType":"`+BundleType+`"}`), time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Body)
	f.Add([]byte(`{"layers":[{"mediaType":"` + simpleType + `","annotations":{"` + simpleSig + `":"x"}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
		got, err := readProof(t.Context(), d, image.Digest, func(_ context.Context, x ocispec.Descriptor, _ int64) ([]byte, error) {
			if x.Digest == d.Digest {
				return body, nil
			}
			return nil, errdefs.ErrNotFound
		})
		if err == nil && (len(got.Signatures()) == 0 || len(got.Parts) > maxParts+1) {
			t.Errorf("%q is a proof: %+v", body, got)
		}
	})
}
