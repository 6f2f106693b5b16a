package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/planner"
)

// changeParams are the parameters that say what changes in the spec of a claim.
// Fields and limits: k8s.io/api/resource/v1, ResourceClaimSpec.
func changeParams() []planner.Param {
	return []planner.Param{
		{Name: "request", Text: "the request that changes, request/alternative for one of several alternatives; not needed where there is one"},
		{Name: "count", Type: planner.Int, Text: "how many devices the request gets; its allocationMode becomes ExactCount"},
		{Name: "allocation_mode", Values: []string{"ExactCount", "All"}, Text: "the allocationMode of the request"},
		{Name: "selector", Type: planner.CEL, Text: "a CEL expression: in place of all selectors of the request, or of the one selector_index names"},
		{Name: "selector_index", Type: planner.Int, Text: "which selector of the request is replaced, from 0"},
		{Name: "drop_selector", Type: planner.Int, Text: "which selector of the request is dropped, from 0; -1 drops all"},
		{Name: "class", Object: true, Text: "the DeviceClass of the request"},
		{Name: "toleration", Text: "a device taint that the request tolerates from now on: key, key:effect or key=value:effect"},
		{Name: "capacity_name", Text: "the capacity whose requested amount changes"},
		{Name: "capacity_value", Type: planner.Quantity, Text: "the amount of capacity_name that is requested"},
		{Name: "first_available", Type: planner.JSON, Text: "a list of sub-requests in the order of preference, in place of what the request asks for"},
		{Name: "constraint", Type: planner.Int, Text: "which constraint match_attribute is for, from 0; not needed where there is one"},
		{Name: "match_attribute", Text: "the attribute that the constraint compares, domain/name"},
		{Name: "drop_constraint", Type: planner.Int, Text: "which constraint of the claim is dropped, from 0; -1 drops all"},
		{Name: "change", Text: "the change in words, for people; it is not executed"},
	}
}

// claimChange changes the spec of a ResourceClaim by typed parameters. Specs are
// handled as they came, so that fields this build does not know stay as they are.
type claimChange struct {
	c *Cluster
	p params
	// said are the changes in words, warnings what they mean for who uses the claim.
	said, warnings []string
}

// apply makes the change in a claim's spec ("devices" is its field). The error is a
// *planner.Missing when nothing is to change or something that is named is not there.
func (k *claimChange) apply(ctx context.Context, spec map[string]any) error {
	devices, _ := spec["devices"].(map[string]any)
	if devices == nil {
		return fmt.Errorf("the spec has no devices: there is nothing to change")
	}
	steps := []struct {
		param string
		do    func(ctx context.Context, devices map[string]any, v string) error
	}{
		{"first_available", k.firstAvailable}, {"class", k.class}, {"allocation_mode", k.mode}, {"count", k.count}, {"drop_selector", k.dropSelector},
		{"selector", k.selector}, {"toleration", k.toleration}, {"capacity_value", k.capacity}, {"match_attribute", k.matchAttribute}, {"drop_constraint", k.dropConstraint},
	}
	var names []string
	for _, s := range steps {
		names = append(names, s.param)
		if v := k.p.str(s.param); v != "" {
			if err := s.do(ctx, devices, v); err != nil {
				return err
			}
		}
	}
	if len(k.said) == 0 {
		return k.p.missing("change", "what is to change has to be said by one of the parameters %s", strings.Join(names, ", "))
	}
	return nil
}

func (k *claimChange) say(format string, args ...any) {
	k.said = append(k.said, fmt.Sprintf(format, args...))
}

func (k *claimChange) warn(format string, args ...any) {
	k.warnings = append(k.warnings, fmt.Sprintf(format, args...))
}

// mappings gives the elements of a list that are mappings.
func mappings(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, x := range list {
		if m, ok := x.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// request finds the request that is meant, and the part of it that says what is
// asked for: "exactly" (v1, v1beta2), the request itself (v1beta1), or a sub-request.
func (k *claimChange) request(devices map[string]any) (outer, inner map[string]any, name string, err error) {
	var names []string
	type hit struct {
		outer, inner map[string]any
		name         string
	}
	var hits []hit
	want := k.p.str("request")
	for _, r := range mappings(devices["requests"]) {
		n := text(r, "name")
		subs := mappings(r["firstAvailable"])
		if len(subs) == 0 {
			in := r
			if e, ok := r["exactly"].(map[string]any); ok {
				in = e
			}
			names = append(names, n)
			if want == "" || want == n {
				hits = append(hits, hit{r, in, n})
			}
			continue
		}
		for _, s := range subs {
			full := n + "/" + text(s, "name")
			names = append(names, full)
			if want == "" || want == n || want == full {
				hits = append(hits, hit{r, s, full})
			}
		}
	}
	switch {
	case len(hits) == 1:
		return hits[0].outer, hits[0].inner, hits[0].name, nil
	case len(names) == 0:
		return nil, nil, "", fmt.Errorf("the claim has no requests")
	case want == "":
		return nil, nil, "", k.p.missing("request", "there are several, say which: %s", strings.Join(names, ", "))
	case len(hits) == 0:
		return nil, nil, "", k.p.missing("request", "there is no request %q; there are %s", want, strings.Join(names, ", "))
	}
	return nil, nil, "", k.p.missing("request", "request %q has alternatives, say which: %s", want, strings.Join(names, ", "))
}

func (k *claimChange) count(_ context.Context, devices map[string]any, v string) error {
	n := k.p.num("count", 0)
	if n < 1 || n > 32 {
		return k.p.missing("count", "%s: a claim holds 1 to 32 devices", v)
	}
	if k.p.str("allocation_mode") == "All" {
		return k.p.missing("count", "allocationMode All takes every device, it has no count")
	}
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	was, counted := in["count"].(int64)
	if !counted {
		was = 1
	}
	if text(in, "allocationMode") != "All" && was == n {
		return nil
	}
	k.say("request %s asks for %s", name, plural(n, "device"))
	if text(in, "allocationMode") == "All" {
		k.warn("request %s asked for all devices of a node and would get %d: what runs in the pod must be able to work with that", name, n)
	} else {
		k.warn("request %s asked for %d and would get %s: what runs in the pod must be able to work with that (tensor parallel size, ranks, memory)", name, was, plural(n, "device"))
	}
	in["allocationMode"], in["count"] = "ExactCount", n
	return nil
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (k *claimChange) mode(_ context.Context, devices map[string]any, v string) error {
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	was := text(in, "allocationMode")
	if was == v || was == "" && v == "ExactCount" {
		return nil
	}
	k.say("request %s has allocationMode %s", name, v)
	in["allocationMode"] = v
	if delete(in, "count"); v == "ExactCount" {
		in["count"] = int64(1)
	}
	return nil
}

func (k *claimChange) class(ctx context.Context, devices map[string]any, v string) error {
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	if _, err := k.c.Get(ctx, "DeviceClass.resource.k8s.io", "", v); apierrors.IsNotFound(err) {
		return k.p.missing("class", "there is no DeviceClass %q", v)
	} else if err != nil {
		return err
	}
	if was := text(in, "deviceClassName"); was != v {
		k.say("request %s asks for class %s", name, v)
		k.warn("request %s asked for devices of class %s and would get those of class %s", name, was, v)
		in["deviceClassName"] = v
	}
	return nil
}

func (k *claimChange) selector(_ context.Context, devices map[string]any, v string) error {
	if k.p.str("drop_selector") != "" {
		return k.p.missing("drop_selector", "it stands beside selector: give one of the two")
	}
	if err := compiles(k.p, "selector", v); err != nil {
		return err
	}
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	list, changed, err := withSelector(k.p, in["selectors"], v)
	if err != nil || !changed {
		return err
	}
	k.say("request %s asks for devices with %s", name, v)
	k.warnings = append(k.warnings, otherDevices("request "+name, expressions(in["selectors"]), expressions(list))...)
	in["selectors"] = list
	return nil
}

func (k *claimChange) dropSelector(_ context.Context, devices map[string]any, v string) error {
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	list, err := k.dropped("drop_selector", "selector", in["selectors"])
	if err != nil {
		return err
	}
	k.say("request %s without %s", name, which("selector", v))
	k.warn("request %s would take devices that %s kept out", name, which("selector", v))
	if in["selectors"] = list; len(list) == 0 {
		delete(in, "selectors")
	}
	return nil
}

func which(what, index string) string {
	if strings.HasPrefix(index, "-") {
		return "its " + what + "s"
	}
	return what + " " + index
}

// dropped is a list without the element that a parameter names.
func (k *claimChange) dropped(param, what string, v any) ([]any, error) {
	list, _ := v.([]any)
	i := int(k.p.num(param, 0))
	switch {
	case len(list) == 0:
		return nil, k.p.missing(param, "there is no %s", what)
	case i == -1:
		return nil, nil
	case i < 0 || i >= len(list):
		return nil, k.p.missing(param, "there is no %s %d; there are %d, counted from 0", what, i, len(list))
	}
	return slices.Delete(slices.Clone(list), i, i+1), nil
}

func (k *claimChange) toleration(_ context.Context, devices map[string]any, v string) error {
	t, err := parseTaint(v)
	if err != nil {
		return k.p.missing("toleration", "%v", err)
	}
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	want := map[string]any{"key": t.key, "operator": "Exists"}
	if t.valued {
		want["operator"], want["value"] = "Equal", t.value
	}
	if t.effect != "" {
		want["effect"] = t.effect
	}
	list, _ := in["tolerations"].([]any)
	for _, had := range mappings(in["tolerations"]) {
		if text(had, "key") == t.key && text(had, "effect") == t.effect && text(had, "value") == t.value {
			return nil
		}
	}
	k.say("request %s tolerates the device taint %s", name, v)
	k.warn("who set the taint %s meant to keep work off these devices: tolerate it only when the work can bear what it stands for", v)
	in["tolerations"] = append(slices.Clone(list), want)
	return nil
}

// taint is a device taint, or what a toleration is for. With valued unset any value is meant.
type taint struct {
	key, value, effect string
	valued             bool
}

// parseTaint reads "key", "key:effect" or "key=value:effect", as kubectl taint
// writes them. The key is never empty: that would mean every taint.
func parseTaint(s string) (taint, error) {
	var t taint
	head, effect, hasEffect := strings.Cut(s, ":")
	if t.key, t.value, t.valued = strings.Cut(head, "="); t.key == "" {
		return t, fmt.Errorf("%q names no key: a taint is named, never all taints", s)
	}
	for _, e := range content.IsLabelKey(t.key) {
		return t, fmt.Errorf("%q is no key of a taint: %s", t.key, e)
	}
	for _, e := range validation.IsValidLabelValue(t.value) {
		return t, fmt.Errorf("%q is no value of a taint: %s", t.value, e)
	}
	if t.effect = effect; hasEffect && !slices.Contains(deviceEffects(), effect) {
		return t, fmt.Errorf("%q is none of the effects %s", effect, strings.Join(deviceEffects(), ", "))
	}
	return t, nil
}

// deviceEffects are the effects of a device taint, mildest first (resource.k8s.io/v1,
// DeviceTaintEffect). None says what the others would do and does nothing.
func deviceEffects() []string { return []string{"None", "NoSchedule", "NoExecute"} }

func (k *claimChange) capacity(_ context.Context, devices map[string]any, v string) error {
	what := k.p.str("capacity_name")
	if what == "" {
		return k.p.missing("capacity_name", "capacity_value needs the name of the capacity")
	}
	_, in, name, err := k.request(devices)
	if err != nil {
		return err
	}
	capacity, _ := in["capacity"].(map[string]any)
	requests, _ := capacity["requests"].(map[string]any)
	was := ""
	if requests != nil {
		was = fmt.Sprint(requests[what])
	}
	if was == v {
		return nil
	}
	if requests[what] == nil {
		was = "no amount"
	}
	k.say("request %s asks for %s of %s", name, v, what)
	k.warn("request %s asked for %s of %s and would get %s", name, was, what, v)
	if capacity == nil {
		capacity = map[string]any{}
		in["capacity"] = capacity
	}
	if requests == nil {
		requests = map[string]any{}
		capacity["requests"] = requests
	}
	requests[what] = v
	return nil
}

func (k *claimChange) firstAvailable(ctx context.Context, devices map[string]any, v string) error {
	var list []map[string]any
	if err := json.Unmarshal([]byte(v), &list); err != nil {
		return k.p.missing("first_available", "it is no list of sub-requests: %v", err)
	}
	if len(list) < 1 || len(list) > 8 {
		return k.p.missing("first_available", "it has %d sub-requests; 1 to 8 are taken", len(list))
	}
	want := k.p.str("request")
	var outer map[string]any
	requests := mappings(devices["requests"])
	for _, r := range requests {
		if want == "" && len(requests) == 1 || want != "" && text(r, "name") == want {
			outer = r
		}
	}
	if outer == nil {
		return k.p.missing("request", "first_available needs the name of a request that is there")
	}
	seen := map[string]bool{}
	var subs []any
	for i, s := range list {
		n, class := text(s, "name"), text(s, "deviceClassName")
		switch {
		case n == "" || class == "":
			return k.p.missing("first_available", "sub-request %d needs name and deviceClassName", i)
		case seen[n]:
			return k.p.missing("first_available", "the name %q stands twice", n)
		case s["adminAccess"] != nil:
			return k.p.refuse("ask for devices without it", "administrative access is not given by a plan")
		}
		seen[n] = true
		if _, err := k.c.Get(ctx, "DeviceClass.resource.k8s.io", "", class); apierrors.IsNotFound(err) {
			return k.p.missing("first_available", "there is no DeviceClass %q", class)
		} else if err != nil {
			return err
		}
		for _, e := range expressions(s["selectors"]) {
			if err := compiles(k.p, "first_available", e); err != nil {
				return err
			}
		}
		subs = append(subs, s)
	}
	name := text(outer, "name")
	for key := range outer {
		if key != "name" {
			delete(outer, key)
		}
	}
	outer["firstAvailable"] = subs
	k.say("request %s asks for the first of %s that there is", name, plural(int64(len(subs)), "alternative"))
	return nil
}

func (k *claimChange) matchAttribute(_ context.Context, devices map[string]any, v string) error {
	if domain, id, ok := strings.Cut(v, "/"); !ok || domain == "" || id == "" {
		return k.p.missing("match_attribute", "%q has no domain: it is written domain/name, such as resource.kubernetes.io/numaNode", v)
	}
	list := mappings(devices["constraints"])
	i := int(k.p.num("constraint", 0))
	switch {
	case len(list) == 0:
		return k.p.missing("match_attribute", "the claim has no constraint")
	case len(list) > 1 && k.p.str("constraint") == "":
		return k.p.missing("constraint", "there are %d constraints, say which, counted from 0", len(list))
	case i < 0 || i >= len(list):
		return k.p.missing("constraint", "there is no constraint %d; there are %d, counted from 0", i, len(list))
	case text(list[i], "matchAttribute") == "":
		return k.p.missing("constraint", "constraint %d compares nothing by matchAttribute", i)
	}
	if was := text(list[i], "matchAttribute"); was != v {
		k.say("constraint %d compares %s", i, v)
		k.warn("the devices would be aligned by %s and no longer by %s: paths between them may be slower", v, was)
		list[i]["matchAttribute"] = v
	}
	return nil
}

func (k *claimChange) dropConstraint(_ context.Context, devices map[string]any, v string) error {
	if k.p.str("match_attribute") != "" {
		return k.p.missing("drop_constraint", "it stands beside match_attribute: give one of the two")
	}
	list, err := k.dropped("drop_constraint", "constraint", devices["constraints"])
	if err != nil {
		return err
	}
	k.say("the claim is without %s", which("constraint", v))
	k.warn("devices that are far from each other may be given together: paths between them may be slower")
	if devices["constraints"] = list; len(list) == 0 {
		delete(devices, "constraints")
	}
	return nil
}

// withSelector is a list of selectors with an expression in the place of all, or of
// the one that selector_index names.
func withSelector(p params, v any, expr string) (list []any, changed bool, err error) {
	one := map[string]any{"cel": map[string]any{"expression": expr}}
	was, _ := v.([]any)
	list = []any{one}
	if p.str("selector_index") != "" {
		i := int(p.num("selector_index", 0))
		if i < 0 || i >= len(was) {
			return nil, false, p.missing("selector_index", "there is no selector %d; there are %d, counted from 0", i, len(was))
		}
		list = slices.Clone(was)
		list[i] = one
	}
	return list, !slices.Equal(expressions(v), expressions(list)), nil
}

// expressions gives the CEL texts of a list of selectors.
func expressions(v any) []string {
	var out []string
	for _, s := range mappings(v) {
		cel, _ := s["cel"].(map[string]any)
		out = append(out, text(cel, "expression"))
	}
	return out
}

// short quotes a text of bounded length.
func short(s string) string {
	if len(s) > 120 {
		s = strings.ToValidUTF8(s[:117], "") + "..."
	}
	return strconv.Quote(s)
}
