package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	template "github.com/DataDog/datadog-agent/pkg/template/html"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// runView is an investigation as a page shows it.
type runView struct {
	ID, Session, Turn string
	// Open says that it is at work; what follows is then not shown.
	Open        bool
	Outcome     badge
	Answer      string
	Model, Cost string
	Causes      []causeView
	RuledOut    []refutationView
	Hypotheses  []hypothesisView
	Checked     []claimView
	WouldFit    []claimView
	Unexplained []claimView
	NotSeen     []gapView
	Unsupported []unsupportedView
	Ask         *clarificationView
	Proposals   []proposalView
	Summary     template.HTML
	Graph       *graph
	Charts      []chart
	Suspicious  []string
	Stopped     string
	Abandoned   bool
	Evidence    []evidenceView
	Others      []evidenceView
	Object      string
	All         string
	Timeline    []eventView
	Seq         uint64
}

type causeView struct {
	N                                   int
	Subject, Code, Statement, Runbook   string
	Detail, Evidence, Explains, Refuted []string
	Confidence                          string
	Level                               int
}

type claimView struct {
	Text, Result, Code string
	Evidence           []string
}

type refutationView struct {
	What, Why, Code string
	Evidence        []string
}

type hypothesisView struct {
	ID                        string
	Statement, Subject, Code  string
	Confidence                string
	Level                     int
	For                       []string
	Against                   []refutationView
	Refuted                   bool
	Explains, Detail, Runbook string
}

type gapView struct{ Source, Why, Fix string }

type unsupportedView struct {
	Claim   string
	Reasons []string
}

type clarificationView struct {
	Text    string
	Choices []string
}

type proposalView struct {
	N                                     int
	Action, Why, WouldFit, Cause, Runbook string
	Params                                []paramView
	Evidence                              []string
	// ForPeople is set for what a person does: no plan is made of it.
	ForPeople, ByModel bool
}

type paramView struct {
	Name, Value, Why string
	// Open says that a person has to give the value.
	Open bool
}

type evidenceView struct {
	ID, Into, Tool, Args, Cluster, Time, Took string
	Text                                      []piece
	Lines                                     int
	Error, Full                               string
	Cites                                     []string
	Suspicious                                []string
	Charts                                    []chart
	Truncated, Cited, About                   bool
}

// maxEvidenceText bounds the text of one piece of evidence on a page, in bytes; the
// whole stands under its digest.
const maxEvidenceText = 24 << 10

// viewRun shows what the journal holds of a run. object narrows the evidence to what
// is about one object of the chain.
func (s *Web) viewRun(r store.Run, sessionID string, t session.Turn, object string) (*runView, error) {
	p := r.Report
	d := p.Diagnosis
	v := &runView{
		ID: r.ID, Session: sessionID, Turn: t.ID, Open: r.State == store.RunOpen && !t.State.Ended(), Abandoned: r.State == store.RunAbandoned, Model: clean(p.Model), Seq: r.Seq,
		Outcome: outcomeState(d.Outcome), Suspicious: cleanAll(p.Suspicious), Cost: cost(p.Usage), Hypotheses: hypotheses(r.Hypotheses),
	}
	if !v.Open {
		v.Stopped = stopped(p)
		if len(p.Diagnosis.Causes) == 0 || p.Diagnosis.Outcome != incident.RootCause {
			v.Answer = sentence(cmp.Or(clean(t.Headline), v.Outcome.Text))
		}
		if err := s.conclude(v, r); err != nil {
			return nil, err
		}
	}
	s.evidence(v, p, object)
	return v, nil
}

// conclude shows the diagnosis.
func (s *Web) conclude(v *runView, r store.Run) error {
	d := r.Report.Diagnosis
	for i, c := range d.Causes {
		v.Causes = append(v.Causes, causeView{
			N: i + 1, Subject: clean(c.Subject.String()), Code: clean(c.Code), Statement: sentence(clean(c.Statement)), Runbook: clean(c.Runbook), Detail: cleanAll(c.Detail),
			Evidence: cleanAll(c.Evidence), Explains: refs(c.Explains), Confidence: percent(c.Confidence), Level: level(c.Confidence),
		})
	}
	for _, f := range d.RuledOut {
		v.RuledOut = append(v.RuledOut, refutation(f))
	}
	for _, c := range d.Checked {
		v.Checked = append(v.Checked, claimView{Text: clean(c.What), Result: clean(c.Result), Evidence: cleanAll(c.Evidence)})
	}
	for _, c := range d.WouldFit {
		v.WouldFit = append(v.WouldFit, claimView{Text: clean(c.Text), Evidence: cleanAll(c.Evidence)})
	}
	for _, f := range d.Unexplained {
		v.Unexplained = append(v.Unexplained, claimView{Text: clean(f.Message), Code: clean(f.Code), Evidence: cleanAll(f.Evidence)})
	}
	for _, g := range d.NotSeen {
		v.NotSeen = append(v.NotSeen, gapView{clean(g.Source), clean(g.Why), clean(g.Fix)})
	}
	for _, u := range d.Unsupported {
		v.Unsupported = append(v.Unsupported, unsupportedView{clean(u.Claim), cleanAll(u.Reasons)})
	}
	if d.Ask != nil {
		v.Ask = &clarificationView{Text: sentence(clean(d.Ask.Text)), Choices: refs(d.Ask.Choices)}
	}
	for i, p := range d.Proposals {
		v.Proposals = append(v.Proposals, proposal(i, p))
	}
	if strings.TrimSpace(d.Summary) != "" {
		var err error
		if v.Summary, err = s.md.html(d.Summary); err != nil {
			return err
		}
	}
	symptoms := slices.Clone(r.Report.Subjects)
	for _, c := range d.Causes {
		symptoms = append(symptoms, c.Explains...)
	}
	// One object alone is no chain.
	if len(d.Chain) > 0 {
		v.Graph = draw(d.Chain, symptoms, d.Causes)
	}
	if v.Graph != nil {
		for i := range v.Graph.Nodes {
			n := &v.Graph.Nodes[i]
			n.URL = "?" + url.Values{"turn": {v.Turn}, "object": {n.Full}}.Encode() + "#evidence"
			for _, f := range r.Report.Findings {
				if f.Subject.Same(n.ref) && f.Role != incident.History && f.Role != incident.Context && len(n.Findings) < 3 {
					n.Findings = append(n.Findings, clean(f.Message))
				}
			}
		}
	}
	return nil
}

// evidence shows the calls, those that the diagnosis cites first, and the decisive
// series: those of cited calls.
func (s *Web) evidence(v *runView, p incident.Report, object string) {
	claims := claimsOf(p.Diagnosis)
	var about *incident.Ref
	if object != "" && v.Graph != nil {
		for i := range v.Graph.Nodes {
			n := &v.Graph.Nodes[i]
			if n.Full == object {
				n.Selected, about, v.Object = true, &n.ref, n.Full
			}
		}
	}
	v.All = "?" + url.Values{"turn": {v.Turn}}.Encode() + "#evidence"
	for _, e := range p.Evidence {
		x := evidence(e, claims[e.ID], v.ID)
		x.About = about == nil || concerns(e, *about, p)
		if x.Cited {
			v.Charts = append(v.Charts, x.Charts...)
			x.Charts = nil
		}
		switch {
		case !x.About:
		case x.Cited || about != nil:
			v.Evidence = append(v.Evidence, x)
		default:
			v.Others = append(v.Others, x)
		}
	}
}

// cited is what is said with a piece of evidence, and by which part.
type cited struct{ by, text []string }

func claimsOf(d incident.Diagnosis) map[string]*cited {
	out := map[string]*cited{}
	add := func(ids []string, by string, text ...string) {
		for _, id := range ids {
			c := out[id]
			if c == nil {
				c = &cited{}
				out[id] = c
			}
			if !slices.Contains(c.by, by) {
				c.by = append(c.by, by)
			}
			c.text = append(c.text, text...)
		}
	}
	for i, c := range d.Causes {
		by := "Cause"
		if len(d.Causes) > 1 {
			by = fmt.Sprintf("Cause %d", i+1)
		}
		add(c.Evidence, by, append([]string{c.Statement}, c.Detail...)...)
	}
	for _, f := range d.RuledOut {
		add(f.Evidence, "Ruled out: "+clean(f.What), f.Why)
	}
	for _, e := range d.Chain {
		add(e.Evidence, "Chain")
	}
	for _, f := range d.Unexplained {
		add(f.Evidence, "Unexplained", f.Message)
	}
	for _, c := range d.WouldFit {
		add(c.Evidence, "Would fit", c.Text)
	}
	return out
}

func evidence(e incident.Evidence, c *cited, run string) evidenceView {
	text := block(e.Text)
	v := evidenceView{
		ID: clean(e.ID), Into: "looks-" + run, Tool: clean(e.Tool), Args: arguments(e.Args), Cluster: clean(e.Cluster), Time: e.At.UTC().Format("15:04:05"), Took: took(e.Millis),
		Error: sentence(clean(e.Error)), Truncated: e.Truncated, Suspicious: cleanAll(e.Suspicious), Lines: strings.Count(text, "\n") + 1,
		Charts: charts(clean(e.ID), clean(e.Tool), e.Data),
	}
	if len(text) > maxEvidenceText {
		text = strings.ToValidUTF8(text[:maxEvidenceText], "")
		v.Truncated = true
	}
	if e.Digest != "" {
		v.Full = "/outputs/" + url.PathEscape(e.Digest)
	}
	if c == nil {
		v.Text = []piece{{Text: text}}
		return v
	}
	v.Cited, v.Cites = true, c.by
	v.Text = quotes(text, c.text)
	return v
}

// concerns reports whether a piece of evidence is about an object: its call or its
// text names it, or a finding or edge about it cites it.
func concerns(e incident.Evidence, r incident.Ref, p incident.Report) bool {
	for _, f := range p.Findings {
		if f.Subject.Same(r) && slices.Contains(f.Evidence, e.ID) {
			return true
		}
	}
	for _, x := range p.Diagnosis.Chain {
		if (x.From.Same(r) || x.To.Same(r)) && slices.Contains(x.Evidence, e.ID) {
			return true
		}
	}
	for _, c := range p.Diagnosis.Causes {
		if c.Subject.Same(r) && slices.Contains(c.Evidence, e.ID) {
			return true
		}
	}
	name := strings.ToLower(r.Name)
	for _, s := range []string{string(e.Args), e.Text} {
		for _, w := range words(s) {
			if w.lower == name || strings.HasSuffix(w.lower, "/"+name) {
				return true
			}
		}
	}
	return false
}

// arguments writes a call's arguments as NAME=VALUE.
func arguments(raw json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil {
		return clip(clean(string(raw)), 300)
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v, ok := m[k].(string)
		if !ok {
			enc, err := json.Marshal(m[k])
			if err != nil {
				continue
			}
			v = string(enc)
		}
		parts = append(parts, clean(k)+"="+clean(v))
	}
	return clip(strings.Join(parts, " "), 400)
}

func took(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}

func cost(u incident.Usage) string {
	var parts []string
	if u.ToolCalls > 0 {
		parts = append(parts, plural(u.ToolCalls, "call", "calls"))
	}
	if u.Seconds > 0 {
		parts = append(parts, fmt.Sprintf("%.1f s", u.Seconds))
	}
	if n := u.InputTokens + u.OutputTokens; n > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", n))
	}
	if u.Cost > 0 {
		parts = append(parts, fmt.Sprintf("$%.4f", u.Cost))
	}
	return strings.Join(parts, ", ")
}

func hypotheses(all []incident.Hypothesis) []hypothesisView {
	var out []hypothesisView
	for i, h := range all {
		v := hypothesisView{
			ID: fmt.Sprintf("h%d", i), Statement: sentence(clean(h.Cause.Statement)), Subject: clean(h.Cause.Subject.String()), Code: clean(h.Cause.Code), Confidence: percent(h.Cause.Confidence),
			Level: level(h.Cause.Confidence), For: cleanAll(h.Cause.Evidence), Refuted: h.Refuted, Detail: strings.Join(cleanAll(h.Cause.Detail), " · "),
		}
		for _, f := range h.RuledBy {
			v.Against = append(v.Against, refutation(f))
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b hypothesisView) int {
		rank := func(h hypothesisView) int {
			if h.Refuted {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Level, a.Level))
	})
	return out
}

// level is a confidence in tenths, for the bar beside it.
func level(f float64) int { return min(max(int(f*10+0.5), 0), 10) }

func refutation(f incident.Refutation) refutationView {
	return refutationView{What: clean(f.What), Why: clean(f.Why), Code: clean(f.Code), Evidence: cleanAll(f.Evidence)}
}

func refs(rs []incident.Ref) []string {
	var out []string
	for _, r := range rs {
		out = append(out, clean(r.String()))
	}
	return out
}

func proposal(i int, p incident.Proposal) proposalView {
	v := proposalView{
		N: i, Action: clean(p.Action), Why: sentence(clean(p.Why)), WouldFit: clean(p.WouldFit), Cause: clean(p.Cause), Runbook: clean(p.Runbook), Evidence: cleanAll(p.Evidence),
		ForPeople: slices.Contains(planner.ForPeople(), p.Action), ByModel: p.Runbook == "",
	}
	for _, k := range slices.Sorted(maps.Keys(p.Params)) {
		v.Params = append(v.Params, paramView{Name: k, Value: clean(p.Params[k]), Open: p.Params[k] == ""})
	}
	return v
}

// stopped says why a run ended before it was done.
func stopped(p incident.Report) string {
	if s := clean(p.StopReason); s != "" {
		return sentence(s)
	}
	if p.Stop == "" || p.Stop == incident.StopDone {
		return ""
	}
	return sentence(clean(strings.ReplaceAll(string(p.Stop), "_", " ")))
}
