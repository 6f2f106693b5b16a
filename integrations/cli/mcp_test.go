package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A here-document ends right after its requests: gumshoe mcp answers each of them, and
// only then ends, well.
func TestMCPAnswersAHereDocument(t *testing.T) {
	t.Parallel()
	bundle, err := filepath.Abs("../../evals/cases/k8s-service-selector/bundle")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `exec "$0" mcp --bundle "$1" <<'END'
{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"here","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":"two","method":"tools/list"}
{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"kube_get","arguments":{"kind":"Service"}}}
{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"investigate","arguments":{"question":"why is service web silent"}}}
END`, program(t), bundle)
	cmd.Env = append(os.Environ(), "GUMSHOE_STATE="+t.TempDir())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, said.String(), out.String())
	}
	answers := map[string]string{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Result json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(m.ID) > 0 {
			answers[string(m.ID)] += string(m.Result)
		}
	}
	for id, want := range map[string]string{"1": "serverInfo", `"two"`: "kube_get", "3": "content", "4": "selector"} {
		if !strings.Contains(answers[id], want) {
			t.Errorf("request %s: %.300q holds no %q\n%s", id, answers[id], want, said.String())
		}
	}
}
