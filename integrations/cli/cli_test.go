package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

const demoBundle = "../../evals/cases/dra-selector-excludes-all/bundle"

// run executes a command line without a terminal and with its own environment.
func run(t *testing.T, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(context.Background(), args, cli.Streams{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(k string) string { return env[k] }})
	return code, o.String(), e.String()
}

func TestDemo(t *testing.T) {
	t.Parallel()
	code, out, errs := run(t, nil, "demo")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	at := 0
	for _, want := range []string{"Question", "pod train/llama-ft-0", "Cause", "asks for a device that no node has", "H200", "NVIDIA H100 80GB HBM3", "Chain", "-claims->", "Ruled out", "taints", "Not seen", "Prometheus", "Would fit", "Next", "claim_template_replace"} {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("%q does not come after what stands before it:\n%s", want, out)
		}
		at += i
	}
	if strings.Contains(out, "\x1b[") {
		t.Error("styles without a terminal")
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	code, out, errs := run(t, nil, "investigate", "why is pod train/llama-ft-0 pending", "--bundle", demoBundle, "--output", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var r incident.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Diagnosis.Outcome != incident.RootCause || len(r.Diagnosis.Causes) == 0 || r.Diagnosis.Causes[0].Code != "dra.selector_excludes_all" {
		t.Errorf("diagnosis %+v", r.Diagnosis)
	}
	ids := map[string]bool{}
	for _, e := range r.Evidence {
		ids[e.ID] = e.Error == ""
	}
	for _, c := range r.Diagnosis.Causes {
		for _, id := range c.Evidence {
			if !ids[id] {
				t.Errorf("cause cites %s, which is not there or an error", id)
			}
		}
	}
	for _, key := range []string{`"checked"`, `"not_seen"`, `"proposals"`, `"chain"`, `"usage"`, `"tool_calls"`} {
		if !strings.Contains(out, key) {
			t.Errorf("no %s in the report", key)
		}
	}
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	code, out, _ := run(t, nil, "investigate", "why is pod train/llama-ft-0 pending", "--bundle", demoBundle, "-o", "jsonl")
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	var last event.Event
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if e.Seq != uint64(i+1) {
			t.Fatalf("line %d has sequence %d", i+1, e.Seq)
		}
		last = e
	}
	if last.Type != event.RunEnded || last.Report == nil {
		t.Errorf("the stream ends with %s", last.Type)
	}
}

// Bad input gets a sentence and its exit code, never a stack trace.
func TestBadInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>login</html>"))
	}))
	t.Cleanup(html.Close)
	expired := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
	}))
	t.Cleanup(expired.Close)
	kubeconfig := func(name, server string) string {
		return write(name, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \""+server+"\"}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: old-token-value}}]\n")
	}
	write("broken/bundle.yaml", "formatVersion: 1\ncaptured: 2026-01-01T00:00:00Z\n")
	write("broken/objects/x.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a\n  b: [\n")
	q := "why is pod a/b pending"
	tests := []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"unknown command", []string{"investigat"}, 2, "unknown command"},
		{"unknown flag", []string{"investigate", "--colour"}, 2, "colour"},
		{"no question", []string{"investigate", "--bundle", demoBundle}, 2, "QUESTION"},
		{"unknown output", []string{"investigate", q, "--bundle", demoBundle, "-o", "xml"}, 2, "xml"},
		{"model without provider", []string{"investigate", q, "--bundle", demoBundle, "--model", "gpt"}, 2, "PROVIDER/NAME"},
		{"missing kubeconfig", []string{"investigate", q, "--kubeconfig", filepath.Join(dir, "none")}, 7, "cannot be read"},
		{"unknown context", []string{"investigate", q, "--kubeconfig", kubeconfig("k0", "https://127.0.0.1:1"), "--context", "nope"}, 7, "nope"},
		{"dead API server", []string{"investigate", q, "--kubeconfig", kubeconfig("k1", "http://127.0.0.1:1")}, 7, ""},
		{"HTML instead of an API", []string{"investigate", q, "--kubeconfig", kubeconfig("k2", html.URL)}, 7, ""},
		{"expired token", []string{"investigate", q, "--kubeconfig", kubeconfig("k3", expired.URL)}, 7, ""},
		{"no bundle", []string{"investigate", q, "--bundle", filepath.Join(dir, "none")}, 7, "cannot be read"},
		{"directory that is no bundle", []string{"investigate", q, "--bundle", dir}, 7, "bundle.yaml"},
		{"broken YAML", []string{"investigate", q, "--bundle", filepath.Join(dir, "broken")}, 7, "objects/x.yaml"},
		{"unknown pod", []string{"investigate", "why is pod train/llama-tf-0 pending", "--bundle", demoBundle}, 3, "does not exist"},
		{"unknown namespace", []string{"investigate", "-n", "ghost", "--bundle", demoBundle}, 3, "ghost"},
		{"no known words", []string{"investigate", "qwertz", "--bundle", demoBundle}, 3, ""},
		{"unknown tool", []string{"tools", "call", "kube_delete", "--bundle", demoBundle}, 2, "kube_delete"},
		{"tool arguments", []string{"tools", "call", "kube_pod", "--args", `{"namespace":1}`, "--bundle", demoBundle}, 2, "namespace"},
		{"no JSON", []string{"tools", "call", "kube_pod", "--args", `{`, "--bundle", demoBundle}, 2, "JSON"},
		{"unknown case", []string{"demo", "nope"}, 2, "nope"},
		{"filter", []string{"eval", "run", "--filter", "("}, 2, "filter"},
		{"unknown runbook", []string{"runbooks", "show", "nope"}, 2, "nope"},
		{"model answers HTML", []string{"investigate", q, "--bundle", demoBundle, "--model", "compatible/x"}, 5, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := run(t, map[string]string{"OPENAI_BASE_URL": html.URL, "OPENAI_API_KEY": "k"}, tc.args...)
			if tc.name == "model answers HTML" {
				code, out, errs = run(t, map[string]string{"OPENAI_BASE_URL": html.URL, "OPENAI_API_KEY": "k"}, "investigate", "why is pod train/llama-ft-0 pending", "--bundle", demoBundle, "--model", "compatible/x")
			}
			if code != tc.code {
				t.Errorf("exit %d, want %d\n%s%s", code, tc.code, out, errs)
			}
			if !strings.Contains(out+errs, tc.say) {
				t.Errorf("%q is not said:\n%s%s", tc.say, out, errs)
			}
			if strings.Contains(out+errs, "goroutine ") || strings.Contains(out+errs, "old-token-value") {
				t.Errorf("a stack trace or a token is shown:\n%s%s", out, errs)
			}
		})
	}
}
