package replay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

const version = 1

type header struct {
	Version int      `json:"gumshoe_cassette"`
	Model   llm.Info `json:"model"`
}

type entry struct {
	Hash    string   `json:"hash"`
	Request request  `json:"request"`
	Turn    turn     `json:"turn"`
	Error   *failure `json:"error,omitempty"`
}

// request is a request in the form that is written and compared.
type request struct {
	System      string        `json:"system,omitempty"`
	Messages    []llm.Message `json:"messages"`
	Tools       []llm.ToolDef `json:"tools,omitempty"`
	Require     string        `json:"require,omitempty"`
	MaxTokens   int           `json:"max_tokens,omitempty"`
	Temperature float64       `json:"temperature"`
}

type turn struct {
	Reasoning string     `json:"reasoning,omitempty"`
	Text      string     `json:"text,omitempty"`
	Calls     []llm.Call `json:"calls,omitempty"`
	Input     int        `json:"input"`
	Output    int        `json:"output"`
	Estimated bool       `json:"estimated,omitempty"`
	Reason    string     `json:"reason"`
}

type failure struct {
	Kind       llm.ErrorKind `json:"kind"`
	Status     int           `json:"status,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	Text       string        `json:"text"`
}

// normal gives a request as it is compared: scrubbed, schemas without layout.
func normal(req llm.Request, scrub func(string) string) request {
	n := request{System: scrubText(req.System, scrub), Messages: []llm.Message{}, Require: scrubText(req.Require, scrub), MaxTokens: req.MaxTokens, Temperature: req.Temperature}
	for _, m := range req.Messages {
		m.Text, m.CallID, m.Name = scrubText(m.Text, scrub), scrubText(m.CallID, scrub), scrubText(m.Name, scrub)
		m.Calls = scrubCalls(m.Calls, scrub)
		n.Messages = append(n.Messages, m)
	}
	for _, t := range req.Tools {
		var schema bytes.Buffer
		if err := json.Compact(&schema, t.Schema); err != nil {
			schema.Reset()
		}
		n.Tools = append(n.Tools, llm.ToolDef{Name: scrubText(t.Name, scrub), Text: scrubText(t.Text, scrub), Schema: schemaOf(scrubText(schema.String(), scrub))})
	}
	return n
}

// schemaOf keeps a schema encodable.
func schemaOf(text string) json.RawMessage {
	if !json.Valid([]byte(text)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(text)
}

func (r request) hash() string {
	b, err := json.Marshal(r)
	if err != nil {
		return "" // a request of strings and valid schemas always encodes
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func turnOf(t llm.Turn, scrub func(string) string) turn {
	return turn{Reasoning: scrubText(t.Reasoning, scrub), Text: scrubText(t.Text, scrub), Calls: scrubCalls(t.Calls, scrub),
		Input: t.Input, Output: t.Output, Estimated: t.Estimated, Reason: t.Reason}
}

func scrubCalls(calls []llm.Call, scrub func(string) string) []llm.Call {
	var out []llm.Call
	for _, c := range calls {
		out = append(out, llm.Call{ID: scrubText(c.ID, scrub), Name: scrubText(c.Name, scrub), Args: scrubText(c.Args, scrub)})
	}
	return out
}

// scrubText masks a text, and within one that is JSON each string, because a
// secret with a quote or a line end in it has another form there.
func scrubText(text string, scrub func(string) string) string {
	if scrub == nil || text == "" {
		return text
	}
	text = scrub(text)
	if text == "" || (text[0] != '{' && text[0] != '[') {
		return text
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var doc any
	if dec.Decode(&doc) != nil || dec.More() {
		return text
	}
	clean, changed := scrubValue(doc, scrub)
	if !changed {
		return text
	}
	out, err := json.Marshal(clean)
	if err != nil {
		return "" // rather nothing than a secret
	}
	return string(out)
}

func scrubValue(v any, scrub func(string) string) (any, bool) {
	changed := false
	switch v := v.(type) {
	case string:
		s := scrub(v)
		return s, s != v
	case []any:
		for i := range v {
			var c bool
			v[i], c = scrubValue(v[i], scrub)
			changed = changed || c
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			clean, c := scrubValue(value, scrub)
			name := scrub(key)
			out[name] = clean
			changed = changed || c || name != key
		}
		return out, changed
	}
	return v, changed
}

var _ llm.Model = (*Cassette)(nil)

// Cassette is a recorded model. A request gets the first unused turn that was
// recorded for the same request; one that was not recorded is an error that
// says what differs. It is safe for concurrent use.
type Cassette struct {
	info  llm.Info
	scrub func(string) string

	mu      sync.Mutex
	entries []entry
	used    []bool
}

// maxLine bounds one line of a cassette.
const maxLine = 64 << 20

// Open reads a cassette. scrub must be the function that it was recorded with:
// requests are compared in their scrubbed form.
func Open(in io.Reader, scrub func(string) string) (*Cassette, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	c := &Cassette{scrub: scrub}
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			var h header
			if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Version == 0 {
				return nil, errors.New("this is no cassette: its first line has no field gumshoe_cassette")
			}
			if h.Version != version {
				return nil, fmt.Errorf("the cassette has version %d, want %d; record it again", h.Version, version)
			}
			c.info = h.Model
			continue
		}
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("cassette line %d: %w", n, err)
		}
		// A cassette edited by hand works too: the request counts, not the hash.
		e.Hash = e.Request.hash()
		c.entries = append(c.entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the cassette: %w", err)
	}
	if c.info == (llm.Info{}) && len(c.entries) == 0 {
		return nil, errors.New("the cassette is empty; record it first")
	}
	c.used = make([]bool, len(c.entries))
	return c, nil
}

// Info implements llm.Model.
func (c *Cassette) Info() llm.Info { return c.info }

// Left gives the number of turns that were not asked for.
func (c *Cassette) Left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, used := range c.used {
		if !used {
			n++
		}
	}
	return n
}

// Stream implements llm.Model.
func (c *Cassette) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		if ended := cancelled(ctx); ended != nil {
			yield(llm.Part{}, ended)
			return
		}
		e, failed := c.take(normal(req, c.scrub))
		if failed != nil {
			yield(llm.Part{}, failed)
			return
		}
		t := llm.Turn{Reasoning: e.Turn.Reasoning, Text: e.Turn.Text, Calls: e.Turn.Calls,
			Input: e.Turn.Input, Output: e.Turn.Output, Estimated: e.Turn.Estimated, Reason: e.Turn.Reason}
		var err error
		if f := e.Error; f != nil {
			err = &llm.Error{Kind: f.Kind, Status: f.Status, RetryAfter: f.RetryAfter, Text: f.Text}
		}
		play(ctx, t, err, yield)
	}
}

// take finds the turn for a request.
func (c *Cassette) take(sent request) (entry, *llm.Error) {
	hash := sent.hash()
	c.mu.Lock()
	defer c.mu.Unlock()
	next, repeats := -1, 0
	for i, e := range c.entries {
		switch {
		case e.Hash == hash && !c.used[i]:
			c.used[i] = true
			return e, nil
		case e.Hash == hash:
			repeats++
		case next < 0 && !c.used[i]:
			next = i
		}
	}
	text := "the recording is at its end"
	switch {
	case repeats > 0:
		text = fmt.Sprintf("this request was recorded %d times and is sent once more", repeats)
	case next >= 0:
		text = fmt.Sprintf("turn %d was recorded for another request: %s", next+1, differences(c.entries[next].Request, sent))
	}
	return entry{}, &llm.Error{Kind: llm.BadRequest, Text: "cassette: " + text + " (record it again if the change is meant)"}
}
