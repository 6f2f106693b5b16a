package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// plansView is a list of plans.
type plansView struct {
	Heading string
	Inbox   bool
	Rows    []planRow
	More    string
}

// maxPlans bounds a list of plans.
const maxPlans = 200

func (s *Web) plansView(r *http.Request, inbox bool) (plansView, error) {
	v := plansView{Heading: "Plans", Inbox: inbox}
	if inbox {
		v.Heading = "Approvals"
	}
	all, err := s.svc.Plans(r.Context())
	if err != nil && len(all) == 0 {
		return v, err
	}
	for _, rec := range all {
		if inbox && rec.State != incident.PlanPending {
			continue
		}
		if len(v.Rows) == maxPlans {
			v.More = "The newest " + plural(maxPlans, "plan is", "plans are") + " listed."
			break
		}
		v.Rows = append(v.Rows, s.planRow(rec))
	}
	return v, nil
}

func (s *Web) approvals(w http.ResponseWriter, r *http.Request) error { return s.showPlans(w, r, true) }
func (s *Web) plans(w http.ResponseWriter, r *http.Request) error     { return s.showPlans(w, r, false) }

func (s *Web) showPlans(w http.ResponseWriter, r *http.Request, inbox bool) error {
	v, err := s.plansView(r, inbox)
	if err != nil {
		return err
	}
	current, live := "plans", "/live/plans"
	if inbox {
		current, live = "approvals", "/live/approvals"
	}
	f := s.frameOf(r, v.Heading, current)
	f.Body, f.Live = v, live
	return s.show(w, r, http.StatusOK, "plans", f)
}

func (s *Web) plan(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.svc.Plan(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.showPlan(w, r, http.StatusOK, rec, nil, nil)
}

func (s *Web) showPlan(w http.ResponseWriter, r *http.Request, status int, rec planner.Record, p *problem, change func(*planView)) error {
	f := s.frameOf(r, clean(rec.Plan.Title), "approvals")
	id, _ := access.From(r.Context())
	v, err := s.viewPlan(rec, id.Person, f.Can, id.Local)
	if err != nil {
		return err
	}
	v.Session = s.origin(r.Context(), rec)
	if change != nil {
		change(&v)
	}
	f.Problem, f.Body = p, v
	f.Live = "/live/plans/" + url.PathEscape(rec.Plan.ID)
	return s.show(w, r, status, "plan", f)
}

// origin gives the address of the investigation that a plan comes from, or "".
func (s *Web) origin(ctx context.Context, rec planner.Record) string {
	if rec.Plan.Investigation == "" {
		return ""
	}
	all, err := s.svc.Sessions(ctx, session.Filter{Run: rec.Plan.Investigation})
	if err != nil && len(all) == 0 {
		return ""
	}
	for _, x := range all {
		if t, ok := x.OfRun(rec.Plan.Investigation); ok {
			return "/sessions/" + url.PathEscape(x.ID) + "?turn=" + url.QueryEscape(t.ID)
		}
	}
	return ""
}

// planWord is a form about a plan.
type planWord struct {
	digest, comment string
	confirmed       bool
}

// readWord reads the form and the plan that it is about.
func (s *Web) readWord(r *http.Request) (planner.Record, planWord, error) {
	if err := r.ParseForm(); err != nil {
		return planner.Record{}, planWord{}, refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	rec, err := s.svc.Plan(r.Context(), r.PathValue("id"))
	return rec, planWord{digest: r.PostForm.Get("digest"), comment: strings.TrimSpace(r.PostForm.Get("comment")), confirmed: r.PostForm.Get("confirmed") == "yes"}, err
}

// stale says why a word about a plan comes too late or is about another one, or nil.
// The service judges again; this is the sentence for who looked at an older page.
func stale(rec planner.Record, w planWord) *problem {
	if w.digest != rec.Digest {
		return &problem{Text: "What you saw is not the plan that stands under this id.", Fix: "Read it again below before you decide."}
	}
	if rec.State == incident.PlanPending {
		return nil
	}
	p := &problem{Text: "The plan does not wait any more: it is " + planState(rec.State).Text + "."}
	for _, x := range rec.Words {
		if x.Word == incident.Approved || x.Word == incident.Rejected {
			p.Fix = clean(x.By.Name) + " " + said(x.Word) + " it at " + x.At.UTC().Format("15:04 UTC") + after(" on ", clean(x.By.Surface)) + "."
		}
	}
	return p
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

// say records a word, and shows the plan again with a sentence where it is refused.
func (s *Web) say(w http.ResponseWriter, r *http.Request, rec planner.Record, word, comment, note string) error {
	_, err := s.svc.Say(r.Context(), rec.Plan.ID, word, comment, person(r))
	if err == nil {
		return goTo(w, r, "/plans/"+url.PathEscape(rec.Plan.ID), note)
	}
	return s.refused(w, r, rec.Plan.ID, err)
}

// refused shows a plan as it stands now, with the reason of a refusal.
func (s *Web) refused(w http.ResponseWriter, r *http.Request, id string, err error) error {
	status, p := s.explain(r.Context(), err)
	rec, loadErr := s.svc.Plan(r.Context(), id)
	if loadErr != nil {
		return err
	}
	return s.showPlan(w, r, status, rec, &p, nil)
}

// approve takes an approval of the bytes that the page showed. What can hurt much is
// asked once more.
func (s *Web) approve(w http.ResponseWriter, r *http.Request) error {
	rec, f, err := s.readWord(r)
	if err != nil {
		return err
	}
	if p := stale(rec, f); p != nil {
		return s.showPlan(w, r, http.StatusConflict, rec, p, nil)
	}
	if worst(rec.Plan).Weight() >= incident.RiskHigh.Weight() && !f.confirmed {
		return s.showPlan(w, r, http.StatusOK, rec, nil, func(v *planView) { v.Confirm = true })
	}
	return s.say(w, r, rec, incident.Approved, f.comment, "approved")
}

func (s *Web) reject(w http.ResponseWriter, r *http.Request) error {
	rec, f, err := s.readWord(r)
	if err != nil {
		return err
	}
	if p := stale(rec, f); p != nil {
		return s.showPlan(w, r, http.StatusConflict, rec, p, nil)
	}
	if f.comment == "" {
		return s.showPlan(w, r, http.StatusBadRequest, rec, &problem{Text: "A rejection needs a reason.", Fix: "Write one sentence that who asked for the plan can act on."}, nil)
	}
	return s.say(w, r, rec, incident.Rejected, f.comment, "rejected")
}

func (s *Web) revoke(w http.ResponseWriter, r *http.Request) error {
	rec, f, err := s.readWord(r)
	if err != nil {
		return err
	}
	if p := stale(rec, f); p != nil && rec.State != incident.PlanApproved {
		return s.showPlan(w, r, http.StatusConflict, rec, p, nil)
	}
	return s.say(w, r, rec, incident.Revoked, f.comment, "revoked")
}

func (s *Web) comment(w http.ResponseWriter, r *http.Request) error {
	rec, f, err := s.readWord(r)
	if err != nil {
		return err
	}
	if f.comment == "" {
		return s.showPlan(w, r, http.StatusBadRequest, rec, &problem{Text: "There is no comment."}, nil)
	}
	return s.say(w, r, rec, incident.Commented, f.comment, "commented")
}

func (s *Web) undo(w http.ResponseWriter, r *http.Request) error {
	rec, f, err := s.readWord(r)
	if err != nil {
		return err
	}
	switch {
	case f.digest != rec.Digest:
		return s.showPlan(w, r, http.StatusConflict, rec, stale(rec, f), nil)
	case f.comment == "":
		return s.showPlan(w, r, http.StatusBadRequest, rec, &problem{Text: "Taking a plan back needs a reason."}, nil)
	}
	if _, err := s.svc.Undo(r.Context(), rec.Plan.ID, f.comment, person(r)); err != nil {
		return s.refused(w, r, rec.Plan.ID, err)
	}
	return goTo(w, r, "/plans/"+url.PathEscape(rec.Plan.ID), "undoing")
}

// rehearse asks the server's dry run again and shows what it found.
func (s *Web) rehearse(w http.ResponseWriter, r *http.Request) error {
	rec, problems, err := s.svc.Rehearse(r.Context(), r.PathValue("id"))
	if err != nil {
		return s.refused(w, r, r.PathValue("id"), err)
	}
	return s.showPlan(w, r, http.StatusOK, rec, nil, func(v *planView) { v.Rehearsed = &rehearsal{cleanAll(problems)} })
}
