package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	maxDescription = 1000
	maxSchema      = 32 << 10 // bytes of a tool's input schema
	againAfter     = 30 * time.Second
)

// Config says how a server is used.
type Config struct {
	Spec Spec
	// Wanted says that something may call the tools: without a model nothing does, and
	// the server is then not connected to unless one of its tools is asked for.
	Wanted bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Toolset is one server. It connects when it is first asked. It is safe for
// concurrent use.
type Toolset struct {
	s      *server
	wanted bool
	now    func() time.Time

	mu     sync.Mutex
	ses    *session
	tools  []tool.Tool
	limits []incident.Gap
	failed error
	tried  time.Time
	closed bool
}

var _ tool.Toolset = (*Toolset)(nil)

// New checks the description. It starts and reaches nothing. The error names every
// mistake by its field.
func New(c Config) (*Toolset, error) {
	s, err := check(c.Spec)
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Toolset{s: s, wanted: c.Wanted, now: c.Now}, nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "mcp_" + t.s.spec.Name }

// Secrets are the values that must be masked.
func (t *Toolset) Secrets() []string { return t.s.secrets() }

// Status implements tool.Toolset: it connects, within the start timeout, and is broken
// with the reason when that fails.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ses == nil && !t.wanted {
		return tool.Status{State: tool.Absent, Reason: "not connected: without a model nothing calls its tools"}
	}
	if err := t.open(ctx); err != nil {
		return tool.Status{State: tool.Broken, Reason: fmt.Sprintf("MCP server %s: %s", t.s.spec.Name, clean(err.Error(), 500)), Fix: "check mcp." + t.s.spec.Name + " in the configuration"}
	}
	return tool.Status{State: tool.Ready, Limits: slices.Clone(t.limits)}
}

// Tools implements tool.Toolset. It connects when nobody has asked for the status yet.
func (t *Toolset) Tools() []tool.Tool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ses == nil && t.tried.IsZero() {
		// The error is the status's to tell.
		_ = t.open(context.Background())
	}
	return slices.Clone(t.tools)
}

// open connects where there is no connection; a failure is not repeated at once. The
// caller holds the lock.
func (t *Toolset) open(ctx context.Context) error {
	switch {
	case t.closed:
		return errors.New("closed")
	case t.ses != nil && t.ses.alive():
		return nil
	case t.failed != nil && t.now().Sub(t.tried) < againAfter:
		return t.failed
	}
	if t.ses != nil {
		// It ended by itself; its process is reaped.
		_ = t.ses.cs.Close()
		t.ses, t.tools = nil, nil
	}
	t.tried = t.now()
	ctx, cancel := context.WithTimeout(ctx, t.s.start)
	defer cancel()
	type result struct {
		ses   *session
		tools []*mcp.Tool
		err   error
	}
	done := make(chan result, 1)
	go func() {
		ses, tools, err := t.s.connect(ctx)
		done <- result{ses, tools, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		// A server that ignores the end of the context must not hold the start up.
		go func() {
			if late := <-done; late.ses != nil {
				_ = late.ses.cs.Close()
			}
		}()
		r.err = ctx.Err()
	}
	if errors.Is(r.err, context.DeadlineExceeded) {
		r.err = fmt.Errorf("it does not answer within %s", t.s.start)
	}
	if r.err != nil {
		t.failed = r.err
		return r.err
	}
	t.failed, t.ses = nil, r.ses
	t.offer(r.tools)
	return nil
}

// offer makes the tools that are listed and that the server has. What they say of
// themselves is fixed from here on: a server cannot change a tool that was looked at.
func (t *Toolset) offer(have []*mcp.Tool) {
	t.tools, t.limits = nil, nil
	by := map[string]*mcp.Tool{}
	for _, h := range have {
		if h != nil && by[h.Name] == nil {
			by[h.Name] = h
		}
	}
	miss := func(name, why string) {
		t.limits = append(t.limits, incident.Gap{Source: t.s.offered(ToolSpec{Name: name}), Why: why, Fix: "check mcp." + t.s.spec.Name + ".tools"})
	}
	for _, spec := range t.s.spec.Tools {
		h := by[spec.Name]
		if h == nil {
			miss(spec.Name, "the MCP server has no such tool")
			continue
		}
		schema, resolved, err := input(h.InputSchema)
		if err != nil {
			miss(spec.Name, clean(err.Error(), 300))
			continue
		}
		text := spec.Description
		if text == "" {
			text = clean(h.Description, maxDescription)
		}
		if text == "" {
			text = spec.Name
		}
		t.tools = append(t.tools, &remote{t: t, name: spec.Name, resolved: resolved, info: tool.Info{
			Name: t.s.offered(spec), Text: "MCP server " + t.s.spec.Name + ": " + text, Effect: t.s.effects[spec.Name], MaxText: tool.DefaultMaxText, Input: schema, Output: outputSchema(),
		}})
	}
}

// input reads a tool's schema within bounds. References outside of it are refused.
func input(from any) (*jsonschema.Schema, *jsonschema.Resolved, error) {
	raw, err := json.Marshal(from)
	if err != nil {
		return nil, nil, fmt.Errorf("input schema: %w", err)
	}
	if len(raw) > maxSchema {
		return nil, nil, fmt.Errorf("its input schema has %d bytes, more than %d", len(raw), maxSchema)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, nil, fmt.Errorf("input schema: %w", err)
	}
	if s.Type != "object" {
		return nil, nil, fmt.Errorf("its input schema is of type %q, not object", s.Type)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("input schema: %w", err)
	}
	return &s, r, nil
}

// Close ends the connection and the process. It may be called twice.
func (t *Toolset) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.ses == nil {
		return nil
	}
	ses := t.ses
	t.ses = nil
	// That a process was stopped by a signal is what was meant.
	_ = ses.cs.Close()
	return nil
}

func outputSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{
		"content":    {Type: "string", Description: "what the server answered as text"},
		"structured": {Description: "its structured answer, if any"},
		"truncated":  {Type: "boolean"},
	}, PropertyOrder: []string{"content", "structured", "truncated"}, Required: []string{"content", "truncated"}}
}

// clean takes control characters out and bounds a text in bytes.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 4*n)], ""))
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
