// Package telemetry makes traces and metrics of what the other rooms tell: spans are
// a reading of the event stream, so that nothing is measured that is not told.
package telemetry

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/gumshoe-ai/gumshoe/agent/event"
)

// agentName is what spans call the whole.
const agentName = "gumshoe"

// TraceConfig says where spans go.
type TraceConfig struct {
	// Endpoint is the URL of a collector that speaks OTLP over HTTP.
	Endpoint string
	// HeadersFile holds "name: value" lines; it may be empty.
	HeadersFile string
	// Content adds what was asked and answered. It was redacted before.
	Content bool
	Version string
	// Cluster that is looked at.
	Cluster string
}

// Tracer makes spans. A nil Tracer makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	content  bool
}

// NewTracer makes a Tracer that sends to a collector; nil without an endpoint. What
// cannot be sent is dropped after a while: an investigation does not wait for it.
func NewTracer(ctx context.Context, c TraceConfig) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is one that makes no spans
	}
	headers, err := readHeaders(c.HeadersFile)
	if err != nil {
		return nil, err
	}
	url := c.Endpoint
	if !strings.Contains(strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"), "/") {
		url += "/v1/traces"
	}
	exp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(url), otlptracehttp.WithHeaders(headers))
	if err != nil {
		return nil, fmt.Errorf("server.tracing.endpoint: %w", err)
	}
	return NewTracerTo(sdktrace.NewBatchSpanProcessor(exp), c), nil
}

// NewTracerTo makes a Tracer that gives its spans to a processor.
func NewTracerTo(p sdktrace.SpanProcessor, c TraceConfig) *Tracer {
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", agentName), attribute.String("service.version", c.Version), attribute.String("k8s.cluster.name", c.Cluster))))
	return &Tracer{provider: tp, tracer: tp.Tracer("github.com/gumshoe-ai/gumshoe"), content: c.Content}
}

func readHeaders(path string) (map[string]string, error) {
	out := map[string]string{}
	if path == "" {
		return out, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("server.tracing.headersFile: %w", err)
	}
	for n, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("server.tracing.headersFile: line %d is not \"name: value\"", n+1)
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out, nil
}

// Close sends what is left.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Sink gives a sink that makes the spans of one run: one for the whole, one a tool
// call, one a turn of a model. conversation is the session; it may be empty. The sink
// is for the events of one run only, and is safe for concurrent use.
func (t *Tracer) Sink(ctx context.Context, conversation string) event.Sink {
	if t == nil {
		return event.SinkFunc(func(event.Event) {})
	}
	return &spans{t: t, ctx: ctx, conversation: conversation, tools: map[string]trace.Span{}}
}

type spans struct {
	t            *Tracer
	ctx          context.Context
	conversation string

	mu    sync.Mutex
	whole trace.Span
	model trace.Span
	tools map[string]trace.Span
}

// Emit implements event.Sink.
func (s *spans) Emit(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Type == event.RunStarted && e.Started != nil:
		s.begin(e)
	case s.whole == nil:
	case e.Type == event.ToolStarted && e.Call != nil:
		at := []attribute.KeyValue{attribute.String(attrOperation, opTool), attribute.String(attrTool, e.Call.Tool), attribute.String(attrToolCall, e.Call.ID)}
		if s.t.content {
			at = append(at, attribute.String(attrToolArgs, e.Call.Args))
		}
		_, sp := s.t.tracer.Start(s.ctx, opTool+" "+e.Call.Tool, trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(at...))
		s.tools[e.Call.ID] = sp
	case e.Type == event.ToolFinished && e.Evidence != nil:
		s.toolEnded(e)
	case e.Type == event.ModelStarted && e.Model != nil:
		provider, name := split(e.Model.Name)
		_, s.model = s.t.tracer.Start(s.ctx, opChat+" "+name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String(attrOperation, opChat), attribute.String(attrProvider, provider), attribute.String(attrModel, name)))
	case e.Type == event.ModelEnded && e.Model != nil && s.model != nil:
		s.model.SetAttributes(attribute.Int(attrInputTokens, e.Model.InputTokens), attribute.Int(attrOutputTokens, e.Model.OutputTokens), attribute.Float64(attrCost, e.Model.Cost))
		if s.t.content {
			s.model.SetAttributes(attribute.String(attrOutput, e.Model.Text))
		}
		fail(s.model, e.Model.Error, "model")
		s.model.End()
		s.model = nil
	case e.Type == event.RunEnded:
		s.end(e)
	}
}

func (s *spans) begin(e event.Event) {
	at := []attribute.KeyValue{attribute.String(attrOperation, opAgent), attribute.String(attrAgent, agentName)}
	if s.conversation != "" {
		at = append(at, attribute.String(attrConversation, s.conversation))
	}
	if provider, name := split(e.Started.Model); provider != "" {
		at = append(at, attribute.String(attrProvider, provider), attribute.String(attrModel, name))
	}
	if s.t.content {
		at = append(at, attribute.String(attrInput, e.Started.Question.Text))
	}
	s.ctx, s.whole = s.t.tracer.Start(s.ctx, opAgent+" "+agentName, trace.WithAttributes(at...))
}

func (s *spans) toolEnded(e event.Event) {
	id := e.Evidence.ID
	if e.Call != nil {
		id = e.Call.ID
	}
	sp := s.tools[id]
	if sp == nil {
		return
	}
	delete(s.tools, id)
	if s.t.content {
		sp.SetAttributes(attribute.String(attrToolResult, e.Evidence.Text))
	}
	fail(sp, e.Evidence.Error, e.Evidence.ErrorKind)
	sp.End()
}

func (s *spans) end(e event.Event) {
	if s.model != nil {
		s.model.End()
	}
	for _, sp := range s.tools {
		sp.End()
	}
	if r := e.Report; r != nil {
		s.whole.SetAttributes(attribute.String(attrOutcome, string(r.Diagnosis.Outcome)), attribute.Int(attrInputTokens, r.Usage.InputTokens),
			attribute.Int(attrOutputTokens, r.Usage.OutputTokens), attribute.Float64(attrCost, r.Usage.Cost))
		if len(r.Diagnosis.Causes) > 0 {
			s.whole.SetAttributes(attribute.String(attrCause, r.Diagnosis.Causes[0].Code))
		}
	}
	s.whole.End()
	s.whole = nil
}

func fail(sp trace.Span, text, kind string) {
	if text == "" {
		return
	}
	sp.SetStatus(codes.Error, text)
	if kind == "" {
		kind = "_OTHER"
	}
	sp.SetAttributes(attribute.String(attrError, kind))
}

// split parts PROVIDER/NAME; what has no provider is no model.
func split(model string) (provider, name string) {
	provider, name, ok := strings.Cut(model, "/")
	if !ok {
		return "", model
	}
	return provider, name
}

// Plans gives a sink that makes a span of each execution of a plan.
func (t *Tracer) Plans(ctx context.Context) event.Sink {
	if t == nil {
		return event.SinkFunc(func(event.Event) {})
	}
	var mu sync.Mutex
	open := map[string]trace.Span{}
	return event.SinkFunc(func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Type {
		case event.PlanBegun, event.UndoBegun:
			if open[e.Run] == nil {
				_, open[e.Run] = t.tracer.Start(ctx, opPlan+" "+e.Run, trace.WithAttributes(attribute.String(attrOperation, opPlan), attribute.String(attrPlan, e.Run)))
			}
		case event.WriteEnded, event.StepEnded:
			if sp := open[e.Run]; sp != nil && e.Progress != nil {
				sp.AddEvent(string(e.Type), trace.WithAttributes(attribute.String("step", e.Progress.Step), attribute.String("write", e.Progress.Write)))
			}
		case event.PlanEnded:
			sp := open[e.Run]
			if sp == nil {
				return
			}
			delete(open, e.Run)
			if e.Progress != nil {
				sp.SetAttributes(attribute.String(attrState, string(e.Progress.State)))
			}
			sp.End()
		}
	})
}
