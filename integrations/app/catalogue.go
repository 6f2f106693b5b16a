package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/runbooks"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
	"github.com/gumshoe-ai/gumshoe/toolsets/serving"
	"github.com/gumshoe-ai/gumshoe/toolsets/storage"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply"
)

// What these could not see since a run began stands in its report: a method that is
// called otherwise would be missed in silence.
var (
	_ investigate.Limiter = (*cilium.Toolset)(nil)
	_ investigate.Limiter = (*gpu.Toolset)(nil)
	_ investigate.Limiter = (*kube.Toolset)(nil)
)

// ToolInfo describes a tool for people and other programs.
type ToolInfo struct {
	Name    string             `json:"name"`
	Toolset string             `json:"toolset"`
	Effect  tool.Effect        `json:"effect"`
	Text    string             `json:"text"`
	Takes   string             `json:"takes"`
	Input   *jsonschema.Schema `json:"input"`
	Output  *jsonschema.Schema `json:"output"`
}

// shippedToolsets builds the toolsets without a cluster, to list what they offer.
func shippedToolsets() ([]tool.Toolset, error) {
	return toolsets(&source{rest: &rest.Config{Host: "http://nowhere.invalid"}, cluster: "none", now: time.Now})
}

// Tools lists every tool that ships, by toolset and name. No cluster is needed.
func Tools() ([]ToolInfo, error) {
	sets, err := shippedToolsets()
	if err != nil {
		return nil, err
	}
	var out []ToolInfo
	for _, ts := range sets {
		for _, t := range ts.Tools() {
			i := t.Info()
			out = append(out, ToolInfo{Name: i.Name, Toolset: ts.Name(), Effect: i.Effect, Text: strings.TrimSpace(i.Text), Takes: tool.Signature(i.Input), Input: i.Input, Output: i.Output})
		}
	}
	slices.SortFunc(out, func(a, b ToolInfo) int { return strings.Compare(a.Toolset+a.Name, b.Toolset+b.Name) })
	return out, nil
}

// ToolsetInfo is a toolset as people read of it.
type ToolsetInfo struct {
	Name string
	tool.Description
	Tools []ToolInfo
}

// Toolsets describes every toolset that ships, with its tools. No cluster is needed.
func Toolsets() ([]ToolsetInfo, error) {
	sets, err := shippedToolsets()
	if err != nil {
		return nil, err
	}
	tools, err := Tools()
	if err != nil {
		return nil, err
	}
	var out []ToolsetInfo
	for _, ts := range sets {
		d, ok := ts.(tool.Describer)
		if !ok {
			return nil, fmt.Errorf("toolset %s does not describe itself", ts.Name())
		}
		i := ToolsetInfo{Name: ts.Name(), Description: d.Describe()}
		for _, t := range tools {
			if t.Toolset == ts.Name() {
				i.Tools = append(i.Tools, t)
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// Codes lists every finding code that the shipped toolsets may emit.
func Codes() []tool.Code {
	return slices.Concat(
		kube.Codes(),
		dra.Codes(),
		prom.Codes(),
		fit.Codes(),
		cilium.Codes(),
		logs.Codes(),
		supply.Codes(),
		storage.Codes(),
		nodepool.Codes(),
		serving.Codes(),
		gpu.Codes(),
	)
}

// KnownActions gives a function that says whether an action is in the catalogue.
func KnownActions() (func(string) bool, error) {
	all, err := runbooks.Actions()
	if err != nil {
		return nil, err
	}
	return func(name string) bool { _, ok := all[name]; return ok }, nil
}

// proposable is the catalogue in the words of the investigation.
func proposable() ([]investigate.Action, error) {
	all, err := runbooks.Actions()
	if err != nil {
		return nil, err
	}
	var out []investigate.Action
	for _, a := range all {
		act := investigate.Action{Name: a.Name, Text: a.Text}
		for _, p := range a.Params {
			act.Params = append(act.Params, investigate.Param{Name: p.Name, Text: p.Text, Object: p.Object, Required: p.Required})
		}
		out = append(out, act)
	}
	slices.SortFunc(out, func(a, b investigate.Action) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// LintRunbooks checks the runbooks of a configuration against the tools, finding
// codes and actions that ship. It gives the problems and how many runbooks were checked.
func LintRunbooks(cfg Config) ([]runbooks.Problem, int, error) {
	lib, err := Library(cfg)
	if err != nil {
		return nil, 0, err
	}
	c := runbooks.LintContext{Tools: map[string]runbooks.ToolSchema{}, Codes: map[string]runbooks.CodeInfo{}}
	if c.Actions, err = runbooks.Actions(); err != nil {
		return nil, 0, err
	}
	infos, err := Tools()
	if err != nil {
		return nil, 0, err
	}
	for _, t := range infos {
		in, err := json.Marshal(t.Input)
		if err != nil {
			return nil, 0, fmt.Errorf("schema of %s: %w", t.Name, err)
		}
		out, err := json.Marshal(t.Output)
		if err != nil {
			return nil, 0, fmt.Errorf("schema of %s: %w", t.Name, err)
		}
		c.Tools[t.Name] = runbooks.ToolSchema{Input: in, Output: out}
	}
	for _, k := range Codes() {
		c.Codes[k.Code] = runbooks.CodeInfo{Params: k.Params, Optional: k.Optional, Role: string(k.Role)}
	}
	return runbooks.Lint(lib, c), len(lib.All()), nil
}
