package mcpserver_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func entry(typ string, data []byte) func(session.Session) ([]store.Entry, error) {
	return func(session.Session) ([]store.Entry, error) { return []store.Entry{{Type: typ, Data: data}}, nil }
}

const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"old","version":"1"}}}`

// Lines that are no messages are answered, and the conversation goes on.
func TestMalformedLines(t *testing.T) {
	t.Parallel()
	s := newServer(t, newBench(t, nil), mcpserver.Config{MaxRequest: 8 << 10})
	in, out := pipes(t, s)
	answers := bufio.NewReader(out)
	ask := func(line string) map[string]any {
		t.Helper()
		go func() { _, _ = io.WriteString(in, line+"\n") }()
		raw, err := answers.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		return m
	}
	if m := ask(hello); m["result"] == nil {
		t.Fatalf("%v", m)
	}
	go func() { _, _ = io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n\n  \n") }()
	for line, code := range map[string]float64{
		`{"jsonrpc":"2.0","id":2,`: -32700,
		"\x00\xff\xfe":             -32700,
		`"hello"`:                  -32600,
		`[]`:                       -32600,
		`[{"jsonrpc":"2.0","id":3,"method":"ping"}]`:                                                -32600,
		`{"id":4,"method":"tools/list"}`:                                                            -32600,
		`{"jsonrpc":"1.0","id":5,"method":"tools/list"}`:                                            -32600,
		`{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}`:                                      -32600,
		`{"jsonrpc":"2.0","id":6,"method":"` + strings.Repeat("x", 9<<10) + `"}`:                    -32600,
		`{"jsonrpc":"2.0","id":7,"method":"nobody/knows"}`:                                          -32601,
		`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"plan_approve"}}`:           -32602,
		`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":7}`:                                 -32602,
		`{"jsonrpc":"2.0","id":10,"method":"resources/read","params":{"uri":"file:///etc/passwd"}}`: -32602,
	} {
		m := ask(line)
		e, _ := m["error"].(map[string]any)
		if e == nil || e["code"] != code || e["message"] == "" {
			t.Errorf("%.80s: %v, want code %v", line, m, code)
		}
	}
	m := ask(`{"jsonrpc":"2.0","id":"last","method":"tools/call","params":{"name":"kube_pod","arguments":{"pod":"a"}}}`)
	if m["id"] != "last" || m["result"] == nil {
		t.Errorf("after all that: %v", m)
	}
}

// Arguments are checked before anything is asked, and refusals are short.
func TestBadArguments(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	cs := overStdio(t, newServer(t, b, mcpserver.Config{}), nil)
	for _, tc := range []struct {
		name string
		args any
		want string
	}{
		{"investigate", map[string]any{}, "question"},
		{"investigate", map[string]any{"question": "  "}, "the question is empty"},
		{"investigate", map[string]any{"question": strings.Repeat("x", 20<<10)}, "more than 16384"},
		{"investigate", map[string]any{"question": 7}, "question"},
		{"investigate", map[string]any{"question": "x", "model": "y"}, "model"},
		{"investigate", map[string]any{"question": "x", "wait": "no"}, "wait"},
		{"follow_up", map[string]any{"session": "", "question": "x"}, "session is empty"},
		{"follow_up", map[string]any{"session": "s-nobody", "question": "x"}, `no session "s-nobody"`},
		{"follow_up", map[string]any{"session": "../x", "question": "x"}, "no session"},
		{"investigation_get", map[string]any{"id": "run-nobody"}, "not in the journal"},
		{"investigation_get", map[string]any{"id": "latest"}, "no session"},
		{"investigations_list", map[string]any{"limit": 51}, "between 1 and 50"},
		{"plan_propose", map[string]any{"run": ""}, "run is empty"},
		{"plan_propose", map[string]any{"run": "run-nobody"}, "not in the journal"},
		{"plan_propose", map[string]any{"run": "x", "reason": strings.Repeat("x", 3000)}, "more than 2000"},
		{"plan_get", map[string]any{"id": "plan-9"}, "not in the journal"},
		{"plans_list", map[string]any{"limit": -1}, "between 1 and 50"},
		{"kube_pod", map[string]any{"pod": []string{"a"}}, "pod"},
	} {
		text, _, failed := call(t, cs, tc.name, tc.args)
		if !failed || !strings.Contains(text, tc.want) || len(text) > 5<<10 {
			t.Errorf("%s %.60v: failed %v, %q does not name %q", tc.name, tc.args, failed, text, tc.want)
		}
	}
}

// The HTTP transport refuses what is no request of a client of this machine, and what
// is too large; other methods are told what is served.
func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, newBench(t, nil), mcpserver.Config{MaxRequest: 8 << 10})
	srv := web(t, s, access.Identity{Role: access.Asker})
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for name, tc := range map[string]struct {
		method, body string
		change       func(*http.Request)
		want         int
	}{
		"good":            {"POST", list, nil, 200},
		"an old client":   {"POST", hello, nil, 200},
		"an old call":     {"POST", `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"kube_pod","arguments":{"pod":"a"}}}`, func(r *http.Request) { r.Header.Set("Mcp-Protocol-Version", "2025-06-18") }, 200},
		"rebound name":    {"POST", list, func(r *http.Request) { r.Host = "evil.example.com" }, 403},
		"another origin":  {"POST", list, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, 403},
		"cross site":      {"POST", list, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"a form":          {"POST", list, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		"too large":       {"POST", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 9<<10) + `"}`, nil, 413},
		"no JSON":         {"POST", `{"jsonrpc":`, nil, 400},
		"no JSON-RPC":     {"POST", `{"a":1}`, nil, 400},
		"an empty batch":  {"POST", `[]`, nil, 400},
		"a stream":        {"GET", "", nil, 405},
		"a session's end": {"DELETE", "", nil, 405},
		"another method":  {"PUT", list, nil, 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, srv.URL+mcpserver.Path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if tc.change != nil {
			tc.change(req)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s: %s, want %d: %.200s", name, res.Status, tc.want, body)
		}
		if res.Header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%s: a session is given", name)
		}
	}
	for _, r := range s.Routes() {
		if r.Role != access.Viewer || r.Public || !r.Stream || r.MaxBody != 8<<10 {
			t.Errorf("route %+v", r)
		}
	}
}

// Whatever comes in: each line that is no message has one answer, and what is passed
// on are whole messages within the bound.
func FuzzLines(f *testing.F) {
	for _, s := range []string{hello, "{}\n[]\n", "\n\n", "\xff", `{"jsonrpc":"2.0","id":1,"method":"x"}` + "\r\n{", strings.Repeat("[", 500), `{"jsonrpc":"2.0","id":null,"method":"a"}`, `{"id":[1]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 4 << 10
		var passed, answered bytes.Buffer
		if err := mcpserver.Sieve(bytes.NewReader(data), &passed, &answered, most, mcpserver.NewPending()); !errors.Is(err, io.EOF) {
			t.Fatalf("%v", err)
		}
		lines := 0
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 || len(line) > most {
				lines++
			}
		}
		count := func(b *bytes.Buffer) int {
			n := 0
			for line := range bytes.SplitSeq(b.Bytes(), []byte("\n")) {
				if len(line) == 0 {
					continue
				}
				n++
				if len(line) > most || !json.Valid(line) {
					t.Fatalf("%q", line)
				}
			}
			return n
		}
		if got := count(&passed) + count(&answered); got != lines {
			t.Fatalf("%d lines came to %d", lines, got)
		}
	})
}

// A URI names one run and one part of it, and comes back as it was made.
func FuzzURI(f *testing.F) {
	for _, s := range []string{"gumshoe://runs/run-1/report", "gumshoe://runs/run-1/evidence/E1", "gumshoe://runs//evidence/", "gumshoe://runs/%2e%2e/report", "gumshoe://runs/a%2fb/report", "file:///x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		run, rest, ok := mcpserver.ParseURI(uri)
		if !ok {
			return
		}
		if run == "" || strings.ContainsAny(run, "/?#") || len(rest) < 1 || len(rest) > 2 {
			t.Fatalf("%q: %q %q", uri, run, rest)
		}
		again := mcpserver.ReportURI(run)
		if len(rest) == 2 {
			again = mcpserver.EvidenceURI(run, rest[1])
		}
		if len(again) > 500 {
			return // escaped it is longer than what is taken
		}
		run2, rest2, ok := mcpserver.ParseURI(again)
		if !ok || run2 != run || strings.Join(rest2, "/") != strings.Join(rest, "/") {
			t.Fatalf("%q becomes %q: %q %q", uri, again, run2, rest2)
		}
	})
}
