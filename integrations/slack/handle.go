package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Actions of buttons and callbacks of modals.
const (
	actApprove  = "plan_approve"
	actReject   = "plan_reject"
	actAsk      = "plan_ask"
	actPropose  = "plan_propose"
	actEvidence = "evidence_show"
	actWhole    = "evidence_whole"
	actLink     = "link"
)

const help = "Say what is wrong, for example: why is pod train/llama-0 pending? " +
	"What is written in the thread of an answer continues it; \"stop\" takes a question back."

// handle does what came in asks for. It may be called again with the same thing
// after a crash and then does nothing twice. The error is a sentence for the
// person, or it passes and the call is made again.
func (s *Surface) handle(ctx context.Context, in inbound) error {
	switch in.Kind {
	case kindMessage:
		return s.said(ctx, in)
	case kindEdit:
		return s.edited(ctx, in)
	case kindDelete:
		return s.deleted(ctx, in)
	case kindCommand:
		return s.command(ctx, in)
	case kindAction:
		return s.clicked(ctx, in)
	case kindSubmit:
		return s.submitted(ctx, in)
	}
	return nil
}

func link(channel, thread string) session.Link {
	return session.Link{Surface: session.Slack, Key: channel + "/" + thread}
}

// said takes a message as a question.
func (s *Surface) said(ctx context.Context, in inbound) error {
	self, err := s.api.me(ctx)
	if err != nil {
		return err
	}
	sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
	if err != nil {
		return err
	}
	called := in.Mentions || in.Direct
	if !called && (!held || s.cfg.FollowUps == FollowMentions || strings.Contains(in.Text, "<@") || strings.Contains(in.Text, "<!")) {
		return nil // people talk to each other
	}
	who, err := s.people.asker(ctx, in.User)
	if err != nil {
		if _, no := errors.AsType[refusal](err); no && !called {
			return nil
		}
		return err
	}
	text := plain(in.Text, self.UserID)
	switch strings.ToLower(text) {
	case "", "help":
		return refusal(help)
	case "stop", "cancel":
		return s.stop(ctx, sess, held, who)
	}
	return s.ask(ctx, in, sess, held, text, who)
}

func (s *Surface) ask(ctx context.Context, in inbound, sess session.Session, held bool, text string, who incident.Person) error {
	a := session.Ask{Question: incident.Question{Text: text}, By: who, Source: session.Slack, Key: in.Key}
	if held {
		a.Session = sess.ID
	} else {
		a.Links = []session.Link{link(in.Channel, in.Thread)}
	}
	if _, _, err := s.svc.Ask(ctx, a); err != nil {
		return err
	}
	return s.boundary("asked")
}

// stop takes back what is not answered yet.
func (s *Surface) stop(ctx context.Context, sess session.Session, held bool, who incident.Person) error {
	n := 0
	for _, t := range sess.Turns {
		if held && !t.State.Ended() {
			if _, err := s.svc.Cancel(ctx, sess.ID, t.ID, who); err != nil {
				return err
			}
			n++
		}
	}
	if n == 0 {
		return refusal("Nothing is being worked on in this thread.")
	}
	return nil
}

// edited follows a message that was changed: a question that is not answered yet is
// taken back and asked as it reads now.
func (s *Surface) edited(ctx context.Context, in inbound) error {
	sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
	if err != nil {
		return err
	}
	at := turnOf(sess, messageKey(in.Channel, in.TS))
	if !held || at == nil {
		if in.Mentions && !strings.Contains(in.Was, "<@") {
			in.Kind, in.Key = kindMessage, messageKey(in.Channel, in.TS)
			return s.said(ctx, in) // the edit calls the bot for the first time
		}
		return nil
	}
	who, err := s.people.asker(ctx, in.User)
	if err != nil {
		return err
	}
	if at.By.Name != who.Name {
		return nil
	}
	if at.State.Ended() && turnOf(sess, in.Key) == nil {
		return refusal("The question was answered as it read before your edit. If the edit changes it, ask again in the thread.")
	}
	self, err := s.api.me(ctx)
	if err != nil {
		return err
	}
	text := plain(in.Text, self.UserID)
	if text == "" || text == at.Question.Text {
		return nil
	}
	if !at.State.Ended() {
		if _, err := s.svc.Cancel(ctx, sess.ID, at.ID, who); err != nil {
			return err
		}
	}
	return s.ask(ctx, in, sess, true, text, who)
}

// deleted takes back a question whose message is gone.
func (s *Surface) deleted(ctx context.Context, in inbound) error {
	sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
	if err != nil || !held {
		return err
	}
	t := turnOf(sess, messageKey(in.Channel, in.TS))
	if t == nil || t.State.Ended() {
		return nil
	}
	_, err = s.svc.Cancel(ctx, sess.ID, t.ID, t.By)
	return err
}

// turnOf finds the turn that came with a key from here.
func turnOf(sess session.Session, key string) *session.Turn {
	i := slices.IndexFunc(sess.Turns, func(t session.Turn) bool { return t.Source == session.Slack && t.Key == key })
	if i < 0 {
		return nil
	}
	return &sess.Turns[i]
}

// newThread marks the place of a session whose thread is yet to be opened, for the
// member who asked.
const newThread = "new:"

// command takes a slash command. Its thread is opened by whoever posts.
func (s *Surface) command(ctx context.Context, in inbound) error {
	who, err := s.people.asker(ctx, in.User)
	if err != nil {
		return err
	}
	text := plain(in.Text, "")
	switch strings.ToLower(text) {
	case "", "help":
		return refusal(help)
	}
	_, _, err = s.svc.Ask(ctx, session.Ask{Question: incident.Question{Text: text}, By: who, Source: session.Slack, Key: in.Key,
		Links: []session.Link{link(in.Channel, newThread+in.User+":"+in.Key)}})
	if err != nil {
		return err
	}
	return s.boundary("asked")
}

func (s *Surface) clicked(ctx context.Context, in inbound) error {
	switch in.Action {
	case actApprove:
		return s.decide(ctx, in, incident.Approved, "")
	case actReject, actAsk:
		return s.openPlanModal(ctx, in)
	case actPropose:
		return s.propose(ctx, in)
	case actEvidence:
		return s.openEvidence(ctx, in)
	case actWhole:
		return s.postWhole(ctx, in)
	}
	return nil // a link needs nothing but its acknowledgement
}

func (s *Surface) submitted(ctx context.Context, in inbound) error {
	text := strings.TrimSpace(in.Text)
	switch in.Action {
	case actReject:
		if text == "" {
			return refusal("A rejection needs a reason.")
		}
		return s.decide(ctx, in, incident.Rejected, text)
	case actAsk:
		if text == "" {
			return refusal(help)
		}
		who, err := s.people.asker(ctx, in.User)
		if err != nil {
			return err
		}
		sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
		if err != nil {
			return err
		}
		return s.ask(ctx, in, sess, held, text, who)
	}
	return nil
}

// planOf reads the value of a button: the id of a plan and the beginning of its
// digest, and gives the plan as the journal has it.
func (s *Surface) planOf(ctx context.Context, value string) (planner.Record, error) {
	id, short, ok := strings.Cut(value, ":")
	if !ok || id == "" || len(short) != shortDigest {
		return planner.Record{}, refusal("The button does not say which plan it is about.")
	}
	rec, err := s.svc.Plan(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return rec, refusal("Plan " + id + " is not there any more.")
	}
	if err != nil {
		return rec, err
	}
	if shortOf(rec.Digest) != short {
		return rec, refusal("Plan " + id + " is not the one that was shown here; nothing was decided.")
	}
	return rec, nil
}

// decide says a person's word about a plan.
func (s *Surface) decide(ctx context.Context, in inbound, word, comment string) error {
	who, err := s.people.decider(ctx, in.User)
	if err != nil {
		return err
	}
	rec, err := s.planOf(ctx, in.Value)
	if err != nil {
		return err
	}
	for _, w := range rec.Words {
		if w.By.Name == who.Name && w.Word == word && (word != incident.Approved || approves(rec, who.Name)) {
			return refusal(fmt.Sprintf("You have said %s to plan %s already; it is %s.", said(word), rec.Plan.ID, rec.State))
		}
	}
	if rec.State != incident.PlanPending {
		return refusal(fmt.Sprintf("Plan %s is %s%s; nobody's word changes it any more.", rec.Plan.ID, rec.State, colon(rec.Reason)))
	}
	if err := s.boundary("deciding"); err != nil {
		return err
	}
	if _, err := s.svc.Say(ctx, rec.Plan.ID, word, comment, who); err != nil {
		return told(ctx, err)
	}
	return s.boundary("decided")
}

// approves reports whether a person's approval stands.
func approves(rec planner.Record, name string) bool {
	ok := false
	for _, w := range rec.Words {
		if w.By.Name == name && w.Word != incident.Commented {
			ok = w.Word == incident.Approved
		}
	}
	return ok
}

func said(word string) string {
	if word == incident.Approved {
		return "yes"
	}
	return "no"
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// propose has a plan made of the proposals of a run, unless one waits already.
func (s *Surface) propose(ctx context.Context, in inbound) error {
	who, err := s.people.decider(ctx, in.User)
	if err != nil {
		return err
	}
	sess, held, err := s.svc.Linked(ctx, link(in.Channel, in.Thread))
	if err != nil {
		return err
	}
	if !held || !slices.ContainsFunc(sess.Turns, func(t session.Turn) bool { return t.Run == in.Value }) {
		return refusal("This thread does not show the investigation " + in.Value + ".")
	}
	for _, id := range sess.Plans {
		rec, err := s.svc.Plan(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && rec.Plan.Investigation == in.Value && !rec.State.Final() {
			return refusal("Plan " + id + " of this answer is " + string(rec.State) + "; it is shown in this thread.")
		}
	}
	if _, err := s.svc.Propose(ctx, session.PlanAsk{Session: sess.ID, Run: in.Value, By: who, Source: session.Slack}); err != nil {
		return told(ctx, err)
	}
	return s.boundary("proposed")
}

// told makes an error of planning the sentence that the person who waits is told,
// unless it may pass: then the click is tried again for some time.
func told(ctx context.Context, err error) error {
	if t, ok := errors.AsType[*tool.Error](err); ok && (t.Kind == tool.Unreachable || t.Kind == tool.TimedOut) {
		return err
	}
	if ctx.Err() != nil || conflict(err) || errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return refusal(tool.UserText(err))
}

// sentence gives the words for a person, and whether the error is one that only a
// person can mend.
func sentence(err error) (string, bool) {
	if r, ok := errors.AsType[refusal](err); ok {
		return string(r), true
	}
	if r, ok := errors.AsType[*session.Refusal](err); ok {
		return r.Error(), true
	}
	if t, ok := errors.AsType[*tool.Error](err); ok {
		switch t.Kind {
		case tool.Unreachable, tool.TimedOut:
			return "", false
		}
		return tool.UserText(t), true
	}
	return "", false
}

// whisper tells one person a sentence that nobody else sees.
func (s *Surface) whisper(ctx context.Context, in inbound, text string) error {
	if err := s.boundary("whisper"); err != nil {
		return err
	}
	body := clip(escape(text), maxSection)
	if in.Reply != "" {
		return s.api.do(ctx, "response_url", "", func(c *slack.Client) error {
			_, _, err := c.PostMessageContext(ctx, in.Channel, slack.MsgOptionText(body, false), slack.MsgOptionResponseURL(in.Reply, slack.ResponseTypeEphemeral))
			return err
		})
	}
	return s.api.do(ctx, "chat.postEphemeral", in.Channel, func(c *slack.Client) error {
		opts := []slack.MsgOption{slack.MsgOptionText(body, false)}
		if in.Thread != "" {
			opts = append(opts, slack.MsgOptionTS(in.Thread))
		}
		_, err := c.PostEphemeralContext(ctx, in.Channel, in.User, opts...)
		return err
	})
}

// place is what a modal remembers of where it was opened.
type place struct {
	Channel string `json:"channel"`
	Thread  string `json:"thread"`
	Value   string `json:"value,omitempty"`
}

func (p place) encode() string {
	raw, err := json.Marshal(p)
	if err != nil {
		return ""
	}
	return string(raw)
}

func decodePlace(s string) (place, bool) {
	var p place
	err := json.Unmarshal([]byte(s), &p)
	return p, err == nil && p.Channel != "" && p.Thread != ""
}
