package render_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                      "",
		"plain text":            "plain text",
		"  a \t b\r\n\n c  ":    "a b c",
		"\x1b[1;31mred\x1b[0m":  "red",
		"\x1b[2J\x1b[Hgone":     "gone",
		"\x1b]0;title\x07after": "after",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1b]0;left open and on":                  "0;left open and on",
		"\x1b[31":                                  "",
		"\x1b[31\nx":                               "x",
		"\x1bcreset":                               "creset",
		"a\x1b":                                    "a",
		"nul\x00bell\x07del\x7fc1\u009b2J":         "nul bell del c1 2J",
		"bad\xff\xfeutf":                           "bad utf",
		"\u202ereversed\u202c":                     "reversed",
		"zero\u200bwidth\ufeff":                    "zerowidth",
		"hidden\U000e0041\U000e0042":               "hidden",
		"soft\u00adhyphen":                         "softhyphen",
		"line\u2028para\u2029end":                  "line para end",
		"family 👩\u200d👧":                          "family 👩\u200d👧",
		"می\u200cخواهم":                            "می\u200cخواهم",
		"नमस्ते e\u0301":                           "नमस्ते e\u0301",
		"no-break\u00a0space":                      "no-break space",
	} {
		if diff := cmp.Diff(want, render.Clean(in)); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

// anyText draws text that is hard to show.
func anyText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[", "\x1b]0;", "\x07", "`", "|", "\n", "[x](http://y)", "**", "\u202e", "漢字", "🔥", " ", "<b>", "@a", "E1", "\\", "- ", "1. ", "very-long-name"})), 0, 8).Draw(t, "parts"), "")
	})
}

// Nothing that is rendered can reach the terminal but text and the styles asked
// for, whatever a report holds.
func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := func() string { return anyText().Draw(t, "text") }
		r := incident.Report{Question: s(), StopReason: s(), Suspicious: []string{s()}, Evidence: []incident.Evidence{{ID: s(), Tool: s(), Args: []byte(s()), Text: s(), Error: s()}},
			Diagnosis: incident.Diagnosis{Outcome: incident.Outcome(rapid.SampledFrom([]string{"root_cause", "healthy", "inconclusive", "odd"}).Draw(t, "outcome")), Summary: s(),
				Causes:   []incident.Cause{{Statement: s(), Code: s(), Detail: []string{s(), s()}, Confidence: 0.5, Evidence: []string{s()}}},
				Chain:    []incident.Edge{{From: incident.Ref{Kind: s(), Namespace: s(), Name: s()}, Relation: s(), To: incident.Ref{Kind: s(), Name: s()}, Note: s(), Evidence: []string{s()}}},
				RuledOut: []incident.Refutation{{What: s(), Why: s()}}, NotSeen: []incident.Gap{{Source: s(), Why: s(), Fix: s()}}, WouldFit: []incident.Claim{{Text: s()}},
				Proposals: []incident.Proposal{{Action: s(), Params: map[string]string{s(): s()}, Why: s()}}, Unexplained: []incident.Finding{{Message: s()}},
				Unsupported: []incident.Unsupported{{Claim: s(), Reasons: []string{s()}}}, Ask: &incident.Clarification{Text: s()}, Checked: []incident.CheckedItem{{What: s(), Result: s()}}}}
		width := rapid.SampledFrom([]int{0, 1, 20, 33, 80, 200}).Draw(t, "width")
		texts := map[string]string{
			"text": render.Text(r, render.TextOptions{Width: width}), "markdown": render.Markdown(r),
			"color": render.Text(r, render.TextOptions{Width: width, Color: true}),
		}
		for name, text := range texts {
			if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
				t.Fatalf("%s is no text: %q", name, text)
			}
			bare := text
			if name == "color" {
				for _, style := range []string{"0", "1", "2", "36"} {
					bare = strings.ReplaceAll(bare, "\x1b["+style+"m", "")
				}
				if strings.Count(text, "\x1b[0m")*2 != strings.Count(text, "\x1b[") {
					t.Fatalf("a style is left open: %q", text)
				}
				if bare != texts["text"] {
					t.Fatalf("colour changes the text:\n%q\n%q", bare, texts["text"])
				}
				for line := range strings.Lines(text) {
					if strings.Count(line, "\x1b[0m")*2 != strings.Count(line, "\x1b[") {
						t.Fatalf("a style goes over the end of a line: %q", line)
					}
				}
			}
			for _, c := range bare {
				if c != '\n' && unicode.IsControl(c) || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x200b {
					t.Fatalf("%s holds %U: %q", name, c, text)
				}
			}
		}
		if again := render.Markdown(r); again != texts["markdown"] {
			t.Fatal("the same report gives another text")
		}
	})
}

// A line is as wide as asked for, words that are longer aside, and nothing of the
// text is lost by wrapping.
func TestWrapping(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z0-9-]{1,24}|[漢字仮名]{1,8}|🔥`), 1, 40).Draw(t, "words")
		width := rapid.IntRange(32, 140).Draw(t, "width")
		text := strings.Join(words, " ")
		out := render.Text(incident.Report{Question: "q", Diagnosis: incident.Diagnosis{Outcome: incident.Inconclusive, Unexplained: []incident.Finding{{Message: text}}}}, render.TextOptions{Width: width})
		_, body, ok := strings.Cut(out, "Unexplained ")
		if !ok {
			t.Fatal(out)
		}
		var got []string
		for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
			if i > 0 {
				if !strings.HasPrefix(line, strings.Repeat(" ", 12)) {
					t.Fatalf("line %d is not under its text: %q", i, line)
				}
				line = line[12:]
			}
			cols := 0
			for _, r := range line {
				cols++
				if r > 0x2e00 {
					cols++
				}
			}
			if cols > width-12 && strings.Contains(line, " ") {
				t.Fatalf("%d columns of %d: %q", cols, width-12, line)
			}
			got = append(got, line)
		}
		if strings.ReplaceAll(strings.Join(got, ""), " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Fatalf("text is lost:\n%q\n%q", text, got)
		}
	})
}

// The order of the lines is the order in which they are needed.
func TestOrder(t *testing.T) {
	t.Parallel()
	var got []string
	for line := range strings.Lines(render.Text(reports()["root"], render.TextOptions{Width: 120})) {
		if label := strings.TrimSpace(line[:11]); label != "" {
			got = append(got, label)
		}
	}
	if diff := cmp.Diff([]string{"Question", "Cause", "Chain", "Ruled out", "Not seen", "Would fit", "Next"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	pod, claim := ref("Pod", "a", "x"), ref("ResourceClaim", "a", "c")
	for want, edges := range map[string][]incident.Edge{
		"":                                     nil,
		"Pod x -claims-> ResourceClaim c [E1]": {edge(pod, "claims", claim, "", "E1")},
		"Pod a/x -held by-> Pod b/y":           {edge(pod, "held-by", ref("Pod", "b", "y"), "")},
		"Pod x -claims-> ResourceClaim c (2 of 8)":                 {edge(pod, "claims", claim, "2 of 8")},
		"Pod x -class-> DeviceClass g -offered by-> 6 nodes":       {edge(pod, "class", ref("DeviceClass", "", "g"), "offered by 6 nodes")},
		"Pod x -uses-> Secret s · Pod x -claims-> ResourceClaim c": {edge(pod, "uses", ref("Secret", "a", "s"), ""), edge(pod, "claims", claim, "")},
		"Pod x -allocated-> Device gpu/p/d":                        {edge(pod, "allocated", incident.DeviceRef("lab", "gpu", "p", "d"), "")},
	} {
		if got := render.Chain(edges); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What is beside the answer does not stand before it: a pasted log is shortened.
func TestLongQuestion(t *testing.T) {
	t.Parallel()
	r := incident.Report{Question: strings.Repeat("log line\n", 10_000)}
	for name, text := range map[string]string{"text": render.Text(r, render.TextOptions{}), "markdown": render.Markdown(r)} {
		first, _, _ := strings.Cut(text, "\n")
		if n := utf8.RuneCountInString(first); n > 450 || !strings.HasSuffix(first, "…") {
			t.Errorf("%s begins with %d characters", name, n)
		}
	}
}

// The tables of Markdown keep their columns whatever is in them.
func TestMarkdownTable(t *testing.T) {
	t.Parallel()
	var rows []string
	for line := range strings.Lines(render.Markdown(reports()["hostile"])) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, line)
		}
	}
	if len(rows) != 4 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		if n := strings.Count(row, "|") - strings.Count(row, "\\|"); n != 5 {
			t.Errorf("%d bars in %s", n, row)
		}
	}
}

// Markup of hostile text is text: the characters that make it are escaped
// wherever they stand outside of code.
func TestMarkdownHoldsNoMarkup(t *testing.T) {
	t.Parallel()
	text := render.Markdown(reports()["hostile"])
	for _, bad := range []string{"<script", " **bold**", " _i_", " ~~s~~", "[click](http", "![img]", "http://evil", "www.evil", " @admin", " $x^2$", " &lt; \\`"} {
		for line := range strings.Lines(text) {
			outside := strings.Join(slices.Collect(func(yield func(string) bool) {
				for i, part := range strings.Split(strings.ReplaceAll(line, "\\`", ""), "`") {
					if i%2 == 0 && !yield(part) {
						return
					}
				}
			}), " ")
			if strings.Contains(outside, bad) {
				t.Errorf("%q stands in %.120q", bad, outside)
			}
		}
	}
}
