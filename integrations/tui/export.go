package tui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// exported is a conversation as /export json writes it.
type exported struct {
	Session session.Session   `json:"session"`
	Reports []incident.Report `json:"reports"`
	Plans   []planner.Record  `json:"plans"`
}

type exportedMsg struct {
	file  string
	bytes int
	err   error
}

// export writes the conversation, with every report and plan of it, as the journal
// holds them.
func (c *chat) export(args []string) tea.Cmd {
	form := "markdown"
	if len(args) > 0 {
		form = args[0]
	}
	if c.session.ID == "" {
		c.note(noteWarn, "nothing has been asked yet")
		return nil
	}
	name := c.session.ID + map[string]string{"markdown": ".md", "json": ".json", "bundle": ".tar.zst"}[form]
	if len(args) > 1 {
		name = strings.Join(args[1:], " ")
	}
	if form == "bundle" {
		return c.record(name)
	}
	id := c.session.ID
	c.busy = "exporting"
	return func() tea.Msg {
		raw, err := exportSession(c, id, form)
		if err == nil {
			err = c.cfg.WriteFile(name, raw)
		}
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s is there already; /export %s FILE names another", name, form)
		}
		return exportedMsg{name, len(raw), err}
	}
}

type recordedMsg struct {
	file       string
	namespaces []string
	objects    int
	err        error
}

// record writes the namespaces that the conversation is about into a bundle.
func (c *chat) record(file string) tea.Cmd {
	if c.cfg.Record == nil {
		c.note(noteWarn, "the server gives no bundle of its cluster; where you have its kubeconfig, run gumshoe bundle capture OUT -n NAMESPACE")
		return nil
	}
	id := c.session.ID
	c.busy = "recording"
	return func() tea.Msg {
		msg := recordedMsg{file: file}
		if msg.namespaces, msg.err = namespacesOf(c, id); msg.err == nil {
			msg.objects, msg.err = c.cfg.Record(c.ctx, file, msg.namespaces)
		}
		return msg
	}
}

// namespacesOf gives the namespaces of what a conversation was about: of what was asked
// and of what the chains to the causes lead through. It runs beside the chat.
func namespacesOf(c *chat, id string) ([]string, error) {
	s, err := c.svc.Session(c.ctx, id)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, t := range s.Turns {
		if t.Run == "" {
			continue
		}
		r, err := c.svc.Run(c.ctx, t.Run)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", t.Run, err)
		}
		refs := slices.Clone(r.Report.Subjects)
		for _, e := range r.Report.Diagnosis.Chain {
			refs = append(refs, e.From, e.To)
		}
		for _, x := range r.Report.Diagnosis.Causes {
			refs = append(refs, x.Subject)
		}
		for _, ref := range refs {
			if ref.Kind == "Namespace" && ref.Namespace == "" {
				ref.Namespace = ref.Name
			}
			seen[ref.Namespace] = true
		}
	}
	delete(seen, "")
	if len(seen) == 0 {
		return nil, errors.New("the conversation is about no namespace; gumshoe bundle capture OUT records the whole cluster")
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

func (c *chat) recorded(msg recordedMsg) {
	c.busy = ""
	if msg.err != nil {
		c.fail(msg.err)
		return
	}
	c.note(noteInfo, fmt.Sprintf("recorded to %s (%d objects; namespaces %s): gumshoe investigate --bundle opens it", msg.file, msg.objects, clean(strings.Join(msg.namespaces, ", "))))
}

// exportSession reads only what never changes of the chat: it runs beside it.
func exportSession(c *chat, id, form string) ([]byte, error) {
	s, err := c.svc.Session(c.ctx, id)
	if err != nil {
		return nil, err
	}
	x := exported{Session: s, Reports: []incident.Report{}, Plans: []planner.Record{}}
	for _, t := range s.Turns {
		if t.Run == "" {
			continue
		}
		r, err := c.svc.Run(c.ctx, t.Run)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", t.Run, err)
		}
		x.Reports = append(x.Reports, r.Report)
	}
	for _, p := range s.Plans {
		r, err := c.svc.Plan(c.ctx, p)
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", p, err)
		}
		x.Plans = append(x.Plans, r)
	}
	if form == "json" {
		raw, err := json.MarshalIndent(x, "", "  ")
		return append(raw, '\n'), err
	}
	return []byte(exportMarkdown(x, c)), nil
}

func exportMarkdown(x exported, c *chat) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nConversation %s, %s to %s.\n", clean(x.Session.Title), clean(x.Session.ID), x.Session.Opened.UTC().Format("2006-01-02 15:04"), x.Session.Changed.UTC().Format("2006-01-02 15:04 MST"))
	for _, r := range x.Reports {
		b.WriteString("\n" + render.Markdown(r))
	}
	for _, p := range x.Plans {
		fmt.Fprintf(&b, "\n## Plan %s\n\n```text\n%s```\n\n```diff\n%s```\n", clean(p.Plan.ID), fenced(render.Plan(planView(p, c.cfg.Now()), render.TextOptions{})), fenced(render.PlanDiff(p.Plan)))
	}
	return b.String()
}

// fenced keeps a text from closing the fence that it stands in.
func fenced(s string) string { return strings.ReplaceAll(s, "```", "'''") }

func (c *chat) exported(msg exportedMsg) {
	c.busy = ""
	if msg.err != nil {
		c.fail(msg.err)
		return
	}
	c.note(noteInfo, fmt.Sprintf("written to %s (%d bytes)", msg.file, msg.bytes))
}

// copyOut puts a text on the clipboard through the terminal (OSC 52), which also works
// over SSH.
func (c *chat) copyOut(args []string) tea.Cmd {
	what := "answer"
	if len(args) > 0 {
		what = args[0]
	}
	text := ""
	switch {
	case what == "plan" && c.card != nil:
		text = render.Plan(planView(c.card.rec, c.cfg.Now()), render.TextOptions{}) + render.PlanDiff(c.card.rec.Plan)
	case what == "answer" && c.last != nil:
		text = render.Markdown(*c.last)
	case c.last != nil:
		for _, e := range c.last.Evidence {
			if strings.EqualFold(e.ID, what) {
				text = strings.Join(cleanLines(e.Text), "\n")
			}
		}
	}
	if text == "" {
		c.note(noteWarn, "there is no "+clean(what)+" to copy")
		return nil
	}
	c.hint = fmt.Sprintf("%s copied (%d characters), if the terminal lets programs copy", clean(what), len([]rune(text)))
	return tea.SetClipboard(text)
}
