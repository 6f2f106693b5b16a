package access

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestRateByPersonAndAddress(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	cfg.Rate = RateConfig{PerMinute: 60, Burst: 3}
	h := mux(t, newGate(t, cfg), surface())
	get := func(path, token, remote string) int {
		headers := []string{"remote", remote}
		if token != "" {
			headers = append(headers, "Authorization", "Bearer "+tokenOf(token))
		}
		w := ask(t, h, "GET", path, headers...)
		if w.Code == http.StatusTooManyRequests {
			if s, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || s < 1 || s > 60 {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		}
		return w.Code
	}
	// A person is one, wherever they come from.
	for i := range 3 {
		if got := get("/api/viewer", "viewer", fmt.Sprintf("192.0.2.%d:1", i)); got != 200 {
			t.Fatalf("request %d: %d", i, got)
		}
	}
	if got := get("/api/viewer", "viewer", "192.0.2.9:1"); got != 429 {
		t.Errorf("the fourth: %d", got)
	}
	if got := get("/api/viewer", "asker", "192.0.2.0:1"); got != 200 {
		t.Errorf("another person at the same address: %d", got)
	}
	c.add(time.Second)
	if got := get("/api/viewer", "viewer", "192.0.2.9:1"); got != 200 {
		t.Errorf("a second later: %d", got)
	}
	if got := get("/api/viewer", "viewer", "192.0.2.9:1"); got != 429 {
		t.Errorf("one more: %d", got)
	}
	// Nobody is counted by address, whether the route is public, closed or none.
	for i, path := range []string{"/healthz", "/api/viewer", "/nowhere"} {
		if got := get(path, "", "198.51.100.1:1"); got == 429 {
			t.Errorf("request %d without a name: %d", i, got)
		}
	}
	for _, path := range []string{"/healthz", "/api/viewer", "/nowhere"} {
		if got := get(path, "", "198.51.100.1:2"); got != 429 {
			t.Errorf("%s past the bound: %d", path, got)
		}
	}
	if got := get("/healthz", "", "198.51.100.2:1"); got != 200 {
		t.Errorf("another address: %d", got)
	}
	// One subscriber's network is one address.
	for i := range 3 {
		if got := get("/healthz", "", fmt.Sprintf("[2001:db8:1:2::%d]:1", i+1)); got != 200 {
			t.Errorf("IPv6 request %d: %d", i, got)
		}
	}
	if got := get("/healthz", "", "[2001:db8:1:2:ffff::9]:1"); got != 429 {
		t.Errorf("the fourth of one network: %d", got)
	}
	if got := get("/healthz", "", "[2001:db8:1:3::1]:1"); got != 200 {
		t.Errorf("another network: %d", got)
	}
	// A webhook has a bound of its own.
	for i := range 2000 {
		if w := ask(t, h, "POST", "/webhooks/alertmanager", "remote", "203.0.113.1:1"); w.Code != 200 {
			t.Fatalf("alert %d: %d", i, w.Code)
		}
	}
	if w := ask(t, h, "POST", "/webhooks/alertmanager", "remote", "203.0.113.1:1"); w.Code != 429 {
		t.Errorf("past its bound: %d", w.Code)
	}
	if got := get("/healthz", "", "203.0.113.1:1"); got != 200 {
		t.Errorf("it took from the others: %d", got)
	}
}

func TestFailedSignInsWait(t *testing.T) {
	t.Parallel()
	c := newClock()
	k := &cluster{known: map[string]incident.Person{"good-token": {Name: "ann"}, "fresh-token": {Name: "bob"}}}
	h := mux(t, newGate(t, Config{Now: c.now, TokenReview: &TokenReviewConfig{}, Reviewer: k, Roles: RolesConfig{Viewer: Members{Users: []string{"*"}}}}), surface())
	enter := func(token, remote string) int {
		return ask(t, h, "GET", "/api/viewer", "Authorization", "Bearer "+token, "remote", remote).Code
	}
	if got := enter("good-token", "192.0.2.1:1"); got != 200 {
		t.Fatal(got)
	}
	for i := range failBurst {
		if got := enter(fmt.Sprintf("wrong-%d", i), "192.0.2.1:1"); got != 401 {
			t.Fatalf("failure %d: %d", i, got)
		}
	}
	before := k.asked
	for i := range 20 {
		w := ask(t, h, "GET", "/api/viewer", "Authorization", fmt.Sprintf("Bearer more-%d", i), "remote", "192.0.2.1:1")
		if p := problem(t, w); w.Code != 429 || w.Header().Get("Retry-After") != "12" || !strings.Contains(p.Message, "failed sign-ins") {
			t.Fatalf("%d Retry-After %q %+v", w.Code, w.Header().Get("Retry-After"), p)
		}
	}
	if k.asked != before {
		t.Errorf("the cluster was asked %d times for who has to wait", k.asked-before)
	}
	// Not even the right guess enters, but who was in before does, and so do others.
	if got := enter("fresh-token", "192.0.2.1:1"); got != 429 {
		t.Errorf("a new token while waiting: %d", got)
	}
	if got := enter("good-token", "192.0.2.1:1"); got != 200 {
		t.Errorf("a token that was good before: %d", got)
	}
	if got := enter("fresh-token", "192.0.2.2:1"); got != 200 {
		t.Errorf("from another address: %d", got)
	}
	c.add(failEvery)
	if got := enter("wrong", "192.0.2.1:1"); got != 401 {
		t.Errorf("after waiting: %d", got)
	}
	if got := enter("wrong", "192.0.2.1:1"); got != 429 {
		t.Errorf("and again: %d", got)
	}
}

func TestTablesStaySmall(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLimits(RateConfig{PerMinute: 1, Burst: 1}, c.now)
	for i := range 3 * maxCallers {
		key := "address " + strconv.Itoa(i)
		l.allow(key, 0)
		l.try(key)
	}
	if l.requests.len() != maxCallers || l.failures.len() != maxCallers {
		t.Errorf("%d and %d callers are kept", l.requests.len(), l.failures.len())
	}
	if l.allow("address "+strconv.Itoa(3*maxCallers-1), 0) {
		t.Error("the newest was forgotten")
	}
	tab := newLRU[int](2)
	tab.put("a", 1)
	tab.put("b", 2)
	tab.put("a", 3)
	tab.put("c", 4)
	if v, ok := tab.get("a"); !ok || v != 3 {
		t.Errorf("a is %d, %v", v, ok)
	}
	if _, ok := tab.get("b"); ok {
		t.Error("what was seen least lately is still there")
	}
	tab.remove("a")
	tab.remove("a")
	if tab.len() != 1 {
		t.Errorf("%d entries", tab.len())
	}
}

func TestAddressBehindProxies(t *testing.T) {
	t.Parallel()
	cfg := crew(t, newClock())
	cfg.TrustedProxies = []string{"10.0.0.0/8", "2001:db8::1"}
	g := newGate(t, cfg)
	for _, tc := range []struct{ remote, forwarded, proto, want, secure string }{
		{"192.0.2.1:1", "198.51.100.7", "https", "192.0.2.1", "false"},
		{"10.1.1.1:1", "198.51.100.7", "https", "198.51.100.7", "true"},
		{"10.1.1.1:1", "203.0.113.9, 198.51.100.7, 10.2.2.2", "http", "198.51.100.7", "false"},
		{"10.1.1.1:1", "", "", "10.1.1.1", "false"},
		{"10.1.1.1:1", "unknown", "", "10.1.1.1", "false"},
		{"10.1.1.1:1", "10.3.3.3", "", "10.3.3.3", "false"},
		{"[2001:db8::1]:1", "2001:db8::5", "https", "2001:db8::5", "true"},
		{"[::ffff:10.1.1.1]:1", "198.51.100.7", "https", "198.51.100.7", "true"},
	} {
		r := request("GET", "/", "", "remote", tc.remote, "X-Forwarded-Proto", tc.proto)
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		if got := g.clientIP(r).String(); got != tc.want {
			t.Errorf("%s for %q is %s, want %s", tc.remote, tc.forwarded, got, tc.want)
		}
		if got := fmt.Sprint(g.secure(r)); got != tc.secure {
			t.Errorf("%s with proto %q: secure %s", tc.remote, tc.proto, got)
		}
	}
}
