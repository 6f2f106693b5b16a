package mcp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/mcp"
)

// httpServer serves the test's server over streamable HTTP to those who bring a token.
func httpServer(t *testing.T, token string, seen *atomic.Int64) string {
	t.Helper()
	h := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return testServer() }, nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != "" && r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seen.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func write(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStreamableHTTP(t *testing.T) {
	t.Parallel()
	var seen, tokens atomic.Int64
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, ok := r.BasicAuth()
		if !ok {
			id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
		}
		if r.Method != http.MethodPost || r.FormValue("grant_type") != "client_credentials" || id != "gumshoe" || secret != "s3cret" || r.FormValue("scope") != "read" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"s3cret is wrong"}`))
			return
		}
		tokens.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"tok","token_type":"Bearer","expires_in":3600}`))
	}))
	t.Cleanup(issuer.Close)
	url := httpServer(t, "tok", &seen)
	for name, tc := range map[string]struct{ auth, want string }{
		"bearer":        {"bearerTokenFile: " + write(t, "tok\n"), ""},
		"oauth":         {"oauth: {tokenURL: " + issuer.URL + ", clientID: gumshoe, clientSecretFile: " + write(t, "s3cret\n") + ", scopes: [read]}", ""},
		"no token":      {"", "Unauthorized"},
		"a wrong token": {"bearerTokenFile: " + write(t, "old"), "Unauthorized"},
		"wrong secret":  {"oauth: {tokenURL: " + issuer.URL + ", clientID: gumshoe, clientSecretFile: " + write(t, "no") + "}", "HTTP 401 invalid_client"},
	} {
		ts, err := mcp.New(mcp.Config{Wanted: true, Spec: spec(t, "name: web\nurl: "+url+"\nstartTimeout: 10s\ntools: "+listedTools+"\n"+tc.auth+"\n")})
		if err != nil {
			t.Fatal(err)
		}
		st := ts.Status(t.Context())
		if tc.want != "" {
			if st.State != tool.Broken || !strings.Contains(st.Reason, tc.want) || strings.Contains(st.Reason, "s3cret") {
				t.Errorf("%s: %+v", name, st)
			}
			_ = ts.Close()
			continue
		}
		if st.State != tool.Ready {
			t.Errorf("%s: %+v", name, st)
			continue
		}
		if res, err := call(t, ts, "mcp_web_echo", `{"text":"over HTTP"}`); err != nil || !strings.Contains(res.Text, "over HTTP") {
			t.Errorf("%s: %v", name, err)
		}
		if len(ts.Secrets()) == 0 {
			t.Errorf("%s: no secret to mask", name)
		}
		_ = ts.Close()
	}
	if tokens.Load() != 1 {
		t.Errorf("%d tokens were fetched", tokens.Load())
	}
}

func TestHTTPServersThatDoNotServe(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the token was carried to another host") }))
	t.Cleanup(other.Close)
	for name, h := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		},
		"broken": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			// A server notices that a client has gone only once it has read its request.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
		"an endless event": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			flood(w, "data: ")
		},
		"an endless text": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			flood(w, "[")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(h)
			t.Cleanup(srv.Close)
			ts, err := mcp.New(mcp.Config{Wanted: true, Spec: spec(t, "name: web\nurl: "+srv.URL+"\nstartTimeout: 2s\nbearerTokenFile: "+write(t, "tok")+"\ntools: [{name: a, effect: read}]\n")})
			if err != nil {
				t.Fatal(err)
			}
			if st := ts.Status(t.Context()); st.State != tool.Broken || st.Reason == "" || len(st.Reason) > 600 {
				t.Errorf("%+v", st)
			}
			_ = ts.Close()
			srv.CloseClientConnections()
		})
	}
}

func flood(w http.ResponseWriter, begin string) {
	_, _ = io.WriteString(w, begin)
	chunk := strings.Repeat("x", 1<<16)
	for {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
}
