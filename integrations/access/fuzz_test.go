package access

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// FuzzBearer: no header lets anybody in but the ones that hold a token.
func FuzzBearer(f *testing.F) {
	file := filepath.Join(f.TempDir(), "token")
	if err := writeFile(file, tokenOf("ci")); err != nil {
		f.Fatal(err)
	}
	c := newClock()
	g, err := New(Config{
		Now: c.now, Tokens: []TokenConfig{{Name: "ci", Role: "viewer", File: file}}, TokenReview: &TokenReviewConfig{},
		Reviewer: &cluster{known: map[string]incident.Person{"kube-token": {Name: "ann"}}}, Roles: RolesConfig{Viewer: Members{Users: []string{"*"}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "Bearer", "Bearer ", "Bearer  x", "bearer " + tokenOf("ci"), "Basic eA==", "Bearer kube-token", "Bearer a.b.c", "Bearer e30.eyJpc3MiOiJ4IiwiZXhwIjoxZTMwfQ.x", "Bearer \x00", "Bearer ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c.add(time.Hour) // so that nobody waits
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{header}
		id, err := g.identify(r)
		_, token, _ := strings.Cut(header, " ")
		token = strings.TrimSpace(token)
		good := isBearer(header) && (token == tokenOf("ci") || token == "kube-token")
		if (err == nil) != good {
			t.Fatalf("%q: %+v, %v", header, id, err)
		}
		if err == nil && (id.Person.Name == "" || id.Local || id.Role != Viewer) {
			t.Fatalf("%q entered as %+v", header, id)
		}
		if err != nil && asError(t.Context(), err).Status != http.StatusUnauthorized {
			t.Fatalf("%q: %v", header, err)
		}
	})
}

// FuzzSessionCookie: no cookie opens but the ones that were sealed.
func FuzzSessionCookie(f *testing.F) {
	file := filepath.Join(f.TempDir(), "token")
	if err := writeFile(file, tokenOf("ci")); err != nil {
		f.Fatal(err)
	}
	g, err := New(Config{Now: newClock().now, Tokens: []TokenConfig{{Name: "ci", Role: "viewer", File: file}}})
	if err != nil {
		f.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := g.sessions.start(w, httptest.NewRequest(http.MethodGet, "/", nil), caller{person: incident.Person{Name: "ann"}}, false); err != nil {
		f.Fatal(err)
	}
	good := w.Result().Cookies()[0].Value
	for _, s := range []string{"", good, good[1:], good + "A", "AAAA", strings.Repeat("A", cookieChunk), base64.RawURLEncoding.EncodeToString([]byte(`{"id":"1","name":"root"}`))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{sessionCookie + "=" + value}
		who, err := g.sessions.open(r, false)
		if err == nil && (value != good && !strings.HasPrefix(value, good+";") && !strings.Contains(value, good) || who.person.Name != "ann") {
			t.Fatalf("%q opened as %+v", value, who)
		}
	})
}

// FuzzClaims: whatever a provider signs, nobody enters without a name or with one that
// a cluster keeps for itself.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{`{"sub":"a"}`, `{"email":"a","email_verified":"yes","groups":["x","system:masters"]}`, `{"email":"system:x"}`, `{"email":["a"]}`, `{"email":"a","groups":{"a":1}}`, `{"email":"a","groups":"system:masters"}`, `[]`, `null`} {
		f.Add(s)
	}
	key := []byte(strings.Repeat("k", 32))
	f.Fuzz(func(t *testing.T, claims string) {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := s.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		token, err := unchecked(raw, key)
		if err != nil {
			return
		}
		for _, cfg := range []OIDCConfig{{Issuer: "https://x", UsernameClaim: "email", GroupsClaim: "groups"}, {Issuer: "https://x", UsernamePrefix: "-", GroupsClaim: "groups", GroupsPrefix: "o:"}} {
			who, err := (&provider{cfg: cfg}).caller(token)
			if err != nil {
				continue
			}
			if strings.TrimSpace(who.person.Name) == "" || strings.HasPrefix(who.person.Name, reserved) {
				t.Fatalf("%s names %q", claims, who.person.Name)
			}
			for _, g := range who.person.Groups {
				if strings.HasPrefix(g, reserved) || g == cfg.GroupsPrefix {
					t.Fatalf("%s gives the group %q", claims, g)
				}
			}
		}
	})
}

// FuzzReturn: whatever a link says, a browser stays here.
func FuzzReturn(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/a?b=//c", "https://x", "/%2f/x", "/\x00", "/..//x", "/.//x"} {
		f.Add(s)
	}
	base := &url.URL{Scheme: "https", Host: "gumshoe.example.com", Path: "/auth/callback"}
	f.Fuzz(func(t *testing.T, raw string) {
		got := localPath(raw)
		u, err := base.Parse(got)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || strings.ContainsAny(got, "\\\r\n\t") || strings.HasPrefix(got, "//") {
			t.Fatalf("%q leads to %q (%v)", raw, got, err)
		}
	})
}
