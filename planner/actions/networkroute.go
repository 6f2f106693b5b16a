package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

func routeActions(c *Cluster) []*action {
	named := []planner.Param{{Name: "namespace", Required: true, Text: "its namespace"}, {Name: "name", Required: true, Object: true, Text: "its name"}}
	return []*action{
		{c: c, compile: poolSelector, info: planner.Info{
			Name: "inference_pool_selector", Family: planner.Network, Text: "Correct one label by which an InferencePool finds its engines", Risk: incident.RiskMedium,
			Params: append(slices.Clone(named), planner.Param{Name: "label", Required: true, Text: "the label as it should be, key=value"}),
			Rights: []planner.Right{{Group: "inference.networking.k8s.io", Resources: []string{"inferencepools"}, Verbs: []string{"get", "patch"}}, {Resources: []string{"pods"}, Verbs: []string{"list"}}},
			Undo:   "the selector is put back", Verify: "the pool selects pods, and nothing says otherwise", Sources: []string{"gateway-api-inference-extension, InferencePool spec.selector: pods of its own namespace"},
		}},
		{c: c, compile: routeWeights, info: planner.Info{
			Name: "route_weights", Family: planner.Network, Text: "Set how requests are shared among the backends of one rule of a route", Risk: incident.RiskMedium,
			Params: append([]planner.Param{{Name: "kind", Values: []string{"HTTPRoute", "GRPCRoute"}, Text: "the kind of the route; HTTPRoute when it is not said"}}, append(slices.Clone(named),
				planner.Param{Name: "rule", Type: planner.Int, Text: "which rule, from 0; not needed where there is one"},
				planner.Param{Name: "weights", Required: true, Text: "every backend of the rule with its weight, blue=90,green=10"})...),
			Rights: []planner.Right{{Group: "gateway.networking.k8s.io", Resources: []string{"httproutes", "grpcroutes"}, Verbs: []string{"get", "patch"}}},
			Undo:   "the weights are put back", Verify: "the rule has the weights", Sources: []string{"gateway-api.sigs.k8s.io, BackendRef.weight: a share of the sum; 0 gets nothing"},
		}},
	}
}

// poolSelector sets one label of a pool's selector, so that the pool finds pods.
func poolSelector(ctx context.Context, c *Cluster, p params) (*draft, error) {
	set, err := parseLabels(p.str("label"))
	if err != nil || len(set) != 1 {
		return nil, p.missing("label", "%q is not one label: it is written key=value", p.str("label"))
	}
	o, err := c.Get(ctx, "InferencePool.inference.networking.k8s.io", p.str("namespace"), p.str("name"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("name", "there is no InferencePool %s/%s", p.str("namespace"), p.str("name"))
	}
	if err != nil {
		return nil, err
	}
	match, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
	before, err := c.podsWith(ctx, o.GetNamespace(), map[string]any{"matchLabels": untyped(match)})
	if err != nil {
		return nil, err
	}
	var key, value string
	for key, value = range set {
		if match == nil {
			match = map[string]string{}
		}
		match[key] = value
	}
	after, err := c.podsWith(ctx, o.GetNamespace(), map[string]any{"matchLabels": untyped(match)})
	if err != nil {
		return nil, err
	}
	if len(after) == 0 {
		return nil, p.missing("label", "no pod in namespace %s would be selected with %s", o.GetNamespace(), p.str("label"))
	}
	d := c.draft("Let %s select engines with %s", o.Ref, p.str("label"))
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, value, "spec", "selector", "matchLabels", key)
	}); err != nil {
		return nil, err
	}
	d.Blast.Notes = append(d.Blast.Notes, fmt.Sprintf("the pool selects %s instead of %d", plural(int64(len(after)), "pod"), len(before)))
	if len(before) > 0 {
		d.Risk = incident.RiskHigh
		d.Warnings = append(d.Warnings, "the pool has engines now ("+namesOf(before)+"): requests go to others from now on")
	}
	d.Verify = []incident.Check{
		{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": "spec.selector.matchLabels." + strings.ReplaceAll(key, ".", `\.`), "value": value}, Say: o.Ref.String() + " selects " + p.str("label"), Within: 30},
		{Kind: CheckNoFinding, Subject: o.Ref, Params: map[string]string{"code": "serving.pool_selects_nothing"}, Say: o.Ref.String() + " selects pods", Within: 60},
	}
	return d, nil
}

// weight is a backend's share of the requests.
type share struct {
	backend string
	weight  int64
}

// parseWeights reads "blue=90,green=10". At least one weight is above 0: else every
// request is answered with an error.
func parseWeights(s string) ([]share, error) {
	var out []share
	sum := int64(0)
	for part := range strings.SplitSeq(s, ",") {
		name, n, ok := strings.Cut(strings.TrimSpace(part), "=")
		w, err := strconv.ParseInt(n, 10, 32)
		if !ok || name == "" || err != nil || w < 0 || w > 1_000_000 {
			return nil, fmt.Errorf("%q is no weight: it is written backend=90, from 0 to 1000000", part)
		}
		if slices.ContainsFunc(out, func(x share) bool { return x.backend == name }) {
			return nil, fmt.Errorf("backend %s stands twice", name)
		}
		out, sum = append(out, share{name, w}), sum+w
	}
	if sum == 0 {
		return nil, fmt.Errorf("all weights are 0: no request would be answered")
	}
	return out, nil
}

// routeWeights sets the weights of all backends of one rule.
func routeWeights(ctx context.Context, c *Cluster, p params) (*draft, error) {
	kind := p.str("kind")
	if kind == "" {
		kind = "HTTPRoute"
	}
	shares, err := parseWeights(p.str("weights"))
	if err != nil {
		return nil, p.missing("weights", "%v", err)
	}
	o, err := c.Get(ctx, kind+".gateway.networking.k8s.io", p.str("namespace"), p.str("name"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("name", "there is no %s %s/%s", kind, p.str("namespace"), p.str("name"))
	}
	if err != nil {
		return nil, err
	}
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
	i := int(p.num("rule", 0))
	switch {
	case len(rules) > 1 && p.str("rule") == "":
		return nil, p.missing("rule", "there are %d rules, say which, counted from 0", len(rules))
	case i < 0 || i >= len(rules):
		return nil, p.missing("rule", "there is no rule %d; there are %d, counted from 0", i, len(rules))
	}
	d := c.draft("Share the requests of rule %d of %s as %s", i, o.Ref, p.str("weights"))
	err = d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		spec, _ := u.Object["spec"].(map[string]any)
		refs := mappings(mappings(spec["rules"])[i]["backendRefs"])
		if len(refs) != len(shares) {
			return p.missing("weights", "the rule has %d backends, weights are given for %d: say all", len(refs), len(shares))
		}
		for _, s := range shares {
			at := slices.IndexFunc(refs, func(r map[string]any) bool { return text(r, "name") == s.backend })
			if at < 0 {
				return p.missing("weights", "the rule has no backend %s", s.backend)
			}
			refs[at]["weight"] = s.weight
			d.Verify = append(d.Verify, incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": fmt.Sprintf("spec.rules[%d].backendRefs[%d].weight", i, at), "value": strconv.FormatInt(s.weight, 10)},
				Say: fmt.Sprintf("backend %s has weight %d", s.backend, s.weight), Within: 30})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.Blast.Notes = append(d.Blast.Notes, "requests that are under way end where they are; new ones are shared anew")
	return d, nil
}

// neverMade are the changes that no plan makes, whoever asks: each is refused with its
// reason, so that a person who asks for it by name is told what to do instead.
func neverMade(c *Cluster) []*action {
	list := []struct{ name, text, why, way string }{
		{"ca_regenerate", "Never made: a certificate authority or its keys anew", "a root that changes breaks every identity that it signed, and its keys are no tool's to hold", "a person renews it, with both roots trusted while it is rolled out"},
		{"secret_edit", "Never made: a Secret read, written or deleted", "the value of a Secret is never read, and so never written", "a person changes it where it is kept"},
		{"policy_delete", "Never made: a network or authorization policy deleted", "what it keeps out would all come in at once", "let the one pair that is wanted through (cilium_policy_patch, authorization_policy_repair)"},
		{"policy_authentication_remove", "Never made: authentication taken out of a policy", "it takes security away to make traffic flow", "mend what authentication lacks (SPIRE agent, entry, port 4250), or a person decides about it"},
		{"peer_authentication_permissive", "Never made: mutual TLS from STRICT to PERMISSIVE", "plain text would be accepted from anybody", "enrol the client (label_namespace), or a person decides about it"},
	}
	var out []*action
	for _, x := range list {
		out = append(out, &action{c: c, info: planner.Info{
			Name: x.name, Family: planner.Network, Text: x.text, Risk: incident.RiskCritical,
			Params: []planner.Param{{Name: "namespace", Text: "its namespace"}, {Name: "name", Text: "its name"}, {Name: "kind", Text: "its kind"}},
			Undo:   "it is not made", Verify: "it is not made", Sources: []string{"cilium.io and istio.io security guides: decisions about trust are people's"},
		}, compile: func(_ context.Context, _ *Cluster, p params) (*draft, error) {
			return nil, p.refuse(x.way, "%s", x.why)
		}})
	}
	return out
}
