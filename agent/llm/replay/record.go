package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

var _ llm.Model = (*Recorder)(nil)

// Recorder passes a model's answers on and writes each finished one to a
// cassette: JSON lines, the first with the model, each other with a request and
// its turn. An answer that the caller breaks off or cancels is not written.
//
// Texts are scrubbed before they are written, whole: a secret that came in two
// pieces is one text in the cassette. A Recorder is safe for concurrent use.
type Recorder struct {
	model llm.Model
	scrub func(string) string

	mu     sync.Mutex
	out    io.Writer
	begun  bool
	failed error
}

// Record wraps a model. scrub masks secrets; it is applied to every text, and
// to every string in texts and arguments that are JSON, where a secret may be
// escaped. Nil means that nothing is masked.
func Record(m llm.Model, out io.Writer, scrub func(string) string) *Recorder {
	return &Recorder{model: m, out: out, scrub: scrub}
}

// Info implements llm.Model.
func (r *Recorder) Info() llm.Info { return r.model.Info() }

// Stream implements llm.Model. A cassette that cannot be written is an error of
// kind Server, in place of the finish.
func (r *Recorder) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		var c llm.Collector
		for part, err := range r.model.Stream(ctx, req) {
			if err != nil {
				if failed, ok := errors.AsType[*llm.Error](err); ok && failed.Kind != llm.Cancelled {
					if err := r.write(req, c.Turn(), failed); err != nil {
						yield(llm.Part{}, err)
						return
					}
				}
				yield(part, err)
				return
			}
			c.Add(part)
			if part.Kind == llm.FinishPart {
				if err := r.write(req, c.Turn(), nil); err != nil {
					yield(llm.Part{}, err)
					return
				}
			}
			if !yield(part, nil) {
				return
			}
		}
	}
}

// write appends an entry; its error is an *llm.Error.
func (r *Recorder) write(req llm.Request, t llm.Turn, failed *llm.Error) error {
	e := entry{Request: normal(req, r.scrub), Turn: turnOf(t, r.scrub)}
	e.Hash = e.Request.hash()
	if failed != nil {
		e.Error = &failure{Kind: failed.Kind, Status: failed.Status, RetryAfter: failed.RetryAfter, Text: scrubText(failed.Text, r.scrub)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil && !r.begun {
		r.begun = true
		r.failed = r.line(header{Version: version, Model: r.model.Info()})
	}
	if r.failed == nil {
		r.failed = r.line(e)
	}
	if r.failed != nil {
		return &llm.Error{Kind: llm.Server, Text: "the cassette cannot be written: " + r.failed.Error(), Err: r.failed}
	}
	return nil
}

func (r *Recorder) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = r.out.Write(append(b, '\n'))
	return err
}
