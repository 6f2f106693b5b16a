package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// settings are the actions on quotas, labels, autoscalers, claims and webhooks, and
// the two that only a person does.
func settings(c *Cluster) []*action {
	object := func(what string, more ...planner.Param) []planner.Param {
		return append([]planner.Param{
			{Name: "namespace", Required: true, Text: "its namespace"},
			{Name: "name", Required: true, Object: true, Text: what},
		}, more...)
	}
	rights := func(group string, verbs []string, resources ...string) planner.Right {
		return planner.Right{Group: group, Resources: resources, Verbs: verbs}
	}
	change := []string{"get", "patch"}
	return []*action{
		{c: c, compile: patchQuota, info: planner.Info{
			Name: "quota_patch", Family: planner.Settings, Text: "Raise one line of a ResourceQuota or LimitRange",
			Params: object("the ResourceQuota or LimitRange",
				planner.Param{Name: "resource", Text: "the line, such as requests.nvidia.com/gpu; of a LimitRange the resource"},
				planner.Param{Name: "value", Type: planner.Quantity, Text: "the new bound"},
				planner.Param{Name: "field", Values: []string{"max", "default", "defaultRequest"}, Text: "of a LimitRange: which figure for containers; max when it is not given"}),
			Risk: incident.RiskMedium, Rights: []planner.Right{rights("", change, "resourcequotas", "limitranges")},
			Undo: "the bound is put back; what was created under the higher one stays", Verify: "the field says so",
			Sources: []string{"kubernetes.io/docs/concepts/policy/resource-quotas", "kubernetes.io/docs/concepts/policy/limit-range"},
		}},
		{c: c, compile: labelNode, info: planner.Info{
			Name: "label_node", Family: planner.Settings, Text: "Set a label on a node",
			Params: []planner.Param{{Name: "node", Required: true, Object: true, Text: "the node"}, {Name: "label", Text: "key=value, key with value given apart, or key- to take it off"}, {Name: "value", Text: "the value"}},
			Risk:   incident.RiskMedium, Rights: []planner.Right{rights("", change, "nodes")}, Undo: "the label is put back", Verify: "the label is there",
			Sources: []string{"kubernetes.io/docs/reference/labels-annotations-taints", "docs.nvidia.com/datacenter/cloud-native/gpu-operator, MIG manager"},
		}},
		{c: c, compile: patchAutoscaler, info: planner.Info{
			Name: "hpa_patch", Family: planner.Settings, Text: "Correct an autoscaler's target, metric or bounds",
			Params: object("the HorizontalPodAutoscaler or ScaledObject",
				planner.Param{Name: "min", Type: planner.Int, Text: "fewest replicas"}, planner.Param{Name: "max", Type: planner.Int, Text: "most replicas"},
				planner.Param{Name: "target", Text: "the workload, as Kind/name"},
				planner.Param{Name: "resource", Text: "the resource whose utilisation is the metric, such as cpu"},
				planner.Param{Name: "utilization", Type: planner.Int, Text: "its target in percent of the request"}),
			Risk: incident.RiskMedium, Rights: []planner.Right{rights("autoscaling", change, "horizontalpodautoscalers"), rights("keda.sh", change, "scaledobjects")},
			Undo: "bounds, target and metric are put back", Verify: "the field says so",
			Sources: []string{"kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale", "keda.sh/docs, ScaledObject specification"},
		}},
		{c: c, compile: recreatePVC, info: planner.Info{
			Name: "pvc_recreate", Family: planner.Settings, Text: "Delete an unbound PersistentVolumeClaim and create it corrected",
			Params: object("the claim", planner.Param{Name: "storage_class", Text: "another StorageClass"}, planner.Param{Name: "size", Type: planner.Quantity, Text: "another size"},
				planner.Param{Name: "access_mode", Values: []string{"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}, Text: "another access mode"}),
			Risk: incident.RiskMedium, Rights: []planner.Right{rights("", []string{"get", "patch", "delete", "create"}, "persistentvolumeclaims")},
			Undo: "the corrected claim is deleted and the old one created again", Verify: "the claim is there, and bound where its class binds at once",
			Sources: []string{"kubernetes.io/docs/concepts/storage/persistent-volumes"},
		}},
		{c: c, compile: expandPVC, info: planner.Info{
			Name: "pvc_expand", Family: planner.Settings, Text: "Raise the storage request of a PersistentVolumeClaim whose StorageClass allows expansion",
			Params: object("the claim", planner.Param{Name: "size", Type: planner.Quantity, Text: "the new size"}),
			Risk:   incident.RiskMedium, Rights: []planner.Right{rights("", change, "persistentvolumeclaims")},
			Undo: "none: a volume does not shrink", Verify: "status.capacity has the new size",
			Sources: []string{"kubernetes.io/docs/concepts/storage/persistent-volumes, expanding"},
		}},
		{c: c, compile: webhookPolicy, info: planner.Info{
			Name: "webhook_policy_patch", Family: planner.Settings, Text: "Set a webhook's failure policy to Ignore until its backend is back",
			Params: []planner.Param{{Name: "configuration", Required: true, Object: true, Text: "the webhook configuration"}, {Name: "webhook", Text: "the webhook in it; needed where there are several"},
				{Name: "kind", Values: []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}, Text: "which kind; needed where both have the name"},
				{Name: "policy", Values: []string{"Ignore", "Fail"}, Text: "the policy; Ignore when it is not given"}},
			Risk: incident.RiskHigh, Rights: []planner.Right{rights("admissionregistration.k8s.io", change, "mutatingwebhookconfigurations", "validatingwebhookconfigurations")},
			Undo: "the policy is put back", Verify: "the field says so", Sources: []string{"kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers, failure policy"},
		}},
		{c: c, compile: provide, info: planner.Info{
			Name: "provide_object", Family: planner.People, Text: "A person creates what only a person can supply",
			Params: []planner.Param{{Name: "kind", Required: true, Text: "what it is"}, {Name: "namespace", Text: "where"}, {Name: "name", Required: true, Object: true, Text: "its name"}, {Name: "key", Text: "the key that it needs"}},
			Risk:   incident.RiskLow, Undo: "a person's work", Verify: "the object is there when the question is asked again",
		}},
		{c: c, compile: advise, info: planner.Info{
			Name: "advise", Family: planner.People, Text: "A person looks into something outside of the cluster's API",
			Params: []planner.Param{{Name: "about", Text: "what it is about"}},
			Risk:   incident.RiskLow, Undo: "a person's work", Verify: "the trouble is gone when the question is asked again",
		}},
	}
}

// provide is no write: it says what a person creates, or that it is there already.
func provide(ctx context.Context, c *Cluster, p params) (*draft, error) {
	kind, ns, name := p.str("kind"), p.str("namespace"), p.str("name")
	what := strings.TrimSpace(kind + " " + strings.TrimPrefix(ns+"/"+name, "/"))
	way := "create it in the cluster, or where the cluster's objects come from, and ask again"
	if key := p.str("key"); key != "" {
		what += " with the key " + key
	}
	if strings.HasPrefix(kind, "Secret") { // a Secret is never read, not even to see that it is there
		return nil, p.refuse(way+"; its value is known to a person, or to the store that the cluster's Secrets come from", "%s is for a person to supply", what)
	}
	if _, err := c.Get(ctx, kind, ns, name); err == nil && p.str("key") == "" {
		return nil, p.refuse("ask again: what was missing has come", "%s is there", what)
	}
	return nil, p.refuse(way, "%s is for a person to supply", what)
}

func advise(_ context.Context, _ *Cluster, p params) (*draft, error) {
	about := p.str("about")
	if about == "" {
		about = "this"
	}
	return nil, p.refuse("see the runbook of the cause", "%s is for a person: it is outside of what an action of gumshoe changes", about)
}

// either reads the object of that name that is of the first kind that has it.
func (c *Cluster) either(ctx context.Context, p params, kinds ...string) (*Object, error) {
	for _, k := range kinds {
		o, err := c.Get(ctx, k, p.str("namespace"), p.str("name"))
		if notThere(err) {
			continue
		}
		return o, err
	}
	return nil, p.missing("name", "there is no %s %s/%s", strings.Join(kinds, " or "), p.str("namespace"), p.str("name"))
}

func patchQuota(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.either(ctx, p, "ResourceQuota", "LimitRange")
	if err != nil {
		return nil, err
	}
	path, item := []string{"spec", "hard"}, -1
	var line map[string]any
	if o.Ref.Kind == "LimitRange" {
		field := p.str("field")
		if field == "" {
			field = "max"
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "limits")
		item = slices.IndexFunc(list, func(v any) bool { m, _ := v.(map[string]any); return text(m, "type") == "Container" })
		if item < 0 {
			return nil, p.refuse("change it in its manifest", "%s has no limits for containers", o.Ref)
		}
		m, _ := list[item].(map[string]any)
		line, _ = m[field].(map[string]any)
		path = []string{field}
	} else {
		line, _, _ = unstructured.NestedMap(o.Object, "spec", "hard")
	}
	res, err := lineOfQuota(p, o, line)
	if err != nil {
		return nil, err
	}
	from := fmt.Sprint(line[res])
	used := ""
	if u, ok, _ := unstructured.NestedString(o.Object, "status", "used", res); ok {
		used = ", " + u + " of it used"
	}
	if p.str("value") == "" {
		return nil, p.missing("value", "say how much of %s %s shall allow; now %s%s", res, o.Ref, from, used)
	}
	want, err := resource.ParseQuantity(p.str("value"))
	if err != nil {
		return nil, p.missing("value", "%v", err)
	}
	if now, err := resource.ParseQuantity(from); err == nil && want.Cmp(now) <= 0 {
		return nil, p.missing("value", "%s is no more than the %s that %s allows now; this action only raises", p.str("value"), from, o.Ref)
	}
	say := fmt.Sprintf("Raise %s in %s from %s to %s%s", strings.Join(append(slices.Clone(path[len(path)-1:]), res), " "), o.Ref, from, p.str("value"), used)
	d := c.draft("%s", say)
	if err := d.patch(o, say, func(u *unstructured.Unstructured) error {
		if item < 0 {
			return unstructured.SetNestedField(u.Object, p.str("value"), append(slices.Clone(path), res)...)
		}
		list, _, _ := unstructured.NestedSlice(u.Object, "spec", "limits")
		if err := unstructured.SetNestedField(list[item].(map[string]any), p.str("value"), path[0], res); err != nil {
			return err
		}
		return unstructured.SetNestedSlice(u.Object, list, "spec", "limits")
	}); err != nil {
		return nil, err
	}
	at := dotted("spec.hard", res)
	if item >= 0 {
		at = dotted(fmt.Sprintf("spec.limits[%d].%s", item, path[0]), res)
		d.Warnings = append(d.Warnings, "a LimitRange is looked at when a pod is created: those that run stay as they are")
	}
	if accelerator(strings.TrimPrefix(res, "requests.")) {
		d.Warnings = append(d.Warnings, "a quota is a promise to the other teams: who owns the GPUs should know")
	}
	d.Verify = []incident.Check{fieldIs(o, at, p.str("value"), "the bound is "+p.str("value"))}
	return d, nil
}

// lineOfQuota is the line that is meant: the named one, or the only one that is full.
func lineOfQuota(p params, o *Object, line map[string]any) (string, error) {
	res := p.str("resource")
	if _, ok := line[res]; ok {
		return res, nil
	}
	if _, ok := line["requests."+res]; ok && res != "" {
		return "requests." + res, nil
	}
	if res != "" {
		return "", p.missing("resource", "%s has no line %s; it has %s", o.Ref, res, mapText(line))
	}
	var full []string
	for _, k := range keys(line) {
		hard, err1 := resource.ParseQuantity(fmt.Sprint(line[k]))
		u, ok, _ := unstructured.NestedString(o.Object, "status", "used", k)
		used, err2 := resource.ParseQuantity(u)
		if ok && err1 == nil && err2 == nil && used.Cmp(hard) >= 0 {
			full = append(full, k)
		}
	}
	if len(full) == 1 {
		return full[0], nil
	}
	return "", p.missing("resource", "say which line of %s; it has %s", o.Ref, mapText(line))
}

// nodeOwned are labels that the kubelet, the cloud or the device plugin writes, and
// writes again.
func nodeOwned(key string) bool {
	return slices.Contains([]string{"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "node.kubernetes.io/instance-type"}, key) || strings.HasPrefix(key, "topology.kubernetes.io/")
}

func labelNode(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Node", "", p.str("node"))
	if err != nil {
		return nil, err
	}
	key, value, given := strings.Cut(p.str("label"), "=")
	key, off := strings.CutSuffix(strings.TrimSpace(key), "-")
	if v := p.str("value"); v != "" {
		value, given = v, true
	}
	now, there := o.GetLabels()[key]
	switch {
	case key == "":
		return nil, p.missing("label", "say which label of %s, as key=value", o.Ref)
	case len(validation.IsQualifiedName(key)) > 0:
		return nil, p.missing("label", "%q is no key of a label: %s", key, strings.Join(validation.IsQualifiedName(key), "; "))
	case nodeOwned(key):
		return nil, p.refuse("change it in the node pool", "%s is written by the kubelet or the cloud, which set it back", key)
	case off && !there:
		return nil, p.missing("label", "%s has no label %s", o.Ref, key)
	case !off && !given:
		return nil, p.missing("value", "say which value %s of %s shall have; now %s", key, o.Ref, orNone(now))
	case !off && len(validation.IsValidLabelValue(value)) > 0:
		return nil, p.missing("value", "%q is no value of a label: %s", value, strings.Join(validation.IsValidLabelValue(value), "; "))
	case !off && there && now == value:
		return nil, p.missing("value", "%s of %s is %s already", key, o.Ref, value)
	}
	say := fmt.Sprintf("Set label %s of %s from %s to %s", key, o.Ref, orNone(now), orNone(value))
	if off {
		say = fmt.Sprintf("Take label %s=%s off %s", key, now, o.Ref)
	}
	d := c.draft("%s", say)
	if err := d.patch(o, say, func(u *unstructured.Unstructured) error {
		l := u.GetLabels()
		if l == nil {
			l = map[string]string{}
		}
		if l[key] = value; off {
			delete(l, key)
		}
		u.SetLabels(l)
		return nil
	}); err != nil {
		return nil, err
	}
	d.Verify = []incident.Check{fieldIs(o, dotted("metadata.labels", key), value, "the label says so")}
	// What MIG manager and device plugin do when their label changes.
	if key == "nvidia.com/mig.config" || key == "nvidia.com/device-plugin.config" {
		pods, err := c.gpuPodsOn(ctx, o.GetName())
		if err != nil {
			return nil, err
		}
		if d.Blast, err = c.blast(ctx, pods); err != nil {
			return nil, err
		}
		d.Risk = incident.RiskHigh
		d.Warnings = append(d.Warnings, "the GPUs of the node are laid out anew: pods that hold one have to be gone, or the change fails; drain the node first")
	}
	if off || there {
		d.Warnings = append(d.Warnings, "pods that were placed by the old label stay where they are, and cannot start here again")
	}
	d.Blast.Nodes = []incident.Ref{nodeRef(c.name, o.GetName())}
	return d, nil
}

// gpuPodsOn gives the pods of a node that hold accelerators.
func (c *Cluster) gpuPodsOn(ctx context.Context, node string) ([]*corev1.Pod, error) {
	list, err := c.List(ctx, "Pod", "", "", "spec.nodeName="+node)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, o := range list {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return nil, err
		}
		if requestedGPUs(&p.Spec) > 0 || len(p.Spec.ResourceClaims) > 0 {
			out = append(out, p)
		}
	}
	return out, nil
}

func webhookPolicy(ctx context.Context, c *Cluster, p params) (*draft, error) {
	var hits []*Object
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		if want := p.str("kind"); want != "" && want != kind {
			continue
		}
		o, err := c.Get(ctx, kind+".admissionregistration.k8s.io", "", p.str("configuration"))
		if notThere(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		if len(hits) == 0 || p.str("webhook") == "" || slices.ContainsFunc(list, func(v any) bool { m, _ := v.(map[string]any); return text(m, "name") == p.str("webhook") }) {
			hits = append(hits, o)
		}
	}
	switch len(hits) {
	case 0:
		return nil, p.missing("configuration", "there is no webhook configuration %s", p.str("configuration"))
	case 1:
	default:
		return nil, p.missing("kind", "both a MutatingWebhookConfiguration and a ValidatingWebhookConfiguration are called %s", p.str("configuration"))
	}
	o := hits[0]
	list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
	var names []string
	at := -1
	for i, v := range list {
		m, _ := v.(map[string]any)
		names = append(names, text(m, "name"))
		if want := p.str("webhook"); want == text(m, "name") || want == "" && len(list) == 1 {
			at = i
		}
	}
	if at < 0 {
		return nil, p.missing("webhook", "say which webhook of %s: %s", o.Ref, strings.Join(names, ", "))
	}
	hook, _ := list[at].(map[string]any)
	from, to := text(hook, "failurePolicy"), p.str("policy")
	if from == "" {
		from = "Fail" // the default of admissionregistration.k8s.io/v1
	}
	if to == "" {
		to = "Ignore"
	}
	if from == to {
		return nil, p.missing("policy", "the failure policy of webhook %s is %s already", names[at], to)
	}
	say := fmt.Sprintf("Set failurePolicy of webhook %s of %s from %s to %s", names[at], o.Ref, from, to)
	d := c.draft("%s", say)
	if err := d.patch(o, say, func(u *unstructured.Unstructured) error {
		list, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
		list[at].(map[string]any)["failurePolicy"] = to
		return unstructured.SetNestedSlice(u.Object, list, "webhooks")
	}); err != nil {
		return nil, err
	}
	if to == "Ignore" {
		d.Warnings = append(d.Warnings, "while its backend is away, what the webhook would refuse or change passes as it is: set it back (policy Fail) when it answers again")
	} else {
		d.Warnings = append(d.Warnings, "while its backend is away, every request it is asked about fails")
	}
	d.Verify = []incident.Check{fieldIs(o, fmt.Sprintf("webhooks[%d].failurePolicy", at), to, "the policy is "+to)}
	return d, nil
}
