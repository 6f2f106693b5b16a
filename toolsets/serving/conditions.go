package serving

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

//go:embed conditions.json
var rawRules []byte

// settle is how long an object may be on its way before its own "not ready"
// counts: controllers take minutes to bring up a group of pods.
const settle = 5 * time.Minute

// rule reads one condition of a kind: what its reason or message means.
type rule struct {
	Kinds     []string `json:"kinds"`
	Condition string   `json:"condition"`
	// Status the condition must have; False where empty.
	Status string `json:"status"`
	// Reason and Message are regular expressions; one given must match.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Code    string `json:"code"`
	// Role is fault where empty.
	Role       incident.Role `json:"role"`
	Confidence float64       `json:"confidence"`
	// Mode is the failure mode of the catalogue, Way the way out, Source where
	// the field's meaning comes from.
	Mode   string `json:"mode"`
	Way    string `json:"way"`
	Source string `json:"source"`

	condition, reason, message *regexp.Regexp
}

// shippedRules are the rules that ship, read once in the life of the process. Nobody changes them.
var shippedRules = sync.OnceValues(loadRules)

func loadRules() ([]rule, error) {
	var f struct {
		Rules []rule `json:"rules"`
	}
	if err := json.Unmarshal(rawRules, &f); err != nil {
		return nil, fmt.Errorf("conditions.json: %w", err)
	}
	var errs []error
	for i := range f.Rules {
		r := &f.Rules[i]
		for _, x := range []struct {
			to   **regexp.Regexp
			from string
		}{{&r.condition, r.Condition}, {&r.reason, r.Reason}, {&r.message, r.Message}} {
			re, err := regexp.Compile(x.from)
			if err != nil {
				errs = append(errs, fmt.Errorf("conditions.json: rule %d: %w", i, err))
			}
			*x.to = re
		}
		if r.Role == "" {
			r.Role = incident.Fault
		}
		if r.Status == "" {
			r.Status = "False"
		}
		if len(r.Kinds) == 0 || r.Code == "" || r.Source == "" || r.Role == incident.Fault && (r.Confidence <= 0 || r.Way == "") {
			errs = append(errs, fmt.Errorf("conditions.json: rule %d needs kinds, code, source, and a fault confidence and way", i))
		}
	}
	return f.Rules, errors.Join(errs...)
}

// reads reports whether a rule is about a condition of a kind.
func (r *rule) reads(kind string, c condition) bool {
	return slices.Contains(r.Kinds, kind) && r.Status == c.status && r.condition.MatchString(c.kind) && r.reason.MatchString(c.reason) && r.message.MatchString(c.message)
}

// conditions judges what an object's conditions say. What waits for less than the
// settling time is on its way, unless a rule names a cause: an error does not wait.
func (t *Toolset) conditions(v *verdict, u *unstructured.Unstructured, conds []condition) {
	kind := u.GetKind()
	var waiting *condition
	for i := range conds {
		c := conds[i]
		v.line("condition %s %s %s since %s: %s", c.kind, c.status, c.reason, t.ago(c.since), c.message)
		named := false
		for j := range t.rules {
			r := &t.rules[j]
			if !r.reads(kind, c) {
				continue
			}
			named = true
			p := params("condition", c.kind, "reason", c.reason, "message", oneLine(c.message, 400), "mode", r.Mode, "way", r.Way)
			msg := fmt.Sprintf("%s has %s %s %s", v.subject, c.kind, c.status, c.reason)
			if c.message != "" {
				msg += ": " + oneLine(c.message, 400)
			}
			f := incident.Finding{Code: r.Code, Role: r.Role, Severity: incident.Critical, Confidence: r.Confidence, Subject: v.subject, Message: msg, Params: p, FirstSeen: c.since, LastSeen: t.now()}
			if r.Role == incident.Symptom {
				if !t.old(c, u) {
					break
				}
				f.Severity, f.Confidence = incident.Warning, 0
			}
			v.add(f)
			break
		}
		if !named && c.status == "False" && (c.kind == "Ready" || c.kind == "Available") || c.status == "True" && (c.kind == "Failed" || c.kind == "Degraded" || c.kind == "GroupDegraded") {
			waiting = &conds[i]
		}
	}
	if waiting == nil || stopped(u) || !t.old(*waiting, u) || u.GetDeletionTimestamp() != nil {
		return
	}
	t.notReady(v, waiting.kind, waiting.status, waiting.reason, waiting.message)
}

// notReady says that an object's own words are that it is not ready.
func (t *Toolset) notReady(v *verdict, condition, status, reason, message string) {
	msg := fmt.Sprintf("%s has %s %s", v.subject, condition, status)
	if reason != "" {
		msg += " " + reason
	}
	if message != "" {
		msg += ": " + oneLine(message, 300)
	}
	v.symptom("serving.not_ready", msg, params("condition", condition, "reason", reason, "message", oneLine(message, 300), "mode", "", "way", ""))
}

// old reports whether a condition has lasted longer than an object may settle.
func (t *Toolset) old(c condition, u *unstructured.Unstructured) bool {
	since := c.since
	if since.IsZero() {
		since = u.GetCreationTimestamp().Time
	}
	return t.now().Sub(since) >= settle
}

// stopped reports whether an object is meant to have nothing running.
func stopped(u *unstructured.Unstructured) bool {
	for _, p := range []string{"spec.suspend", "spec.suspended", "spec.paused", "spec.runPolicy.suspend"} {
		if at(u.Object, p) == "true" {
			return true
		}
	}
	if n, ok := number(u.Object, "spec.replicas"); ok && n == 0 {
		return true
	}
	return strings.EqualFold(u.GetAnnotations()["serving.kserve.io/stop"], "true") || u.GetAnnotations()["airunway.ai/reconcile-paused"] == "true"
}
