package serving

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// ProbeIn names an engine pod and, if its arguments do not say, the model.
type ProbeIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Model     string `json:"model,omitempty" jsonschema:"served name"`
	Port      int    `json:"port,omitempty"`
}

// Probed is what an engine answered.
type Probed struct {
	Subject incident.Ref `json:"subject"`
	Model   string       `json:"model"`
	Port    int          `json:"port"`
	// Health is the answer of /health, or why there is none.
	Health string `json:"health"`
	// Listed are the models of /v1/models.
	Listed []string `json:"listed"`
	// Served says that one token came back.
	Served bool   `json:"served"`
	Answer string `json:"answer"`
}

// probeBytes bounds an answer.
const probeBytes = 64 << 10

// probeTool sends one real request of one token: the only proof that an engine
// serves. It touches a production server, so its effect is a probe and it is
// never part of a check.
func (t *Toolset) probeTool() (tool.Tool, error) {
	raw, err := texts.ReadFile("text/serving_probe.md")
	if err != nil {
		return nil, fmt.Errorf("tool serving_probe: %w", err)
	}
	return tool.New(tool.Info{Name: "serving_probe", Text: strings.TrimSpace(string(raw)), Effect: tool.Probe}, t.probe)
}

func (t *Toolset) probe(ctx context.Context, in ProbeIn) (tool.Output[Probed], error) {
	if t.proxy == nil {
		return tool.Output[Probed]{}, &tool.Error{Kind: tool.NotServed, User: "no way to reach pods is configured"}
	}
	p, err := t.pods.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Probed]{}, err
	}
	e, ok := engineOf(p)
	if !ok && (in.Model == "" || in.Port == 0) {
		return tool.Output[Probed]{}, tool.Errorf(tool.Invalid, "pod %s/%s starts no engine that is known; give model and port", in.Namespace, in.Pod)
	}
	out := Probed{Subject: t.podRef(p), Model: in.Model, Port: in.Port, Listed: []string{}}
	if out.Port == 0 {
		if out.Port = e.port; out.Port == 0 {
			out.Port = e.defaultPort()
		}
	}
	if out.Port < 1 || out.Port > 65535 {
		return tool.Output[Probed]{}, tool.Errorf(tool.Invalid, "port %d of pod %s/%s is no port; give the one that the engine listens on", out.Port, in.Namespace, in.Pod)
	}
	if _, err := t.proxy.Get(ctx, p.Namespace, p.Name, out.Port, "/health", probeBytes); err != nil {
		out.Health = tool.UserText(err)
	} else {
		out.Health = "answers 200"
	}
	if raw, err := t.proxy.Get(ctx, p.Namespace, p.Name, out.Port, "/v1/models", probeBytes); err == nil {
		var models struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
		}
		if json.Unmarshal(raw, &models) == nil {
			for _, m := range models.Data {
				out.Listed = append(out.Listed, oneLine(m.ID, 200))
			}
		}
	}
	if out.Model == "" && len(out.Listed) > 0 {
		out.Model = out.Listed[0]
	}
	if out.Model == "" && len(e.names) > 0 {
		out.Model = e.names[0]
	}
	body, err := json.Marshal(map[string]any{"model": out.Model, "prompt": "1", "max_tokens": 1, "temperature": 0})
	if err != nil {
		return tool.Output[Probed]{}, fmt.Errorf("serving_probe: encode the request: %w", err)
	}
	raw, err := t.proxy.Post(ctx, p.Namespace, p.Name, out.Port, "/v1/completions", body, probeBytes)
	switch {
	case err != nil && tool.KindOf(err) == tool.Forbidden:
		return tool.Output[Probed]{}, err
	case err != nil:
		out.Answer = tool.UserText(err)
	default:
		out.Served, out.Answer = completed(raw)
	}
	word := "does not complete a request"
	if out.Served {
		word = "completed a request of one token"
	}
	text := fmt.Sprintf("pod %s on port %d, model %s: %s; /health %s; /v1/models lists %s; answer: %s", out.Subject.Path(), out.Port, orNone(out.Model), word, out.Health, orNone(strings.Join(out.Listed, ", ")), out.Answer)
	return tool.Output[Probed]{Data: out, Text: text}, nil
}

// completed reads an answer of the completions API: whether it holds a choice, and
// its gist.
func completed(raw []byte) (bool, string) {
	var a struct {
		Choices []struct {
			Text   string `json:"text"`
			Reason string `json:"finish_reason"`
		} `json:"choices"`
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return false, "no JSON: " + oneLine(string(raw), 200)
	}
	if len(a.Choices) == 0 {
		return false, oneLine(a.Message+" "+string(a.Error), 300)
	}
	return true, fmt.Sprintf("%q, finished by %s", oneLine(a.Choices[0].Text, 80), a.Choices[0].Reason)
}
