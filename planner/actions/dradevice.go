package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// taintRuleKind is served as v1 from Kubernetes 1.37, as v1beta2 in 1.36 and as
// v1alpha3 before; the version is the one that discovery prefers.
const taintRuleKind = "DeviceTaintRule.resource.k8s.io"

func deviceActions(c *Cluster) []*action {
	rights := func(resource string, verbs ...string) planner.Right {
		return planner.Right{Group: "resource.k8s.io", Resources: []string{resource}, Verbs: verbs}
	}
	see := []planner.Right{rights("resourceslices", "get", "list"), rights("resourceclaims", "get", "list"), {Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list"}}}
	rule := planner.Param{Name: "rule", Required: true, Object: true, Text: "the DeviceTaintRule"}
	selector := []planner.Param{
		{Name: "driver", Object: true, Text: "the driver whose devices are tainted"},
		{Name: "pool", Object: true, Text: "only the devices of this pool of the driver"},
		{Name: "device", Object: true, Text: "only this device of the pool"},
	}
	effect := planner.Param{Name: "effect", Values: deviceEffects(), Text: "None shows what it would do, NoSchedule keeps new pods off, NoExecute evicts pods"}
	taintSources := []string{"KEP-5055", "k8s.io/api/resource/v1, DeviceTaintRuleSpec: an empty selector matches every device; effect None is the dry run"}
	return []*action{
		{c: c, compile: createTaintRule, info: planner.Info{
			Name: "device_taint_rule_create", Family: planner.DRA, Text: "Taint the devices of a driver, a pool, or one device, with effect None first", Contains: true, Risk: incident.RiskLow,
			Params: slices.Concat([]planner.Param{rule}, selector, []planner.Param{
				{Name: "device_class", Object: true, Text: "no longer possible: a rule selects by driver, pool and device"},
				{Name: "key", Required: true, Text: "the key of the taint, domain/name"}, {Name: "value", Text: "the value of the taint"}, effect}),
			Rights: append(slices.Clone(see), rights("devicetaintrules", "get", "create", "delete", "patch")), Undo: "the rule is deleted", Verify: "the rule is there; its condition says how many pods the taint would evict", Sources: taintSources,
		}},
		{c: c, compile: editTaintRule, info: planner.Info{
			Name: "device_taint_rule_edit", Family: planner.DRA, Text: "Narrow a DeviceTaintRule's selector, or change its effect by one step", Risk: incident.RiskMedium,
			Params: slices.Concat([]planner.Param{rule}, selector, []planner.Param{effect}),
			Rights: append(slices.Clone(see), rights("devicetaintrules", "get", "patch")), Undo: "selector and effect are put back; evicted pods are not", Verify: "the rule says so", Sources: taintSources,
		}},
		{c: c, compile: deleteTaintRule, info: planner.Info{
			Name: "device_taint_rule_delete", Family: planner.DRA, Text: "Remove a DeviceTaintRule", Risk: incident.RiskMedium, Params: []planner.Param{rule},
			Rights: append(slices.Clone(see), rights("devicetaintrules", "get", "create", "delete", "patch")), Undo: "the rule is created again as it was", Verify: "the rule is gone", Sources: taintSources,
		}},
		{c: c, compile: patchClass, info: planner.Info{
			Name: "device_class_patch", Family: planner.DRA, Text: "Change the selectors or the extended resource of a DeviceClass; only claims that are allocated later see it", Risk: incident.RiskHigh,
			Params: []planner.Param{
				{Name: "class", Required: true, Object: true, Text: "the DeviceClass"},
				{Name: "selector", Type: planner.CEL, Text: "a CEL expression: in place of all selectors of the class, or of the one selector_index names"},
				{Name: "selector_index", Type: planner.Int, Text: "which selector is replaced, from 0"},
				{Name: "drop_selector", Type: planner.Int, Text: "which selector is dropped, from 0; a class keeps at least one"},
				{Name: "extended_resource", Text: "the extended resource that the class stands for; a single - takes it away"},
				{Name: "change", Text: "the change in words, for people; it is not executed"},
			},
			Rights: append(slices.Clone(see), rights("deviceclasses", "get", "list", "patch")), Undo: "the class is put back", Verify: "the class says so",
			Sources: []string{"k8s.io/api/resource/v1, DeviceClassSpec: classes are read when a claim is allocated"},
		}},
		{c: c, compile: deleteSlice, info: planner.Info{
			Name: "slice_delete", Family: planner.DRA, Text: "Delete a ResourceSlice of a node that is gone", Risk: incident.RiskMedium,
			Params: []planner.Param{{Name: "slice", Required: true, Object: true, Text: "the ResourceSlice"}},
			Rights: append(slices.Clone(see), rights("resourceslices", "create", "delete", "patch")), Undo: "the slice is created again as it was", Verify: "the slice is gone",
			Sources: []string{"k8s.io/api/resource/v1, ResourceSliceSpec.nodeName"},
		}},
		{c: c, compile: restartPlugin, info: planner.Info{
			Name: "driver_plugin_restart", Family: planner.DRA, Text: "Restart a DRA driver's kubelet plugin on one node", Risk: incident.RiskMedium,
			Params: []planner.Param{{Name: "driver", Required: true, Object: true, Text: "the driver"}, {Name: "node", Object: true, Text: "the node"}},
			Rights: []planner.Right{{Resources: []string{"pods"}, Verbs: []string{"get", "list", "delete", "patch"}}, {Resources: []string{"nodes"}, Verbs: []string{"get"}}, {Group: "apps", Resources: []string{"daemonsets"}, Verbs: []string{"get", "list"}}},
			Undo:   "nothing is to undo: the DaemonSet makes the pod anew", Verify: "the DaemonSet's pod runs again and the driver publishes its devices",
			Sources: []string{"k8s.io/dynamic-resource-allocation/kubeletplugin: registration and publishing at start"},
		}},
	}
}

// deviceSet is a DeviceTaintRule's selector: which devices are meant.
type deviceSet struct{ driver, pool, device string }

func (s deviceSet) empty() bool { return s == deviceSet{} }

func (s deviceSet) String() string {
	switch {
	case s.device != "":
		return "device " + s.driver + "/" + s.pool + "/" + s.device
	case s.pool != "":
		return "pool " + s.pool + " of driver " + s.driver
	case s.driver != "":
		return "driver " + s.driver
	}
	return "every device of the cluster"
}

func (s deviceSet) object() map[string]any {
	out := map[string]any{}
	for k, v := range map[string]string{"driver": s.driver, "pool": s.pool, "device": s.device} {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// matches says whether an allocated device, as a claim's status names it, is meant.
func (s deviceSet) matches(r map[string]any) bool {
	return (s.driver == "" || s.driver == text(r, "driver")) && (s.pool == "" || s.pool == text(r, "pool")) && (s.device == "" || s.device == text(r, "device"))
}

// narrow checks that a selection names its devices whole: names of pools and devices
// repeat from driver to driver and from node to node.
func (s deviceSet) narrow(p params) error {
	switch {
	case s.empty():
		return p.refuse("name at least the driver", "an empty selector taints every device of the cluster")
	case s.driver == "":
		return p.missing("driver", "names of pools and devices repeat: say of which driver")
	case s.device != "" && s.pool == "":
		return p.missing("pool", "device %s is in many pools: say in which", s.device)
	}
	return nil
}

// published counts the devices of a selection that slices offer.
func (c *Cluster) published(ctx context.Context, s deviceSet) (int, error) {
	fields := "spec.driver=" + s.driver
	if s.pool != "" {
		fields += ",spec.pool.name=" + s.pool
	}
	list, err := c.List(ctx, "ResourceSlice.resource.k8s.io", "", "", fields)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, o := range list {
		devices, _, _ := unstructured.NestedSlice(o.Object, "spec", "devices")
		for _, dev := range mappings(devices) {
			if s.device == "" || text(dev, "name") == s.device {
				n++
			}
		}
	}
	return n, nil
}

// holdersOf gives the pods that hold devices of a deviceSet.
func (c *Cluster) holdersOf(ctx context.Context, s deviceSet) ([]*Object, error) {
	claims, err := c.List(ctx, claimKind, "", "", "")
	if err != nil {
		return nil, err
	}
	var out []*Object
	for _, o := range claims {
		results, _, _ := unstructured.NestedSlice(o.Object, "status", "allocation", "devices", "results")
		if !slices.ContainsFunc(mappings(results), s.matches) {
			continue
		}
		reserved, _, _ := unstructured.NestedSlice(o.Object, "status", "reservedFor")
		for _, r := range mappings(reserved) {
			if text(r, "resource") != "pods" {
				continue
			}
			pod, err := c.Get(ctx, "Pod", o.GetNamespace(), text(r, "name"))
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if !podOver(pod) && !slices.ContainsFunc(out, func(x *Object) bool { return x.Ref == pod.Ref }) {
				out = append(out, pod)
			}
		}
	}
	return out, nil
}

func createTaintRule(ctx context.Context, c *Cluster, p params) (*draft, error) {
	s := deviceSet{p.str("driver"), p.str("pool"), p.str("device")}
	if class := p.str("device_class"); class != "" {
		return nil, p.missing("driver", "a rule cannot select by class since Kubernetes 1.35: name driver, pool or device instead of class %s", class)
	}
	if err := s.narrow(p); err != nil {
		return nil, err
	}
	if e := p.str("effect"); e != "" && e != "None" {
		return nil, p.refuse("create it with effect None, read its condition, then go on with device_taint_rule_edit", "effect %s at once: nobody has seen yet whom it hurts", e)
	}
	want := p.str("key")
	if v := p.str("value"); v != "" {
		want += "=" + v
	}
	if _, err := parseTaint(want); err != nil {
		return nil, p.missing("key", "%v", err)
	}
	if e := validation.IsDNS1123Subdomain(p.str("rule")); len(e) > 0 {
		return nil, p.missing("rule", "%q is no name: %s", p.str("rule"), strings.Join(e, "; "))
	}
	if _, err := c.Get(ctx, taintRuleKind, "", p.str("rule")); err == nil {
		return nil, p.missing("rule", "a DeviceTaintRule %s is there: give another name, or change it with device_taint_rule_edit", p.str("rule"))
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	n, err := c.published(ctx, s)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, p.missing("driver", "no ResourceSlice publishes %s", s)
	}
	d := c.draft("Show what a taint %s on %s would do", want, s)
	body := map[string]any{"key": p.str("key"), "effect": "None"}
	if v := p.str("value"); v != "" {
		body["value"] = v
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": p.str("rule")},
		"spec":     map[string]any{"deviceSelector": s.object(), "taint": body},
	}}
	if err := d.create(taintRuleKind, u, fmt.Sprintf("Create DeviceTaintRule %s on %s (%s), effect None", p.str("rule"), s, plural(int64(n), "device"))); err != nil {
		return nil, err
	}
	if err := d.reach(ctx, s, "None", n); err != nil {
		return nil, err
	}
	ref := d.Writes[0].Ref
	d.Verify = []incident.Check{{Kind: CheckField, Subject: ref, Params: map[string]string{"path": "spec.taint.effect", "value": "None"}, Say: ref.String() + " has effect None", Within: 30}}
	return d, nil
}

// reach says whom an effect on a selection hurts: the pods that are evicted, or those
// that would be.
func (d *draft) reach(ctx context.Context, s deviceSet, effect string, devices int) error {
	pods, err := d.c.holdersOf(ctx, s)
	if err != nil {
		return err
	}
	on := plural(int64(devices), "device") + ", " + plural(int64(len(pods)), "pod") + " hold some"
	switch effect {
	case "NoExecute":
		d.Blast.Notes = append(d.Blast.Notes, on+"; the pods are evicted unless their claims tolerate the taint, and no disruption budget is asked")
		d.Risk = incident.RiskHigh
		return d.hurt(ctx, pods)
	case "NoSchedule":
		d.Blast.Notes = append(d.Blast.Notes, on+"; pods that run stay, no new one is given these devices")
	default:
		d.Blast.Notes = append(d.Blast.Notes, on+"; nothing is stopped")
	}
	return nil
}

func selectionOf(o *Object) (s deviceSet, there bool) {
	m, there, _ := unstructured.NestedMap(o.Object, "spec", "deviceSelector")
	return deviceSet{text(m, "driver"), text(m, "pool"), text(m, "device")}, there
}

func (c *Cluster) taintRule(ctx context.Context, p params) (*Object, error) {
	o, err := c.Get(ctx, taintRuleKind, "", p.str("rule"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("rule", "there is no DeviceTaintRule %s", p.str("rule"))
	}
	return o, err
}

func editTaintRule(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.taintRule(ctx, p)
	if err != nil {
		return nil, err
	}
	was, there := selectionOf(o)
	s := was
	for _, f := range []struct {
		name string
		at   *string
	}{{"driver", &s.driver}, {"pool", &s.pool}, {"device", &s.device}} {
		v := p.str(f.name)
		if v == "" {
			continue
		}
		if *f.at != "" && *f.at != v {
			return nil, p.refuse("make another rule (device_taint_rule_create)", "the rule is about %s: another %s is no narrowing", was, f.name)
		}
		*f.at = v
	}
	from, _, _ := unstructured.NestedString(o.Object, "spec", "taint", "effect")
	to := p.str("effect")
	if s == was && (to == "" || to == from) {
		return nil, p.missing("effect", "what is to change has to be said by one of the parameters driver, pool, device, effect")
	}
	if !there && !s.empty() && was.empty() {
		return nil, p.refuse("make another rule (device_taint_rule_create)", "the rule selects no device by driver, pool or name: a selector would widen it")
	}
	if err := s.narrow(p); err != nil {
		return nil, err
	}
	if to == "" {
		to = from
	}
	i, j := slices.Index(deviceEffects(), from), slices.Index(deviceEffects(), to)
	if j > i+1 {
		return nil, p.refuse("take one step, read the rule's condition, then the next", "from %s to %s is more than one step", from, to)
	}
	if j > i && s != was {
		return nil, p.refuse("narrow the selector first, then change the effect", "selector and a stronger effect at once: nobody has seen yet whom it hurts")
	}
	n, err := c.published(ctx, s)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, p.missing("driver", "no ResourceSlice publishes %s", s)
	}
	d := c.draft("Let DeviceTaintRule %s taint %s with effect %s", o.GetName(), s, to)
	err = d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		if err := unstructured.SetNestedMap(u.Object, s.object(), "spec", "deviceSelector"); err != nil {
			return err
		}
		return unstructured.SetNestedField(u.Object, to, "spec", "taint", "effect")
	})
	if err != nil {
		return nil, err
	}
	if to == "NoExecute" && j > i {
		d.Lasting = "pods that were evicted are not brought back"
	}
	if j <= i { // fewer devices, or a milder effect: nobody is stopped by it
		to = "None"
	}
	if err := d.reach(ctx, s, to, n); err != nil {
		return nil, err
	}
	d.Verify = []incident.Check{{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": "spec.deviceSelector.driver", "value": s.driver}, Say: o.Ref.String() + " is about " + s.String(), Within: 30}}
	return d, nil
}

func deleteTaintRule(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.taintRule(ctx, p)
	if err != nil {
		return nil, err
	}
	s, there := selectionOf(o)
	if !there {
		s = deviceSet{}
	}
	t, _, _ := unstructured.NestedMap(o.Object, "spec", "taint")
	d := c.draft("Remove DeviceTaintRule %s", o.GetName())
	if err := d.remove(o, d.Say, 60); err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, fmt.Sprintf("the taint %s on %s goes: the reason that it was set for should be over", text(t, "key"), s))
	if text(t, "effect") == "NoExecute" {
		d.Warnings = append(d.Warnings, "undoing sets the taint again, and it evicts pods")
	}
	d.Verify = []incident.Check{Gone(o, 60)}
	return d, nil
}

func patchClass(ctx context.Context, c *Cluster, p params) (*draft, error) {
	name := p.str("class")
	o, err := c.Get(ctx, "DeviceClass.resource.k8s.io", "", name)
	if apierrors.IsNotFound(err) {
		return nil, p.missing("class", "there is no DeviceClass %s", name)
	}
	if err != nil {
		return nil, err
	}
	k := &claimChange{c: c, p: p}
	after := o.DeepCopy()
	if err := k.classSpec(ctx, name, after); err != nil {
		return nil, err
	}
	d := c.draft("Change DeviceClass %s: %s", name, strings.Join(k.said, ", "))
	d.Warnings = append(k.warnings, "every namespace that uses the class gets other devices from now on; claims that are allocated stay as they are")
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error { u.Object = after.Object; return nil }); err != nil {
		return nil, err
	}
	d.Verify = []incident.Check{{Kind: CheckExists, Subject: o.Ref, Say: o.Ref.String() + " is there", Within: 30}}
	if list, _, _ := unstructured.NestedSlice(after.Object, "spec", "selectors"); len(list) > 0 && p.str("selector") != "" {
		i := p.num("selector_index", 0)
		d.Verify = []incident.Check{{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": fmt.Sprintf("spec.selectors[%d].cel.expression", i), "value": p.str("selector")}, Say: "the class has the selector", Within: 30}}
	}
	return d, nil
}

// classSpec changes the spec of a class.
func (k *claimChange) classSpec(ctx context.Context, name string, u *unstructured.Unstructured) error {
	spec, _ := u.Object["spec"].(map[string]any)
	if spec == nil {
		spec = map[string]any{}
		u.Object["spec"] = spec
	}
	if v := k.p.str("selector"); v != "" {
		if k.p.str("drop_selector") != "" {
			return k.p.missing("drop_selector", "it stands beside selector: give one of the two")
		}
		if err := compiles(k.p, "selector", v); err != nil {
			return err
		}
		list, changed, err := withSelector(k.p, spec["selectors"], v)
		if err != nil {
			return err
		}
		if changed {
			k.say("it selects devices with %s", v)
			k.warnings = append(k.warnings, otherDevices("class "+name, expressions(spec["selectors"]), expressions(list))...)
			spec["selectors"] = list
		}
	}
	if v := k.p.str("drop_selector"); v != "" {
		list, err := k.dropped("drop_selector", "selector", spec["selectors"])
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return k.p.refuse("give another selector", "a class without selectors would select every device of every driver")
		}
		k.say("it is without selector %s", v)
		spec["selectors"] = list
	}
	if v := k.p.str("extended_resource"); v != "" {
		was := text(spec, "extendedResourceName")
		switch {
		case v == "-" && was != "":
			k.say("it no longer stands for %s", was)
			delete(spec, "extendedResourceName")
			k.warn("pods that wait for %s have to be made anew before another class serves them", was)
		case v != "-" && v != was:
			if err := k.onlyClass(ctx, name, v); err != nil {
				return err
			}
			k.say("it stands for %s", v)
			spec["extendedResourceName"] = v
		}
	}
	if len(k.said) == 0 {
		return k.p.missing("change", "what is to change has to be said by one of the parameters selector, drop_selector, extended_resource")
	}
	return nil
}

// onlyClass refuses a mapping that another class has: the newest would win.
func (k *claimChange) onlyClass(ctx context.Context, name, resource string) error {
	list, err := k.c.List(ctx, "DeviceClass.resource.k8s.io", "", "", "")
	if err != nil {
		return err
	}
	for _, o := range list {
		if has, _, _ := unstructured.NestedString(o.Object, "spec", "extendedResourceName"); has == resource && o.GetName() != name {
			return k.p.refuse("take it from DeviceClass "+o.GetName()+" first", "DeviceClass %s stands for %s already", o.GetName(), resource)
		}
	}
	return nil
}

func deleteSlice(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "ResourceSlice.resource.k8s.io", "", p.str("slice"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("slice", "there is no ResourceSlice %s", p.str("slice"))
	}
	if err != nil {
		return nil, err
	}
	node, _, _ := unstructured.NestedString(o.Object, "spec", "nodeName")
	if node == "" {
		return nil, p.refuse("let its driver withdraw it", "slice %s is of no single node", o.GetName())
	}
	if _, err := c.Get(ctx, "Node", "", node); err == nil {
		return nil, p.refuse("restart the driver's plugin there (driver_plugin_restart)", "slice %s is of node %s, which is there: its driver would publish it again", o.GetName(), node)
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	d := c.draft("Delete ResourceSlice %s of node %s, which is gone", o.GetName(), node)
	if err := d.remove(o, d.Say, 60); err != nil {
		return nil, err
	}
	d.Before = []incident.Check{{Kind: CheckGone, Subject: nodeRef(c.name, node), Say: "node " + node + " is gone"}}
	d.Verify = []incident.Check{Gone(o, 60)}
	return d, nil
}
