package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

// schemas are those of the document for requests.
func schemas(t testing.TB) map[string]*jsonschema.Resolved {
	t.Helper()
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	raw, err := yaml.YAMLToJSON(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), "#/components/schemas/", "#/$defs/")), &doc); err != nil {
		t.Fatal(err)
	}
	defs := map[string]*jsonschema.Schema{}
	for name, raw := range doc.Components.Schemas {
		defs[name] = &jsonschema.Schema{}
		if err := json.Unmarshal(raw, defs[name]); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]*jsonschema.Resolved{}
	for name := range whole() {
		root := &jsonschema.Schema{Ref: "#/$defs/" + name, Defs: map[string]*jsonschema.Schema{}}
		for _, n := range []string{name, "Ref", "Alert", "Link"} { // what requests refer to
			root.Defs[n] = defs[n].CloneSchemas()
		}
		if out[name], err = root.Resolve(nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return out
}

// whole gives a document of each request in which every field is set.
func whole() map[string]any {
	alert := &incident.Alert{Name: "GPUDown", Status: "firing", Labels: map[string]string{"node": "n1"}, Annotations: map[string]string{"a": "b"}, Fingerprint: "f1"}
	ref := incident.Ref{Cluster: "c", Namespace: "ns", Group: "apps", Kind: "Deployment", Name: "web", Driver: "d", Pool: "p", Device: "x"}
	yes := true
	return map[string]any{
		"AskRequest": wire.Ask{
			Question: "why", Cluster: "c", Namespace: "ns", Alert: alert, Subjects: []incident.Ref{ref}, Session: "s-1", Model: "offline", Priority: session.High,
			Title: "t", Source: "tui", Alerts: []incident.Alert{*alert}, Links: []session.Link{{Surface: "slack", Key: "C1/1"}},
		},
		"FollowUpRequest": wire.FollowUp{Question: "why", Cluster: "c", Namespace: "ns", Alert: alert, Subjects: []incident.Ref{ref}, Model: "offline", Priority: session.Low, Source: "cli"},
		"CancelRequest":   wire.Cancel{Turn: "run-1"},
		"ProposeRequest":  wire.Propose{Session: "s-1", Run: "run-1", Action: "cordon", Set: map[string]string{"a": "b"}, Reason: "r", BreakGlass: true, Source: "api"},
		"ApproveRequest":  wire.Approve{Digest: "sha256:0", Comment: "c"},
		"WordRequest":     wire.Word{Comment: "c"},
		"UndoRequest":     wire.Undo{Reason: "r"},
		"ResetRequest":    wire.Reset{Reason: "r"},
		"ModelRequest":    wire.Model{Model: "offline"},
		"AlertsRequest":   wire.Alerts{Alerts: []incident.Alert{*alert}, Resolved: &yes},
		"MergeRequest":    wire.Merge{Into: "s-1"},
		"Link":            session.Link{Surface: "slack", Key: "C1/1"},
		"FollowRequest":   wire.Follow{After: map[string]uint64{"session.s-1": 3}},
	}
}

// Every request that a schema refuses the decoder refuses, and it takes what the schema
// takes: each field is left out, null, of every other type, too long, of another word,
// and one is added.
func TestRequestsAreReadAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	all, good := schemas(t), whole()
	documented := map[string]bool{}
	for _, op := range (&API{}).operations() {
		if op.in != nil {
			documented[op.in.Name()] = true
		}
	}
	if len(documented) != len(good) {
		t.Fatalf("%d documents of requests, %d examples", len(documented), len(good))
	}
	for name, v := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takes := func(doc any) (schema, decoder error) {
				raw, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				return all[name].Validate(doc), decode(raw, reflect.New(reflect.TypeOf(v)).Interface())
			}
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := json.Unmarshal(raw, &doc); err != nil {
				t.Fatal(err)
			}
			if s, d := takes(doc); s != nil || d != nil {
				t.Fatalf("the example: %v, %v", s, d)
			}
			refused := 0
			each(doc, func(where string, bad any) {
				s, d := takes(bad)
				if s != nil {
					refused++
				}
				// The document also asks for one of several fields; the decoder leaves
				// that to the handler.
				if name == "AskRequest" || name == "FollowUpRequest" || name == "ProposeRequest" {
					if s != nil && strings.Contains(s.Error(), "Of") {
						return
					}
				}
				if (s == nil) != (d == nil) {
					t.Errorf("%s: the document says %v, the decoder %v", where, s, d)
				}
			})
			if refused < 5 {
				t.Errorf("only %d changes were refused", refused)
			}
		})
	}
}

// each changes a document in every way, one at a time.
func each(doc map[string]any, try func(where string, bad any)) {
	with := func(where string, change func(map[string]any)) {
		raw, _ := json.Marshal(doc) // it was read from JSON
		var c map[string]any
		_ = json.Unmarshal(raw, &c)
		change(c)
		try(where, c)
	}
	with("a field more", func(d map[string]any) { d["verdict"] = "x" })
	var walk func(path []string, at map[string]any)
	walk = func(path []string, at map[string]any) {
		for field, value := range maps.All(at) {
			where := append(append([]string{}, path...), field)
			set := func(what string, v any) {
				with(strings.Join(where, ".")+": "+what, func(d map[string]any) { reach(d, where, func(m map[string]any, k string) { m[k] = v }) })
			}
			with(strings.Join(where, ".")+": left out", func(d map[string]any) { reach(d, where, func(m map[string]any, k string) { delete(m, k) }) })
			for what, v := range map[string]any{
				"null": nil, "a number": 1.5, "a word": "surely-not-listed", "empty": "", "true": true, "a list": []any{1.5}, "no items": []any{}, "an object": map[string]any{"x": 1.5}, "an empty object": map[string]any{},
				"a long text": strings.Repeat("x", 10_000), "a longer text": strings.Repeat("x", 300_000), "a long list": make([]any, 2000),
			} {
				set(what, v)
			}
			switch v := value.(type) {
			case map[string]any:
				walk(where, v)
			case []any:
				if m, ok := v[0].(map[string]any); ok {
					walk(append(where, "0"), m)
				}
			}
		}
	}
	walk(nil, doc)
}

// reach finds the object that holds the last name of a path.
func reach(doc map[string]any, path []string, f func(m map[string]any, k string)) {
	at := any(doc)
	for _, p := range path[:len(path)-1] {
		if l, ok := at.([]any); ok {
			at = l[0]
			continue
		}
		at = at.(map[string]any)[p]
	}
	if l, ok := at.([]any); ok {
		at = l[0]
	}
	f(at.(map[string]any), path[len(path)-1])
}

// FuzzRequest: whatever is sent, the decoder says a sentence or takes what the schema
// takes, and never panics.
func FuzzRequest(f *testing.F) {
	all := schemas(f)
	kinds := whole()
	for name, v := range kinds {
		raw, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, raw)
	}
	f.Add("AskRequest", []byte(`{"question":"x","question":"y"}`))
	f.Add("FollowRequest", []byte(`{"after":{"session.s-1":-1}}`))
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		v, ok := kinds[name]
		if !ok {
			return
		}
		into := reflect.New(reflect.TypeOf(v))
		if err := decode(raw, into.Interface()); err != nil {
			if err.Error() == "" {
				t.Error("a refusal without a word")
			}
			return
		}
		var doc any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatalf("%q was taken: %v", raw, err)
		}
		if err := all[name].Validate(doc); err != nil && !strings.Contains(err.Error(), "Of") {
			t.Errorf("%q was taken: %v", raw, err)
		}
	})
}

// FuzzCursor: a cursor that is taken is one that was given.
func FuzzCursor(f *testing.F) {
	f.Add(place{17, "s-1"}.String())
	f.Add("")
	f.Add("MTcgcy0x")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := parsePlace(s); ok && p.String() != s {
			t.Errorf("%q is taken for %v", s, p)
		}
	})
}
