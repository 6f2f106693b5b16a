package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// sessionView is a conversation.
type sessionView struct {
	Head   headView
	Turns  []turnView
	Ask    askForm
	Plans  plansPart
	Models []modelOption
	// Delete says that a first press on the button asks once more.
	Delete bool
}

// headView is the top of the page, which changes while it is open.
type headView struct {
	ID, Title, Source, Owner, Cluster, Namespace, Model string
	State                                               badge
	Opened, Resolved                                    when
	Alerts                                              []alertView
	Links                                               []string
	Merged                                              string
	Closed                                              bool
	Cost                                                string
}

type alertView struct {
	Name, Status, Summary string
	Firing                bool
	Labels                []string
	Since                 when
}

// plansPart lists the plans of a conversation.
type plansPart struct{ Plans []planRow }

// turnView is a question and its answer.
type turnView struct {
	ID, Session, By, Source, Text, Model, URL string
	N                                         int
	State                                     badge
	Asked                                     when
	Headline, Reason, Cost                    string
	Attempt                                   int
	Selected, Waiting, Busy                   bool
	CanCancel                                 bool
	Can                                       can
	Run                                       *runView
	// Form is a proposal that came back with what it lacks.
	Form *planForm
}

// planForm is a proposal whose form came back.
type planForm struct {
	N       int
	Reason  string
	Problem problem
	Missing []paramView
}

func (s *Web) session(w http.ResponseWriter, r *http.Request) error {
	x, err := s.svc.Session(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if r.PathValue("id") != x.ID { // "latest"
		return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "")
	}
	return s.showSession(w, r, http.StatusOK, x, s.newAsk(r, "/sessions/"+url.PathEscape(x.ID)+"/ask"), nil, nil)
}

func (s *Web) showSession(w http.ResponseWriter, r *http.Request, status int, x session.Session, ask askForm, p *problem, form *planForm) error {
	fr := s.frameOf(r, titleOf(x), "sessions")
	selected := selectedTurn(x, r.URL.Query().Get("turn"))
	v := sessionView{Head: s.head(x), Ask: ask, Plans: s.plansOf(r.Context(), x), Delete: r.URL.Query().Get("delete") == "1"}
	v.Ask.Follow = true
	switch {
	case x.Merged != "":
		v.Ask.Why = "This conversation goes on in another one."
	case x.Closed:
		v.Ask.Why = "This conversation is closed."
	case !fr.Can.Ask:
		v.Ask.Why = "Your role may look and not ask."
	}
	v.Models = modelOptions(nil, "")
	for _, m := range ask.Models {
		m.Selected = m.Name == x.Model || x.Model == "" && m.Selected
		v.Models = append(v.Models, m)
	}
	at := place{turn: selected}
	for i, t := range x.Turns {
		tv, err := s.turn(r, x, t, i, t.ID == selected, fr.Can)
		if err != nil {
			return err
		}
		if tv.Selected {
			tv.Form = form
			at.key = tv.key(t.State)
			if tv.Run != nil {
				at.seq = tv.Run.Seq
			}
		}
		v.Turns = append(v.Turns, tv)
	}
	live := url.Values{"turn": {selected}, "after": {at.String()}}
	if selected == lastTurn(x) {
		live.Set("follow", "1")
	}
	fr.Problem, fr.Body = p, v
	fr.Live = "/live/sessions/" + url.PathEscape(x.ID) + "?" + live.Encode()
	return s.show(w, r, status, "session", fr)
}

// selectedTurn is the question whose investigation is shown: the one asked for, else the last.
func selectedTurn(x session.Session, want string) string {
	if _, ok := x.Turn(want); ok {
		return want
	}
	return lastTurn(x)
}

func lastTurn(x session.Session) string {
	t, _ := x.Last()
	return t.ID
}

func (s *Web) head(x session.Session) headView {
	now := s.now()
	h := headView{
		ID: x.ID, Title: titleOf(x), Source: x.Source, Owner: clean(x.Owner.Name), Cluster: clean(x.Cluster), Namespace: clean(x.Namespace), Model: clean(x.Model),
		State: stateOf(x), Opened: moment(x.Opened, now), Resolved: moment(x.Resolved, now), Merged: x.Merged, Closed: x.Closed,
	}
	var u incident.Usage
	for _, t := range x.Turns {
		u.ToolCalls += t.Usage.ToolCalls
		u.InputTokens += t.Usage.InputTokens
		u.OutputTokens += t.Usage.OutputTokens
		u.Cost += t.Usage.Cost
		u.Seconds += t.Usage.Seconds
	}
	h.Cost = cost(u)
	for _, l := range x.Links {
		h.Links = append(h.Links, clean(l.Surface)+" "+clean(l.Key))
	}
	for _, a := range x.Alerts {
		v := alertView{Name: clean(a.Name), Status: "firing", Firing: firingAlert(a), Summary: clip(clean(a.Annotations["summary"]), 300), Since: moment(a.StartsAt, now)}
		if !v.Firing {
			v.Status = "resolved"
		}
		for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
			if k != "alertname" {
				v.Labels = append(v.Labels, clip(clean(k)+"="+clean(a.Labels[k]), 120))
			}
		}
		h.Alerts = append(h.Alerts, v)
	}
	return h
}

func (s *Web) plansOf(ctx context.Context, x session.Session) plansPart {
	var p plansPart
	for _, id := range slices.Backward(x.Plans) {
		rec, err := s.svc.Plan(ctx, id)
		if err != nil {
			s.log.WarnContext(ctx, "a plan cannot be read", "plan", id, "error", err)
			continue
		}
		p.Plans = append(p.Plans, s.planRow(rec))
	}
	return p
}

// turn shows a question; its investigation too where it is the selected one.
func (s *Web) turn(r *http.Request, x session.Session, t session.Turn, i int, selected bool, c can) (turnView, error) {
	ctx := r.Context()
	v := turnView{
		ID: t.ID, Session: x.ID, N: i + 1, By: clean(t.By.Name), Source: t.Source, Text: block(t.Question.Text), Model: clean(t.Model), State: turnState(t), Asked: moment(t.Asked, s.now()),
		Headline: sentence(clean(t.Headline)), Reason: sentence(clean(t.Reason)), Cost: cost(t.Usage), Attempt: t.Attempt, Selected: selected, Waiting: t.State == session.Queued, Busy: t.State == session.Running,
		CanCancel: !t.State.Ended() && c.Ask, Can: c, URL: "?turn=" + url.QueryEscape(t.ID) + "#turn-" + t.ID,
	}
	if v.Text == "" && t.Question.Alert != nil {
		v.Text = "Alert " + clean(t.Question.Alert.Name)
	}
	if !selected || t.Run == "" {
		return v, nil
	}
	run, err := s.svc.Run(ctx, t.Run)
	if errors.Is(err, store.ErrNotFound) {
		return v, nil // it has begun, and its first record is on its way
	}
	if err != nil {
		return v, err
	}
	if v.Run, err = s.viewRun(run, x.ID, t, r.URL.Query().Get("object")); err != nil {
		return v, err
	}
	v.Run.Timeline, _, err = s.readTimeline(ctx, run)
	return v, err
}

func (s *Web) followUp(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	f, p := s.asked(r)
	back := func(status int, p problem) error {
		x, err := s.svc.Session(r.Context(), id)
		if err != nil {
			return err
		}
		return s.showSession(w, r, status, x, s.again(r, "/sessions/"+url.PathEscape(id)+"/ask", f), &p, nil)
	}
	if p != nil {
		return back(http.StatusBadRequest, *p)
	}
	x, err := s.svc.Session(r.Context(), id)
	if err != nil {
		return err
	}
	q := f.question()
	q.Cluster = x.Cluster
	if q.Namespace == "" {
		q.Namespace = x.Namespace
	}
	x, _, err = s.svc.Ask(r.Context(), session.Ask{Session: x.ID, Question: q, By: person(r), Source: session.Web, Key: f.Key})
	if err != nil {
		status, p := s.explain(r.Context(), err)
		return back(status, p)
	}
	return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "asked")
}

func (s *Web) cancel(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	x, err := s.svc.Cancel(r.Context(), r.PathValue("id"), r.PostForm.Get("turn"), person(r))
	if err != nil {
		return err
	}
	return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "cancelled")
}

func (s *Web) setModel(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	x, err := s.svc.SetModel(r.Context(), r.PathValue("id"), r.PostForm.Get("model"), person(r))
	if err != nil {
		return err
	}
	return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "model")
}

func (s *Web) closeSession(w http.ResponseWriter, r *http.Request) error {
	x, err := s.svc.CloseSession(r.Context(), r.PathValue("id"), person(r))
	if err != nil {
		return err
	}
	return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "closed")
}

func (s *Web) deleteSession(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	id := r.PathValue("id")
	if r.PostForm.Get("sure") != "yes" {
		http.Redirect(w, r, "/sessions/"+url.PathEscape(id)+"?delete=1#delete", http.StatusSeeOther)
		return nil
	}
	if err := s.svc.DeleteSession(r.Context(), id, person(r)); err != nil {
		return err
	}
	return goTo(w, r, "/sessions", "deleted")
}

// propose makes a plan of a proposal. A second one of the same proposal is not made
// while the first waits.
func (s *Web) propose(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	x, err := s.svc.Session(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	t, ok := x.Turn(r.PostForm.Get("turn"))
	if !ok || t.Run == "" {
		return refuse(http.StatusNotFound, "Load the page again.", "the conversation has no such investigation")
	}
	ask := session.PlanAsk{Session: x.ID, Run: t.Run, Action: r.PostForm.Get("action"), Set: map[string]string{}, Reason: strings.TrimSpace(r.PostForm.Get("reason")), By: person(r), Source: session.Web}
	for name, values := range r.PostForm {
		if k, ok := strings.CutPrefix(name, "set."); ok && len(values) == 1 && strings.TrimSpace(values[0]) != "" && len(k) <= 64 {
			ask.Set[k] = strings.TrimSpace(values[0])
		}
	}
	s.proposing.Lock()
	defer s.proposing.Unlock()
	if id := s.standing(r.Context(), x, ask); id != "" {
		return goTo(w, r, "/plans/"+url.PathEscape(id), "standing")
	}
	rec, err := s.svc.Propose(r.Context(), ask)
	if err == nil {
		return goTo(w, r, "/plans/"+url.PathEscape(rec.Plan.ID), "planned")
	}
	status, p := s.explain(r.Context(), err)
	f := &planForm{N: -1, Reason: ask.Reason, Problem: p}
	if run, err := s.svc.Run(r.Context(), t.Run); err == nil {
		f.N = slices.IndexFunc(run.Report.Diagnosis.Proposals, func(p incident.Proposal) bool { return p.Action == ask.Action })
	}
	if no, ok := errors.AsType[*planner.NoPlan](err); ok {
		for _, m := range no.Missing {
			f.Missing = append(f.Missing, paramView{Name: m.Param, Why: sentence(clean(m.Why)), Open: true})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(ask.Set)) {
		if !slices.ContainsFunc(f.Missing, func(p paramView) bool { return p.Name == k }) {
			f.Missing = append(f.Missing, paramView{Name: k, Value: ask.Set[k], Open: true})
		}
	}
	u := *r.URL
	u.RawQuery = url.Values{"turn": {t.ID}}.Encode()
	r.URL = &u
	return s.showSession(w, r, status, x, s.newAsk(r, "/sessions/"+url.PathEscape(x.ID)+"/ask"), &p, f)
}

// standing gives the plan that waits already for what is asked, if there is one.
func (s *Web) standing(ctx context.Context, x session.Session, ask session.PlanAsk) string {
	for _, id := range slices.Backward(x.Plans) {
		rec, err := s.svc.Plan(ctx, id)
		if err != nil || rec.State != incident.PlanPending || rec.Plan.Investigation != ask.Run || len(rec.Plan.Steps) == 0 || rec.Plan.Reason != ask.Reason {
			continue
		}
		step := rec.Plan.Steps[0]
		same := ask.Action == "" || step.Action == ask.Action
		for k, v := range ask.Set {
			same = same && step.Params[k] == v
		}
		if same {
			return id
		}
	}
	return ""
}

// output shows the whole of what a call answered.
func (s *Web) output(w http.ResponseWriter, r *http.Request) error {
	digest := r.PathValue("digest")
	raw, err := s.svc.Output(r.Context(), digest)
	if err != nil {
		return err
	}
	v := outputView{Digest: clean(digest), Size: len(raw), Back: "/sessions"}
	if len(raw) > maxOutput {
		raw, v.Cut = raw[:maxOutput], true
	}
	v.Text = block(strings.ToValidUTF8(string(raw), "\uFFFD"))
	if u, err := url.Parse(r.Referer()); err == nil && u.Host == r.Host && strings.HasPrefix(u.Path, "/sessions/") {
		v.Back = u.EscapedPath()
		if u.RawQuery != "" {
			v.Back += "?" + u.RawQuery
		}
	}
	f := s.frameOf(r, "Full output", "sessions")
	f.Body = v
	return s.show(w, r, http.StatusOK, "output", f)
}

// maxOutput bounds the output on a page, in bytes.
const maxOutput = 2 << 20

type outputView struct {
	Digest, Text, Back string
	Size               int
	Cut                bool
}

// may says what the role of who asks allows.
func may(ctx context.Context) can {
	id, _ := access.From(ctx)
	return can{Ask: id.Role >= access.Asker, Approve: id.Role >= access.Approver, Admin: id.Role >= access.Admin}
}

// local says that the server's own identity acts for who asks.
func local(r *http.Request) bool {
	id, _ := access.From(r.Context())
	return id.Local
}
