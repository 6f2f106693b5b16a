package mcpserver_test

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
)

// The end of the input ends nothing that was asked before it: an investigation that runs
// is answered, what the client took back is not waited for, and then the server ends.
func TestEndOfInputWaitsForAnswers(t *testing.T) {
	t.Parallel()
	const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
`
	const ask = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"investigate","arguments":{"question":"why is llama-0 pending"}}}
`
	for name, tc := range map[string]struct {
		in       string
		released bool
		want     string
	}{
		"answered":      {hello + ask, true, `"id":2`},
		"taken back":    {hello + ask + `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}` + "\n", false, `"id":1`},
		"no answer due": {hello, false, `"id":1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			b := newBench(t, func(b *bench) { b.gate = gate })
			in, out := pipes(t, newServer(t, b, mcpserver.Config{}))
			go func() {
				_, _ = io.WriteString(in, tc.in)
				_ = in.Close()
				if tc.released {
					<-b.asked // the question is taken: only now may it be answered
					close(gate)
				}
			}()
			var got strings.Builder
			for sc := bufio.NewScanner(out); sc.Scan(); {
				got.WriteString(sc.Text() + "\n")
			}
			if !strings.Contains(got.String(), tc.want) {
				t.Errorf("no %s in\n%s", tc.want, got.String())
			}
		})
	}
}
