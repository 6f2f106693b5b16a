package alertmanager

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// secretFile keeps a secret in a file.
func secretFile(t testing.TB, value string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWhoMayPost(t *testing.T) {
	t.Parallel()
	body := message("a", fired("A", "namespace=a", start))
	basic := func(user, password string) http.Header {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header
	}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	signed := func(key string, at time.Time, body []byte) http.Header {
		h := http.Header{}
		signedHeaders(h, []byte(key), body, at)
		return h
	}
	all := AuthConfig{BearerTokenFile: secretFile(t, "token"), Username: "am", PasswordFile: secretFile(t, "pass"), HMACSecretFile: secretFile(t, "key")}
	for _, tc := range []struct {
		name   string
		auth   AuthConfig
		header http.Header
		status int
		says   string
	}{
		{"loopback without any", AuthConfig{}, nil, 200, ""},
		{"another page on this machine", AuthConfig{}, http.Header{"Origin": {"https://evil.example"}}, 403, "this machine only"},
		{"a proxy on this machine", AuthConfig{}, http.Header{"X-Forwarded-For": {"10.0.0.1"}}, 403, "this machine only"},
		{"none", all, nil, 401, "carries no credentials"},
		{"token", all, bearer("token"), 200, ""},
		{"wrong token", all, bearer("tokem"), 401, "not those"},
		{"empty token", all, bearer(""), 401, "carries no credentials"},
		{"basic", all, basic("am", "pass"), 200, ""},
		{"wrong password", all, basic("am", "token"), 401, "not those"},
		{"wrong user", all, basic("root", "pass"), 401, "not those"},
		{"basic where a token is wanted", AuthConfig{BearerTokenFile: all.BearerTokenFile}, basic("am", "token"), 401, "carries no credentials"},
		{"signature", all, signed("key", start, body), 200, ""},
		{"wrong key", all, signed("kez", start, body), 401, "not that of this body"},
		{"another body", all, signed("key", start, []byte("{}")), 401, "not that of this body"},
		{"old", all, signed("key", start.Add(-window-time.Second), body), 401, "check the clocks"},
		{"ahead", all, signed("key", start.Add(window+time.Second), body), 401, "check the clocks"},
		{"no time", all, http.Header{HeaderSignature: {"v1=00"}}, 401, "not a time"},
		{"no hex", all, http.Header{HeaderSignature: {"v1=zz"}, HeaderTimestamp: {"1"}}, 401, "hex digits"},
		{"missing file", AuthConfig{BearerTokenFile: filepath.Join(t.TempDir(), "none")}, bearer("x"), 503, "cannot be read on the server"},
		{"empty file", AuthConfig{BearerTokenFile: secretFile(t, "")}, bearer("x"), 503, "cannot be read on the server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := setup(t, Config{Auth: tc.auth})
			status, a := post(t, l.server(t).URL, body, tc.header)
			if status != tc.status || !strings.Contains(a.Error, tc.says) || status == 200 && a.ID == "" {
				t.Errorf("status %d, %+v", status, a)
			}
			l.step()
			if n := len(l.sessions()); n != map[bool]int{true: 1}[tc.status == 200] {
				t.Errorf("%d sessions after status %d", n, status)
			}
		})
	}
}

func TestFromAnotherMachineASecretIsNeeded(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	for _, tc := range [][2]string{{"10.0.0.7:4711", "localhost"}, {"127.0.0.1:4711", "gumshoe.example"}, {"[2001:db8::1]:1", "[::1]:8080"}} {
		req := httptest.NewRequest(http.MethodPost, "http://"+tc[1]+Path, bytes.NewReader(message("a", fired("A", "namespace=a", start))))
		req.RemoteAddr = tc[0]
		w := httptest.NewRecorder()
		l.desk.Routes()[0].Handler.ServeHTTP(w, req)
		if w.Code != http.StatusForbidden {
			t.Errorf("from %s to %s: status %d", tc[0], tc[1], w.Code)
		}
	}
}

func TestASignedRequestCountsOnce(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{Auth: AuthConfig{HMACSecretFile: secretFile(t, "key")}})
	body := message("a", fired("A", "namespace=a", start))
	h := http.Header{}
	signedHeaders(h, []byte("key"), body, start)
	url := l.server(t).URL
	if status, a := post(t, url, body, h); status != 200 || a.Known {
		t.Fatalf("status %d, %+v", status, a)
	}
	if status, a := post(t, url, body, h); status != http.StatusConflict || !strings.Contains(a.Error, "taken already") {
		t.Errorf("a replay is answered with %d, %+v", status, a)
	}
	// After a restart the set is gone, and the journal knows the delivery.
	l.restart()
	if status, a := post(t, l.server(t).URL, body, h); status != 200 || !a.Known {
		t.Errorf("a replay after a restart is answered with %d, %+v", status, a)
	}
	l.step()
	l.only()
}

func TestTheSetOfSignaturesIsBounded(t *testing.T) {
	t.Parallel()
	clock := &dial{at: start}
	g := newGuard(AuthConfig{HMACSecretFile: secretFile(t, "key")}, clock.now)
	for n := range remembered + 100 {
		var sum [32]byte
		copy(sum[:], strconv.Itoa(n))
		g.remember(sum)
	}
	if len(g.seen) != remembered || len(g.order) != remembered {
		t.Errorf("%d and %d are remembered", len(g.seen), len(g.order))
	}
	clock.turn(2*window + time.Second)
	g.remember([32]byte{1})
	if len(g.seen) != 1 {
		t.Errorf("%d are remembered that are out of date", len(g.seen)-1)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	url := l.server(t).URL
	good := string(message("a", fired("A", "namespace=a", start)))
	for _, tc := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"nothing", "", 400, "no JSON"},
		{"no JSON", "alert!", 400, "no JSON"},
		{"cut off", good[:len(good)/2], 400, "no JSON"},
		{"two documents", good + good, 400, "more than one"},
		{"an array", "[" + good + "]", 400, "no JSON"},
		{"version 3", strings.Replace(good, `"version":"4"`, `"version":"3"`, 1), 400, `version \"4\" is read`},
		{"no group", strings.Replace(good, `"groupKey":"a"`, `"groupKey":""`, 1), 400, "groupKey is empty"},
		{"a status of its own", strings.Replace(good, `"receiver":"gumshoe","routeLabels":{},"status":"firing"`, `"status":"burning"`, 1), 400, "neither firing nor resolved"},
		{"no alerts", `{"version":"4","groupKey":"a","status":"firing","alerts":[]}`, 400, "no alerts"},
		{"no labels", `{"version":"4","groupKey":"a","status":"firing","alerts":[{"status":"firing"}]}`, 400, "has no labels"},
		{"invalid UTF-8", strings.Replace(good, "something", "some\xffthing", 1), 400, "UTF-8"},
		{"too large", `{"version":"4","x":"` + strings.Repeat("x", MaxBody) + `"}`, 413, "larger than"},
		{"too many", `{"version":"4","groupKey":"a","status":"firing","alerts":[` + strings.Repeat("{},", MaxAlerts) + "{}]}", 400, "max_alerts"},
	} {
		status, a := post(t, url, []byte(tc.body), nil)
		if status != tc.status || !strings.Contains(strings.ReplaceAll(a.Error, `"`, `\"`), tc.says) {
			t.Errorf("%s: status %d, %q", tc.name, status, a.Error)
		}
	}
	l.step()
	if n := len(l.sessions()); n != 0 {
		t.Errorf("%d sessions of what was refused", n)
	}
	res, err := http.Get(url + Path) //nolint:noctx // only the status
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered with %s, %v", res.Status, err)
	}
}

func TestWhatIsTakenWithANote(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, from, to, says string }{
		{"left out", `"truncatedAlerts":0`, `"truncatedAlerts":70`, "left 70 alerts of the group out"},
		{"no fingerprint", `"fingerprint":"` + labelPrint(map[string]string{"alertname": "A", "namespace": "a"}) + `"`, `"fingerprint":"../../x"`, "known by its labels"},
		{"no start", `"startsAt":"2026-11-28T03:00:00Z"`, `"startsAt":""`, "does not say when it began"},
		{"no time", `"startsAt":"2026-11-28T03:00:00Z"`, `"startsAt":"yesterday"`, `began at "yesterday"`},
		{"the future", `"startsAt":"2026-11-28T03:00:00Z"`, `"startsAt":"2027-11-28T03:00:00Z"`, "ahead of this clock"},
		{"the far past", `"startsAt":"2026-11-28T03:00:00Z"`, `"startsAt":"1999-12-31T00:00:00Z"`, "not believed"},
		{"no name", `"alertname":"A",`, ``, "carries no label alertname"},
		{"no status", `"status":"firing"}],"commonAnnotations"`, `"status":"what"}],"commonAnnotations"`, "taken as the group's"},
		{"a field of tomorrow", `"version":"4"`, `"version":"4","tomorrow":{"a":[1]}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := setup(t, Config{})
			good := string(message("a", fired("A", "namespace=a", start)))
			body := strings.Replace(good, tc.from, tc.to, 1)
			if body == good {
				t.Fatalf("%s does not hold %s", good, tc.from)
			}
			a := l.take([]byte(body))
			if tc.says == "" && len(a.Notes) > 0 || !strings.Contains(strings.Join(a.Notes, "\n"), tc.says) {
				t.Errorf("notes %q", a.Notes)
			}
			// Repeated, it is the same delivery, whatever the clock says meanwhile.
			l.clock.turn(time.Minute)
			if a := l.take([]byte(body)); !a.Known {
				t.Error("its repetition is not known")
			}
			l.step()
			s := l.only()
			if at := s.Alerts[0].StartsAt; at.Before(start.Add(-time.Second)) || at.After(l.clock.now()) {
				t.Errorf("it began at %s", at)
			}
		})
	}
}

func TestOneBadAlertDoesNotCostTheOthers(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	body := strings.Replace(string(message("a", fired("A", "namespace=a", start), fired("B", "namespace=b", start))), `{"alertname":"A","namespace":"a"}`, `{}`, 1)
	a := l.take([]byte(body))
	if a.Alerts != 1 || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "alert 1 has no labels") {
		t.Errorf("%+v", a)
	}
}

func TestNothingIsAcknowledgedThatIsNotKept(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	dir, broken := t.TempDir(), false
	st, err := file.Open(file.Config{Dir: dir, Now: (&dial{at: start}).now, Sync: func(f *os.File) error {
		if broken {
			return full
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	l := setup(t, Config{})
	d, err := New(Config{}, Options{Service: l.svc, Journal: st, Now: l.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	l.desk = d
	url, body := l.server(t).URL, message("a", fired("A", "namespace=a", start))
	broken = true
	if status, a := post(t, url, body, nil); status != http.StatusServiceUnavailable || !strings.Contains(a.Error, "send them again") {
		t.Errorf("with a full disk the answer is %d, %+v", status, a)
	}
	broken = false
	if status, a := post(t, url, body, nil); status != http.StatusOK || a.Known {
		t.Errorf("sent again it is answered with %d, %+v", status, a)
	}
}

func TestLargeGroupsAreKeptInParts(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	alerts := make([]one, 2*chunk+1)
	for n := range alerts {
		alerts[n] = fired("A", "namespace=a pod=p-"+strconv.Itoa(n), start)
	}
	if a := l.take(message("a", alerts...)); a.Alerts != len(alerts) {
		t.Fatalf("%+v", a)
	}
	l.step()
	s := l.only()
	if len(s.Alerts) != sessionAlerts || l.questions() != 1 || len(s.Turns[0].Question.Subjects) != looked {
		t.Errorf("%d alerts, %d questions about %d things", len(s.Alerts), l.questions(), len(s.Turns[0].Question.Subjects))
	}
	for n := range alerts {
		alerts[n] = alerts[n].ended(start)
	}
	l.work()
	l.take(message("a", alerts...))
	l.step()
	if s := l.only(); s.Resolved.IsZero() {
		t.Error("all of it ended, and the session is not resolved")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message("a", fired("A", "namespace=a pod=p", start), fired("B", "node=n", start).ended(start.Add(time.Minute))))
	f.Add([]byte(`{"version":"4","groupKey":"a","status":"firing","alerts":[{"labels":{"alertname":"x"},"startsAt":"9999-12-31T23:59:59Z","endsAt":"x"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := decode(raw, start)
		if err != nil {
			if err.Error() == "" {
				t.Error("a refusal without words")
			}
			return
		}
		if len(d.Alerts) == 0 || !isGroup(d.Group) || len(d.ID) != 32 {
			t.Errorf("taken: %+v", d)
		}
		for _, a := range d.Alerts {
			if a.Name == "" || !fingerprint(a.Fingerprint) || a.Status != firing && a.Status != resolved || a.StartsAt.IsZero() || a.StartsAt.After(start.Add(skew)) || len(a.Labels) == 0 {
				t.Errorf("alert %+v", a)
			}
		}
		if again, err := decode(raw, start.Add(time.Hour)); err == nil && again.ID != d.ID {
			t.Errorf("an hour later the same body has the id %s, not %s", again.ID, d.ID)
		}
		if _, err := chunks(d); err != nil {
			t.Errorf("it cannot be kept: %v", err)
		}
	})
}

func TestSignatureIsAsDocumented(t *testing.T) {
	t.Parallel()
	// printf '1764298800.{}' | openssl dgst -sha256 -hmac key
	want := "f8e1d831b90296635787f02d5c088c3dadb5cb1b4b02d3ec9d1a76bfa20235d8"
	if got := hex.EncodeToString(sign([]byte("key"), "1764298800", []byte("{}"))); got != want {
		t.Errorf("signature %s, openssl says %s", got, want)
	}
}
