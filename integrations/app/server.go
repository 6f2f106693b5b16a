package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/telemetry"
)

// Server is gumshoe as a process that people and machines reach over the network.
type Server struct {
	opts   ServerOptions
	keeper *Keeper
	log    *slog.Logger
	// current is what serves now; a reload puts another in its place.
	current atomic.Pointer[generation]
	ready   atomic.Bool
	gate    *access.Gate
	reload  chan struct{}
	metrics *telemetry.Metrics
	tracer  *telemetry.Tracer
}

// ServerOptions make a Server.
type ServerOptions struct {
	// Load reads the configuration, at the start and at each reload.
	Load func() (Config, error)
	// App wires an App to a configuration; nil is New.
	App func(context.Context, Config) (*App, error)
	// Keeper opens the store; nil is ServerKeeper.
	Keeper func(context.Context, Config, *slog.Logger) (*Keeper, error)
	Log *slog.Logger
	// Listen opens a listener; nil is net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Ready is told of the addresses once they are served.
	Ready func(main, metrics net.Addr)
	// Boundary is called at every point at which a crash could part what was done from
	// what is known; tests end the process there.
	Boundary func(string)
}

// generation is what one reading of the configuration made: it ends as a whole.
type generation struct {
	cfg     Config
	app     *App
	service *Service
	gate    *access.Gate
	routes  []access.Route
	handler http.Handler
	parts   []part
	stop    context.CancelFunc
	done    chan struct{}
}

// part is something of a generation that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// NewServer opens the store and builds what serves.
func NewServer(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{opts: o, log: o.Log, reload: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.opts.Listen == nil {
		s.opts.Listen = net.Listen
	}
	if s.opts.App == nil {
		s.opts.App = New
	}
	if s.opts.Keeper == nil {
		s.opts.Keeper = ServerKeeper
	}
	cfg, err := o.Load()
	if err != nil {
		return nil, err
	}
	if s.keeper, err = s.opts.Keeper(ctx, cfg, s.log); err != nil {
		return nil, err
	}
	s.metrics = telemetry.NewMetrics(Version(), func() telemetry.Standing { return s.Service() })
	t := cfg.Server.Tracing
	s.tracer, err = telemetry.NewTracer(ctx, telemetry.TraceConfig{Endpoint: t.Endpoint, HeadersFile: t.HeadersFile, Content: t.Content, Version: Version(), Cluster: cfg.Kubernetes.Context})
	if err != nil {
		return nil, errors.Join(err, s.keeper.Close())
	}
	g, err := s.build(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, s.keeper.Close())
	}
	s.gate = g.gate
	s.current.Store(g)
	return s, nil
}

// Service gives the service that answers now.
func (s *Server) Service() *Service { return s.current.Load().service }

// Routes gives everything that is served now.
func (s *Server) Routes() []access.Route { return s.current.Load().routes }

// Reload makes a running server read its configuration again.
func (s *Server) Reload() {
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// build makes a generation; nothing of it runs yet.
func (s *Server) build(ctx context.Context, cfg Config) (_ *generation, err error) {
	a, err := s.opts.App(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	sc := cfg.Server
	svc, err := NewService(a, ServiceConfig{Keeper: s.keeper, Queue: sc.Queue, Execute: sc.Execute, Log: s.log, Measure: s.metrics.Turn, Tracer: s.tracer})
	if err != nil {
		return nil, err
	}
	svc.plans.Boundary = s.opts.Boundary
	auth := sc.Auth
	auth.TLS, auth.Log, auth.Reviewer = sc.TLS, s.log, tokenReviewer{a}
	auth.Revocations = revocations{s.keeper}
	auth.OnDenied = func(_ context.Context, _ string, d access.Denied) { s.metrics.Denied(d.Status) }
	if old := s.current.Load(); old != nil {
		auth.Previous = old.gate // a reload signs nobody out
	}
	gate, err := access.New(auth)
	if err != nil {
		return nil, err
	}
	g := &generation{cfg: cfg, app: a, service: svc, gate: gate, done: make(chan struct{})}
	routes := [][]access.Route{gate.Routes(), s.probes(cfg)}
	more, err := s.surfaces(g)
	if err != nil {
		return nil, err
	}
	g.routes = slices.Concat(append(routes, more...)...)
	if g.handler, err = gate.Mux(g.routes); err != nil {
		return nil, err
	}
	return g, nil
}

// start runs a generation in the background.
func (s *Server) start(ctx context.Context, g *generation) {
	ctx, g.stop = context.WithCancel(ctx)
	go func() {
		defer close(g.done)
		var wg sync.WaitGroup
		for _, p := range append([]part{{"service", g.service.Serve}}, g.parts...) {
			wg.Go(func() {
				if err := p.run(ctx); err != nil && ctx.Err() == nil {
					s.log.Error("a part of the server ended", "part", p.name, "error", err)
				}
			})
		}
		wg.Wait()
		if err := g.app.Close(); err != nil {
			s.log.Warn("the clients did not close", "error", err)
		}
	}()
}

// Run serves until ctx ends: then nothing new is taken, requests and runs come to an
// end within their grace, and what is left goes back to the queue.
func (s *Server) Run(ctx context.Context) error {
	g := s.current.Load()
	defer func() { _ = s.keeper.Close() }()
	addr := g.cfg.Server.Listen
	if addr == "" {
		addr = DefaultListen
	}
	l, err := s.opts.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("server.listen %s: %w", addr, err)
	}
	var ml net.Listener
	var metrics net.Addr
	if m := g.cfg.Server.MetricsListen; m != "" {
		if ml, err = s.opts.Listen("tcp", m); err != nil {
			return errors.Join(fmt.Errorf("server.metricsListen %s: %w", m, err), l.Close())
		}
		metrics = ml.Addr()
	}
	// The queue goes on until the last request was answered: what is taken is worked
	// on here, not left.
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s.start(work, g)
	s.ready.Store(true)
	if s.opts.Ready != nil {
		s.opts.Ready(l.Addr(), metrics)
	}
	var wg sync.WaitGroup
	if ml != nil {
		wg.Go(func() { s.serveMetrics(work, ml) })
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	wg.Go(func() { s.watchReload(watching, work) })
	err = s.gate.Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.current.Load().handler.ServeHTTP(w, r) }))
	s.ready.Store(false)
	stopWatching()
	end()
	<-s.current.Load().done
	wg.Wait()
	flush, stop := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer stop()
	return errors.Join(err, s.tracer.Close(flush))
}

// watchReload puts a new generation in place of the old when asked to. One that
// cannot be built leaves the old one as it is.
func (s *Server) watchReload(ctx, work context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reload:
		}
		old := s.current.Load()
		cfg, err := s.opts.Load()
		if err != nil {
			s.log.Error("the configuration cannot be read, so the old one stays", "error", err)
			continue
		}
		for _, name := range unreloadable(old.cfg, cfg) {
			s.log.Warn("this setting needs a restart", "setting", name)
		}
		g, err := s.build(work, cfg)
		if err != nil {
			s.log.Error("the configuration cannot be used, so the old one stays", "error", err)
			continue
		}
		s.start(work, g)
		s.current.Store(g)
		old.stop()
		s.log.Info("the configuration was read again")
	}
}

// unreloadable names settings that differ and are read at the start only.
func unreloadable(a, b Config) []string {
	var out []string
	for name, pair := range map[string][2]any{
		"server.listen": {a.Server.Listen, b.Server.Listen}, "server.metricsListen": {a.Server.MetricsListen, b.Server.MetricsListen},
		"server.nats": {a.Server.NATS, b.Server.NATS}, "server.tls": {a.Server.TLS, b.Server.TLS}, "store.dir": {a.Store.Dir, b.Store.Dir},
		"server.tracing": {a.Server.Tracing, b.Server.Tracing},
	} {
		x, errx := json.Marshal(pair[0])
		y, erry := json.Marshal(pair[1])
		if errx != nil || erry != nil || string(x) != string(y) {
			out = append(out, name)
		}
	}
	return out
}

// Bounds of a probe.
const probeTimeout = 5 * time.Second

// probes are health and readiness, and the metrics where they have no address of
// their own.
func (s *Server) probes(cfg Config) []access.Route {
	out := []access.Route{
		{Method: "GET", Pattern: "/healthz", Public: true, Why: "a kubelet asks without credentials and learns one word", Handler: http.HandlerFunc(s.healthz)},
		{Method: "GET", Pattern: "/readyz", Public: true, Why: "a kubelet asks without credentials and learns one sentence", Handler: http.HandlerFunc(s.readyz)},
	}
	if cfg.Server.MetricsListen == "" {
		out = append(out, access.Route{Method: "GET", Pattern: "/metrics", Role: access.Viewer, Handler: s.metrics.Handler()})
	}
	return out
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), probeTimeout)
	defer stop()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready: the server starts or ends")
		return
	}
	if err := s.keeper.Health(ctx); err != nil {
		s.log.Warn("not ready", "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready: the store does not answer")
		return
	}
	fmt.Fprintln(w, "ok")
}

// serveMetrics serves metrics and probes until ctx ends.
func (s *Server) serveMetrics(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: probeTimeout, ReadTimeout: probeTimeout, WriteTimeout: 4 * probeTimeout}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("the metrics are not served any more", "error", err)
	}
}
