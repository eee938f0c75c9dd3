// Package metrics counts what the registry does, for Prometheus.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Metrics are the counters.
type Metrics struct {
	all       *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	in, out   prometheus.Counter
	flying    prometheus.Gauge
	cache     *prometheus.CounterVec
	hooks     *prometheus.CounterVec
	collected *prometheus.CounterVec
}

// New makes the counters of a registry whose store tells its totals.
func New(totals func() storage.Totals) *Metrics {
	m := &Metrics{all: prometheus.NewRegistry()}
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "gantry_registry", Name: n, Help: help}
	}
	counter := func(n, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(name(n, help)), labels)
	}
	gauge := func(n, help string, value func(storage.Totals) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(name(n, help)), func() float64 { return value(totals()) })
	}
	m.requests = counter("requests_total", "Requests answered.", "route", "method", "status")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "gantry_registry", Name: "request_duration_seconds", Help: "Time from a request's head to the end of its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
	}, []string{"route", "method"})
	m.in = prometheus.NewCounter(prometheus.CounterOpts(name("received_bytes_total", "Bytes of requests' bodies.")))
	m.out = prometheus.NewCounter(prometheus.CounterOpts(name("sent_bytes_total", "Bytes of answers' bodies.")))
	m.flying = prometheus.NewGauge(prometheus.GaugeOpts(name("requests_in_flight", "Requests being answered.")))
	m.cache = counter("cache_total", "What was asked of cached registries, by how it ended: hit, miss, stale, failed.", "kind", "result")
	m.hooks = counter("hook_events_total", "Events for webhooks, by how they ended: sent, failed, dropped.", "result")
	m.collected = counter("collected_total", "What was removed: manifests, blobs, uploads, bytes.", "what")
	m.all.MustRegister(m.requests, m.durations, m.in, m.out, m.flying, m.cache, m.hooks, m.collected,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("storage_bytes", "Bytes of all content, each once.", func(t storage.Totals) float64 { return float64(t.Bytes) }),
		gauge("repositories", "Repositories.", func(t storage.Totals) float64 { return float64(t.Repositories) }),
		gauge("uploads", "Uploads on their way.", func(t storage.Totals) float64 { return float64(t.Uploads) }),
		gauge("upload_bytes", "Bytes of uploads on their way.", func(t storage.Totals) float64 { return float64(t.Coming) }),
	)
	return m
}

// Handler shows the counters.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.all, promhttp.HandlerOpts{})
}

// Begin counts a request that begins.
func (m *Metrics) Begin() { m.flying.Inc() }

// Request counts a request that was answered. in and out are bytes of the bodies.
func (m *Metrics) Request(route, method string, status int, took time.Duration, in, out int64) {
	m.flying.Dec()
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE":
	default:
		method = "other" // strangers cannot make labels
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.durations.WithLabelValues(route, method).Observe(took.Seconds())
	m.in.Add(float64(in))
	m.out.Add(float64(out))
}

// Cache counts an answer of the cache: kind is manifest or blob.
func (m *Metrics) Cache(kind, result string) { m.cache.WithLabelValues(kind, result).Inc() }

// Hook counts events.
func (m *Metrics) Hook(result string) { m.hooks.WithLabelValues(result).Inc() }

// Collected counts what a collection removed.
func (m *Metrics) Collected(c storage.Collected) {
	m.collected.WithLabelValues("manifests").Add(float64(len(c.Manifests)))
	m.collected.WithLabelValues("blobs").Add(float64(len(c.Blobs)))
	m.collected.WithLabelValues("uploads").Add(float64(c.Uploads))
	m.collected.WithLabelValues("bytes").Add(float64(c.Bytes))
}
