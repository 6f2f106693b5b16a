package prom_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

func TestClientReads(t *testing.T) {
	t.Parallel()
	c := clientOf(t, recording(t, "metrics/a.series", `
up{job="a"} 1x60
up{job="b"} 1x20 stale
temp{gpu="0"} 60x58 NaN NaN
temp{gpu="1"} 1x59 Inf
`))
	got, err := c.Instant(t.Context(), "up")
	if err != nil {
		t.Fatal(err)
	}
	want := []metric.Sample{{Labels: map[string]string{"__name__": "up", "job": "a"}, Value: 1, At: now}}
	if diff := cmp.Diff(want, got, cmp.Transformer("utc", time.Time.UTC)); diff != "" {
		t.Errorf("a series that ended is not there: %s", diff)
	}
	got, err = c.Instant(t.Context(), "temp")
	if err != nil || len(got) != 2 || !math.IsNaN(got[0].Value) || !math.IsInf(got[1].Value, 1) {
		t.Errorf("%+v %v", got, err)
	}
	series, err := c.Range(t.Context(), `up`, now.Add(-time.Hour), now, 10*time.Minute)
	if err != nil || len(series) != 2 {
		t.Fatal(series, err)
	}
	if n := len(series[1].Points); n != 3 {
		t.Errorf("a vanished series has %d points", n)
	}
	if got, err := c.Instant(t.Context(), `nothing{job="x"}`); err != nil || len(got) != 0 {
		t.Errorf("no match: %v %v", got, err)
	}
	if got, err := c.Instant(t.Context(), `scalar(up{job="a"}) * 2`); err != nil || len(got) != 1 || got[0].Value != 2 {
		t.Errorf("scalar: %v %v", got, err)
	}
	if _, err := c.Instant(t.Context(), `up[5m]`); tool.KindOf(err) != tool.Invalid {
		t.Errorf("a range where a value is wanted: %v", err)
	}
	if _, err := c.Instant(t.Context(), `sum(`); tool.KindOf(err) != tool.Invalid || !strings.Contains(err.Error(), "parse error") {
		t.Errorf("the server's words are lost: %v", err)
	}
	if _, err := c.Instant(t.Context(), `up * on () group_left () temp`); tool.KindOf(err) != tool.Invalid || !strings.Contains(err.Error(), "many-to-many") {
		t.Errorf("the engine's words are lost: %v", err)
	}
}

func TestClientWithoutAServer(t *testing.T) {
	t.Parallel()
	c := prom.NewClient(prom.ClientConfig{})
	if _, err := c.Instant(t.Context(), "up"); tool.KindOf(err) != tool.NotServed || !strings.Contains(tool.UserText(err), "Prometheus not configured") {
		t.Error(err)
	}
	if _, err := c.Range(t.Context(), "up", now, now, 0); tool.KindOf(err) != tool.NotServed {
		t.Error(err)
	}
	calls := 0
	c = prom.NewClient(prom.ClientConfig{Discover: func(context.Context) (prom.Found, error) {
		if calls++; calls == 1 {
			return prom.Found{}, errors.New("services is forbidden")
		}
		return prom.Found{}, nil
	}})
	if _, err := c.Instant(t.Context(), "up"); tool.KindOf(err) != tool.Unreachable || !strings.Contains(err.Error(), "services is forbidden") {
		t.Errorf("a discovery that could not look: %v", err)
	}
	if _, err := c.Instant(t.Context(), "up"); tool.KindOf(err) != tool.NotServed || calls != 2 {
		t.Errorf("a failed discovery is tried again: %v, %d calls", err, calls)
	}
	if _, err := c.Instant(t.Context(), "up"); tool.KindOf(err) != tool.NotServed || calls != 2 {
		t.Errorf("a discovery that found nothing stands: %v, %d calls", err, calls)
	}
}

// TestBadServers puts servers of every bad kind before the client: each is an
// error of a kind with a sentence, none a hang or a claim.
func TestBadServers(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Scope-Orgid") != "" || r.Header.Get("Authorization") != "" {
			t.Error("credentials were carried to another host")
		}
		_, _ = io.WriteString(w, "<html>Sign in</html>")
	}))
	t.Cleanup(other.Close)
	for name, tc := range map[string]struct {
		serve http.HandlerFunc
		kind  tool.Kind
		says  string
	}{
		"503": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
		}, tool.Unreachable, "HTTP 503: no healthy upstream"},
		"502 page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html><body>nginx</body></html>")
		}, tool.Unreachable, "HTTP 502: Bad Gateway"},
		"web page": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<!doctype html><title>Grafana</title>")
		}, tool.Unreachable, "a web page"},
		"login": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/login", http.StatusFound)
		}, tool.Unreachable, "redirects to"},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[{"metr`)
		}, tool.Unreachable, "cut off"},
		"not JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }, tool.Unreachable, "not its API"},
		"other JSON": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"kind":"Status","status":"Failure"}`)
		}, tool.Unreachable, "not its API"},
		"empty": {func(http.ResponseWriter, *http.Request) {}, tool.Unreachable, "cut off"},
		"401":   {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Unauthorized", http.StatusUnauthorized) }, tool.Forbidden, "does not accept these credentials"},
		"403": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","message":"services \"prometheus\" is forbidden: User \"x\" cannot get resource \"services/proxy\""}`)
		}, tool.Forbidden, "services/proxy"},
		"404": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, tool.NotServed, "path prefix"},
		"query limit": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}`)
		}, tool.Invalid, "too many samples"},
		"timeout": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`)
		}, tool.TimedOut, "gave up on the query"},
		"cut in half": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"status":"success"`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, tool.Unreachable, "cut off"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(`{"metric":{"__name__":"up","pod":"p"},"value":[1,"1"]},`, 20_000))
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[`)
			for range 60 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, `{"metric":{},"value":[1,"1"]}]}}`)
		}, tool.Invalid, "topk"},
		"reset": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, tool.Unreachable, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, tc.serve)
			for what, ask := range map[string]func() error{
				"instant": func() error { _, err := c.Instant(t.Context(), "up"); return err },
				"range":   func() error { _, err := c.Range(t.Context(), "up", now.Add(-time.Hour), now, time.Minute); return err },
			} {
				err := ask()
				if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.says) {
					t.Errorf("%s: kind %s, %q; want %s with %q", what, tool.KindOf(err), tool.UserText(err), tc.kind, tc.says)
				}
			}
		})
	}
}

func TestSlowServerEndsWithTheContext(t *testing.T) {
	t.Parallel()
	started := make(chan struct{}, 8)
	c := clientOf(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := c.Instant(ctx, "up"); tool.KindOf(err) != tool.TimedOut {
		t.Errorf("%v", err)
	}
}

func TestPartialAnswersSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","warnings":["store thanos-store-0 is away","PromQL warning: mix of kinds"],"infos":["PromQL info: metric might not be a counter"],"data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1772622000,"1"]}]}}`)
	}))
	got, err := c.Instant(t.Context(), "up")
	p, ok := errors.AsType[*metric.Partial](err)
	if !ok || len(got) != 1 || len(p.Warnings) != 1 || !strings.Contains(p.Error(), "thanos-store-0") {
		t.Errorf("%v %v", got, err)
	}
}

// TestMillionSeries asks a server that knows no limit for more than fits.
func TestMillionSeries(t *testing.T) {
	t.Parallel()
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("limit") == "" || r.Method != http.MethodGet {
			t.Errorf("%s without a limit", r.Method)
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[`)
		for i := range 30_000 {
			fmt.Fprintf(w, `{"metric":{"pod":"p%d"},"value":[1772622000,"1"]},`, i)
		}
		_, _ = io.WriteString(w, `{"metric":{"pod":"last"},"value":[1772622000,"1"]}]}}`)
	}))
	got, err := c.Instant(t.Context(), "up")
	if _, ok := errors.AsType[*metric.Partial](err); !ok || len(got) != 20_000 {
		t.Errorf("%d series, %v", len(got), err)
	}
}

func TestHostileLabels(t *testing.T) {
	t.Parallel()
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"`+strings.Repeat("x", 100_000)+`","bad":"`+"\xff\xfe"+`"},"value":[1772622000,"NaN"]}]}}`)
	}))
	got, err := c.Instant(t.Context(), "up")
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if n := len(got[0].Labels["pod"]); n > 600 || !strings.HasSuffix(got[0].Labels["pod"], "(100000 bytes)") {
		t.Errorf("a label of %d bytes", n)
	}
	if got[0].Labels["bad"] != "\uFFFD\uFFFD" {
		t.Errorf("%q", got[0].Labels["bad"])
	}
}

func TestRunawayQueriesAreRefused(t *testing.T) {
	t.Parallel()
	c := clientOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") }))
	for expr, says := range map[string]string{
		"":                                     "empty",
		`{__name__=~".+"}`:                     "every series",
		`count({__name__=~".*",job=~".*"})`:    "every series",
		`sum({job!="a"})`:                      "every series",
		`rate(up[30d])`:                        "longer than 7d",
		`max_over_time(up[7d:1s])`:             "subquery",
		`max_over_time(rate(up[5m])[14d:1h])`:  "subquery",
		"up" + strings.Repeat(" or up", 1_000): "bytes",
	} {
		if _, err := c.Instant(t.Context(), expr); tool.KindOf(err) != tool.Invalid || !strings.Contains(tool.UserText(err), says) || !strings.Contains(tool.UserText(err), ";") {
			t.Errorf("%.40s: %q, want %q and the way out", expr, tool.UserText(err), says)
		}
	}
	if _, err := c.Range(t.Context(), "up", now.Add(-40*24*time.Hour), now, time.Hour); !strings.Contains(tool.UserText(err), "longer than 31d") {
		t.Error(err)
	}
	if _, err := c.Range(t.Context(), "up", now, now.Add(-time.Hour), time.Hour); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
}

func TestBoundedLetsOrdinaryQueriesThrough(t *testing.T) {
	t.Parallel()
	c := clientOf(t, recording(t, "metrics/a.series", "up 1x60\n"))
	for _, expr := range []string{"up", `{__name__=~"DCGM_.*"}`, `{job="a"}`, `sum by (pod) (rate(x[5m]))`, `max_over_time(rate(x[5m])[1d:1m])`, `{__name__=~"a|b",job=~".*"}`} {
		if _, err := c.Instant(t.Context(), expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		span, wanted time.Duration
		most         int
		want         time.Duration
	}{
		{time.Hour, 0, 300, 15 * time.Second},
		{time.Hour, time.Minute, 300, time.Minute},
		{time.Hour, time.Second, 300, 15 * time.Second},
		{7 * 24 * time.Hour, 0, 300, time.Hour},
		{31 * 24 * time.Hour, time.Minute, 2000, 30 * time.Minute},
		{0, 0, 300, time.Second},
	} {
		if got := prom.Step(now.Add(-tc.span), now, tc.wanted, tc.most); got != tc.want {
			t.Errorf("%s wanted %s: %s, want %s", tc.span, tc.wanted, got, tc.want)
		}
	}
}

func TestEndpointCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inner := recording(t, "metrics/a.series", "up 1x60\n")
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization")+" "+r.Header.Get("X-Scope-Orgid"))
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	ep, err := prom.NewEndpoint(srv.URL+"/", prom.Credentials{BearerTokenFile: token, Headers: map[string]string{"X-Scope-OrgID": "team"}})
	if err != nil {
		t.Fatal(err)
	}
	c := prom.NewClient(prom.ClientConfig{Found: prom.Found{Prometheus: ep}, Now: clock})
	if _, err := c.Instant(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	// A rotated token is used at once.
	if err := os.WriteFile(token, []byte("next"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Instant(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Bearer s3cret team", "Bearer next team"}, seen); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		url  string
		c    prom.Credentials
		says string
	}{
		"no scheme":  {"prometheus:9090", prom.Credentials{}, "no http or https"},
		"user":       {"http://u:p@h", prom.Credentials{}, "carries a user"},
		"no token":   {"http://h", prom.Credentials{BearerTokenFile: filepath.Join(dir, "nothing")}, "credentials"},
		"no CA":      {"http://h", prom.Credentials{CAFile: filepath.Join(dir, "nothing")}, "caFile"},
		"CA no PEM":  {"http://h", prom.Credentials{CAFile: token}, "no PEM"},
		"no key":     {"http://h", prom.Credentials{CertFile: token, KeyFile: token}, "certFile"},
		"ftp scheme": {"ftp://h", prom.Credentials{}, "no http or https"},
	} {
		if _, err := prom.NewEndpoint(tc.url, tc.c); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPathPrefix reads a server behind the path of an API server's proxy.
func TestPathPrefix(t *testing.T) {
	t.Parallel()
	const base = "/api/v1/namespaces/monitoring/services/http:prometheus-operated:9090/proxy"
	inner := recording(t, "metrics/a.series", "up 1x60\n")
	srv := httptest.NewServer(http.StripPrefix(base, inner))
	t.Cleanup(srv.Close)
	c := prom.NewClient(prom.ClientConfig{Found: prom.Found{Prometheus: prom.Endpoint{URL: srv.URL + base}}, Now: clock})
	if got, err := c.Instant(t.Context(), "up"); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
}

// FuzzAnswers lets a server answer anything: the client never panics and never
// takes it for an empty success unless it is one.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"NaN"]}]}}`)
	f.Add(200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"x"]]}]}}`)
	f.Add(422, `{"status":"error","errorType":"execution","error":"x"}`)
	f.Add(200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2","3"]]}]}]}}`)
	f.Add(500, `<html>`)
	f.Add(200, `[{"labels":{"alertname":"x","namespace":"n","pod":"p"},"status":{"state":"active"}}]`)
	f.Fuzz(func(t *testing.T, code int, body string) {
		if code < 200 || code > 599 || code/100 == 3 {
			return
		}
		c := prom.NewClient(prom.ClientConfig{Now: clock, Found: prom.Found{
			Prometheus:   prom.Endpoint{URL: "http://x", Client: &http.Client{Transport: fixed{code, body}}},
			Alertmanager: prom.Endpoint{URL: "http://x", Client: &http.Client{Transport: fixed{code, body}}},
		}})
		if _, err := c.Instant(t.Context(), "up"); err == nil && !strings.Contains(body, "success") {
			t.Fatalf("%d %q passes for an answer", code, body)
		}
		if _, err := c.Range(t.Context(), "up", now.Add(-time.Hour), now, time.Minute); err == nil && !strings.Contains(body, "success") {
			t.Fatalf("%d %q passes for an answer", code, body)
		}
		ts, err := prom.New(prom.Config{Client: c, Cluster: "c"})
		if err != nil {
			t.Fatal(err)
		}
		ts.Status(t.Context())
		for _, one := range []struct{ name, in string }{{"prom_alerts", `{}`}, {"prom_rules", `{}`}, {"prom_targets", `{"all":true}`}, {"prom_series", `{"match":"up"}`}, {"prom_range", `{"expr":"up"}`}, {"prom_query", `{"expr":"up"}`}} {
			for _, x := range ts.Tools() {
				if x.Info().Name == one.name {
					_, _ = x.Call(t.Context(), []byte(one.in))
				}
			}
		}
	})
}

type fixed struct {
	code int
	body string
}

func (f fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: f.code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(f.body)), ContentLength: int64(len(f.body)), Request: r}, nil
}
