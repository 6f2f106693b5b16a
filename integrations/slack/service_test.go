package slack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// service is a server's core over a real store: the real book, worker and desk; the
// investigations and the execution write the journal's records as scripted.
type service struct {
	store  *file.Store
	book   *session.Book
	desk   *planner.Desk
	worker *session.Worker
	// gate holds investigations back until something is received, if it is set.
	gate chan struct{}
	// report is what an investigation finds.
	report func(j session.Job) incident.Report
	needed int
	risk   incident.Risk
	diff   string
	ttl    time.Duration

	mu    sync.Mutex
	plans int
	// planned gives the last plan of each investigation.
	planned map[string]string
	says    int
}

type noTrail struct{}

func (noTrail) Note(context.Context, string, string, string, string, any) error { return nil }

func newService(st *file.Store) *service {
	s := &service{store: st, book: &session.Book{Journal: st, Cluster: "lab"}, desk: &planner.Desk{Journal: st, Trail: noTrail{}, Now: time.Now}, planned: map[string]string{}, report: pendingReport, needed: 1, risk: incident.RiskLow, diff: "- replicas: 1\n+ replicas: 2\n", ttl: time.Hour}
	s.worker = &session.Worker{Book: s.book, Queue: st, Investigate: s.investigate, Concurrency: 4}
	return s
}

func (s *service) serve(ctx context.Context) {
	w := s.worker
	s.book.Woken = w.Wake
	if err := w.Serve(ctx); err != nil {
		panic(err)
	}
}

// pendingReport is the answer of a pod that asks for a device that no node has.
func pendingReport(session.Job) incident.Report {
	pod := incident.Ref{Cluster: "lab", Kind: "Pod", Namespace: "train", Name: "llama-0"}
	claim := incident.Ref{Cluster: "lab", Kind: "ResourceClaim", Namespace: "train", Name: "llama-0-gpu"}
	return incident.Report{
		Subjects: []incident.Ref{pod}, Cluster: "lab", Model: "offline", Stop: incident.StopDone,
		Evidence: []incident.Evidence{
			{ID: "E1", Tool: "kube_pod", Args: json.RawMessage(`{"namespace":"train","name":"llama-0"}`), Cluster: "lab", Text: "Pod train/llama-0: Pending for 12m <!channel>"},
			{ID: "E2", Tool: "dra_explain", Cluster: "lab", Text: "48 devices, none fits\nselector 0 wants H200\nunrelated line"},
			{ID: "E3", Tool: "prom_range", Args: json.RawMessage(`{"query":"DCGM_FI_DEV_GPU_UTIL"}`), Cluster: "lab", Text: "rising", Data: json.RawMessage(`{"series":[{"labels":{"gpu":"0"},"points":[[1790000000,1],[1790000060,5],[1790000120,9]]}]}`)},
		},
		Diagnosis: incident.Diagnosis{
			Outcome:   incident.RootCause,
			Causes:    []incident.Cause{{Subject: claim, Code: "dra.selector_excludes_all", Statement: "ResourceClaim train/llama-0-gpu asks for an H200, no node of the 48 devices has one <!channel> & more", Confidence: 0.97, Evidence: []string{"E2", "E3"}}},
			Chain:     []incident.Edge{{From: pod, Relation: "claims", To: claim, Evidence: []string{"E1"}}},
			NotSeen:   []incident.Gap{{Source: "GPU telemetry", Why: "Prometheus is not configured"}},
			Proposals: []incident.Proposal{{Action: "claim_template_replace", Params: map[string]string{"namespace": "train"}, Why: "ask for an H100"}},
		},
	}
}

func (s *service) investigate(ctx context.Context, j session.Job) (incident.Report, error) {
	log := store.NewRunLog(ctx, s.store, store.RunLogOptions{})
	rec := event.NewRecorder(j.Run, time.Now, log)
	rec.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: j.Question, Model: "offline"}})
	r := s.report(j)
	r.ID, r.Question, r.Alert, r.Started, r.Ended = j.Run, j.Question.Text, j.Question.Alert, time.Now(), time.Now()
	r.Usage = incident.Usage{ToolCalls: len(r.Evidence)}
	for _, e := range r.Evidence {
		rec.Emit(event.Event{Type: event.ToolFinished, Evidence: &e})
	}
	if len(r.Diagnosis.Causes) > 0 {
		rec.Emit(event.Event{Type: event.Hypotheses, Hypotheses: []incident.Hypothesis{{Cause: r.Diagnosis.Causes[0]}}})
	}
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
	rec.Emit(event.Event{Type: event.Concluded, Diagnosis: &r.Diagnosis})
	rec.Emit(event.Event{Type: event.RunEnded, Report: &r})
	return r, nil
}

func (s *service) Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error) {
	return s.book.Ask(ctx, a)
}

func (s *service) Cancel(ctx context.Context, id, turn string, by incident.Person) (session.Session, error) {
	defer s.worker.Cancel(turn)
	return s.book.Cancel(ctx, id, turn, by.Name+" took it back")
}

func (s *service) Session(ctx context.Context, id string) (session.Session, error) {
	return s.book.Get(ctx, id)
}

func (s *service) Link(ctx context.Context, id string, l session.Link) (session.Session, error) {
	return s.book.Link(ctx, id, l)
}

func (s *service) Unlink(ctx context.Context, id string, l session.Link) (session.Session, error) {
	return s.book.Unlink(ctx, id, l)
}

func (s *service) Linked(ctx context.Context, l session.Link) (session.Session, bool, error) {
	return s.book.Linked(ctx, l)
}

func (s *service) Run(ctx context.Context, run string) (store.Run, error) {
	return store.LoadRun(ctx, s.store, run)
}

func (s *service) Output(context.Context, string) ([]byte, error) {
	return nil, tool.Errorf(tool.NotFound, "the output is not kept")
}

func (s *service) Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error] {
	return func(yield func(session.Notice, error) bool) {
		for r, err := range s.store.Watch(ctx, ">", after) {
			if err != nil {
				yield(session.Notice{}, err)
				return
			}
			n := session.Notice{Seq: r.Seq, At: r.At, Type: r.Type}
			if id, ok := strings.CutPrefix(r.Subject, "session."); ok {
				n.Session = id
			} else if id, ok := strings.CutPrefix(r.Subject, "plan."); ok {
				n.Plan = id
			} else {
				continue
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (s *service) Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error] {
	return func(yield func(session.Told, error) bool) {
		for r, err := range s.store.Watch(ctx, "run."+id, store.After(after)) {
			var e event.Event
			if err == nil {
				err = json.Unmarshal(r.Data, &e)
			}
			if !yield(session.Told{Seq: r.Seq, Event: e}, err) || err != nil || e.Type == event.RunEnded {
				return
			}
		}
	}
}

func (s *service) Plan(ctx context.Context, id string) (planner.Record, error) {
	return s.desk.Load(ctx, id)
}

// Propose makes one plan of an investigation, whoever asks for it and however often, as
// long as something may come of it: also after a process that ended while it asked.
func (s *service) Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.planned[a.Run]
	rec, err := s.desk.Load(ctx, id)
	switch {
	case id == "" || err == nil && !rec.Stands():
		s.plans++
		id = fmt.Sprintf("plan-%d", s.plans)
		s.planned[a.Run] = id
		rec, err = s.file(ctx, a, id)
	case errors.Is(err, store.ErrNotFound):
		rec, err = s.file(ctx, a, id)
	}
	if err != nil {
		return rec, err
	}
	_, err = s.book.AddPlan(ctx, a.Session, id)
	return rec, err
}

func (s *service) file(ctx context.Context, a session.PlanAsk, id string) (planner.Record, error) {
	web := incident.Ref{Cluster: "lab", Kind: "Deployment", Namespace: "train", Name: "web"}
	p := incident.Plan{
		Version: incident.PlanVersion, ID: id, Title: "Ask for an H100 in train/llama-gpu", Cluster: "lab", ClusterUID: "u1", Investigation: a.Run, Author: "gumshoe", Requester: a.By,
		Created: time.Now(), Expires: time.Now().Add(s.ttl),
		Cause: &incident.PlanCause{Statement: "no node has an H200", Confidence: 0.97, Evidence: []string{"E2"}},
		Steps: []incident.Step{{ID: "s1", Action: "scale", Say: "scale Deployment train/web to 2", Risk: s.risk,
			Targets: []incident.Target{{Ref: web}},
			Writes:  []incident.Write{{ID: "s1.1", API: incident.APIKubernetes, Verb: incident.VerbPatch, Ref: web, Version: "v1", Resource: "deployments", UID: "u-web", Body: json.RawMessage(`[]`), Say: "set replicas to 2", Diff: s.diff, Dry: "server"}},
			Undo:    []incident.Write{{ID: "s1.u1", Of: "s1.1", API: incident.APIKubernetes, Verb: incident.VerbPatch, Ref: web, Version: "v1", Resource: "deployments", UID: "u-web", Body: json.RawMessage(`[]`), Say: "set replicas to 1"}},
		}},
		Verify: []incident.Check{{Kind: "rollout_complete", Subject: web, Say: "the rollout is complete", Within: 60}},
		Blast:  incident.Blast{PodCount: 1, Pods: []incident.Ref{web}, GPUs: 1, GPUHours: 2},
	}
	return s.desk.File(ctx, p, incident.Decision{Verdict: incident.AskOne, Approvers: s.needed}, "")
}

func (s *service) Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error) {
	rec, err := s.desk.Load(ctx, id)
	if err != nil {
		return rec, err
	}
	if word == incident.Approved && !strings.Contains(strings.Join(by.Groups, " "), "sre") {
		return rec, &planner.Withheld{Plan: id, Why: by.Name + " may not make its changes by their own rights"}
	}
	s.mu.Lock()
	s.says++
	n := s.says
	s.mu.Unlock()
	rec, err = s.desk.Speak(ctx, incident.Approval{Plan: id, Digest: rec.Digest, Word: word, By: by, At: time.Now(), Comment: comment, Nonce: fmt.Sprint(n)})
	if err == nil && word == incident.Approved && rec.Brief().Approvals >= s.needed {
		// The executor does not end with the process that the button was pressed in.
		err = s.execute(context.WithoutCancel(ctx), id, by)
	}
	return rec, err
}

// execute writes what an executor journals.
func (s *service) execute(ctx context.Context, id string, by incident.Person) error {
	rec, err := s.desk.Load(ctx, id)
	if err != nil {
		return err
	}
	var last uint64
	for info, err := range s.store.List(ctx, "plan."+id) {
		if err != nil {
			return err
		}
		last = info.Last
	}
	check := rec.Plan.Verify[0]
	for _, e := range []event.Event{
		{Type: event.PlanBegun, Progress: &event.Progress{By: by}},
		{Type: event.WriteBegun, Progress: &event.Progress{Write: "s1.1"}},
		{Type: event.WriteEnded, Write: &incident.WriteResult{Write: "s1.1", Done: true}},
		{Type: event.Checked, Check: &incident.CheckResult{Check: check, Verdict: incident.Pass, Saw: "2 of 2 replicas"}},
		{Type: event.StepEnded, Progress: &event.Progress{Step: "s1"}},
		{Type: event.PlanEnded, Progress: &event.Progress{State: incident.PlanVerified}},
	} {
		e.Run, e.At = id, time.Now()
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if last, err = s.store.Append(ctx, "plan."+id, last, store.Entry{Type: string(e.Type), Data: raw}); err != nil {
			return err
		}
	}
	return nil
}

var errKilled = errors.New("the process ended here")

// approvals counts the approvals that the journal holds of a plan.
func (s *service) approvals(id string) int {
	rec, err := s.desk.Load(context.Background(), id)
	if err != nil {
		return -1
	}
	n := 0
	for _, w := range rec.Words {
		if w.Word == incident.Approved {
			n++
		}
	}
	return n
}

func slackLink(channel, thread string) session.Link {
	return session.Link{Surface: session.Slack, Key: channel + "/" + thread}
}
