package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bio/app/runs"
)

// metrics are what Prometheus is told. Labels are of fixed sets: routes, not
// paths; outcomes, not people.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	series   sync.Map // answer to seriesOf: looking labels up costs more than counting
	presses  *prometheus.CounterVec
	runs     *prometheus.CounterVec
	runTime  *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bio_http_requests_total", Help: "Requests answered.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bio_http_request_duration_seconds", Help: "Time to the end of the answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"route"}),
		presses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bio_presses_total", Help: "Presses of the button by what came of them.",
		}, []string{"outcome"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bio_agent_runs_total", Help: "Agent runs that ended.",
		}, []string{"agent", "status"}),
		runTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bio_agent_run_duration_seconds", Help: "How long agent runs took.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 5, 15, 30, 60, 300},
		}, []string{"agent"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.presses, m.runs, m.runTime,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

type answer struct {
	method, route string
	status        int
}

type seriesOf struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func (m *metrics) answered(method, route string, status int, took time.Duration) {
	a := answer{method, route, status}
	found, ok := m.series.Load(a)
	if !ok {
		found, _ = m.series.LoadOrStore(a, seriesOf{
			m.requests.WithLabelValues(method, route, strconv.Itoa(status)), m.duration.WithLabelValues(route),
		})
	}
	series := found.(seriesOf)
	series.requests.Inc()
	series.duration.Observe(took.Seconds())
}

func (m *metrics) ran(run runs.Life) {
	m.runs.WithLabelValues(run.Agent, run.Status).Inc()
	m.runTime.WithLabelValues(run.Agent).Observe(run.Took.Seconds())
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
