package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
)

const hookToken = "hook-token-of-more-than-20-characters"

// slow is a model whose first answer comes piece by piece, as the test lets it, and
// that concludes what the code found.
type slow struct{ pieces chan string }

// play answers one request.
func (m slow) play(x *llmtest.Exchange) {
	if x.Number == 1 {
		x.Open()
		for more := true; more; {
			var text string
			select {
			case text, more = <-m.pieces:
				x.Event(llmtest.TextChunk(text))
			case <-x.Done:
				return
			}
		}
	}
	found := map[string]any{"outcome": "healthy", "summary": "The pod runs."}
	for _, msg := range x.Request.Messages {
		before, rest, ok := strings.Cut(msg.Text, "] dra_explain")
		_, rest, cause := strings.Cut(rest, "cause (0.97) ")
		subject, _, _ := strings.Cut(rest, ":")
		if ok && cause {
			found = map[string]any{"outcome": "root_cause", "summary": "No device of this cluster is an H200.", "causes": []map[string]any{{
				"subject": subject, "code": "dra.selector_excludes_all", "statement": "The claim asks for an H200, and no device is one", "confidence": 0.9,
				"evidence": []string{before[strings.LastIndex(before, "[")+1:]},
			}}}
			break
		}
	}
	raw, err := json.Marshal(found)
	if err != nil {
		x.Status(http.StatusInternalServerError, "text/plain", err.Error())
		return
	}
	x.Reply(llmtest.Answer{Calls: []llm.Call{llmtest.Call("conclude", string(raw))}})
}

// running is gumshoe as a process: its whole server on a recorded cluster that reacts.
type running struct {
	t   *testing.T
	url string
}

// office starts the server with a model, an alert webhook, and people who sign in.
func office(t *testing.T, id string, model *llmtest.Server) *running {
	t.Helper()
	cfg := app.Defaults()
	cfg.Store.Dir = t.TempDir()
	cfg.Model.Name, cfg.Model.BaseURL, cfg.Model.APIKeyFile = "openai/scripted", model.URL, secret(t, "key")
	s := &cfg.Server
	s.Listen, s.Execute = "127.0.0.1:0", true
	s.Auth.Tokens = people(t)
	s.Alertmanager = &alertmanager.Config{Auth: alertmanager.AuthConfig{BearerTokenFile: secret(t, hookToken)}, RecheckEvery: access.Duration(time.Second)}
	return &running{t, apptest.Serve(t, app.ServerOptions{Load: func() (app.Config, error) { return cfg, cfg.Validate() }, App: app.StageCase(id)}).URL}
}

// alert posts what Alertmanager posts of one alert about a pod.
func (o *running) alert(status string, began, ended time.Time) {
	o.t.Helper()
	labels := map[string]string{"alertname": "KubePodNotReady", "namespace": "train", "pod": "llama-ft-0", "severity": "critical"}
	body, err := json.Marshal(map[string]any{
		"version": "4", "groupKey": `{}:{alertname="KubePodNotReady"}`, "status": status, "receiver": "gumshoe", "groupLabels": map[string]string{"alertname": "KubePodNotReady"},
		"commonLabels": labels, "commonAnnotations": map[string]string{}, "externalURL": "http://alertmanager.example:9093", "truncatedAlerts": 0,
		"alerts": []map[string]any{{
			"status": status, "labels": labels, "annotations": map[string]string{"summary": "Pod train/llama-ft-0 has been in a non-ready state for longer than 15 minutes."},
			"startsAt": began.Format(time.RFC3339Nano), "endsAt": ended.Format(time.RFC3339Nano), "generatorURL": "http://prometheus.example:9090/graph", "fingerprint": "0123456789abcdef",
		}},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.url+alertmanager.Path, strings.NewReader(string(body)))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+hookToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if raw, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		o.t.Fatalf("the webhook answers %d: %v: %s", res.StatusCode, err, raw)
	}
}

// mark marks the page, and kept checks that it was not loaded again since.
func (b *browser) mark() {
	b.t.Helper()
	b.holds(`window.kept = true`)
}

func (b *browser) kept() {
	b.t.Helper()
	if !get(b, chromedp.Evaluate[bool](`window.kept === true`)) {
		b.t.Error("the page was loaded again instead of being kept up to date")
	}
}

// From an alert to a verified fix in browsers: the incident appears, its investigation
// fills the page, somebody asks and plans with the keys alone, somebody else approves on
// a phone, the alert ends, and everybody reads so, also without a script.
func TestBrowserIncident(t *testing.T) {
	t.Parallel()
	pieces := make(chan string, 2)
	model := llmtest.NewServer(t, llmtest.Forever(llmtest.Do(slow{pieces}.play)))
	o := office(t, "dra-selector-excludes-all", model)
	began := time.Now().Add(-16 * time.Minute).UTC()

	// The alert becomes an incident on a page that is open.
	ann := open(t, o.url, "ann", desktop())
	ann.says("Nobody has asked anything yet")
	ann.wait("#live-state.on")
	ann.mark()
	o.alert("firing", began, time.Time{})
	ann.says("1 alert firing")
	ann.says("investigating")
	ann.shot("incident-01-list")
	ann.kept()

	// Its investigation fills the page while it runs.
	ann.shortcut("j")
	ann.focus("a.row-main")
	ann.keys(kb.Enter)
	ann.holds(`location.pathname.startsWith("/sessions/s-")`)
	ann.wait("#live-state.on")
	ann.mark()
	ann.holds(`document.querySelectorAll(".timeline .call").length > 3`)
	ann.wait(".hypotheses li")
	ann.wait(`[id^="looks-"] .look`)
	for said := false; !said; said = get(ann, chromedp.Evaluate[bool](`document.querySelector(".words").textContent !== ""`)) {
		pieces <- "The claim is offered 48 devices. " // what was said before a page follows is not kept for it
	}
	pieces <- "Its selector lets none of them through. " // the end of a word lets it go
	ann.holds(`document.querySelector(".words").textContent.includes("lets none of them through.")`)
	ann.shot("incident-02-running")
	ann.kept()
	close(pieces)
	ann.says("asks for a device that no node has.")
	ann.kept()

	// The answer: chain, quotes in the evidence, and what was not seen.
	ann.wait("svg.graph a.symptom")
	ann.holds(`[...document.querySelectorAll(".look.cited[open] mark")].some(m => m.textContent.includes("H200"))`)
	ann.says("What could not be seen")
	ann.says("GPU telemetry")
	ann.shot("incident-03-answer")
	ann.click("svg.graph a.cause rect")
	ann.says("Only what is about ResourceClaim train/llama-ft-0-gpu")
	ann.shot("incident-04-object")

	// A follow-up and a plan, with the keys alone.
	bob := ann.another("bob", device{name: "phone-dark", width: 390, height: 844, dark: true, phone: true})
	bob.visit("/approvals")
	bob.says("Nothing waits for approval.")
	bob.wait("#live-state.on")
	bob.mark()
	ann.shortcut("n")
	ann.focus("#question")
	ann.keys("which devices would fit?")
	ann.holds(`document.getElementById("question").value === "which devices would fit?"`)
	ann.tab("form.ask button.main")
	ann.keys(kb.Enter)
	ann.wait("article:nth-of-type(2) .diagnosis")
	ann.says("12 free devices on 2 nodes")
	ann.shot("incident-05-follow-up")
	ann.tab("form.make button")
	ann.keys(kb.Enter)
	ann.says("waits for approval")
	ann.wait("#live-state.on")
	ann.mark()
	ann.shot("incident-06-plan")
	if get(ann, chromedp.Evaluate[bool](`!!document.querySelector("form[action$=approve]")`)) {
		t.Error("who may only ask is offered to approve")
	}

	// Somebody else finds it in the inbox of a phone, reads it and approves.
	bob.wait("#plan-list a[href^='/plans/']")
	bob.kept()
	bob.shot("incident-07-inbox")
	bob.click("#plan-list a[href^='/plans/']")
	bob.says("waits for approval")
	bob.wait("#live-state.on")
	bob.shot("incident-08-plan-phone")
	bob.write("#approve-comment", "the H100s are free")
	bob.click("#plan-consent form[action$=approve] button")
	bob.says("done and verified")
	bob.shot("incident-09-done-phone")
	ann.says("done and verified")
	ann.says("the H100s are free")
	ann.kept()

	// The alert ends; the recheck says that it is over.
	ann.click("a[href^='/sessions/s-']")
	ann.wait("#live-state.on")
	ann.says("done and verified")
	ann.mark()
	o.alert("resolved", began, time.Now().UTC())
	ann.says("alerts resolved")
	ann.says("is it over?")
	ann.holds(`document.querySelector("#session-head .badge").textContent === "resolved"`)
	ann.wait("article:nth-of-type(3).open .answer")
	ann.says("Nothing is wrong with what was asked about.")
	ann.kept()
	ann.shot("incident-10-resolved")

	// All of it is in the audit trail, and is read without a script.
	vic := ann.another("vic", device{name: "phone-plain", width: 390, height: 844, phone: true, plain: true})
	vic.click("#sessions a.row-main")
	vic.says("is it over?")
	vic.says("done and verified")
	vic.shot("incident-11-plain")
	vic.click("article:nth-of-type(1) p > a")
	vic.says("asks for a device that no node has.")
	vic.click("svg.graph a.cause rect")
	vic.says("Only what is about ResourceClaim train/llama-ft-0-gpu")
	vic.shot("incident-12-plain-answer")
	vic.visit("/audit")
	vic.says("The chain holds")
	vic.says("bob")
	vic.shot("incident-13-audit")
	if get(vic, chromedp.Evaluate[bool](`!document.getElementById("live-state").hidden`)) {
		t.Error("a page without a script says that it is live")
	}
}
