package main

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/gumshoe-ai/gumshoe"

// forbidden is the import table: no package at or below the first column (with "!",
// only that package itself) may depend, directly or through others, on anything at or
// below the second.
var forbidden = []struct{ pkg, on, why string }{
	{"runbooks", module, "runbooks is a leaf: knowledge that anyone can load"},
	{"agent/incident", ".", "the nouns import the standard library only"},
	{"agent", module + "/toolsets", "an investigation does not know which systems there are"},
	{"agent", module + "/integrations", "imports only go down the floors"},
	{"agent", module + "/evals", "imports only go down the floors"},
	{"agent", "k8s.io/client-go", "investigate never sees a cluster client"},
	{"agent/triage", module + "/agent/investigate", "rooms of one floor do not reach each other"},
	{"agent/triage", module + "/agent/store", "rooms of one floor do not reach each other"},
	{"agent/investigate", module + "/agent/store", "rooms of one floor do not reach each other"},
	{"agent/store", module + "/agent/llm", "the journal does not know models"},
	{"agent/store!", "github.com/nats-io", "the contract knows no server"},
	{"agent/store/file", "github.com/nats-io", "a journal in a directory needs no server"},
	{"agent/store/jetstream", module + "/agent/store/file", "one way to keep a journal each"},
	{"planner", "github.com/nats-io", "NATS is in agent/store/jetstream only; others are given a store"},
	{"toolsets", "github.com/nats-io", "NATS is in agent/store/jetstream only"},
	{"agent/investigate", "github.com/nats-io", "NATS is in agent/store/jetstream only"},
	{"agent/triage", "github.com/nats-io", "NATS is in agent/store/jetstream only"},
	{"integrations/telemetry", module + "/agent/llm", "spans and metrics are a reading of what is told"},
	{"agent/session", module + "/agent/llm", "a conversation does not know models"},
	{"agent/session", module + "/agent/investigate", "whoever investigates is given as a function"},
	{"agent/pattern", ".", "expressions import the standard library only"},
	{"agent/tool/metric", ".", "the types of time series import the standard library only"},
	{"agent/llm/openaichat", "github.com/tmc/langchaingo", "one SDK each"},
	{"agent/llm/langchain", "github.com/sashabaranov/go-openai", "one SDK each"},
	{"toolsets/prom", "k8s.io/client-go", "metrics are read from any server; the wiring finds it in a cluster"},
	{"evals/bundle", "github.com/prometheus/prometheus/discovery", "the engine alone is small; service discovery links the clients of every cloud"},
	{"evals/bundle", "github.com/aws", "the engine alone is small; service discovery links the clients of every cloud"},
	{"toolsets/cilium", "github.com/cilium/cilium/pkg", "the API alone is small; the rest of Cilium is not"},
	{"evals/bundle", "github.com/cilium/cilium/pkg", "the API alone is small; the rest of Cilium is not"},
	{"toolsets/nodepool/gke", "github.com/Azure/azure-sdk-for-go", "one SDK each"},
	{"evals/bundle/cloud", "github.com/Azure/azure-sdk-for-go", "a recording is data that any SDK may read"},
	{"toolsets/gpu", "github.com/NVIDIA/go-nvml", "the agent stays free of cgo; gumshoe-nvml is a program of its own"},
	{"toolsets/custom", "k8s.io", "an endpoint is no cluster"},
	{"toolsets/mcp", "k8s.io", "a server is no cluster"},
	{"toolsets", module + "/integrations", "imports only go down the floors"},
	{"toolsets", module + "/evals", "toolsets cannot tell a bundle from a cluster"},
	{"toolsets", module + "/agent/llm", "a toolset does not know the model"},
	{"toolsets", module + "/agent/investigate", "toolsets import agent/{tool,incident,graph} only"},
	{"planner!", "k8s.io", "the engine sees backends and checks; only actions know a cluster client"},
	{"planner", module + "/agent/llm", "a plan is data that anyone may author; nothing that changes a cluster sees a model"},
	{"planner", module + "/agent/investigate", "planner imports agent/{incident,event,store} only"},
	{"planner", module + "/agent/triage", "planner imports agent/{incident,event,store} only"},
	{"planner", module + "/toolsets", "planner looks through what the wiring gives it"},
	{"planner", module + "/integrations", "imports only go down the floors"},
	{"planner", module + "/evals", "the floors do not reach each other"},
	{"planner/policy", module + "/planner/approval", "rooms of one floor do not reach each other"},
	{"planner/policy", module + "/planner/actions", "rooms of one floor do not reach each other"},
	{"planner/policy", "k8s.io/client-go", "a policy judges data"},
	{"planner/approval", module + "/planner/policy", "rooms of one floor do not reach each other"},
	{"planner/approval", module + "/planner/actions", "rooms of one floor do not reach each other"},
	{"planner/approval", "k8s.io", "an approval is data that is signed"},
	{"planner/audit", module + "/planner/approval", "rooms of one floor do not reach each other"},
	{"planner/audit", "k8s.io", "a trail is data that is signed"},
	{"toolsets", module + "/planner", "toolsets never write"},
	{"agent", module + "/planner", "an investigation knows no way to change anything"},
	{"evals/bundle", module + "/toolsets", "a bundle is data behind real protocols"},
	{"evals", module + "/integrations", "imports only go down the floors"},
	{"evals", module + "/toolsets", "the runner is given an investigator as a function"},
	{"evals", module + "/planner", "the runner is given a way to mend as a function"},
	{"integrations/api", "k8s.io", "the API works through the service"},
	{"integrations/api", module + "/toolsets", "the API works through the service"},
	{"integrations/api", module + "/planner/actions", "the API works through the service"},
	{"integrations/api", module + "/planner/policy", "the API works through the service"},
	{"integrations/api", module + "/integrations/app", "rooms of one floor do not reach each other; app is above"},
	{"integrations/api", "github.com/getkin/kin-openapi", "the document is checked by tests alone"},
	{"integrations/api/client", module + "/integrations/access", "a client is no server"},
	{"integrations/slack", module + "/toolsets", "a surface works through the service"},
	{"integrations/slack", module + "/planner/actions", "a surface works through the service"},
	{"integrations/slack", module + "/integrations/app", "a surface works through the service"},
	{"integrations/slack", module + "/evals", "imports only go down the floors"},
	{"integrations/slack", "k8s.io", "a surface works through the service"},
	{"integrations/render", "github.com/slack-go", "render is pure; what a chat makes of a text is the chat's"},
	{"integrations/render", "k8s.io", "render is pure"},
	{"integrations/render", module + "/toolsets", "render knows incident types only"},
	{"integrations/mcpserver", module + "/toolsets", "a surface is given tools, it knows none"},
	{"integrations/mcpserver", module + "/planner/actions", "nothing that an MCP client reaches can write"},
	{"integrations/mcpserver", module + "/planner/approval", "nothing that an MCP client reaches can approve"},
	{"integrations/mcpserver", module + "/integrations/app", "imports only go down the floors"},
	{"integrations/mcpserver", "k8s.io", "a surface knows no cluster client"},
	{"integrations/web", module + "/toolsets", "a surface works through the service"},
	{"integrations/web", module + "/planner/actions", "a surface works through the service"},
	{"integrations/web", module + "/planner/approval", "a page carries words to the service, it signs none"},
	{"integrations/web", module + "/integrations/app", "a surface works through the service"},
	{"integrations/web", module + "/evals", "imports only go down the floors"},
	{"integrations/web", "k8s.io", "a surface works through the service"},
	{"integrations/access", "k8s.io", "who may enter is data; the wiring asks the cluster about tokens"},
	{"integrations/access", module + "/toolsets", "access imports agent/{incident,tool} only"},
	{"integrations/access", module + "/planner", "a role opens a door; approvals are the planner's"},
	{"integrations/access", module + "/agent/store", "access imports agent/{incident,tool} only"},
	{"integrations/access", module + "/integrations/render", "rooms of one floor do not reach each other"},
	{"integrations/alertmanager", "k8s.io", "an alert names things; the service looks at them"},
	{"integrations/alertmanager", "github.com/prometheus", "a webhook is a document; the client of a few calls is its own"},
	{"integrations/alertmanager", module + "/toolsets", "a surface works through the service only"},
	{"integrations/alertmanager", module + "/planner", "an alert asks; it plans and changes nothing"},
	{"integrations/alertmanager", module + "/integrations/app", "imports only go down the floors"},
	{"integrations/alertmanager", module + "/integrations/render", "rooms of one floor do not reach each other"},
}

// TestImportTable holds the house against its plan. Test files may reach
// further: a test of triage may load real toolsets.
func TestImportTable(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}|{{.Standard}}|{{range .Deps}}{{.}} {{end}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	std := standardPackages(t)
	deps := map[string][]string{}
	sc := bufio.NewScanner(strings.NewReader(string(out)))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		parts := strings.SplitN(sc.Text(), "|", 3)
		deps[strings.TrimPrefix(parts[0], module+"/")] = strings.Fields(parts[2])
	}
	for pkg, ds := range deps {
		for _, d := range ds {
			if mine, other := room(pkg), room(strings.TrimPrefix(d, module+"/")); mine != "" && other != "" && mine != other {
				t.Errorf("%s depends on %s: never another toolset", pkg, d)
			}
		}
	}
	for _, rule := range forbidden {
		seen := false
		name, alone := strings.CutSuffix(rule.pkg, "!")
		for pkg, ds := range deps {
			if pkg != name && (alone || !strings.HasPrefix(pkg, name+"/")) {
				continue
			}
			seen = true
			for _, d := range ds {
				if rule.on == "." && std[d] {
					continue
				}
				if rule.on == "." || d == rule.on || strings.HasPrefix(d, rule.on+"/") || (rule.on == "k8s.io" && strings.HasPrefix(d, "k8s.io/")) {
					if strings.HasPrefix(d, module+"/"+name) {
						continue
					}
					t.Errorf("%s depends on %s: %s", pkg, d, rule.why)
				}
			}
		}
		if !seen {
			t.Errorf("the import table names %s, which is gone", rule.pkg)
		}
	}
}

// room gives the toolset that a package of toolsets/ belongs to.
func room(pkg string) string {
	rest, ok := strings.CutPrefix(pkg, "toolsets/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func standardPackages(t *testing.T) map[string]bool {
	t.Helper()
	out, err := exec.Command("go", "list", "std").Output()
	if err != nil {
		t.Fatalf("go list std: %v", err)
	}
	std := map[string]bool{"unsafe": true}
	for p := range strings.FieldsSeq(string(out)) {
		std[p] = true
	}
	return std
}

// longest is how many lines a Go file may have; past 500 it wants to be two ideas.
const longest = 800

// TestFilesAreSmall fails on a file that has grown past the limit, on leftover
// marks of unfinished work, and on init functions.
func TestFilesAreSmall(t *testing.T) {
	t.Parallel()
	marks := []string{"TO" + "DO", "FIX" + "ME", "not implemen" + "ted yet"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(raw)
		if n := strings.Count(text, "\n"); n > longest {
			t.Errorf("%s has %d lines, more than %d", path, n, longest)
		}
		for _, m := range marks {
			if strings.Contains(text, m) {
				t.Errorf("%s says %q", path, m)
			}
		}
		if strings.Contains(text, "\nfunc init()") {
			t.Errorf("%s has an init function", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
