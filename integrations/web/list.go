package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// badge is a state in a word: the class is for its colour, the word is what is read.
type badge struct{ Class, Text string }

// listView is the first page.
type listView struct {
	Filter  filterView
	Rows    []sessionRow
	More    string
	Ask     askForm
	Queued  int
	Running int
}

type filterView struct {
	Source, Text string
	Open         bool
	Sources      []string
	Any          bool
}

type sessionRow struct {
	ID, Title, Source, Owner, Namespace string
	State                               badge
	Headline                            string
	Alerts                              string
	Plans                               string
	Turns                               string
	Changed                             when
}

// askForm is a form for a question; the texts are kept when it comes back.
type askForm struct {
	Action, Key, Text, Namespace, Model string
	Models                              []modelOption
	// Follow says that it continues a conversation; Why is set where it cannot.
	Follow bool
	Why    string
}

type modelOption struct {
	Name, Label string
	Selected    bool
}

// maxQuestion is the longest question that is taken, in bytes.
const maxQuestion = 64 << 10

func filterOf(q url.Values) session.Filter {
	f := session.Filter{Source: q.Get("source"), Text: clip(strings.TrimSpace(q.Get("q")), 200), Open: q.Get("open") == "1"}
	if !slices.Contains(session.Surfaces(), f.Source) {
		f.Source = ""
	}
	return f
}

// rows gives the list of conversations that a filter lets through.
func (s *Web) rows(r *http.Request, f session.Filter) (listView, error) {
	v := listView{Filter: filterView{Source: f.Source, Text: f.Text, Open: f.Open, Sources: session.Surfaces(), Any: f.Source != "" || f.Text != "" || f.Open}}
	f.Limit = s.cfg.Listed + 1
	all, err := s.svc.Sessions(r.Context(), f)
	if err != nil && len(all) == 0 {
		return v, err
	}
	if len(all) > s.cfg.Listed {
		all, v.More = all[:s.cfg.Listed], fmt.Sprintf("The %d that changed last are listed; narrow the list to find others.", s.cfg.Listed)
	}
	for _, x := range all {
		v.Rows = append(v.Rows, s.row(x))
	}
	return v, nil
}

func (s *Web) row(x session.Session) sessionRow {
	r := sessionRow{
		ID: x.ID, Title: titleOf(x), Source: x.Source, Owner: clean(x.Owner.Name), Namespace: clean(x.Namespace),
		State: stateOf(x), Alerts: alertCount(x), Changed: moment(x.Changed, s.now()),
	}
	if r.Owner == r.Source { // a surface that asks by itself is named once
		r.Owner = ""
	}
	if n := len(x.Turns); n > 1 {
		r.Turns = plural(n, "question", "questions")
	}
	if n := len(x.Plans); n > 0 {
		r.Plans = plural(n, "plan", "plans")
	}
	if t, ok := x.Last(); ok {
		r.Headline = clip(clean(t.Headline), 300)
		if r.Headline == "" || t.State == session.Failed { // what failed says why
			r.Headline = clip(cmp.Or(clean(t.Reason), clean(t.Headline)), 300)
		}
	}
	return r
}

func titleOf(x session.Session) string {
	if t := clip(clean(x.Title), 200); t != "" {
		return t
	}
	if t, ok := x.Last(); ok && clean(t.Question.Text) != "" {
		return clip(clean(t.Question.Text), 200)
	}
	return x.ID
}

// stateOf is the state of a conversation: that of its last question, or how it ended.
func stateOf(x session.Session) badge {
	switch {
	case x.Merged != "":
		return badge{"off", "merged"}
	case x.Closed:
		return badge{"off", "closed"}
	}
	t, ok := x.Last()
	switch {
	case ok && !t.State.Ended():
		return turnState(t)
	case !x.Resolved.IsZero():
		return badge{"good", "resolved"}
	case ok:
		return turnState(t)
	case len(x.Alerts) > 0:
		return badge{"warn", "firing"}
	}
	return badge{"off", "empty"}
}

// turnState is the state of a question in a word.
func turnState(t session.Turn) badge {
	switch t.State {
	case session.Queued:
		return badge{"wait", "queued"}
	case session.Running:
		return badge{"live", "investigating"}
	case session.Failed:
		return badge{"bad", "failed"}
	case session.Cancelled:
		return badge{"off", "taken back"}
	}
	return outcomeState(t.Outcome)
}

func outcomeState(o incident.Outcome) badge {
	switch o {
	case incident.RootCause:
		return badge{"bad", "root cause"}
	case incident.Healthy:
		return badge{"good", "healthy"}
	case incident.Recovered:
		return badge{"good", "recovered"}
	}
	return badge{"warn", "inconclusive"}
}

func alertCount(x session.Session) string {
	firing := 0
	for _, a := range x.Alerts {
		if firingAlert(a) {
			firing++
		}
	}
	switch {
	case len(x.Alerts) == 0:
		return ""
	case firing == 0:
		return plural(len(x.Alerts), "alert", "alerts") + ", resolved"
	}
	return plural(firing, "alert", "alerts") + " firing"
}

func firingAlert(a incident.Alert) bool { return a.Status != "resolved" }

// newAsk gives an empty form with a key of its own.
func (s *Web) newAsk(r *http.Request, action string) askForm {
	f := askForm{Action: action, Key: s.newKey()}
	models, err := s.svc.Models(r.Context())
	if err != nil {
		s.log.WarnContext(r.Context(), "the models are not known", "error", err)
	}
	f.Models = modelOptions(models, "")
	return f
}

func modelOptions(models []session.Model, selected string) []modelOption {
	var out []modelOption
	for _, m := range models {
		label := clean(m.Name)
		if m.Window > 0 {
			label += fmt.Sprintf(" (%dk tokens)", m.Window/1000)
		}
		if m.InputPrice > 0 {
			label += fmt.Sprintf(" $%.2f/$%.2f", m.InputPrice, m.OutputPrice)
		}
		out = append(out, modelOption{Name: m.Name, Label: label, Selected: m.Name == selected || selected == "" && m.Default})
	}
	return out
}

func (s *Web) list(w http.ResponseWriter, r *http.Request) error {
	return s.showList(w, r, http.StatusOK, s.newAsk(r, "/sessions"), nil)
}

func (s *Web) showList(w http.ResponseWriter, r *http.Request, status int, form askForm, p *problem) error {
	f := filterOf(r.URL.Query())
	v, err := s.rows(r, f)
	if err != nil {
		return err
	}
	v.Ask = form
	fr := s.frameOf(r, "Investigations", "sessions")
	fr.Problem = p
	fr.Live = "/live/sessions?" + r.URL.Query().Encode()
	fr.Body = v
	return s.show(w, r, status, "list", fr)
}

// asked reads a form with a question; the problem says what is wrong with it.
func (s *Web) asked(r *http.Request) (askForm, *problem) {
	f := askForm{}
	if err := r.ParseForm(); err != nil {
		return f, &problem{Text: "The form cannot be read.", Fix: "A question may have " + fmt.Sprint(maxQuestion>>10) + " KiB."}
	}
	f.Key, f.Text = r.PostForm.Get("key"), strings.TrimSpace(strings.ReplaceAll(r.PostForm.Get("text"), "\r\n", "\n"))
	f.Namespace, f.Model = strings.TrimSpace(r.PostForm.Get("namespace")), r.PostForm.Get("model")
	switch {
	case f.Key == "" || len(f.Key) > 100:
		return f, &problem{Text: "The form carries no key, which keeps a question from being asked twice.", Fix: "Load the page again."}
	case len(f.Text) > maxQuestion:
		return f, &problem{Text: fmt.Sprintf("The question has %d bytes; at most %d are taken.", len(f.Text), maxQuestion), Fix: "Leave out what is not needed."}
	case f.Text == "" && f.Namespace == "":
		return f, &problem{Text: "There is no question.", Fix: "Say what does not work, or name a namespace to look at as a whole."}
	}
	return f, nil
}

// question is what is put to the service.
func (f askForm) question() incident.Question {
	q := incident.Question{Text: f.Text, Namespace: f.Namespace}
	if q.Text == "" {
		q.Text = "What is wrong in namespace " + f.Namespace + "?"
	}
	return q
}

// person is who asks: empty where the server's own identity acts.
func person(r *http.Request) incident.Person {
	id, _ := access.From(r.Context())
	p := id.Person
	p.Surface = session.Web
	return p
}

// again gives a form back with what was written in it.
func (s *Web) again(r *http.Request, action string, f askForm) askForm {
	n := s.newAsk(r, action)
	n.Text, n.Namespace = f.Text, f.Namespace
	if f.Key != "" {
		n.Key = f.Key
	}
	for i := range n.Models {
		n.Models[i].Selected = n.Models[i].Name == f.Model
	}
	return n
}

func (s *Web) ask(w http.ResponseWriter, r *http.Request) error {
	f, p := s.asked(r)
	if p != nil {
		return s.showList(w, r, http.StatusBadRequest, s.again(r, "/sessions", f), p)
	}
	x, _, err := s.svc.Ask(r.Context(), session.Ask{Question: f.question(), By: person(r), Source: session.Web, Key: f.Key, Model: f.Model})
	if err != nil {
		status, p := s.explain(r.Context(), err)
		return s.showList(w, r, status, s.again(r, "/sessions", f), &p)
	}
	return goTo(w, r, "/sessions/"+url.PathEscape(x.ID), "asked")
}
