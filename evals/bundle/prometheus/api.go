package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// The kinds of failure of the API, in its own words, with their status codes:
// https://prometheus.io/docs/prometheus/latest/querying/api/
const (
	badData     = "bad_data"
	execution   = "execution"
	canceled    = "canceled"
	timeout     = "timeout"
	internal    = "internal"
	unavailable = "unavailable"
	notFound    = "not_found"
)

func statusOf(kind string) int {
	switch kind {
	case badData:
		return http.StatusBadRequest
	case execution:
		return http.StatusUnprocessableEntity
	case canceled:
		return 499 // the client has gone; Prometheus borrows the code from nginx
	case timeout, unavailable:
		return http.StatusServiceUnavailable
	case notFound:
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// failure is an error of the API.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.kind + ": " + f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

func badParam(name string, err error) error {
	return &failure{badData, fmt.Errorf("invalid parameter %q: %w", name, err)}
}

// ran classifies an error of the engine.
func ran(err error) error {
	kind := execution
	if _, ok := errors.AsType[promql.ErrQueryCanceled](err); ok || errors.Is(err, context.Canceled) {
		kind = canceled
	} else if _, ok := errors.AsType[promql.ErrQueryTimeout](err); ok || errors.Is(err, context.DeadlineExceeded) {
		kind = timeout
	} else if _, ok := errors.AsType[promql.ErrStorage](err); ok {
		kind = internal
	}
	return &failure{kind, err}
}

// response is the envelope of every answer.
type response struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Infos     []string `json:"infos,omitempty"`
}

// result is what an endpoint answers.
type result struct {
	data  any
	notes annotations.Annotations
	// query the notes are about.
	query string
	// done frees what data refers to, once it is written.
	done func()
}

type endpoint func(r *http.Request) (result, error)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	both := func(p string, e endpoint) {
		mux.Handle("GET /api/v1/"+p, wrap(e))
		mux.Handle("POST /api/v1/"+p, wrap(e))
	}
	get := func(p string, e endpoint) { mux.Handle("GET /api/v1/"+p, wrap(e)) }
	both("query", s.query)
	both("query_range", s.queryRange)
	both("series", s.series)
	both("labels", s.labelNames)
	both("format_query", s.format)
	get("label/{name}/values", s.labelValues)
	get("metadata", s.metadata)
	get("rules", s.rules)
	get("alerts", s.activeAlerts)
	get("targets", s.targets)
	get("status/buildinfo", s.buildInfo)
	get("status/runtimeinfo", s.runtimeInfo)
	alive := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("Prometheus Server is Ready.\n"))
	}
	mux.HandleFunc("GET /-/ready", alive)
	mux.HandleFunc("GET /-/healthy", alive)
	s.alerts.routes(mux)
	return mux
}

func wrap(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, err := e(r)
		if res.done != nil {
			defer res.done()
		}
		code, body := http.StatusOK, response{Status: "success", Data: res.data}
		if err != nil {
			f, ok := errors.AsType[*failure](err)
			if !ok {
				f = &failure{internal, err}
			}
			code, body = statusOf(f.kind), response{Status: "error", ErrorType: f.kind, Error: f.err.Error()}
		} else {
			body.Warnings, body.Infos = res.notes.AsStrings(res.query, 10, 10)
		}
		raw, err := json.Marshal(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(raw)
	})
}

// queryData is the data of a query.
type queryData struct {
	Type   parser.ValueType `json:"resultType"`
	Result parser.Value     `json:"result"`
}

func (s *Server) query(r *http.Request) (result, error) {
	at, err := timeParam(r, "time", s.now)
	if err != nil {
		return result{}, err
	}
	return s.run(r, func(ctx context.Context, st *store, expr string, o promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, st, o, expr, at)
	})
}

// resolution is how many points a series of one answer may have.
const resolution = 11_000

func (s *Server) queryRange(r *http.Request) (result, error) {
	var at [2]time.Time
	for i, name := range []string{"start", "end"} {
		t, err := moment(r.FormValue(name))
		if err != nil {
			return result{}, badParam(name, err)
		}
		at[i] = t
	}
	if at[1].Before(at[0]) {
		return result{}, badParam("end", errors.New("end timestamp must not be before start time"))
	}
	step, err := span(r.FormValue("step"))
	if err != nil {
		return result{}, badParam("step", err)
	}
	if step <= 0 {
		return result{}, badParam("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if at[1].Sub(at[0])/step > resolution {
		return result{}, &failure{badData, errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")}
	}
	return s.run(r, func(ctx context.Context, st *store, expr string, o promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, st, o, expr, at[0], at[1], step)
	})
}

// run evaluates a query with the parameters all queries share.
func (s *Server) run(r *http.Request, build func(context.Context, *store, string, promql.QueryOpts) (promql.Query, error)) (result, error) {
	most, err := limitParam(r)
	if err != nil {
		return result{}, err
	}
	ctx := r.Context()
	if v := r.FormValue("timeout"); v != "" {
		d, err := span(v)
		if err != nil {
			return result{}, badParam("timeout", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	var lookback time.Duration
	if v := r.FormValue("lookback_delta"); v != "" {
		if lookback, err = span(v); err != nil {
			return result{}, &failure{badData, fmt.Errorf("error parsing lookback delta duration: %w", err)}
		}
	}
	expr := r.FormValue("query")
	q, err := build(ctx, s.derive().store, expr, promql.NewPrometheusQueryOpts(false, lookback, nil))
	if err != nil {
		return result{}, badParam("query", err)
	}
	res := q.Exec(ctx)
	if res.Err != nil {
		return result{done: q.Close}, ran(res.Err)
	}
	out := result{data: queryData{res.Value.Type(), res.Value}, notes: res.Warnings, query: expr, done: q.Close}
	cut := false
	switch v := res.Value.(type) {
	case promql.Vector:
		if cut = most > 0 && len(v) > most; cut {
			out.data = queryData{v.Type(), v[:most]}
		}
	case promql.Matrix:
		if cut = most > 0 && len(v) > most; cut {
			out.data = queryData{v.Type(), v[:most]}
		}
	}
	if cut {
		out.notes = out.notes.Add(errTruncated())
	}
	return out, nil
}

func errTruncated() error { return errors.New("results truncated due to limit") }

func (s *Server) format(r *http.Request) (result, error) {
	expr, err := s.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return result{}, badParam("query", err)
	}
	return result{data: expr.Pretty(0)}, nil
}

// lookup is what the endpoints that list series and labels share.
type lookup struct {
	querier storage.Querier
	sets    [][]*labels.Matcher
	most    int
}

func (s *Server) lookup(r *http.Request) (lookup, error) {
	most, err := limitParam(r)
	if err != nil {
		return lookup{}, err
	}
	from, err := timeParam(r, "start", time.UnixMilli(-1<<53))
	if err != nil {
		return lookup{}, err
	}
	to, err := timeParam(r, "end", time.UnixMilli(1<<53))
	if err != nil {
		return lookup{}, err
	}
	if err := r.ParseForm(); err != nil {
		return lookup{}, &failure{badData, fmt.Errorf("error parsing form values: %w", err)}
	}
	sets, err := s.matchers(r.Form["match[]"])
	if err != nil {
		return lookup{}, err
	}
	q, err := s.derive().store.Querier(from.UnixMilli(), to.UnixMilli())
	return lookup{q, sets, most}, err
}

// matchers parses selectors. One that selects everything is refused.
func (s *Server) matchers(in []string) ([][]*labels.Matcher, error) {
	sets, err := s.parser.ParseMetricSelectors(in)
	if err != nil {
		return nil, badParam("match[]", err)
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, badParam("match[]", errors.New("match[] must contain at least one non-empty matcher"))
		}
	}
	return sets, nil
}

func (s *Server) series(r *http.Request) (result, error) {
	l, err := s.lookup(r)
	if err != nil {
		return result{}, err
	}
	if len(l.sets) == 0 {
		return result{}, &failure{badData, errors.New("no match[] parameter provided")}
	}
	seen := map[string]bool{}
	out := []labels.Labels{}
	for _, set := range l.sets {
		found := l.querier.Select(r.Context(), true, nil, set...)
		for found.Next() {
			ls := found.At().Labels()
			if key := string(ls.Bytes(nil)); !seen[key] {
				seen[key] = true
				out = append(out, ls)
			}
		}
		if err := found.Err(); err != nil {
			return result{}, ran(err)
		}
	}
	return bounded(out, l.most), nil
}

// bounded cuts a list at the limit the client gave, and says so.
func bounded[T any](list []T, most int) result {
	if most > 0 && len(list) > most {
		return result{data: list[:most], notes: annotations.New().Add(errTruncated())}
	}
	return result{data: list}
}

func (s *Server) labelNames(r *http.Request) (result, error) {
	return s.names(r, func(ctx context.Context, q storage.Querier, ms []*labels.Matcher) ([]string, error) {
		out, _, err := q.LabelNames(ctx, nil, ms...)
		return out, err
	})
}

func (s *Server) labelValues(r *http.Request) (result, error) {
	name := r.PathValue("name")
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return result{}, &failure{badData, fmt.Errorf("invalid label name: %q", name)}
	}
	return s.names(r, func(ctx context.Context, q storage.Querier, ms []*labels.Matcher) ([]string, error) {
		out, _, err := q.LabelValues(ctx, name, nil, ms...)
		return out, err
	})
}

// names joins what the selectors of a request give, sorted.
func (s *Server) names(r *http.Request, of func(context.Context, storage.Querier, []*labels.Matcher) ([]string, error)) (result, error) {
	l, err := s.lookup(r)
	if err != nil {
		return result{}, err
	}
	if len(l.sets) == 0 {
		l.sets = [][]*labels.Matcher{nil}
	}
	all := map[string]bool{}
	for _, set := range l.sets {
		got, err := of(r.Context(), l.querier, set)
		if err != nil {
			return result{}, ran(err)
		}
		for _, v := range got {
			all[v] = true
		}
	}
	out := slices.AppendSeq(make([]string, 0, len(all)), maps.Keys(all))
	slices.Sort(out)
	return bounded(out, l.most), nil
}

func (s *Server) buildInfo(*http.Request) (result, error) {
	if len(s.rec.build) > 0 {
		return result{data: s.rec.build}, nil
	}
	return result{data: map[string]string{"version": "3.0.0-bundle", "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version()}}, nil
}

func (s *Server) runtimeInfo(*http.Request) (result, error) {
	return result{data: map[string]any{"startTime": s.now, "serverTime": s.now, "reloadConfigSuccess": true, "lastConfigTime": s.now, "storageRetention": ""}}, nil
}

func limitParam(r *http.Request) (int, error) {
	v := r.FormValue("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err == nil && n < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, badParam("limit", err)
	}
	return n, nil
}

func timeParam(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	v := r.FormValue(name)
	if v == "" {
		return otherwise, nil
	}
	t, err := moment(v)
	if err != nil {
		return time.Time{}, badParam(name, err)
	}
	return t, nil
}

// moment reads a Unix time in seconds or an RFC 3339 time.
func moment(v string) (time.Time, error) {
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		if ms := f * 1000; ms > -1<<53 && ms < 1<<53 {
			return time.UnixMilli(int64(ms)).UTC(), nil
		}
		return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", v)
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", v)
	}
	return t, nil
}

// span reads seconds or a duration such as 1m.
func span(v string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		if ns := f * float64(time.Second); ns > -(1<<63) && ns < 1<<63 {
			return time.Duration(ns), nil
		}
		return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", v)
	}
	d, err := model.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("cannot parse %q to a valid duration", v)
	}
	return time.Duration(d), nil
}
