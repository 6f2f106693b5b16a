package web_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a tab of a headless Chromium, signed in as somebody.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string
	// dir is where pictures are kept, "" for none.
	dir string

	started bool
}

// device is what a page is looked at with.
type device struct {
	name          string
	width, height int64
	dark, phone   bool
	// plain runs no script.
	plain bool
}

func desktop() device { return device{name: "desktop", width: 1280, height: 900} }
func phone() device {
	return device{name: "phone-dark", width: 360, height: 740, dark: true, phone: true}
}

// pictures is the directory for pictures: the one of GUMSHOE_SCREENSHOTS, or that of the
// test where its artefacts are kept.
func pictures(t *testing.T) string {
	if dir := os.Getenv("GUMSHOE_SCREENSHOTS"); dir != "" {
		return dir
	}
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		return t.ArtifactDir()
	}
	return ""
}

// open starts a browser, or skips the test where there is none.
func open(t *testing.T, url, who string, d device) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("GUMSHOE_BROWSER") == "required" {
			t.Fatal("there is no Chromium, and GUMSHOE_BROWSER=required asks for one")
		}
		t.Skip("there is no Chromium to look at the pages with")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("headless", "new"), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(int(d.width), int(d.height)))
	alloc, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	b := &browser{t: t, ctx: ctx, url: url, dir: pictures(t)}
	b.begin(who, d)
	return b
}

// another opens a tab for somebody else, who shares nothing with the first.
func (b *browser) another(who string, d device) *browser {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	b.t.Cleanup(end)
	n := &browser{t: b.t, ctx: ctx, url: b.url, dir: b.dir}
	n.begin(who, d)
	return n
}

// begin makes the tab look like a device, and signs somebody in.
func (b *browser) begin(who string, d device) {
	b.t.Helper()
	b.do() // the first call starts the browser
	b.watch()
	scheme := "light"
	if d.dark {
		scheme = "dark"
	}
	send(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: d.width, Height: d.height, DeviceScaleFactor: 1, Mobile: d.phone})
	send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	send(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: d.plain})
	if who != "" {
		b.do(chromedp.Navigate(b.url+"/auth/login?return=/sessions"), chromedp.SendKeys(chromedp.CSS("input[name=token]"), token(who)), chromedp.Submit(chromedp.CSS("input[name=token]")), chromedp.WaitReady(chromedp.CSS("#main")))
	}
}

// send gives a command of the protocol to the tab.
func send[P, R any](b *browser, c cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, c, params); err != nil {
		b.t.Fatal(err)
	}
}

// watch fails the test for what a page must not do: an error on the console, such as a
// violation of the content security policy, and a request to another host.
func (b *browser) watch() {
	ctx, stop := context.WithCancel(b.ctx)
	console, requests := chromedp.Console(ctx), chromedp.Events(ctx, network.RequestWillBeSent)
	send(b, network.Enable, network.EnableParams{})
	var wg sync.WaitGroup
	var said, asked []string
	wg.Go(func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.Type == chromedp.ConsoleException {
				said = append(said, m.String())
			}
		}
	})
	wg.Go(func() {
		for e, err := range requests {
			if err != nil {
				return
			}
			if u := e.Request.URL; !strings.HasPrefix(u, b.url+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "about:") {
				asked = append(asked, u)
			}
		}
	})
	b.t.Cleanup(func() {
		stop()
		wg.Wait()
		for _, m := range said {
			b.t.Errorf("the console says: %s", m)
		}
		for _, u := range asked {
			b.t.Errorf("a page asked another host: %s", u)
		}
	})
}

// patience is how long a page may take to become what a test waits for.
const patience = 90 * time.Second

// do does something in the tab.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	get(b, chromedp.Steps(steps...))
}

// get does something that gives a value.
func get[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx := b.ctx
	if b.started {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(b.ctx, patience)
		defer cancel()
	}
	v, err := chromedp.Run(ctx, a)
	// The page was another, or a part of it new, between looking for an element and using
	// it: nothing was done yet.
	for err != nil && strings.Contains(err.Error(), "Could not find node with given id") && ctx.Err() == nil {
		v, err = chromedp.Run(ctx, a)
	}
	if err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText.slice(0, 2000) : ""`))
		b.t.Fatalf("%v; the page says:\n%s", err, text)
	}
	b.started = true
	return v
}

// visit opens a page of the server.
func (b *browser) visit(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url+path), chromedp.WaitReady(chromedp.CSS("#main")))
}

// holds waits until an expression is true, also across a change of the page.
func (b *browser) holds(js string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText.slice(0, 2000) : ""`))
			b.t.Fatalf("%s never holds (%v); the page says:\n%s", js, err, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// says waits until the page says a text.
func (b *browser) says(text string) {
	b.t.Helper()
	b.holds(fmt.Sprintf("!!document.body && document.body.innerText.replace(/\\s+/g, ' ').includes(%q)", text))
}

func (b *browser) write(css, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(css), text))
}

func (b *browser) click(css string) {
	b.t.Helper()
	b.do(chromedp.ScrollIntoView(chromedp.CSS(css)), chromedp.Click(chromedp.CSS(css)))
}

// wait waits until an element is there.
func (b *browser) wait(css string) {
	b.t.Helper()
	b.holds(fmt.Sprintf("!!document.querySelector(%q)", css))
}

// shot keeps a picture of the whole page where pictures are kept, and checks
// that nothing is wider than the screen.
func (b *browser) shot(name string) {
	b.t.Helper()
	wide := get(b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("body *")].filter(e => { const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 && !e.closest(".scroll, .top nav, .sr") }).slice(0, 5).map(e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 60))`))
	if len(wide) > 0 {
		b.t.Errorf("%s is wider than the screen: %q", name, wide)
	}
	if b.dir == "" {
		return
	}
	png := get(b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// The whole way in a browser: a question, its investigation as it goes on, a follow-up,
// the chain and its evidence, a plan, its approval and what came of it.
func TestBrowserStory(t *testing.T) {
	t.Parallel()
	for _, d := range []device{desktop(), phone()} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			h := stage(t, "k8s-service-selector", nil)
			b := open(t, h.srv.URL, "root", d)
			b.shot(d.name + "-1-empty")
			b.write("#question", "why does service web not answer")
			b.write("#namespace", "shop")
			b.click("form.ask button.main")
			b.says("The selector of Service shop/web matches no pod.")
			b.shot(d.name + "-2-answer")
			b.write("#question", "and which pods does it mean?")
			b.click("form.ask button.main")
			b.wait("article:nth-of-type(2) #evidence .look")
			b.says("Show the investigation")
			b.shot(d.name + "-3-follow-up")
			b.click("form.make button")
			b.says("waits for approval")
			b.shot(d.name + "-4-plan")
			b.write("#approve-comment", "looks right")
			b.click("#plan-consent form[action$=approve] button")
			b.says("done and verified")
			b.shot(d.name + "-5-done")
			b.visit("/audit")
			b.says("The chain holds")
			b.shot(d.name + "-6-audit")
			b.visit("/status")
			b.shot(d.name + "-7-status")
			b.visit("/sessions")
			b.says("root cause")
			b.shot(d.name + "-8-list")
		})
	}
}

// Every part of an answer in a browser, also where each text is hostile: nothing of it
// runs, nothing is wider than the screen.
func TestBrowserAnswer(t *testing.T) {
	t.Parallel()
	h := stage(t, "k8s-service-selector", nil)
	page := h.written("00000000000000aa", full(), fullAlert())
	r, alert := hostileReport()
	evil := h.written("00000000000000bb", r, alert)
	for _, d := range []device{desktop(), phone()} {
		t.Run(d.name, func(t *testing.T) {
			b := open(t, h.srv.URL, "ann", d)
			b.visit(page)
			b.wait("svg.graph a.cause")
			b.shot(d.name + "-answer-full")
			b.click("svg.graph a.cause rect")
			b.says("Only what is about Device gpu.nvidia.com/h100-11/gpu-6")
			b.visit(page + "#E3") // a link opens what it leads to
			b.holds(`document.getElementById("E3").open && document.getElementById("others").open`)
			b.click(".theme button")
			b.wait("html[data-theme]")
			b.shot(d.name + "-answer-switched")
			b.visit(evil)
			b.holds(`document.querySelectorAll("script").length === 1 && !document.querySelector("main img")`)
			b.shot(d.name + "-answer-hostile")
		})
	}
}

func (b *browser) keys(s string, o ...chromedp.KeyOption) { b.do(chromedp.KeyEvent(s, o...)) }

// shortcut presses a key as a keyboard does, in one event with its letter: what the page
// takes as a command is then not written into the field that it leads to.
func (b *browser) shortcut(keys string) {
	b.t.Helper()
	for _, r := range keys {
		k := input.DispatchKeyEventParams{Key: string(r), WindowsVirtualKeyCode: int64(unicode.ToUpper(r))}
		if r == '\r' {
			k.Key = "Enter"
		}
		down := k
		down.Type, down.Text, down.UnmodifiedText = kb.KeyDown, string(r), string(r)
		send(b, input.DispatchKeyEvent, down)
		k.Type = kb.KeyUp
		send(b, input.DispatchKeyEvent, k)
	}
}

// focus waits until an element has the focus.
func (b *browser) focus(css string) {
	b.t.Helper()
	b.holds(fmt.Sprintf("!!document.activeElement && document.activeElement.matches(%q)", css))
}

// tab goes on with Tab until an element has the focus, and checks that it is seen.
func (b *browser) tab(css string) {
	b.t.Helper()
	for range 60 {
		b.keys(kb.Tab)
		if get(b, chromedp.Evaluate[bool](fmt.Sprintf("document.activeElement.matches(%q)", css))) {
			seen := get(b, chromedp.Evaluate[string](`(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + " " + s.outlineWidth })()`))
			if seen != "solid 3px" {
				b.t.Errorf("the focus on %s is not seen: %s", css, seen)
			}
			return
		}
	}
	b.t.Fatalf("Tab never comes to %s", css)
}

// Everything can be done with the keys alone, and what has the focus is seen.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	h := stage(t, "k8s-service-selector", nil)
	b := open(t, h.srv.URL, "bob", desktop())
	keys, focus, tab := b.keys, b.focus, b.tab
	b.visit("/sessions")
	keys(kb.Tab)
	focus(".skip")
	b.shortcut("?")
	focus("#keys summary")
	b.shortcut("/")
	focus("#q")
	keys(kb.Escape)
	b.shortcut("n")
	focus("#question")
	keys("why does service web not answer")
	b.holds(`document.getElementById("question").value === "why does service web not answer" && document.getElementById("q").value === ""`)
	keys(kb.Tab)
	keys("shop")
	keys(kb.Enter)
	b.says("The selector of Service shop/web matches no pod.")
	b.wait("#evidence .look")
	b.shortcut("e")
	focus(".look > summary")
	tab("form.make button")
	keys(kb.Enter)
	b.says("waits for approval")
	tab("#plan-consent form[action$=approve] button")
	keys(kb.Enter)
	b.says("done and verified")
	b.shortcut("gi")
	b.holds(`location.pathname === "/sessions" && document.readyState === "complete"`)
	b.wait("#sessions a.row-main")
	b.shortcut("j")
	focus("a.row-main")
	keys(kb.Enter)
	b.holds(`location.pathname.startsWith("/sessions/s-")`)
}
