package incident_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const pathDoc = `{"metadata":{"labels":{"app.kubernetes.io/name":"web","a[0]":"b"}},"spec":{"containers":[{"image":"one"},{"image":"two"}]}}`

func pathObject(t testing.TB) any {
	t.Helper()
	var doc any
	if err := json.Unmarshal([]byte(pathDoc), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]any{
		"spec.containers[1].image":                 "two",
		"spec.containers.0.image":                  "one",
		`metadata.labels.app\.kubernetes\.io/name`: "web",
		`metadata.labels.a\[0\]`:                   "b",
		"spec.containers[2].image":                 nil,
		"spec.containers[-1].image":                nil,
		"spec.containers[1x].image":                nil,
		"spec.containers[0].image.tag":             nil,
		"spec.replicas":                            nil,
	} {
		doc, p := pathObject(t), incident.ParsePath(path)
		if got, ok := p.In(doc); got != want || ok != (want != nil) {
			t.Errorf("%s is %v (%v), not %v", path, got, ok, want)
		}
		// What is there can be set, and a field of an object that is there.
		if ok := p.Put(doc, "new"); ok != (want != nil || path == "spec.replicas") {
			t.Errorf("%s: put is %v", path, ok)
		} else if got, _ := p.In(doc); ok && got != "new" {
			t.Errorf("%s is %v after it was put", path, got)
		} else if !ok {
			if diff := cmp.Diff(pathObject(t), doc); diff != "" {
				t.Errorf("%s could not be put and changed the document: %s", path, diff)
			}
		}
	}
	doc := pathObject(t)
	if got, ok := incident.ParsePath("").In(doc); !ok || fmt.Sprint(got) != fmt.Sprint(doc) {
		t.Errorf("the empty path leads to %v", got)
	}
	if incident.ParsePath("").Put(doc, "new") {
		t.Error("a document was put in the place of itself")
	}
}

func FuzzPath(f *testing.F) {
	for _, p := range []string{"spec.containers[1].image", `a\.b`, `\`, "[", "..", "spec.containers[99999999999999999999]"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, p := pathObject(t), incident.ParsePath(text)
		if _, there := p.In(doc); there && len(p) > 0 && !p.Put(doc, "new") {
			t.Errorf("%q is there and has no place", text)
		}
		if p.Put(doc, "new") {
			if got, _ := p.In(doc); got != "new" {
				t.Errorf("%q is %v", text, got)
			}
		}
	})
}
