package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	maxText       = 16 << 10
	maxStructured = 64 << 10
)

// remote is one tool of the server.
type remote struct {
	t        *Toolset
	name     string
	info     tool.Info
	resolved *jsonschema.Resolved
}

var _ tool.Tool = (*remote)(nil)

// Info implements tool.Tool.
func (r *remote) Info() tool.Info { return r.info }

// answer is the data of a call.
type answer struct {
	Content    string          `json:"content"`
	Structured json.RawMessage `json:"structured,omitempty"`
	Truncated  bool            `json:"truncated"`
}

// Call implements tool.Tool.
func (r *remote) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	if len(bytes.TrimSpace(args)) == 0 {
		args = json.RawMessage("{}")
	}
	var raw any
	if err := json.Unmarshal(args, &raw); err != nil {
		return tool.Result{}, &tool.Error{Kind: tool.Invalid, User: r.info.Name + ": arguments are not valid JSON", Err: err}
	}
	if err := r.resolved.Validate(raw); err != nil {
		return tool.Result{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: %v", r.info.Name, err), Fix: "arguments: " + tool.Signature(r.info.Input), Err: err}
	}
	if _, ok := raw.(map[string]any); !ok {
		return tool.Result{}, &tool.Error{Kind: tool.Invalid, User: r.info.Name + ": arguments are an object"}
	}
	r.t.mu.Lock()
	err := r.t.open(ctx)
	ses := r.t.ses
	r.t.mu.Unlock()
	if err != nil || ses == nil {
		return tool.Result{}, r.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.t.s.call)
	defer cancel()
	res, err := ses.cs.CallTool(ctx, &mcp.CallToolParams{Name: r.name, Arguments: args})
	if err != nil {
		return tool.Result{}, r.failed(err)
	}
	a := read(res)
	if res.IsError {
		return tool.Result{}, &tool.Error{Kind: tool.Internal, User: fmt.Sprintf("%s: the MCP server reports an error: %s", r.info.Name, clean(a.Content, 500))}
	}
	data, err := json.Marshal(a)
	if err != nil {
		return tool.Result{}, fmt.Errorf("%s: encode output: %w", r.info.Name, err)
	}
	text := a.Content
	if text == "" && len(a.Structured) > 0 {
		text = string(a.Structured[:min(len(a.Structured), maxText)])
	}
	if a.Truncated {
		text += "\n(cut off)"
	}
	return tool.Result{Data: data, Text: text + "\n"}, nil
}

func (r *remote) failed(err error) error {
	server := r.t.s.spec.Name
	if errors.Is(err, context.DeadlineExceeded) {
		return &tool.Error{Kind: tool.TimedOut, User: fmt.Sprintf("%s: MCP server %s does not answer within %s", r.info.Name, server, r.t.s.call), Fix: "raise callTimeout", Err: err}
	}
	why := "it is not connected"
	if err != nil {
		why = clean(err.Error(), 300)
	}
	return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("%s: MCP server %s: %s", r.info.Name, server, why), Err: err}
}

// read takes text and structured content; pictures, sounds and links are named only.
func read(res *mcp.CallToolResult) answer {
	var a answer
	var b strings.Builder
	add := func(s string) {
		room := maxText - b.Len()
		if room <= 0 || len(s) > room {
			a.Truncated = true
			s = s[:max(0, min(len(s), room))]
		}
		b.WriteString(s)
	}
	for i, c := range res.Content {
		if i > 0 {
			add("\n")
		}
		switch c := c.(type) {
		case *mcp.TextContent:
			add(c.Text)
		case *mcp.EmbeddedResource:
			if c.Resource != nil && c.Resource.Text != "" {
				add(c.Resource.Text)
			} else {
				add("(a resource that is no text was left out)")
			}
		case *mcp.ResourceLink:
			add("(a link: " + clean(c.URI, 300) + ")")
		default:
			add("(content that is no text was left out)")
		}
		if b.Len() >= maxText {
			a.Truncated = a.Truncated || i < len(res.Content)-1
			break
		}
	}
	a.Content = strings.ToValidUTF8(b.String(), "")
	if res.StructuredContent != nil {
		raw, err := json.Marshal(res.StructuredContent)
		switch {
		case err != nil:
		case len(raw) > maxStructured:
			a.Truncated = true
		default:
			a.Structured = raw
		}
	}
	return a
}
