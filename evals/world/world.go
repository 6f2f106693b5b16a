// Package world is a recorded cluster in which something happens: what is written to
// its API in memory is answered as the controllers, the scheduler and the kubelets of a
// real one would, as far as a case says it; writes can fail as a case says; and every
// change is noted as the API server saw it, beside what people approved.
package world

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
)

// Config of a World.
type Config struct {
	Bundle *bundle.Bundle
	// Reacts are what happens after writes, Faults what the API server does to them.
	Reacts []evals.Reaction
	Faults []evals.Fault
	// Annotation marks what a plan wrote, "<plan>/<write>".
	Annotation string
	// Place is the scheduler's allocator of devices; nil places no pod that has claims.
	Place Place
}

// World is one recorded cluster. It is safe for concurrent use.
type World struct {
	cfg    Config
	server *apiserver.Server
	dyn    dynamic.Interface
	mapper meta.ResettableRESTMapper

	mu sync.Mutex
	// clock is how much time has passed since the recording.
	clock time.Duration
	due   []pending
	seen  []evals.Seen
	// open are the requests of the approved plan that were not made yet.
	open    []allowed
	faults  []fault
	writes  int
	down    bool
	marked  map[string]string
	version uint64
	// known are the objects that were ever there: what they owned goes with them.
	known map[types.UID]bool
}

// pending is a reaction that is to come.
type pending struct {
	at time.Duration
	r  evals.Reaction
}

// hands is the user that the cluster's own controllers act as.
const hands = "system:kube-controller-manager"

// New makes a world of a recording.
func New(ctx context.Context, cfg Config) (*World, error) {
	s, err := apiserver.New(cfg.Bundle)
	if err != nil {
		return nil, err
	}
	rc := s.RESTConfig()
	rc.UserAgent = "kube-controller-manager"
	rc.Impersonate = rest.ImpersonationConfig{UserName: hands}
	s.Trust(hands)
	s.Canonical()
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	w := &World{cfg: cfg, server: s, dyn: dyn, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)), marked: map[string]string{}, known: map[types.UID]bool{}}
	for _, f := range cfg.Faults {
		times := f.Times
		if times == 0 {
			times = 1
		}
		w.faults = append(w.faults, fault{Fault: f, left: times})
	}
	// From here on it is known who was there.
	return w, w.collect(ctx)
}

// RESTConfig is how gumshoe reaches the cluster: every change is noted and may fail.
func (w *World) RESTConfig() *rest.Config {
	rc := w.server.RESTConfig()
	rc.Transport = &watched{w: w, next: rc.Transport}
	return rc
}

// Forbid takes rights from one user.
func (w *World) Forbid(user string, rights ...bundle.Denied) { w.server.Forbid(user, rights...) }

// Consent says which plan people approved; nil says that they approved none. Changes
// that it does not hold, or that it holds fewer times, are noted as not approved.
func (w *World) Consent(p *incident.Plan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = nil
	if p == nil {
		return
	}
	for _, s := range p.Steps {
		for _, x := range s.Writes {
			w.open = append(w.open, allow(x)...)
		}
		for _, x := range s.Undo {
			w.open = append(w.open, allow(x)...)
		}
	}
}

// Seen gives the changes that reached the API server so far.
func (w *World) Seen() []evals.Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]evals.Seen(nil), w.seen...)
}

// Version grows with every change of the cluster.
func (w *World) Version() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// Down reports whether the API server has stopped answering.
func (w *World) Down() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

// Up lets it answer again.
func (w *World) Up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// Sleep lets time pass at once, with what happens in it.
func (w *World) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	w.clock += d
	now := w.clock
	w.mu.Unlock()
	return w.until(ctx, now)
}

// Settle lets happen all that is still to come.
func (w *World) Settle(ctx context.Context) error { return w.until(ctx, 1<<62) }

// until runs the reactions that are due, in their order.
func (w *World) until(ctx context.Context, at time.Duration) error {
	for {
		w.mu.Lock()
		next := -1
		for i, p := range w.due {
			if p.at <= at && (next < 0 || p.at < w.due[next].at) {
				next = i
			}
		}
		if next < 0 {
			w.mu.Unlock()
			return nil
		}
		r := w.due[next].r
		w.due = append(w.due[:next:next], w.due[next+1:]...)
		w.mu.Unlock()
		if err := w.react(ctx, r); err != nil {
			return fmt.Errorf("reaction to %q: %w", r.Write, err)
		}
	}
}

// react does what a reaction says, if its conditions hold.
func (w *World) react(ctx context.Context, r evals.Reaction) error {
	for _, s := range r.If {
		what, err := w.Ask(ctx, s)
		if err != nil || what != "" {
			return err
		}
	}
	if err := w.Change(ctx, r.Change); err != nil {
		return err
	}
	if r.Roll == nil {
		return w.collect(ctx)
	}
	return w.roll(ctx, *r.Roll)
}

// changed notes that the cluster is not as it was.
func (w *World) changed() {
	w.mu.Lock()
	w.version++
	w.mu.Unlock()
}
