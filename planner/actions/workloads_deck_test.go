package actions

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// deck is a cluster in memory with the actions and the backend on it.
type deck struct {
	t   *testing.T
	dyn dynamic.Interface
	cat *Catalogue
	// session is the plan that is being made.
	session planner.Session
	backend *Backend
	results map[string]incident.WriteResult
}

// deckNow is the clock of every deck.
func deckNow() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// newDeck serves files of testdata, and objects written in the test after "---".
func newDeck(t *testing.T, objects ...string) *deck {
	t.Helper()
	fsys := fstest.MapFS{"bundle.yaml": &fstest.MapFile{Data: []byte("formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\n")}}
	for i, o := range objects {
		data := []byte(o)
		if !strings.Contains(o, "\n") {
			var err error
			if data, err = os.ReadFile("testdata/" + o); err != nil {
				t.Fatal(err)
			}
		}
		fsys[fmt.Sprintf("objects/%d.yaml", i)] = &fstest.MapFile{Data: data}
	}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	dc, err := discovery.NewDiscoveryClientForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	cat, err := New(Config{Cluster: "c1", Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(dc)), Now: deckNow})
	if err != nil {
		t.Fatal(err)
	}
	return &deck{t: t, dyn: dyn, cat: cat, session: cat.Session(), backend: NewBackend(dyn), results: map[string]incident.WriteResult{}}
}

// given turns "a=b; c=d" into parameters; "=" in a value stays.
func given(s string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(s, ";") {
		if k, v, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			out[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return out
}

func (d *deck) compile(action string, params map[string]string) (planner.Draft, error) {
	d.t.Helper()
	a := d.session.Action(action)
	if a == nil {
		d.t.Fatalf("there is no action %s", action)
	}
	return a.Compile(d.t.Context(), params)
}

// must compiles an action and gives the ids that the planner gives.
func (d *deck) must(action string, params map[string]string) planner.Draft {
	d.t.Helper()
	out, err := d.compile(action, params)
	if err != nil {
		d.t.Fatalf("%s %v: %v", action, params, err)
	}
	for i := range out.Writes {
		out.Writes[i].ID = fmt.Sprintf("s1.%d", i+1)
	}
	for i := range out.Undo {
		out.Undo[i].ID = fmt.Sprintf("s1.u%d", i+1)
		out.Undo[i].Of = "s1." + out.Undo[i].Of
	}
	return out
}

// do executes the writes of a draft, as a plan of the name p1 would.
func (d *deck) do(draft planner.Draft) {
	d.t.Helper()
	for _, w := range draft.Writes {
		r, err := d.backend.Do(d.t.Context(), "p1", w)
		if err != nil {
			d.t.Fatalf("%s (%s %s %s): %v", w.Say, w.Verb, w.Ref, w.Body, err)
		}
		d.results[w.ID] = r
	}
}

// undo takes the writes back in the order of the draft.
func (d *deck) undo(draft planner.Draft) {
	d.t.Helper()
	for _, w := range draft.Undo {
		was := d.results[w.Of]
		if w.UID == "" && w.Verb != incident.VerbCreate {
			w.UID = was.UID
		}
		if w.Digest == "" && w.Verb != incident.VerbCreate {
			w.Digest = was.Digest
		}
		r, err := d.backend.Do(d.t.Context(), "p1", w)
		if err != nil {
			d.t.Fatalf("%s (%s %s %s): %v", w.Say, w.Verb, w.Ref, w.Body, err)
		}
		d.results[w.ID] = r
	}
}

// get reads an object, nil when it is not there.
func (d *deck) get(ref incident.Ref) *unstructured.Unstructured {
	d.t.Helper()
	c := d.cat.cluster.session()
	o, err := c.Get(d.t.Context(), kindOf(ref), ref.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return o.Unstructured
}

// snapshot is what the objects of the writes are meant to be.
func (d *deck) snapshot(draft planner.Draft) map[string]any {
	d.t.Helper()
	out := map[string]any{}
	for _, w := range draft.Writes {
		if u := d.get(w.Ref); u != nil {
			out[w.Ref.String()] = bare(wanted(fresh(&Object{Unstructured: u, Ref: w.Ref})))
		}
	}
	return out
}

// bare leaves out what the server's own types write for nothing.
func bare(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if e = bare(e); e == nil || e == "" {
				delete(x, k)
			} else {
				x[k] = e
			}
		}
		if len(x) == 0 {
			return nil
		}
	case []any:
		for i, e := range x {
			x[i] = bare(e)
		}
	}
	return v
}

// field reads "Kind/namespace/name path" of the cluster as it is now; "" is nothing.
func (d *deck) field(at string) string {
	d.t.Helper()
	object, path, _ := strings.Cut(at, " ")
	p := strings.Split(object, "/")
	c := d.cat.cluster.session()
	o, err := c.Get(d.t.Context(), p[0], p[1], p[2])
	if apierrors.IsNotFound(err) {
		return "(gone)"
	}
	if err != nil {
		d.t.Fatal(err)
	}
	var v any = o.Object
	for step := range strings.SplitSeq(strings.ReplaceAll(path, `\.`, "\x00"), ".") {
		name, index, list := strings.Cut(strings.TrimSuffix(strings.ReplaceAll(step, "\x00", "."), "]"), "[")
		m, _ := v.(map[string]any)
		v = m[name]
		if list {
			n, err := strconv.Atoi(index)
			items, _ := v.([]any)
			if err != nil || n >= len(items) {
				return ""
			}
			v = items[n]
		}
	}
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	return jsonText(v)
}

// deed is one case of an action: what it says, does, and leaves after its undo.
type deed struct {
	action, params string
	// objects served beside the common ones.
	objects string
	// say is a part of the draft's sentence; fields are read after the writes.
	say    string
	fields map[string]string
	// warn and notes are parts of warnings and of the blast radius' notes.
	warn []string
	// pods and gpus of the blast radius, and the kinds of the checks.
	pods, gpus int
	verify     []string
	risk       incident.Risk
	// oneWay says that the undo does not give the object back.
	oneWay bool
}

// run compiles, executes and undoes a deed, and holds rights against writes.
func (x deed) run(t *testing.T, base string) {
	t.Helper()
	objects := []string{base}
	if x.objects != "" {
		objects = append(objects, x.objects)
	}
	d := newDeck(t, objects...)
	draft := d.must(x.action, given(x.params))
	Covered(t, d.session.Action(x.action).Info(), draft)
	if !strings.Contains(draft.Say, x.say) {
		t.Errorf("it says %q, want %q", draft.Say, x.say)
	}
	all := strings.Join(draft.Warnings, "\n")
	for _, w := range x.warn {
		if !strings.Contains(all, w) {
			t.Errorf("no warning %q in %q", w, draft.Warnings)
		}
	}
	if draft.Blast.PodCount != x.pods || draft.Blast.GPUs != x.gpus {
		t.Errorf("blast radius of %d pods and %d GPUs, want %d and %d", draft.Blast.PodCount, draft.Blast.GPUs, x.pods, x.gpus)
	}
	var kinds []string
	for _, c := range draft.Verify {
		kinds = append(kinds, c.Kind)
		if c.Within <= 0 || c.Say == "" {
			t.Errorf("check %+v has no time or no words", c)
		}
	}
	if !slices.Equal(kinds, x.verify) {
		t.Errorf("checks %v, want %v", kinds, x.verify)
	}
	if x.risk != "" && draft.Risk != x.risk {
		t.Errorf("risk %s, want %s", draft.Risk, x.risk)
	}
	before := d.snapshot(draft)
	d.do(draft)
	for at, want := range x.fields {
		if got := d.field(at); got != want {
			t.Errorf("%s is %s, want %s", at, got, want)
		}
	}
	if x.oneWay {
		return
	}
	d.undo(draft)
	if diff := cmp.Diff(before, d.snapshot(draft)); diff != "" {
		t.Errorf("after the undo (-before +after):\n%s", diff)
	}
}

// denial is a case that must not become a plan, and what is said instead.
type denial struct {
	action, params, objects string
	// param is set for a *planner.Missing; else it is a *planner.Refused.
	param string
	says  []string
}

func (x denial) run(t *testing.T, base string) {
	t.Helper()
	objects := []string{base}
	if x.objects != "" {
		objects = append(objects, x.objects)
	}
	_, err := newDeck(t, objects...).compile(x.action, given(x.params))
	if m, ok := errors.AsType[*planner.Missing](err); x.param != "" && (!ok || m.Param != x.param) {
		t.Fatalf("want a Missing of %s, got %v", x.param, err)
	}
	if r, ok := errors.AsType[*planner.Refused](err); x.param == "" && (!ok || r.Way == "") {
		t.Fatalf("want a Refused with a way out, got %v", err)
	}
	for _, s := range x.says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

// runAll runs cases that have a name, side by side.
func runAll[T interface{ run(*testing.T, string) }](t *testing.T, base string, cases map[string]T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cases[name].run(t, base)
		})
	}
}
