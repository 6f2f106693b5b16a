package serving

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// A model is found by the name it is served as, by its pool or Service; a plain
// word is none.
func TestResolveModels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginePod("a", "app: a", `"--model", "acme/chat-8b", "--served-model-name", "support-bot-v2"`), enginePod("b", "app: a", `"--model", "acme/chat-8b", "--served-model-name", "support-bot-v2"`),
		"apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: llm}\nspec: {selector: {app: a}}",
		"apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {name: phi-4, namespace: llm}")
	for m, want := range map[tool.Mention]string{
		{Name: "support-bot-v2"}:                   "Service llm/s",
		{Name: "acme/chat-8b"}:                     "Service llm/s",
		{Name: "support-bot-v2", Namespace: "web"}: "",
		{Name: "support"}:                          "",
		{Name: "support-bot-v2", Kind: "Pod"}:      "",
		{Name: "phi-4"}:                            "Workspace llm/phi-4",
		{Name: "phi-4", Namespace: "llm"}:          "Workspace llm/phi-4",
		{Name: "phi-4", Kind: "InferenceSet"}:      "",
	} {
		res, err := w.toolset(t).Resolve(t.Context(), m)
		got := ""
		for _, r := range res.Exact {
			got += r.String()
		}
		if err != nil || got != want {
			t.Errorf("%+v: %q %v, want %q", m, got, err, want)
		}
	}
}
