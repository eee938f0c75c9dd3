package server

import (
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves /metrics for Prometheus, under the names that Docker's
// dashboards look for. It implements Observer.
type Metrics struct {
	reg      *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics makes the collection; states counts containers by state at each scrape.
func NewMetrics(version, commit string, states func() map[string]int) *Metrics {
	m := &Metrics{
		reg: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gantry_api_requests_total", Help: "API requests answered.",
		}, []string{"method", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gantry_api_request_duration_seconds", Help: "Time to answer API requests; streams count until their end.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"method", "route"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "engine_daemon_engine_info", Help: "The version and platform of the engine.",
	}, []string{"version", "commit", "architecture", "os"})
	info.WithLabelValues(version, commit, runtime.GOARCH, runtime.GOOS).Set(1)
	cpus := prometheus.NewGauge(prometheus.GaugeOpts{Name: "engine_daemon_engine_cpus_cpus", Help: "The number of CPUs of the host."})
	cpus.Set(float64(runtime.NumCPU()))
	m.reg.MustRegister(m.requests, m.seconds, info, cpus, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		stateCollector{prometheus.NewDesc("engine_daemon_container_states_containers", "The count of containers in various states.", []string{"state"}, nil), states})
	return m
}

// Observe implements Observer.
func (m *Metrics) Observe(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(method, route).Observe(took.Seconds())
}

// Handler serves /metrics alone.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{}))
	return mux
}

// Serve answers scrapes until l is closed.
func (m *Metrics) Serve(l net.Listener) error {
	s := &http.Server{Handler: m.Handler(), ReadHeaderTimeout: 10 * time.Second}
	return s.Serve(l)
}

type stateCollector struct {
	desc   *prometheus.Desc
	states func() map[string]int
}

func (c stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.states()
	for _, s := range []string{"running", "paused", "stopped"} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n[s]), s)
	}
}
