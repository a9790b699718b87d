package server

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"bio/app/runs"
)

// Upper bounds of buckets, in seconds: of answers, and of agents' runs.
var (
	answerTimes = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30}
	runTimes    = []float64{.001, .005, .025, .1, .5, 1, 5, 15, 30, 60, 300}
)

// metrics are what Prometheus is told. Labels are of fixed sets: routes, not
// paths; outcomes, not people.
type metrics struct {
	set    *vm.Set
	series sync.Map // answer to seriesOf: writing a name costs more than counting
}

func newMetrics() *metrics { return &metrics{set: vm.NewSet()} }

type answer struct {
	method, route string
	status        int
}

type seriesOf struct {
	requests *vm.Counter
	duration *vm.PrometheusHistogram
}

func (m *metrics) answered(method, route string, status int, took time.Duration) {
	a := answer{method, route, status}
	found, ok := m.series.Load(a)
	if !ok {
		found, _ = m.series.LoadOrStore(a, seriesOf{
			m.set.GetOrCreateCounter(fmt.Sprintf(`bio_http_requests_total{method=%q,route=%q,status="%d"}`, method, route, status)),
			m.set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf(`bio_http_request_duration_seconds{route=%q}`, route), answerTimes),
		})
	}
	series := found.(seriesOf)
	series.requests.Inc()
	series.duration.Update(took.Seconds())
}

func (m *metrics) pressed(outcome string) {
	m.set.GetOrCreateCounter(fmt.Sprintf(`bio_presses_total{outcome=%q}`, outcome)).Inc()
}

func (m *metrics) ran(run runs.Life) {
	m.set.GetOrCreateCounter(fmt.Sprintf(`bio_agent_runs_total{agent=%q,status=%q}`, run.Agent, run.Status)).Inc()
	if run.Started {
		m.set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf(`bio_agent_run_duration_seconds{agent=%q}`, run.Agent), runTimes).
			Update(run.Took.Seconds())
	}
}

// watch has the runs of the agents counted when somebody looks.
func (m *metrics) watch(all *runs.Runs, agents []string) {
	gauge := func(agent, state string, of func() int) {
		m.set.NewGauge(fmt.Sprintf(`bio_agent_runs{agent=%q,state=%q}`, agent, state), func() float64 { return float64(of()) })
	}
	for _, agent := range agents {
		gauge(agent, "working", func() int { working, _ := all.Count(agent); return working })
		gauge(agent, "waiting", func() int { _, waiting := all.Count(agent); return waiting })
	}
}

func (m *metrics) handler() http.Handler {
	vm.ExposeMetadata(true) // the TYPE of each
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		m.set.WritePrometheus(w)
		vm.WriteProcessMetrics(w)
	})
	return mux
}
