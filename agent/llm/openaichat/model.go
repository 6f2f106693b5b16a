package openaichat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"sync/atomic"

	openai "github.com/sashabaranov/go-openai"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

var _ llm.Model = (*Model)(nil)

// neutral is the model name that go-openai sees. It checks requests by name
// and refuses some before sending, also for a model of one's own that is called
// o1 or gpt-5; the real name goes in beneath it.
const neutral = "chat"

// Model is one model of one server. It is safe for concurrent use.
type Model struct {
	info   llm.Info
	client *openai.Client
	doer   *transport.Doer
	retry  transport.Policy
	extra  map[string]any
	// habits are what the server was found not to accept; see habits.go.
	habits atomic.Uint32
}

// New makes a model. It opens no connection.
func New(c Config) (*Model, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	doer := transport.New(transport.Options{Base: c.HTTP, Wait: c.Wait, Idle: c.Idle, Secrets: []string{c.APIKey}, Redact: c.Redact})
	conf := openai.DefaultConfig(c.APIKey)
	if c.Provider == Azure && !strings.HasSuffix(c.BaseURL, "/openai/v1") {
		// The newer address ending in /openai/v1 is OpenAI's protocol as it is.
		conf = openai.DefaultAzureConfig(c.APIKey, c.BaseURL)
		conf.APIVersion = c.APIVersion
		deployment := c.Name
		conf.AzureModelMapperFunc = func(string) string { return deployment }
	}
	conf.BaseURL = c.BaseURL
	conf.OrgID = c.Organization
	conf.HTTPClient = doer
	conf.EmptyMessagesLimit = math.MaxInt32 // the transport hands on no empty lines, and watches the time
	m := &Model{info: c.info(), client: openai.NewClientWithConfig(conf), doer: doer, retry: c.Retry, extra: c.Extra}
	if c.Provider == OpenAI || c.Provider == Azure {
		// max_tokens is deprecated there, and refused by reasoning models.
		m.habits.Store(uint32(completionTokens))
	}
	return m, nil
}

// Info implements llm.Model.
func (m *Model) Info() llm.Info { return m.info }

// String gives "provider/name".
func (m *Model) String() string { return m.info.String() }

// GoString keeps the client, which knows the key, out of %#v.
func (m *Model) GoString() string { return m.info.String() }

// Close ends idle connections; the model stays usable.
func (m *Model) Close() { m.doer.Close() }

// Stream implements llm.Model. Requests that fail before the first part are
// retried as the policy says; afterwards an error ends the sequence, and whether
// to ask again is for the caller to say.
func (m *Model) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		s, failed := transport.Retry(ctx, m.retry, func() (*session, *llm.Error) { return m.open(ctx, req) })
		if failed != nil {
			yield(llm.Part{}, failed)
			return
		}
		defer s.close()
		for {
			for _, p := range s.ready {
				if !yield(p, nil) {
					return
				}
			}
			s.ready = s.ready[:0]
			if s.finished {
				return
			}
			if failed := s.next(); failed != nil {
				yield(llm.Part{}, failed)
				return
			}
		}
	}
}

// open sends a request and reads up to the first part. A server that refuses a
// field gets the request again without it, and the model remembers.
func (m *Model) open(ctx context.Context, req llm.Request) (*session, *llm.Error) {
	for {
		known := habit(m.habits.Load())
		s, failed := m.begin(ctx, req, known)
		for failed == nil && len(s.ready) == 0 {
			failed = s.next()
		}
		if failed == nil {
			return s, nil
		}
		s.close()
		learned := learn(known, failed, req)
		if learned == known {
			return nil, failed
		}
		m.habits.Or(uint32(learned))
		if learned&known != known { // a habit was given up
			m.habits.And(uint32(learned))
		}
	}
}

// begin sends one request.
func (m *Model) begin(ctx context.Context, req llm.Request, known habit) (*session, *llm.Error) {
	s := &session{request: req, exchange: &transport.Exchange{Patch: m.patch(req, known)}}
	body, err := wireRequest(req, known, m.info.Tools)
	if err != nil {
		return s, &llm.Error{Kind: llm.BadRequest, Text: err.Error(), Err: err}
	}
	s.stream, err = m.client.CreateChatCompletionStream(transport.With(ctx, s.exchange), body)
	if err != nil {
		s.stream = nil
		return s, s.failure(ctx, err)
	}
	s.ctx = ctx
	return s, nil
}

// session is one stream.
type session struct {
	ctx      context.Context
	request  llm.Request
	exchange *transport.Exchange
	stream   *openai.ChatCompletionStream
	calls    assembler

	text, reasoning   runes
	outBytes          int
	input, output     int
	reason            string
	refused, finished bool
	// ready are parts that were not delivered yet.
	ready []llm.Part
}

func (s *session) close() {
	if s.stream != nil {
		_ = s.stream.Close()
	}
}

// next reads one event. Its parts are then in ready.
func (s *session) next() *llm.Error {
	raw, err := s.stream.RecvRaw()
	if err != nil {
		return s.end(err)
	}
	e, err := decodeEvent(raw)
	if err != nil {
		return &llm.Error{Kind: llm.Server, Text: "an event of the stream has an unknown form: " + err.Error(), Err: err}
	}
	if e.Usage != nil && e.Usage.Input+e.Usage.Output > 0 {
		s.input, s.output = e.Usage.Input, e.Usage.Output
	}
	for _, c := range e.Choices {
		if !s.choice(c) {
			return &llm.Error{Kind: llm.Server, Text: fmt.Sprintf("the answer has more than %d tool calls", maxCalls)}
		}
	}
	return nil
}

// choice takes the news of one choice; false means that there are too many calls.
func (s *session) choice(c choice) bool {
	if d := c.delta(); d != nil {
		s.say(llm.ReasoningPart, s.reasoning.push(d.reasoning()))
		s.say(llm.TextPart, s.text.push(d.Content))
		if len(d.Refusal) > 0 {
			s.refused = true
			s.say(llm.TextPart, s.text.push(d.Refusal))
		}
		for _, t := range d.calls() {
			if !s.calls.add(c.Index, t) {
				return false
			}
		}
	}
	if c.Finish != "" {
		s.reason = c.Finish
		s.exchange.Ending()
	}
	return true
}

func (s *session) say(kind llm.PartKind, text string) {
	if text == "" {
		return
	}
	s.outBytes += len(text)
	s.ready = append(s.ready, llm.Part{Kind: kind, Text: text})
}

// end decides whether the end of the stream is the end of the answer.
func (s *session) end(err error) *llm.Error {
	failed := s.failure(s.ctx, err)
	ended := errors.Is(err, io.EOF) && s.exchange.Err == nil
	late := failed.Kind == llm.Incomplete || failed.Kind == llm.Idle
	switch {
	case s.reason != "" && (ended || late):
		// Whole: what a cut could still take away are the token counts.
	case ended && s.exchange.Done && (s.outBytes > 0 || len(s.calls.slots) > 0):
		// Some servers mark the end without giving a reason.
	default:
		return failed
	}
	s.say(llm.ReasoningPart, s.reasoning.flush())
	s.say(llm.TextPart, s.text.flush())
	calls := transport.NameCalls(s.request, s.calls.finish())
	for _, c := range calls {
		s.outBytes += len(c.Name) + len(c.Args)
		s.ready = append(s.ready, llm.Part{Kind: llm.CallPart, Call: c})
	}
	s.ready = append(s.ready, transport.Usage(s.request, s.input, s.output, s.outBytes),
		llm.Part{Kind: llm.FinishPart, Reason: transport.FinishReason(s.reason, len(calls) > 0, s.refused)})
	s.finished = true
	return nil
}

// failure gives the classified error behind an error of the SDK.
func (s *session) failure(ctx context.Context, err error) *llm.Error {
	if s.exchange.Err != nil {
		return s.exchange.Err
	}
	if known, ok := errors.AsType[*llm.Error](err); ok {
		return known
	}
	if ended := ctx.Err(); ended != nil {
		return &llm.Error{Kind: llm.Cancelled, Text: "the request was ended: " + ended.Error(), Err: ended}
	}
	if errors.Is(err, io.EOF) {
		return &llm.Error{Kind: llm.Incomplete, Text: "the stream ended before its finish reason; ask again", Err: err}
	}
	return &llm.Error{Kind: llm.BadRequest, Text: err.Error(), Err: err}
}
