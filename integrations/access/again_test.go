package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// TestConfigurationThatIsReadAgain: the next gate judges by the new roles and tokens,
// and forgets neither sign-ins nor failures.
func TestConfigurationThatIsReadAgain(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	old := newGate(t, cfg)
	h := mux(t, old, surface(), old.Routes())
	signIn := func(who string) string {
		w := send(h, request("POST", tokenPath, "token="+tokenOf(who), "Content-Type", "application/x-www-form-urlencoded", "remote", "198.51.100.1:1"))
		return w.Result().Cookies()[0].String()
	}
	stays, leaves := signIn("viewer"), signIn("asker")
	if w := ask(t, h, "POST", logoutPath, "Cookie", leaves); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	for i := range failBurst {
		ask(t, h, "GET", "/api/viewer", "Authorization", fmt.Sprintf("Bearer wrong-%d", i))
	}
	next := cfg
	next.Previous = old
	next.Roles.Admin = Members{Users: []string{"viewer-person"}}
	next.Tokens = append([]TokenConfig{{Name: "new", Role: "asker", File: write(t, "t", tokenOf("new"))}}, cfg.Tokens[:3]...)
	h = mux(t, newGate(t, next), surface())
	for i, tc := range []struct {
		header, value string
		want          int
	}{
		{"Cookie", stays, 200}, {"Cookie", leaves, 401},
		{"Authorization", "Bearer " + tokenOf("viewer"), 200}, {"Authorization", "Bearer " + tokenOf("new"), 403},
		{"Authorization", "Bearer " + tokenOf("admin"), 401},
	} {
		if w := ask(t, h, "GET", "/api/admin", tc.header, tc.value, "remote", "198.51.100.1:1"); w.Code != tc.want {
			t.Errorf("case %d: %d, want %d: %s", i, w.Code, tc.want, w.Body)
		}
	}
	if w := ask(t, h, "GET", "/api/viewer", "Authorization", "Bearer wrong"); w.Code != http.StatusTooManyRequests {
		t.Errorf("who failed too often before: %d", w.Code)
	}
	next.Previous = nil
	if w := ask(t, mux(t, newGate(t, next), surface()), "GET", "/api/admin", "Cookie", stays); w.Code != http.StatusUnauthorized {
		t.Errorf("a gate that inherits nothing: %d", w.Code)
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
