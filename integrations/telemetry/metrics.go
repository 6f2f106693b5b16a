package telemetry

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// Metrics are what a Prometheus scrapes of a server.
type Metrics struct {
	registry *prometheus.Registry
	turns    *prometheus.CounterVec
	wait     *prometheus.HistogramVec
	took     *prometheus.HistogramVec
	tokens   *prometheus.CounterVec
	cost     *prometheus.CounterVec
	denied   *prometheus.CounterVec
}

// Standing says how a server stands.
type Standing interface {
	Status(ctx context.Context) (session.Status, error)
}

// scrapeTimeout bounds what is asked of the store at a scrape.
const scrapeTimeout = 5 * time.Second

// NewMetrics makes the metrics of one process. status is asked at each scrape.
func NewMetrics(version string, status func() Standing) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	seconds := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}}, []string{"source"})
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		turns:    counter("gumshoe_turns_total", "Questions that came to an end here, by where they were asked, how they ended and what the diagnosis was.", "source", "state", "outcome"),
		wait:     seconds("gumshoe_turn_wait_seconds", "How long a question waited in the queue."),
		took:     seconds("gumshoe_turn_seconds", "How long a question was worked on."),
		tokens:   counter("gumshoe_model_tokens_total", "Tokens that models were given and gave, as their providers counted them.", "source", "direction"),
		cost:     counter("gumshoe_model_cost_dollars_total", "What models cost in US dollars, by the prices of the configuration.", "source"),
		denied:   counter("gumshoe_http_denied_total", "Requests that were refused entrance, by status.", "code"),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gumshoe_build_info", Help: "One, with the version of this build.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.turns, m.wait, m.took, m.tokens, m.cost, m.denied, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), standing{status})
	return m
}

// Turn counts a question that came to an end.
func (m *Metrics) Turn(t session.Turn) {
	m.turns.WithLabelValues(t.Source, string(t.State), string(t.Outcome)).Inc()
	m.wait.WithLabelValues(t.Source).Observe(t.Begun.Sub(t.Asked).Seconds())
	m.took.WithLabelValues(t.Source).Observe(t.Usage.Seconds)
	m.tokens.WithLabelValues(t.Source, "input").Add(float64(t.Usage.InputTokens))
	m.tokens.WithLabelValues(t.Source, "output").Add(float64(t.Usage.OutputTokens))
	m.cost.WithLabelValues(t.Source).Add(t.Usage.Cost)
}

// Denied counts a request that was refused entrance.
func (m *Metrics) Denied(status int) { m.denied.WithLabelValues(strconv.Itoa(status)).Inc() }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 2 * scrapeTimeout})
}

// standing asks how the server stands when it is scraped.
type standing struct{ status func() Standing }

var _ prometheus.Collector = standing{}

func (standing) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func (s standing) turns() *prometheus.Desc {
	return s.desc("gumshoe_turns", "Questions in the store that wait or are worked on, over all replicas.", "state")
}

func (s standing) pending() *prometheus.Desc {
	return s.desc("gumshoe_plans_pending", "Plans that wait for somebody's word.")
}

func (s standing) up() *prometheus.Desc {
	return s.desc("gumshoe_store_up", "Whether the store answered at this scrape.")
}

// Describe implements prometheus.Collector.
func (s standing) Describe(c chan<- *prometheus.Desc) {
	c <- s.turns()
	c <- s.pending()
	c <- s.up()
}

// Collect implements prometheus.Collector.
func (s standing) Collect(c chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), scrapeTimeout)
	defer stop()
	st, err := s.status().Status(ctx)
	up := 1.0
	if err != nil {
		up = 0
	} else {
		c <- prometheus.MustNewConstMetric(s.turns(), prometheus.GaugeValue, float64(st.Queued), "queued")
		c <- prometheus.MustNewConstMetric(s.turns(), prometheus.GaugeValue, float64(st.Running), "running")
		c <- prometheus.MustNewConstMetric(s.pending(), prometheus.GaugeValue, float64(st.Pending))
	}
	c <- prometheus.MustNewConstMetric(s.up(), prometheus.GaugeValue, up)
}
