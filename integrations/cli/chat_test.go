package cli_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

// What a chat was about is recorded, and the recording is investigated and looked into
// by the other commands.
func TestChatExportsBundle(t *testing.T) {
	t.Parallel()
	env := map[string]string{"XDG_STATE_HOME": t.TempDir()}
	file := filepath.Join(t.TempDir(), "shop.tar.zst")
	var said, errs bytes.Buffer
	typed := strings.NewReader("why does service shop/web not answer\n/export bundle " + file + "\n")
	code := cli.Run(t.Context(), []string{"chat", "--demo", "k8s-service-selector", "--plain"}, cli.Streams{In: typed, Out: &said, Err: &errs, Getenv: func(k string) string { return env[k] }, Width: 100})
	if code != 0 || !strings.Contains(said.String(), "recorded to") {
		t.Fatalf("chat: %d\n%s\n%s", code, said.String(), errs.String())
	}
	if code, out, errs := run(t, env, "bundle", "inspect", file); code != 0 || !strings.Contains(out, "shop") {
		t.Errorf("inspect: %d\n%s\n%s", code, out, errs)
	}
	if code, out, errs := run(t, env, "investigate", "why does service shop/web not answer", "--bundle", file); code != 0 || !strings.Contains(out, "The selector of Service shop/web matches no pod") {
		t.Errorf("investigate: %d\n%s\n%s", code, out, errs)
	}
}
