package investigate

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type whatIfArgs struct {
	Namespace      string `json:"namespace"`
	Pod            string `json:"pod,omitempty" jsonschema:"pod whose claims are tried"`
	Claim          string `json:"claim,omitempty" jsonschema:"claim that is tried"`
	Request        string `json:"request,omitempty" jsonschema:"request inside the claim"`
	Count          int    `json:"count,omitempty" jsonschema:"another number of devices"`
	Class          string `json:"class,omitempty" jsonschema:"another device class"`
	Selector       string `json:"selector,omitempty" jsonschema:"another CEL selector"`
	DropSelector   int    `json:"drop_selector,omitempty" jsonschema:"leave out this selector"`
	DropConstraint int    `json:"drop_constraint,omitempty" jsonschema:"leave out this constraint"`
	Node           string `json:"node,omitempty" jsonschema:"only this node"`
}

type listArgs struct {
	Kind          string   `json:"kind" jsonschema:"kind or resource name, any API group"`
	Namespace     string   `json:"namespace,omitempty"`
	LabelSelector string   `json:"label_selector,omitempty"`
	FieldSelector string   `json:"field_selector,omitempty"`
	Columns       []string `json:"columns,omitempty" jsonschema:"JSONPath of each column"`
	CountOnly     bool     `json:"count_only,omitempty"`
	Limit         int      `json:"limit,omitempty"`
}

func sized[In any](t *testing.T, name string) tool.Tool {
	t.Helper()
	f, err := tool.New(tool.Info{Name: name, Effect: tool.Read,
		Text: "Says what stands in the way of one object: what it depends on, what is missing, and since when. Use it before reading logs. Names come from kube_list."},
		func(context.Context, In) (tool.Output[podData], error) { return tool.Output[podData]{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFirstTurnTokens: the first request stays below 8k tokens with three times
// the tools that kube and dra have, and below half of an 8k window for small
// models; what is not offered at once can be opened.
func TestFirstTurnTokens(t *testing.T) {
	t.Parallel()
	var tools []tool.Tool
	for _, n := range []string{"kube_get", "kube_describe", "kube_events", "kube_logs", "kube_changes", "kube_access", "kube_survey", "kube_workload", "kube_scheduling", "kube_network", "kube_storage", "kube_node",
		"kube_autoscaling", "kube_disruption", "kube_admission", "dra_overview", "dra_topology", "dra_extended", "dra_driver", "dra_devices", "dra_lint", "dra_claim"} {
		tools = append(tools, sized[podArgs](t, n))
	}
	tools = append(tools, sized[whatIfArgs](t, "dra_what_if"), sized[listArgs](t, "kube_list"))
	for _, system := range []string{"prom", "gpu", "serving", "fit", "cilium", "nodepool", "storage", "supply"} {
		for i := range 6 {
			tools = append(tools, sized[listArgs](t, fmt.Sprintf("%s_tool_%d", system, i)))
		}
	}
	for _, tc := range []struct{ window, most int }{{0, 8000}, {128 << 10, 8000}, {32 << 10, 6000}, {8 << 10, 5000}} {
		srv, m := chat(t, func(c *openaichat.Config) { c.Window = tc.window }, llmtest.Ask(conclude(rightAnswer())))
		cfg := base(t, tools...)
		cfg.Model = m
		r, _ := investigate(t, cfg)
		keeps(t, r, r.Stop)
		q := srv.Last()
		n := llm.Estimate(llm.Request{System: q.System, Messages: q.Messages, Tools: q.Tools})
		t.Logf("window %d: %d tokens, %d tools", tc.window, n, len(q.Tools))
		if !strings.Contains(q.Tools[len(q.Tools)-1].Text, "storage_tool_5") {
			t.Errorf("window %d: %s does not name what is closed: %s", tc.window, openTool, q.Tools[len(q.Tools)-1].Text)
		}
		if n > tc.most {
			t.Errorf("window %d: the first request has %d tokens", tc.window, n)
		}
	}
}
