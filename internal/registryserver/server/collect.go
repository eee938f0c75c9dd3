package server

import (
	"context"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

func (s *Server) policy() storage.Policy {
	return storage.Policy{Grace: s.cfg.GC.Grace, Untagged: s.cfg.GC.Untagged, Uploads: s.cfg.GC.Uploads}
}

// collect collects garbage, once at a time.
func (s *Server) collect(ctx context.Context, p storage.Policy) (storage.Collected, error) {
	s.collects.Lock()
	defer s.collects.Unlock()
	begun := time.Now()
	c, err := s.store.Collector().Collect(ctx, p)
	if p.DryRun {
		return c, err
	}
	s.metrics.Collected(c)
	if err == nil && len(c.Manifests)+len(c.Blobs)+c.Files+c.Uploads > 0 {
		s.log.Info("garbage was collected", "manifests", len(c.Manifests), "blobs", len(c.Blobs), "files", c.Files, "uploads", c.Uploads, "bytes", c.Bytes, "took", time.Since(begun))
	}
	return c, err
}

// collectAtTimes sweeps what a killed process left, and then collects at the times of the configuration.
func (s *Server) collectAtTimes(ctx context.Context) {
	if n, bytes, err := s.store.Collector().Sweep(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("looking for what a killed registry left", "error", err)
	} else if n > 0 {
		s.log.Info("files were removed that a killed registry left", "files", n, "bytes", bytes)
	}
	if s.cfg.GC.Interval == 0 {
		return
	}
	tick := time.NewTicker(s.cfg.GC.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := s.collect(ctx, s.policy()); err != nil && ctx.Err() == nil {
				s.log.Error("collecting garbage", "error", err)
			}
		}
	}
}
