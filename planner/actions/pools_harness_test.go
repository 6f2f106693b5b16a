package actions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// noon is the clock of the scenes.
func noon() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// scene is a cluster in memory with the actions and the backend on it.
type scene struct {
	t       *testing.T
	dyn     dynamic.Interface
	mapper  meta.RESTMapper
	session planner.Session
	backend *actions.Backend
	cfg     actions.Config
	plan    int
}

// newScene serves objects, YAML documents.
func newScene(t *testing.T, objects string, with ...func(*actions.Config)) *scene {
	t.Helper()
	fsys := fstest.MapFS{"bundle.yaml": {Data: []byte("formatVersion: 1\ncaptured: \"2026-11-27T12:00:00Z\"\n")}, "objects/all.yaml": {Data: []byte(objects)}}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(disc)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, dyn: dyn, mapper: restmapper.NewDiscoveryRESTMapper(groups), backend: actions.NewBackend(dyn)}
	s.cfg = actions.Config{Cluster: "test", Dynamic: dyn, Mapper: s.mapper, Now: noon, Allocate: place}
	for _, f := range with {
		f(&s.cfg)
	}
	s.renew()
	return s
}

// renew begins another plan.
func (s *scene) renew() {
	s.t.Helper()
	cat, err := actions.New(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.session = cat.Session()
	s.plan++
}

// place is the scheduler's allocator with the gates of Kubernetes 1.37.
func place(ctx context.Context, d actions.Devices, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) ([]*resourceapi.ResourceClaim, string, error) {
	f := allocator.ForServer(37).Observe(d.Slices, d.Claims, d.Classes, d.RulesServed).Features
	return allocator.Place(ctx, allocator.Snapshot{Features: f, Slices: d.Slices, Claims: d.Claims, Classes: d.Classes, Rules: d.Rules}, n, p, claims)
}

// try compiles an action.
func (s *scene) try(name string, params ...string) (planner.Draft, error) {
	s.t.Helper()
	a := s.session.Action(name)
	if a == nil {
		s.t.Fatalf("there is no action %s", name)
	}
	p := map[string]string{}
	for i := 0; i+1 < len(params); i += 2 {
		p[params[i]] = params[i+1]
	}
	return a.Compile(s.t.Context(), p)
}

// draft compiles an action that must come to something.
func (s *scene) draft(name string, params ...string) planner.Draft {
	s.t.Helper()
	d, err := s.try(name, params...)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	actions.Covered(s.t, s.session.Action(name).Info(), d)
	for i := range d.Writes {
		d.Writes[i].ID = fmt.Sprintf("s1.%d", i+1)
	}
	for i := range d.Undo {
		d.Undo[i].ID = fmt.Sprintf("s1.u%d", i+1)
	}
	return d
}

// refused compiles an action that must be refused, with a reason that has all parts.
func (s *scene) refused(parts []string, name string, params ...string) {
	s.t.Helper()
	_, err := s.try(name, params...)
	if _, ok := errors.AsType[*planner.Refused](err); !ok {
		s.t.Fatalf("%s %q: %v, want a refusal", name, params, err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			s.t.Errorf("%q is not in %q", p, err)
		}
	}
}

// missing compiles an action for which a person has to give a parameter.
func (s *scene) missing(param, part, name string, params ...string) {
	s.t.Helper()
	_, err := s.try(name, params...)
	m, ok := errors.AsType[*planner.Missing](err)
	if !ok || m.Param != param || !strings.Contains(err.Error(), part) {
		s.t.Errorf("%s %q: %v, want parameter %s missing with %q", name, params, err, param, part)
	}
}

// do executes writes with the backend.
func (s *scene) do(ws []incident.Write) {
	s.t.Helper()
	for _, w := range ws {
		if _, err := s.backend.Do(s.t.Context(), fmt.Sprintf("plan-%d", s.plan), w); err != nil {
			s.t.Fatalf("%s: %v", w.Say, err)
		}
	}
}

// undo executes the undo of writes that were all done.
func (s *scene) undo(d planner.Draft) {
	s.t.Helper()
	for _, w := range d.Undo {
		if _, err := s.backend.Do(s.t.Context(), fmt.Sprintf("plan-%d", s.plan), w); err != nil {
			s.t.Fatalf("%s: %v", w.Say, err)
		}
	}
}

// get reads an object by "kind ns/name", nil when it is not there.
func (s *scene) get(kind, namespace, name string) *unstructured.Unstructured {
	s.t.Helper()
	m, err := s.mapper.RESTMapping(schema.ParseGroupKind(kind))
	if err != nil {
		s.t.Fatal(err)
	}
	r := dynamic.ResourceInterface(s.dyn.Resource(m.Resource))
	if namespace != "" {
		r = s.dyn.Resource(m.Resource).Namespace(namespace)
	}
	u, err := r.Get(s.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return u
}

// specs gives every object of kinds without the server's bookkeeping, by path.
func (s *scene) specs(kinds ...string) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, k := range kinds {
		m, err := s.mapper.RESTMapping(schema.ParseGroupKind(k))
		if err != nil {
			s.t.Fatal(err)
		}
		l, err := s.dyn.Resource(m.Resource).List(s.t.Context(), metav1.ListOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, u := range l.Items {
			notes := u.GetAnnotations()
			delete(notes, actions.Annotation)
			raw, err := json.Marshal(map[string]any{"labels": u.GetLabels(), "annotations": fmt.Sprint(notes), "spec": u.Object["spec"]})
			if err != nil {
				s.t.Fatal(err)
			}
			out[k+" "+u.GetNamespace()+"/"+u.GetName()] = string(raw)
		}
	}
	return out
}

// same fails unless two states are the same.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// says fails unless some sentence has all parts.
func says(t *testing.T, what string, sentences []string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !slices.ContainsFunc(sentences, func(s string) bool { return strings.Contains(s, p) }) {
			t.Errorf("%s: %q is not said in %q", what, p, sentences)
		}
	}
}

func texts(cs []incident.Claim) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Text)
	}
	return out
}

func names(ws []incident.Write) []string {
	var out []string
	for _, w := range ws {
		out = append(out, w.Verb+" "+w.Ref.Name)
	}
	return out
}

// world builds YAML of nodes and pods.
type world struct{ strings.Builder }

func (w *world) add(text string, args ...any) *world {
	fmt.Fprintf(w, "---\n"+strings.TrimSpace(text)+"\n", args...)
	return w
}

// node has 8 GPUs, 64 CPUs, 512 GiB and room for 20 pods.
func (w *world) node(name, labels string, more ...string) *world {
	spec := "{}"
	if len(more) > 0 {
		spec = more[0]
	}
	return w.add(`
apiVersion: v1
kind: Node
metadata: {name: %s, uid: n-%s, labels: {kubernetes.io/hostname: %s, %s}}
spec: %s
status:
  allocatable: {cpu: "64", memory: 512Gi, pods: "20", nvidia.com/gpu: "8"}
  conditions: [{type: Ready, status: "True"}]
`, name, name, name, labels, spec)
}

// pod runs on a node under a controller, "Kind group/v1 name"; spec is more of its
// spec, from two spaces on.
func (w *world) pod(ns, name, node, owner, labels string, gpus int, spec ...string) *world {
	refs := ""
	if owner != "" {
		f := strings.Fields(owner)
		refs = fmt.Sprintf("[{apiVersion: %s, kind: %s, name: %s, uid: o-%s, controller: true}]", f[1], f[0], f[2], f[2])
	} else {
		refs = "[]"
	}
	resources := "{requests: {cpu: \"1\", memory: 1Gi}}"
	if gpus > 0 {
		resources = fmt.Sprintf("{requests: {cpu: \"1\", memory: 1Gi, nvidia.com/gpu: \"%d\"}, limits: {nvidia.com/gpu: \"%d\"}}", gpus, gpus)
	}
	return w.add(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, uid: p-%s, labels: {%s}, ownerReferences: %s}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 30
  containers: [{name: main, image: i, resources: %s}]
%s
status: {phase: Running, startTime: "2026-11-27T02:00:00Z", conditions: [{type: Ready, status: "True"}]}
`, name, ns, name, labels, refs, node, resources, strings.Join(spec, "\n"))
}

// owner is a controller with no more to it than its name.
func (w *world) owner(kind, apiVersion, ns, name, more string) *world {
	return w.add(`
apiVersion: %s
kind: %s
metadata: {name: %s, namespace: %s, uid: o-%s%s}
`, apiVersion, kind, name, ns, name, more)
}

// nested reads a field.
func nested(u *unstructured.Unstructured, path ...string) (any, bool, error) {
	if u == nil {
		return nil, false, nil
	}
	return unstructured.NestedFieldNoCopy(u.Object, path...)
}
