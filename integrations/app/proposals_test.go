package app_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// compiled investigates a case and compiles each proposal on the cluster of the case:
// "action: verb Kind, verb Kind", or "action: missing PARAM", "action: refused".
func compiled(t *testing.T, id string) []string {
	t.Helper()
	c := apptest.Case(t, id)
	factory, err := app.NewFactory(app.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	a, err := factory.FromBundle(t.Context(), c.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	r, err := a.Investigate(t.Context(), c.Ask(), event.SinkFunc(func(event.Event) {}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(c.Bundle, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	cat, err := actions.New(actions.Config{Cluster: r.Cluster, Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)), Now: func() time.Time { return b.Clock() }})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range r.Diagnosis.Proposals {
		if slices.Contains(planner.ForPeople(), p.Action) {
			continue
		}
		act := cat.Session().Action(p.Action)
		if act == nil {
			t.Errorf("there is no action %s", p.Action)
			continue
		}
		d, err := act.Compile(t.Context(), p.Params)
		var missing *planner.Missing
		var refused *planner.Refused
		says := ""
		switch {
		case errors.As(err, &missing):
			says = "missing " + missing.Param
			t.Log(err)
		case errors.As(err, &refused):
			says = "refused"
			t.Log(err)
		case err != nil:
			t.Errorf("%s %v: %v", p.Action, p.Params, err)
		default:
			var verbs []string
			for _, w := range d.Writes {
				verbs = append(verbs, w.Verb+" "+w.Ref.Kind)
			}
			says = strings.Join(verbs, ", ")
		}
		out = append(out, fmt.Sprintf("%s: %s", p.Action, says))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// What an investigation proposes for claims and networks compiles to requests without
// a person adding anything, where a safe concrete change is known; where none is, the
// parameter that a person has to give is named.
func TestProposalsCompile(t *testing.T) {
	t.Parallel()
	for id, want := range map[string][]string{
		"dra-selector-excludes-all":        {"claim_template_replace: create ResourceClaimTemplate, patch StatefulSet, evict Pod"},
		"dra-selector-version-string":      {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-selector-memory-units":        {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-first-available-none":         {"claim_template_replace: create ResourceClaimTemplate, delete Pod, create Pod"},
		"dra-constraint-attribute-missing": {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-capacity-exhausted":           {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-cel-runtime-error":            {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-count-exceeds-node":           {"claim_recreate: delete ResourceClaim, create ResourceClaim"},
		"dra-claim-rejected":               {"claim_recreate: missing change"},
		"dra-leaked-claim":                 {"claim_delete: delete ResourceClaim"},
		"dra-plugin-down":                  {"driver_plugin_restart: delete Pod"},
		"dra-devices-tainted":              nil,
		"cilium-policy-port":               {"cilium_policy_patch: patch CiliumNetworkPolicy"},
		"cilium-policy-peer-labels":        {"cilium_policy_patch: patch CiliumNetworkPolicy"},
		"cilium-flow-default-deny":         {"cilium_policy_patch: patch NetworkPolicy"},
		"cilium-fqdn-without-dns":          {"cilium_policy_patch: patch CiliumNetworkPolicy"},
		"cilium-flow-l7-denied":            {"cilium_policy_patch: missing rule"},
		"cilium-ccnp-forbids":              nil,
		"mtls-b7-policy-15008":             {"cilium_policy_patch: patch CiliumNetworkPolicy"},
		"mtls-b4-label-value":              {"label_namespace: patch Namespace"},
		"mtls-a8-host-policy":              {"cilium_policy_patch: patch CiliumClusterwideNetworkPolicy"},
		"mtls-drop":                        {"spire_agent_tolerations: patch DaemonSet"},
		"mtls-c6-strict":                   nil,
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			if got := compiled(t, id); !slices.Equal(got, want) {
				t.Errorf("the proposals come to %q, want %q", got, want)
			}
		})
	}
}
