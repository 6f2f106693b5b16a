package session_test

import (
	"context"
	"errors"
	"fmt"
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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *file.Store {
	t.Helper()
	s, err := file.Open(file.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func ask(text string) session.Ask {
	return session.Ask{Question: incident.Question{Text: text}, Source: session.API, By: incident.Person{Name: "ann"}}
}

// runs a real run into the journal, as an investigator would.
func record(ctx context.Context, st store.Store, j session.Job, statement string) incident.Report {
	log := store.NewRunLog(ctx, st, store.RunLogOptions{})
	r := event.NewRecorder(j.Run, time.Now, log)
	rep := incident.Report{ID: j.Run, Question: j.Question.Text, Model: "offline", Stop: incident.StopDone, Subjects: []incident.Ref{{Kind: "Pod", Namespace: "a", Name: "b"}},
		Diagnosis: incident.Diagnosis{Outcome: incident.RootCause, Causes: []incident.Cause{{Statement: statement}}}}
	r.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: j.Question}})
	r.Emit(event.Event{Type: event.RunEnded, Report: &rep})
	return rep
}

func TestAskRefuses(t *testing.T) {
	t.Parallel()
	b := &session.Book{Journal: open(t)}
	for name, tc := range map[string]struct {
		change func(*session.Ask)
		says   string
	}{
		"nothing":      {func(a *session.Ask) { a.Question.Text = "  " }, "the question is empty"},
		"too long":     {func(a *session.Ask) { a.Question.Text = strings.Repeat("x", session.MaxQuestion+1) }, "16385 bytes"},
		"no UTF-8":     {func(a *session.Ask) { a.Question.Text = "why \xff" }, "not valid UTF-8"},
		"no source":    {func(a *session.Ask) { a.Source = "fax" }, `the source "fax"`},
		"no priority":  {func(a *session.Ask) { a.Priority = "now" }, `the priority "now"`},
		"no session":   {func(a *session.Ask) { a.Session = "s-0" }, `no session "s-0"`},
		"not an id":    {func(a *session.Ask) { a.Session = "../etc" }, "no session"},
		"a long key":   {func(a *session.Ask) { a.Key = strings.Repeat("k", 257) }, "257 bytes"},
		"an empty key": {func(a *session.Ask) { a.Links = []session.Link{{Surface: "slack"}} }, "the link"},
	} {
		a := ask("why is a/b pending")
		tc.change(&a)
		_, _, err := b.Ask(t.Context(), a)
		if r, ok := errors.AsType[*session.Refusal](err); !ok || !strings.Contains(r.Error(), tc.says) {
			t.Errorf("%s: %v does not say %q", name, err, tc.says)
		}
	}
}

// However often and from however many places the same question comes, it is one turn
// and one piece of work.
func TestTheSameKeyIsTheSameTurn(t *testing.T) {
	t.Parallel()
	st := open(t)
	var mu sync.Mutex
	ids := map[string]bool{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			b := &session.Book{Journal: st}
			a := ask("why is a/b pending")
			a.Key, a.Links = "delivery-1", []session.Link{{Surface: "slack", Key: "C1/1.2"}}
			s, turn, err := b.Ask(t.Context(), a)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[s.ID+" "+turn.ID] = true
		})
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Errorf("%v", ids)
	}
	n := 0
	for _, err := range st.List(t.Context(), "work.>") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d pieces of work", n)
	}
}

func TestFollowUpsAndTheirBounds(t *testing.T) {
	t.Parallel()
	b := &session.Book{Journal: open(t)}
	s, first, err := b.Ask(t.Context(), ask("why is a/b pending"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a := ask(fmt.Sprintf("question %d", i))
			a.Session = s.ID
			if _, _, err := b.Ask(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, err = b.Get(t.Context(), "latest"); err != nil || len(s.Turns) != 9 || s.Turns[0].ID != first.ID {
		t.Fatalf("%d turns (%v)", len(s.Turns), err)
	}
	if s, err = b.Cancel(t.Context(), s.ID, first.ID, "no longer"); err != nil || s.Turns[0].State != session.Cancelled {
		t.Errorf("%+v (%v)", s.Turns[0], err)
	}
	if _, err := b.Cancel(t.Context(), s.ID, first.ID, "again"); err == nil {
		t.Error("a turn was cancelled twice")
	}
	if _, err := b.Close(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	a := ask("one more")
	a.Session = s.ID
	if _, _, err := b.Ask(t.Context(), a); err == nil || !strings.Contains(err.Error(), "is closed") {
		t.Errorf("a closed session took a question: %v", err)
	}
}

func TestLinksAreExclusive(t *testing.T) {
	t.Parallel()
	b := &session.Book{Journal: open(t)}
	l := session.Link{Surface: "slack", Key: "C1/17.1"}
	var ids []string
	for range 2 {
		s, _, err := b.Ask(t.Context(), ask("why"))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID)
	}
	if _, err := b.Link(t.Context(), ids[0], l); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Link(t.Context(), ids[1], l); err == nil || !strings.Contains(err.Error(), ids[0]) {
		t.Errorf("two sessions at one place: %v", err)
	}
	if s, ok, err := b.Linked(t.Context(), l); err != nil || !ok || s.ID != ids[0] {
		t.Errorf("%s %v %v", s.ID, ok, err)
	}
	if _, err := b.Unlink(t.Context(), ids[0], l); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := b.Linked(t.Context(), l); ok {
		t.Error("the place is not free")
	}
	if s, err := b.Link(t.Context(), ids[1], l); err != nil || len(s.Links) != 1 {
		t.Errorf("%v (%v)", s.Links, err)
	}
	if s, err := b.Merge(t.Context(), ids[0], ids[1]); err != nil || s.Merged != ids[1] {
		t.Errorf("%+v (%v)", s, err)
	}
	if _, err := b.Merge(t.Context(), ids[1], ids[0]); err == nil {
		t.Error("two sessions are merged into each other")
	}
}

// What the day's budget does not carry any more is answered without a model, and says so.
func TestLimits(t *testing.T) {
	t.Parallel()
	st := open(t)
	b := &session.Book{Journal: st}
	var models []string
	w := &session.Worker{Book: b, Queue: st, Limits: session.Limits{Day: session.Limit{Cost: 1}, Source: map[string]session.Limit{session.Slack: {Tokens: 10}}},
		Investigate: func(ctx context.Context, j session.Job) (incident.Report, error) {
			models = append(models, j.Model)
			r := record(ctx, st, j, "x")
			r.Usage.Cost, r.Usage.InputTokens = 0.6, 6
			return r, nil
		}}
	n := 0
	one := func(source string) session.Turn {
		a := ask("why")
		a.Source = source
		s, turn, err := b.Ask(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		n++
		work(t, w, ended(t, b, n))
		s, err = b.Get(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		turn, _ = s.Turn(turn.ID)
		return turn
	}
	one(session.API)
	if got := one(session.Slack); got.Reason != "" {
		t.Errorf("refused too early: %s", got.Reason)
	}
	if got := one(session.API); !strings.Contains(got.Reason, "$1.00 is spent ($1.20 used)") || got.State != session.Answered {
		t.Errorf("%+v", got)
	}
	if strings.Join(models, ",") != ",,offline" {
		t.Errorf("models asked: %q", models)
	}
	spent, err := session.SpentOn(t.Context(), st, time.Now())
	if err != nil || spent[session.API].Tokens != 12 {
		t.Errorf("%+v (%v)", spent, err)
	}
}

// What was taken and, because the process ended, not queued is queued by the next one.
func TestRepairQueuesWhatWasTaken(t *testing.T) {
	t.Parallel()
	st := open(t)
	broken := &session.Book{Journal: half{st}}
	s, _, err := broken.Ask(t.Context(), ask("why"))
	if err == nil || s.ID == "" {
		t.Fatalf("the queue took it: %v", err)
	}
	b := &session.Book{Journal: st}
	for range 2 {
		if err := b.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Claim(t.Context(), "work.normal", time.Minute); err != nil {
		t.Errorf("nothing is queued: %v", err)
	}
	if _, err := st.Claim(t.Context(), "work.normal", time.Minute); !errors.Is(err, store.ErrNothing) {
		t.Errorf("it is queued twice: %v", err)
	}
}

// half is a store that does not take work.
type half struct{ *file.Store }

func (h half) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if strings.HasPrefix(subject, "work.") {
		return 0, errors.New("the disk is full")
	}
	return h.Store.Append(ctx, subject, expect, entries...)
}

func TestAlertsAndModel(t *testing.T) {
	t.Parallel()
	b := &session.Book{Journal: open(t)}
	a := ask("alert")
	a.Alerts = []incident.Alert{{Name: "A", Fingerprint: "1", Status: "firing"}}
	s, _, err := b.Ask(t.Context(), a)
	if err != nil || len(s.Alerts) != 1 {
		t.Fatalf("%+v (%v)", s, err)
	}
	yes := true
	if s, err = b.NoteAlerts(t.Context(), s.ID, []incident.Alert{{Name: "A", Fingerprint: "1", Status: "resolved"}, {Name: "B", Fingerprint: "2", Status: "resolved"}}, &yes); err != nil || len(s.Alerts) != 2 || s.Alerts[0].Status != "resolved" || s.Resolved.IsZero() {
		t.Errorf("%+v (%v)", s, err)
	}
	seq := s.Seq
	if s, err = b.NoteAlerts(t.Context(), s.ID, []incident.Alert{{Name: "A", Fingerprint: "1", Status: "resolved"}}, &yes); err != nil || s.Seq != seq {
		t.Errorf("nothing new was written down (%v)", err)
	}
	if s, err = b.SetModel(t.Context(), s.ID, "vllm/x"); err != nil || s.Model != "vllm/x" {
		t.Errorf("%+v (%v)", s, err)
	}
	if open := (session.Filter{Open: true}); open.Match(s) {
		t.Error("a resolved session counts as open")
	}
}

func TestLocalDropsAndEnds(t *testing.T) {
	t.Parallel()
	l := session.NewLocal()
	ctx, stop := context.WithCancel(t.Context())
	c, err := l.Subscribe(ctx, "live.x")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 { // nobody reads: Publish must not wait
		if err := l.Publish(t.Context(), "live.x", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(<-c); got != "0" {
		t.Errorf("first %s", got)
	}
	stop()
	for range c { // it is closed in the end
	}
}

func FuzzFold(f *testing.F) {
	f.Add(session.TypeAsked, []byte(`{"asked":{"id":"run-1"}}`))
	f.Add(session.TypeEnded, []byte(`{"ended":{"id":"run-1","state":"answered"}}`))
	f.Add(session.TypeBegun, []byte(`{}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		s := session.Session{ID: "s"}
		for range 2 {
			s, _ = session.Fold(s, store.Record{Type: session.TypeAsked, Data: []byte(`{"asked":{"id":"run-1"}}`)})
			s, _ = session.Fold(s, store.Record{Type: typ, Data: data})
		}
		if n := len(s.Turns); n > 2 {
			t.Errorf("%d turns", n)
		}
	})
}
