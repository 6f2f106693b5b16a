package loki_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs/loki"
)

var now = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// server speaks Loki's HTTP API version 1 over lines in memory: it refuses what
// Loki refuses and evaluates stream selectors with one line filter.
type server struct {
	streams []loki.Stream
	tenant  string
	asked   atomic.Int64
}

var (
	selector = regexp.MustCompile(`^\{([^}]*)\}(?: \|~ ("(?:[^"\\]|\\.)*"))?$`)
	matcher  = regexp.MustCompile(`^\s*(\w+)=("(?:[^"\\]|\\.)*")\s*$`)
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if s.tenant != "" && r.Header.Get("X-Scope-OrgID") != s.tenant {
		http.Error(w, "no org id", http.StatusUnauthorized)
		return
	}
	q := r.URL.Query()
	from, err1 := strconv.ParseInt(q.Get("start"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("end"), 10, 64)
	if err1 != nil || err2 != nil || r.Method != http.MethodGet {
		http.Error(w, "invalid start or end", http.StatusBadRequest)
		return
	}
	answer := func(data any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
	}
	switch {
	case r.URL.Path == "/loki/api/v1/labels":
		names := map[string]bool{}
		for _, st := range s.streams {
			for k := range st.Labels {
				names[k] = true
			}
		}
		answer(keys(names))
	case strings.HasPrefix(r.URL.Path, "/loki/api/v1/label/"):
		name := strings.Split(r.URL.Path, "/")[5]
		values := map[string]bool{}
		for _, st := range s.streams {
			if v := st.Labels[name]; v != "" {
				values[v] = true
			}
		}
		answer(keys(values))
	case r.URL.Path == "/loki/api/v1/query_range":
		s.queryRange(w, q.Get("query"), q.Get("direction"), q.Get("limit"), from, to, answer)
	default:
		http.NotFound(w, r)
	}
}

func (s *server) queryRange(w http.ResponseWriter, query, direction, limitText string, from, to int64, answer func(any)) {
	if strings.HasPrefix(query, "count_over_time") {
		answer(map[string]any{"resultType": "matrix", "result": []any{map[string]any{"metric": map[string]string{"pod": "a"}, "values": []any{[]any{1764064800, "3"}, []any{1764064860.5, "7"}}}}})
		return
	}
	m := selector.FindStringSubmatch(query)
	limit, err := strconv.Atoi(limitText)
	if m == nil || err != nil || limit > 5000 {
		http.Error(w, "parse error at line 1, col 1: syntax error: unexpected IDENTIFIER", http.StatusBadRequest)
		return
	}
	want := map[string]string{}
	for part := range strings.SplitSeq(m[1], ",") {
		mm := matcher.FindStringSubmatch(part)
		if mm == nil {
			http.Error(w, "parse error: bad matcher "+part, http.StatusBadRequest)
			return
		}
		want[mm[1]], _ = strconv.Unquote(mm[2])
	}
	var re *regexp.Regexp
	if m[2] != "" {
		expr, _ := strconv.Unquote(m[2])
		re = regexp.MustCompile(expr)
	}
	result := []any{}
	for _, st := range s.streams {
		fits := true
		for k, v := range want {
			fits = fits && st.Labels[k] == v
		}
		if !fits {
			continue
		}
		entries := slices.Clone(st.Entries)
		if direction == "backward" {
			slices.Reverse(entries)
		}
		values := []any{}
		for _, e := range entries {
			if ns := e.At.UnixNano(); ns < from || ns >= to || re != nil && !re.MatchString(e.Line) || limit == 0 {
				continue
			}
			limit--
			values = append(values, []any{strconv.FormatInt(e.At.UnixNano(), 10), e.Line, map[string]string{"trace": "x"}})
		}
		result = append(result, map[string]any{"stream": st.Labels, "values": values})
	}
	answer(map[string]any{"resultType": "streams", "result": result})
}

func keys(m map[string]bool) []string {
	out := []string{}
	for k := range m {
		out = append(out, k)
	}
	return out
}

// start runs the server with the lines of two pods.
func start(t *testing.T, s *server) string {
	t.Helper()
	if s.streams == nil {
		a := loki.Stream{Labels: map[string]string{"namespace": "train", "pod": "a-0", "container": "main"}}
		for i := range 60 {
			a.Entries = append(a.Entries, loki.Entry{At: now.Add(-time.Duration(60-i) * time.Minute), Line: fmt.Sprintf("INFO step %d", i)})
		}
		a.Entries = append(a.Entries, loki.Entry{At: now.Add(-30 * time.Second), Line: "ERROR out of memory"})
		b := loki.Stream{Labels: map[string]string{"namespace": "train", "pod": "b-0", "container": "main"}, Entries: []loki.Entry{{At: now.Add(-2 * time.Hour), Line: "hello"}}}
		s.streams = []loki.Stream{a, b}
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

func client(url, tenant string) *loki.Client {
	return loki.NewClient(loki.ClientConfig{Endpoint: loki.Endpoint{URL: url, Origin: "configured"}, Tenant: tenant, Now: clock})
}

func call[Out any](t *testing.T, c *loki.Client, name, args string) (Out, string, error) {
	t.Helper()
	ts, err := loki.New(c)
	if err != nil {
		t.Fatal(err)
	}
	var out Out
	for _, one := range ts.Tools() {
		if one.Info().Name == name {
			res, err := one.Call(t.Context(), json.RawMessage(args))
			if err == nil {
				err = json.Unmarshal(res.Data, &out)
			}
			return out, res.Text, err
		}
	}
	t.Fatalf("no tool %s", name)
	return out, "", nil
}

func TestQueryAndPod(t *testing.T) {
	t.Parallel()
	c := client(start(t, &server{}), "")
	out, text, err := call[loki.Out](t, c, "loki_pod", `{"namespace":"train","pod":"a-0"}`)
	if err != nil || out.Lines != 61 || len(out.Newest) != 25 || out.Newest[24].Text != "ERROR out of memory" {
		t.Fatalf("%+v %v", out, err)
	}
	if len(out.Shapes) == 0 || out.Shapes[0].Level != "error" || !strings.Contains(text, "ERROR out of memory") {
		t.Errorf("rare errors are not first: %+v", out.Shapes)
	}
	out, _, err = call[loki.Out](t, c, "loki_pod", `{"namespace":"train","pod":"a-0","grep":"OUT OF \\w+","since":"1d"}`)
	if err != nil || out.Lines != 1 {
		t.Errorf("%+v %v", out, err)
	}
	out, text, err = call[loki.Out](t, c, "loki_query", `{"query":"{namespace=\"train\"}","since":"3h","limit":10}`)
	if err != nil || out.Lines != 10 || !out.More || !strings.Contains(text, "there may be more") {
		t.Errorf("%+v %v", out, err)
	}
	out, _, err = call[loki.Out](t, c, "loki_query", `{"query":"{pod=\"b-0\"}","since":"3h","until":"1h"}`)
	if err != nil || out.Lines != 1 || out.Newest[0].Text != "hello" {
		t.Errorf("%+v %v", out, err)
	}
	out, _, err = call[loki.Out](t, c, "loki_query", `{"query":"count_over_time({pod=\"a\"}[5m])"}`)
	if err != nil || len(out.Series) != 1 || out.Series[0].Last != "7" {
		t.Errorf("%+v %v", out, err)
	}
	l, _, err := call[loki.LabelsOut](t, c, "loki_labels", `{}`)
	if diff := cmp.Diff([]string{"container", "namespace", "pod"}, l.Values); diff != "" || err != nil {
		t.Error(diff, err)
	}
	l, _, err = call[loki.LabelsOut](t, c, "loki_labels", `{"name":"pod"}`)
	if diff := cmp.Diff([]string{"a-0", "b-0"}, l.Values); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// The lines come in the kubelet's form, oldest first, so that what reads logs of
// the cluster reads these.
func TestPodLog(t *testing.T) {
	t.Parallel()
	c := client(start(t, &server{}), "")
	text, cut, err := c.PodLog(t.Context(), "train", "a-0", "main", now.Add(-3*time.Minute), now)
	if err != nil || cut {
		t.Fatal(err, cut)
	}
	want := "2026-11-25T09:57:00Z INFO step 57\n2026-11-25T09:58:00Z INFO step 58\n2026-11-25T09:59:00Z INFO step 59\n2026-11-25T09:59:30Z ERROR out of memory\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
	otlp := &server{streams: []loki.Stream{{Labels: map[string]string{"k8s_namespace_name": "x", "k8s_pod_name": `we"ird`}, Entries: []loki.Entry{{At: now.Add(-time.Minute), Line: "hi"}}}}}
	if text, _, err = client(start(t, otlp), "").PodLog(t.Context(), "x", `we"ird`, "main", now.Add(-time.Hour), now); err != nil || !strings.Contains(text, "hi") {
		t.Errorf("%q %v", text, err)
	}
	foreign := &server{streams: []loki.Stream{{Labels: map[string]string{"job": "x"}}}}
	if _, _, err = client(start(t, foreign), "").PodLog(t.Context(), "x", "y", "", now.Add(-time.Hour), now); tool.KindOf(err) != tool.NotServed {
		t.Errorf("labels that name no pods: %v", err)
	}
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = w.Write([]byte(body)) }
	}
	for name, tc := range map[string]struct {
		h     http.HandlerFunc
		kind  tool.Kind
		say   string
		state tool.State
	}{
		"down for repair":  {answer(503, "too many outstanding requests"), tool.Unreachable, "HTTP 503", tool.Broken},
		"login":            {answer(401, "denied"), tool.Forbidden, "credentials", tool.Denied},
		"tenant":           {answer(401, "no org id\n"), tool.Forbidden, "loki.tenant", tool.Denied},
		"a page":           {answer(200, "<html>sign in</html>"), tool.Unreachable, "web page", tool.Broken},
		"another service":  {answer(404, "404 page not found"), tool.NotServed, "base of a Loki", tool.Absent},
		"cut JSON":         {answer(200, `{"status":"success","data":{"resultType":"streams","result":[{"stream":{`), tool.Unreachable, "cannot be read", tool.Broken},
		"other JSON":       {answer(200, `{"status":"success","data":{"resultType":"scalar","result":["x"]}}`), tool.Unreachable, "neither streams", tool.Broken},
		"lines of one":     {answer(200, `{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1"]]}]}}`), tool.Unreachable, "1 fields", tool.Broken},
		"a time of words":  {answer(200, `{"data":{"resultType":"streams","result":[{"stream":{},"values":[["now","x"]]}]}}`), tool.Unreachable, "nanoseconds", tool.Broken},
		"a broken gateway": {answer(502, "<html>bad gateway</html>"), tool.Unreachable, "Bad Gateway", tool.Broken},
		"a hung up line": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		}, tool.Unreachable, "cut off", tool.Broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.h)
			t.Cleanup(srv.Close)
			c := client(srv.URL, "")
			_, err := c.Range(t.Context(), loki.Query{LogQL: "{a=\"b\"}", From: now.Add(-time.Hour), To: now})
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.say) {
				t.Errorf("%s: %v", tool.KindOf(err), tool.UserText(err))
			}
			ts, err := loki.New(c)
			if err != nil {
				t.Fatal(err)
			}
			st := ts.Status(t.Context())
			if st.State != tc.state || st.Reason == "" {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestRefusedQueries(t *testing.T) {
	t.Parallel()
	s := &server{}
	c := client(start(t, s), "")
	for args, want := range map[string]string{
		`{"query":""}`:                                  "empty",
		`{"query":"{a=\"b\"}","since":"soon"}`:          "no length of time",
		`{"query":"{a=\"b\"}","since":"-1h"}`:           "no length of time",
		`{"query":"{a=\"b\"}","since":"60d"}`:           "longer than",
		`{"query":"{a=\"b\"}","until":"2h"}`:            "not after its begin",
		`{"query":"{a=\"b\"}","limit":100000}`:          "from 1 to 5000",
		`{"query":"` + strings.Repeat("x", 5000) + `"}`: "more than 4096",
	} {
		if _, _, err := call[loki.Out](t, c, "loki_query", args); err == nil || !strings.Contains(tool.UserText(err), want) {
			t.Errorf("%.60s: %v, want %s", args, err, want)
		}
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("%d requests for queries that are refused here", n)
	}
	if _, _, err := call[loki.Out](t, c, "loki_query", `{"query":"no logql"}`); tool.KindOf(err) != tool.Invalid || !strings.Contains(tool.UserText(err), "syntax error") {
		t.Errorf("Loki's own refusal: %v", err)
	}
	if _, _, err := call[loki.LabelsOut](t, c, "loki_labels", `{"name":"../admin"}`); tool.KindOf(err) != tool.Invalid {
		t.Errorf("a path as label: %v", err)
	}
}

func TestDiscoveryIsAskedOnce(t *testing.T) {
	t.Parallel()
	url := start(t, &server{tenant: "team"})
	asked := 0
	c := loki.NewClient(loki.ClientConfig{Tenant: "team", Now: clock, Discover: func(context.Context) (loki.Endpoint, error) {
		asked++
		return loki.Endpoint{URL: url, Origin: "service logging/loki-gateway"}, nil
	}})
	for range 3 {
		if err := c.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 || c.Origin(t.Context()) != "service logging/loki-gateway" {
		t.Errorf("%d discoveries", asked)
	}
	none := 0
	absent, err := loki.New(loki.NewClient(loki.ClientConfig{Now: clock, Discover: func(context.Context) (loki.Endpoint, error) { none++; return loki.Endpoint{}, nil }}))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if st := absent.Status(t.Context()); st.State != tool.Absent || st.Fix == "" {
			t.Errorf("%+v", st)
		}
	}
	if none != 1 {
		t.Errorf("%d discoveries of what is not there", none)
	}
	// A fresh look goes to the server that was found, and looks again where none was.
	fresh := tool.Fresh(t.Context())
	if err := c.Reach(fresh); err != nil || asked != 1 {
		t.Errorf("%d discoveries, %v", asked, err)
	}
	for range 2 {
		if st := absent.Status(fresh); st.State != tool.Absent {
			t.Errorf("%+v", st)
		}
	}
	if none != 2 {
		t.Errorf("a fresh look was told of an older one: %d discoveries", none)
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	http := []loki.Port{{Name: "grpc", Number: 9095}, {Name: "http-metrics", Number: 3100}}
	got := loki.Candidates([]loki.Service{
		{Namespace: "web", Name: "shop", Ports: []loki.Port{{Name: "http", Number: 80}}},
		{Namespace: "logging", Name: "loki-memberlist", Labels: map[string]string{"app.kubernetes.io/name": "loki"}, Ports: []loki.Port{{Name: "tcp", Number: 7946}}},
		{Namespace: "logging", Name: "loki-write", Labels: map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "write"}, Ports: http},
		{Namespace: "logging", Name: "loki", Labels: map[string]string{"app.kubernetes.io/name": "loki"}, Ports: http},
		{Namespace: "logging", Name: "loki-gateway", Labels: map[string]string{"app.kubernetes.io/name": "loki", "app.kubernetes.io/component": "gateway"}, Ports: []loki.Port{{Name: "http", Number: 80}}},
	})
	want := []loki.Candidate{
		{Namespace: "logging", Name: "loki-gateway", Port: loki.Port{Name: "http", Number: 80}},
		{Namespace: "logging", Name: "loki", Port: loki.Port{Name: "http-metrics", Number: 3100}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"status":"success","data":{"resultType":"streams","result":[{"stream":{"a":"b"},"values":[["1","x"]]}]}}`)
	f.Add(`{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1.5,"2"]]}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		round := roundTrip(func(*http.Request) *http.Response {
			w := httptest.NewRecorder()
			_, _ = w.WriteString(body)
			return w.Result()
		})
		c := loki.NewClient(loki.ClientConfig{Endpoint: loki.Endpoint{URL: "http://loki.invalid", Client: &http.Client{Transport: round}}, Now: clock})
		a, err := c.Range(t.Context(), loki.Query{LogQL: "{}", From: now.Add(-time.Hour), To: now})
		n := 0
		for _, s := range a.Streams {
			n += len(s.Entries)
		}
		if err == nil && n != a.Lines {
			t.Fatalf("%d lines counted, %d there", a.Lines, n)
		}
	})
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
