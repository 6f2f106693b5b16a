package slack

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// held checks what every decoder promises of what it lets through.
func held(t *testing.T, in inbound) {
	t.Helper()
	if in.User == "" || in.Channel == "" || in.Key == "" {
		t.Fatalf("it says not who, where or which: %+v", in)
	}
	for _, s := range []string{queue + "." + in.Key, in.subject()} {
		if err := store.CheckSubject(s); err != nil {
			t.Fatalf("%q is no subject: %v", s, err)
		}
	}
	for _, s := range []string{in.Text, in.Was, in.Value} {
		if len(s) > maxText || !utf8.ValidString(s) {
			t.Fatalf("a text of %d bytes is kept, valid %v", len(s), utf8.ValidString(s))
		}
	}
	if in.Kind != kindCommand && in.Thread == "" {
		t.Fatalf("it has no thread: %+v", in)
	}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var back inbound
	if err := json.Unmarshal(raw, &back); err != nil || back != in {
		t.Fatalf("%+v is kept as %+v (%v)", in, back, err)
	}
}

func FuzzEvent(f *testing.F) {
	for _, s := range []string{
		`{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention","user":"U1","channel":"C1","ts":"1.2","text":"<@U0> why?"}}`,
		`{"type":"event_callback","event":{"type":"message","channel_type":"im","user":"U1","channel":"D1","ts":"1.2","thread_ts":"1.1","text":"why?"}}`,
		`{"type":"event_callback","event":{"type":"message","subtype":"message_changed","channel":"C1","ts":"1.3","message":{"user":"U1","ts":"1.2","text":"b","edited":{"user":"U1","ts":"1.3"}},"previous_message":{"user":"U1","ts":"1.2","text":"a"}}}`,
		`{"type":"event_callback","event":{"type":"message","subtype":"message_deleted","channel":"C1","deleted_ts":"1.2","previous_message":{"user":"U1","ts":"1.2"}}}`,
		`{"type":"event_callback","event":{"type":"message","subtype":"message_changed","channel":"C1"}}`,
		`{"type":"url_verification","challenge":"x"}`, `{"type":"event_callback","event":null}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := slackevents.ParseEvent(json.RawMessage(raw), slackevents.OptionNoVerifyToken())
		if err != nil {
			return
		}
		if in, ok := fromEvent(e, "U0"); ok {
			held(t, in)
		}
	})
}

func FuzzInteraction(f *testing.F) {
	for _, s := range []string{
		`{"type":"block_actions","user":{"id":"U1"},"channel":{"id":"C1"},"container":{"type":"message","message_ts":"1.2","channel_id":"C1","thread_ts":"1.1"},"trigger_id":"t","actions":[{"action_id":"plan_approve","value":"plan-1:00","action_ts":"1.3","type":"button"}]}`,
		`{"type":"block_actions","user":{"id":"U1"},"container":{"type":"view","view_id":"V1"},"view":{"id":"V1","private_metadata":"{\"channel\":\"C1\",\"thread\":\"1.1\"}"},"actions":[{"action_id":"evidence_whole","action_ts":"1.3","type":"button"}]}`,
		`{"type":"view_submission","user":{"id":"U1"},"view":{"id":"V1","callback_id":"plan_reject","private_metadata":"{\"channel\":\"C1\",\"thread\":\"1.1\"}","state":{"values":{"words":{"text":{"type":"plain_text_input","value":"no"}}}}}}`,
		`{"type":"block_actions","user":{"id":"U1"},"actions":[null]}`, `{"type":"shortcut"}`, `null`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c slack.InteractionCallback
		if json.Unmarshal(raw, &c) != nil {
			return
		}
		if in, ok := fromInteraction(c); ok {
			held(t, in)
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add("channel_id=C1&user_id=U1&trigger_id=1.2&text=why+%3C%23C1%7Cx%3E&response_url=https%3A%2F%2Fhooks.slack.com%2Fx")
	f.Add("channel_id=%ff&user_id=..&trigger_id=x")
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		c, err := slack.SlashCommandParse(r)
		if err != nil {
			return
		}
		if in, ok := fromCommand(c); ok {
			held(t, in)
		}
	})
}

// FuzzText: nothing that is shown calls people, links or opens a fence.
func FuzzText(f *testing.F) {
	for _, s := range []string{"<!channel>", "a & b", "```x```", "<@U1|x> *b* _i_ ~s~ `c`", "\xff\xfe", "&amp;", strings.Repeat("<&>\n", 2000)} {
		f.Add(s, 100)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 20 + abs(n%4000)
		for _, out := range []string{escape(s), firstOf(cut(escape(s), n)), strings.TrimSuffix(strings.TrimPrefix(fenced(s), "```"), "```")} {
			if strings.ContainsAny(out, "<>") || !utf8.ValidString(out) || strings.Contains(out, "```") {
				t.Fatalf("%q is shown as %q", s, out)
			}
			for rest := out; strings.Contains(rest, "&"); {
				_, after, _ := strings.Cut(rest, "&")
				if !strings.HasPrefix(after, "amp;") && !strings.HasPrefix(after, "lt;") && !strings.HasPrefix(after, "gt;") {
					t.Fatalf("%q has half an entity: %q", s, out)
				}
				rest = after
			}
		}
		if out, _ := cut(escape(s), n); utf8.RuneCountInString(out) > n {
			t.Fatalf("%d characters are shown, at most %d are taken", utf8.RuneCountInString(out), n)
		}
		if p := plain(s, "U0"); !utf8.ValidString(p) && utf8.ValidString(s) {
			t.Fatalf("%q is read as %q", s, p)
		}
	})
}
