package slack

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// shortDigest is how much of a digest a button carries, in hex digits.
const shortDigest = 16

func shortOf(digest string) string {
	d := strings.TrimPrefix(digest, "sha256:")
	return d[:min(len(d), shortDigest)]
}

// diffShown is how much of a diff stands on the card, in characters.
const diffShown = 1800

// card shows a plan as the journal has it. Buttons are there only while somebody's
// word counts. whole says that the diff is longer than what is shown.
func (s *Surface) card(rec planner.Record) (m message, whole bool) {
	pl := rec.Plan
	p := newPage(maxBlocks)
	p.text(fmt.Sprintf("%s *Plan:* %s\n%s", stateMark(rec.State), clean(pl.Title), verdict(rec)))
	for _, sec := range render.PlanSections(pl) {
		p.section(sec, 12)
	}
	if diff := strings.TrimSpace(render.PlanDiff(pl)); diff != "" {
		shown := diff
		if utf8.RuneCountInString(diff) > diffShown {
			shown, whole = string([]rune(diff)[:diffShown]), true
			if i := strings.LastIndexByte(shown, '\n'); i > 0 {
				shown = shown[:i]
			}
			shown += "\n… the whole diff is in the file below"
		}
		// Escapes make it longer; the section keeps its limit in any case.
		text := "*Diff*\n" + fenced(shown)
		if utf8.RuneCountInString(text) > maxSection {
			text, whole = "*Diff*\n"+fenced(string([]rune(shown)[:diffShown/3])+"\n… the whole diff is in the file below"), true
		}
		p.text(text)
	}
	p.text(consent(rec))
	if rec.State == incident.PlanPending {
		value := pl.ID + ":" + shortOf(rec.Digest)
		yes := button(actApprove, value, "Approve", slack.StylePrimary)
		if risk := worst(pl); risk.Weight() >= incident.RiskHigh.Weight() {
			yes.Confirm = slack.NewConfirmationBlockObject(
				slack.NewTextBlockObject(slack.PlainTextType, "Risk: "+string(risk), false, false),
				slack.NewTextBlockObject(slack.MarkdownType, first(firstOf(cut(clean(pl.Title), 280)), "This plan"), false, true),
				slack.NewTextBlockObject(slack.PlainTextType, "Approve", false, false),
				slack.NewTextBlockObject(slack.PlainTextType, "Not yet", false, false))
		}
		p.force(slack.NewActionBlock("plan", yes, button(actReject, value, "Reject", slack.StyleDanger), button(actAsk, value, "Ask", "")))
	}
	p.small("`" + escape(pl.ID) + "` · digest `" + escape(shortOf(rec.Digest)) + "`")
	m = p.message(false)
	m.urgent = true
	return m, whole || p.cut
}

func firstOf(s string, _ bool) string { return s }

func stateMark(st incident.PlanState) string {
	switch st {
	case incident.PlanPending:
		return ":raised_hand:"
	case incident.PlanApproved:
		return ":ballot_box_with_check:"
	case incident.PlanExecuting:
		return ":gear:"
	case incident.PlanVerified:
		return ":white_check_mark:"
	case incident.PlanUndone:
		return ":leftwards_arrow_with_hook:"
	}
	return ":no_entry_sign:"
}

// verdict is the state of a plan in words.
func verdict(rec planner.Record) string {
	say := map[incident.PlanState]string{
		incident.PlanPending: "waits for approval", incident.PlanApproved: "approved", incident.PlanRejected: "rejected", incident.PlanExpired: "expired",
		incident.PlanVoid: "void", incident.PlanExecuting: "is being executed", incident.PlanVerified: "done and verified", incident.PlanUndone: "taken back, everything is as it was", incident.PlanStopped: "stopped in between",
	}[rec.State]
	if rec.Undoing && rec.State == incident.PlanExecuting {
		say = "is being taken back"
	}
	out := "_" + first(say, escape(string(rec.State))) + "_"
	if rec.Reason != "" && rec.State != incident.PlanPending {
		out += ": " + clean(rec.Reason)
	}
	return out
}

// consent says what the policy asks, who said what, and until when it counts.
func consent(rec planner.Record) string {
	var b strings.Builder
	br := rec.Brief()
	switch {
	case rec.Decision.Verdict == incident.Deny:
		b.WriteString("*Consent* the policy denies it")
	case br.Needed == 0:
		b.WriteString("*Consent* nobody has to approve")
	default:
		fmt.Fprintf(&b, "*Consent* %d of %d approvals", br.Approvals, br.Needed)
		if br.Needed > 1 {
			b.WriteString(" (two different people)")
		}
	}
	fmt.Fprintf(&b, "\nrequested by %s", clean(first(rec.Plan.Requester.Name, rec.Plan.Author)))
	for _, w := range rec.Words {
		verb := map[string]string{incident.Approved: "approved by", incident.Rejected: "rejected by", incident.Revoked: "approval withdrawn by", incident.Commented: "comment of"}[w.Word]
		fmt.Fprintf(&b, "\n%s %s%s, %s%s", first(verb, escape(w.Word)+" by"), clean(w.By.Name), at(w.By.Surface), date(w.At.Unix(), w.At.UTC().Format(time.RFC3339)), sentenceAfter(w.Comment))
	}
	for _, r := range rec.Decision.Rules {
		if r.Verdict == rec.Decision.Verdict && r.Reason != "" {
			b.WriteString("\nbecause " + clean(r.Reason))
		}
	}
	if rec.State == incident.PlanPending || rec.State == incident.PlanApproved {
		b.WriteString("\nexpires " + date(rec.Plan.Expires.Unix(), rec.Plan.Expires.UTC().Format(time.RFC3339)))
	}
	return b.String()
}

func at(surface string) string {
	if surface == "" {
		return ""
	}
	return " (" + clean(surface) + ")"
}

// worst is the highest risk of a plan's steps.
func worst(p incident.Plan) incident.Risk {
	var r incident.Risk
	for _, s := range p.Steps {
		if r == "" || s.Risk.Weight() > r.Weight() {
			r = s.Risk
		}
	}
	return r
}

// execution tells how far a plan came; false where it was never begun.
func execution(rec planner.Record) (message, bool) {
	if rec.Begun.IsZero() {
		return message{}, false
	}
	p := newPage(maxBlocks)
	p.text(fmt.Sprintf("%s *Plan %s* %s", stateMark(rec.State), escape(rec.Plan.ID), verdict(rec)))
	var b strings.Builder
	fmt.Fprintf(&b, "begun %s by %s", date(rec.Begun.Unix(), rec.Begun.UTC().Format(time.RFC3339)), clean(first(rec.By.Name, "gumshoe")))
	line := func(w incident.Write) {
		r, ok := rec.Writes[w.ID]
		switch {
		case ok && r.Done:
			b.WriteString("\n:heavy_check_mark: " + clean(w.ID+" "+w.Say))
		case ok && r.Error != "":
			b.WriteString("\n:x: " + clean(w.ID+" "+w.Say) + sentenceAfter(r.Error))
		case rec.Open == w.ID:
			b.WriteString("\n:hourglass_flowing_sand: " + clean(w.ID+" "+w.Say))
		}
	}
	for _, s := range rec.Plan.Steps {
		for _, w := range s.Writes {
			line(w)
		}
	}
	if rec.Undoing {
		b.WriteString("\n*Taken back*")
		for _, s := range slices.Backward(rec.Plan.Steps) {
			for _, w := range s.Undo {
				line(w)
			}
		}
	}
	p.text(b.String())
	var c strings.Builder
	for _, k := range rec.Checks {
		mark := map[incident.Verdict]string{incident.Pass: ":white_check_mark:", incident.Fail: ":x:"}[k.Verdict]
		fmt.Fprintf(&c, "%s %s%s\n", first(mark, ":grey_question:"), clean(k.Check.Say), sentenceAfter(k.Saw))
	}
	if c.Len() > 0 {
		p.text("*Checks*\n" + c.String())
	}
	for _, l := range rec.Left {
		p.text("*Left* " + clean(l))
	}
	m := p.message(false)
	m.urgent = rec.State.Final()
	return m, true
}
