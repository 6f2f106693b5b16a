package dra

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// check holds an answer against the expectations of a case.
func (c caseDoc) check(t *testing.T, res tool.Result) {
	t.Helper()
	defer func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("text:\n%s", res.Text)
			for _, f := range res.Findings {
				t.Logf("%s %s %.2f %s: %s", f.Role, f.Code, f.Confidence, f.Subject, f.Message)
			}
		}
	}()
	var data struct {
		Verdict  string `json:"verdict"`
		WouldFit []struct {
			Change string `json:"change"`
			Nodes  int    `json:"nodes"`
		} `json:"would_fit"`
	}
	if err := json.Unmarshal(res.Data, &data); err != nil {
		t.Fatal(err)
	}
	if c.Verdict != "" && data.Verdict != c.Verdict {
		t.Errorf("verdict %q, want %q", data.Verdict, c.Verdict)
	}
	faults := 0
	for _, f := range res.Findings {
		if f.Role == incident.Fault {
			faults++
		}
		if slices.Contains(c.NoneOf, f.Code) && f.Role == incident.Fault {
			t.Errorf("must not find %s", f.Code)
		}
		if c.Healthy && (f.Role == incident.Fault || f.Role == incident.Symptom) {
			t.Errorf("healthy, and yet %s on %s: %s", f.Code, f.Subject, f.Message)
		}
		carried(t, f, res)
	}
	for _, w := range c.Findings {
		c.expect(t, w, res.Findings)
	}
	if c.Only && faults != len(c.Findings) {
		t.Errorf("%d faults, want %d", faults, len(c.Findings))
	}
	for _, e := range c.Edges {
		if !slices.ContainsFunc(res.Edges, func(o incident.Edge) bool { return o.From.String()+" -"+o.Relation+"-> "+o.To.String() == e }) {
			t.Errorf("no edge %s among %v", e, edgeTexts(res.Edges))
		}
	}
	for _, w := range c.WouldFit {
		if !slices.ContainsFunc(data.WouldFit, func(o struct {
			Change string `json:"change"`
			Nodes  int    `json:"nodes"`
		}) bool {
			return strings.Contains(o.Change, w)
		}) {
			t.Errorf("would fit lacks %q: %v", w, data.WouldFit)
		}
	}
	for _, w := range c.Text {
		if !strings.Contains(res.Text, w) {
			t.Errorf("text lacks %q", w)
		}
	}
}

func (c caseDoc) expect(t *testing.T, w findingDoc, have []incident.Finding) {
	t.Helper()
	for _, f := range have {
		if f.Code != w.Code || w.Subject != "" && f.Subject.String() != w.Subject {
			continue
		}
		role := w.Role
		if role == "" {
			role = string(incident.Fault)
		}
		if string(f.Role) != role {
			t.Errorf("%s has role %s, want %s", f.Code, f.Role, role)
		}
		for k, v := range w.Params {
			if !strings.Contains(f.Params[k], v) {
				t.Errorf("%s param %s is %q, want %q in it", f.Code, k, f.Params[k], v)
			}
		}
		for _, k := range w.Lacks {
			if v, ok := f.Params[k]; ok {
				t.Errorf("%s has param %s (%q), which does not apply", f.Code, k, v)
			}
		}
		return
	}
	t.Errorf("no finding %s on %s", w.Code, w.Subject)
}

// carried checks a rule of the house: names and numbers of a message occur in
// the answer's text or data.
func carried(t *testing.T, f incident.Finding, res tool.Result) {
	t.Helper()
	all := res.Text + string(res.Data)
	for _, tok := range regexp.MustCompile(`[A-Za-z0-9./_-]*[0-9][A-Za-z0-9./_-]*`).FindAllString(f.Message, -1) {
		tok = strings.Trim(tok, "./")
		if !strings.Contains(all, tok) {
			t.Errorf("message of %s says %q, the answer does not", f.Code, tok)
		}
	}
	known := false
	for _, code := range Codes() {
		if code.Code == f.Code {
			known = true
			if !slices.Contains(code.Kinds, f.Subject.Kind) {
				t.Errorf("%s is about a %s, the catalogue says %v", f.Code, f.Subject.Kind, code.Kinds)
			}
			for _, p := range code.Params {
				if _, ok := f.Params[p]; !ok && f.Role == code.Role {
					t.Errorf("%s lacks param %s", f.Code, p)
				}
			}
			for _, p := range code.Optional {
				if v, ok := f.Params[p]; ok && v == "" {
					t.Errorf("%s has an empty param %s", f.Code, p)
				}
			}
		}
	}
	if !known {
		t.Errorf("%s is not in the catalogue", f.Code)
	}
}

func edgeTexts(es []incident.Edge) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.From.String()+" -"+e.Relation+"-> "+e.To.String())
	}
	return out
}
