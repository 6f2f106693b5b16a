package dra

import (
	"context"
	"fmt"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// WhatIfIn names a pod or claim and the changes to try together.
type WhatIfIn struct {
	Namespace      string `json:"namespace"`
	Pod            string `json:"pod,omitempty"`
	Claim          string `json:"claim,omitempty"`
	Request        string `json:"request,omitempty" jsonschema:"request the change is for; needed when there are several"`
	Count          int64  `json:"count,omitempty"`
	Class          string `json:"class,omitempty"`
	Selector       string `json:"selector,omitempty" jsonschema:"CEL; replaces the request's selectors"`
	DropSelector   *int   `json:"drop_selector,omitempty" jsonschema:"index; -1 drops all"`
	DropConstraint *int   `json:"drop_constraint,omitempty" jsonschema:"index; -1 drops all"`
	Node           string `json:"node,omitempty" jsonschema:"only this node"`
	IgnoreTaint    bool   `json:"ignore_taint,omitempty"`
	WithoutPod     string `json:"without_pod,omitempty" jsonschema:"[namespace/]pod whose claims count as free"`
}

// WhatIf is the answer of the allocator.
type WhatIf struct {
	Changes []string `json:"changes"`
	// Before and After count the nodes where the claims fit and the pod may go.
	Before int `json:"fits_before"`
	After  int `json:"fits_after"`
	// Refused counts nodes where they would fit and something outside DRA refuses the pod.
	Refused    int      `json:"refused_nodes"`
	Nodes      []string `json:"nodes" jsonschema:"examples where it fits"`
	Devices    int      `json:"devices" jsonschema:"free devices that pass the changed request there"`
	Allocation []string `json:"allocation" jsonschema:"what the allocator would give on the first node"`
	Error      string   `json:"error,omitempty" jsonschema:"error that ends scheduling on every node"`
	Advice     string   `json:"advice,omitempty"`
	Features   string   `json:"features"`
}

func (t *Toolset) whatIfTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_what_if", Text: text("dra_what_if"), Effect: tool.Read}, t.whatIf)
}

func (t *Toolset) whatIf(ctx context.Context, in WhatIfIn) (tool.Output[WhatIf], error) {
	var none tool.Output[WhatIf]
	ctx, cancel := context.WithTimeout(ctx, totalDeadline)
	defer cancel()
	s, err := t.whatIfSubject(ctx, in)
	if err != nil {
		return none, err
	}
	w, err := t.read.load(ctx)
	if err != nil {
		return none, err
	}
	// An allocated claim is tried as if it were not allocated; but not beside others
	// that the pod still waits for: the scheduler leaves it where it is.
	waits := s.pod != nil && s.pod.Spec.NodeName == "" && len(newAttempt(w, s.pod, s.claims).tried()) > 0
	free := make([]*resourceapi.ResourceClaim, len(s.claims))
	for i, c := range s.claims {
		free[i] = c
		if !waits || c.Name == in.Claim {
			free[i] = c.DeepCopy()
			free[i].Status = resourceapi.ResourceClaimStatus{}
		}
	}
	a := newAttempt(w, s.pod, free)
	if in.Node != "" {
		n := w.byName[in.Node]
		if n == nil {
			return none, tool.Errorf(tool.NotFound, "node %s does not exist", in.Node)
		}
		only := *w
		only.nodes = only.nodes[slices.Index(only.nodes, n):][:1]
		a.w = &only
	}
	var gone func(*resourceapi.ResourceClaim) bool
	changes, words, x, err := t.changesOf(in, a, &gone)
	if err != nil {
		return none, err
	}
	a.split()
	if err := a.baseline(ctx); err != nil {
		return none, err
	}
	out := WhatIf{Changes: words, Nodes: []string{}, Allocation: []string{}, Features: w.assume.String()}
	out.Before = t.newAnalysis(a, &Explanation{}).base(true)
	if slices.ContainsFunc(a.groups, func(g *group) bool { return g.eligible && g.verdict.Abort != "" }) {
		out.Before = 0 // an error on one node ends scheduling on all
	}
	if gone != nil {
		a = a.freed(gone)
	}
	an := t.newAnalysis(a, &Explanation{})
	f := a.where(ctx, changes...)
	out.After, out.Refused = f.nodes, f.refused
	for _, g := range f.groups {
		for _, n := range g.nodes {
			if len(out.Nodes) < 5 {
				out.Nodes = append(out.Nodes, n.Name)
			}
		}
	}
	if len(f.verdicts) > 0 {
		for _, r := range f.verdicts[0].Results {
			for _, d := range r.Devices.Results {
				out.Allocation = append(out.Allocation, d.Request+"="+d.Driver+"/"+d.Pool+"/"+d.Device)
			}
		}
	}
	if x != nil && f.ok() {
		out.Devices = an.freeOn(f, changed(a, x, in))
	}
	out.Error = abortOf(ctx, a, changes)
	if out.Error != "" {
		out.After, out.Nodes, out.Allocation, out.Devices = 0, []string{}, []string{}, 0
	}
	if in.WithoutPod != "" && f.ok() {
		out.Advice = "advice only: the scheduler does not preempt pods to free devices"
	}
	return tool.Output[WhatIf]{Data: out, Text: whatIfText(&out)}, nil
}

func (t *Toolset) whatIfSubject(ctx context.Context, in WhatIfIn) (*subject, error) {
	switch {
	case in.Namespace == "":
		return nil, tool.Errorf(tool.Invalid, "dra_what_if needs a namespace")
	case in.Pod != "":
		pod, err := t.read.pod(ctx, in.Namespace, in.Pod)
		if err != nil {
			return nil, err
		}
		if !t.usesDRA(ctx, pod) {
			return nil, tool.Errorf(tool.Invalid, "pod %s/%s uses no claims and no extended resource that a DeviceClass maps", in.Namespace, in.Pod)
		}
		s, err := t.ofPod(ctx, pod)
		if err == nil && len(s.claims) == 0 && len(pod.Spec.ResourceClaims) > 0 {
			return nil, tool.Errorf(tool.NotFound, "the claims of pod %s/%s do not exist yet", in.Namespace, in.Pod)
		}
		return s, err
	case in.Claim != "":
		return t.ofClaim(ctx, in.Namespace, in.Claim)
	}
	return nil, tool.Errorf(tool.Invalid, "dra_what_if needs a pod or a claim")
}

// pick finds the request a change is for.
func pick(in WhatIfIn, a *attempt) (*want, error) {
	var names []string
	var hit []*want
	for _, x := range a.wants {
		if in.Claim != "" && x.claim.Name != in.Claim {
			continue
		}
		names = append(names, x.name)
		if in.Request == "" || x.name == in.Request || x.request == in.Request {
			hit = append(hit, x)
		}
	}
	switch {
	case len(hit) == 1:
		return hit[0], nil
	case len(hit) == 0 && in.Request != "":
		return nil, tool.Errorf(tool.Invalid, "there is no request %s; there are %s", in.Request, strings.Join(names, ", "))
	case len(hit) == 0:
		return nil, tool.Errorf(tool.Invalid, "the claims have no request")
	}
	return nil, tool.Errorf(tool.Invalid, "several requests: %s; say which with request", strings.Join(names, ", "))
}

// changesOf turns the input into changes and their description.
func (t *Toolset) changesOf(in WhatIfIn, a *attempt, gone *func(*resourceapi.ResourceClaim) bool) (changes []change, words []string, x *want, err error) {
	add := func(c change, format string, args ...any) {
		changes, words = append(changes, c), append(words, fmt.Sprintf(format, args...))
	}
	if in.Count != 0 || in.Class != "" || in.Selector != "" || in.DropSelector != nil {
		if x, err = pick(in, a); err != nil {
			return nil, nil, nil, err
		}
	} else if len(a.wants) == 1 {
		x = a.wants[0]
	}
	if in.Class != "" {
		if a.w.classes[in.Class] == nil {
			return nil, nil, nil, tool.Errorf(tool.NotFound, "DeviceClass %s does not exist", in.Class)
		}
		add(editRequest(x.claim.Name, x.name, func(p parts) { *p.class = in.Class }), "request %s with class %s", x.name, in.Class)
	}
	if in.DropSelector != nil {
		i := *in.DropSelector
		if i >= len(x.selectors) || i < -1 {
			return nil, nil, nil, tool.Errorf(tool.Invalid, "request %s has %d selectors, there is no selector %d", x.name, len(x.selectors), i)
		}
		add(dropSelector(x, i), "request %s without selector %d", x.name, i)
	}
	if in.Selector != "" {
		if e := a.comp.Parse(in.Selector); e.Err != "" {
			return nil, nil, nil, tool.Errorf(tool.Invalid, "the selector does not compile: %s", quote(e.Err))
		}
		add(editRequest(x.claim.Name, x.name, func(p parts) {
			*p.selectors = []resourceapi.DeviceSelector{{CEL: celSelector(in.Selector)}}
		}), "request %s with the only selector %s", x.name, quote(in.Selector))
	}
	if in.Count != 0 {
		if in.Count < 0 {
			return nil, nil, nil, tool.Errorf(tool.Invalid, "count %d: it must be 1 or more", in.Count)
		}
		add(setCount(x, in.Count), "request %s with count %d", x.name, in.Count)
	}
	if in.DropConstraint != nil {
		c, err := t.constrained(in, a)
		if err != nil {
			return nil, nil, nil, err
		}
		add(dropConstraint(c, *in.DropConstraint), "claim %s without constraint %d", c, *in.DropConstraint)
	}
	if in.IgnoreTaint {
		add(ignoreTaints(), "device taints ignored")
	}
	if in.WithoutPod != "" {
		ns, pod, ok := strings.Cut(in.WithoutPod, "/")
		if !ok {
			ns, pod = in.Namespace, in.WithoutPod
		}
		uses := func(c *resourceapi.ResourceClaim) bool {
			return c.Namespace == ns && len(c.Status.ReservedFor) == 1 && c.Status.ReservedFor[0].Name == pod
		}
		if !slices.ContainsFunc(a.w.claims, uses) {
			return nil, nil, nil, tool.Errorf(tool.NotFound, "no claim is held by pod %s/%s alone", ns, pod)
		}
		*gone = uses
		words = append(words, fmt.Sprintf("pod %s/%s gone", ns, pod))
	}
	if in.Node != "" {
		words = append(words, "only node "+in.Node)
	}
	return changes, words, x, nil
}

func (t *Toolset) constrained(in WhatIfIn, a *attempt) (string, error) {
	for _, c := range a.claims {
		if in.Claim != "" && c.Name != in.Claim || len(c.Spec.Devices.Constraints) == 0 {
			continue
		}
		if i := *in.DropConstraint; i >= len(c.Spec.Devices.Constraints) || i < -1 {
			return "", tool.Errorf(tool.Invalid, "claim %s has %d constraints, there is no constraint %d", c.Name, len(c.Spec.Devices.Constraints), i)
		}
		return c.Name, nil
	}
	return "", tool.Errorf(tool.Invalid, "the claims have no constraints")
}

// changed gives the want as it is after the changes, to count free devices.
func changed(a *attempt, x *want, in WhatIfIn) *want {
	y := *x
	if in.Class != "" {
		y.className = in.Class
	}
	if in.DropSelector != nil {
		if i := *in.DropSelector; i < 0 {
			y.selectors = nil
		} else {
			y.selectors = slices.Delete(slices.Clone(x.selectors), i, i+1)
		}
	}
	if in.Selector != "" {
		y.selectors = []resourceapi.DeviceSelector{{CEL: celSelector(in.Selector)}}
	}
	if in.IgnoreTaint {
		y.tolerates = []resourceapi.DeviceToleration{{Operator: resourceapi.DeviceTolerationOpExists}}
	}
	y.compile(a.w, a.comp)
	return &y
}

// abortOf gives the error that would end scheduling, if any sort of node meets one.
func abortOf(ctx context.Context, a *attempt, changes []change) string {
	for _, g := range a.groups {
		if !g.eligible {
			continue
		}
		v, err := a.try(ctx, g, changes...)
		if err == nil && v.Abort != "" {
			return v.Abort
		}
	}
	return ""
}

func whatIfText(o *WhatIf) string {
	var b strings.Builder
	what := "as things are"
	if len(o.Changes) > 0 {
		what = strings.Join(o.Changes, ", ")
	}
	switch {
	case o.Error != "":
		fmt.Fprintf(&b, "%s: scheduling ends with an error: %s\n", what, o.Error)
	case o.After > 0:
		fmt.Fprintf(&b, "%s: fits on %s (before: %d)", what, plural(o.After, "node"), o.Before)
		if o.Devices > 0 {
			fmt.Fprintf(&b, ", %s free there", plural(o.Devices, "device"))
		}
		fmt.Fprintf(&b, "; for example %s\n", strings.Join(o.Nodes, ", "))
		fmt.Fprintf(&b, "allocation on %s: %s\n", o.Nodes[0], strings.Join(o.Allocation, " "))
	default:
		fmt.Fprintf(&b, "%s: fits on no node (before: %d)\n", what, o.Before)
	}
	if o.Refused > 0 {
		fmt.Fprintf(&b, "it would fit on %s more that refuse the pod for reasons outside DRA\n", plural(o.Refused, "node"))
	}
	if o.Advice != "" {
		fmt.Fprintln(&b, o.Advice)
	}
	fmt.Fprintf(&b, "assumed: %s", o.Features)
	return b.String()
}
