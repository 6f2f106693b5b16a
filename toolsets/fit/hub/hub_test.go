package hub_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hub"
)

// serve is a hub with the files given by path; others are not there.
func serve(t *testing.T, files map[string]string) (*httptest.Server, *[]http.Header) {
	t.Helper()
	var seen []http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Clone())
		switch text, ok := files[r.URL.Path]; {
		case !ok:
			http.Error(w, "Entry not found", http.StatusNotFound)
		case strings.HasPrefix(text, "status "):
			w.WriteHeader(map[string]int{"401": 401, "403": 403, "500": 500}[text[7:]])
		case strings.HasPrefix(text, "to "):
			http.Redirect(w, r, text[3:], http.StatusTemporaryRedirect)
		case text == "cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(s.Close)
	return s, &seen
}

func TestFetch(t *testing.T) {
	t.Parallel()
	other, otherSeen := serve(t, map[string]string{"/blob": `{"hidden_size":3}`})
	s, seen := serve(t, map[string]string{
		"/org/m/resolve/main/config.json":                  `{"hidden_size":1}`,
		"/org/m/resolve/main/model.safetensors.index.json": `{"metadata":{"total_size":123456},"weight_map":{}}`,
		"/org/mistral/resolve/main/params.json":            `{"dim":1}`,
		"/org/gated/resolve/main/config.json":              "status 401",
		"/org/secret/resolve/main/config.json":             "status 403",
		"/org/sick/resolve/main/config.json":               "status 500",
		"/org/html/resolve/main/config.json":               "<html>",
		"/org/cut/resolve/main/config.json":                "cut",
		"/org/big/resolve/main/config.json":                `"` + strings.Repeat("a", 9<<20) + `"`,
		"/org/moved/resolve/main/config.json":              "to " + strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/blob",
	})
	c, err := hub.New(hub.Config{Endpoint: s.URL, Token: "token-value"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Fetch(t.Context(), "org/m")
	if err != nil || string(f.Config) != `{"hidden_size":1}` || f.Weights != 123456 || !strings.HasSuffix(f.Source, "/org/m/resolve/main/config.json") {
		t.Errorf("%+v %v", f, err)
	}
	if got := (*seen)[0].Get("Authorization"); got != "Bearer token-value" {
		t.Errorf("the token is not sent: %q", got)
	}
	if f, err := c.Fetch(t.Context(), "org/mistral"); err != nil || string(f.Config) != `{"dim":1}` || f.Weights != 0 {
		t.Errorf("%+v %v", f, err)
	}
	for id, want := range map[string]struct {
		kind tool.Kind
		say  string
	}{
		"org/none": {tool.NotFound, "org/none"}, "org/gated": {tool.Forbidden, "HF_TOKEN"}, "org/secret": {tool.Forbidden, "gated"}, "org/sick": {tool.Unreachable, "500"},
		"org/html": {tool.Unreachable, "no JSON"}, "org/cut": {tool.Unreachable, "broke off"}, "org/big": {tool.Invalid, "more than"},
		"plain": {tool.Invalid, "OWNER/NAME"}, "../x": {tool.Invalid, "OWNER/NAME"}, "a/b/c": {tool.Invalid, "OWNER/NAME"}, "a/..": {tool.Invalid, "OWNER/NAME"}, "http://x/y": {tool.Invalid, "OWNER/NAME"},
	} {
		_, err := c.Fetch(t.Context(), id)
		if tool.KindOf(err) != want.kind || !strings.Contains(tool.UserText(err), want.say) {
			t.Errorf("%s: %v (%s)", id, err, tool.KindOf(err))
		}
		if err != nil && strings.Contains(tool.UserText(err), "token-value") {
			t.Errorf("the token is shown: %v", err)
		}
	}
	if f, err := c.Fetch(t.Context(), "org/moved"); err != nil || string(f.Config) != `{"hidden_size":3}` {
		t.Errorf("%+v %v", f, err)
	}
	for _, h := range *otherSeen {
		if h.Get("Authorization") != "" {
			t.Error("the token is sent on to another host")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Fetch(ctx, "org/m"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	dead, err := hub.New(hub.Config{Endpoint: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Fetch(t.Context(), "org/m"); tool.KindOf(err) != tool.Unreachable || !strings.Contains(tool.UserText(err), "--config FILE") {
		t.Errorf("%v", err)
	}
	for _, e := range []string{"ftp://x", "://", "huggingface.co"} {
		if _, err := hub.New(hub.Config{Endpoint: e}); tool.KindOf(err) != tool.Invalid {
			t.Errorf("%s: %v", e, err)
		}
	}
}

func FuzzIndexSize(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":123456}}`))
	f.Add([]byte(`{"metadata":{"total_size":1e400}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n := hub.IndexSize(raw); n < 0 {
			t.Errorf("%d bytes", n)
		}
	})
}
