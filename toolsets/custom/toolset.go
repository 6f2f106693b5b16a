package custom

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Toolset offers the tools of a configuration. It is safe for concurrent use.
type Toolset struct {
	calls []*call
	tools []tool.Tool
}

var _ tool.Toolset = (*Toolset)(nil)

// New checks the descriptions and makes their tools. It talks to nothing. The error
// names every mistake: "tools[2].url: ...".
func New(specs []Spec) (*Toolset, error) {
	t := &Toolset{}
	var errs []error
	seen := map[string]int{}
	if len(specs) > maxTools {
		errs = append(errs, fmt.Errorf("tools: %d are more than %d", len(specs), maxTools))
	}
	for i, s := range specs {
		c, err := check(s)
		for _, e := range unjoin(err) {
			errs = append(errs, fmt.Errorf("tools[%d].%w", i, e))
		}
		if first, twice := seen[s.Name]; twice && s.Name != "" {
			errs = append(errs, fmt.Errorf("tools[%d].name: %q is tools[%d]'s already", i, s.Name, first))
		}
		seen[s.Name] = i
		c.client = c.httpClient()
		t.calls = append(t.calls, c)
		t.tools = append(t.tools, &httpTool{c})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t, nil
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "custom" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Status implements tool.Toolset: always ready. An endpoint that does not answer is
// the error of its call; asking all of them at each start would cost more than it tells.
func (t *Toolset) Status(context.Context) tool.Status { return tool.Status{State: tool.Ready} }

// Close ends connections that are kept open.
func (t *Toolset) Close() error {
	for _, c := range t.calls {
		c.client.CloseIdleConnections()
	}
	return nil
}

// Secrets are the values of all secret headers, as they are now.
func (t *Toolset) Secrets() []string {
	var out []string
	for _, c := range t.calls {
		for _, h := range c.spec.SecretHeaders {
			if raw, err := os.ReadFile(h.File); err == nil {
				out = append(out, strings.TrimSpace(string(raw)))
			}
		}
	}
	return out
}

// httpTool is one tool.
type httpTool struct{ c *call }

var _ tool.Tool = (*httpTool)(nil)

// Info implements tool.Tool.
func (h *httpTool) Info() tool.Info {
	return tool.Info{Name: h.c.name, Text: strings.TrimSpace(h.c.spec.Description), Effect: h.c.effect(), MaxText: tool.DefaultMaxText, Input: h.c.schema, Output: outputSchema()}
}

func outputSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{
		"status":    {Type: "integer", Description: "HTTP status"},
		"matches":   {Type: "array", Description: "what the JSONPath selects, or the whole answer"},
		"truncated": {Type: "boolean"},
		"text":      {Type: "string", Description: "an answer that is no JSON"},
	}, PropertyOrder: []string{"status", "matches", "truncated", "text"}, Required: []string{"status", "matches", "truncated"}}
}
