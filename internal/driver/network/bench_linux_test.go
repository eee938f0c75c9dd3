package network

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
)

func BenchmarkAttach(b *testing.B) {
	for name, size := range map[string]int{"warm": 512, "cold": 0} {
		b.Run(name, func(b *testing.B) {
			cfg := testConfig()
			cfg.PoolSize = size
			e := start(b, cfg)
			defer e.Close(ctx)
			i := 0
			for b.Loop() {
				if size > 0 {
					b.StopTimer()
					time.Sleep(3 * time.Millisecond)
					b.StartTimer()
				}
				id := fmt.Sprint(i)
				i++
				sb, err := e.Attach(ctx, spec.SandboxRequest{Container: id})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				_ = e.Release(ctx, id, sb)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkBurst is 500 sandboxes with a published port each, 8 at a time, from cold
// pools, all released again. An operation is one Attach and its Release.
func BenchmarkBurst(b *testing.B) {
	const all, atOnce = 500, 8
	for name, size := range map[string]int{"cold": 0, "default": 8} {
		for _, ports := range [][]spec.Port{nil, {{Proto: "tcp", ContainerPort: 80}}} {
			b.Run(fmt.Sprintf("%s-%dports", name, len(ports)), func(b *testing.B) {
				cfg := testConfig()
				cfg.PoolSize = size
				e := start(b, cfg)
				defer e.Close(ctx)
				var release, worst time.Duration
				var mu sync.Mutex
				rounds := 0
				for b.Loop() {
					rounds++
					jobs := make(chan int)
					var workers sync.WaitGroup
					for range atOnce {
						workers.Go(func() {
							for i := range jobs {
								id := fmt.Sprint(i)
								sb, err := e.Attach(ctx, spec.SandboxRequest{Container: id, Ports: ports})
								if err != nil {
									b.Error(err)
									return
								}
								from := time.Now()
								if err := e.Release(ctx, id, sb); err != nil {
									b.Error(err)
								}
								took := time.Since(from)
								mu.Lock()
								release, worst = release+took, max(worst, took)
								mu.Unlock()
							}
						})
					}
					for i := range all {
						jobs <- i
					}
					close(jobs)
					workers.Wait()
				}
				n := float64(rounds * all)
				b.ReportMetric(b.Elapsed().Seconds()*1e3/n, "ms/container")
				b.ReportMetric(release.Seconds()*1e3/n, "ms/release")
				b.ReportMetric(worst.Seconds()*1e3, "ms/release-worst")
			})
		}
	}
}

// BenchmarkPublished is one sandbox with a port at a time, one every 20 ms.
func BenchmarkPublished(b *testing.B) {
	e := start(b, testConfig())
	defer e.Close(ctx)
	var release time.Duration
	for b.Loop() {
		b.StopTimer()
		time.Sleep(20 * time.Millisecond)
		b.StartTimer()
		sb, err := e.Attach(ctx, spec.SandboxRequest{Container: "c", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80}}})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		from := time.Now()
		if err := e.Release(ctx, "c", sb); err != nil {
			b.Fatal(err)
		}
		release += time.Since(from)
		b.StartTimer()
	}
	b.ReportMetric(release.Seconds()*1e3/float64(b.N), "ms/release")
}
