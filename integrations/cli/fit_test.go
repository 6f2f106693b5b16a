package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

const llamaConfig = `{"model_type":"llama","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,"vocab_size":128256,"max_position_embeddings":131072,"torch_dtype":"bfloat16"}`

// file writes a file of a test and gives its path.
func fitFile(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFit(t *testing.T) {
	t.Parallel()
	config := fitFile(t, "config.json", llamaConfig)
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "model.safetensors.index.json"), []byte(`{"metadata":{"total_size":34359738368}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	prices := fitFile(t, "prices.yaml", "- provider: lab\n  source: contract 7\n  date: 2026-11-01\n  skus: [{sku: box, gpu: H100, count: 1, usd: 0.10}]\n")
	bundle := "../../evals/cases/fit-fewer-gpus-than-split/bundle"
	tests := []struct {
		name string
		args []string
		say  []string
		not  []string
	}{
		{"a verdict with its terms", []string{"Qwen/Qwen3-32B", "--gpu", "H100", "--context", "16384"}, []string{"Verdict   ", "margin", "Memory    of 79.65 GiB", "KV cache  ", "Largest   context", "Clouds    ", "2026-07-27", "a million tokens: not known"}, []string{"Cluster  "}},
		{"every type without one", []string{"llama-3.1-8b"}, []string{"GPU type", "H100", "8192 tokens (assumed"}, []string{"Verdict"}},
		{"no comes with a way out", []string{"llama-3.1-8b", "--gpu", "L4", "--count", "1", "--context", "131072"}, []string{"Verdict   no", "Would do", "--max-model-len"}, nil},
		{"the engine's own words", []string{"gpt-oss-120b", "--gpu", "H100", "--engine-args", "vllm serve openai/gpt-oss-120b --gpu-memory-utilization 0.95 --max-model-len 16384"}, []string{"Verdict   fits", "memory fraction 0.95"}, nil},
		{"its config.json and the size beside it", []string{"mine", "--config", config, "--gpu", "A100-80GB"}, []string{"mine: 8.03 billion parameters", "the given config.json", "32.00 GiB in all"}, nil},
		{"a price file wins", []string{"llama-3.1-8b", "--prices", prices, "--tokens-per-second", "1000"}, []string{"lab box", "0.10 USD an hour", "0.03 USD a million tokens", "[contract 7, 2026-11-01]"}, nil},
		{"the free GPUs of a cluster", []string{"qwen3-32b", "--bundle", bundle, "--gpu", "H100"}, []string{"Cluster   node gpu-h100-1: 1 of 8 NVIDIA-H100-80GB-HBM3", "6.88 for the GPUs used"}, nil},
		{"shape", []string{"phi-4", "--gpu", "L4", "--count", "4"}, []string{"Verdict   no: 10 key-value heads", "--tensor-parallel-size 2"}, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := run(t, nil, append([]string{"fit"}, tc.args...)...)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, errs)
			}
			for _, s := range tc.say {
				if !strings.Contains(out, s) {
					t.Errorf("%q is not said:\n%s", s, out)
				}
			}
			for _, s := range tc.not {
				if strings.Contains(out, s) {
					t.Errorf("%q is said:\n%s", s, out)
				}
			}
			if strings.Contains(out, "\x1b[") {
				t.Error("styles without a terminal")
			}
		})
	}
}

func TestFitJSON(t *testing.T) {
	t.Parallel()
	code, out, errs := run(t, nil, "fit", "gpt-oss-120b", "--gpu", "H100", "--count", "1", "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var a app.FitAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	if a.Result == nil || a.Result.Verdict != "tight" || len(a.Remedies) == 0 || len(a.Placement.Clouds.Candidates) == 0 {
		t.Errorf("%+v", a)
	}
	for _, key := range []string{`"verdict"`, `"margin"`, `"per_gpu"`, `"capacity"`, `"remedies"`, `"placement"`, `"price_date"`} {
		if !strings.Contains(out, key) {
			t.Errorf("no %s in the answer", key)
		}
	}
}

func TestFitFetch(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 8)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		if r.URL.Path != "/org/m/resolve/main/config.json" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(llamaConfig))
	}))
	t.Cleanup(hub.Close)
	env := map[string]string{"HF_ENDPOINT": hub.URL, "HF_TOKEN": "token-value"}
	code, out, errs := run(t, env, "fit", "org/m", "--fetch", "--gpu", "H100")
	if code != 0 || !strings.Contains(out, "org/m: 8.03 billion parameters") || strings.Contains(out+errs, "token-value") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if got := <-asked; got != "Bearer token-value" {
		t.Errorf("the token is not sent: %q", got)
	}
	if code, _, errs := run(t, env, "fit", "org/gone", "--fetch"); code != 3 || !strings.Contains(errs, "org/gone") {
		t.Errorf("exit %d: %s", code, errs)
	}
	// Without the flag nobody is asked.
	for len(asked) > 0 {
		<-asked
	}
	if code, _, _ := run(t, env, "fit", "org/m"); code != 3 || len(asked) != 0 {
		t.Errorf("exit %d, %d requests", code, len(asked))
	}
}

func TestFitBadInput(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"no model", nil, 2, "MODEL"},
		{"two models", []string{"a", "b"}, 2, "MODEL"},
		{"unknown output", []string{"qwen3-32b", "-o", "xml"}, 2, "xml"},
		{"unknown model", []string{"qwen3-33b"}, 3, "Qwen/Qwen3-32B"},
		{"unknown GPU", []string{"qwen3-32b", "--gpu", "H101"}, 2, "near: H100"},
		{"zero GPUs", []string{"qwen3-32b", "--count", "0"}, 2, "--count 0"},
		{"negative context", []string{"qwen3-32b", "--context", "-5"}, 2, "--context -5"},
		{"context in words", []string{"qwen3-32b", "--context", "long"}, 2, "long"},
		{"engine arguments", []string{"qwen3-32b", "--engine-args", "--tensor-parallel-size two"}, 2, "two"},
		{"unknown engine", []string{"qwen3-32b", "--engine", "ollama"}, 2, "ollama"},
		{"missing file", []string{"x", "--config", filepath.Join(t.TempDir(), "none.json")}, 2, "none.json"},
		{"a directory", []string{"x", "--config", t.TempDir()}, 2, "is a directory"},
		{"absurd configuration", []string{"x", "--config", fitFile(t, "config.json", `{"text_config":{"hidden_size":-4}}`)}, 2, "text_config.hidden_size is -4"},
		{"a string for a number", []string{"x", "--config", fitFile(t, "config.json", strings.Replace(llamaConfig, "4096", `"4096"`, 1))}, 2, `hidden_size is "4096"`},
		{"not JSON", []string{"x", "--config", fitFile(t, "config.json", "<html>")}, 2, "not valid JSON"},
		{"a huge file", []string{"x", "--config", fitFile(t, "config.json", strings.Repeat(" ", 5<<20))}, 2, "more than"},
		{"broken prices", []string{"qwen3-32b", "--prices", fitFile(t, "p.yaml", "- {provider: a, skus: [{sku: x, gpu: H100, count: 1, usd: -1}]}")}, 2, "usd -1"},
		{"both sources", []string{"x", "--config", "f", "--fetch"}, 2, "exclude each other"},
		{"no such hub", []string{"org/m", "--fetch"}, 2, "HF_ENDPOINT"},
		{"a cluster that is not there", []string{"qwen3-32b", "--kubeconfig", filepath.Join(t.TempDir(), "none")}, 7, "cannot be read"},
		{"a negative throughput", []string{"qwen3-32b", "--tokens-per-second", "-1"}, 2, "-1 tokens a second"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := run(t, map[string]string{"HF_ENDPOINT": "ftp://nowhere.invalid"}, append([]string{"fit"}, tc.args...)...)
			if code != tc.code || !strings.Contains(errs, tc.say) || strings.Contains(errs, "goroutine ") || out != "" {
				t.Errorf("exit %d, want %d; %q is not said:\n%s%s", code, tc.code, tc.say, out, errs)
			}
		})
	}
}
