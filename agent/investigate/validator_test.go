package investigate

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// scene is what the lab showed: E1 the pod, E2 the claim, E3 a failed call, E4
// a list of pods.
func scene() Grounds {
	s, f := symptomFinding(), faultFinding()
	s.Evidence, f.Evidence = []string{"E1"}, []string{"E2"}
	return Grounds{
		Subjects: []incident.Ref{pod},
		Evidence: []incident.Evidence{
			{ID: "E1", Tool: "kube_pod", Cluster: "lab", Args: json.RawMessage(`{"namespace":"train","name":"llama-0"}`), Text: "Pod train/llama-0 is Pending for 12m, image registry.example.com/team/llama:v1.2"},
			{ID: "E2", Tool: "dra_explain", Cluster: "lab", Text: "ResourceClaim train/llama-0-gpu-x7k2p\n48 devices: 40 NVIDIA H100 80GB HBM3, 8 NVIDIA A100\nselector wants \"H200\"",
				Data: json.RawMessage(`{"devices":["gpu-0","gpu-1","gpu-2"],"memory":"81,920 MiB"}`)},
			{ID: "E3", Tool: "kube_node", Text: "", Error: "may not get nodes gpu-node-1"},
			{ID: "E4", Tool: "kube_list", Text: "pods in train: llama-0, web-1, hf-token-writer\nSecret hf-token mounted by llama-0 is missing since 2026-03-01T09:48:00Z"},
		},
		Findings: []incident.Finding{s, f},
		Edges:    []incident.Edge{{From: pod, Relation: "claims", To: claim, Evidence: []string{"E1"}}},
		Actions:  actions(),
	}
}

func right() incident.Diagnosis {
	return incident.Diagnosis{Outcome: incident.RootCause,
		Causes: []incident.Cause{{Subject: claim, Code: "dra.selector_excludes_all", Confidence: 0.9, Evidence: []string{"E2"},
			Statement: `The claim asks for "H200"; of 48 devices 40 are H100 and 8 are A100`}},
		Chain:   []incident.Edge{{From: pod, Relation: "claims", To: claim}},
		Checked: []incident.CheckedItem{{What: "pod train/llama-0", Result: "Pending", Evidence: []string{"E1"}}}}
}

func TestValidatorAccepts(t *testing.T) {
	t.Parallel()
	healthy := scene()
	healthy.Findings = nil
	over := scene()
	past := symptomFinding()
	past.Role, past.Evidence = incident.History, []string{"E1"}
	over.Findings = []incident.Finding{past}
	for _, tc := range []struct {
		name   string
		g      Grounds
		change func(*incident.Diagnosis)
	}{
		{"the right answer", scene(), func(*incident.Diagnosis) {}},
		{"without a chain, which the graph completes", scene(), func(d *incident.Diagnosis) { d.Chain = nil }},
		{"a loosely named subject", scene(), func(d *incident.Diagnosis) {
			d.Causes[0].Subject = incident.Ref{Kind: "resourceclaim", Namespace: "train", Name: "llama-0-gpu-x7k2p"}
		}},
		{"a count of a list", scene(), func(d *incident.Diagnosis) { d.Causes[0].Statement = "3 devices were looked at" }},
		{"another spelling of a number", scene(), func(d *incident.Diagnosis) { d.Causes[0].Statement = "a device has 81920 MiB" }},
		{"an image", scene(), func(d *incident.Diagnosis) {
			d.Causes[0].Statement, d.Causes[0].Evidence = "The image registry.example.com/team/llama:v1.2 is used by Pod train/llama-0", []string{"E1", "E2"}
		}},
		{"a time", scene(), func(d *incident.Diagnosis) {
			d.Causes[0].Statement, d.Causes[0].Evidence = "Missing since 2026-03-01T09:48:00Z", []string{"E2", "E4"}
		}},
		{"quotes in another case", scene(), func(d *incident.Diagnosis) { d.Causes[0].Statement = "wants `h200`" }},
		{"a claim without a finding", scene(), func(d *incident.Diagnosis) {
			d.Causes = append(d.Causes, incident.Cause{Subject: secret, Statement: "Secret hf-token is missing", Confidence: 0.6, Evidence: []string{"E4"}})
			d.Chain = append(d.Chain, incident.Edge{From: pod, Relation: "uses", To: secret, Evidence: []string{"E4"}})
		}},
		{"an edge the other way round", scene(), func(d *incident.Diagnosis) {
			d.Chain = []incident.Edge{{From: claim, Relation: "claimed-by", To: pod}}
		}},
		{"a refutation", scene(), func(d *incident.Diagnosis) {
			d.RuledOut = []incident.Refutation{{What: "taints", Why: "12m is too long", Evidence: []string{"E1"}}}
		}},
		{"a proposal", scene(), func(d *incident.Diagnosis) {
			d.Proposals = []incident.Proposal{{Action: "claim_template_patch", Params: map[string]string{"namespace": "train", "name": "llama-0-gpu-x7k2p", "selector": "anything new"}}}
		}},
		{"healthy", healthy, func(d *incident.Diagnosis) { d.Outcome, d.Causes = incident.Healthy, nil }},
		{"recovered", over, func(d *incident.Diagnosis) { d.Outcome, d.Causes = incident.Recovered, nil }},
		{"inconclusive", scene(), func(d *incident.Diagnosis) { *d = incident.Diagnosis{Outcome: incident.Inconclusive} }},
		{"a symptom listed as unexplained", scene(), func(d *incident.Diagnosis) {
			d.Causes[0] = incident.Cause{Subject: secret, Statement: "Secret hf-token is missing", Confidence: 0.6, Evidence: []string{"E4"}, Explains: []incident.Ref{pod}}
			d.Chain = []incident.Edge{{From: pod, Relation: "uses", To: secret, Evidence: []string{"E4"}}}
			d.Unexplained = []incident.Finding{{Subject: pod}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := right()
			tc.change(&d)
			v := Validate(d, tc.g)
			if !v.OK() {
				t.Fatalf("refused: %v", v.Strings())
			}
			if len(v.Diagnosis.Causes) != len(d.Causes) || v.Diagnosis.Outcome != d.Outcome || len(v.Diagnosis.Unsupported) != 0 {
				t.Errorf("%+v", v.Diagnosis)
			}
			if again := Validate(v.Diagnosis, tc.g); !again.OK() || !cmp.Equal(again.Diagnosis, v.Diagnosis) {
				t.Errorf("what stands does not stand twice: %v %s", again.Strings(), cmp.Diff(v.Diagnosis, again.Diagnosis))
			}
		})
	}
}

func TestValidatorRefuses(t *testing.T) {
	t.Parallel()
	calm := scene()
	calm.Findings = nil
	cause := func(change func(*incident.Cause)) func(*incident.Diagnosis) {
		return func(d *incident.Diagnosis) { change(&d.Causes[0]) }
	}
	says := func(s string, ids ...string) func(*incident.Diagnosis) {
		return cause(func(c *incident.Cause) {
			c.Statement = s
			if len(ids) > 0 {
				c.Evidence = ids
			}
		})
	}
	propose := func(action string, params map[string]string) func(*incident.Diagnosis) {
		return func(d *incident.Diagnosis) { d.Proposals = []incident.Proposal{{Action: action, Params: params}} }
	}
	for _, tc := range []struct {
		name   string
		g      Grounds
		change func(*incident.Diagnosis)
		rule   Rule
	}{
		{"no evidence", scene(), cause(func(c *incident.Cause) { c.Evidence = nil }), RuleCitation},
		{"invented evidence", scene(), cause(func(c *incident.Cause) { c.Evidence = []string{"E2", "E99"} }), RuleCitation},
		{"failed evidence", scene(), cause(func(c *incident.Cause) { c.Evidence = []string{"E2", "E3"} }), RuleCitation},
		{"invented id in the sentence", scene(), says("as E77 shows"), RuleCitation},
		{"invented quote", scene(), says(`the claim asks for "B200"`), RuleQuote},
		{"quote of other evidence", scene(), says(`wants "H200"`, "E1"), RuleQuote},
		{"invented image", scene(), says("the image registry.example.com/team/llama:v9 is used", "E1"), RuleQuote},
		{"invented time", scene(), says("since 2026-03-01T08:00:00Z", "E4"), RuleQuote},
		{"invented number", scene(), says("of 49 devices none fits"), RuleFigure},
		{"number inside a word", scene(), says("200 devices"), RuleFigure},
		{"invented detail", scene(), cause(func(c *incident.Cause) { c.Detail = []string{"7 are free"} }), RuleFigure},
		{"invented object in the sentence", scene(), says("Pod train/llama-1 is in the way"), RuleName},
		{"part of a name", scene(), says("the Secret hf-token-w is missing", "E4"), RuleName},
		{"invented subject", scene(), cause(func(c *incident.Cause) { c.Subject.Name = "llama-9-gpu-zzzzz" }), RuleName},
		{"subject in another namespace", scene(), cause(func(c *incident.Cause) { c.Subject.Namespace = "prod" }), RuleName},
		{"subject of another kind", scene(), cause(func(c *incident.Cause) { c.Subject.Kind = "PersistentVolumeClaim" }), RuleName},
		{"subject of another cluster", scene(), cause(func(c *incident.Cause) { c.Subject.Cluster = "prod" }), RuleName},
		{"no subject", scene(), cause(func(c *incident.Cause) { c.Subject = incident.Ref{} }), RuleName},
		{"empty statement", scene(), says(" "), RuleEmpty},
		{"confidence above one", scene(), cause(func(c *incident.Cause) { c.Confidence = 1.2 }), RuleConfidence},
		{"confidence below zero", scene(), cause(func(c *incident.Cause) { c.Confidence = -1 }), RuleConfidence},
		{"confidence that is no number", scene(), cause(func(c *incident.Cause) { c.Confidence = math.NaN() }), RuleConfidence},
		{"cause without a way", scene(), cause(func(c *incident.Cause) {
			c.Subject, c.Statement, c.Evidence = incident.Ref{Kind: "Pod", Namespace: "train", Name: "web-1"}, "Pod train/web-1 is there", []string{"E4"}
		}), RuleChain},
		{"symptom neither explained nor listed", func() Grounds {
			g := scene()
			other := symptomFinding()
			other.Subject.Name, other.Evidence = "web-1", []string{"E4"}
			g.Subjects, g.Findings = append(g.Subjects, other.Subject), append(g.Findings, other)
			return g
		}(), func(*incident.Diagnosis) {}, RuleUnexplained},
		{"link with one end in evidence", scene(), func(d *incident.Diagnosis) {
			d.Chain = append(d.Chain, incident.Edge{From: claim, Relation: "held-by", To: incident.Ref{Kind: "Pod", Namespace: "train", Name: "ghost-1"}, Evidence: []string{"E2"}})
		}, RuleChain},
		{"link without evidence", scene(), func(d *incident.Diagnosis) {
			d.Chain = append(d.Chain, incident.Edge{From: pod, Relation: "uses", To: secret})
		}, RuleCitation},
		{"link without a relation", scene(), func(d *incident.Diagnosis) {
			d.Chain = append(d.Chain, incident.Edge{From: pod, To: secret, Evidence: []string{"E4"}})
		}, RuleChain},
		{"symptom left open", func() Grounds { g := scene(); g.Edges = nil; return g }(), func(d *incident.Diagnosis) {
			d.Causes[0].Subject, d.Causes[0].Statement, d.Causes[0].Evidence = secret, "Secret hf-token is missing", []string{"E4"}
			d.Chain = []incident.Edge{{From: secret, Relation: "blocks", To: pod, Evidence: []string{"E4"}}}
		}, RuleChain},
		{"healthy in spite of a symptom", scene(), func(d *incident.Diagnosis) { d.Outcome, d.Causes = incident.Healthy, nil }, RuleHealthy},
		{"healthy with a cause", calm, func(d *incident.Diagnosis) { d.Outcome = incident.Healthy }, RuleHealthy},
		{"healthy without checks", calm, func(d *incident.Diagnosis) { d.Outcome, d.Causes, d.Checked = incident.Healthy, nil, nil }, RuleHealthy},
		{"healthy by a failed check", calm, func(d *incident.Diagnosis) {
			d.Outcome, d.Causes = incident.Healthy, nil
			d.Checked[0].Evidence = []string{"E3"}
		}, RuleHealthy},
		{"recovered in spite of a symptom", scene(), func(d *incident.Diagnosis) { d.Outcome = incident.Recovered }, RuleHealthy},
		{"recovered from nothing", calm, func(d *incident.Diagnosis) { d.Outcome, d.Causes = incident.Recovered, nil }, RuleHealthy},
		{"root cause without a cause", scene(), func(d *incident.Diagnosis) { d.Causes = nil }, RuleOutcome},
		{"unknown outcome", scene(), func(d *incident.Diagnosis) { d.Outcome = "fine" }, RuleOutcome},
		{"unknown action", scene(), propose("kubectl_delete", map[string]string{"namespace": "train", "name": "llama-0"}), RuleAction},
		{"unknown parameter", scene(), propose("pod_delete", map[string]string{"namespace": "train", "name": "llama-0", "force": "true"}), RuleAction},
		{"missing parameter", scene(), propose("pod_delete", map[string]string{"namespace": "train"}), RuleAction},
		{"invented object of a proposal", scene(), propose("pod_delete", map[string]string{"namespace": "train", "name": "ghost-1"}), RuleName},
		{"object named only by a failed call", scene(), propose("pod_delete", map[string]string{"namespace": "train", "name": "gpu-node-1"}), RuleName},
		{"refutation of a finding by itself", func() Grounds { g := scene(); g.Vouched = right(); return g }(), func(d *incident.Diagnosis) {
			d.RuledOut = []incident.Refutation{{Code: "dra.selector_excludes_all", What: "the selector", Why: "it is fine", Evidence: []string{"E2"}}}
		}, RuleRefutation},
		{"refutation without evidence", scene(), func(d *incident.Diagnosis) {
			d.RuledOut = []incident.Refutation{{What: "taints", Why: "there are none"}}
		}, RuleCitation},
		{"check with an invented number", scene(), func(d *incident.Diagnosis) {
			d.Checked = []incident.CheckedItem{{What: "nodes", Result: "99 ready", Evidence: []string{"E1"}}}
		}, RuleFigure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := right()
			tc.change(&d)
			v := Validate(d, tc.g)
			if !slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Rule == tc.rule }) {
				t.Fatalf("not refused by %s: %v", tc.rule, v.Strings())
			}
			if again := Validate(v.Diagnosis, tc.g); !again.OK() {
				t.Errorf("what is left does not stand: %v", again.Strings())
			}
		})
	}
}

func TestValidatorShowsWhatItRefuses(t *testing.T) {
	t.Parallel()
	d := right()
	d.Causes[0].Evidence = []string{"E99"}
	d.Proposals = []incident.Proposal{{Action: "pod_delete", Params: map[string]string{"namespace": "train", "name": "llama-0"}}}
	v := Validate(d, scene())
	got := v.Diagnosis
	if got.Outcome != incident.Inconclusive || len(got.Causes) != 0 || len(got.Proposals) != 0 {
		t.Errorf("%+v", got)
	}
	if len(got.Unsupported) != 2 || got.Unsupported[0].Claim != d.Causes[0].Statement || !strings.Contains(got.Unsupported[0].Reasons[0], "E99") {
		t.Errorf("%+v", got.Unsupported)
	}
	if len(got.Unexplained) != 1 || got.Unexplained[0].Code != "kube.pod_unschedulable" {
		t.Errorf("the symptom is not listed: %+v", got.Unexplained)
	}
}

func TestValidatorCapsConfidence(t *testing.T) {
	t.Parallel()
	base := incident.Cause{Subject: secret, Statement: "Secret hf-token is missing", Confidence: 1, Evidence: []string{"E4"}}
	for _, tc := range []struct {
		name  string
		cause incident.Cause
		vouch float64
		want  float64
	}{
		{"no finding", base, 0, unfounded},
		{"a finding", right().Causes[0], 0, 0.9},
		{"more than the finding", func() incident.Cause { c := right().Causes[0]; c.Confidence = 1; return c }(), 0, 0.95},
		{"code is surer", func() incident.Cause { c := right().Causes[0]; c.Confidence = 1; return c }(), 0.98, 0.98},
		{"never certain", func() incident.Cause { c := right().Causes[0]; c.Confidence = 1; return c }(), 1, sure},
	} {
		g := scene()
		if tc.vouch > 0 {
			g.Vouched = right()
			g.Vouched.Causes[0].Confidence = tc.vouch
		}
		d := right()
		d.Causes = []incident.Cause{tc.cause}
		d.Chain = append(d.Chain, incident.Edge{From: pod, Relation: "uses", To: secret, Evidence: []string{"E4"}})
		v := Validate(d, g)
		if len(v.Diagnosis.Causes) != 1 || v.Diagnosis.Causes[0].Confidence != tc.want {
			t.Errorf("%s: %+v %v, want %v", tc.name, v.Diagnosis.Causes, v.Strings(), tc.want)
		}
	}
}

// TestValidatorVouched: the words of code are not searched, its citations are.
func TestValidatorVouched(t *testing.T) {
	t.Parallel()
	d := right()
	d.Causes[0].Statement = `the claim is retried every 5 minutes ("backoff")`
	if v := Validate(d, scene()); v.OK() {
		t.Error("a sentence that no evidence carries was accepted")
	}
	g := scene()
	g.Vouched = d
	if v := Validate(d, g); !v.OK() {
		t.Errorf("refused: %v", v.Strings())
	}
	bad := d
	bad.Causes = slices.Clone(d.Causes)
	bad.Causes[0].Evidence = []string{"E3"}
	g.Vouched = bad
	if v := Validate(bad, g); v.OK() || len(v.Diagnosis.Causes) != 0 {
		t.Error("failed evidence carries a claim because code wrote it")
	}
}

func TestValidatorSuspicious(t *testing.T) {
	t.Parallel()
	delete := incident.Proposal{Action: "pod_delete", Params: map[string]string{"namespace": "train", "name": "web-1"}}
	founded := incident.Proposal{Action: "pod_delete", Params: map[string]string{"namespace": "train", "name": "llama-0"}}
	d := right()
	d.Proposals = []incident.Proposal{delete, founded}
	if v := Validate(d, scene()); !v.OK() {
		t.Fatalf("refused without any suspicion: %v", v.Strings())
	}
	g := scene()
	g.Suspicious = true
	v := Validate(d, g)
	if len(v.Diagnosis.Proposals) != 1 || v.Diagnosis.Proposals[0].Params["name"] != "llama-0" || len(v.Reasons) != 1 || v.Reasons[0].Rule != RuleSuspicious {
		t.Errorf("%+v %v", v.Diagnosis.Proposals, v.Strings())
	}
	g.Vouched.Proposals = []incident.Proposal{delete}
	if v := Validate(d, g); !v.OK() {
		t.Errorf("triage's own proposal is refused: %v", v.Strings())
	}
}

func TestValidatorSurveys(t *testing.T) {
	t.Parallel()
	g := scene()
	g.Subjects, g.Edges = []incident.Ref{{Cluster: "lab", Kind: "Namespace", Name: "train"}}, nil
	d := right()
	d.Chain = nil
	d.Unexplained = []incident.Finding{{Subject: pod}}
	if v := Validate(d, g); !v.OK() {
		t.Errorf("a cause inside the namespace asked about is refused: %v", v.Strings())
	}
	g.Subjects[0].Name = "prod"
	if v := Validate(d, g); v.OK() {
		t.Error("a cause of another namespace is accepted")
	}
	if v := Validate(incident.Diagnosis{Outcome: incident.Healthy, Checked: right().Checked}, g); !v.OK() {
		t.Errorf("trouble elsewhere speaks against healthy: %v", v.Strings())
	}
}

// TestInventedEvidenceIsAlwaysRefused: whatever else a diagnosis holds, an id
// that is not in the ledger never carries a claim.
func TestInventedEvidenceIsAlwaysRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := scene()
		id := rapid.OneOf(rapid.StringMatching(`E[0-9]{1,6}`), rapid.String(), rapid.SampledFrom([]string{"e2", "E2 ", "E02", "E3", "E２", "[E2]", "E2,E4"})).
			Filter(func(s string) bool { return s != "E1" && s != "E2" && s != "E4" }).Draw(t, "id")
		d := right()
		c := &d.Causes[0]
		c.Evidence = rapid.Permutation([]string{"E1", "E2", "E4", id}).Draw(t, "evidence")
		c.Statement = rapid.SampledFrom([]string{c.Statement, faultFinding().Message, "x", "everything is wrong"}).Draw(t, "statement")
		c.Confidence = rapid.Float64().Draw(t, "confidence")
		if rapid.Bool().Draw(t, "vouched") {
			g.Vouched = d
		}
		v := Validate(d, g)
		if v.OK() || len(v.Diagnosis.Causes) != 0 || len(v.Diagnosis.Unsupported) == 0 {
			t.Fatalf("%q was accepted: %+v", id, v.Diagnosis)
		}
		for _, edge := range []incident.Edge{{From: pod, Relation: "uses", To: secret, Evidence: []string{id}}} {
			d := right()
			d.Chain = append(d.Chain, edge)
			if v := Validate(d, g); v.OK() {
				t.Fatalf("a link by %q was accepted", id)
			}
		}
	})
}

func TestHasToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, name string
		want       bool
	}{
		{"pod llama-0 is", "llama-0", true}, {"train/llama-0", "llama-0", true}, {"llama-0.", "llama-0", true}, {"(llama-0)", "llama-0", true},
		{"llama-0", "llama-0", true}, {"llama-0-gpu", "llama-0", false}, {"my-llama-0", "llama-0", false}, {"llama-01", "llama-0", false},
		{"a.llama-0", "llama-0", false}, {"llama-0.svc", "llama-0", false}, {"llama-0-gpu llama-0", "llama-0", true}, {"- llama-0 -", "llama-0", true},
		{"x", "", false}, {"", "x", false}, {"üllama-0", "llama-0", false},
	} {
		if got := hasToken(tc.text, tc.name); got != tc.want {
			t.Errorf("hasToken(%q, %q) = %v", tc.text, tc.name, got)
		}
	}
}

func TestReadSentence(t *testing.T) {
	t.Parallel()
	lx := newLexicon()
	for _, tc := range []struct {
		text string
		want claimed
	}{
		{"plain words only, and/or read-only ones", claimed{}},
		{"wants \"H200\" and `a b` and 'c d'", claimed{quoted: []string{"H200", "a b", "c d"}}},
		{"the pod's owner isn't there", claimed{}},
		{"as [E3] and E12 say", claimed{ids: []string{"E3", "E12"}}},
		{"1,024 of 2048.0 are used, 12%", claimed{figures: []string{"1024", "2048", "12"}}},
		{"80GB H100 and x7k2p", claimed{figures: []string{"80"}}},
		{"Pod train/llama-0 is Pending", claimed{names: []string{"train", "llama-0"}}},
		{"the Secret hf-token is gone", claimed{names: []string{"hf-token"}}},
		{"node gpu-node-17 and gpu-node-18", claimed{names: []string{"gpu-node-17", "gpu-node-18"}}},
		{"image ghcr.io/a/b:v1.2 or nginx:1.27.0", claimed{quoted: []string{"ghcr.io/a/b:v1.2", "nginx:1.27.0"}}},
		{"server 1.37.2 since 2026-03-01T10:00:00Z", claimed{quoted: []string{"2026-03-01T10:00:00Z", "1.37.2"}}},
		{"from 1.5 to 3", claimed{figures: []string{"1.5", "3"}}},
		{"exit code 137.", claimed{figures: []string{"137"}}},
	} {
		got := lx.read(tc.text)
		if !slices.Equal(got.quoted, tc.want.quoted) || !slices.Equal(got.names, tc.want.names) || !slices.Equal(got.figures, tc.want.figures) || !slices.Equal(got.ids, tc.want.ids) {
			t.Errorf("%q: %+v, want %+v", tc.text, got, tc.want)
		}
	}
}

func FuzzReadSentence(f *testing.F) {
	f.Add("Pod train/llama-0 wants \"H200\", 1,024 of 3 [E1] 2026-03-01 nginx:1.2.3")
	lx := newLexicon()
	f.Fuzz(func(t *testing.T, s string) {
		c := lx.read(s)
		for _, n := range c.figures {
			if n == "" {
				t.Error("an empty figure")
			}
		}
		if again := lx.read(s); len(again.quoted) != len(c.quoted) || len(again.names) != len(c.names) {
			t.Error("not the same twice")
		}
	})
}
