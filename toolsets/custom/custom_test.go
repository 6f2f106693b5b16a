package custom_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/custom"
)

// specs reads YAML strictly, as the configuration is read.
func specs(t testing.TB, text string) []custom.Spec {
	t.Helper()
	var out []custom.Spec
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func tools(t testing.TB, text string) *custom.Toolset {
	t.Helper()
	ts, err := custom.New(specs(t, text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ts.Close() })
	return ts
}

func call(t testing.TB, ts *custom.Toolset, args string) (map[string]any, string, error) {
	t.Helper()
	res, err := ts.Tools()[0].Call(t.Context(), json.RawMessage(args))
	var data map[string]any
	if err == nil {
		if err := json.Unmarshal(res.Data, &data); err != nil {
			t.Fatal(err)
		}
	}
	return data, res.Text, err
}

func TestCall(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("s3cr3t-value\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = fmt.Fprintf(w, `{"items":[{"name":"a","owner":"x"},{"name":"b","owner":%q}],"path":%q}`, r.Header.Get("Authorization"), r.URL.EscapedPath())
	}))
	t.Cleanup(srv.Close)
	ts := tools(t, `
- name: host_owner
  description: Who owns a host.
  url: `+srv.URL+`/api/hosts/{host}
  query: {limit: "{limit}", kind: gpu, free: "x{note}"}
  headers: {X-Team: sre}
  secretHeaders: {Authorization: {file: `+secret+`, prefix: "Bearer "}}
  parameters:
    host: {type: string, required: true, description: its name}
    limit: {type: integer, minimum: 1, maximum: 50}
    note: {type: string}
  output: {jsonPath: "$.items[*].owner"}
`)
	data, text, err := call(t, ts, `{"host":"gpu 1?&#%2f..","limit":5}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodGet || got.URL.EscapedPath() != "/api/hosts/gpu%201%3F&%23%252f.." || got.URL.RawQuery != "kind=gpu&limit=5" || got.Header.Get("X-Team") != "sre" || got.Header.Get("Authorization") != "Bearer s3cr3t-value" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	if diff := cmp.Diff([]any{"x", "Bearer (secret)"}, data["matches"]); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(text, "s3cr3t") || !strings.Contains(text, "2 matches") {
		t.Errorf("the secret came back: %s", text)
	}
	if diff := cmp.Diff([]string{"s3cr3t-value"}, ts.Secrets()); diff != "" {
		t.Error(diff)
	}
	info := ts.Tools()[0].Info()
	if info.Name != "custom_host_owner" || info.Effect != tool.Read || tool.Signature(info.Input) != "host (string), limit (integer, optional), note (string, optional)" {
		t.Errorf("%+v %s", info, tool.Signature(info.Input))
	}
	for args, want := range map[string]string{
		`{}`:                       "host",
		`{"host":"a","limit":0}`:   "limit",
		`{"host":"a","limit":"1"}`: "limit",
		`{"host":"a","limit":1.5}`: "limit",
		`{"host":"a","x":1}`:       "x",
		`{"host":"a/b"}`:           "part of a path",
		`{"host":".."}`:            "part of a path",
		`{"host":""}`:              "part of a path",
		`{"host":"a\\b"}`:          "part of a path",
		`{"host":"a\nb"}`:          "control characters",
		`{"host":"` + strings.Repeat("x", 300) + `"}`: "host",
		`{"host":"a"} {}`: "not valid JSON",
		`[]`:              "object",
	} {
		if _, _, err := call(t, ts, args); tool.KindOf(err) != tool.Invalid || !strings.Contains(tool.UserText(err), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

// Nothing is kept: the same question asks the server again.
func TestEveryCallIsMade(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"call":%d}`, calls.Add(1))
	}))
	t.Cleanup(srv.Close)
	ts := tools(t, "- {name: count, description: x, url: "+srv.URL+"}")
	for n := range 3 {
		if _, text, err := call(t, ts, `{}`); err != nil || !strings.Contains(text, fmt.Sprintf(`{"call":%d}`, n+1)) {
			t.Errorf("call %d: %q (%v)", n+1, text, err)
		}
	}
}

func TestReadOnlyPost(t *testing.T) {
	t.Parallel()
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body = r.Method + " " + string(raw)
		_, _ = w.Write([]byte(`[1,2]`))
	}))
	t.Cleanup(srv.Close)
	ts := tools(t, `
- name: search
  description: Searches tickets.
  url: `+srv.URL+`/search
  method: post
  readOnly: true
  body: {query: {text: "{q}", exact: "{exact}"}, size: "{size}", tags: ["{tag}", fixed, null]}
  parameters:
    q: {type: string, required: true, pattern: "[a-z\" ]+"}
    exact: {type: boolean}
    size: {type: integer}
    tag: {type: string, enum: [gpu, net]}
`)
	if _, _, err := call(t, ts, `{"q":"a\" or \"b","size":12345678901234567890}`); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`POST {"query":{"text":"a\" or \"b"},"size":12345678901234567890,"tags":["fixed",null]}`, body); diff != "" {
		t.Error(diff)
	}
	if _, _, err := call(t, ts, `{"q":"a","exact":true,"tag":"gpu"}`); err != nil || body != `POST {"query":{"exact":true,"text":"a"},"tags":["gpu","fixed",null]}` {
		t.Errorf("%s %v", body, err)
	}
	for _, args := range []string{`{"q":"UPPER"}`, `{"q":"a","tag":"x"}`} {
		if _, _, err := call(t, ts, args); tool.KindOf(err) != tool.Invalid {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestRedirectsStayWithinWhatIsAllowed(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	var key string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		key = r.Header.Get("X-Key")
		_, _ = w.Write([]byte(`"there"`))
	}))
	t.Cleanup(other.Close)
	to := map[string]string{"ok": "/api/end", "path": "/admin", "up": "/api/../admin", "host": other.URL + "/api/x", "meta": "http://169.254.169.254/api/latest", "user": "", "loop": "/api/r/loop", "scheme": "file:///etc/passwd"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/api/r/"); ok {
			w.Header().Set("Location", to[name])
			w.WriteHeader(http.StatusFound)
			return
		}
		if r.URL.Path != "/api/end" {
			t.Errorf("%s was reached", r.URL)
		}
		_, _ = w.Write([]byte(`"end"`))
	}))
	t.Cleanup(srv.Close)
	to["user"] = strings.Replace(srv.URL, "http://", "http://u:p@", 1) + "/api/end"
	def := "\n- name: x\n  description: d\n  url: " + srv.URL + "/api/r/{to}\n  allow: {paths: [/api/]%s}\n  secretHeaders: {X-Key: {file: " + secret + "}}\n  parameters: {to: {type: string, required: true}}\n"
	ts := tools(t, fmt.Sprintf(def, ""))
	if data, _, err := call(t, ts, `{"to":"ok"}`); err != nil || data["matches"].([]any)[0] != "end" {
		t.Errorf("%v %v", data, err)
	}
	for n, want := range map[string]string{"path": "path /admin is not allowed", "up": "path /admin is not allowed", "host": "is not allowed", "meta": "169.254.169.254 is not allowed", "user": "with a user", "loop": "redirects", "scheme": ""} {
		if _, _, err := call(t, ts, `{"to":"`+n+`"}`); err == nil || !strings.Contains(tool.UserText(err), want) {
			t.Errorf("%s: %v, want %s", n, err, want)
		}
	}
	if reached.Load() != 0 {
		t.Error("another host was reached")
	}
	// A host that is named is followed to, without the secret of the first.
	ts = tools(t, fmt.Sprintf(def, ", hosts: ["+strings.TrimPrefix(other.URL, "http://")+"]"))
	if _, _, err := call(t, ts, `{"to":"host"}`); err != nil || reached.Load() != 1 || key != "" {
		t.Errorf("%v, reached %d, key %q", err, reached.Load(), key)
	}
}

// Whatever a name resolves to, loopback and metadata addresses are not dialled unless
// they are named.
func TestAddressesAreGuarded(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1")) }))
	t.Cleanup(srv.Close)
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	def := "\n- {name: x, description: d, url: \"http://localhost" + port + "/\"%s, timeout: 5s}\n"
	if _, _, err := call(t, tools(t, fmt.Sprintf(def, "")), `{}`); tool.KindOf(err) != tool.Forbidden || !strings.Contains(tool.UserText(err), "loopback") {
		t.Errorf("localhost: %v", err)
	}
	if _, _, err := call(t, tools(t, fmt.Sprintf(def, `, allow: {addresses: ["127.0.0.1", "::1"]}`)), `{}`); err != nil {
		t.Errorf("localhost that is named: %v", err)
	}
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		kind tool.Kind
		say  string
	}{
		"denied":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, tool.Forbidden, "HTTP 403: no"},
		"missing": {func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, tool.NotFound, "HTTP 404"},
		"page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>"))
		}, tool.Unreachable, "Bad Gateway"},
		"hangs":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, tool.TimedOut, "does not answer within 300ms"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, tool.Unreachable, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.h)
			t.Cleanup(srv.Close)
			_, _, err := call(t, tools(t, "\n- {name: x, description: d, url: "+srv.URL+"/, timeout: 300ms}\n"), `{}`)
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.say) {
				t.Errorf("%s: %v", tool.KindOf(err), err)
			}
		})
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	answer := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	t.Cleanup(srv.Close)
	ts := tools(t, "\n- {name: x, description: d, url: "+srv.URL+"/, output: {jsonPath: \"$[*]\", maxBytes: 100000}}\n")
	for name, tc := range map[string]struct {
		answer  string
		matches int
		cut     bool
	}{
		"flood of text":    {strings.Repeat("x", 1<<20), 0, true},
		"flood of matches": {"[" + strings.Repeat("1,", 40_000) + "1]", 200, true},
		"cut JSON":         {"[" + strings.Repeat(`"`+strings.Repeat("y", 1000)+`",`, 200) + "1]", 0, true},
		"no JSON":          {"plain", 0, false},
		"nothing":          {"", 0, false},
		"not an array":     {`"x"`, 0, false},
		"invalid UTF-8":    {"\xff\xfe", 0, false},
	} {
		answer = tc.answer
		data, text, err := call(t, ts, `{}`)
		if err != nil || len(data["matches"].([]any)) != tc.matches || data["truncated"] != tc.cut {
			t.Errorf("%s: %d matches, cut %v, %v", name, len(data["matches"].([]any)), data["truncated"], err)
		}
		if len(text) > 20<<10 || !strings.HasPrefix(text, "127.0.0.1") {
			t.Errorf("%s: %d bytes of text", name, len(text))
		}
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	t.Parallel()
	_, err := custom.New(specs(t, `
- {name: Bad Name, description: "", url: "ftp://x/"}
- name: a
  description: d
  url: https://h{x}/a
  method: DELETE
  body: {a: 1}
  timeout: soon
- name: a
  description: d
  url: "https://u:p@h/"
  method: POST
- name: b
  description: d
  url: https://h/a/{x}/{y
  query: {q: "{z}"}
  headers: {Authorization: abc, "X Y": "1", Host: x, X-Multi: "{x}"}
  secretHeaders: {X-Key: {file: /nowhere}, x-key: {}}
  parameters: {x: {type: string, pattern: "("}, y: {type: array}, unused: {type: integer, enum: [a]}, Big: {type: string, maxLength: 99999}}
  output: {jsonPath: "$[", maxBytes: 999999999}
  allow: {hosts: ["*"], paths: ["a", "/a/../b"], addresses: [localhost]}
- {name: c, description: d, url: "https://h/a?b=c"}
`))
	if err == nil {
		t.Fatal("all of it was taken")
	}
	for _, want := range []string{
		`tools[0].name`, `tools[0].description`, `tools[0].url`, `tools[1].url: the host`, `tools[1].method: "DELETE"`, `tools[1].body`, `tools[1].timeout`,
		`tools[2].name: "a" is tools[1]'s already`, `tools[2].url: it carries a user`, `tools[2].method: POST is allowed only with readOnly`,
		`tools[3].url: {x} must be required`, `tools[3].url: a brace`, `tools[3].query.q: {z} is no declared parameter`, `tools[3].headers: Authorization is a secret`, `tools[3].headers: "X Y"`, `header Host may not`, `X-Multi: a value`,
		`tools[3].secretHeaders: X-Key: file /nowhere`, `tools[3].secretHeaders: header X-Key is given twice`, `tools[3].secretHeaders: x-key: file is required`, `tools[3].parameters.x.pattern`, `tools[3].parameters.true: YAML reads y`, `tools[3].parameters.unused: pattern, enum`, `tools[3].parameters.unused: it is used neither`, `tools[3].parameters.Big`,
		`tools[3].output.jsonPath`, `tools[3].output.maxBytes`, `tools[3].allow.hosts[0]`, `tools[3].allow.paths[0]`, `tools[3].allow.paths[1]`, `tools[3].allow.addresses[0]`, `tools[4].url: the query string`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"- {name: x, comand: ls}", "- {name: x, allow: {host: [a]}}", "- {name: x, parameters: {a: {typ: string}}}"} {
		var out []custom.Spec
		if err := yaml.UnmarshalStrict([]byte(text), &out); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
	var none []custom.Spec
	ts, err := custom.New(none)
	if err != nil || len(ts.Tools()) != 0 || ts.Name() != "custom" || ts.Status(t.Context()).State != tool.Ready {
		t.Errorf("no tools: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("- {name: x, description: d, url: \"https://h/{a}\", parameters: {a: {type: string, required: true, pattern: \"[a-z]+\"}}, output: {jsonPath: \"$..a[?@.b > 1]\"}}")
	f.Add("- {name: x, description: d, url: \"http://[::1]:1/\", method: POST, readOnly: true, body: [\"{a}\"], parameters: {a: {type: number}}}")
	f.Fuzz(func(t *testing.T, text string) {
		var s []custom.Spec
		if len(text) > 4096 || yaml.UnmarshalStrict([]byte(text), &s) != nil {
			return
		}
		ts, err := custom.New(s)
		if err != nil {
			return
		}
		for _, one := range ts.Tools() {
			i := one.Info()
			if i.Effect != tool.Read && i.Effect != tool.Probe || !strings.HasPrefix(i.Name, "custom_") || len(i.Name) > 64 {
				t.Fatalf("%+v", i)
			}
		}
	})
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), "x")
	f.Add([]byte(`"\ud800"`), "\x00")
	body := []byte{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	f.Cleanup(srv.Close)
	ts := tools(f, "\n- {name: x, description: d, url: \""+srv.URL+"/a/{p}\", query: {q: \"{p}\"}, parameters: {p: {type: string, required: true}}, output: {jsonPath: \"$..*\"}, timeout: 5s}\n")
	f.Fuzz(func(t *testing.T, b []byte, p string) {
		body = b
		args, err := json.Marshal(map[string]string{"p": p})
		if err != nil {
			t.Fatal(err)
		}
		res, err := ts.Tools()[0].Call(t.Context(), args)
		if err == nil && (!json.Valid(res.Data) || len(res.Text) > 20<<10) {
			t.Fatalf("%d bytes of text", len(res.Text))
		}
	})
}

func TestTimeoutsAreShort(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{"60s": true, "61s": false, "0s": false, "-1s": false, "1ms": true} {
		_, err := custom.New([]custom.Spec{{Name: "x", Description: "d", URL: "https://h/", Timeout: text}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
