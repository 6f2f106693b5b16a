package transport

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// through gives what the SDK sees of a stream, and how it ended.
func through(t *testing.T, body io.Reader) (string, *Exchange, error) {
	t.Helper()
	d := New(Options{MaxAnswer: 1 << 20, Base: trip(func(*http.Request) (*http.Response, error) { return streamOf(io.NopCloser(body)), nil })})
	x := &Exchange{}
	res, err := d.Do(request(t, With(t.Context(), x)))
	if err != nil {
		return "", x, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	return string(out), x, err
}

func TestEvents(t *testing.T) {
	t.Parallel()
	const p, done = `{"choices":[]}`, "data: [DONE]\n\n"
	line := "data: " + p + "\n\n"
	for name, tc := range map[string]struct {
		in, want string
		kind     llm.ErrorKind
		done     bool
	}{
		"plain":                 {in: line + line + done, want: line + line + done, done: true},
		"no space, CRLF, BOM":   {in: "\xEF\xBB\xBFdata:" + p + "\r\n\r\n" + done, want: line + done, done: true},
		"no blank lines":        {in: "data: " + p + "\ndata: " + p + "\ndata: [DONE]", want: line + line + done, done: true},
		"no end of line":        {in: "data: " + p, want: line},
		"several lines":         {in: "data: {\"choices\":\ndata: []}\n\n", want: line},
		"several lines, no end": {in: "data: {\"choices\":\ndata: []}", want: line},
		"comments, ids, names":  {in: ": x\nid: 1\nevent: delta\nretry: 3\n" + line + "\n\n:\n", want: line},
		"what is no object":     {in: "data: ping\n\ndata: 5\n\ndata: []\n\ndata: null\n\n" + line, want: line},
		"error of null":         {in: "data: {\"error\":null,\"choices\":[]}\n\n", want: line},
		"nothing":               {in: ""},
		"only comments":         {in: ": a\n\n: b\n\n"},
		"after the end mark":    {in: done + line, want: done, done: true},
		"a page":                {in: "<html>\n", kind: llm.NotAModel},
		"text":                  {in: "hello\nworld\n", kind: llm.NotAModel},
		"only pings":            {in: "data: ping\n\n", kind: llm.NotAModel},
		"broken JSON":           {in: line + "data: {\"a\":\n\n" + line, want: line, kind: llm.Incomplete},
		"error":                 {in: line + "data: {\"error\":\"x\"}\n\n" + line, want: line, kind: llm.Server},
		"error by name":         {in: "event: error\ndata: {\"x\":1}\n\n", kind: llm.Server},
		"error by name, text":   {in: "event: error\ndata: out of memory\n\n", kind: llm.Server},
		"the name is forgotten": {in: "event: error\n\n" + line, want: line},
		"bare error":            {in: line + "{\"error\":{\"message\":\"x\"}}", want: line, kind: llm.Server},
		"bare JSON":             {in: line + "{\"a\":1}\n", want: line},
	} {
		for way, body := range map[string]io.Reader{"at once": strings.NewReader(tc.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.in))} {
			got, x, err := through(t, body)
			if diff := cmp.Diff(tc.want, got); diff != "" || kindOf(err) != tc.kind || (err != nil) != (tc.kind != "") || x.Done != tc.done {
				t.Errorf("%s, %s: error %v, want %q; end mark %v, want %v\n%s", name, way, err, tc.kind, x.Done, tc.done, diff)
			}
			if err != nil && x.Err == nil {
				t.Errorf("%s: the exchange does not know of %v", name, err)
			}
		}
	}
}

func TestACutConnectionIsIncomplete(t *testing.T) {
	t.Parallel()
	got, x, err := through(t, io.MultiReader(strings.NewReader(event), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if got != event || kindOf(err) != llm.Incomplete || x.Err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("%q, error %v", got, err)
	}
}

// FuzzEvents: whatever comes, the SDK sees nothing but data lines of JSON
// objects, errors are classified, and the pieces in which bytes arrive do not matter.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		event, "event: error\ndata: x\n\n", "data: {\"a\":\ndata: 1}\n\n", "data:[DONE]", "<html>", "{\"error\":1}\n", ": a\r\rdata: {}\n",
		"data: {\"error\":null}\n\ndata: {\"error\":{\"message\":\"maximum context length\"}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, _, err := through(t, bytes.NewReader(stream))
		if err != nil && kindOf(err) == "" {
			t.Errorf("error of type %T", err)
		}
		for line := range strings.Lines(got) {
			payload, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
			if payload == "" || payload == "[DONE]" {
				continue
			}
			if !ok || payload[0] != '{' || !json.Valid([]byte(payload)) {
				t.Errorf("line %q", line)
			}
		}
		again, _, err2 := through(t, iotest.HalfReader(bytes.NewReader(stream)))
		if again != got || kindOf(err) != kindOf(err2) {
			t.Errorf("in pieces: %q, %v; at once: %q, %v", again, err2, got, err)
		}
	})
}
