package web_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

var update = flag.Bool("update", false, "write the golden files")

// steady takes out of a page what differs from run to run: ids, keys, digests, times.
func steady(page string) string {
	_, page, _ = strings.Cut(page, "<main")
	page, _, _ = strings.Cut(page, "</main>")
	for _, r := range []struct{ re, with string }{
		{`\b(s|run|plan)-[0-9a-f]{12,16}\b`, "$1-ID"}, {`sha256:[0-9a-f]{8,64}|sha256%3[aA][0-9a-f]{64}`, "DIGEST"}, {`name="key" value="[^"]*"`, `name="key" value="KEY"`},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"}, {`\d{4}-\d\d-\d\d \d\d:\d\d UTC`, "TIME"}, {`\b\d\d:\d\d:\d\d( UTC)?`, "TIME"}, {`\b\d+ ms\b`, "N ms"}, {`\b\d+\.\d s\b`, "N s"}, {`\.\d+\.[a-z]+-\d\.`, ".SEQ."},
		{`\n\s*\n`, "\n"},
	} {
		page = regexp.MustCompile(r.re).ReplaceAllString(page, r.with)
	}
	return "<main" + page + "</main>\n"
}

func golden(t *testing.T, name, page string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden.html")
	got := steady(page)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with go test -update and read it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it anew):\n%s", file, diff)
	}
}

// The main pages of real investigations, as they are sent.
func TestGoldenPages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		id string
		q  incident.Question
	}{
		{"k8s-service-selector", service()},
		{"dra-selector-excludes-all", incident.Question{Text: "Why is pod train/llama-ft-0 pending?"}},
	} {
		t.Run(tc.id, func(t *testing.T) {
			t.Parallel()
			h := stage(t, tc.id, nil)
			s, turn := h.asked(tc.q)
			page := h.as("bob", "/sessions/"+s.ID, nil).is(200)
			// Calls run side by side, so the order of their lines is not always the same.
			body := regexp.MustCompile(`(?s)<ol class="timeline".*?</ol>`).ReplaceAllString(page.body, "<!-- the timeline -->")
			golden(t, tc.id+"-session", body)
			rec, err := h.svc.Propose(t.Context(), session.PlanAsk{Session: s.ID, Run: turn.Run, Source: session.Web, By: incident.Person{Name: "ann", Groups: []string{"sre"}}})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tc.id+"-plan", h.as("bob", "/plans/"+rec.Plan.ID, nil).is(200).body)
			golden(t, tc.id+"-list", h.as("bob", "/sessions", nil).is(200).body)
		})
	}
}
