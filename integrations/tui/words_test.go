package tui_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

// What a model says is seen while it says it: each piece as soon as its words are whole,
// drawn as Markdown, the newest in sight however long it grows, with nothing of it left
// above the answer afterwards.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {200, 60}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			words := make(chan string)
			srv := llmtest.NewServer(t, llmtest.Do(func(x *llmtest.Exchange) {
				x.Open()
				for more := true; more; {
					var text string
					select {
					case text, more = <-words:
						x.Event(llmtest.TextChunk(text))
					case <-x.Done:
						return
					}
				}
				x.Reply(llmtest.Answer{Calls: []llm.Call{llmtest.Call("conclude", `{"outcome":"inconclusive","summary":"It is as triage says."}`)}})
			}), llmtest.Forever(llmtest.Ask(llmtest.Call("conclude", `{"outcome":"inconclusive","summary":"It is as triage says."}`))))
			key := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(key, []byte("key"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := apptest.Stage(t, "k8s-service-selector", func(c *app.Config, _ *app.ServiceConfig) {
				c.Model.Name, c.Model.BaseURL, c.Model.APIKeyFile = "openai/scripted", srv.URL, key
			}).Work(t)
			v := open(t, size[0], size[1], tui.Config{Service: s, Namespace: "shop", Question: "why does service web not answer"})
			v.wait("openai/scripted thinks")
			lines := func() []string { return strings.Split(v.screen(), "\n") }
			say := func(text string) {
				select {
				case words <- text:
				case <-t.Context().Done():
				}
			}
			say("## What I see\n\nThe selector wants ")
			v.wait("What I see")
			v.wait("The selector wants")
			if s := v.screen(); strings.Contains(s, "## What") || !strings.Contains(s, "thinks") {
				t.Errorf("the words are not drawn as Markdown, or what is at work is not said:\n%s", s)
			}
			say("**app: website** and the pods")
			v.wait("The selector wants app: website and the")
			if strings.Contains(v.screen(), "the pods") {
				t.Error("a word is shown that may go on")
			}
			say(" carry app: web.\n\n")
			v.wait("carry app: web.")
			for i := range 80 { // more than any window holds
				say(fmt.Sprintf("- step %d of the way\n", i))
			}
			say("\nAnd so ")
			v.until("shows the newest words", func(string) bool { return strings.Contains(v.screen(), "And so") })
			got := lines()
			if len(got) > size[1] || !strings.Contains(v.screen(), "step 79") || strings.Contains(v.screen(), "step 3 of") || !strings.Contains(v.screen(), "observe") {
				t.Errorf("%d rows:\n%s", len(got), v.screen())
			}
			for _, l := range got {
				if ansi.StringWidth(l) >= size[0] {
					t.Errorf("a line reaches the last column: %q", l)
				}
			}
			close(words)
			all := v.answered()
			if n := strings.Count(all, "step 79 of the way"); n > 1 {
				t.Errorf("the words stand %d times in the scrollback:\n%s", n, all)
			}
			if !strings.Contains(all, "The selector of Service shop/web matches no pod") || strings.Contains(v.screen(), "thinks") {
				t.Errorf("at the end:\n%s", all)
			}
			v.press(ctrlC)
			v.end()
		})
	}
}
