// Package app builds everything from one Config and is the only wiring: no
// other package knows which toolsets, model adapters and stores there are.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
	"github.com/gumshoe-ai/gumshoe/evals/world"
	"github.com/gumshoe-ai/gumshoe/runbooks"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// version is set at link time; a plain `go build` knows its module's version.
var version = "" //nolint:gochecknoglobals // the linker writes it

// Version names this build.
func Version() string {
	if version != "" {
		return "gumshoe " + version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "gumshoe " + info.Main.Version
	}
	return "gumshoe devel"
}

// App is gumshoe, wired to one source of facts.
type App struct {
	cfg      Config
	src      *source
	toolsets []tool.Toolset
	library  *runbooks.Library
	redactor *redact.Redactor
	detector *redact.Detector
	closers  []func() error
	// journal is nil where nothing is kept.
	journal *journal
	// model answers in place of the configured one; nil means the configuration's.
	model llm.Model
	// stage is the recorded cluster that reacts, if it is one.
	stage *world.World
}

// New wires an App to the cluster or bundle that the configuration names. It
// asks the source nothing yet.
func New(ctx context.Context, cfg Config) (*App, error) {
	src, err := openSource(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return assemble(cfg, src, nil)
}

// NewFromBundle wires an App to a bundle that is at hand as a file system.
func NewFromBundle(ctx context.Context, cfg Config, fsys fs.FS) (*App, error) {
	return (&Factory{cfg: cfg}).FromBundle(ctx, fsys)
}

// Factory makes Apps that share one configuration and its runbooks, which are read
// once: an evaluation wires hundreds of them. It is safe for concurrent use.
type Factory struct {
	cfg Config
	lib *runbooks.Library
}

// NewFactory reads the runbooks of a configuration.
func NewFactory(cfg Config) (*Factory, error) {
	lib, err := Library(cfg)
	if err != nil {
		return nil, err
	}
	return &Factory{cfg: cfg, lib: lib}, nil
}

// FromBundle wires an App to a bundle that is at hand as a file system.
func (f *Factory) FromBundle(ctx context.Context, fsys fs.FS) (*App, error) {
	src, err := bundleFS(ctx, fsys)
	if err != nil {
		return nil, err
	}
	return assemble(f.cfg, src, f.lib)
}

// assemble wires an App; without a library it reads that of the configuration.
func assemble(cfg Config, src *source, lib *runbooks.Library) (*App, error) {
	a := &App{cfg: cfg, src: src, redactor: redact.New(), detector: redact.NewDetector(), closers: []func() error{src.close}}
	// client-go logs through klog: nothing of it may reach a terminal by itself.
	klog.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	for _, secret := range append(slices.Concat(cfg.Prometheus.secrets(), cfg.Loki.secrets(), cfg.Supply.secrets(), cfg.modelSecrets()), src.rest.BearerToken, src.rest.Password) {
		a.redactor.AddKnown(secret, "credential")
	}
	var err error
	if lib == nil {
		if lib, err = Library(cfg); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	a.library = lib
	src.cfg = cfg
	if a.toolsets, err = toolsets(src); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.adopt(a.toolsets)
	return a, nil
}

// Close releases what New took. It may be called after a half-done New.
func (a *App) Close() error {
	var errs []error
	for _, v := range slices.Backward(a.closers) {
		errs = append(errs, v())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// toolsets builds the toolsets that ship, for one source.
func toolsets(src *source) ([]tool.Toolset, error) {
	typed := rest.CopyConfig(src.rest)
	if src.protobuf {
		typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
		typed.ContentType = "application/vnd.kubernetes.protobuf"
	}
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	meta, err := metadata.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(src.rest)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(src.rest)
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	k, err := kube.New(kube.Config{Client: client, Dynamic: dyn, Discovery: disc, Metadata: meta, Cluster: src.cluster, Namespace: src.namespace, Now: src.now})
	if err != nil {
		return nil, err
	}
	src.services = func(ctx context.Context) ([]*corev1.Service, error) { return k.Source().Services(ctx, "") }
	d, err := dra.New(dra.Config{Client: client, Dynamic: dyn, Discovery: disc, Nodes: k.Nodes, Cluster: src.cluster, Now: src.now})
	if err != nil {
		return nil, err
	}
	p, err := prom.New(prom.Config{Client: src.promClient(), Cluster: src.cluster, Exists: existence(k)})
	if err != nil {
		return nil, err
	}
	f, err := newFit(src, k, d)
	if err != nil {
		return nil, err
	}
	out := []tool.Toolset{k, d, p, f}
	for _, build := range []func() (tool.Toolset, error){
		func() (tool.Toolset, error) { return newCilium(src, k) },
		func() (tool.Toolset, error) { return newLogs(src, k) },
		func() (tool.Toolset, error) { return newLoki(src, k) },
		func() (tool.Toolset, error) { return newSupply(src, k) },
		func() (tool.Toolset, error) { return newCustom(src) },
		func() (tool.Toolset, error) { return newStorage(src, k) },
		func() (tool.Toolset, error) { return newNodepool(src, k) },
		func() (tool.Toolset, error) { return newServing(src, k, client) },
		func() (tool.Toolset, error) { return newGPU(src, k) },
	} {
		ts, err := build()
		if err != nil {
			return nil, err
		}
		if ts != nil {
			out = append(out, ts)
		}
	}
	servers, err := newMCP(src)
	if err != nil {
		return nil, err
	}
	return append(out, servers...), nil
}

// Investigate answers one question. The report is complete also when the error
// is not nil.
func (a *App) Investigate(ctx context.Context, q incident.Question, sink event.Sink) (incident.Report, error) {
	k := a.journal.begin(ctx, sink)
	defer k.end()
	return a.run(ctx, q, runOptions{Sink: k.sink, Spill: k.spill})
}

// runOptions say how one investigation runs.
type runOptions struct {
	// ID names the run; empty is a new one.
	ID string
	// Model is asked in place of the configured one; empty is that one.
	Model string
	// Note is told at its beginning, if there is something to tell.
	Note  string
	Sink  event.Sink
	Spill investigate.Spill
}

// run investigates. It journals nothing by itself: the sink does.
func (a *App) run(ctx context.Context, q incident.Question, o runOptions) (incident.Report, error) {
	model, closer, err := openModel(a.cfg, o.Model, a.redactor.String, o.Sink)
	if err != nil {
		return incident.Report{}, err
	}
	defer closer()
	if a.model != nil {
		model = a.model
	}
	known, err := proposable()
	if err != nil {
		return incident.Report{}, err
	}
	ic := investigate.Config{
		Cluster: a.src.cluster, Toolsets: a.toolsets, Model: model, Actions: known,
		Triager: triage.New(triage.Config{Cluster: a.src.cluster, Toolsets: a.toolsets, Library: a.library}),
		Budget:  investigate.Budget{Steps: a.cfg.Budget.Steps, Tokens: a.cfg.Budget.Tokens, Cost: a.cfg.Budget.Cost, WallClock: time.Duration(a.cfg.Budget.Timeout)},
		Now:     a.src.now, Redactor: a.redactor, Suspicious: a.detector.Marks, Spill: o.Spill, Note: o.Note,
	}
	if o.ID != "" {
		ic.NewID = func() string { return o.ID }
	}
	inv, err := investigate.New(ic)
	if err != nil {
		return incident.Report{}, err
	}
	return inv.Run(tool.Fresh(ctx), q, o.Sink)
}

// ToolAnswer is what one tool said.
type ToolAnswer struct {
	Evidence incident.Evidence  `json:"evidence"`
	Findings []incident.Finding `json:"findings"`
	Edges    []incident.Edge    `json:"edges"`
}

// CallTool calls one tool by name through the same ledger that investigations
// use: the same checks, the same redaction. It reads nothing older than the call.
func (a *App) CallTool(ctx context.Context, name string, args json.RawMessage) (ToolAnswer, error) {
	ctx = tool.Fresh(ctx)
	l, err := investigate.NewLedger(investigate.LedgerConfig{Cluster: a.src.cluster, Now: a.src.now, Redactor: a.redactor, Suspicious: a.detector.Marks, AllowProbe: a.cfg.AllowProbe})
	if err != nil {
		return ToolAnswer{}, err
	}
	for _, ts := range a.toolsets {
		for _, t := range ts.Tools() {
			if t.Info().Name == name {
				if st := ts.Status(ctx); st.State != tool.Ready {
					return ToolAnswer{}, &tool.Error{Kind: stateKind(st.State), User: fmt.Sprintf("%s is not available: %s", name, st.Reason), Fix: st.Fix}
				}
				if err := l.Register(t); err != nil {
					return ToolAnswer{}, err
				}
				ev, res := l.Call(ctx, name, args)
				if ev.Error != "" {
					return ToolAnswer{}, &tool.Error{Kind: tool.Kind(ev.ErrorKind), User: ev.Error}
				}
				return ToolAnswer{Evidence: ev, Findings: orEmpty(res.Findings), Edges: orEmpty(res.Edges)}, nil
			}
		}
	}
	return ToolAnswer{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no tool %q", name), Fix: "see gumshoe tools list"}
}

func stateKind(s tool.State) tool.Kind {
	if s == tool.Denied {
		return tool.Forbidden
	}
	if s == tool.Absent {
		return tool.NotServed
	}
	return tool.Unreachable
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Library loads the runbooks that ship and those of the configuration, which win.
func Library(cfg Config) (*runbooks.Library, error) {
	shipped, err := runbooks.Embedded()
	if err != nil {
		return nil, err
	}
	dirs := []fs.FS{shipped}
	for _, d := range cfg.Runbooks {
		if st, err := os.Stat(d); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("runbooks: %s is not a directory", d)
		}
		dirs = append(dirs, os.DirFS(d))
	}
	return runbooks.Load(dirs...)
}
