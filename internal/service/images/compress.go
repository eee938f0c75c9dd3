package images

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdMemory bounds what a zstd stream may make its decoder allocate, in bytes.
const maxZstdMemory = 256 << 20

type compression uint8

const (
	plain compression = iota
	gzipped
	zstandard
	bzipped
	xzed
)

var magics = []struct {
	c     compression
	bytes []byte
}{
	{gzipped, []byte{0x1f, 0x8b, 0x08}},
	{zstandard, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{bzipped, []byte("BZh")},
	{xzed, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

func detect(head []byte) compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.bytes) {
			return m.c
		}
	}
	return plain
}

// decompress gives the content of a stream in any of the compressions known, in-process.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch detect(head) {
	case gzipped:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("reading gzip data: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return z, nil
	case zstandard:
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(maxZstdMemory), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("reading zstd data: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return z.IOReadCloser(), nil
	case bzipped:
		return io.NopCloser(bzip2.NewReader(b)), nil
	case xzed:
		return nil, fmt.Errorf("xz compression is not supported; use gzip or zstd: %w", errdefs.ErrInvalidArgument)
	default:
		return io.NopCloser(b), nil
	}
}

// bound makes reads fail once the context has ended.
type bound struct {
	ctx context.Context
	r   io.Reader
}

func (b bound) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}
