package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// The one input of a modal.
const (
	inputBlock  = "words"
	inputAction = "text"
)

// chunks is how many sections of an evidence a modal shows.
const chunks = 6

func title(s string) *slack.TextBlockObject {
	s, _ = cut(s, maxTitle)
	return slack.NewTextBlockObject(slack.PlainTextType, s, false, false)
}

func plainText(s string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, s, false, false)
}

// openPlanModal asks for the reason of a rejection, or for a question.
func (s *Surface) openPlanModal(ctx context.Context, in inbound) error {
	rec, err := s.planOf(ctx, in.Value)
	if err != nil {
		return err
	}
	ask := in.Action == actAsk
	if ask {
		_, err = s.people.asker(ctx, in.User)
	} else {
		_, err = s.people.decider(ctx, in.User)
	}
	if err != nil {
		return err
	}
	if !ask && rec.State != incident.PlanPending {
		return refusal(fmt.Sprintf("Plan %s is %s%s; nobody's word changes it any more.", rec.Plan.ID, rec.State, colon(rec.Reason)))
	}
	head, label, submit, hint := "Reject the plan", "Why not?", "Reject", "The reason is kept with the plan and shown to everyone."
	if ask {
		head, label, submit, hint = "Ask about the plan", "Your question", "Ask", "It is answered in the thread."
	}
	input := slack.NewPlainTextInputBlockElement(nil, inputAction)
	input.Multiline, input.MinLength, input.MaxLength = true, 1, 2000
	what, _ := cut(clean(rec.Plan.Title), maxSection)
	return s.open(ctx, in, slack.ModalViewRequest{
		Type: slack.VTModal, CallbackID: in.Action, Title: title(head), Submit: plainText(submit), Close: plainText("Cancel"),
		PrivateMetadata: place{in.Channel, in.Thread, in.Value}.encode(),
		Blocks: slack.Blocks{BlockSet: []slack.Block{
			slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, first(what, rec.Plan.ID), false, true), nil, nil),
			slack.NewInputBlock(inputBlock, plainText(label), plainText(hint), input),
		}},
	})
}

// open shows a modal. A trigger counts for three seconds; what comes later is told.
func (s *Surface) open(ctx context.Context, in inbound, v slack.ModalViewRequest) error {
	err := s.api.do(ctx, "views.open", "", func(c *slack.Client) error {
		_, err := c.OpenViewContext(ctx, in.Trigger, v)
		return err
	})
	switch errorCode(err) {
	case "expired_trigger_id", "exchanged_trigger_id", "trigger_exchanged", "trigger_expired", "invalid_trigger_id":
		return refusal("Slack gave too little time to open the window. Click again, please.")
	}
	return err
}

// shown gives the evidence that a button is about, if the thread shows its run.
func (s *Surface) shown(ctx context.Context, in inbound) (store.Run, incident.Evidence, session.Session, error) {
	run, id, _ := strings.Cut(in.Value, ":")
	none := func(err error) (store.Run, incident.Evidence, session.Session, error) {
		return store.Run{}, incident.Evidence{}, session.Session{}, err
	}
	if _, err := s.people.asker(ctx, in.User); err != nil {
		return none(err)
	}
	sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
	if err != nil {
		return none(err)
	}
	if !held || !slices.ContainsFunc(sess.Turns, func(t session.Turn) bool { return t.Run == run }) {
		return none(refusal("This thread does not show the investigation " + run + "."))
	}
	r, err := s.svc.Run(ctx, run)
	if errors.Is(err, store.ErrNotFound) {
		return none(refusal("The investigation " + run + " is not kept any more."))
	}
	if err != nil {
		return none(err)
	}
	i := slices.IndexFunc(r.Report.Evidence, func(e incident.Evidence) bool { return e.ID == id })
	if i < 0 {
		return none(refusal("The investigation " + run + " has no evidence " + id + "."))
	}
	return r, r.Report.Evidence[i], sess, nil
}

// openEvidence shows one look: what was asked, the lines that carry the claim, and
// the text.
func (s *Surface) openEvidence(ctx context.Context, in inbound) error {
	r, e, sess, err := s.shown(ctx, in)
	if err != nil {
		return err
	}
	p := newPage(maxModal)
	head := fmt.Sprintf("*%s* `%s`", escape(e.ID), strings.ReplaceAll(clean(e.Tool), "`", ""))
	if len(e.Args) > 0 {
		head += "\n" + fenced(clip(render.Clean(string(e.Args)), 800))
	}
	p.text(head)
	for _, c := range r.Report.Diagnosis.Causes {
		if !slices.Contains(c.Evidence, e.ID) {
			continue
		}
		claim := strings.Join(append([]string{c.Statement, c.Subject.String()}, c.Detail...), " ")
		if lines := quote(claim, e.Text); len(lines) > 0 {
			var b strings.Builder
			fmt.Fprintf(&b, "*Carries the claim* %s", clean(c.Statement))
			for _, l := range lines {
				b.WriteString("\n&gt; *" + escape(clip(l, 400)) + "*")
			}
			p.text(strings.ReplaceAll(b.String(), "\n&gt; ", "\n> "))
		}
	}
	if e.Error != "" {
		p.text(":warning: the look failed: " + clean(e.Error))
	}
	rest := []rune(multiline(e.Text))
	for n := 0; n < chunks && len(rest) > 0; n++ {
		cut := min(len(rest), 2000)
		if cut < len(rest) {
			if i := strings.LastIndexByte(string(rest[:cut]), '\n'); i > 0 {
				cut = utf8.RuneCountInString(string(rest[:cut])[:i]) + 1
			}
		}
		p.text(fenced(string(rest[:cut])))
		rest = rest[cut:]
	}
	var row []slack.BlockElement
	if len(rest) > 0 || e.Truncated {
		row = append(row, button(actWhole, in.Value, "Post the whole as a file", ""))
	}
	if s.cfg.PublicURL != "" {
		b := button(actLink, e.ID, "Open the page", "")
		b.URL = s.cfg.PublicURL + "/sessions/" + sess.ID + "#" + e.ID
		row = append(row, b)
	}
	if len(row) > 0 {
		p.force(slack.NewActionBlock("whole", row...))
	}
	p.small(fmt.Sprintf("%s · %d ms · %s", escape(first(e.Cluster, "cluster")), e.Millis, date(e.At.Unix(), e.At.UTC().Format(time.RFC3339))))
	return s.open(ctx, in, slack.ModalViewRequest{
		Type: slack.VTModal, Title: title("Evidence " + e.ID), Close: plainText("Close"),
		PrivateMetadata: place{in.Channel, in.Thread, in.Value}.encode(), Blocks: slack.Blocks{BlockSet: p.blocks},
	})
}

// postWhole puts the whole of an evidence into the thread as a file, once.
func (s *Surface) postWhole(ctx context.Context, in inbound) error {
	r, e, _, err := s.shown(ctx, in)
	if err != nil {
		return err
	}
	text := []byte(e.Text)
	if e.Truncated && e.Digest != "" {
		if whole, err := s.svc.Output(ctx, e.Digest); err == nil {
			text = whole
		}
	}
	if len(text) == 0 {
		return refusal("The evidence " + e.ID + " has no text.")
	}
	f := file{name: fmt.Sprintf("gumshoe-%s-%s.txt", r.ID, e.ID), title: "Evidence " + e.ID + " of " + r.ID, body: text}
	there, err := s.fileThere(ctx, in.Channel, in.Thread, f.name)
	if err != nil || there {
		return err
	}
	return s.upload(ctx, in.Channel, in.Thread, f)
}

// multiline cleans a text and keeps its lines.
func multiline(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\r\n")
		indent := len(l) - len(strings.TrimLeft(l, " "))
		b.WriteString(strings.Repeat(" ", min(indent, 40)) + render.Clean(l) + "\n")
	}
	return b.String()
}
