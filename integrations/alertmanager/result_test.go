package alertmanager

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// hook is a server that takes results, and fails at first.
type hook struct {
	mu       sync.Mutex
	failures int
	bodies   [][]byte
	headers  []http.Header
	got      chan struct{}
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures > 0 {
		h.failures--
		http.Error(w, "come back later", http.StatusBadGateway)
		return
	}
	h.bodies, h.headers = append(h.bodies, raw), append(h.headers, r.Header)
	h.got <- struct{}{}
}

func TestResultsArePosted(t *testing.T) {
	t.Parallel()
	h := &hook{failures: 2, got: make(chan struct{}, 10)}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	l := setup(t, Config{ResultWebhook: ResultConfig{URL: srv.URL + "/hook", HMACSecretFile: secretFile(t, "key")}, Link: "https://gumshoe.example/",
		Routes: []Route{{Match: []string{"team=quiet"}, NoWebhook: true}}})
	l.sick("train/llama-0", "Node n1")
	l.take(message("a", fired("KubePodNotReady", "namespace=train pod=llama-0", start)))
	l.take(message("b", fired("Other", "namespace=b team=quiet", start)))
	l.step()
	l.work()
	l.restart() // what is to be told is known from the journal
	l.step()
	l.step()                      // once
	l.desk.lease = store.MaxLease // the clock also turns while a result is on its way
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.desk.results.run(ctx); close(done) }()
	for len(h.got) == 0 { // each failure is tried again later by the clock of the desk
		l.clock.turn(10 * time.Second)
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-done
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.bodies) != 1 || h.failures != 0 {
		t.Fatalf("%d results, %d failures left", len(h.bodies), h.failures)
	}
	var r Result
	if err := json.Unmarshal(h.bodies[0], &r); err != nil {
		t.Fatal(err)
	}
	s := l.sessions()[0]
	if r.Session != s.ID || r.ID != s.Turns[0].ID || r.Headline == "" || r.Headline != s.Turns[0].Headline || r.Outcome != incident.RootCause || r.State != session.Answered ||
		r.Diagnosis == nil || r.Diagnosis.Causes[0].Subject.Name != "n1" || len(r.Alerts) != 1 || r.Links.Session != "https://gumshoe.example/sessions/"+s.ID {
		t.Errorf("result %s", h.bodies[0])
	}
	if k := h.headers[0].Get("Idempotency-Key"); k != r.ID {
		t.Errorf("idempotency key %q", k)
	}
	// It is signed as this webhook reads it.
	req := &http.Request{Header: h.headers[0]}
	g := newGuard(AuthConfig{HMACSecretFile: secretFile(t, "key")}, l.clock.now)
	if _, err := g.signature(req, h.bodies[0]); err != nil {
		t.Errorf("the signature of the result: %v", err)
	}
}

// amServer speaks the part of Alertmanager's API v2 that is used; the tests of the
// cluster module use a real one.
type amServer struct {
	mu     sync.Mutex
	alerts []map[string]any
	groups []map[string]any
	query  url.Values
	posted [][]postable
	token  string
}

func (s *amServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.query = r.URL.Query()
	var err error
	switch r.Method + " " + r.URL.Path {
	case "GET /api/v2/alerts":
		err = json.NewEncoder(w).Encode(s.alerts)
	case "GET /api/v2/alerts/groups":
		err = json.NewEncoder(w).Encode(s.groups)
	case "POST /api/v2/alerts":
		var in []postable
		err = json.NewDecoder(r.Body).Decode(&in)
		s.posted = append(s.posted, in)
	default:
		http.NotFound(w, r)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// held is an alert as API v2 gives it.
func held(o one, state string, end time.Time) map[string]any {
	p := o.payload()
	p["endsAt"], p["status"], p["receivers"] = end.Format(time.RFC3339Nano), map[string]any{"state": state, "silencedBy": []string{}, "inhibitedBy": []string{}}, []any{}
	return p
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	am := &amServer{token: "secret"}
	srv := httptest.NewServer(am)
	t.Cleanup(srv.Close)
	l := setup(t, Config{AnnotateURL: srv.URL, Annotate: ClientConfig{BearerTokenFile: secretFile(t, "secret")}, Link: "https://gumshoe.example"})
	l.sick("train/llama-0", "Node n1")
	a := fired("KubePodNotReady", "namespace=train pod=llama-0", start)
	about := fired("KubePodNotReady", "namespace=train pod=llama-1", start)
	l.take(message("a", a))
	l.step()
	l.work()
	l.step()
	until := start.Add(4 * time.Minute)
	am.alerts = []map[string]any{held(a, "active", until), held(about, "active", until)}
	if err := l.desk.marker.annotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(am.posted) != 1 || len(am.posted[0]) != 1 {
		t.Fatalf("posted %+v", am.posted)
	}
	p := am.posted[0][0]
	if !p.StartsAt.Equal(start) || !p.EndsAt.Equal(until) || p.Labels["pod"] != "llama-0" || p.Annotations["summary"] != "something is wrong" ||
		!strings.Contains(p.Annotations[Annotation], l.only().Turns[0].Headline) || !strings.HasSuffix(p.Annotations[Annotation], "https://gumshoe.example/sessions/"+l.only().ID) {
		t.Errorf("posted %+v", p)
	}
	// What has it, and what is about to end, is left alone.
	done := held(a, "active", until)
	done["annotations"] = p.Annotations
	for _, alerts := range [][]map[string]any{{done}, {held(a, "active", start.Add(30*time.Second))}, {held(a, "suppressed", until)}} {
		am.alerts = alerts
		if err := l.desk.marker.annotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// When it is over nothing is written any more.
	l.take(message("a", a.ended(start.Add(time.Minute))))
	l.step()
	am.alerts = []map[string]any{held(a, "active", until)}
	if err := l.desk.marker.annotate(t.Context()); err != nil || len(am.posted) != 1 {
		t.Errorf("posted %+v, %v", am.posted[1:], err)
	}
	l.desk.marker.client.close()
}

func TestPull(t *testing.T) {
	t.Parallel()
	end := start.Add(time.Hour)
	alone := held(fired("GPULost", "node=n1 severity=critical", start.Add(time.Minute)), "active", end)
	am := &amServer{groups: []map[string]any{
		{"labels": map[string]string{}, "receiver": map[string]string{"name": "a"}, "alerts": []any{
			held(fired("KubePodNotReady", "namespace=train pod=llama-0", start), "active", end),
			held(fired("KubePodNotReady", "namespace=train pod=llama-1", start), "active", end),
			held(fired("KubePodNotReady", "namespace=train pod=llama-2", start), "suppressed", end)}},
		{"labels": map[string]string{}, "receiver": map[string]string{"name": "b"}, "alerts": []any{held(fired("KubePodCrashLooping", "namespace=train pod=llama-0", start), "active", end)}},
		{"labels": map[string]string{}, "receiver": map[string]string{"name": "a"}, "alerts": []any{alone}},
		{"labels": map[string]string{}, "receiver": map[string]string{"name": "c"}, "alerts": []any{alone}},
	}}
	srv := httptest.NewServer(am)
	t.Cleanup(srv.Close)
	qs, err := Pull{URL: srv.URL, Cluster: "lab"}.Questions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(qs) != 2 || qs[0].Title != "GPULost Node n1" || qs[1].Title != "KubePodCrashLooping Pod train/llama-0 and 2 more alerts" && qs[1].Title != "KubePodNotReady Pod train/llama-0 and 2 more alerts" ||
		len(qs[1].Question.Subjects) != 2 || qs[0].Question.Alert.Name != "GPULost" || len(qs[0].Question.Subjects) != 0 {
		t.Errorf("questions %+v", qs)
	}
	qs, err = Pull{URL: srv.URL, Alert: "GPU.*", Match: []string{`severity="critical"`}}.Questions(t.Context())
	if err != nil || len(qs) != 1 || len(am.query["filter"]) != 2 || am.query["filter"][1] != `alertname=~"GPU.*"` || am.query.Get("silenced") != "false" {
		t.Errorf("questions %+v, %v, asked with %v", qs, err, am.query)
	}
	for _, tc := range []struct {
		p    Pull
		says string
	}{
		{Pull{URL: "alertmanager"}, "no address"},
		{Pull{URL: srv.URL, Alert: "("}, "regular expression"},
		{Pull{URL: srv.URL, Match: []string{"x"}}, "matcher"},
		{Pull{URL: srv.URL + "/nowhere"}, "404"},
		{Pull{URL: "http://127.0.0.1:1"}, "cannot be reached"},
	} {
		if _, err := tc.p.Questions(t.Context()); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.p, err)
		}
	}
	am.token = "secret"
	if _, err := (Pull{URL: srv.URL}).Questions(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses the credentials") {
		t.Errorf("without a token: %v", err)
	}
}

func TestADeskRunsAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	other, err := New(l.cfg, Options{Service: l.svc, Journal: l.store, Cluster: "lab", Now: l.clock.now, Tick: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	run := func(d *Desk) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	wait := func(n int) {
		for len(l.sessions()) < n {
			time.Sleep(time.Millisecond)
		}
	}
	first, second := run(l.desk), run(other)
	l.take(message("a", fired("A", "namespace=a", start)))
	wait(1)
	first()
	// It may have ended before it queued the question: a server that starts does that.
	if err := l.svc.book.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.take(message("b", fired("B", "namespace=b", start)))
	wait(2)
	l.work()
	second()
	if n := l.questions(); n != 2 {
		t.Errorf("%d investigations", n)
	}
}
