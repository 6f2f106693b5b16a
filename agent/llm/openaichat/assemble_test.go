package openaichat

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

func TestUnquoteAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, quoted := range []string{`""`, `"a\"b\\c\/d\b\f\n\r\t"`, `"\u00e9\u4e2d\ud83d\ude00"`, `"größe 😀"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83dx\ude00"`, `"\u0000"`} {
		var want string
		if err := json.Unmarshal([]byte(quoted), &want); err != nil {
			t.Fatal(err)
		}
		var got text
		if err := json.Unmarshal([]byte(quoted), &got); err != nil {
			t.Fatal(err)
		}
		// A lone half is one replacement there and up to three here.
		squeeze := func(s string) string {
			for strings.Contains(s, "\uFFFD\uFFFD") {
				s = strings.ReplaceAll(s, "\uFFFD\uFFFD", "\uFFFD")
			}
			return s
		}
		if diff := cmp.Diff(squeeze(want), squeeze(joinHalves(got))); diff != "" {
			t.Errorf("%s: %s", quoted, diff)
		}
	}
}

// TestAnySplitGivesTheSameText: however a server cuts a text, between bytes or
// between the halves of a pair, the parts are whole characters and add up.
func TestAnySplitGivesTheSameText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.StringOf(rapid.RuneFrom([]rune{'a', 'ö', '中', '😀', '"', '\n', '\uD7FF', '\uE000'})).Draw(t, "text")
		rest := []byte(want)
		var r runes
		var got strings.Builder
		for len(rest) > 0 {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			piece := r.push(rest[:n])
			if !utf8.ValidString(piece) || strings.ContainsRune(piece, utf8.RuneError) {
				t.Fatalf("piece %q is not whole", piece)
			}
			got.WriteString(piece)
			rest = rest[n:]
		}
		got.WriteString(r.flush())
		if got.String() != want {
			t.Fatalf("got %q, want %q", got.String(), want)
		}
	})
}

// TestAnyInterleavingGivesTheSameCalls: pieces of several calls in any order.
func TestAnyInterleavingGivesTheSameCalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "calls")
		first := rapid.IntRange(0, 1).Draw(t, "first index")
		repeats := rapid.Bool().Draw(t, "repeats id and name")
		var want []llm.Call
		rests := make([]string, n)
		var a assembler
		for i := range n {
			rests[i] = `{"x":"` + rapid.StringMatching(`[a-z{}ö ]*`).Draw(t, "args") + `"}`
			want = append(want, llm.Call{ID: "c" + string(rune('0'+i)), Name: "f" + string(rune('0'+i%2)), Args: rests[i]})
			index := first + i
			a.add(0, callDelta{Index: &index, ID: text(want[i].ID), Function: function{Name: text(want[i].Name)}})
		}
		for {
			i := rapid.IntRange(0, n-1).Draw(t, "which")
			if strings.Join(rests, "") == "" {
				break
			}
			if rests[i] == "" {
				for i = 0; rests[i] == ""; i++ {
				}
			}
			cut := rapid.IntRange(1, len(rests[i])).Draw(t, "cut")
			index := first + i
			d := callDelta{Index: &index, Function: function{Arguments: text(rests[i][:cut])}}
			if repeats {
				d.ID, d.Function.Name = text(want[i].ID), text(want[i].Name)
			}
			a.add(0, d)
			rests[i] = rests[i][cut:]
		}
		if diff := cmp.Diff(want, a.finish()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzEvents: whatever a server sends as events, the session neither panics nor
// gives broken text, and ends calls with a name or not at all.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		`{"choices":[{"index":0,"delta":{"content":"a"}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c","function":{"name":"f","arguments":"{\"a\":\ud83d"}}]}}]}` + "\n" + `{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"\ude00"}}]},"finish_reason":"stop"}]}`,
		`{"choices":[{"index":0,"message":{"function_call":{"name":"f","arguments":null}}}],"usage":{"prompt_tokens":1}}`,
		"{\"choices\":[{\"delta\":{\"content\":\"\xe4\xb8\",\"reasoning\":[{\"text\":\"x\"}]}}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := &session{exchange: &transport.Exchange{}}
		for line := range bytes.Lines(stream) {
			e, err := decodeEvent(bytes.TrimSpace(line))
			if err != nil {
				continue
			}
			for _, c := range e.Choices {
				s.choice(c)
			}
		}
		s.say(llm.TextPart, s.text.flush())
		for _, p := range s.ready {
			if !utf8.ValidString(p.Text) || p.Text == "" {
				t.Errorf("part %+v", p)
			}
		}
		for _, c := range s.calls.finish() {
			if !utf8.ValidString(c.ID + c.Name + c.Args) {
				t.Errorf("call %+v", c)
			}
		}
	})
}
