package planner_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// counter counts the requests that change something, by method.
type counter struct {
	next http.RoundTripper
	mu   sync.Mutex
	n    int
	// before is called before a request that changes something is sent on.
	before func(*http.Request) error
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
		c.mu.Lock()
		c.n++
		c.mu.Unlock()
		if c.before != nil {
			if err := c.before(r); err != nil {
				return nil, err
			}
		}
	}
	return c.next.RoundTrip(r)
}

func (c *counter) writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// world is a cluster in memory with everything that plans need.
type world struct {
	t       *testing.T
	rest    *rest.Config
	counter *counter
	dyn     dynamic.Interface
	cat     *actions.Catalogue
	store   *file.Store
	trail   *trail
	now     time.Time
}

const objects = `apiVersion: v1
kind: Namespace
metadata: {name: kube-system, uid: 00000000-0000-0000-0000-00000000c1a5}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: 00000000-0000-0000-0000-000000005409}
---
apiVersion: v1
kind: Node
metadata: {name: a, uid: 00000000-0000-0000-0000-0000000000a0, labels: {pool: blue}}
spec: {}
---
apiVersion: v1
kind: Node
metadata: {name: b, uid: 00000000-0000-0000-0000-0000000000b0, labels: {pool: blue}}
spec: {unschedulable: true}
---
apiVersion: v1
kind: Node
metadata: {name: c, uid: 00000000-0000-0000-0000-0000000000c0, labels: {pool: blue}, annotations: {note: kept}}
spec: {}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	b, err := bundle.Open(fstest.MapFS{
		"bundle.yaml":      {Data: []byte("formatVersion: 1\ncluster: lab\ncaptured: \"2026-11-27T12:00:00Z\"\n")},
		"objects/all.yaml": {Data: []byte(objects)},
	}, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, rest: srv.RESTConfig(), trail: &trail{}, now: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)}
	w.counter = &counter{next: w.rest.Transport}
	w.rest.Transport = w.counter
	if w.dyn, err = dynamic.NewForConfig(w.rest); err != nil {
		t.Fatal(err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(w.rest)
	if err != nil {
		t.Fatal(err)
	}
	w.cat, err = actions.New(actions.Config{Cluster: "lab", Dynamic: w.dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)), Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.store, err = file.Open(file.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

func (w *world) clock() time.Time { return w.now }

// trail keeps notes in memory.
type trail struct {
	mu    sync.Mutex
	notes []string
	fail  error
}

func (n *trail) Note(_ context.Context, _, _, _, what string, _ any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.notes = append(n.notes, what)
	return nil
}

// yes is everybody's consent.
type yes struct{}

func (yes) Judge(context.Context, planner.Record) ([]string, error) { return []string{"n1"}, nil }

func (yes) Stood(context.Context, planner.Record) error { return nil }

// no is nobody's.
type no struct{}

func (no) Judge(_ context.Context, r planner.Record) ([]string, error) {
	return nil, &planner.Withheld{Plan: r.Plan.ID, Why: "nobody approved it"}
}

func (no) Stood(_ context.Context, r planner.Record) error {
	return &planner.Withheld{Plan: r.Plan.ID, Why: "nobody approved it when it began"}
}

const clusterUID = "00000000-0000-0000-0000-00000000c1a5"

func (w *world) executor() *planner.Executor {
	return &planner.Executor{
		Journal: w.store, Consent: yes{}, Trail: w.trail, Backends: map[string]planner.Backend{incident.APIKubernetes: actions.NewBackend(w.dyn)},
		Checker: w.cat.NewChecker(nil, false), Now: w.clock, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		ClusterUID: clusterUID,
	}
}

// plan builds and files a plan.
func (w *world) plan(id string, steps ...planner.Wish) planner.Record {
	w.t.Helper()
	p, err := w.build(id, steps...)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.file(p)
}

func (w *world) build(id string, steps ...planner.Wish) (incident.Plan, error) {
	rc := rest.CopyConfig(w.rest)
	rc.Transport = actions.DryOnly(w.rest.Transport)
	dry, err := dynamic.NewForConfig(rc)
	if err != nil {
		w.t.Fatal(err)
	}
	b := planner.Builder{Catalogue: w.cat, Dry: map[string]planner.Backend{incident.APIKubernetes: actions.NewBackend(dry)}}
	return b.Build(w.t.Context(), planner.Request{ID: id, Author: "gumshoe", Requester: incident.Person{Name: "ann"}, Steps: steps, Created: w.now, TTL: time.Hour, Cluster: "lab", ClusterUID: clusterUID})
}

func (w *world) desk() *planner.Desk {
	return &planner.Desk{Journal: w.store, Trail: w.trail, Now: w.clock}
}

func (w *world) file(p incident.Plan) planner.Record {
	w.t.Helper()
	r, err := w.desk().File(w.t.Context(), p, incident.Decision{Verdict: incident.AskOne, Approvers: 1}, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) node(name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) cordoned(name string) bool {
	w.t.Helper()
	on, _, err := unstructured.NestedBool(w.node(name).Object, "spec", "unschedulable")
	if err != nil {
		w.t.Fatal(err)
	}
	return on
}

// annotate changes an object as somebody else would.
func (w *world) merge(name string, doc any) {
	w.t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).Patch(w.t.Context(), name, "application/merge-patch+json", raw, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		w.t.Fatal(err)
	}
}

// events gives the types in the journal of a plan.
func (w *world) events(id string) []string {
	w.t.Helper()
	var out []string
	for r, err := range w.store.Load(w.t.Context(), "plan."+id, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, r.Type)
	}
	return out
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := w.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// replace makes a node anew under its name.
func (w *world) replace(name string) {
	w.t.Helper()
	u := w.node(name)
	w.remove(name)
	for _, f := range []string{"uid", "resourceVersion", "managedFields", "creationTimestamp"} {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
	if _, err := w.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).Create(w.t.Context(), u, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// forge appends to the journal of a plan as somebody would who holds the disk.
func (w *world) forge(id string, kind event.Type, e event.Event) {
	w.t.Helper()
	e.Type, e.Run = kind, id
	raw, err := json.Marshal(e)
	if err != nil {
		w.t.Fatal(err)
	}
	last := uint64(0)
	for r, err := range w.store.Load(w.t.Context(), "plan."+id, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		last = r.Seq
	}
	if _, err := w.store.Append(w.t.Context(), "plan."+id, last, store.Entry{Type: string(kind), Data: raw}); err != nil {
		w.t.Fatal(err)
	}
}
