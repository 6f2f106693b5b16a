package tui

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		name string
		args []string
		ok   bool
		err  string
	}{
		"why is /dev/nvidia0 gone": {},
		"/dev/nvidia0 is gone":     {},
		"/":                        {},
		"/ help":                   {},
		"// no":                    {},
		"/help":                    {name: "help", ok: true},
		"/?":                       {name: "help", ok: true},
		"  /EV  e3 ":               {name: "evidence", args: []string{"e3"}, ok: true},
		"/reject\nnot\ttoday":      {name: "reject", args: []string{"not", "today"}, ok: true},
		"/quit":                    {name: "quit", ok: true},
		"/hel":                     {ok: true, err: "/help is one"},
		"/zzz":                     {ok: true, err: "/help lists them"},
		"/resume":                  {name: "resume", ok: true, err: "/resume needs ID | latest"},
		"/export xml":              {name: "export", ok: true, err: `not "xml"`},
		"/copy E3":                 {name: "copy", args: []string{"E3"}, ok: true},
		"/reject " + strings.Repeat("x", maxCommand): {ok: true, err: "at most"},
	} {
		cmd, ok, err := parseCommand(line)
		if ok != want.ok || (err != nil) != (want.err != "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%.40q: %v, %v", line, ok, err)
		}
		if err == nil && (cmd.name != want.name || !slices.Equal(cmd.args, want.args)) {
			t.Errorf("%.40q: %+v", line, cmd)
		}
	}
}

// What people type is a command or a question, and never breaks anything.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"/help", "/reject plan-1 no", "why?", "/\x00", "/export json a b", "/é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		cmd, ok, err := parseCommand(line)
		if !ok && (err != nil || cmd.name != "") {
			t.Fatalf("no command, and yet %+v, %v", cmd, err)
		}
		if ok && err == nil {
			if _, known := findSpec(cmd.name); !known {
				t.Fatalf("command %q is not known", cmd.name)
			}
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Fatalf("%q", err)
		}
	})
}

// harmless fails on anything but text, colors and line ends.
func harmless(t *testing.T, lines []string, width int) {
	t.Helper()
	for _, l := range lines {
		if n := ansi.StringWidth(l); width > 0 && n > width {
			t.Errorf("%d columns in a width of %d: %q", n, width, l)
		}
		rest := l
		for rest != "" {
			seq, _, n, _ := ansi.DecodeSequence(rest, ansi.NormalState, nil)
			rest = rest[n:]
			color := strings.HasPrefix(seq, "\x1b[") && strings.HasSuffix(seq, "m")
			if len(seq) > 0 && (seq[0] < 0x20 || seq[0] == 0x7f) && !color {
				t.Fatalf("%q draws %q", l, seq)
			}
		}
	}
}

const hostile = "ok\x1b[2J\x1b]0;owned\x07\x1b[?1049h\u202egpj.exe\u200b\x9b31m \x1bPq#0\x1b\\ \x1b]8;;http://x\x07link\x1b]8;;\x07\rCause none\x00\x7f\x08\x08 end\x1b[31m red \xff\xfe"

// Whatever a cluster or a model says, nothing but text is drawn, and no line is wider
// than the window.
func TestHostileText(t *testing.T) {
	t.Parallel()
	th := newTheme("dark", true)
	ref := incident.Ref{Kind: "Pod", Namespace: "a" + hostile, Name: hostile}
	ev := incident.Evidence{ID: "E1", Tool: hostile, Args: json.RawMessage(`{"` + "k" + `":"` + `\u001b[2J` + `"}`), Text: strings.Repeat(hostile+"\n", 3), Error: hostile, Data: json.RawMessage(`{"points":[[1,1],[2,3]],"labels":{"a":"\u001b[2Jx"}}`), Suspicious: []string{hostile}}
	d := incident.Diagnosis{Outcome: incident.RootCause, Summary: hostile, Causes: []incident.Cause{{Statement: hostile, Subject: ref, Detail: []string{hostile}, Evidence: []string{"E1"}}},
		Chain: []incident.Edge{{From: ref, Relation: hostile, To: incident.Ref{Kind: "Node", Name: "n"}, Note: hostile, Evidence: []string{hostile}}}}
	r := incident.Report{ID: hostile, Question: hostile, Model: hostile, Diagnosis: d, Evidence: []incident.Evidence{ev}}
	c := newChat(t.Context(), Config{Now: time.Now, Theme: "dark"})
	for _, width := range []int{20, 40, 79, 199} {
		tn := newTurn(session.Turn{ID: "run-1", Question: incident.Question{Text: hostile}}, time.Now())
		for i, e := range []event.Event{
			{Type: event.Phase, Phase: hostile}, {Type: event.ToolStarted, Call: &event.Call{ID: "E1", Tool: hostile, Args: hostile}}, {Type: event.ToolFinished, Evidence: &ev},
			{Type: event.ModelStarted, Model: &event.Model{Name: hostile}}, {Type: event.Delta, Model: &event.Model{Text: hostile}}, {Type: event.Notice, Notice: &event.Message{Level: "warning", Text: hostile}},
			{Type: event.Hypotheses, Hypotheses: []incident.Hypothesis{{Cause: d.Causes[0], RuledBy: []incident.Refutation{{Why: hostile}}}}},
		} {
			tn.take(session.Told{Seq: uint64(i + 1), Event: e}, time.Now(), th, width-2)
		}
		c.resize(width+1, 40)
		c.turn = tn
		c.session.Cluster, c.queue, c.hint = hostile, []string{hostile}, clean(hostile)
		lines, _ := c.tail(40)
		harmless(t, lines, width)
		for _, expanded := range []bool{false, true} {
			b := brush{th, width, expanded}
			it := &cell{item: turnItem{turn: tn.Turn, looks: tn.looks, said: []string{hostile}, report: &r, warnings: []string{hostile}}}
			harmless(t, it.view(b), width)
		}
		harmless(t, hard(c.evidenceLines(ev, ev.Text), width), width)
		harmless(t, hard(chainTree(th, d.Chain), width), width)
	}
}

// FuzzMarkdown draws what a model may say.
func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{hostile, "# a\n\n- b\n  1. c\n\n```diff\n+x\n-y\n```\n> q\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "[x](y) <http://z> ![i](j) ~~s~~ **b** _i_ `c`", "- [ ] t\n- [x] u\n\n---\n<b>raw</b>", "世界 👩‍👩‍👧 é"} {
		f.Add(s, 40)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		if len(s) > 4<<10 {
			return
		}
		width = 10 + max(width, -width)%100
		th := newTheme("dark", true)
		harmless(t, hard(renderMarkdown(th, s, width), width), width)
		st := newStream(th, width)
		for i := 0; i < len(s); i += 7 {
			st.add(s[i:min(i+7, len(s))])
			harmless(t, hard(st.view(), width), width)
		}
	})
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	in := "# Head\n\nSome **bold** and `code` that is long enough to wrap.\n\n- one\n- two\n  1. deep\n\n| a | b |\n|---|---|\n| 1 | 22 |\n\n```diff\n+x\n```\n> said\n\n[here](http://x.example) <http://y.example>"
	want := "Head\n\nSome bold and code that is\nlong enough to wrap.\n\n• one\n• two\n  1. deep\n\na  b\n1  22\n\n  +x\n\n│ said\n\nhere (http://x.example)\nhttp://y.example"
	if got := ansi.Strip(strings.Join(renderMarkdown(newTheme("ansi", true), in, 28), "\n")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A long answer costs by its pieces, not by its length times its pieces, and comes out
// as if it had come at once.
func TestStreamDrawsOnce(t *testing.T) {
	t.Parallel()
	th := newTheme("ansi", true)
	var all strings.Builder
	s := newStream(th, 60)
	for i := range 400 {
		piece := fmt.Sprintf("Paragraph %d has **words** in it.\n\n", i)
		all.WriteString(piece)
		for _, part := range []string{piece[:9], piece[9:]} {
			s.add(part)
			s.view()
		}
	}
	if got, want := s.view(), renderMarkdown(th, all.String(), 60); !slices.Equal(got, want) {
		t.Errorf("%d lines, %d at once", len(got), len(want))
	}
	if n := all.Len(); s.drawn > 4*n {
		t.Errorf("%d bytes were drawn for a text of %d", s.drawn, n)
	}
	s.resize(th, 20)
	if got, want := s.view(), renderMarkdown(th, all.String(), 20); !slices.Equal(got, want) {
		t.Error("another width is drawn otherwise")
	}
}

func TestChainTree(t *testing.T) {
	t.Parallel()
	ref := func(kind, name string) incident.Ref { return incident.Ref{Kind: kind, Namespace: "train", Name: name} }
	pod, claim, class := ref("Pod", "llama-0"), ref("ResourceClaim", "gpu"), incident.Ref{Kind: "DeviceClass", Name: "gpu.nvidia.com"}
	got := ansi.Strip(strings.Join(chainTree(newTheme("ansi", true), []incident.Edge{
		{From: pod, Relation: "claims", To: claim, Evidence: []string{"E1", "E3"}}, {From: claim, Relation: "class", To: class, Note: "48 devices"}, {From: pod, Relation: "runs-on", To: incident.Ref{Kind: "Node", Name: "n1"}}, {From: class, Relation: "of", To: claim},
	}), "\n"))
	want := "Pod llama-0\n├── claims ResourceClaim gpu [E1, E3]\n│   ╰── class DeviceClass gpu.nvidia.com (48 devices)\n│       ╰── of ResourceClaim gpu (see above)\n╰── runs on Node n1"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSparks(t *testing.T) {
	t.Parallel()
	th := newTheme("ansi", true)
	e := incident.Evidence{ID: "E2", Data: json.RawMessage(`{"series":[{"labels":{"__name__":"DCGM_FI_DEV_GPU_UTIL","gpu":"3"},"points":[[1000,90],[1060,91],[1120,2]]},{"labels":{},"points":[[5,1]]},{"points":[[9,1],[3,2]]},{"points":"none"}]}`)}
	d := incident.Diagnosis{Causes: []incident.Cause{{Evidence: []string{"E2"}}}}
	got := sparks(th, d, []incident.Evidence{{ID: "E1", Data: e.Data}, e}, 79)
	if len(got) != 1 || !strings.Contains(ansi.Strip(got[0]), "2 to 91, now 2 DCGM_FI_DEV_GPU_UTIL gpu=3 [E2]") {
		t.Errorf("%q", got)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "error at a|fine b|[broken", "err": "error at a", "!err": "fine b|[broken", "^fine|ERROR": "error at a|fine b", "[broken": "[broken", "![broken": "error at a|fine b", "!": "error at a|fine b|[broken"} {
		var got []string
		f := newFilter(text)
		for _, l := range []string{"error at a", "fine b", "[broken"} {
			if f.match(l) {
				got = append(got, l)
			}
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// What was typed goes through the editor that the environment names, and nothing else.
func TestEditor(t *testing.T) {
	t.Parallel()
	if _, _, err := draft(Config{}, "x"); err == nil || !strings.Contains(err.Error(), "set VISUAL or EDITOR") {
		t.Error(err)
	}
	name, c, err := draft(Config{Environ: []string{"EDITOR=false", "VISUAL=sed -i s/pending/stuck\\x1b[2J/"}}, "why is it\npending")
	if err != nil {
		t.Fatal(err)
	}
	if got := edited(name, c.Run()); got.err != nil || got.text != "why is it\nstuck" {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("the file is left")
	}
	if name, c, err = draft(Config{Environ: []string{"EDITOR=false"}}, "x"); err != nil {
		t.Fatal(err)
	}
	if got := edited(name, c.Run()); got.err == nil {
		t.Error("an editor that failed")
	}
}

func TestHistoryFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a", "history")
	h, err := openHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two\nlines", "two\nlines", " ", strings.Repeat("x", maxHistoryText+1)} {
		if err := h.add(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, append(must(os.ReadFile(file)), "broken\n7\n\"three\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = openHistory(file); err != nil || !slices.Equal(h.entries, []string{"one", "two\nlines", "three"}) {
		t.Errorf("%q (%v)", h.entries, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v)", info.Mode(), err)
	}
	if _, err := openHistory(filepath.Dir(file)); err == nil {
		t.Error("a directory is read as a history")
	}
	for range 3 {
		h.back("draft")
	}
	if s, ok := h.back("x"); ok {
		t.Errorf("before the first entry: %q", s)
	}
	for range 2 {
		h.forward()
	}
	if s, ok := h.forward(); !ok || s != "draft" {
		t.Errorf("the draft came back as %q", s)
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		return nil
	}
	return raw
}

// FuzzHistory reads what may stand in the file.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("\"a\"\n\"b\\nc\"\nnull\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got := parseHistory(raw); len(got) > maxHistory || slices.Contains(got, "") {
			t.Fatalf("%d entries", len(got))
		}
	})
}

// Unicode that terminals draw two columns wide, or none, keeps the lines within the
// window.
func TestWidths(t *testing.T) {
	t.Parallel()
	th := newTheme("dark", true)
	for _, s := range []string{strings.Repeat("世界", 60), strings.Repeat("e\u0301", 200), strings.Repeat("👩‍👩‍👧‍👦🇩🇪", 40), strings.Repeat("namespace-with-a-name-that-never-ends-", 8)} {
		for _, width := range []int{10, 39, 79} {
			c := &cell{item: turnItem{turn: session.Turn{Question: incident.Question{Text: s}}, said: []string{s}, reason: s, looks: []*look{{tool: s, args: s, done: true, text: s}}}}
			for _, l := range c.view(brush{th, width, true}) {
				if cols(l) > width {
					t.Errorf("%d columns in a width of %d: %q", cols(l), width, l)
				}
			}
		}
	}
}

func longChat(b testing.TB, lines int) *chat {
	c := newChat(b.Context(), Config{Now: time.Now, Theme: "dark", FullScreen: true})
	c.width, c.height = 120, 40
	for i := range lines / 10 {
		c.add(turnItem{turn: session.Turn{Question: incident.Question{Text: fmt.Sprint("question ", i)}}, said: []string{"One.\n\nTwo **bold**.\n\n- three\n- four"}, reason: "nothing"})
	}
	c.View()
	return c
}

// Nothing that stands is drawn again because something is added.
func TestFinishedIsDrawnOnce(t *testing.T) {
	t.Parallel()
	c := longChat(t, 10_000)
	drawn := 0
	c.add(drawItem(func(brush) []string { drawn++; return []string{"counted"} }))
	for range 50 {
		c.note(noteInfo, "more")
		c.View()
	}
	if drawn != 1 {
		t.Errorf("an item was drawn %d times", drawn)
	}
}

// BenchmarkRedraw draws a full screen above 10,000 lines while an answer comes.
func BenchmarkRedraw(b *testing.B) {
	c := longChat(b, 10_000)
	c.turn = newTurn(session.Turn{ID: "run-1", Question: incident.Question{Text: "why"}}, time.Now())
	c.turn.take(session.Told{Event: event.Event{Type: event.Delta, Model: &event.Model{Text: strings.Repeat("A paragraph of an answer.\n\n", 300)}}}, time.Now(), c.th, 117)
	b.ReportAllocs()
	for b.Loop() {
		c.View()
	}
}

// BenchmarkScrollToTop draws the far end of 10,000 lines.
func BenchmarkScrollToTop(b *testing.B) {
	c := longChat(b, 10_000)
	for b.Loop() {
		c.scroll = 1 << 20
		c.View()
	}
}

// BenchmarkStream takes an answer of 100 kB piece by piece.
func BenchmarkStream(b *testing.B) {
	for b.Loop() {
		s := newStream(newTheme("dark", true), 100)
		for range 2500 {
			s.add("Some words and **more** words of it.\n\n")
			s.view()
		}
	}
}

// A feed gives everything in order, and ends with its context.
func TestFeed(t *testing.T) {
	t.Parallel()
	c := newChat(t.Context(), Config{Now: time.Now})
	f := newFeed(t.Context(), &c.wg, 0, func(ctx context.Context) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range 1000 {
				if !yield(i, nil) {
					return
				}
			}
		}
	})
	var got []int
	for b := range f.in {
		got = append(got, b.items...)
	}
	if len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("%d items", len(got))
	}
	stuck := newFeed(t.Context(), &c.wg, gap, func(ctx context.Context) iter.Seq2[int, error] {
		return func(func(int, error) bool) { <-ctx.Done() }
	})
	stuck.stop()
	c.wg.Wait()
}
