// Package fallback chains models: when one cannot answer, the next is asked.
package fallback

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

var _ llm.Model = (*Chain)(nil)

// Switch says that a chain went on to the next model.
type Switch struct {
	From, To llm.Info
	// Err is why the first could not answer, after its own retries.
	Err *llm.Error
}

// Chain asks its models in order. It goes on when a model cannot answer at all
// (no access, unreachable, overloaded, rate limited, down, unknown there, no
// model at that address), and only before a part was delivered. What another
// model would answer no better, it does not: a bad request, an overflow (the
// caller shortens the conversation), a refusal, a cut or silent stream (the
// caller asks again), a cancellation.
//
// Each request starts with the first model, so that a passing trouble does not
// move a run for good. Parts of any model but the first say whose they are, so that
// the prices of the one that answered are counted. A Chain is safe for concurrent use if its models are.
type Chain struct {
	models   []llm.Model
	onSwitch func(Switch)
}

// New makes a chain. onSwitch, which may be nil, is told before the next model
// is asked.
func New(onSwitch func(Switch), models ...llm.Model) (*Chain, error) {
	if len(models) == 0 {
		return nil, errors.New("fallback: no models; give at least one")
	}
	for _, m := range models {
		if m == nil {
			return nil, errors.New("fallback: a model is nil")
		}
	}
	return &Chain{models: models, onSwitch: onSwitch}, nil
}

// Info gives the first model's name and prices, the smallest known window (a
// conversation has to fit whichever answers), and tools only if all take them.
func (c *Chain) Info() llm.Info {
	info := c.models[0].Info()
	for _, m := range c.models[1:] {
		next := m.Info()
		if next.Window > 0 && (info.Window == 0 || next.Window < info.Window) {
			info.Window = next.Window
		}
		info.Tools = info.Tools && next.Tools
	}
	return info
}

// Stream implements llm.Model. When no model can answer, the error is the last
// one's, and its text names what each said.
func (c *Chain) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		var said []string
		for i, m := range c.models {
			var from *llm.Info
			if i > 0 { // the first is the one that Info names
				info := m.Info()
				from = &info
			}
			tagged := func(p llm.Part, err error) bool {
				if err == nil {
					p.Model = from
				}
				return yield(p, err)
			}
			failed, ended := ask(ctx, m, req, i == len(c.models)-1, said, tagged)
			if ended {
				return
			}
			said = append(said, m.Info().String()+": "+failed.Error())
			if c.onSwitch != nil {
				c.onSwitch(Switch{From: m.Info(), To: c.models[i+1].Info(), Err: failed})
			}
		}
	}
}

// ask passes one model's parts on. It reports that the sequence has ended, or
// the error for which the next model is to be asked.
func ask(ctx context.Context, m llm.Model, req llm.Request, last bool, said []string, yield func(llm.Part, error) bool) (*llm.Error, bool) {
	delivered := false
	for part, err := range m.Stream(ctx, req) {
		if err == nil {
			delivered = true
			if !yield(part, nil) {
				return nil, true
			}
			continue
		}
		failed, ok := errors.AsType[*llm.Error](err)
		if !ok {
			failed = &llm.Error{Kind: llm.Server, Text: err.Error(), Err: err}
		}
		if delivered || !passes(failed.Kind) || ctx.Err() != nil {
			yield(llm.Part{}, failed)
			return nil, true
		}
		if last {
			yield(llm.Part{}, all(failed, m, said))
			return nil, true
		}
		return failed, false
	}
	return nil, true
}

// all tells of every model's failure in the last one's error.
func all(failed *llm.Error, m llm.Model, said []string) *llm.Error {
	if len(said) == 0 {
		return failed
	}
	out := *failed
	out.Text = "no model can answer: " + strings.Join(append(said, m.Info().String()+": "+failed.Error()), "; ")
	out.Err = failed
	return &out
}

// passes reports whether another model may answer where this one failed.
func passes(kind llm.ErrorKind) bool {
	switch kind {
	case llm.Auth, llm.Unreachable, llm.Overloaded, llm.RateLimited, llm.Server, llm.NoModel, llm.NotAModel:
		return true
	}
	return false
}
