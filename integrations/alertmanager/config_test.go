package alertmanager

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

func TestMatchers(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"alertname": "GPULost", "severity": "critical", "path": `C:\x`, "say": `"hi"`}
	for s, want := range map[string]bool{
		`severity="critical"`: true, `severity=critical`: true, `severity = "warning"`: false, `severity!="warning"`: true,
		`alertname=~"GPU.*"`: true, `alertname=~"GPU"`: false, `alertname!~"GPU.*|X"`: false, `alertname=~"X|GPULost"`: true,
		`team=""`: true, `team!=""`: false, `team=~".+"`: false, `path="C:\\x"`: true, `say="\"hi\""`: true, `path=~"C:\\\\.*"`: true, `alertname=~"\w+"`: true,
	} {
		m, err := ParseMatcher(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got := m.Matches(labels); got != want {
			t.Errorf("%s matches: %t", s, got)
		}
		if back, err := ParseMatcher(m.String()); err != nil || back.Value != m.Value || back.Op != m.Op || back.Label != m.Label {
			t.Errorf("%s is written as %s and read as %+v, %v", s, m, back, err)
		}
	}
	for s, why := range map[string]string{
		"": "it has none of", "severity": "it has none of", "=x": "no label name", "1a=x": "no label name", "a b=x": "no label name", `a="x`: "closing quote", `a="x\"`: "closing quote",
		`a="x"y"`: "not escaped", `a=~"("`: "regular expression", `a=x"y`: "quote stands within", "a!x": "it has none of", "a=\xff": "UTF-8", "a=" + strings.Repeat("x", maxMatcher): "longer than",
	} {
		if m, err := ParseMatcher(s); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q gives %v, %v", clip(s, 40), m, err)
		}
	}
}

func FuzzMatcher(f *testing.F) {
	for _, s := range []string{`severity="critical"`, `a=~"x|y"`, `a!~b`, `a="\\\"\n"`, "a=é"} {
		f.Add(s, "critical")
	}
	f.Fuzz(func(t *testing.T, s, value string) {
		m, err := ParseMatcher(s)
		if err != nil {
			return
		}
		back, err := ParseMatcher(m.String())
		if err != nil {
			t.Fatalf("%q is written as %q, which is refused: %v", s, m, err)
		}
		labels := map[string]string{m.Label: value}
		if m.Matches(labels) != back.Matches(labels) {
			t.Errorf("%q and %q differ about %q", s, m, value)
		}
		if m.Op == "=" && !m.Matches(map[string]string{m.Label: m.Value}) {
			t.Errorf("%q does not match its own value", s)
		}
	})
}

func TestConfigIsRead(t *testing.T) {
	t.Parallel()
	var c Config
	text := `{"auth":{"bearerTokenFile":"/run/token"},"routes":[{"match":["severity=\"critical\""],"priority":"high","slack":"C01"},{"match":["team=~\"ml|data\""],"noWebhook":true},{"match":["severity=none"],"ignore":true}],
"quietHours":[{"days":["mon","tue"],"from":"22:00","to":"07:00","timezone":"Europe/Berlin"}],"correlationWindow":"15m","wait":"30s","flapWindow":"5m","recheckEvery":"20m",
"budgets":{"perHour":5,"perDay":50},"resultWebhook":{"url":"https://hook.example/x","hmacSecretFile":"/run/key","client":{"tls":{"caFile":"/run/ca"}}},"annotateURL":"http://alertmanager:9093","link":"https://gumshoe.example"}`
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	p, err := c.prepare()
	if err != nil {
		t.Fatal(err)
	}
	alert := func(labels ...string) incident.Alert {
		a := incident.Alert{Labels: map[string]string{}}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			a.Labels[k] = v
		}
		return a
	}
	for _, tc := range []struct {
		a    incident.Alert
		want routing
	}{
		{alert("severity=critical"), routing{priority: session.High, slack: "C01", webhook: true}},
		{alert("severity=warning", "team=data"), routing{priority: session.Low}},
		{alert("severity=none"), routing{ignore: true, priority: session.Low, webhook: true}},
		{alert("severity=page"), routing{priority: session.High, webhook: true}},
		{alert(), routing{priority: session.Low, webhook: true}},
	} {
		if got := p.route(tc.a); got != tc.want {
			t.Errorf("%v goes %+v, want %+v", tc.a.Labels, got, tc.want)
		}
	}
	if p, err := (Config{}).prepare(); err != nil || p.Budgets.PerHour != DefaultPerHour || time.Duration(p.Wait) != DefaultWait {
		t.Errorf("the empty configuration is %+v, %v", p, err)
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		c    Config
		says string
	}{
		{Config{Auth: AuthConfig{Username: "x"}}, "alertmanager.auth: username and passwordFile"},
		{Config{Routes: []Route{{Match: []string{"severity"}}}}, `alertmanager.routes[0].match: matcher "severity"`},
		{Config{Routes: []Route{{}, {Match: []string{"a=b"}}}}, "routes[0].match: it matches every alert"},
		{Config{Routes: []Route{{Priority: "urgent"}}}, `"urgent" is none of high, normal, low`},
		{Config{Routes: []Route{{Ignore: true, Slack: "C1"}}}, "routes[0].ignore"},
		{Config{Routes: []Route{{Slack: "#alerts"}}}, "no id of a channel"},
		{Config{QuietHours: []QuietHours{{From: "25:00", To: "07:00"}}}, `quietHours[0]: from: "25:00"`},
		{Config{QuietHours: []QuietHours{{From: "22:00", To: "7"}}}, `to: "7"`},
		{Config{QuietHours: []QuietHours{{From: "22:00", To: "07:00", Days: []string{"monday"}}}}, "none of mon, tue"},
		{Config{QuietHours: []QuietHours{{From: "22:00", To: "07:00", Timezone: "Mars/Base"}}}, `timezone: "Mars/Base"`},
		{Config{Wait: access.Duration(-time.Second)}, "alertmanager.wait: -1s"},
		{Config{CorrelationWindow: access.Duration(48 * time.Hour)}, "correlationWindow: 48h"},
		{Config{Budgets: BudgetConfig{PerHour: -1}}, "alertmanager.budgets"},
		{Config{AnnotateURL: "alertmanager:9093"}, "alertmanager.annotateURL"},
		{Config{ResultWebhook: ResultConfig{URL: "https://u:p@hook.example"}}, "keep them in a file"},
		{Config{ResultWebhook: ResultConfig{HMACSecretFile: "/run/key"}}, "resultWebhook.url: it is empty"},
		{Config{Annotate: ClientConfig{BearerTokenFile: "/a", Username: "u", PasswordFile: "/b"}}, "exclude each other"},
		{Config{Annotate: ClientConfig{TLS: TLSConfig{CertFile: "/a"}}}, "tls.certFile and tls.keyFile"},
	} {
		if err := tc.c.Validate(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("want %q, have %v", tc.says, err)
		}
	}
}

func TestQuietHours(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := QuietHours{From: "22:00", To: "07:00", Timezone: "Europe/Berlin"}
	weekend := []QuietHours{{Days: []string{"sat", "sun"}, From: "00:00", To: "00:00", Timezone: "Europe/Berlin"}}
	for _, tc := range []struct {
		hours    []QuietHours
		now, end string
	}{
		{[]QuietHours{night}, "2026-11-27 21:59", ""},
		{[]QuietHours{night}, "2026-11-27 22:00", "2026-11-28 07:00"},
		{[]QuietHours{night}, "2026-11-28 03:00", "2026-11-28 07:00"},
		{[]QuietHours{night}, "2026-11-28 07:00", ""},
		{weekend, "2026-11-28 12:00", "2026-11-30 00:00"}, // Saturday until Monday
		{weekend, "2026-11-27 12:00", ""},
		{append(weekend, night), "2026-11-29 12:00", "2026-11-30 07:00"},
		// The clock goes back at three: the night is an hour longer, and ends at seven.
		{[]QuietHours{night}, "2026-10-25 00:30", "2026-10-25 07:00"},
		{[]QuietHours{{Days: []string{"fri"}, From: "22:00", To: "07:00", Timezone: "Europe/Berlin"}}, "2026-11-28 23:00", ""}, // Saturday night
	} {
		c, err := Config{QuietHours: tc.hours}.prepare()
		if err != nil {
			t.Fatal(err)
		}
		end := c.quiet(at(tc.now))
		if tc.end == "" && !end.IsZero() || tc.end != "" && !end.Equal(at(tc.end)) {
			t.Errorf("at %s it is quiet until %s, want %q", tc.now, end.In(berlin), tc.end)
		}
	}
}
