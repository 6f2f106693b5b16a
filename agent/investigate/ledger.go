package investigate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Redactor masks secrets. It is applied to everything a tool answers and to
// every text of a model, before any of it is stored or shown.
type Redactor interface {
	// String masks secrets in text.
	String(string) string
	// JSON masks secrets in a JSON document and keeps it valid.
	JSON(json.RawMessage) json.RawMessage
}

// LedgerConfig of a Ledger. Redactor is required.
type LedgerConfig struct {
	// Cluster is stamped on evidence.
	Cluster  string
	Redactor Redactor
	// Suspicious gives the instruction-like fragments of a text; nil marks nothing.
	Suspicious func(string) []string
	// Spill keeps full outputs; nil keeps them in memory.
	Spill Spill
	// AllowProbe lets tools of effect Probe be called.
	AllowProbe bool
	// CallTimeout bounds one call; 0 means DefaultCallTimeout.
	CallTimeout time.Duration
	// Parallel bounds the calls of one CallAll in flight; 0 means 8.
	Parallel int
	// Now stamps evidence; nil means time.Now. With a bundle it is the capture time.
	Now func() time.Time
	// Sink takes tool.started, tool.finished and finding events; nil drops them.
	Sink event.Sink
}

// DefaultCallTimeout bounds a tool call for which nothing else is configured.
const DefaultCallTimeout = 45 * time.Second

// abandonAfter is how long a tool that ignores the end of its context is waited
// for before its answer is given up.
const abandonAfter = time.Second

// Ledger calls tools and keeps what they answered. It is the only way from an
// investigation to a system: whatever is claimed later is checked against it.
//
// Evidence ids count from E1 in the order in which calls begin; CallAll begins
// its calls in the order of its arguments, so that parallel calls get the same
// ids on every run. It is safe for concurrent use.
type Ledger struct {
	cfg LedgerConfig

	mu      sync.Mutex
	tools   map[string]*offer
	names   []string
	records []*record
	byKey   map[string]*record
	// told are the findings that were emitted.
	told map[told]bool
}

type told struct {
	code    string
	subject incident.Ref
}

var _ tool.Caller = (*Ledger)(nil)

type offer struct {
	tool tool.Tool
	info tool.Info
	// in makes the check of arguments at the first call; nil where there is no schema.
	in func() (*jsonschema.Resolved, error)
}

// record is one call: waiting until done is closed, immutable afterwards.
type record struct {
	key  string
	done chan struct{}
	ev   incident.Evidence
	res  tool.Result
	full output
}

// NewLedger makes an empty ledger.
func NewLedger(cfg LedgerConfig) (*Ledger, error) {
	if cfg.Redactor == nil {
		return nil, errors.New("investigate: a Redactor is required: nothing is stored unmasked")
	}
	if cfg.Spill == nil {
		cfg.Spill = NewMemorySpill(0)
	}
	if cfg.CallTimeout <= 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 8
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sink == nil {
		cfg.Sink = event.SinkFunc(func(event.Event) {})
	}
	return &Ledger{cfg: cfg, tools: map[string]*offer{}, byKey: map[string]*record{}, told: map[told]bool{}}, nil
}

// Register offers tools. It fails on a name that is taken and on a tool whose
// input schema does not resolve.
func (l *Ledger) Register(tools ...tool.Tool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range tools {
		info := t.Info()
		if info.Name == "" || info.Name == readTool || info.Name == concludeTool || info.Name == openTool {
			return fmt.Errorf("investigate: %q cannot be the name of a tool", info.Name)
		}
		if _, taken := l.tools[info.Name]; taken {
			return fmt.Errorf("investigate: two tools are called %s", info.Name)
		}
		e := &offer{tool: t, info: info}
		if info.Input != nil {
			e.in = sync.OnceValues(func() (*jsonschema.Resolved, error) { return info.Input.Resolve(nil) })
		}
		l.tools[info.Name] = e
		l.names = append(l.names, info.Name)
	}
	return nil
}

// Infos lists the registered tools that may be called, in the order of their
// registration.
func (l *Ledger) Infos() []tool.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []tool.Info
	for _, n := range l.names {
		if e := l.tools[n]; l.allowed(e.info) == nil {
			out = append(out, e.info)
		}
	}
	return out
}

// Evidence lists what was recorded, oldest first. Calls still under way are left out.
func (l *Ledger) Evidence() []incident.Evidence {
	out := []incident.Evidence{}
	for _, r := range l.finished() {
		out = append(out, r.ev)
	}
	return out
}

// Findings lists the findings of all calls in the order of the calls, merged by
// code and subject: the surest one stands and carries all evidence.
func (l *Ledger) Findings() []incident.Finding {
	var all merged
	for _, r := range l.finished() {
		all.add(r.res.Findings...)
	}
	return all.list
}

// Edges lists the edges of all calls in the order of the calls; the same edge
// carries all its evidence.
func (l *Ledger) Edges() []incident.Edge {
	g := graph.New()
	for _, r := range l.finished() {
		g.Add(r.res.Edges...)
	}
	return g.Edges()
}

// Calls counts the tool calls that were made.
func (l *Ledger) Calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// Full gives the whole redacted answer behind a piece of evidence: the text
// before it was shortened, and the data.
func (l *Ledger) Full(id string) (text string, data json.RawMessage, ok bool) {
	r := l.find(id)
	if r == nil {
		return "", nil, false
	}
	o := l.whole(r)
	return o.Text, o.Data, true
}

func (l *Ledger) finished() []*record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*record
	for _, r := range l.records {
		select {
		case <-r.done:
			out = append(out, r)
		default:
		}
	}
	return out
}

func (l *Ledger) find(id string) *record {
	for _, r := range l.finished() {
		if r.ev.ID == id {
			return r
		}
	}
	return nil
}

// Call implements tool.Caller. A call that was made before in this run, with
// the same arguments and with success, is not made again: its evidence is
// returned. A call that cannot be made at all (unknown tool, arguments that do
// not fit) comes back as evidence with an Error and without an ID: it is no look
// at the world.
func (l *Ledger) Call(ctx context.Context, name string, args any) (incident.Evidence, tool.Result) {
	return l.call(ctx, "triage", name, args)
}

// CallAll makes several calls in parallel. The answers come in the order of the
// arguments, and so do the evidence ids. names and args have the same length.
func (l *Ledger) CallAll(ctx context.Context, names []string, args []any) ([]incident.Evidence, []tool.Result) {
	return l.callAll(ctx, "triage", names, args)
}

func (l *Ledger) call(ctx context.Context, by, name string, args any) (incident.Evidence, tool.Result) {
	return l.begin(ctx, by, name, args)()
}

func (l *Ledger) callAll(ctx context.Context, by string, names []string, args []any) ([]incident.Evidence, []tool.Result) {
	evs, results := make([]incident.Evidence, len(names)), make([]tool.Result, len(names))
	sem := make(chan struct{}, l.cfg.Parallel)
	var wg sync.WaitGroup
	for i, name := range names {
		var a any
		if i < len(args) {
			a = args[i]
		}
		sem <- struct{}{}
		finish := l.begin(ctx, by, name, a)
		wg.Go(func() {
			defer func() { <-sem }()
			evs[i], results[i] = finish()
		})
	}
	wg.Wait()
	return evs, results
}

// begin checks a call and gives it its id; the function it returns makes it.
func (l *Ledger) begin(ctx context.Context, by, name string, args any) func() (incident.Evidence, tool.Result) {
	if name == readTool {
		return func() (incident.Evidence, tool.Result) { return l.read(args) }
	}
	l.mu.Lock()
	e := l.tools[name]
	l.mu.Unlock()
	raw, err := l.check(e, name, args)
	if err != nil {
		return l.refuse(name, raw, err)
	}
	if err := l.allowed(e.info); err != nil {
		return l.refuse(name, raw, err)
	}
	key := name + "\x00" + string(raw)

	l.mu.Lock()
	if r := l.byKey[key]; r != nil {
		l.mu.Unlock()
		return func() (incident.Evidence, tool.Result) {
			select {
			case <-r.done:
				return r.ev, r.res
			case <-ctx.Done():
				return incident.Evidence{Tool: name, Args: r.ev.Args, Error: "interrupted", ErrorKind: string(tool.TimedOut)}, tool.Result{}
			}
		}
	}
	r := &record{key: key, done: make(chan struct{})}
	l.records = append(l.records, r)
	l.byKey[key] = r
	r.ev = incident.Evidence{
		ID: "E" + strconv.Itoa(len(l.records)), Tool: name, Args: l.cfg.Redactor.JSON(raw),
		Cluster: l.cfg.Cluster, At: l.cfg.Now(),
	}
	// Announced while the id is taken, so that readers see the calls in order.
	l.cfg.Sink.Emit(event.Event{Type: event.ToolStarted, Call: &event.Call{ID: r.ev.ID, Tool: name, Args: string(r.ev.Args), By: by}})
	l.mu.Unlock()
	return func() (incident.Evidence, tool.Result) { return l.perform(ctx, e, r, raw) }
}

func (l *Ledger) refuse(name string, raw json.RawMessage, err error) func() (incident.Evidence, tool.Result) {
	ev := incident.Evidence{Tool: name, Cluster: l.cfg.Cluster, At: l.cfg.Now(),
		Error: l.cfg.Redactor.String(short(tool.UserText(err), maxError)), ErrorKind: string(tool.KindOf(err))}
	if json.Valid(raw) {
		ev.Args = l.cfg.Redactor.JSON(raw)
	}
	return func() (incident.Evidence, tool.Result) { return ev, tool.Result{} }
}

// allowed refuses what is not known to be harmless.
func (l *Ledger) allowed(info tool.Info) error {
	switch info.Effect {
	case tool.Read:
		return nil
	case tool.Probe:
		if l.cfg.AllowProbe {
			return nil
		}
		return &tool.Error{Kind: tool.Forbidden, User: info.Name + " touches the workload and probes are not allowed in this run", Fix: "allow probes to use it"}
	}
	return &tool.Error{Kind: tool.Forbidden, User: fmt.Sprintf("%s has the unknown effect %q and is not called", info.Name, info.Effect)}
}

// check gives the canonical arguments: keys sorted, no white space, so that
// equal calls are equal bytes.
func (l *Ledger) check(e *offer, name string, args any) (json.RawMessage, error) {
	if e == nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no tool %q", short(name, 80)), Fix: "tools: " + l.list()}
	}
	raw, err := encodeArgs(args)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: arguments are not valid JSON: %v", name, err), Fix: "send one JSON object; arguments: " + tool.Signature(e.info.Input), Err: err}
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return raw, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: arguments are not valid JSON: %v", name, err), Fix: "send one JSON object; arguments: " + tool.Signature(e.info.Input), Err: err}
	}
	if m, ok := v.(map[string]any); ok && e.info.Input != nil {
		dropEmpty(m, e.info.Input)
	}
	if e.in != nil {
		check, err := e.in()
		if err != nil {
			return raw, &tool.Error{Kind: tool.Internal, User: fmt.Sprintf("%s: its input schema cannot be used: %v", name, err), Err: err}
		}
		if err := check.Validate(v); err != nil {
			return raw, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: %v", name, err), Fix: "arguments: " + tool.Signature(e.info.Input), Err: err}
		}
	}
	canonical, err := json.Marshal(v)
	if err != nil {
		return raw, &tool.Error{Kind: tool.Invalid, User: name + ": " + err.Error(), Err: err}
	}
	return canonical, nil
}

// dropEmpty takes out nulls of optional arguments: models write them for
// "not said", and the same call with and without them is one call.
func dropEmpty(m map[string]any, s *jsonschema.Schema) {
	for k, v := range m {
		if v == nil && !slices.Contains(s.Required, k) {
			delete(m, k)
		}
	}
}

func encodeArgs(args any) (json.RawMessage, error) {
	switch a := args.(type) {
	case nil:
		return json.RawMessage("{}"), nil
	case json.RawMessage:
		return blank(a), nil
	case []byte:
		return blank(a), nil
	case string:
		return blank(json.RawMessage(a)), nil
	}
	return json.Marshal(args)
}

// list names the tools for a caller that named none of them.
func (l *Ledger) list() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := slices.Clone(l.names)
	slices.Sort(names)
	return strings.Join(append(names, readTool), ", ")
}
