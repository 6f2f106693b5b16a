// Package prometheus replays the metrics, rules and alerts of a bundle behind
// the HTTP APIs that clients know: Prometheus v1, evaluated by Prometheus' own
// PromQL engine over the recorded series, and Alertmanager v2. The capture time
// is the clock: a query without a time is answered as it was then.
//
//	metrics/header.yaml          start and interval of the files that name none
//	metrics/**/*.series          series in the text notation of Prometheus' tests
//	metrics/**/*.om              OpenMetrics text whose samples carry timestamps
//	metrics/targets.json         data of /api/v1/targets; without it, from up
//	metrics/metadata.json        data of /api/v1/metadata, beside that of *.om
//	metrics/buildinfo.json       data of /api/v1/status/buildinfo
//	rules/**/*.yaml              rule files, evaluated at the capture time
//	rules/state.json             data of /api/v1/rules; stands in for evaluation
//	alerts.json                  answer of Alertmanager's /api/v2/alerts
//	alertmanager.json            its status, silences, receivers and groups
//
// A .series file:
//
//	# a comment
//	start -1h                    RFC 3339, or relative to the capture
//	load 1m
//	  up{job="vllm"} 1x50 0x9
//	  vllm:num_requests_waiting{pod="llama-0"} 0+2x30 _x10 stale
package prometheus

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Limits bound what Open reads and what a query may touch, against hostile
// bundles and runaway queries.
type Limits struct {
	// FileBytes of one file.
	FileBytes int64
	// Series and Samples in all.
	Series, Samples int
	// Points one line of series notation may expand to.
	Points int
	// QuerySamples one query may hold in memory.
	QuerySamples int
	// QueryTime is how long one query may take.
	QueryTime time.Duration
}

// DefaultLimits fit a capture of a large cluster. The bound on a query is
// Prometheus' own default (--query.max-samples, --query.timeout).
func DefaultLimits() Limits {
	return Limits{FileBytes: 256 << 20, Series: 500_000, Samples: 50_000_000, Points: 100_000, QuerySamples: 50_000_000, QueryTime: 2 * time.Minute}
}

// Server serves the metrics of one bundle. It is safe for concurrent use.
type Server struct {
	now    time.Time
	limits Limits
	engine *promql.Engine
	parser parser.Parser
	store  *store
	files  []ruleFile
	rec    recorded
	alerts *alertmanager
	mux    *http.ServeMux
	// derive evaluates the rules once, on the first request that needs them:
	// most readers of a bundle ask for no metrics at all.
	derive func() *derived
}

var _ http.Handler = (*Server)(nil)

// Places a bundle holds for this package.
const (
	metricsDir       = "metrics"
	rulesDir         = "rules"
	alertsFile       = "alerts.json"
	alertmanagerFile = "alertmanager.json"
)

// Holds reports what a bundle has of metrics and rules, and of alerts.
func Holds(fsys fs.FS) (metrics, alerts bool) {
	there := func(name string) bool {
		_, err := fs.Stat(fsys, name)
		return err == nil
	}
	return there(metricsDir) || there(rulesDir), there(alertsFile) || there(alertmanagerFile)
}

// Open reads what a bundle has of metrics, rules and alerts. now is the capture
// time. Errors name the file and, where the format has lines, the line.
func Open(fsys fs.FS, now time.Time, l Limits) (*Server, error) {
	p := parser.NewParser(parser.Options{})
	s := &Server{now: now, limits: l, parser: p, store: newStore(l)}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: l.QuerySamples, Timeout: l.QueryTime, Parser: p,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	r := reader{fsys: fsys, now: now, limits: l, parser: p, store: s.store, rec: &s.rec}
	if err := r.read(); err != nil {
		return nil, err
	}
	s.files = r.rules
	var err error
	if s.alerts, err = openAlertmanager(&r); err != nil {
		return nil, err
	}
	s.store.seal()
	s.derive = sync.OnceValue(s.evaluate)
	s.mux = s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Client is an HTTP client whose requests never leave the process: it works
// without a network, even without loopback. BaseURL is where it finds the APIs.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: transport{s}}
}

// BaseURL is the address of Client's server.
const BaseURL = "http://bundle.invalid"

// reader fills a Server from the files of a bundle.
type reader struct {
	fsys   fs.FS
	now    time.Time
	limits Limits
	parser parser.Parser
	store  *store
	rec    *recorded
	rules  []ruleFile
	header header
}

// read goes through metrics/ and rules/.
func (r *reader) read() error {
	if err := r.readHeader(); err != nil {
		return err
	}
	for _, dir := range []string{metricsDir, rulesDir} {
		names, err := r.files(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := r.readFile(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// files lists the files below a directory in a stable order; none when it is
// not there.
func (r *reader) files(dir string) ([]string, error) {
	if _, err := fs.Stat(r.fsys, dir); err != nil {
		return nil, nil //nolint:nilerr // a place that is not there holds nothing
	}
	var out []string
	err := fs.WalkDir(r.fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	slices.Sort(out)
	return out, nil
}

func (r *reader) readFile(name string) error {
	raw, err := r.bytes(name)
	if err != nil {
		return err
	}
	switch top, ext := strings.SplitN(name, "/", 2)[0], path.Ext(name); {
	case name == headerFile:
		return nil
	case ext == ".json":
		return r.rec.read(name, raw)
	case top == rulesDir && (ext == ".yaml" || ext == ".yml"):
		return r.readRules(name, raw)
	case top == metricsDir && ext == ".series":
		return r.readSeries(raw)
	case top == metricsDir && (ext == ".om" || ext == ".openmetrics"):
		return r.readOpenMetrics(raw)
	}
	return fmt.Errorf("no file of metrics or rules; %s takes .series, .om and .json, %s .yaml and .json", metricsDir, rulesDir)
}

// bytes reads a file and refuses one that is longer than the limit.
func (r *reader) bytes(name string) ([]byte, error) {
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, r.limits.FileBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > r.limits.FileBytes {
		return nil, fmt.Errorf("more than %d bytes", r.limits.FileBytes)
	}
	return raw, nil
}

// instant evaluates an expression at a time. The caller closes the query, which
// owns the memory of the result.
func (s *Server) instant(ctx context.Context, q *store, expr string, at time.Time) (*promql.Result, func(), error) {
	query, err := s.engine.NewInstantQuery(ctx, q, nil, expr, at)
	if err != nil {
		return nil, nil, err
	}
	return query.Exec(ctx), query.Close, nil
}
