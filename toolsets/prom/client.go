package prom

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// Bounds of one query.
const (
	// queryTime is how long one query may take, on both sides.
	queryTime = 20 * time.Second
	// maxSeries is how many series one answer may have.
	maxSeries = 20_000
	// maxPoints is how many points one answer may have over all series.
	maxPoints = 1_000_000
	// mostSteps is how many points one series may have; Prometheus allows 11,000.
	mostSteps = 2_000
	// maxWindow is how far a query may reach from end to end.
	maxWindow = 31 * 24 * time.Hour
)

// Found is what a discovery came to.
type Found struct {
	Prometheus, Alertmanager Endpoint
}

// Client reads metrics. It is never nil where it is wired: without a server
// every call fails with kind NotServed. It is safe for concurrent use.
//
// Its two methods Instant and Range are what other toolsets declare for
// themselves; see package metric for the contract.
type Client struct {
	now      func() time.Time
	discover func(context.Context) (Found, error)

	configured Found
	reached    *tool.Kept[reached]
}

// reached are the servers that are used, and how.
type reached struct {
	found Found
	api   v1.API
	am    *http.Client
}

// discovered is how long the address of a server that was found is reused.
const discovered = 5 * time.Minute

// ClientConfig says where metrics are read.
type ClientConfig struct {
	// Found are the configured endpoints; the zero Endpoint leaves one to Discover.
	Found Found
	// Discover looks for what is not configured, at the first use; nil looks
	// nowhere. An error means that it could not look, and is tried again.
	Discover func(context.Context) (Found, error)
	// Now is the clock, the capture time with a bundle; nil means time.Now.
	Now func() time.Time
}

// NewClient makes a Client; it asks nothing yet.
func NewClient(c ClientConfig) *Client {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{now: c.Now, discover: c.Discover, configured: c.Found, reached: tool.NewKept[reached](tool.Keep{Now: c.Now, For: discovered})}
}

// Endpoints gives the servers that are used, discovered if need be.
func (c *Client) Endpoints(ctx context.Context) (Found, error) {
	r, err := c.reach(ctx)
	return r.found, err
}

// reach finds the servers. Where they are holds for a fresh look too (what they say is
// read anew), that there is none does not.
func (c *Client) reach(ctx context.Context) (reached, error) {
	if r, ok := c.reached.Peek(tool.FreshFrom(ctx, time.Time{}), ""); ok && r.found.Prometheus.URL != "" && r.found.Alertmanager.URL != "" {
		return r, nil
	}
	return c.reached.Get(ctx, "", c.look)
}

func (c *Client) look(ctx context.Context) (reached, error) {
	r := reached{found: c.configured}
	if c.discover != nil && (r.found.Prometheus.URL == "" || r.found.Alertmanager.URL == "") {
		f, err := c.discover(ctx)
		if err != nil && r.found.Prometheus.URL == "" && r.found.Alertmanager.URL == "" {
			return reached{}, err
		}
		if r.found.Prometheus.URL == "" {
			r.found.Prometheus = f.Prometheus
		}
		if r.found.Alertmanager.URL == "" {
			r.found.Alertmanager = f.Alertmanager
		}
	}
	if r.found.Prometheus.URL != "" {
		cl, err := api.NewClient(api.Config{Address: r.found.Prometheus.URL, Client: guarded(r.found.Prometheus.Client)})
		if err != nil {
			return reached{}, &tool.Error{Kind: tool.Invalid, User: "Prometheus address " + r.found.Prometheus.URL + " cannot be used", Fix: "mend prometheus.url", Err: err}
		}
		r.api = v1.NewAPI(cl)
	}
	if r.found.Alertmanager.URL != "" {
		r.am = guarded(r.found.Alertmanager.Client)
	}
	return r, nil
}

// absent is the error of a cluster without metrics.
func absent() *tool.Error {
	return &tool.Error{Kind: tool.NotServed, User: "Prometheus not configured", Fix: fixAbsent}
}

const fixAbsent = "set prometheus.url in the configuration"

// prometheus gives the API, or why there is none.
func (c *Client) prometheus(ctx context.Context) (v1.API, error) {
	r, err := c.reach(ctx)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if r.api == nil {
		return nil, absent()
	}
	return r.api, nil
}

// Now is the clock of the metrics.
func (c *Client) Now() time.Time { return c.now() }

// Instant evaluates an expression now. See package metric for the contract.
func (c *Client) Instant(ctx context.Context, expr string) ([]metric.Sample, error) {
	return c.InstantAt(ctx, expr, c.now(), maxSeries)
}

// InstantAt evaluates an expression at a time and gives at most limit series.
func (c *Client) InstantAt(ctx context.Context, expr string, at time.Time, limit int) ([]metric.Sample, error) {
	ans, err := c.query(ctx, expr, at, limit)
	if err != nil {
		return nil, err
	}
	if ans.series != nil {
		return nil, tool.Errorf(tool.Invalid, "the expression gives a range of values for each series; leave out its last [...] or ask for a range")
	}
	return ans.samples, ans.partial()
}

// Range evaluates an expression from one time to another. The step is raised
// until no series has more than 2,000 points; a step of 0 is chosen so that one
// has about 240. See package metric for the contract.
func (c *Client) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]metric.Series, error) {
	ans, err := c.queryRange(ctx, expr, from, to, step, maxSeries)
	if err != nil {
		return nil, err
	}
	return ans.series, ans.partial()
}

// answer is what a query came to.
type answer struct {
	samples []metric.Sample
	series  []metric.Series
	// text is set when the expression gives a string.
	text string
	step time.Duration
	// missing are the server's words on what is not in the answer, notes the
	// engine's on the query.
	missing, notes []string
}

func (a answer) partial() error {
	if len(a.missing) == 0 {
		return nil
	}
	return &metric.Partial{Warnings: a.missing}
}

// query evaluates an expression at one time.
func (c *Client) query(ctx context.Context, expr string, at time.Time, limit int) (answer, error) {
	p, err := c.prometheus(ctx)
	if err != nil {
		return answer{}, err
	}
	if err := bounded(expr); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	v, warnings, infos, err := p.Query(ctx, expr, at, v1.WithTimeout(queryTime), v1.WithLimit(uint64(limit))) //nolint:gosec // small and positive
	if err != nil {
		return answer{}, c.explain(ctx, err)
	}
	a := answer{}
	a.warn(warnings, infos)
	err = a.take(v, limit)
	return a, err
}

// Step is the step that a range is asked with: wanted, but wide enough that a
// series has at most most points, and never under a second.
func Step(from, to time.Time, wanted time.Duration, most int) time.Duration {
	span := to.Sub(from)
	if wanted <= 0 {
		wanted = nice(span / 240)
	}
	if least := span / time.Duration(max(most-1, 1)); wanted < least {
		wanted = nice(least)
	}
	return max(wanted, time.Second)
}

// nice rounds a step up to one that people read easily and that lies on scrape
// intervals.
func nice(d time.Duration) time.Duration {
	for _, s := range []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour} {
		if d <= s {
			return s
		}
	}
	return d.Round(time.Hour) + time.Hour
}

// queryRange evaluates an expression over time.
func (c *Client) queryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration, limit int) (answer, error) {
	p, err := c.prometheus(ctx)
	if err != nil {
		return answer{}, err
	}
	if err := bounded(expr); err != nil {
		return answer{}, err
	}
	if to.Before(from) {
		return answer{}, tool.Errorf(tool.Invalid, "the range ends at %s, before it begins at %s", stamp(to), stamp(from))
	}
	if to.Sub(from) > maxWindow {
		return answer{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the range of %s is longer than %s", short(to.Sub(from)), short(maxWindow)), Fix: "ask for the time around the incident"}
	}
	step = Step(from, to, step, mostSteps)
	// What a series may have at most decides how many series fit.
	limit = min(limit, maxPoints/max(int(to.Sub(from)/step), 1))
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	v, warnings, infos, err := p.QueryRange(ctx, expr, v1.Range{Start: from, End: to, Step: step}, v1.WithTimeout(queryTime), v1.WithLimit(uint64(limit))) //nolint:gosec // small and positive
	if err != nil {
		return answer{}, c.explain(ctx, err)
	}
	a := answer{step: step}
	a.warn(warnings, infos)
	if err := a.take(v, limit); err != nil {
		return answer{}, err
	}
	if a.series == nil {
		a.series = []metric.Series{}
	}
	return a, nil
}

// warn sorts what the server says beside an answer: notes of the engine on the
// query are none on the data.
func (a *answer) warn(warnings v1.Warnings, infos v1.Infos) {
	for _, w := range warnings {
		if strings.Contains(w, "PromQL ") {
			a.notes = append(a.notes, clip(w, 300))
			continue
		}
		a.missing = append(a.missing, clip(w, 300))
	}
	for _, i := range infos {
		a.notes = append(a.notes, clip(i, 300))
	}
}

// take turns the API's values into plain ones, at most limit series: an older
// server does not know the limit.
func (a *answer) take(v model.Value, limit int) error {
	histograms := 0
	switch v := v.(type) {
	case model.Vector:
		a.samples = make([]metric.Sample, 0, min(len(v), limit))
		for _, s := range v {
			if s.Histogram != nil {
				histograms++
				continue
			}
			if len(a.samples) == limit {
				a.missing = append(a.missing, fmt.Sprintf("%d series are left out", len(v)-limit))
				break
			}
			a.samples = append(a.samples, metric.Sample{Labels: plain(s.Metric), Value: float64(s.Value), At: s.Timestamp.Time()})
		}
	case model.Matrix:
		a.series = make([]metric.Series, 0, min(len(v), limit))
		for _, s := range v {
			if len(s.Values) == 0 && len(s.Histograms) > 0 {
				histograms++
				continue
			}
			if len(a.series) == limit {
				a.missing = append(a.missing, fmt.Sprintf("%d series are left out", len(v)-limit))
				break
			}
			one := metric.Series{Labels: plain(s.Metric), Points: make([]metric.Point, len(s.Values))}
			for i, p := range s.Values {
				one.Points[i] = metric.Point{At: p.Timestamp.Time(), Value: float64(p.Value)}
			}
			a.series = append(a.series, one)
		}
	case *model.Scalar:
		a.samples = []metric.Sample{{Labels: map[string]string{}, Value: float64(v.Value), At: v.Timestamp.Time()}}
	case *model.String:
		a.text = clip(v.Value, 1000)
	default:
		return &tool.Error{Kind: tool.Unreachable, User: "Prometheus answers what is not its API: no value", Fix: "check that prometheus.url is the base of the API"}
	}
	if histograms > 0 {
		a.notes = append(a.notes, fmt.Sprintf("%d native histograms are left out; use histogram_quantile, histogram_count or histogram_avg", histograms))
	}
	return nil
}

// maxLabel is how long a label's value may be.
const maxLabel = 512

func plain(m model.Metric) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[clip(string(k), maxLabel)] = clip(string(v), maxLabel)
	}
	return out
}

// explain turns an error into a sentence with the way out.
func (c *Client) explain(ctx context.Context, err error) error {
	return explain(ctx, "Prometheus", err)
}

func explain(ctx context.Context, who string, err error) error {
	if e, ok := errors.AsType[*tool.Error](err); ok {
		return e
	}
	fail := func(kind tool.Kind, user, fix string) error {
		return &tool.Error{Kind: kind, User: user, Fix: fix, Err: err}
	}
	if e, ok := errors.AsType[*statusError](err); ok {
		switch {
		case e.code == http.StatusUnauthorized:
			return fail(tool.Forbidden, who+" does not accept these credentials: "+e.Error(), "give prometheus.bearerTokenFile or headers that it accepts")
		case e.code == http.StatusForbidden:
			return fail(tool.Forbidden, who+" may not be read: "+e.Error(), "grant this identity to read it; through the API server that is get on services/proxy")
		case e.kind == "timeout":
			return fail(tool.TimedOut, who+" gave up on the query: "+e.text, narrower)
		case e.code == http.StatusNotFound:
			return fail(tool.NotServed, who+" does not serve this: "+e.Error(), "check that prometheus.url is the base of the API, with its path prefix")
		default:
			return fail(tool.Unreachable, who+" answers "+e.Error(), "")
		}
	}
	if e, ok := errors.AsType[*v1.Error](err); ok {
		switch e.Type {
		case v1.ErrBadData, v1.ErrExec:
			return fail(tool.Invalid, who+" refuses the query: "+clip(e.Msg, 500), "")
		case v1.ErrTimeout, v1.ErrCanceled:
			return fail(tool.TimedOut, who+" gave up on the query: "+clip(e.Msg, 300), narrower)
		case v1.ErrBadResponse:
			return fail(tool.Unreachable, who+" answers what is not its API or cut off: "+clip(e.Msg, 200), "ask again; check that prometheus.url is the base of the API")
		default:
			return fail(tool.Unreachable, who+" answers "+clip(e.Msg+" "+e.Detail, 300), "")
		}
	}
	switch {
	case errors.Is(err, errTooLarge):
		return fail(tool.Invalid, who+": "+errTooLarge.Error(), narrower)
	case errors.Is(err, errLong):
		return fail(tool.Invalid, errLong.Error(), "shorten it, for example with a regular expression in place of many names")
	case errors.Is(err, errNoAPI):
		return fail(tool.Unreachable, who+" "+err.Error(), "set prometheus.url to the API itself, with the credentials it wants")
	case errors.Is(err, errCut):
		return fail(tool.Unreachable, who+": "+errCut.Error(), "ask again")
	case errors.Is(err, context.Canceled):
		return fail(tool.TimedOut, "the query was given up", "")
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return fail(tool.TimedOut, fmt.Sprintf("%s did not answer within %s", who, short(queryTime)), narrower)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return fail(tool.Unreachable, who+" cannot be reached: "+e.Error(), "")
	}
	return fail(tool.Unreachable, who+" cannot be reached: "+clip(unwrapURL(err).Error(), 300), "")
}

// narrower is the way out of a query that is too much.
const narrower = "narrow it with labels, aggregate (sum by (...), topk(10, ...)) or shorten the time"

// unwrapURL drops the address that net/http puts before an error: it may be
// long, and the reader knows it.
func unwrapURL(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// short writes a duration without its zero parts: 1h30m, 20s, 7d.
func short(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// number writes a value for people: four digits that matter.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return strings.TrimPrefix(fmt.Sprint(v), "+")
	case v == math.Trunc(v) && math.Abs(v) < 1e7:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}
