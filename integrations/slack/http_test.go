package slack_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// serve puts the routes of a replica behind a server.
func (l *lab) serve(r *replica) string {
	l.t.Helper()
	mux := http.NewServeMux()
	for _, route := range r.Routes() {
		if !route.Public || route.Why == "" || route.MaxBody <= 0 {
			l.t.Errorf("the route %s is public without a reason or without a bound", route.Pattern)
		}
		mux.Handle(route.Method+" "+route.Pattern, route.Handler)
	}
	srv := httptest.NewServer(mux)
	l.t.Cleanup(srv.Close)
	return srv.URL
}

func newHTTPLab(t *testing.T) (*lab, string) {
	t.Helper()
	l := newLab(t, func(l *lab) { l.http, l.cfg.Mode, l.cfg.AppTokenFile = true, slack.ModeHTTP, "" })
	one, two := l.serve(l.start(nil)), l.serve(l.start(nil))
	l.slack.UseHTTP(one, two)
	return l, one
}

// TestSignedRequests: the whole story over signed requests to two replicas.
func TestSignedRequests(t *testing.T) {
	t.Parallel()
	l, base := newHTTPLab(t)
	l.story()
	l.slack.Command(ann, ops, "why is node gpu-7 not ready?")
	l.until("a thread of the command", func() bool {
		for _, m := range l.slack.Channel(ops) {
			if m.BotID != "" && l.count(ops, m.TS, "*Cause*") == 1 {
				return true
			}
		}
		return false
	})
	code, body, err := l.slack.Signed(base+"/slack/events", "application/json", []byte(`{"type":"url_verification","challenge":"abc<x>","token":"t"}`), time.Now(), 0)
	if err != nil || code != http.StatusOK || body != "abc<x>" {
		t.Errorf("the address is verified with %d %q (%v)", code, body, err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	l, base := newHTTPLab(t)
	mention := `{"type":"event_callback","team_id":"T0TEAM","event_id":"Ev1","event":{"type":"app_mention","user":"U0ANN","channel":"C0OPS","ts":"1790000000.000100","text":"<@U0GUMSHOE> why?"}}`
	send := func(path, kind, body string, at time.Time) int {
		t.Helper()
		code, _, err := l.slack.Signed(base+path, kind, []byte(body), at, 0)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	const js, form = "application/json", "application/x-www-form-urlencoded"
	for _, at := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		if code := send("/slack/events", js, mention, time.Now().Add(at)); code != http.StatusUnauthorized {
			t.Errorf("a signature of %s ago is answered with %d", -at, code)
		}
	}
	resp, err := http.Post(base+"/slack/events", js, strings.NewReader(mention)) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unsigned request is answered with %d (%v)", resp.StatusCode, err)
	}
	for path, bodies := range map[string][]string{
		"/slack/events":      {"", "{", "[]", `{"type":"event_callback"}`, `{"type":"event_callback","event":{"type":"odd"}}`},
		"/slack/interactive": {"", "payload=", "payload=%7B", "payload=[]", "x=1"},
		"/slack/commands":    {"%zz"},
	} {
		for _, b := range bodies {
			kind := form
			if path == "/slack/events" {
				kind = js
			}
			if code := send(path, kind, b, time.Now()); code != http.StatusBadRequest {
				t.Errorf("%s with %q is answered with %d", path, b, code)
			}
		}
	}
	if code := send("/slack/events", js, strings.Repeat(" ", 3<<20), time.Now()); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 3 MiB is answered with %d", code)
	}
	// The payload comes from the body that was signed, never from the address.
	q := "?payload=" + url.QueryEscape(`{"type":"block_actions","user":{"id":"U0ANN"}}`)
	if code := send("/slack/interactive"+q, form, "x=1", time.Now()); code != http.StatusBadRequest {
		t.Errorf("a payload in the address is answered with %d", code)
	}

	// A request that is replayed is one question.
	l.slack.AddChannel(ops)
	for range 3 {
		if code := send("/slack/events", js, mention, time.Now()); code != http.StatusOK {
			t.Errorf("a mention is answered with %d", code)
		}
	}
	l.until("it is asked", func() bool { return len(l.turns(ops, "1790000000.000100")) > 0 })
	ts := l.slack.Say(bob, ops, "", slacktest.Call+" the last question")
	l.message(ops, ts, "*Cause*")
	if n := len(l.turns(ops, "1790000000.000100")); n != 1 {
		t.Errorf("%d questions were taken, not 1", n)
	}
}

// TestWhatCannotBeKeptIsNotAcknowledged: Slack gets no 200 for what is not in the
// journal.
func TestWhatCannotBeKeptIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.http, l.lease, l.cfg.Mode = true, time.Second, slack.ModeHTTP })
	r := l.start(func(p string) bool { return p != "kept" })
	code, _, err := l.slack.Signed(l.serve(r)+"/slack/commands", "application/x-www-form-urlencoded", []byte("channel_id=C0OPS&user_id=U0ANN&trigger_id=1.2&text=why"), time.Now(), 0)
	if err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("it is answered with %d (%v)", code, err)
	}
	<-r.done
	r = l.start(nil)
	code, _, err = l.slack.Signed(l.serve(r)+"/slack/commands", "application/x-www-form-urlencoded", []byte("channel_id=C0OPS&user_id=U0ANN&trigger_id=1.2&text=why"), time.Now(), 1)
	if err != nil || code != http.StatusOK {
		t.Errorf("it is answered with %d (%v) when it comes again", code, err)
	}
	l.until("a thread of the command", func() bool {
		for _, m := range l.slack.Channel(ops) {
			if m.BotID != "" && l.count(ops, m.TS, "*Cause*") == 1 {
				return true
			}
		}
		return false
	})
	if n := len(l.slack.Channel(ops)); n != 1 {
		t.Errorf("%d threads were opened, not 1", n)
	}
}
