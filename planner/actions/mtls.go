package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// meshActions are the changes around mutual TLS that a plan may make.
func meshActions(c *Cluster) []*action {
	ns := planner.Param{Name: "namespace", Required: true, Object: true, Text: "the namespace"}
	named := []planner.Param{{Name: "namespace", Required: true, Text: "its namespace"}, {Name: "name", Required: true, Object: true, Text: "its name"}}
	namespaces := []planner.Right{{Resources: []string{"namespaces"}, Verbs: []string{"get", "patch"}}, {Resources: []string{"pods"}, Verbs: []string{"list"}}}
	daemons := []planner.Right{{Group: "apps", Resources: []string{"daemonsets"}, Verbs: []string{"get", "list", "patch"}}, {Resources: []string{"pods"}, Verbs: []string{"get", "list", "delete", "patch"}}, {Resources: []string{"nodes"}, Verbs: []string{"get"}}}
	enrol := []string{"docs.cilium.io, ztunnel encryption: io.cilium/mtls-enabled=true", "istio.io/latest/docs/ambient: istio.io/dataplane-mode"}
	return []*action{
		{c: c, compile: labelNamespace, info: planner.Info{
			Name: "label_namespace", Family: planner.Network, Text: "Set one label on a namespace, such as the one that enrols it in mutual TLS", Risk: incident.RiskMedium,
			Params: []planner.Param{ns, {Name: "label", Required: true, Text: "the label, key=value"}},
			Rights: namespaces, Undo: "the label is put back", Verify: "the label is there", Sources: enrol,
		}},
		{c: c, compile: unlabelNamespace, info: planner.Info{
			Name: "unlabel_namespace", Family: planner.Network, Text: "Take one label off a namespace", Risk: incident.RiskMedium,
			Params: []planner.Param{ns, {Name: "label", Required: true, Text: "the key of the label"}},
			Rights: namespaces, Undo: "the label is put back", Verify: "the label is gone", Sources: enrol,
		}},
		{c: c, compile: tolerateSPIRE, info: planner.Info{
			Name: "spire_agent_tolerations", Family: planner.Network, Text: "Let the SPIRE agent's DaemonSet run on nodes with one taint", Risk: incident.RiskMedium,
			Params: append(slices.Clone(named), planner.Param{Name: "taint", Required: true, Text: "the taint of the node, key:effect or key=value:effect"}, planner.Param{Name: "node", Object: true, Text: "a node with the taint, for the proof"}),
			Rights: daemons, Undo: "the toleration is taken away; pods on such nodes go", Verify: "the agent runs on the node, and the DaemonSet is rolled out",
			Sources: []string{"mTLS failure mode A2: spire-agent does not tolerate the node's taint"},
		}},
		{c: c, compile: rollDaemonPod, info: planner.Info{
			Name: "daemonset_pod_roll", Family: planner.Network, Text: "Make the one pod of a DaemonSet on one node anew", Risk: incident.RiskMedium,
			Params: []planner.Param{{Name: "daemonset", Required: true, Object: true, Text: "the DaemonSet, namespace/name"}, {Name: "node", Required: true, Object: true, Text: "the node"}},
			Rights: daemons, Undo: "nothing is to undo: the DaemonSet makes the pod anew", Verify: "the DaemonSet has a new ready pod on the node",
			Sources: []string{"mTLS failure modes B10, B11 and C11: one ztunnel, agent or SPIRE agent on one node"},
		}},
		{c: c, compile: repairPrincipal, info: planner.Info{
			Name: "authorization_policy_repair", Family: planner.Network, Text: "Correct or add one principal in one rule of an ALLOW AuthorizationPolicy", Risk: incident.RiskHigh,
			Params: append(slices.Clone(named), planner.Param{Name: "rule", Text: "the source that changes, rules[0].from[0]; not needed where there is one"},
				planner.Param{Name: "principal", Required: true, Text: "the principal that is meant, trust-domain/ns/namespace/sa/account"}, planner.Param{Name: "replaces", Text: "the principal in its place now; without it one is added"}),
			Rights: []planner.Right{{Group: "security.istio.io", Resources: []string{"authorizationpolicies"}, Verbs: []string{"get", "patch"}}, {Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}}},
			Undo:   "the policy is put back", Verify: "the rule names the principal", Sources: []string{"istio.io, AuthorizationPolicy source.principals"},
		}},
	}
}

func (c *Cluster) namespaceOf(ctx context.Context, p params) (*Object, error) {
	o, err := c.Get(ctx, "Namespace", "", p.str("namespace"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("namespace", "there is no namespace %s", p.str("namespace"))
	}
	return o, err
}

// guarded refuses labels of a namespace that hold its security down for everybody in it.
func guardedLabel(p params, key string) error {
	switch {
	case strings.HasPrefix(key, "pod-security.kubernetes.io/"):
		return p.refuse("a person decides about it, and writes it", "%s says how far pods may go in the namespace", key)
	case key == "kubernetes.io/metadata.name":
		return p.refuse("leave it", "%s is set by the API server", key)
	}
	return nil
}

// meshLabels are those that change how the traffic of a namespace is carried.
func meshLabel(key string) bool {
	return slices.Contains([]string{"io.cilium/mtls-enabled", "istio.io/dataplane-mode", "istio.io/use-waypoint", "istio.io/use-waypoint-namespace", "istio-injection", "istio.io/rev"}, key)
}

func labelNamespace(ctx context.Context, c *Cluster, p params) (*draft, error) {
	set, err := parseLabels(p.str("label"))
	if err != nil {
		return nil, p.missing("label", "%v", err)
	}
	if len(set) != 1 {
		return nil, p.missing("label", "one label at a time")
	}
	o, err := c.namespaceOf(ctx, p)
	if err != nil {
		return nil, err
	}
	d := c.draft("Label namespace %s %s", o.GetName(), p.str("label"))
	for k, v := range set {
		if err := guardedLabel(p, k); err != nil {
			return nil, err
		}
		if o.GetLabels()[k] == v {
			return nil, p.missing("label", "namespace %s has %s already", o.GetName(), p.str("label"))
		}
		if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
			return unstructured.SetNestedField(u.Object, v, "metadata", "labels", k)
		}); err != nil {
			return nil, err
		}
		if k == "resource.kubernetes.io/admin-access" && v == "true" {
			d.Risk = incident.RiskHigh
			d.Warnings = append(d.Warnings, "who may make claims in the namespace gets access to devices that others hold")
		}
		if err := d.carried(ctx, o, k, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func unlabelNamespace(ctx context.Context, c *Cluster, p params) (*draft, error) {
	k := p.str("label")
	if err := guardedLabel(p, k); err != nil {
		return nil, err
	}
	o, err := c.namespaceOf(ctx, p)
	if err != nil {
		return nil, err
	}
	if _, ok := o.GetLabels()[k]; !ok {
		return nil, p.missing("label", "namespace %s has no label %s", o.GetName(), k)
	}
	d := c.draft("Take label %s off namespace %s", k, o.GetName())
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		unstructured.RemoveNestedField(u.Object, "metadata", "labels", k)
		return nil
	}); err != nil {
		return nil, err
	}
	if meshLabel(k) {
		d.Risk = incident.RiskHigh
		d.Warnings = append(d.Warnings, "traffic of the namespace is no longer encrypted between pods: be sure that nothing relies on it")
	}
	return d, d.carried(ctx, o, k, "")
}

// carried says whose traffic a label of a namespace moves, and how the label is proved.
func (d *draft) carried(ctx context.Context, o *Object, key, value string) error {
	path := "metadata.labels." + strings.ReplaceAll(key, ".", `\.`)
	say := "namespace " + o.GetName() + " has label " + key + "=" + value
	if value == "" {
		say = "namespace " + o.GetName() + " has no label " + key
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": path, "value": value}, Say: say, Within: 30})
	if !meshLabel(key) {
		return nil
	}
	pods, err := d.c.List(ctx, "Pod", o.GetName(), "", "")
	if err != nil {
		return err
	}
	pods = slices.DeleteFunc(pods, podOver)
	d.Blast.Notes = append(d.Blast.Notes, fmt.Sprintf("the traffic of %s of namespace %s is carried another way from now on; connections that are open may break", plural(int64(len(pods)), "pod"), o.GetName()))
	if value != "" && len(pods) > 0 {
		d.Warnings = append(d.Warnings, "policies that list application ports have to let TCP 15008 through, or the pods no longer reach each other")
	}
	if len(pods) > 0 && d.c.hubble(ctx) {
		return d.flows(pods[0].GetNamespace() + "/" + pods[0].GetName())
	}
	return nil
}

// tolerateSPIRE adds one toleration to the SPIRE agent's DaemonSet, whose pods are
// rolled by it one by one.
func tolerateSPIRE(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "DaemonSet.apps", p.str("namespace"), p.str("name"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("name", "there is no DaemonSet %s/%s", p.str("namespace"), p.str("name"))
	}
	if err != nil {
		return nil, err
	}
	template, _, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
	spire := strings.Contains(o.GetName(), "spire-agent") || slices.ContainsFunc(mappings(template["containers"]), func(k map[string]any) bool { return strings.Contains(text(k, "image"), "spire-agent") })
	if !spire {
		return nil, p.refuse("change the scheduling of other workloads with patch_scheduling", "%s is no SPIRE agent", o.Ref)
	}
	t, err := parseNodeTaint(p.str("taint"))
	if err != nil {
		return nil, p.missing("taint", "%v", err)
	}
	want := map[string]any{"key": t.key, "operator": "Exists"}
	if t.valued {
		want["operator"], want["value"] = "Equal", t.value
	}
	if t.effect != "" {
		want["effect"] = t.effect
	}
	for _, had := range mappings(template["tolerations"]) {
		key, effect := text(had, "key"), text(had, "effect")
		if (key == t.key || key == "" && text(had, "operator") == "Exists") && (effect == "" || effect == t.effect) && (text(had, "operator") == "Exists" || text(had, "value") == t.value) {
			return nil, p.missing("taint", "%s tolerates %s already", o.Ref, p.str("taint"))
		}
	}
	d := c.draft("Let %s run on nodes with the taint %s", o.Ref, p.str("taint"))
	err = d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		list, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "tolerations")
		return unstructured.SetNestedSlice(u.Object, append(list, any(want)), "spec", "template", "spec", "tolerations")
	})
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	if d.Blast, err = c.blast(ctx, pods); err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, "the agent's pods are rolled node by node; new identities on a node wait until its agent is back")
	if node := p.str("node"); node != "" {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckDaemonPod, Subject: o.Ref, Params: map[string]string{"node": node}, Say: o.Ref.String() + " has a ready pod on node " + node, Within: 300})
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckRollout, Subject: o.Ref, Say: o.Ref.String() + " is rolled out", Within: 600})
	return d, nil
}

// parseNodeTaint reads a taint of a node, as kubectl writes it.
func parseNodeTaint(s string) (taint, error) {
	head, effect, has := strings.Cut(s, ":")
	if has && !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
		return taint{}, fmt.Errorf("%q is none of the effects NoSchedule, PreferNoSchedule, NoExecute", effect)
	}
	t, err := parseTaint(head)
	t.effect = effect
	return t, err
}

func rollDaemonPod(ctx context.Context, c *Cluster, p params) (*draft, error) {
	ns, name, ok := strings.Cut(p.str("daemonset"), "/")
	if !ok || name == "" {
		return nil, p.missing("daemonset", "%q is not written namespace/name", p.str("daemonset"))
	}
	set, err := c.Get(ctx, "DaemonSet.apps", ns, name)
	if apierrors.IsNotFound(err) {
		return nil, p.missing("daemonset", "there is no DaemonSet %s", p.str("daemonset"))
	}
	if err != nil {
		return nil, err
	}
	d := c.draft("Make the pod of %s on node %s anew", set.Ref, p.str("node"))
	return d, d.roll(ctx, p, set, p.str("node"))
}

// parsePrincipal reads trust-domain/ns/namespace/sa/account. A pattern is none.
func parsePrincipal(s string) (namespace, account string, err error) {
	s = strings.TrimPrefix(s, "spiffe://")
	part := strings.Split(s, "/")
	if len(part) != 5 || part[0] == "" || part[1] != "ns" || part[2] == "" || part[3] != "sa" || part[4] == "" {
		return "", "", fmt.Errorf("%q is no principal: it is written trust-domain/ns/namespace/sa/account", s)
	}
	return part[2], part[4], nil
}

// repairPrincipal puts one principal in the place of another, or beside others, in one
// source of an ALLOW policy.
func repairPrincipal(ctx context.Context, c *Cluster, p params) (*draft, error) {
	want, old := strings.TrimPrefix(p.str("principal"), "spiffe://"), p.str("replaces")
	if strings.Contains(want, "*") {
		return nil, p.refuse("name the one account that is wanted", "%q lets in more than one account", want)
	}
	ns, account, err := parsePrincipal(want)
	if err != nil {
		return nil, p.missing("principal", "%v", err)
	}
	o, err := c.policy(ctx, p, "AuthorizationPolicy")
	if err != nil {
		return nil, err
	}
	if a, _, _ := unstructured.NestedString(o.Object, "spec", "action"); a != "" && a != "ALLOW" {
		return nil, p.refuse("ask the owner of the policy to except the pair", "%s has the action %s: what it names was written on purpose", o.Ref, a)
	}
	if _, err := c.Get(ctx, "ServiceAccount", ns, account); apierrors.IsNotFound(err) {
		return nil, p.missing("principal", "there is no ServiceAccount %s/%s", ns, account)
	} else if err != nil {
		return nil, err
	}
	path, err := principalsAt(p, o, old)
	if err != nil {
		return nil, err
	}
	at, say := 0, "Let "+want+" in by "+path+" of "+o.Ref.String()
	d := c.draft("%s", say)
	err = d.patch(o, say, func(u *unstructured.Unstructured) error {
		source := sourceAt(u, path)
		list, _ := source["principals"].([]any)
		list = slices.Clone(list)
		switch i := slices.Index(list, any(old)); {
		case slices.Contains(list, any(want)):
			return p.missing("principal", "%s names %s already", path, want)
		case old == "" && len(list) == 0:
			return p.missing("replaces", "%s names no principals: adding one would keep out who gets in now", path)
		case old == "":
			list, at = append(list, any(want)), len(list)
		case i < 0:
			return p.missing("replaces", "%s does not name %s", path, old)
		default:
			list[i], at = want, i
		}
		source["principals"] = list
		return nil
	})
	if err != nil {
		return nil, err
	}
	if old != "" {
		d.Warnings = append(d.Warnings, old+" is no longer let in by this rule")
	}
	d.Verify = []incident.Check{{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": fmt.Sprintf("spec.%s.source.principals[%d]", path, at), "value": want}, Say: o.Ref.String() + " names the principal", Within: 30}}
	return d, nil
}

// principalsAt is the one source that is meant, "rules[0].from[1]".
func principalsAt(p params, o *Object, old string) (string, error) {
	var paths, hits []string
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
	for i, r := range mappings(rules) {
		for j, f := range mappings(r["from"]) {
			source, _ := f["source"].(map[string]any)
			path := fmt.Sprintf("rules[%d].from[%d]", i, j)
			paths = append(paths, path)
			list, _ := source["principals"].([]any)
			if old == "" || slices.Contains(list, any(old)) {
				hits = append(hits, path)
			}
		}
	}
	want := p.str("rule")
	switch {
	case want != "" && slices.Contains(paths, want):
		return want, nil
	case want != "":
		return "", p.missing("rule", "there is no %s; there are %s", want, strings.Join(paths, ", "))
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) == 0:
		return "", p.missing("replaces", "no rule of %s names %s", o.Ref, old)
	}
	return "", p.missing("rule", "there are several, say which: %s", strings.Join(hits, ", "))
}

func sourceAt(u *unstructured.Unstructured, path string) map[string]any {
	var i, j int
	if _, err := fmt.Sscanf(path, "rules[%d].from[%d]", &i, &j); err != nil {
		return map[string]any{}
	}
	spec, _ := u.Object["spec"].(map[string]any)
	from := mappings(mappings(spec["rules"])[i]["from"])
	source, _ := from[j]["source"].(map[string]any)
	if source == nil {
		source = map[string]any{}
		from[j]["source"] = source
	}
	return source
}
