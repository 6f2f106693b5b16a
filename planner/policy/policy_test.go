package policy

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// over makes a directory of policy files.
func over(files ...string) fs.FS {
	m := fstest.MapFS{}
	for i, f := range files {
		m[string(rune('a'+i))+".yaml"] = &fstest.MapFile{Data: []byte(f)}
	}
	return m
}

func mustNew(t testing.TB, files ...string) *Policy {
	t.Helper()
	p, err := New(over(files...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// plain is the harmless input, changed.
func plain(t testing.TB, change func(*Input)) Input {
	t.Helper()
	var c CaseInput
	if err := c.UnmarshalJSON([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	in := c.input()
	if change != nil {
		change(&in)
	}
	return in
}

func rulesOf(d incident.Decision) []string {
	var out []string
	for _, h := range d.Rules {
		out = append(out, h.Rule)
	}
	return out
}

func TestShippedCases(t *testing.T) {
	t.Parallel()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cases, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, r := range p.Test(t.Context(), cases) {
		for _, h := range r.Got.Rules {
			named[h.Rule] = true
			if h.Reason == "" {
				t.Errorf("%s: rule %s gives no reason", r.Case.Name, h.Rule)
			}
			if strings.Contains(h.Reason, "cannot be asked") {
				t.Errorf("%s: %s: %s", r.Case.Name, h.Rule, h.Reason)
			}
		}
		if r.Got.Policy != p.Digest() {
			t.Errorf("%s: decided by %q, not by %q", r.Case.Name, r.Got.Policy, p.Digest())
		}
		for _, problem := range r.Problems {
			t.Errorf("%s: %s (%v)", r.Case.Name, problem, rulesOf(r.Got))
		}
	}
	for _, r := range p.Rules() {
		if !named[r.Name] {
			t.Errorf("no case reaches the rule %s", r.Name)
		}
	}
}

// TestExample holds the example of a policy against its cases.
func TestExample(t *testing.T) {
	t.Parallel()
	dir := os.DirFS("../../deploy/policy")
	p, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := Cases(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 8 {
		t.Errorf("%d cases", len(cases))
	}
	for _, r := range p.Test(t.Context(), cases) {
		for _, problem := range r.Problems {
			t.Errorf("%s: %s (%v)", r.Case.Name, problem, rulesOf(r.Got))
		}
	}
}

func TestACaseThatIsWrongFails(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{"x.test.yaml": {Data: []byte("cases:\n- {name: a, want: allow, rules: [two-for-drain], not: [known-action], selfApproval: false, approvers: 2}\n")}}
	cases, err := Cases(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := mustNew(t).Test(t.Context(), cases)
	if len(got) != 1 || len(got[0].Problems) != 5 {
		t.Fatalf("%+v, want five problems", got)
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	office := Window{Name: "office", Days: []string{"mon", "tue", "wed", "thu"}, From: "09:00", To: "16:00", Timezone: "Europe/Berlin"}
	night := Window{Name: "night", Days: []string{"fri"}, From: "22:00", To: "06:00"}
	sale := Window{Name: "sale", Begins: at("2026-11-27T00:00:00Z"), Ends: at("2026-11-30T00:00:00Z")}
	always := Window{Name: "always", From: "00:00", To: "00:00"}
	for _, c := range []struct {
		w    Window
		at   string
		want bool
	}{
		{office, "2026-11-24T08:00:00Z", true},  // 09:00 in Berlin, winter
		{office, "2026-11-24T07:59:59Z", false}, // 08:59
		{office, "2026-07-21T07:00:00Z", true},  // 09:00 in Berlin, summer
		{office, "2026-11-24T15:00:00Z", false}, // 16:00 is out
		{office, "2026-11-27T10:00:00Z", false}, // a Friday
		{night, "2026-11-27T22:00:00Z", true},
		{night, "2026-11-28T05:59:00Z", true}, // Saturday morning belongs to Friday's night
		{night, "2026-11-28T06:00:00Z", false},
		{night, "2026-11-28T23:00:00Z", false},
		{night, "2026-11-27T03:00:00Z", false}, // Thursday's night
		{sale, "2026-11-27T00:00:00Z", true},
		{sale, "2026-11-30T00:00:00Z", false},
		{always, "2026-11-24T00:00:00Z", true},
		{always, "2026-11-24T23:59:00Z", true},
	} {
		if err := c.w.validate(); err != nil {
			t.Fatal(err)
		}
		if got := c.w.open(at(c.at)); got != c.want {
			t.Errorf("%s at %s: open is %t", c.w.Name, c.at, got)
		}
	}
	p := mustNew(t, `
settings:
  windows: [{name: office, days: [mon, tue, wed, thu], from: "09:00", to: "16:00", timezone: Europe/Berlin}]
rules:
- {name: only-office, when: "!('office' in windows)", verdict: deny, reason: outside of office hours, breakGlass: true}
- {name: not-at-noon, when: "now.getHours('Europe/Berlin') == 12 && now.getDayOfWeek('Europe/Berlin') == 2", verdict: ask_two, reason: lunch}
`)
	for at2, want := range map[string]string{"2026-11-24T10:00:00Z": incident.AskOne, "2026-11-24T11:30:00Z": incident.AskTwo, "2026-11-24T20:00:00Z": incident.Deny} {
		in := plain(t, func(in *Input) { in.Now = at(at2); in.Plan.Expires = in.Now.Add(time.Hour) })
		if d := p.Decide(t.Context(), in); d.Verdict != want {
			t.Errorf("at %s: %s %v, want %s", at2, d.Verdict, rulesOf(d), want)
		}
	}
}

func TestSelfApproval(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string][2]bool{SelfNever: {false, false}, SelfDiagnosis: {true, false}, SelfAlways: {true, true}} {
		p := mustNew(t, "settings: {selfApproval: "+mode+"}")
		if d := p.Decide(t.Context(), plain(t, nil)); d.SelfApproval != want[0] {
			t.Errorf("%s, made by gumshoe: %t", mode, d.SelfApproval)
		}
		if d := p.Decide(t.Context(), plain(t, func(in *Input) { in.Plan.Author = "anna" })); d.SelfApproval != want[1] {
			t.Errorf("%s, made by hand: %t", mode, d.SelfApproval)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	p := mustNew(t, "settings: {mode: read_only}\nrules: [{name: known-action, when: 'true', verdict: allow, reason: all}]")
	if d := p.Decide(t.Context(), plain(t, nil)); d.Verdict != incident.Deny || rulesOf(d)[0] != GateMode {
		t.Errorf("%+v", d)
	}
}

func TestBreakGlass(t *testing.T) {
	t.Parallel()
	const glass = `
settings:
  breakGlass: {cluster: prod}
  roles: {break-glass: {users: [anna], groups: [oncall]}}
rules:
- {name: frozen, when: "true", verdict: deny, reason: a freeze, breakGlass: true}
`
	p := mustNew(t, glass)
	ok := func(in *Input) {
		in.Plan.BreakGlass, in.Plan.Reason = true, "the only inference pool is down"
		in.Steps[0].Action.Name, in.Steps[0].Action.Risk = "drain", "high"
	}
	d := p.Decide(t.Context(), plain(t, ok))
	if d.Verdict != incident.AskOne || d.Approvers != 1 || !d.SelfApproval {
		t.Fatalf("a holder of the role: %+v", d)
	}
	if !slices.Contains(rulesOf(d), GateBreakGlass) {
		t.Errorf("it is not loud: %v", rulesOf(d))
	}
	if d := p.Decide(t.Context(), plain(t, nil)); d.Verdict != incident.Deny {
		t.Errorf("without break-glass the freeze holds: %+v", d)
	}
	for name, change := range map[string]func(*Input){
		"another cluster":     func(in *Input) { in.Cluster = "dev" },
		"no role":             func(in *Input) { in.Caller.Name = "bob" },
		"a role brought":      func(in *Input) { in.Caller.Name, in.Caller.Roles = "bob", []string{"break-glass"} },
		"no reason":           func(in *Input) { in.Plan.Reason = " " },
		"a model":             func(in *Input) { in.Plan.FromModel = true },
		"a long life":         func(in *Input) { in.Plan.Expires = in.Plan.Created.Add(31 * time.Minute) },
		"no birth":            func(in *Input) { in.Plan.Created = time.Time{} },
		"an open breaker":     func(in *Input) { in.Live.BreakerOpen = true },
		"what never is":       func(in *Input) { in.Steps[0].Writes = []Write{{Verb: "delete", Kind: "Namespace", Name: "x"}} },
		"an unknown action":   func(in *Input) { in.Steps[0].Action.Family = "disks"; in.Steps[0].Action.Name = "x" },
		"an automated caller": func(in *Input) { in.Caller.Surface = "alert" },
	} {
		in := plain(t, ok)
		in.Steps = slices.Clone(in.Steps)
		change(&in)
		if d := p.Decide(t.Context(), in); d.Verdict != incident.Deny || d.SelfApproval || d.Approvers != 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	in := plain(t, ok)
	in.Caller.Name, in.Caller.Groups = "carl", []string{"oncall"}
	if d := p.Decide(t.Context(), in); d.Verdict != incident.AskOne {
		t.Errorf("the role by group: %+v", d)
	}
}

func TestARuleThatFailsDenies(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]string{
		"missing key":  "params['replicas'] == '0'",
		"no number":    "int(params[?'replicas'].orValue('x')) > 3",
		"out of cost":  "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))",
		"unknown zone": "now.getHours(cluster) > 3",
		"no timestamp": "timestamp(plan.author) > now",
	} {
		p := mustNew(t, "rules: [{name: broken, when: \""+when+"\", verdict: allow, reason: x}]")
		d := p.Decide(t.Context(), plain(t, nil))
		if d.Verdict != incident.Deny || rulesOf(d)[0] != "broken" || !strings.Contains(d.Rules[0].Reason, "cannot be asked") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	rule := func(s string) string { return "rules: [{name: x, when: 'true', verdict: deny, reason: r, " + s + "}]" }
	for name, c := range map[string]struct{ file, want string }{
		"unknown field":     {"rule: []", "rule"},
		"unknown rule part": {rule("colour: red"), "colour"},
		"unknown setting":   {"settings: {mod: approve}", "mod"},
		"repeated key":      {"settings: {mode: approve, mode: read_only}", "mode"},
		"bad verdict":       {"rules: [{name: x, when: 'true', verdict: maybe, reason: r}]", `verdict "maybe"`},
		"no reason":         {"rules: [{name: x, when: 'true', verdict: deny}]", "reason is empty"},
		"bad name":          {"rules: [{name: 'X y', when: 'true', verdict: deny, reason: r}]", "lower-case"},
		"a gate's name":     {"rules: [{name: circuit-breaker, when: 'true', verdict: allow, reason: r}]", "gate"},
		"a misspelt field":  {"rules: [{name: x, when: \"action.title == 'drain'\", verdict: deny, reason: r}]", "title"},
		"an unknown name":   {"rules: [{name: x, when: \"subject == 'drain'\", verdict: deny, reason: r}]", "subject"},
		"no boolean":        {"rules: [{name: x, when: action.name, verdict: deny, reason: r}]", "not true or false"},
		"step in a plan":    {"rules: [{name: x, scope: plan, when: \"action.name == 'a'\", verdict: deny, reason: r}]", "action"},
		"bad scope":         {rule("scope: world"), "scope"},
		"pass without deny": {"rules: [{name: x, when: 'true', verdict: ask_one, reason: r, breakGlass: true}]", "breakGlass"},
		"twice":             {"rules: [{name: x, when: 'true', verdict: deny, reason: r}, {name: x, when: 'true', verdict: allow, reason: r}]", "twice"},
		"mode":              {"settings: {mode: yolo}", "settings.mode"},
		"self":              {"settings: {selfApproval: 'yes'}", "selfApproval"},
		"requests":          {"settings: {maxOpenRequests: 0}", "maxOpenRequests"},
		"plan life":         {"settings: {planTTL: 1000h}", "planTTL"},
		"approval life":     {"settings: {approvalTTL: 0s}", "approvalTTL"},
		"no duration":       {"settings: {approvalTTL: soon}", "duration"},
		"share":             {"settings: {breaker: {nodeShare: 1.5}}", "nodeShare"},
		"nodes":             {"settings: {breaker: {nodes: 0}}", "breaker"},
		"breaker window":    {"settings: {breaker: {window: 1s}}", "breaker.window"},
		"gitops for ever":   {"settings: {directGitOps: {allow: true}}", "expires"},
		"long glass":        {"settings: {breakGlass: {ttl: 5h}}", "breakGlass.ttl"},
		"no glass role":     {"settings: {breakGlass: {role: ''}}", "breakGlass.role"},
		"window zone":       {"settings: {windows: [{name: a, from: '01:00', to: '02:00', timezone: Mars/Base}]}", "timezone"},
		"window time":       {"settings: {windows: [{name: a, from: '25:00', to: '02:00'}]}", "time of day"},
		"window day":        {"settings: {windows: [{name: a, days: [monday], from: '01:00', to: '02:00'}]}", "monday"},
		"window both":       {"settings: {windows: [{name: a, from: '01:00', begins: 2026-01-01T00:00:00Z, ends: 2026-01-02T00:00:00Z}]}", "stand alone"},
		"window backwards":  {"settings: {windows: [{name: a, begins: 2026-01-02T00:00:00Z, ends: 2026-01-01T00:00:00Z}]}", "not after"},
		"window nameless":   {"settings: {windows: [{from: '01:00', to: '02:00'}]}", "no name"},
		"window twice":      {"settings: {windows: [{name: a, from: '01:00', to: '02:00'}, {name: a, from: '01:00', to: '02:00'}]}", "twice"},
		"pattern":           {"settings: {systemNamespaces: ['[']}", "systemNamespaces"},
		"no yaml":           {"rules: [", "a.yaml"},
		"large":             {"# " + strings.Repeat("x", maxFile), "bytes"},
	} {
		_, err := New(over(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
	for name, c := range map[string]struct{ file, want string }{
		"no name":       {"cases: [{want: deny}]", "no name"},
		"no verdict":    {"cases: [{name: a}]", "want"},
		"unknown input": {"cases: [{name: a, want: deny, input: {colour: red}}]", "colour"},
		"twice":         {"cases: [{name: a, want: deny}, {name: a, want: deny}]", "also in"},
	} {
		_, err := Cases(fstest.MapFS{"x.test.yaml": {Data: []byte(c.file)}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
}

func TestOverriding(t *testing.T) {
	t.Parallel()
	base := mustNew(t)
	p := mustNew(t, "settings: {maxOpenRequests: 2, breaker: {nodes: 3}}", "rules: [{name: two-for-drain, when: 'false', verdict: deny, reason: off}, {name: mine, when: 'true', verdict: ask_two, reason: r}]")
	if s := p.Settings(); s.MaxOpenRequests != 2 || s.Breaker.Nodes != 3 || s.Breaker.NodeShare != base.Settings().Breaker.NodeShare || s.Mode != Approve {
		t.Errorf("settings are not laid over field by field: %+v", s)
	}
	if len(p.Rules()) != len(base.Rules())+1 {
		t.Errorf("%d rules over %d", len(p.Rules()), len(base.Rules()))
	}
	d := p.Decide(t.Context(), plain(t, func(in *Input) { in.Steps[0].Action.Name = "drain" }))
	if d.Verdict != incident.AskTwo || slices.Contains(rulesOf(d), "two-for-drain") || !slices.Contains(rulesOf(d), "mine") {
		t.Errorf("%+v", d)
	}
	if p.Digest() == base.Digest() {
		t.Error("another policy has the same digest")
	}
	if mustNew(t).Digest() != base.Digest() {
		t.Error("the same policy has another digest")
	}
}

func TestInputOf(t *testing.T) {
	t.Parallel()
	ref := incident.Ref{Cluster: "prod", Namespace: "a", Group: "apps", Kind: "Deployment", Name: "web"}
	plan := incident.Plan{
		Cluster: "prod", Author: "anna", Requester: incident.Person{Name: "bob"}, Reason: "r", BreakGlass: true, Created: time.Unix(1, 0), Expires: time.Unix(2, 0),
		Cause: &incident.PlanCause{Code: "c", Confidence: 0.7, Evidence: []string{"E1", "E2"}},
		Blast: incident.Blast{PodCount: 3, GPUs: 4, GPUHours: 5.5, Nodes: []incident.Ref{{Kind: "Node"}}, Workloads: []incident.Ref{ref}, BelowBudget: []string{"a/x"}},
		Steps: []incident.Step{
			{ID: "s1", Action: "cordon", Risk: incident.RiskLow, Lasting: "pods are gone"},
			{ID: "s2", Action: "scale", Params: map[string]string{"replicas": "2"}, Risk: incident.RiskHigh,
				Targets: []incident.Target{{Ref: ref, Owner: "Flux Kustomization a/b", System: true, Labels: map[string]string{"l": "v"}}},
				Writes:  []incident.Write{{Verb: "patch", API: "kubernetes", Ref: ref, Body: json.RawMessage(`{"spec":{"replicas":2,"template":{"metadata":{"annotations":{"a.b/c":"x"}}}},"metadata":{"labels":null}}`)}},
				Undo:    []incident.Write{{Verb: "delete", API: "kubernetes", Ref: ref}}},
		},
	}
	got := InputOf(plan, func(a string) string { return map[string]string{"scale": "workloads"}[a] })
	want := Input{Cluster: "prod",
		Plan: Plan{Author: "anna", Requester: "bob", Reason: "r", Steps: 2, Risk: "high", BreakGlass: true, Created: time.Unix(1, 0), Expires: time.Unix(2, 0),
			Blast: Blast{Pods: 3, GPUs: 4, GPUHours: 5.5, Nodes: 1, Workloads: 1, BelowBudget: 1}, Cause: Cause{Code: "c", Confidence: 0.7, Evidence: 2}},
		Steps: []Step{
			{ID: "s1", Action: Action{Name: "cordon", Risk: "low"}},
			{ID: "s2", Action: Action{Name: "scale", Family: "workloads", Risk: "high", Reversible: true}, Params: map[string]string{"replicas": "2"},
				Targets: []Target{{Kind: "Deployment", Group: "apps", Namespace: "a", Name: "web", Labels: map[string]string{"l": "v"}, Owner: "Flux Kustomization a/b", Delivered: "Flux", System: true}},
				Writes: []Write{
					{Verb: "patch", API: "kubernetes", Kind: "Deployment", Group: "apps", Namespace: "a", Name: "web", Fields: []string{"metadata.labels", "spec.replicas", `spec.template.metadata.annotations.a\.b/c`}},
					{Verb: "delete", API: "kubernetes", Kind: "Deployment", Group: "apps", Namespace: "a", Name: "web", Undo: true},
				}},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if CallerOf(incident.Person{Name: "a", Roles: []string{"break-glass"}}).Roles != nil {
		t.Error("a person's own word about roles was taken")
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`[{"op":"test","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/replicas","value":2}]`:                 {"spec.replicas"},
		`[{"op":"add","path":"/metadata/annotations","value":{"a.b/c":"x","d":"y"}}]`:                                          {`metadata.annotations.a\.b/c`, "metadata.annotations.d"},
		`[{"op":"add","path":"/metadata/labels/a.b~1c","value":"x"},{"op":"remove","path":"/metadata/labels/x~0y"}]`:           {`metadata.labels.a\.b/c`, "metadata.labels.x~y"},
		`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"i"},{"op":"remove","path":"/spec/paused"}]`: {"spec.paused", "spec.template.spec.containers.0.image"},
		`[{"op":"replace","path":"/spec","value":{"template":{"spec":{"serviceAccountName":"root"}}}}]`:                        {"spec.template.spec.serviceAccountName"},
		`[{"op":"move","from":"/metadata/finalizers","path":"/metadata/labels"}]`:                                              {"metadata.finalizers", "metadata.labels"},
		`[{"op":"copy","from":"/a","path":"/metadata/finalizers"}]`:                                                            {"metadata.finalizers"},
		`{"metadata":{"labels":null},"spec":{"replicas":2}}`:                                                                   {"metadata.labels", "spec.replicas"},
		`"x"`: nil, ``: nil, `[1]`: nil, `{`: nil,
	} {
		if got := Fields(json.RawMessage(body)); !slices.Equal(got, want) {
			t.Errorf("%s changes %v, want %v", body, got, want)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte(`[{"op":"add","path":"/a~1b/0","value":{"c.d":1}}]`))
	f.Add([]byte(`{"a":{"b":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got := Fields(raw); !slices.IsSorted(got) || len(got) > 0 && !json.Valid(raw) {
			t.Errorf("%q changes %q", raw, got)
		}
	})
}

// TestStrictestWins holds for any set of rules: no rule can make the verdict milder,
// and a decision never asks for fewer people than its verdict says.
func TestStrictestWins(t *testing.T) {
	t.Parallel()
	verdicts := []string{incident.Allow, incident.AskOne, incident.AskTwo, incident.Deny}
	families := []string{"workloads", "placement", "pools", "disks", ""}
	base := mustNew(t)
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		b.WriteString("rules:\n")
		strict := 0
		for i := range rapid.IntRange(1, 5).Draw(rt, "rules") {
			v := rapid.SampledFrom(verdicts).Draw(rt, "verdict")
			on := rapid.Bool().Draw(rt, "on")
			if on {
				strict = max(strict, weight(v))
			}
			b.WriteString("- {name: r" + string(rune('a'+i)) + ", scope: " + rapid.SampledFrom([]string{"step", "plan"}).Draw(rt, "scope") + ", when: '" + map[bool]string{true: "true", false: "false"}[on] + "', verdict: " + v + ", reason: r}\n")
		}
		in := plain(t, func(in *Input) { in.Steps[0].Action.Family = rapid.SampledFrom(families).Draw(rt, "family") })
		before := base.Decide(t.Context(), in)
		d := mustNew(t, b.String()).Decide(t.Context(), in)
		got := weight(d.Verdict)
		if got < strict {
			rt.Errorf("the verdict %s is milder than a rule that applied\n%s", d.Verdict, b.String())
		}
		if !slices.Contains(rulesOf(before), GateNoRule) && got < weight(before.Verdict) {
			rt.Errorf("more rules made %s of %s\n%s", d.Verdict, before.Verdict, b.String())
		}
		if want := map[string]int{incident.AskOne: 1, incident.AskTwo: 2}[d.Verdict]; d.Approvers != want {
			rt.Errorf("%s asks for %d people", d.Verdict, d.Approvers)
		}
		if !slices.IsSortedFunc(d.Rules, func(a, b incident.RuleHit) int { return weight(b.Verdict) - weight(a.Verdict) }) {
			rt.Errorf("rules are not strictest first: %v", rulesOf(d))
		}
	})
}

// TestDecideChangesNothing: the input stays as it was, also when it is asked by many.
func TestDecideChangesNothing(t *testing.T) {
	t.Parallel()
	p := mustNew(t)
	in := plain(t, func(in *Input) {
		in.Steps[0].Targets = []Target{{Kind: "Pod", Namespace: "kube-system", Name: "x"}}
		in.Steps[0].Writes = []Write{{Verb: "evict", API: "kubernetes", Kind: "Pod", Namespace: "kube-system", Name: "x"}}
	})
	raw, _ := json.Marshal(in)
	done := make(chan incident.Decision)
	for range 4 {
		go func() { done <- p.Decide(t.Context(), in) }()
	}
	for range 4 {
		if d := <-done; d.Verdict != incident.AskTwo {
			t.Errorf("%+v", d)
		}
	}
	if after, _ := json.Marshal(in); string(after) != string(raw) {
		t.Errorf("the input became %s", after)
	}
}

func FuzzPolicy(f *testing.F) {
	for _, name := range []string{"shipped/policy.yaml", "shipped/policy.test.yaml"} {
		raw, err := shipped.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("rules: [{name: a, when: 'plan.steps > 1', verdict: deny, reason: r}]"))
	in := plain(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if cases, err := Cases(fstest.MapFS{"a.test.yaml": {Data: raw}}); err == nil {
			for _, c := range cases {
				if weight(c.Want) == 0 {
					t.Errorf("case %q wants %q", c.Name, c.Want)
				}
			}
		}
		p, err := New(fstest.MapFS{"a.yaml": {Data: raw}})
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, r := range p.Rules() {
			names[r.Name] = true
		}
		d := p.Decide(t.Context(), in)
		for _, h := range d.Rules {
			if !names[h.Rule] && !gate(h.Rule) {
				t.Errorf("%q is no rule", h.Rule)
			}
		}
		if weight(d.Verdict) == 0 || len(slices.Collect(maps.Keys(names))) == 0 {
			t.Errorf("%+v", d)
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p := mustNew(b)
	in := plain(b, nil)
	for b.Loop() {
		if d := p.Decide(b.Context(), in); d.Verdict != incident.AskOne {
			b.Fatal(d)
		}
	}
}
