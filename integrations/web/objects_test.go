package web_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/web"
)

// finder answers for the cluster.
type finder struct {
	web.Service
	refs   []incident.Ref
	err    error
	prefix string
}

func (f *finder) Objects(_ context.Context, prefix string, _ int) ([]incident.Ref, error) {
	f.prefix = prefix
	return f.refs, f.err
}

// What is offered behind "@" is text, bounded, and for those who may ask.
func TestObjects(t *testing.T) {
	t.Parallel()
	f := &finder{}
	h := stage(t, "k8s-service-selector", func(s *app.Service) web.Service { f.Service = s; return f })
	evil := "<img src=x onerror=alert(1)>\u202e\"'"
	for range 20 {
		f.refs = append(f.refs, incident.Ref{Kind: "Pod", Namespace: evil, Name: evil})
	}
	a := h.as("ann", "/objects?prefix="+strings.Repeat("a", 5000), nil)
	if a.status != 200 || strings.Contains(a.body, "<img") || strings.Contains(a.body, "\u202e") || strings.Count(a.body, `role="option"`) != 8 || len(f.prefix) > 400 {
		t.Errorf("%d %s; asked for %d bytes", a.status, a.body, len(f.prefix))
	}
	f.refs = nil
	if a := h.as("ann", "/objects?prefix=x", nil); a.status != 200 || !strings.Contains(a.body, "Nothing is called like that.") {
		t.Errorf("nothing found: %d %s", a.status, a.body)
	}
	f.err = &tool.Error{Kind: tool.Forbidden, User: "this identity may not list pods", Err: errors.New("secret detail")}
	if a := h.as("ann", "/objects", nil); a.status != 200 || !strings.Contains(a.body, "may not list pods") || strings.Contains(a.body, "secret detail") {
		t.Errorf("a failure: %d %s", a.status, a.body)
	}
	if a := h.as("vic", "/objects", nil); a.status != 403 {
		t.Errorf("who may only look is answered %d", a.status)
	}
}

// "@" completes objects of the cluster with keys and by touch; without a script the
// form is what it was.
func TestBrowserObjects(t *testing.T) {
	t.Parallel()
	h := stage(t, "k8s-service-selector", nil)
	b := open(t, h.srv.URL, "ann", desktop())
	value := func(b *browser, want string) {
		t.Helper()
		if got := get(b, chromedp.Evaluate[string](`document.getElementById("question").value`)); got != want {
			t.Errorf("the question is %q, want %q", got, want)
		}
	}
	b.says("@ names an object of the cluster.")
	b.write("#question", "why does @shop/we")
	b.wait(`#choices [aria-selected="true"]`)
	b.holds(`document.activeElement.getAttribute("aria-activedescendant") === document.querySelector('#choices [aria-selected="true"]').id`)
	b.shot("objects")
	b.holds(`document.querySelectorAll("#choices [role=option]").length > 1`)
	b.keys(kb.ArrowDown)
	b.wait(`#choice-1[aria-selected="true"]`)
	b.keys(kb.ArrowUp)
	b.wait(`#choice-0[aria-selected="true"]`)
	first := get(b, chromedp.Evaluate[string](`document.getElementById("choice-0").dataset.insert`))
	b.shortcut(kb.Enter)
	b.holds(`document.getElementById("choices").hidden`)
	value(b, "why does "+first+" ")
	b.write("#question", "not answer, @zzzz")
	b.says("Nothing is called like that.")
	b.keys(kb.Escape)
	b.holds(`document.getElementById("choices").hidden`)
	b.focus("#question")
	value(b, "why does "+first+" not answer, @zzzz")

	p := b.another("ann", device{name: "phone-light", width: 390, height: 844, phone: true})
	p.write("#question", "why does @web")
	p.holds(`[...document.querySelectorAll("#choices [role=option]")].some(o => o.dataset.insert === "Service shop/web")`)
	p.shot("objects-phone")
	p.click(`#choices [data-insert="Service shop/web"]`)
	value(p, "why does Service shop/web ")
	p.write("#question", "not answer")
	p.click("form.ask button.main")
	p.says("The selector of Service shop/web matches no pod.")

	n := b.another("ann", device{name: "plain", width: 390, height: 844, phone: true, plain: true})
	if get(n, chromedp.Evaluate[bool](`!document.getElementById("choices-hint").hidden`)) {
		t.Error("without a script the form promises what it does not do")
	}
	n.write("#question", "why does @web of service shop/web not answer")
	n.click("form.ask button.main")
	n.says("why does @web of service shop/web not answer")
	for !get(n, chromedp.Evaluate[bool](`!!document.querySelector(".diagnosis")`)) {
		n.do(chromedp.Reload())
	}
	n.says("The selector of Service shop/web matches no pod.")
}
