package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestHowLongASignInLasts(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		ttl    time.Duration
		caller caller
		want   time.Duration
	}{
		"the usual":                   {0, caller{static: true}, 8 * time.Hour},
		"as configured":               {20 * time.Minute, caller{person: incident.Person{Proof: proofLogin}}, 20 * time.Minute},
		"a cluster's token":           {0, caller{reviewed: true}, time.Hour},
		"a cluster's token, shorter":  {10 * time.Minute, caller{reviewed: true}, 10 * time.Minute},
		"not beyond the token's end":  {0, caller{expiry: newClock().now().Add(5 * time.Minute)}, 5 * time.Minute},
		"a token that outlives it":    {0, caller{expiry: newClock().now().Add(50 * time.Hour)}, 8 * time.Hour},
		"a provider's, without bound": {0, caller{person: incident.Person{Proof: proofLogin}}, 8 * time.Hour},
	} {
		c := newClock()
		g := newGate(t, Config{Now: c.now, SessionTTL: Duration(tc.ttl), Tokens: crew(t, c).Tokens, Roles: crew(t, c).Roles})
		tc.caller.person.Name = "ann"
		w := httptest.NewRecorder()
		if err := g.sessions.start(w, request("GET", "/", ""), tc.caller, true); err != nil {
			t.Fatal(err)
		}
		set := w.Result().Cookies()
		if len(set) != 1 || set[0].Name != "__Host-gumshoe_session" || !set[0].HttpOnly || !set[0].Secure || set[0].SameSite != http.SameSiteLaxMode || set[0].Path != "/" || set[0].Domain != "" || set[0].MaxAge != int(tc.want.Seconds()) {
			t.Errorf("%s: cookie %v", what, set)
			continue
		}
		r := request("GET", "/", "")
		r.AddCookie(set[0])
		c.add(tc.want - time.Second)
		if who, err := g.sessions.open(r, true); err != nil || who.person.Name != "ann" {
			t.Errorf("%s: a second before its end: %v", what, err)
		}
		c.add(time.Second)
		if _, err := g.sessions.open(r, true); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: at its end: %v", what, err)
		}
		// Over plain HTTP it is another cookie: this one is not even read.
		if _, err := g.sessions.open(r, false); err == nil || !strings.Contains(err.Error(), "needs a sign-in") {
			t.Errorf("%s: over plain HTTP: %v", what, err)
		}
	}
}

func TestTamperedSessions(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	cfg.SessionKeyFile = write(t, "keys", strings.Repeat("k", 40)+"\n")
	cfg.Rate = RateConfig{Burst: 10_000}
	g := newGate(t, cfg)
	h := mux(t, g, surface())
	w := httptest.NewRecorder()
	if err := g.sessions.start(w, request("GET", "/", ""), caller{person: incident.Person{Name: "viewer-person", Proof: proofLogin}}, false); err != nil {
		t.Fatal(err)
	}
	good := w.Result().Cookies()[0].Value
	enter := func(h http.Handler, value string) int {
		return ask(t, h, "GET", "/api/viewer", "Cookie", sessionCookie+"="+value).Code
	}
	if got := enter(h, good); got != http.StatusOK {
		t.Fatalf("the session as it was made: %d", got)
	}
	for i := range good {
		flipped := []byte(good)
		if flipped[i]++; flipped[i] > 'z' {
			flipped[i] = 'A'
		}
		if got := enter(h, string(flipped)); got != http.StatusUnauthorized {
			t.Fatalf("with character %d changed: %d", i, got)
		}
	}
	for _, cut := range []string{"", good[:len(good)-1], good[1:], good + "A", good + good} {
		if got := enter(h, cut); got != http.StatusUnauthorized {
			t.Errorf("cut to %d of %d characters: %d", len(cut), len(good), got)
		}
	}
	// What was sealed as something else is no session.
	other, err := g.sessions.seal(loginCookie, session{ID: "1", Name: "admin-person", Expires: c.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if got := enter(h, other); got != http.StatusUnauthorized {
		t.Errorf("a sealed sign-in as a session: %d", got)
	}
	// A replica with the same keys opens it, also while they are being replaced; one with others does not.
	for keys, want := range map[string]int{
		strings.Repeat("k", 40): 200, strings.Repeat("n", 40) + "\n\n" + strings.Repeat("k", 40) + "\n": 200, strings.Repeat("n", 40): 401,
	} {
		replica := cfg
		replica.SessionKeyFile = write(t, "keys", keys)
		if got := enter(mux(t, newGate(t, replica), surface()), good); got != want {
			t.Errorf("keys %.3s...: %d, want %d", keys, got, want)
		}
	}
	replica := cfg
	replica.SessionKeyFile = ""
	if got := enter(mux(t, newGate(t, replica), surface()), good); got != http.StatusUnauthorized {
		t.Errorf("a process with its own key: %d", got)
	}
}

func TestManyGroups(t *testing.T) {
	t.Parallel()
	g := newGate(t, crew(t, newClock()))
	who := caller{person: incident.Person{Name: "ann", Proof: proofLogin}}
	for i := range 200 {
		who.person.Groups = append(who.person.Groups, fmt.Sprintf("11111111-2222-3333-4444-%012d", i))
	}
	w := httptest.NewRecorder()
	if err := g.sessions.start(w, request("GET", "/", ""), who, true); err != nil {
		t.Fatal(err)
	}
	r := request("GET", "/", "")
	for _, c := range w.Result().Cookies() {
		if len(c.String()) > 4096 {
			t.Errorf("a cookie of %d bytes, which browsers drop", len(c.String()))
		}
		r.AddCookie(c)
	}
	if got, err := g.sessions.open(r, true); err != nil || len(got.person.Groups) != 200 || len(r.Cookies()) < 2 {
		t.Fatalf("%d groups out of %d cookies: %v", len(got.person.Groups), len(r.Cookies()), err)
	}
	// A shorter session takes the other parts away, and so does signing out.
	w = httptest.NewRecorder()
	if err := g.sessions.start(w, r, caller{person: incident.Person{Name: "bob"}}, true); err != nil {
		t.Fatal(err)
	}
	if set := w.Result().Cookies(); len(set) != len(r.Cookies()) || set[1].MaxAge >= 0 {
		t.Errorf("the shorter session sets %v", set)
	}
	w = httptest.NewRecorder()
	if err := g.sessions.end(t.Context(), w, r, true); err != nil {
		t.Fatal(err)
	}
	if set := w.Result().Cookies(); len(set) != len(r.Cookies()) || set[0].MaxAge >= 0 || set[1].MaxAge >= 0 {
		t.Errorf("signing out sets %v", set)
	}
	for len(who.person.Groups) < 2000 {
		who.person.Groups = append(who.person.Groups, who.person.Groups...)
	}
	if err := g.sessions.start(httptest.NewRecorder(), r, who, true); err == nil || !strings.Contains(err.Error(), "groups") {
		t.Errorf("groups past all cookies: %v", err)
	}
}

// shared is a memory of ended sessions that fails when told to.
type shared struct {
	ended
	down error
}

func (s *shared) Revoke(ctx context.Context, id string, until time.Time) error {
	if s.down != nil {
		return s.down
	}
	return s.ended.Revoke(ctx, id, until)
}

func (s *shared) Revoked(ctx context.Context, id string) (bool, error) {
	if s.down != nil {
		return false, s.down
	}
	return s.ended.Revoked(ctx, id)
}

func TestReplicasShareEndedSessions(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	cfg.SessionKeyFile = write(t, "keys", strings.Repeat("k", 40))
	mem := &shared{ended: ended{now: c.now, until: map[string]time.Time{}}}
	cfg.Revocations = mem
	one, two := newGate(t, cfg), newGate(t, cfg)
	h := mux(t, two, surface())
	w := httptest.NewRecorder()
	if err := one.sessions.start(w, request("GET", "/", ""), caller{person: incident.Person{Name: "viewer-person", Proof: proofLogin}}, false); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0].String()
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusOK {
		t.Fatalf("at the other replica: %d %s", w.Code, w.Body)
	}
	mem.down = errors.New("store is away")
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusServiceUnavailable {
		t.Errorf("when nobody knows whether it was ended: %d", w.Code)
	}
	signOut := mux(t, one, one.Routes())
	if w := ask(t, signOut, "POST", logoutPath, "Cookie", cookie); w.Code != http.StatusServiceUnavailable {
		t.Errorf("signing out that cannot be noted: %d", w.Code)
	}
	mem.down = nil
	if w := ask(t, signOut, "POST", logoutPath, "Cookie", cookie); w.Code != http.StatusOK {
		t.Errorf("signing out: %d", w.Code)
	}
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusUnauthorized {
		t.Errorf("at the other replica after signing out: %d", w.Code)
	}
}

func TestEndedSessionsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	e := newEnded(c.now)
	for i := range 10 * sweepEvery {
		if !e.first(fmt.Sprint(i), c.now().Add(time.Minute)) {
			t.Fatal("a new id is not new")
		}
		c.add(time.Second)
	}
	if n := len(e.until); n > sweepEvery+60 {
		t.Errorf("%d ids are kept", n)
	}
	if e.first(fmt.Sprint(10*sweepEvery-1), c.now()) {
		t.Error("the newest was forgotten")
	}
}
