package web

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"pgregory.net/rapid"
)

func marked(ps []piece) string {
	var b strings.Builder
	for _, p := range ps {
		if p.Mark {
			b.WriteString("[" + p.Text + "]")
		} else {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

func TestQuotes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, claim, want string }{
		"a name":           {"pod train/llama-0 is Pending", "Pod train/llama-0 waits", "[pod train/llama-0] is Pending"},
		"a figure":         {"SM 1005 MHz of 1755 MHz", "the clock is 1005 MHz", "SM [1005 MHz] of 1755 MHz"},
		"words in a row":   {"xx selector matches no pod at all", "its selector matches no pod", "xx [selector matches no pod] at all"},
		"ordinary words":   {"the pod is there", "the pod was here", "the pod is there"},
		"case and stops":   {"Node h100-11.", "node H100-11 throttles", "[Node h100-11]."},
		"nothing claimed":  {"pod train/llama-0", "", "pod train/llama-0"},
		"lines stay apart": {"a: llama-0\n  b: llama-1\n", "llama-1", "a: llama-0\n  b: [llama-1]\n"},
	} {
		if got := marked(quotes(tc.text, []string{tc.claim})); got != tc.want {
			t.Errorf("%s: %q, not %q", name, got, tc.want)
		}
	}
}

// Marking changes no text.
func TestQuotesKeepTheText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, claims := rapid.String().Draw(t, "text"), rapid.SliceOf(rapid.String()).Draw(t, "claims")
		claims = append(claims, text)
		var b strings.Builder
		for _, p := range quotes(text, claims) {
			b.WriteString(p.Text)
		}
		if b.String() != text {
			t.Fatalf("%q became %q", text, b.String())
		}
	})
}

// allowed are the elements that a model's words may come to.
func allowed() string { return " p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong hr br " }

func checkMarkdown(t interface{ Fatalf(string, ...any) }, src string) string {
	out, err := newMarkdown().html(src)
	if err != nil {
		t.Fatalf("%q: %v", src, err)
	}
	z := html.NewTokenizer(strings.NewReader(string(out)))
	for z.Next() != html.ErrorToken {
		tok := z.Token()
		if tok.Type != html.StartTagToken && tok.Type != html.SelfClosingTagToken && tok.Type != html.CommentToken {
			continue
		}
		if tok.Type == html.CommentToken || !strings.Contains(allowed(), " "+tok.Data+" ") {
			t.Fatalf("%q becomes %q", src, out)
		}
		for _, a := range tok.Attr {
			if a.Key != "class" && a.Key != "start" {
				t.Fatalf("%q becomes %q", src, out)
			}
		}
	}
	return string(out)
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"**The** claim `x` is _wrong_":                           "<p><strong>The</strong> claim <code>x</code> is <em>wrong</em></p>",
		"[here](https://evil.example/?q=1)":                      "<p>here (https://evil.example/?q=1)</p>",
		"![pixel](https://evil.example/p.png)":                   "<p>pixel (https://evil.example/p.png)</p>",
		"<https://evil.example>":                                 "<p>https://evil.example</p>",
		"[x](javascript:alert(1))":                               "<p>x (javascript:alert(1))</p>",
		"a <img src=x onerror=alert(1)> b":                       "<p>a &lt;img src=x onerror=alert(1)&gt; b</p>",
		"<script>alert(1)</script>":                              "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
		"- one\n- two":                                           "<ul>\n<li>one</li>\n<li>two</li>\n</ul>",
		"~~~js\n<b>\n~~~":                                        "<pre><code class=\"language-js\">&lt;b&gt;\n</code></pre>",
		"[ref]\n\n[ref]: https://evil.example \"x\" onclick=\"y": "<p>[ref]</p>\n<p>[ref]: https://evil.example &quot;x&quot; onclick=&quot;y</p>",
	} {
		if got := strings.TrimSpace(checkMarkdown(t, src)); got != want {
			t.Errorf("%q becomes\n%s, not\n%s", src, got, want)
		}
	}
}

// FuzzMarkdown holds whatever a model says to the few elements that are allowed.
func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"[a](b)", "<div onclick=x>", "<!-- x -->", "<?php ?>", "<![CDATA[x]]>", "# h {onclick=x}", "![a](b \"c\")", "&#60;script&#62;", "<a\nhref=x>", "1. x\n   <p>y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) { checkMarkdown(t, src) })
}

func TestDiff(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, l := range diff("--- a\n+++ b\n@@ -1 +1 @@\n same\n-  old\n+  new\n") {
		b.WriteString(l.Class + "|" + l.Mark + "|" + l.Text + "\n")
	}
	const want = "hunk| |--- a\nhunk| |+++ b\nhunk| |@@ -1 +1 @@\nsame| |same\ndel|-|  old\nadd|+|  new\n"
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	if n := len(diff(strings.Repeat("+x\n", 3*maxDiff))); n != maxDiff+1 {
		t.Errorf("%d lines", n)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{0: "just now", -30 * time.Second: "just now", -5 * time.Minute: "5 min ago", -90 * time.Minute: "1 h 30 min ago", -80 * time.Hour: "3 days ago", 26 * time.Hour: "in 26 h"} {
		if got := moment(now.Add(d), now).Ago; got != want {
			t.Errorf("%v: %q, not %q", d, got, want)
		}
	}
	if (moment(time.Time{}, now) != when{}) {
		t.Error("the zero time is shown")
	}
}

func TestSentence(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "there is none": "There is none.", "kube.oom is found": "kube.oom is found.", "why?": "Why?", "über alles": "Über alles."} {
		if got := sentence(in); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestMiddle(t *testing.T) {
	t.Parallel()
	if got := middle("llama-3-70b-instruct-decode-7d9c5f4b6-a1b2c", 21); got != "llama-3-70…5f4b6-a1b2c" && len([]rune(got)) != 21 {
		t.Errorf("%q", got)
	}
}
