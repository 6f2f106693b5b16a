package alertmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testing.T and rapid.T have this in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// dial is a clock that tests turn.
type dial struct {
	mu sync.Mutex
	at time.Time
}

func (c *dial) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *dial) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// service is the part of the server's service that the desk uses, on the real book of
// sessions and the real journal.
type service struct {
	book  *session.Book
	store store.Store
}

var _ Service = (*service)(nil)

func (s *service) Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error) {
	return s.book.Ask(ctx, a)
}
func (s *service) Session(ctx context.Context, id string) (session.Session, error) {
	return s.book.Get(ctx, id)
}
func (s *service) Sessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	return session.List(ctx, s.store, f)
}
func (s *service) NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, over *bool) (session.Session, error) {
	return s.book.NoteAlerts(ctx, id, alerts, over)
}
func (s *service) Merge(ctx context.Context, id, into string) (session.Session, error) {
	return s.book.Merge(ctx, id, into)
}
func (s *service) CloseSession(ctx context.Context, id string, _ incident.Person) (session.Session, error) {
	return s.book.Close(ctx, id)
}
func (s *service) Run(ctx context.Context, run string) (store.Run, error) {
	return store.LoadRun(ctx, s.store, run)
}
func (s *service) Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error] {
	return func(yield func(session.Notice, error) bool) {
		for rec, err := range s.store.Watch(ctx, session.Subjects, after) {
			if !yield(session.Notice{Session: strings.TrimPrefix(rec.Subject, "session."), Seq: rec.Seq, At: rec.At, Type: rec.Type}, err) {
				return
			}
		}
	}
}

// lab is a desk with all that it needs, and a world that investigations look at.
type lab struct {
	t     tb
	clock *dial
	cfg   Config
	dir   string
	store *file.Store
	svc   *service
	desk  *Desk

	mu sync.Mutex
	// causes says what is wrong with a thing: the last is the cause, each depends on the
	// next.
	causes map[string][]incident.Ref
	asked  []incident.Question
}

var start = time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)

func newLab(t tb, cfg Config) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "alerts-*")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, clock: &dial{at: start}, cfg: cfg, dir: dir, causes: map[string][]incident.Ref{}}
	l.open()
	return l
}

func (l *lab) close() {
	_ = l.store.Close()
	_ = os.RemoveAll(l.dir)
}

// lab for a test, which is cleared away with it.
func setup(t *testing.T, cfg Config) *lab {
	l := newLab(t, cfg)
	t.Cleanup(l.close)
	return l
}

// open opens the journal and sits a new desk at it, as a process that starts does.
func (l *lab) open() {
	l.t.Helper()
	st, err := file.Open(file.Config{Dir: l.dir, Now: l.clock.now, Sync: func(*os.File) error { return nil }, Poll: 5 * time.Millisecond})
	if err != nil {
		l.t.Fatal(err)
	}
	l.store = st
	l.svc = &service{book: &session.Book{Journal: st, Cluster: "lab"}, store: st}
	d, err := New(l.cfg, Options{Service: l.svc, Journal: st, Cluster: "lab", Now: l.clock.now, Tick: 5 * time.Millisecond})
	if err != nil {
		l.t.Fatal(err)
	}
	l.desk = d
	// A question that was kept and not queued when its process ended is queued now.
	if err := l.svc.book.Repair(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	if err := d.restore(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// restart ends the process and starts another one on the same journal.
func (l *lab) restart() {
	l.t.Helper()
	if err := l.store.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.open()
}

// step lets the desk do what it can, with everything that changed known to it.
func (l *lab) step() {
	l.t.Helper()
	for _, s := range l.sessions() {
		l.desk.mu.Lock()
		l.desk.changed[s.ID] = struct{}{}
		l.desk.mu.Unlock()
	}
	if err := l.desk.step(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// work has the real worker answer what is queued.
func (l *lab) work() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	w := &session.Worker{Book: l.svc.book, Queue: l.store, Investigate: l.investigate, Now: l.clock.now}
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx) }()
	for l.unanswered() > 0 {
		w.Wake()
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}

// unanswered counts the turns that have not ended.
func (l *lab) unanswered() int {
	n := 0
	for _, s := range l.sessions() {
		for _, t := range s.Turns {
			if !t.State.Ended() {
				n++
			}
		}
	}
	return n
}

func (l *lab) sessions() []session.Session {
	l.t.Helper()
	all, err := l.svc.Sessions(l.t.Context(), session.Filter{})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b session.Session) int { return a.Opened.Compare(b.Opened) })
	return all
}

// only gives the one session that there is.
func (l *lab) only() session.Session {
	l.t.Helper()
	all := l.sessions()
	if len(all) != 1 {
		l.t.Fatalf("there are %d sessions, want 1: %s", len(all), say(all))
	}
	return all[0]
}

func say(all []session.Session) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "\n%s %q turns %d alerts %d merged %q resolved %t closed %t", s.ID, s.Title, len(s.Turns), len(s.Alerts), s.Merged, !s.Resolved.IsZero(), s.Closed)
	}
	return b.String()
}

// investigate answers a question from the world, and journals the run as a real one.
func (l *lab) investigate(ctx context.Context, j session.Job) (incident.Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, j.Question)
	subjects := j.Question.Subjects
	if len(subjects) == 0 && j.Question.Alert != nil {
		subjects = triage.AlertSubjects(*j.Question.Alert, "lab")
	}
	r := incident.Report{ID: j.Run, Question: j.Question.Text, Alert: j.Question.Alert, Subjects: subjects, Cluster: "lab", Model: "offline",
		Started: l.clock.now(), Ended: l.clock.now(), Stop: incident.StopDone, Evidence: []incident.Evidence{}}
	d := incident.Diagnosis{Outcome: incident.Healthy, Causes: []incident.Cause{}, Chain: []incident.Edge{}, Checked: []incident.CheckedItem{}, NotSeen: []incident.Gap{}, Proposals: []incident.Proposal{}}
	for _, s := range subjects {
		way := l.causes[s.Path()]
		if len(way) == 0 {
			continue
		}
		at := s
		for n, next := range way {
			r.Findings = append(r.Findings, incident.Finding{Code: "lab.sick", Severity: incident.Critical, Role: incident.Symptom, Subject: at, Message: "it is sick"})
			d.Chain = append(d.Chain, incident.Edge{From: at, Relation: "needs", To: next})
			if n == len(way)-1 {
				d.Outcome = incident.RootCause
				c := incident.Cause{Subject: next, Code: "lab.broken", Statement: next.String() + " is broken", Confidence: 0.9}
				if !slices.ContainsFunc(d.Causes, func(o incident.Cause) bool { return o.Subject == next }) {
					d.Causes = append(d.Causes, c)
				}
			}
			at = next
		}
	}
	r.Diagnosis = d
	var failed error
	log := store.NewRunLog(ctx, l.store, store.RunLogOptions{Failed: func(err error) { failed = err }})
	rec := event.NewRecorder(j.Run, l.clock.now, log)
	rec.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: j.Question, Model: "offline"}})
	rec.Emit(event.Event{Type: event.Resolved, Subjects: subjects})
	for _, f := range r.Findings {
		rec.Emit(event.Event{Type: event.Found, Finding: &f})
	}
	rec.Emit(event.Event{Type: event.Concluded, Diagnosis: &d})
	rec.Emit(event.Event{Type: event.RunEnded, Report: &r})
	return r, failed
}

// questions counts what was investigated because alerts fired, apart from the desk's own
// later questions.
func (l *lab) questions() int {
	n := 0
	for _, s := range l.sessions() {
		for _, t := range s.Turns {
			if !strings.HasPrefix(t.Key, overKey) && !strings.HasPrefix(t.Key, grownKey) {
				n++
			}
		}
	}
	return n
}

// one is an alert as Alertmanager writes it: name and labels "ns=train pod=llama-0".
type one struct {
	name, labels string
	status       string
	begin, end   time.Time
}

func (o one) payload() map[string]any {
	labels := map[string]string{"alertname": o.name}
	for l := range strings.FieldsSeq(o.labels) {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = v
	}
	if o.status == "" {
		o.status = firing
	}
	end := "0001-01-01T00:00:00Z"
	if !o.end.IsZero() {
		end = o.end.Format(time.RFC3339Nano)
	}
	return map[string]any{"status": o.status, "labels": labels, "annotations": map[string]string{"summary": "something is wrong"},
		"startsAt": o.begin.Format(time.RFC3339Nano), "endsAt": end, "generatorURL": "http://prometheus/graph", "fingerprint": labelPrint(labels)}
}

// fired makes an alert that fires since a time.
func fired(name, labels string, at time.Time) one { return one{name: name, labels: labels, begin: at} }

// ended is the same alert at its end.
func (o one) ended(at time.Time) one { o.status, o.end = resolved, at; return o }

// message is the payload of a group.
func message(group string, alerts ...one) []byte {
	p := map[string]any{"version": "4", "groupKey": group, "truncatedAlerts": 0, "status": resolved, "receiver": "gumshoe",
		"groupLabels": map[string]string{}, "commonLabels": map[string]string{}, "commonAnnotations": map[string]string{}, "externalURL": "http://alertmanager:9093",
		"notification_reason": "first_notification", "routeLabels": map[string]string{}}
	list := make([]any, 0, len(alerts))
	for _, a := range alerts {
		if a.status != resolved {
			p["status"] = firing
		}
		list = append(list, a.payload())
	}
	p["alerts"] = list
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return raw
}

// server serves the desk's routes on loopback.
func (l *lab) server(t testing.TB) *httptest.Server {
	mux := http.NewServeMux()
	for _, r := range l.desk.Routes() {
		mux.Handle(r.Method+" "+r.Pattern, r.Handler)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// post sends a payload over HTTP and gives the status and the answer.
func post(t tb, address string, body []byte, header http.Header) (int, Answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	var a Answer
	if err = errors.Join(err, json.Unmarshal(raw, &a)); err != nil {
		t.Fatalf("the answer %q is none: %v", raw, err)
	}
	return res.StatusCode, a
}

// take gives a payload to the handler of the desk, as a server does, and wants it taken.
func (l *lab) take(body []byte) Answer {
	l.t.Helper()
	req := httptest.NewRequest(http.MethodPost, "http://localhost"+Path, bytes.NewReader(body))
	req.RemoteAddr = "127.0.0.1:4711"
	w := httptest.NewRecorder()
	l.desk.Routes()[0].Handler.ServeHTTP(w, req)
	var a Answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
		l.t.Fatalf("status %d, %s (%v)", w.Code, w.Body, err)
	}
	return a
}

// ref reads "Kind namespace/name" or "Kind name".
func ref(s string) incident.Ref {
	kind, path, _ := strings.Cut(s, " ")
	r := incident.Ref{Cluster: "lab", Kind: kind, Name: path}
	if ns, name, ok := strings.Cut(path, "/"); ok {
		r.Namespace, r.Name = ns, name
	}
	return r
}

// sick says what a thing suffers from.
func (l *lab) sick(path string, way ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	refs := make([]incident.Ref, len(way))
	for i, w := range way {
		refs[i] = ref(w)
	}
	l.causes[path] = refs
}
