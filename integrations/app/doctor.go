package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// Health of one thing that gumshoe needs or can use.
type Health struct {
	What string `json:"what"`
	// State is "ok", "limited", "off" or "broken".
	State string `json:"state"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// Doctor looks at the configured source, the toolsets, the runbooks, the model
// and the journal, and says what works and what would make the rest work.
func Doctor(ctx context.Context, cfg Config) []Health {
	out := []Health{{What: "version", State: "ok", Text: Version()}}
	src, err := openSource(ctx, cfg)
	if err != nil {
		return append(out, runbookHealth(cfg, nil), modelHealth(ctx, cfg), storeHealth(cfg.Store), broken("source", err))
	}
	a, err := assemble(cfg, src, nil)
	if err != nil {
		return append(out, runbookHealth(cfg, nil), modelHealth(ctx, cfg), storeHealth(cfg.Store), broken("source", err))
	}
	defer func() { _ = a.Close() }()
	out = append(out, runbookHealth(cfg, a.library), modelHealth(ctx, cfg), storeHealth(cfg.Store))
	out = append(out, Health{What: "source", State: "ok", Text: a.src.cluster + " at " + a.src.rest.Host})
	for _, ts := range a.toolsets {
		st := ts.Status(ctx)
		h := Health{What: "toolset " + ts.Name(), Text: fmt.Sprintf("%d tools", len(ts.Tools())), Fix: st.Fix, State: map[tool.State]string{tool.Ready: "ok", tool.Absent: "off", tool.Denied: "broken", tool.Broken: "broken"}[st.State]}
		if st.State != tool.Ready {
			h.Text = st.Reason
		}
		if len(st.Limits) > 0 && st.State == tool.Ready {
			h.State = "limited"
		}
		out = append(out, h)
		for _, l := range st.Limits {
			out = append(out, Health{What: "  cannot see " + l.Source, State: "limited", Text: l.Why, Fix: l.Fix})
		}
	}
	return out
}

// runbookHealth lints the runbooks when some of them are the user's own: those
// that ship were linted when they were built. lib is nil when it is not loaded.
func runbookHealth(cfg Config, lib *runbooks.Library) Health {
	h := Health{What: "runbooks", State: "ok"}
	if len(cfg.Runbooks) == 0 && lib != nil {
		h.Text = fmt.Sprintf("%d that ship", len(lib.All()))
		return h
	}
	problems, n, err := LintRunbooks(cfg)
	switch {
	case err != nil:
		h.State, h.Text = "broken", err.Error()
	case len(problems) > 0:
		h.State, h.Text, h.Fix = "broken", fmt.Sprintf("%d problems in %d runbooks", len(problems), n), "gumshoe runbooks lint"
	default:
		h.Text = fmt.Sprintf("%d, no problems", n)
	}
	return h
}

func broken(what string, err error) Health {
	h := Health{What: what, State: "broken", Text: err.Error()}
	if e, ok := errors.AsType[*tool.Error](err); ok {
		h.Text, h.Fix = e.User, e.Fix
	}
	return h
}

// modelHealth asks the model for one word, if there is one.
func modelHealth(ctx context.Context, cfg Config) Health {
	c := cfg.Model
	if c.Name == "" || c.Name == Offline {
		return Health{What: "model", State: "off", Text: "offline: code answers alone", Fix: "set GUMSHOE_MODEL=PROVIDER/NAME to let a model dig deeper"}
	}
	r := redact.New()
	for _, key := range cfg.modelSecrets() {
		r.AddKnown(key, "credential")
	}
	m, closer, err := openModel(cfg, "", r.String, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		return Health{What: "model", State: "broken", Text: err.Error()}
	}
	defer closer()
	turn, err := llm.Collect(ctx, m, llm.Request{Messages: []llm.Message{{Role: llm.User, Text: "Answer with the word ok."}}, MaxTokens: 16}, nil)
	if err != nil {
		return Health{What: "model", State: "broken", Text: c.Name + ": " + err.Error()}
	}
	return Health{What: "model", State: "ok", Text: fmt.Sprintf("%s answers (%d tokens in, %d out)", c.Name, turn.Input, turn.Output)}
}
