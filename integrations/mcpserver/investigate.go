package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// maxQuestion is the longest question, in bytes.
const maxQuestion = 16 << 10

// grace is how long the rest of the progress is waited for once the answer is there.
const grace = 2 * time.Second

type investigateIn struct {
	Question  string `json:"question" jsonschema:"what is wrong, in plain words, with names as they are in the cluster"`
	Namespace string `json:"namespace,omitempty" jsonschema:"narrows the question to a namespace"`
	Wait      *bool  `json:"wait,omitempty" jsonschema:"false returns at once with the ids, to be read with investigation_get; default true"`
}

type followUpIn struct {
	Session  string `json:"session" jsonschema:"id of an investigation (s-...), or latest"`
	Question string `json:"question" jsonschema:"the question about it"`
	Wait     *bool  `json:"wait,omitempty" jsonschema:"false returns at once with the ids, to be read with investigation_get; default true"`
}

type cancelIn struct {
	Session string `json:"session" jsonschema:"id of the investigation (s-...)"`
	Turn    string `json:"turn" jsonschema:"id of the question (run-...), as investigate gave it"`
}

func (s *Server) addInvestigate() error {
	return errors.Join(
		own(s, &sdk.Tool{Name: "investigate", Title: "Investigate", Annotations: hints(false, true),
			Description: "Finds out why something on the cluster misbehaves: runs checks, walks dependencies, runs runbooks, asks the configured model if there is one, and answers with causes that cite evidence. Takes seconds to minutes; progress is told. It reads only. It starts a conversation that follow_up continues."},
			func(ctx context.Context, req *sdk.CallToolRequest, in investigateIn) (string, Investigation, error) {
				return s.ask(ctx, req, session.Ask{Question: incident.Question{Text: in.Question, Namespace: in.Namespace}}, in.Wait)
			}),
		own(s, &sdk.Tool{Name: "follow_up", Title: "Ask a follow-up question", Annotations: hints(false, true),
			Description: "Asks a further question in an investigation that is there, with what was asked and answered before. Answers as investigate does."},
			func(ctx context.Context, req *sdk.CallToolRequest, in followUpIn) (string, Investigation, error) {
				if in.Session == "" {
					return "", Investigation{}, tool.Errorf(tool.Invalid, "follow_up: session is empty: investigations_list lists them")
				}
				return s.ask(ctx, req, session.Ask{Session: in.Session, Question: incident.Question{Text: in.Question}}, in.Wait)
			}),
		own(s, &sdk.Tool{Name: "investigation_cancel", Title: "Cancel an investigation", Annotations: hints(false, false),
			Description: "Takes back a question that is waiting or being worked on. What was seen until then is kept. Nothing in the cluster changes."},
			s.cancel))
}

func (s *Server) cancel(ctx context.Context, _ *sdk.CallToolRequest, in cancelIn) (string, Investigation, error) {
	by, err := who(ctx, access.Asker, "cancel investigations")
	if err != nil {
		return "", Investigation{}, err
	}
	ses, err := s.deps.Conversations.Cancel(ctx, in.Session, in.Turn, by)
	if err != nil {
		return "", Investigation{}, err
	}
	t, ok := ses.Turn(in.Turn)
	if !ok {
		return "", Investigation{}, tool.Errorf(tool.NotFound, "session %s has no turn %s", ses.ID, in.Turn)
	}
	return s.told(ctx, ses, t)
}

// ask puts a question and, unless told otherwise, waits for what becomes of it.
func (s *Server) ask(ctx context.Context, req *sdk.CallToolRequest, a session.Ask, wait *bool) (string, Investigation, error) {
	by, err := who(ctx, access.Asker, "ask")
	if err != nil {
		return "", Investigation{}, err
	}
	switch n := len(a.Question.Text); {
	case strings.TrimSpace(a.Question.Text) == "":
		return "", Investigation{}, &tool.Error{Kind: tool.Invalid, User: "the question is empty", Fix: "say what is wrong, such as: why is pod train-0 pending"}
	case n > maxQuestion:
		return "", Investigation{}, tool.Errorf(tool.Invalid, "the question has %d bytes, more than %d: leave long logs out, they are read from the cluster", n, maxQuestion)
	}
	a.By, a.Source = by, session.MCP
	ses, turn, err := s.deps.Conversations.Ask(ctx, a)
	if err != nil {
		return "", Investigation{}, err
	}
	if wait != nil && !*wait {
		return s.told(ctx, ses, turn)
	}
	ses, turn, err = s.await(ctx, req, ses, turn)
	if err != nil {
		return "", Investigation{}, s.cutOff(ctx, ses.ID, turn, by, err)
	}
	return s.told(ctx, ses, turn)
}

// cutOff takes a question back that nobody waits for any more. A server that ends
// leaves it: the answer is for the next one to give.
func (s *Server) cutOff(ctx context.Context, sessionID string, turn session.Turn, by incident.Person, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if s.deps.Draining != nil && s.deps.Draining() {
		return &tool.Error{Kind: tool.TimedOut, User: "the server ends; the question is kept", Fix: "read the answer later with investigation_get " + turn.ID}
	}
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	if _, err := s.deps.Conversations.Cancel(clean, sessionID, turn.ID, by); err != nil {
		s.deps.Log.Warn("a call was cancelled, its investigation was not", "session", sessionID, "turn", turn.ID, "error", err)
	}
	return &tool.Error{Kind: tool.TimedOut, User: "cancelled by the caller", Err: ctx.Err()}
}

// await follows a turn until it has ended, or for as long as a call waits: then the
// turn is given as it stands. It says on the way what happens. A turn may be worked
// on by several runs, one after another.
func (s *Server) await(ctx context.Context, req *sdk.CallToolRequest, ses session.Session, turn session.Turn) (session.Session, session.Turn, error) {
	waiting, stop := context.WithTimeout(ctx, s.cfg.wait())
	defer stop()
	p := &progress{ctx: ctx, req: req}
	if !turn.State.Ended() {
		p.say("queued as " + turn.ID)
	}
	var following sync.WaitGroup
	run, leave := "", func() {}
	defer func() {
		// What happened is told before the answer; a run that was left without an end
		// is not waited for.
		late := time.AfterFunc(grace, leave)
		following.Wait()
		late.Stop()
		leave()
	}()
	// look brings the session up to date and follows the run that works on the turn.
	look := func() (bool, error) {
		now, err := s.deps.Conversations.Session(ctx, ses.ID)
		if err != nil {
			return false, err
		}
		ses = now
		t, ok := ses.Turn(turn.ID)
		if !ok {
			return false, tool.Errorf(tool.NotFound, "session %s does not hold %s any more", ses.ID, turn.ID)
		}
		turn = t
		if turn.Run != "" && turn.Run != run {
			leave()
			run = turn.Run
			var one context.Context
			one, leave = context.WithCancel(waiting)
			following.Go(func() { s.narrate(one, t.Run, p) })
		}
		return turn.State.Ended(), nil
	}
	subject, err := session.Subject(ses.ID)
	if err != nil {
		return ses, turn, err
	}
	if done, err := look(); done || err != nil {
		return ses, turn, err
	}
	// Notices are asked for from the state that the session was read at, so that none
	// is missed between the two.
	seen := ses.Seq
	for n, err := range s.deps.Following.Follow(waiting, func(of string) uint64 {
		if of == subject {
			return seen
		}
		return math.MaxInt64 // of nobody else is anything told
	}) {
		if err != nil && waiting.Err() == nil {
			return ses, turn, err
		}
		if n.Session != ses.ID {
			continue
		}
		if done, err := look(); done || err != nil {
			return ses, turn, err
		}
	}
	if err := ctx.Err(); err != nil {
		return ses, turn, err
	}
	_, err = look()
	return ses, turn, err
}

// narrate says what a run does until the run or the wait has ended. That it cannot be
// followed costs the caller the progress, not the answer.
func (s *Server) narrate(ctx context.Context, run string, p *progress) {
	for t, err := range s.deps.Following.Events(ctx, run, 0) {
		if err != nil {
			if ctx.Err() == nil {
				s.deps.Log.Warn("a run cannot be followed", "run", run, "error", err)
			}
			return
		}
		if say := narration(t.Event); say != "" {
			p.say(say)
		}
	}
}

// narration is the line that tells of an event; empty for those that need none.
func narration(e event.Event) string {
	switch {
	case e.Type == event.Phase:
		return render.Clean(e.Phase)
	case e.Type == event.RunStarted && e.Started != nil:
		return "started, model " + e.Started.Model
	case e.Type == event.Resolved && len(e.Subjects) > 0:
		names := make([]string, 0, 3)
		for _, r := range e.Subjects[:min(3, len(e.Subjects))] {
			names = append(names, r.String())
		}
		return render.Clean("about " + strings.Join(names, ", "))
	case e.Type == event.ToolStarted && e.Call != nil:
		return render.Clean(fmt.Sprintf("%s %s %s", e.Call.ID, e.Call.Tool, clip(e.Call.Args, 200)))
	case e.Type == event.Hypotheses && len(e.Hypotheses) > 0:
		return render.Clean("likely: " + clip(e.Hypotheses[0].Cause.Statement, 300))
	case e.Type == event.ModelStarted && e.Model != nil:
		return fmt.Sprintf("the model thinks, turn %d", e.Model.Turn)
	case e.Type == event.Rejected:
		return "a diagnosis was sent back: the evidence does not carry it"
	case e.Type == event.Notice && e.Notice != nil:
		return render.Clean(clip(e.Notice.Text, 300))
	case e.Type == event.Concluded:
		return "concluded"
	}
	return ""
}

// progress counts and sends notifications of one call. Nothing is sent to a client
// that did not ask for it.
type progress struct {
	ctx context.Context
	req *sdk.CallToolRequest
	mu  sync.Mutex
	n   float64
}

func (p *progress) say(text string) {
	token := p.req.Params.GetProgressToken()
	if token == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	// A client that does not read its progress still gets its answer.
	_ = p.req.Session.NotifyProgress(p.ctx, &sdk.ProgressNotificationParams{ProgressToken: token, Message: text, Progress: p.n})
}
