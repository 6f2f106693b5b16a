package actions

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// shipped are the actions of the catalogue by name.
func shipped(t *testing.T) map[string]planner.Info {
	t.Helper()
	out := map[string]planner.Info{}
	for _, i := range newDeck(t, "settings.yaml").cat.Infos() {
		if _, twice := out[i.Name]; twice {
			t.Errorf("two actions are called %s", i.Name)
		}
		out[i.Name] = i
	}
	return out
}

// neverPlanned reports whether an action is one that no plan makes: it has no rights, is no
// person's work, and refuses whatever it is asked.
func neverPlanned(t *testing.T, i planner.Info) bool {
	t.Helper()
	if len(i.Rights) > 0 || i.Family == planner.People || i.Family == planner.Pools {
		return false
	}
	_, err := newDeck(t, "settings.yaml").compile(i.Name, fitting(i))
	if r, ok := errors.AsType[*planner.Refused](err); !ok || r.Way == "" {
		t.Errorf("%s has no rights, and is not refused with a way out: %v", i.Name, err)
	}
	return true
}

// fitting are values that the schema of an action takes, for what it requires.
func fitting(i planner.Info) map[string]string {
	out := map[string]string{}
	for _, p := range i.Params {
		switch {
		case !p.Required:
		case len(p.Values) > 0:
			out[p.Name] = p.Values[0]
		default:
			out[p.Name] = map[string]string{planner.Int: "1", planner.Bool: "true", planner.JSON: "{}", planner.Duration: "1s", planner.Quantity: "1"}[p.Type]
			if out[p.Name] == "" {
				out[p.Name] = "not-there"
			}
		}
	}
	return out
}

// TestActionsOfRunbooks holds the catalogue against what runbooks may propose, both
// ways: names, parameters, which of them are required and which name objects.
func TestActionsOfRunbooks(t *testing.T) {
	t.Parallel()
	listed, err := runbooks.Actions()
	if err != nil {
		t.Fatal(err)
	}
	have := shipped(t)
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		info, ok := have[name]
		if !ok {
			t.Errorf("runbooks may propose %s, which is no action", name)
			continue
		}
		want, got := map[string]planner.Param{}, map[string]planner.Param{}
		for _, p := range listed[name].Params {
			want[p.Name] = planner.Param{Name: p.Name, Required: p.Required, Object: p.Object}
		}
		for _, p := range info.Params {
			got[p.Name] = planner.Param{Name: p.Name, Required: p.Required, Object: p.Object}
		}
		for _, p := range slices.Sorted(maps.Keys(want)) {
			g, ok := got[p]
			switch {
			case !ok:
				t.Errorf("%s: runbooks give %s, which the action does not take", name, p)
			case g.Required != want[p].Required:
				t.Errorf("%s: %s is required=%v in the action, required=%v in actions.yaml", name, p, g.Required, want[p].Required)
			case want[p].Object && !g.Object:
				// The other way round is right for what the action makes: no evidence names it.
				t.Errorf("%s: %s names an object in actions.yaml, not in the action", name, p)
			}
		}
		for _, p := range slices.Sorted(maps.Keys(got)) {
			if _, ok := want[p]; !ok {
				t.Errorf("%s: the action takes %s, which actions.yaml does not list", name, p)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := listed[name]; ok == neverPlanned(t, have[name]) {
			t.Errorf("%s: in actions.yaml is %v, what is never made must not be, and the rest has to", name, ok)
		}
	}
}

// TestInfos checks what people, policies and RBAC read of every action.
func TestInfos(t *testing.T) {
	t.Parallel()
	families := []string{planner.Workloads, planner.Placement, planner.DRA, planner.Network, planner.Pools, planner.Images, planner.Settings, planner.People}
	types := []string{"", planner.String, planner.Int, planner.Bool, planner.Quantity, planner.CEL, planner.JSON, planner.Duration}
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	group := regexp.MustCompile(`^([a-z0-9-]+(\.[a-z0-9-]+)*)?$`)
	have := shipped(t)
	for _, n := range slices.Sorted(maps.Keys(have)) {
		i := have[n]
		if !name.MatchString(n) || !slices.Contains(families, i.Family) {
			t.Errorf("%s: family %q", n, i.Family)
		}
		for what, text := range map[string]string{"text": i.Text, "undo": i.Undo, "verify": i.Verify} {
			sentence(t, n+": "+what, text)
		}
		if i.Text != "" && i.Text[:1] != strings.ToUpper(i.Text[:1]) {
			t.Errorf("%s: the text %q begins small", n, i.Text)
		}
		if w := i.Risk.Weight(); w < incident.RiskLow.Weight() || w > incident.RiskCritical.Weight() {
			t.Errorf("%s: risk %q", n, i.Risk)
		}
		person := slices.Contains(planner.ForPeople(), n)
		if person != (i.Family == planner.People) || person && len(i.Rights) > 0 {
			t.Errorf("%s: family %s with %d rights", n, i.Family, len(i.Rights))
		}
		if !person && len(i.Sources) == 0 {
			t.Errorf("%s: what it does is taken from no document", n)
		}
		for _, s := range i.Sources {
			sentence(t, n+": source", s)
		}
		for _, r := range i.Rights {
			if len(r.Resources) == 0 || len(r.Verbs) == 0 || !group.MatchString(r.Group) {
				t.Errorf("%s: right %+v", n, r)
			}
			for _, v := range slices.Concat(r.Resources, r.Verbs, []string{r.Group}) {
				if strings.ContainsAny(v, "*") || v != strings.ToLower(v) {
					t.Errorf("%s: the right %+v is not exact", n, r)
				}
			}
			if r.Group == "" && slices.Contains(r.Resources, "secrets") {
				t.Errorf("%s: no action reads or writes Secrets", n)
			}
		}
		seen := map[string]bool{}
		for _, p := range i.Params {
			if seen[p.Name] || !name.MatchString(p.Name) || !slices.Contains(types, p.Type) {
				t.Errorf("%s: parameter %+v", n, p)
			}
			seen[p.Name] = true
			sentence(t, n+": parameter "+p.Name, p.Text)
		}
	}
}

// sentence fails on a text that is empty, ends with a stop or has white space around.
func sentence(t *testing.T, what, s string) {
	t.Helper()
	if s == "" || strings.TrimSpace(s) != s || strings.HasSuffix(s, ".") {
		t.Errorf("%s: %q", what, s)
	}
}

// TestEveryActionRefusesWhatItDoesNotTake gives each action what its schema excludes:
// an unknown parameter, each required one missing, and a value of another type.
func TestEveryActionRefusesWhatItDoesNotTake(t *testing.T) {
	t.Parallel()
	d := newDeck(t, "settings.yaml")
	wrong := map[string]string{planner.Int: "many", planner.Bool: "perhaps", planner.Quantity: "lots", planner.JSON: "{", planner.Duration: "soon"}
	have := shipped(t)
	for _, n := range slices.Sorted(maps.Keys(have)) {
		full := fitting(have[n])
		ask := func(change func(map[string]string), param string) {
			t.Helper()
			in := maps.Clone(full)
			change(in)
			_, err := d.compile(n, in)
			if m, ok := err.(*planner.Missing); !ok || m.Param != param || m.Action != n || m.Why == "" { //nolint:errorlint // the schema's own error is not wrapped
				t.Errorf("%s %v: want a Missing of %s, got %v", n, in, param, err)
			}
		}
		ask(func(in map[string]string) { in["no_such_parameter"] = "x" }, "no_such_parameter")
		for _, p := range have[n].Params {
			if p.Required {
				ask(func(in map[string]string) { in[p.Name] = " " }, p.Name)
			}
			if v, ok := wrong[p.Type]; ok {
				ask(func(in map[string]string) { in[p.Name] = v }, p.Name)
			}
			if len(p.Values) > 0 {
				ask(func(in map[string]string) { in[p.Name] = "none of them" }, p.Name)
			}
		}
	}
}

// TestNothingIsThere asks every action about objects that do not exist: the answer is
// an error that names what was asked for, and no draft.
func TestNothingIsThere(t *testing.T) {
	t.Parallel()
	d := newDeck(t, "settings.yaml")
	have := shipped(t)
	for _, n := range slices.Sorted(maps.Keys(have)) {
		in := fitting(have[n])
		for _, p := range have[n].Params {
			if p.Name == "kind" && len(p.Values) == 0 {
				in[p.Name] = "Deployment"
			}
			if p.Name == "namespace" {
				in[p.Name] = "ml"
			}
		}
		draft, err := d.compile(n, in)
		if err == nil {
			t.Errorf("%s %v: a draft of what is not there: %s", n, in, draft.Say)
		}
	}
}

// Covered fails when a write of a draft or of its undo needs a right that the action
// does not state. The tests of every family ask it, also those from outside.
func Covered(t *testing.T, info planner.Info, draft planner.Draft) {
	t.Helper()
	for _, w := range slices.Concat(draft.Writes, draft.Undo) {
		if w.API != incident.APIKubernetes {
			continue
		}
		resource, verbs := w.Resource, []string{"get"}
		switch w.Verb {
		case incident.VerbEvict:
			resource, verbs = w.Resource+"/eviction", []string{"create"}
		case incident.VerbDelete: // the mark comes before it
			verbs = []string{"get", "patch", "delete"}
		default:
			verbs = append(verbs, w.Verb)
		}
		for _, v := range verbs {
			if !slices.ContainsFunc(info.Rights, func(r planner.Right) bool {
				return r.Group == w.Ref.Group && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, v)
			}) {
				t.Errorf("%s writes %q but its rights lack %s on %s.%s", info.Name, w.Say, v, resource, w.Ref.Group)
			}
		}
	}
}
