package slack

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// mostLines of a part of an answer are shown in a thread; the file holds all.
const mostLines = 6

// mostEvidence is how many buttons lead to evidence.
const mostEvidence = 6

// asked tells who asked what, where the thread itself does not show it.
func asked(t session.Turn) string {
	if t.Source == session.Slack && !strings.HasPrefix(t.Key, "c-") && !strings.HasPrefix(t.Key, "v-") {
		return ""
	}
	if t.Source == session.Alertmanager || t.Question.Alert != nil {
		return ""
	}
	return fmt.Sprintf("*%s* asked%s: %s", clean(first(t.By.Name, "somebody")), where(t.Source), clean(clip(t.Question.Text, 600)))
}

func where(source string) string {
	if source == session.Slack {
		return ""
	}
	return " (" + source + ")"
}

// progress is a turn that is not answered yet.
func progress(t session.Turn, v live) message {
	p := newPage(maxBlocks)
	p.text(asked(t))
	if t.State == session.Queued {
		p.text(":hourglass_flowing_sand: *Queued.* It is worked on as soon as there is room.")
		return p.message(false)
	}
	var b strings.Builder
	fmt.Fprintf(&b, ":mag: *Investigating* – %s", clean(first(v.phase, "looking")))
	if v.calls > 0 {
		fmt.Fprintf(&b, ", %d looks", v.calls)
	}
	if v.findings > 0 {
		fmt.Fprintf(&b, ", %d findings", v.findings)
	}
	if t.Attempt > 1 {
		fmt.Fprintf(&b, " (attempt %d)", t.Attempt)
	}
	for _, c := range v.last {
		b.WriteString("\n• " + clean(c))
	}
	p.text(b.String())
	if v.leading != "" {
		p.text(fmt.Sprintf("*Leading so far* _confidence %.2f_\n%s", v.confidence, clean(v.leading)))
	}
	return p.message(false)
}

// ended is a turn that has ended without an answer.
func ended(t session.Turn) message {
	p := newPage(maxBlocks)
	p.text(asked(t))
	switch t.State {
	case session.Cancelled:
		p.text(":no_entry_sign: *Taken back*" + sentenceAfter(t.Reason))
	default:
		p.text(":warning: *Failed*" + sentenceAfter(t.Reason))
	}
	return p.message(true)
}

func sentenceAfter(s string) string {
	if s = clean(s); s != "" {
		return ": " + s
	}
	return ""
}

// answer is the result of a turn. whole says that a file with everything belongs to
// it.
func (s *Surface) answer(sess session.Session, t session.Turn, r incident.Report) (m message, whole bool) {
	p := newPage(maxBlocks)
	p.text(asked(t))
	for _, sec := range render.Sections(r) {
		p.section(sec, mostLines)
	}
	if t.Reason != "" && t.State == session.Answered {
		p.text("*Note*\n" + clean(t.Reason))
	}
	var row []slack.BlockElement
	for _, id := range cited(r)[:min(len(cited(r)), mostEvidence)] {
		row = append(row, button(actEvidence, t.Run+":"+id, "Evidence "+id, ""))
	}
	for i, e := range row {
		if b, ok := e.(*slack.ButtonBlockElement); ok {
			b.ActionID = fmt.Sprintf("%s_%d", actEvidence, i)
		}
	}
	if len(row) > 0 {
		p.force(slack.NewActionBlock("evidence", row...))
	}
	var next []slack.BlockElement
	if canPlan(r.Diagnosis) {
		next = append(next, button(actPropose, t.Run, "Make a plan", ""))
	}
	if s.cfg.PublicURL != "" {
		b := button(actLink, t.Run, "Open the page", "")
		b.URL = s.cfg.PublicURL + "/sessions/" + sess.ID
		next = append(next, b)
	}
	if len(next) > 0 {
		p.force(slack.NewActionBlock("next", next...))
	}
	p.small(escape(render.Cost(r)) + " · " + escape(t.Run))
	return p.message(true), p.cut
}

// canPlan reports whether a proposal is there that a plan can be made of.
func canPlan(d incident.Diagnosis) bool {
	return d.Outcome == incident.RootCause && slices.ContainsFunc(d.Proposals, func(p incident.Proposal) bool { return p.Action != "" && p.Action != "advise" })
}

// cited gives the evidence that the causes and the chain cite, each once; of an
// answer without causes, that of what was checked.
func cited(r incident.Report) []string {
	var out []string
	add := func(ids []string) {
		for _, id := range ids {
			if !slices.Contains(out, id) && slices.ContainsFunc(r.Evidence, func(e incident.Evidence) bool { return e.ID == id }) {
				out = append(out, id)
			}
		}
	}
	for _, c := range r.Diagnosis.Causes {
		add(c.Evidence)
	}
	for _, e := range r.Diagnosis.Chain {
		add(e.Evidence)
	}
	for _, f := range r.Diagnosis.Unexplained {
		add(f.Evidence)
	}
	if len(out) == 0 {
		for _, c := range r.Diagnosis.Checked {
			add(c.Evidence)
		}
	}
	return out
}

// quote gives the lines of an evidence that carry a claim: those in which a name or
// a figure of the claim stands.
func quote(claim, text string) []string {
	word := regexp.MustCompile(`[\p{L}\p{N}][\p{L}\p{N}._/:%-]*[\p{L}\p{N}%]|\p{N}`)
	var want []string
	for _, w := range word.FindAllString(claim, -1) {
		if strings.ContainsAny(w, "0123456789-./_") && !slices.Contains(want, w) {
			want = append(want, w)
			if _, after, ok := strings.Cut(w, "/"); ok && len(after) > 2 {
				want = append(want, after)
			}
		}
	}
	type scored struct {
		line string
		n    int
	}
	var lines []scored
	for l := range strings.Lines(text) {
		n := 0
		for _, w := range want {
			if strings.Contains(l, w) {
				n += len(w)
			}
		}
		if n > 0 {
			lines = append(lines, scored{strings.TrimSpace(render.Clean(l)), n})
		}
	}
	best := slices.Clone(lines)
	slices.SortStableFunc(best, func(a, b scored) int { return b.n - a.n })
	best = best[:min(len(best), 5)]
	var out []string
	for _, l := range lines {
		if slices.Contains(best, l) && !slices.Contains(out, l.line) {
			out = append(out, l.line)
		}
	}
	return out
}

// incidentRoot is the first message of an incident that alerts opened.
func (s *Surface) incidentRoot(sess session.Session) message {
	p := newPage(maxBlocks)
	firing := 0
	for _, a := range sess.Alerts {
		if a.Status != "resolved" {
			firing++
		}
	}
	mark := ":rotating_light:"
	state := fmt.Sprintf("%d of %d alerts fire", firing, len(sess.Alerts))
	if !sess.Resolved.IsZero() {
		mark, state = ":white_check_mark:", "resolved"
	}
	p.text(fmt.Sprintf("%s *%s*\n%s", mark, clean(first(sess.Title, "Incident")), state))
	var b strings.Builder
	for i, a := range sess.Alerts {
		if i == 10 {
			fmt.Fprintf(&b, "\n… and %d more", len(sess.Alerts)-i)
			break
		}
		fmt.Fprintf(&b, "\n• *%s* %s", clean(a.Name), clean(labels(a.Labels)))
		if a.Status == "resolved" {
			b.WriteString(" _resolved_")
		} else if !a.StartsAt.IsZero() {
			b.WriteString(" since " + date(a.StartsAt.Unix(), a.StartsAt.UTC().Format(time.RFC3339)))
		}
	}
	p.text(b.String())
	if s.cfg.PublicURL != "" {
		b := button(actLink, sess.ID, "Open the page", "")
		b.URL = s.cfg.PublicURL + "/sessions/" + sess.ID
		p.force(slack.NewActionBlock("next", b))
	}
	m := p.message(false)
	m.urgent = true
	return m
}

// labels writes the labels of an alert that say whom it is about.
func labels(l map[string]string) string {
	var out []string
	for _, k := range []string{"severity", "cluster", "namespace", "pod", "deployment", "statefulset", "job", "node", "instance", "service", "gpu"} {
		if v := l[k]; v != "" {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, " ")
}
