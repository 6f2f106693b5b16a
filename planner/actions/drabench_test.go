package actions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// bench is a cluster in memory that actions are compiled against and their writes
// sent to.
type bench struct {
	t   *testing.T
	dyn dynamic.Interface
	cat *actions.Catalogue
	all []*metav1.APIResourceList
	// plans counts what was sent, so that no write is taken for one that was done.
	plans int
}

func newBench(t *testing.T, objects string) *bench {
	t.Helper()
	fsys := fstest.MapFS{
		"bundle.yaml":          &fstest.MapFile{Data: []byte("formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\n")},
		"objects/objects.yaml": &fstest.MapFile{Data: []byte(objects)},
	}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.RESTConfig()
	x := &bench{t: t}
	if x.dyn, err = dynamic.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(disco)
	if err != nil {
		t.Fatal(err)
	}
	if x.all, err = disco.ServerPreferredResources(); err != nil {
		t.Fatal(err)
	}
	x.cat, err = actions.New(actions.Config{Cluster: "test", Dynamic: x.dyn, Mapper: restmapper.NewDiscoveryRESTMapper(groups), Allocate: place,
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// words turns "a=b c=d" into parameters; a value in '...' may hold blanks.
func words(s string) map[string]string {
	out := map[string]string{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		k, rest, _ := strings.Cut(s, "=")
		if q, ok := strings.CutPrefix(rest, "`"); ok {
			out[k], s, _ = strings.Cut(q, "`")
			continue
		}
		out[k], s, _ = strings.Cut(rest, " ")
	}
	return out
}

func (b *bench) compile(action, params string) (planner.Draft, error) {
	b.t.Helper()
	a := b.cat.Session().Action(action)
	if a == nil {
		b.t.Fatalf("there is no action %q", action)
	}
	return a.Compile(b.t.Context(), words(params))
}

// draft compiles, numbers the writes as the planner does, and has the server try
// each one that needs no other first.
func (b *bench) draft(action, params string) planner.Draft {
	b.t.Helper()
	d, err := b.compile(action, params)
	if err != nil {
		b.t.Fatalf("%s %s: %v", action, params, err)
	}
	for i := range d.Writes {
		d.Writes[i].ID = fmt.Sprintf("s1.%d", i+1)
	}
	for i := range d.Undo {
		d.Undo[i].ID, d.Undo[i].Of = fmt.Sprintf("s1.u%d", i+1), "s1."+d.Undo[i].Of
	}
	actions.Covered(b.t, b.cat.Session().Action(action).Info(), d)
	touched := map[incident.Ref]bool{}
	for _, w := range d.Writes {
		if !touched[w.Ref] {
			if _, _, err := actions.NewBackend(b.dyn).Dry(b.t.Context(), w); err != nil {
				b.t.Fatalf("dry run of %s (%s): %v", w.ID, w.Say, err)
			}
		}
		touched[w.Ref] = true
	}
	if d.Say == "" || len(d.Writes) == 0 || len(d.Verify) == 0 || len(d.Targets) == 0 && d.Writes[0].Verb != incident.VerbCreate {
		b.t.Errorf("a draft without words, writes, targets or proof: %+v", d)
	}
	kinds := actions.CheckKinds()
	for _, c := range slices.Concat(d.Before, d.Verify) {
		if !slices.Contains(kinds, c.Kind) || c.Say == "" {
			b.t.Errorf("check %+v", c)
		}
	}
	return d
}

// do sends the writes in their order.
func (b *bench) do(d planner.Draft) map[string]incident.WriteResult {
	b.t.Helper()
	done := map[string]incident.WriteResult{}
	b.plans++
	for _, w := range d.Writes {
		r, err := actions.NewBackend(b.dyn).Do(b.t.Context(), fmt.Sprint("p", b.plans), w)
		if err != nil {
			b.t.Fatalf("%s (%s): %v", w.ID, w.Say, err)
		}
		done[w.ID] = r
	}
	return done
}

// undo takes the writes back as the executor does: with the uid and digest that
// came of the write where the undo has none.
func (b *bench) undo(d planner.Draft, done map[string]incident.WriteResult) {
	b.t.Helper()
	for _, w := range d.Undo {
		r, ok := done[w.Of]
		if !ok {
			b.t.Fatalf("undo %s is of %q, which was not done", w.ID, w.Of)
		}
		if w.Verb != incident.VerbCreate {
			if w.UID == "" {
				w.UID = r.UID
			}
			if w.Digest == "" {
				w.Digest = r.Digest
			}
		}
		if _, err := actions.NewBackend(b.dyn).Do(b.t.Context(), fmt.Sprint("p", b.plans), w); err != nil {
			b.t.Fatalf("undo %s (%s): %v", w.ID, w.Say, err)
		}
	}
}

// state is what stands, by "Kind ns/name"; what the server gives is left out.
func (b *bench) state() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, list := range b.all {
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || !slices.Contains([]string(r.Verbs), "list") {
				continue
			}
			gv := list.GroupVersion
			group, version, ok := strings.Cut(gv, "/")
			if !ok {
				group, version = "", gv
			}
			l, err := b.dyn.Resource(gvr(group, version, r.Name)).List(b.t.Context(), metav1.ListOptions{})
			if err != nil {
				b.t.Fatal(err)
			}
			for _, u := range l.Items {
				n := u.DeepCopy()
				for _, f := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "finalizers"} {
					unstructured.RemoveNestedField(n.Object, "metadata", f)
				}
				unstructured.RemoveNestedField(n.Object, "metadata", "annotations", actions.Annotation)
				if len(n.GetAnnotations()) == 0 {
					unstructured.RemoveNestedField(n.Object, "metadata", "annotations")
				}
				unstructured.RemoveNestedField(n.Object, "status")
				raw, err := json.Marshal(n.Object)
				if err != nil {
					b.t.Fatal(err)
				}
				out[u.GetKind()+" "+strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/")] = string(raw)
			}
		}
	}
	return out
}

// differ names what is in one state and not, or otherwise, in another: "+a -b ~c".
func differ(before, after map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(before)) {
		switch v, ok := after[k]; {
		case !ok:
			out = append(out, "-"+k)
		case v != before[k]:
			out = append(out, "~"+k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[k]; !ok {
			out = append(out, "+"+k)
		}
	}
	return strings.Join(out, "; ")
}

func (b *bench) get(group, version, resource, namespace, name string) *unstructured.Unstructured {
	b.t.Helper()
	u, err := b.dyn.Resource(gvr(group, version, resource)).Namespace(namespace).Get(b.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// refusals checks that a change is not made and why.
func refusal(t *testing.T, err error, kind, why string) {
	t.Helper()
	var m *planner.Missing
	var r *planner.Refused
	is := ""
	switch {
	case errors.As(err, &m):
		is = "missing " + m.Param
	case errors.As(err, &r):
		is = "refused"
	}
	if is != kind || !strings.Contains(fmt.Sprint(err), why) {
		t.Errorf("the answer is %q (%s), want %q with %q", fmt.Sprint(err), is, kind, why)
	}
}

// sendReleased sends the writes, and in between does what the claim controller does:
// it takes its finalizer from a claim that is being deleted once no pod holds it.
func (b *bench) sendReleased(d planner.Draft) map[string]incident.WriteResult {
	b.t.Helper()
	done := map[string]incident.WriteResult{}
	b.plans++
	claims := b.dyn.Resource(gvr("resource.k8s.io", "v1", "resourceclaims"))
	for _, w := range d.Writes {
		r, err := actions.NewBackend(b.dyn).Do(b.t.Context(), fmt.Sprint("p", b.plans), w)
		if err != nil {
			b.t.Fatalf("%s (%s): %v", w.ID, w.Say, err)
		}
		done[w.ID] = r
		l, err := claims.List(b.t.Context(), metav1.ListOptions{})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, u := range l.Items {
			if u.GetDeletionTimestamp() == nil {
				continue
			}
			holders, _, _ := unstructured.NestedSlice(u.Object, "status", "reservedFor")
			held := slices.ContainsFunc(holders, func(h any) bool {
				m, _ := h.(map[string]any)
				name, _ := m["name"].(string)
				_, err := b.dyn.Resource(gvr("", "v1", "pods")).Namespace(u.GetNamespace()).Get(b.t.Context(), name, metav1.GetOptions{})
				return err == nil
			})
			if held {
				continue
			}
			u.SetFinalizers(nil)
			if _, err := claims.Namespace(u.GetNamespace()).Update(b.t.Context(), &u, metav1.UpdateOptions{}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return done
}
