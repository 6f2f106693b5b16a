package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestReload(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	g := newGate(t, cfg)
	h := mux(t, g, surface())
	enter := func(path, who string) int {
		return ask(t, h, "GET", path, "Authorization", "Bearer "+tokenOf(who)).Code
	}
	if got := enter("/api/admin", "viewer"); got != http.StatusForbidden {
		t.Fatalf("before: %d", got)
	}
	next := cfg
	next.Roles.Admin = Members{Users: []string{"viewer-person"}}
	next.Tokens = append([]TokenConfig{{Name: "new", Role: "asker", File: write(t, "t", tokenOf("new"))}}, cfg.Tokens[:3]...)
	if err := g.Reload(next); err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]int{"viewer": 200, "asker": 403, "new": 403, "approver": 401, "admin": 401} {
		if got := enter("/api/admin", who); got != want {
			t.Errorf("%s after the roles and tokens changed: %d, want %d", who, got, want)
		}
	}
	for what, change := range map[string]func(*Config){
		"restart it":   func(c *Config) { c.Tokens, c.Roles = nil, RolesConfig{} },
		"for the rest": func(c *Config) { c.SessionTTL = Duration(time.Hour) },
		"missing":      func(c *Config) { c.Tokens = []TokenConfig{{Name: "x", File: t.TempDir() + "/missing"}} },
		"name them":    func(c *Config) { c.Roles.Admin.Users = []string{"*"} },
	} {
		broken := next
		change(&broken)
		if err := g.Reload(broken); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v", what, err)
		}
		if got := enter("/api/admin", "viewer"); got != http.StatusOK {
			t.Errorf("a configuration that was refused changed something: %d", got)
		}
	}
	open := newGate(t, Config{})
	if err := open.Reload(cfg); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("an open server was closed while it ran: %v", err)
	}
}

// gateKeeper holds every review back until all are there.
type gateKeeper struct {
	mu      sync.Mutex
	asked   int
	release chan struct{}
}

func (k *gateKeeper) Review(context.Context, string, []string) (incident.Person, bool, error) {
	k.mu.Lock()
	k.asked++
	k.mu.Unlock()
	<-k.release
	return incident.Person{}, false, nil
}

func TestManyGuessesAtOnce(t *testing.T) {
	t.Parallel()
	k := &gateKeeper{release: make(chan struct{})}
	h := mux(t, newGate(t, Config{Now: newClock().now, TokenReview: &TokenReviewConfig{}, Reviewer: k, Roles: RolesConfig{Viewer: Members{Users: []string{"*"}}}}), surface())
	codes := make(chan int, 50)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			codes <- ask(t, h, "GET", "/api/viewer", "Authorization", fmt.Sprintf("Bearer guess-%d", i)).Code
		})
	}
	for range 50 - failBurst { // these are sent off while the others wait for the cluster
		if got := <-codes; got != http.StatusTooManyRequests {
			t.Errorf("a guess too many: %d", got)
		}
	}
	close(k.release)
	wg.Wait()
	if k.asked != failBurst {
		t.Errorf("the cluster was asked about %d guesses", k.asked)
	}
}

func TestOutageForgetsNobody(t *testing.T) {
	t.Parallel()
	c := newClock()
	k := &cluster{known: map[string]incident.Person{"good-token": {Name: "ann"}}}
	g := newGate(t, Config{Now: c.now, TokenReview: &TokenReviewConfig{}, Reviewer: k, Roles: RolesConfig{Viewer: Members{Users: []string{"*"}}}})
	h := mux(t, g, surface())
	enter := func(token string) int { return ask(t, h, "GET", "/api/viewer", "Authorization", "Bearer "+token).Code }
	if got := enter("good-token"); got != http.StatusOK {
		t.Fatal(got)
	}
	c.add(reviewKept)
	k.down = errors.New("away")
	for range 2 * failBurst {
		if a, b := enter("good-token"), enter("new-token"); a != http.StatusServiceUnavailable || b != http.StatusServiceUnavailable {
			t.Fatalf("while the cluster is away: %d and %d", a, b)
		}
	}
	k.down = nil
	for range failBurst {
		if got := enter("wrong"); got != http.StatusUnauthorized {
			t.Fatal(got)
		}
	}
	if got := enter("good-token"); got != http.StatusOK {
		t.Errorf("a token that was good before the outage: %d", got)
	}
}

func TestErrorAfterTheAnswerBegan(t *testing.T) {
	t.Parallel()
	h := mux(t, newGate(t, Config{}), []Route{{Method: "GET", Pattern: "/api/events", Role: Viewer, Stream: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if RequestID(r.Context()) == "" || RequestID(r.Context()) != w.Header().Get("X-Request-Id") {
			t.Errorf("the request is %q", RequestID(r.Context()))
		}
		fmt.Fprint(w, "data: 1\n\n")
		WriteError(w, r, errors.New("too late"))
	})}})
	if w := send(h, request("GET", "/api/events", "", "remote", "127.0.0.1:1", "Host", "localhost")); w.Code != http.StatusOK || w.Body.String() != "data: 1\n\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if got := sentence("élan is missing"); got != "Élan is missing." {
		t.Errorf("a sentence: %q", got)
	}
	if got := sentence("\xffodd?"); got != "\xffodd?" {
		t.Errorf("no text at all: %q", got)
	}
}
