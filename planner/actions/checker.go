package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Looker looks at the cluster with gumshoe's reading tools, each time anew.
type Looker interface {
	// Faults gives the faults and symptoms that an investigation of the subjects
	// finds, and what it could not see.
	Faults(ctx context.Context, subjects ...incident.Ref) (found []incident.Finding, notSeen []string, err error)
	// Call gives what one tool says. probe allows a tool that touches a workload.
	Call(ctx context.Context, tool string, args json.RawMessage, probe bool) (incident.Evidence, []incident.Finding, error)
}

// Checker answers checks by reading the cluster.
type Checker struct {
	cluster *Cluster
	look    Looker
	// probe allows checks that send a request to a workload.
	probe bool
}

var _ planner.Checker = (*Checker)(nil)

// NewChecker makes a checker; without a looker the checks that need one are
// inconclusive. probe allows a request for one token.
func (c *Catalogue) NewChecker(look Looker, probe bool) *Checker {
	return &Checker{cluster: c.cluster, look: look, probe: probe}
}

// question answers one kind of check.
type question func(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string)

// questions are the kinds of checks.
func questions() map[string]question {
	return map[string]question{
		CheckGone: gone, CheckExists: exists, CheckField: field, CheckCondition: condition,
		CheckRollout: rollout, CheckScheduled: scheduled, CheckPending: pending, CheckReady: ready, CheckDaemonPod: daemonPod,
		CheckAllocated: allocated, CheckUnused: unused, CheckEndpoints: endpoints, CheckEmpty: empty, CheckNodes: nodesReady, CheckOnNodes: onNodes, CheckPool: poolState,
		CheckNoFinding: noFinding, CheckFinding: stillFound, CheckNothingNew: nothingNew, CheckTool: toolSays, CheckAnswers: answers,
	}
}

// CheckKinds lists the kinds of checks that a plan may hold.
func CheckKinds() []string {
	var out []string
	for k := range questions() {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Check implements planner.Checker.
func (k *Checker) Check(ctx context.Context, c incident.Check) (incident.Verdict, string) {
	q, ok := questions()[c.Kind]
	if !ok {
		return incident.Unclear, fmt.Sprintf("there is no check %q; there are %s", c.Kind, strings.Join(CheckKinds(), ", "))
	}
	fresh := *k
	fresh.cluster = k.cluster.session()
	return q(ctx, &fresh, c)
}

// object reads the subject of a check; the verdict is set when it could not be read.
func (k *Checker) object(ctx context.Context, r incident.Ref) (*Object, incident.Verdict, string) {
	o, err := k.cluster.Get(ctx, kindOf(r), r.Namespace, r.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, incident.Fail, r.String() + " is not there"
	case err != nil:
		return nil, incident.Unclear, err.Error()
	}
	return o, "", ""
}

// kindOf writes a kind with its group, as mapping reads it.
func kindOf(r incident.Ref) string {
	if r.Group == "" {
		return r.Kind
	}
	return r.Kind + "." + r.Group
}

func verdict(ok bool) incident.Verdict {
	if ok {
		return incident.Pass
	}
	return incident.Fail
}

func gone(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v == incident.Fail {
		return incident.Pass, saw
	}
	if v != "" {
		return v, saw
	}
	if uid := c.Params["uid"]; uid != "" && uid != string(o.GetUID()) {
		return incident.Pass, fmt.Sprintf("%s is another one now (uid %s)", c.Subject, o.GetUID())
	}
	if f := o.GetFinalizers(); o.GetDeletionTimestamp() != nil && len(f) > 0 {
		return incident.Fail, fmt.Sprintf("%s is being deleted and waits for its finalizers %s", c.Subject, strings.Join(f, ", "))
	}
	return incident.Fail, c.Subject.String() + " is still there"
}

func exists(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	if o.GetDeletionTimestamp() != nil {
		return incident.Fail, c.Subject.String() + " is being deleted"
	}
	return incident.Pass, c.Subject.String() + " is there"
}

func field(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	path, want := c.Params["path"], c.Params["value"]
	have, ok := incident.ParsePath(path).In(o.Object)
	text := "not set"
	if ok {
		text = plain(have)
	}
	if want == "" {
		return verdict(!ok), fmt.Sprintf("%s of %s is %s", path, c.Subject, text)
	}
	return verdict(ok && plain(have) == want), fmt.Sprintf("%s of %s is %s", path, c.Subject, text)
}

// plain writes a value of JSON: text as it is, the rest as JSON.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

func condition(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	list, _ := incident.ParsePath("status.conditions").In(o.Object)
	conditions, _ := list.([]any)
	for _, e := range conditions {
		m, _ := e.(map[string]any)
		if plain(m["type"]) != c.Params["type"] {
			continue
		}
		saw := fmt.Sprintf("condition %s of %s is %s", c.Params["type"], c.Subject, plain(m["status"]))
		if msg, ok := m["message"].(string); ok && msg != "" {
			saw += ": " + msg
		}
		return verdict(plain(m["status"]) == c.Params["status"]), saw
	}
	return incident.Fail, fmt.Sprintf("%s has no condition %s", c.Subject, c.Params["type"])
}

// about gives the findings with a code on a subject, or anywhere when the subject
// of the check is a symptom that the finding only concerns.
func about(found []incident.Finding, code string) []incident.Finding {
	var out []incident.Finding
	for _, f := range found {
		if f.Code == code && f.Role != incident.History && f.Role != incident.Context {
			out = append(out, f)
		}
	}
	return out
}

func noFinding(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	if k.look == nil {
		return incident.Unclear, "nothing here can look at it with gumshoe's tools"
	}
	found, missed, err := k.look.Faults(ctx, c.Subject)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	if f := about(found, c.Params["code"]); len(f) > 0 {
		return incident.Fail, fmt.Sprintf("%s is still found: %s", f[0].Code, f[0].Message)
	}
	saw := c.Params["code"] + " is no longer found"
	if len(missed) > 0 {
		saw += "; not seen: " + strings.Join(missed, "; ")
	}
	return incident.Pass, saw
}

func stillFound(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	v, saw := noFinding(ctx, k, c)
	switch v {
	case incident.Pass:
		return incident.Fail, saw
	case incident.Fail:
		return incident.Pass, saw
	}
	return v, saw
}

// Signature names a finding so that the same one is known again: its code and subject.
func Signature(f incident.Finding) string { return f.Code + " " + f.Subject.String() }

// Baseline gives the signatures of faults and symptoms around subjects.
func (k *Checker) Baseline(ctx context.Context, subjects ...incident.Ref) ([]string, error) {
	if k.look == nil {
		return nil, nil
	}
	found, _, err := k.look.Faults(ctx, subjects...)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range found {
		if f.Role == incident.Fault || f.Role == incident.Symptom {
			out = append(out, Signature(f))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// nothingNew compares with what "baseline" lists, a signature a line.
func nothingNew(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	if k.look == nil {
		return incident.Unclear, "nothing here can look at it with gumshoe's tools"
	}
	found, missed, err := k.look.Faults(ctx, c.Subject)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	known := strings.Split(c.Params["baseline"], "\n")
	var fresh []string
	for _, f := range found {
		if f.Role == incident.Fault && !slices.Contains(known, Signature(f)) {
			fresh = append(fresh, f.Code+": "+f.Message)
		}
	}
	if len(fresh) > 0 {
		return incident.Fail, "new: " + strings.Join(fresh[:min(len(fresh), 3)], "; ")
	}
	saw := "no fault that was not there before"
	if len(missed) > 0 {
		saw += "; not seen: " + strings.Join(missed, "; ")
	}
	return incident.Pass, saw
}

func toolSays(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	if k.look == nil {
		return incident.Unclear, "nothing here can look at it with gumshoe's tools"
	}
	said, found, err := k.look.Call(ctx, c.Params["tool"], json.RawMessage(c.Params["args"]), false)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	for code := range strings.SplitSeq(c.Params["codes"], ",") {
		if f := about(found, strings.TrimSpace(code)); len(f) > 0 {
			return incident.Fail, fmt.Sprintf("%s: %s", f[0].Code, f[0].Message)
		}
	}
	first, _, _ := strings.Cut(said.Text, "\n")
	return incident.Pass, c.Params["tool"] + ": " + first
}

// asked is how many engines of a subject are asked for a token.
const asked = 3

// answers asks the engines behind the subject for one token each; where that is not
// allowed, it holds what their logs and metrics say against them.
func answers(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	if k.look == nil {
		return incident.Unclear, "nothing here can look at it with gumshoe's tools"
	}
	pods, v, saw := k.pods(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	if len(pods) == 0 {
		return incident.Fail, c.Subject.String() + " has no pods"
	}
	tool := "serving_pod"
	if k.probe {
		tool = "serving_probe"
	}
	var said []string
	for _, p := range pods[:min(len(pods), asked)] {
		in := map[string]string{"namespace": p.Namespace, "name": p.Name}
		if k.probe {
			in = map[string]string{"namespace": p.Namespace, "pod": p.Name}
		}
		args, err := json.Marshal(in)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		e, found, err := k.look.Call(ctx, tool, args, k.probe)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		var probed struct {
			Served bool   `json:"served"`
			Answer string `json:"answer"`
		}
		if k.probe && (json.Unmarshal(e.Data, &probed) != nil || !probed.Served) {
			return incident.Fail, fmt.Sprintf("pod %s does not answer: %s", p.Name, probed.Answer)
		}
		for _, f := range found {
			if f.Role == incident.Fault || f.Role == incident.Symptom {
				return incident.Fail, f.Message
			}
		}
		first, _, _ := strings.Cut(e.Text, "\n")
		said = append(said, first)
	}
	return incident.Pass, strings.Join(said, "; ")
}
