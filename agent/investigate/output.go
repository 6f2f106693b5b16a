package investigate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// output is a whole redacted answer, and the form in which it is spilled.
type output struct {
	Text string          `json:"text"`
	Data json.RawMessage `json:"data,omitempty"`
}

// keep puts an answer into its evidence: within the budget, with the digest of
// the whole, and spilled where something is left out.
func (l *Ledger) keep(ev *incident.Evidence, full output, budget int) {
	if budget <= 0 {
		budget = tool.DefaultMaxText
	}
	raw, err := json.Marshal(full)
	if err != nil { // data that is no JSON
		full.Data = nil
		raw, _ = json.Marshal(full)
	}
	sum := sha256.Sum256(raw)
	ev.Digest = "sha256:" + hex.EncodeToString(sum[:])
	shown, left := cut(full.Text, budget)
	ev.Text = shown
	if len(full.Data) <= maxData {
		ev.Data = full.Data
	}
	if left == 0 && ev.Data != nil || left == 0 && len(full.Data) == 0 {
		return
	}
	ev.Truncated = true
	how := fmt.Sprintf("read on with %s {\"id\":%q,\"offset\":%d}, or search with \"grep\"", readTool, ev.ID, len(shown))
	if err := l.cfg.Spill.Put(ev.Digest, raw); err != nil {
		how = "the rest could not be kept: " + l.cfg.Redactor.String(short(err.Error(), 200))
	}
	if left > 0 {
		ev.Text += fmt.Sprintf("\n[%d of %d bytes shown; %s]", len(shown), len(full.Text), how)
	}
}

// whole gives the full answer of a record, from the spill where it was shortened.
func (l *Ledger) whole(r *record) output {
	if !r.ev.Truncated {
		return r.full
	}
	var o output
	if raw, err := l.cfg.Spill.Get(r.ev.Digest); err == nil && json.Unmarshal(raw, &o) == nil {
		return o
	}
	return output{Text: r.ev.Text, Data: r.ev.Data}
}

// cut shortens text to a number of bytes at the end of a line, or, where the
// first line is longer than that, at a rune. It gives how many bytes are left out.
func cut(text string, budget int) (string, int) {
	if len(text) <= budget {
		return text, 0
	}
	end := budget
	if i := strings.LastIndexByte(text[:budget+1], '\n'); i > 0 {
		end = i
	} else {
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
	}
	return text[:end], len(text) - end
}

// findingText writes the findings behind the tool's text, with the words that
// the text does not hold already. The evidence of a finding then always carries
// what it says, and a model that reads the text sees codes it can use.
func findingText(res tool.Result) string {
	var b strings.Builder
	for _, f := range res.Findings {
		line := fmt.Sprintf("\nfinding %s (%s %s) on %s", f.Code, f.Severity, f.Role, f.Subject)
		if !strings.Contains(res.Text, f.Message) {
			line += ": " + oneLine(f.Message)
		}
		if b.Len()+len(line) > maxFindingText {
			b.WriteString("\nfurther findings are left out here")
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// leaves joins the keys, strings and numbers of a JSON document, one a line.
func leaves(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(raw)
	}
	var b strings.Builder
	writeLeaves(&b, v)
	return b.String()
}

func writeLeaves(b *strings.Builder, v any) {
	switch x := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(x) {
			b.WriteString(k)
			b.WriteByte('\n')
			writeLeaves(b, x[k])
		}
	case []any:
		// A count that a reader makes by looking is carried by the list.
		fmt.Fprintf(b, "%d\n", len(x))
		for _, e := range x {
			writeLeaves(b, e)
		}
	case nil:
	default:
		fmt.Fprintf(b, "%v\n", x)
	}
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func blank(raw json.RawMessage) json.RawMessage {
	if len(bytes.TrimSpace(raw)) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}

// short cuts text to a number of bytes and says so with "...".
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
