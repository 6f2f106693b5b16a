package planner

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// MaxPlan is the largest plan, in bytes of its canonical form.
const MaxPlan = 2 << 20

// Canonical gives the bytes of a plan that are signed: its JSON with the fields in
// their fixed order, the keys of maps and of embedded documents sorted, and no
// white space. Two plans with the same bytes do the same.
func Canonical(p incident.Plan) ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", p.ID, err)
	}
	// Numbers stay as they are written: through float64 they would change.
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("plan %s: %w", p.ID, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("plan %s: %w", p.ID, err)
	}
	b := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if len(b) > MaxPlan {
		return nil, fmt.Errorf("plan %s has %d bytes, at most %d are taken: make it smaller, for example node by node", p.ID, len(b), MaxPlan)
	}
	return b, nil
}

// Digest is what an approval is bound to: "sha256:<hex>" of the canonical bytes.
func Digest(p incident.Plan) (string, error) {
	b, err := Canonical(p)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Decode reads a plan as it was journalled or sent. Unknown fields are refused:
// they would not be a part of what is executed.
func Decode(raw []byte) (incident.Plan, error) {
	var p incident.Plan
	if len(raw) > 2*MaxPlan {
		return p, fmt.Errorf("the plan has %d bytes, at most %d are taken", len(raw), 2*MaxPlan)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("the plan cannot be read: %w", err)
	}
	if d.More() {
		return p, errors.New("the plan is followed by something else: one JSON document is taken")
	}
	return p, Validate(p)
}

// Validate checks the shape of a plan; the error names the field.
func Validate(p incident.Plan) error {
	switch {
	case p.Version != incident.PlanVersion:
		return fmt.Errorf("plan %s: version %d is not known here, %d is", p.ID, p.Version, incident.PlanVersion)
	case p.ID == "":
		return errors.New("plan: id is empty")
	case p.ClusterUID == "":
		return fmt.Errorf("plan %s: cluster_uid is empty: a plan is for one cluster", p.ID)
	case len(p.Steps) == 0:
		return fmt.Errorf("plan %s: it has no steps", p.ID)
	case len(p.Steps) > MaxSteps:
		return fmt.Errorf("plan %s: %d steps, at most %d are taken", p.ID, len(p.Steps), MaxSteps)
	case p.Created.IsZero() || !p.Expires.After(p.Created):
		return fmt.Errorf("plan %s: it has to expire after it was made", p.ID)
	}
	for i, s := range p.Steps {
		if s.ID != fmt.Sprintf("s%d", i+1) {
			return fmt.Errorf("plan %s: step %d has the id %q", p.ID, i+1, s.ID)
		}
		if s.Source == nil && len(s.Writes) == 0 {
			return fmt.Errorf("plan %s: step %s changes nothing", p.ID, s.ID)
		}
		if s.Source != nil && len(s.Writes) > 0 {
			return fmt.Errorf("plan %s: step %s is for a repository and for the cluster at once", p.ID, s.ID)
		}
		if s.Risk.Weight() > incident.RiskCritical.Weight() {
			return fmt.Errorf("plan %s: step %s has the unknown risk %q", p.ID, s.ID, s.Risk)
		}
		for j, w := range s.Writes {
			if err := validWrite(s, w, fmt.Sprintf("%s.%d", s.ID, j+1)); err != nil {
				return fmt.Errorf("plan %s: %w", p.ID, err)
			}
		}
		for j, w := range s.Undo {
			if err := validWrite(s, w, fmt.Sprintf("%s.u%d", s.ID, j+1)); err != nil {
				return fmt.Errorf("plan %s: %w", p.ID, err)
			}
			if !slices.ContainsFunc(s.Writes, func(d incident.Write) bool { return d.ID == w.Of }) {
				return fmt.Errorf("plan %s: %s takes back %q, which is no write of its step", p.ID, w.ID, w.Of)
			}
		}
	}
	return nil
}

// MaxSteps bounds a plan, MaxWrites a step.
const (
	MaxSteps  = 20
	MaxWrites = 500
)

func validWrite(s incident.Step, w incident.Write, id string) error {
	switch {
	case len(s.Writes) > MaxWrites:
		return fmt.Errorf("step %s: %d writes, at most %d are taken", s.ID, len(s.Writes), MaxWrites)
	case w.ID != id:
		return fmt.Errorf("step %s: a write has the id %q where %q belongs", s.ID, w.ID, id)
	case w.API == "" || w.Verb == "":
		return fmt.Errorf("write %s: api and verb are required", w.ID)
	case w.Ref.Kind == "" || w.Ref.Name == "":
		return fmt.Errorf("write %s: it names no object", w.ID)
	case w.API == incident.APIKubernetes && (w.Version == "" || w.Resource == ""):
		return fmt.Errorf("write %s: version and resource are required", w.ID)
	case w.API == incident.APIKubernetes && w.Of == "" && w.Verb != incident.VerbCreate && w.UID == "":
		return fmt.Errorf("write %s: it has no uid: a plan names one object, not whatever bears its name", w.ID)
	case w.Ref.Kind == "Secret":
		return fmt.Errorf("write %s: Secrets are never written", w.ID)
	}
	return nil
}
