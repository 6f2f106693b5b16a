package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	authv1 "k8s.io/api/authorization/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type accessIn struct {
	Namespace string `json:"namespace,omitempty"`
}

// Right is one read gumshoe wants.
type Right struct {
	Verb     string `json:"verb"`
	Resource string `json:"resource"`
	// Allowed is "cluster", "namespace" or empty.
	Allowed string `json:"allowed"`
	// Shows is what the right makes visible.
	Shows string `json:"shows"`
}

// AccessOut is the answer of kube_access.
type AccessOut struct {
	Namespace string  `json:"namespace"`
	Rights    []Right `json:"rights"`
	Lacking   int     `json:"lacking"`
	// Rules are what the API server lists for the namespace, "get,list pods".
	Rules []string `json:"rules"`
	// Incomplete says that an authorizer cannot list its rules.
	Incomplete bool `json:"incomplete,omitempty"`
}

// want is a read with the reason; group empty is the core group.
type want struct {
	verb, group, resource, sub, shows string
	clusterScoped                     bool
}

// wants lists the reads, most telling first.
func wants() []want {
	return []want{
		{"list", "", "pods", "", "pods and their states", false},
		{"get", "", "pods", "log", "container logs", false},
		{"list", "", "events", "", "what happened to objects", false},
		{"list", "", "nodes", "", "nodes, their conditions, taints and free resources", true},
		{"list", "", "namespaces", "", "which namespaces exist", true},
		{"list", "", "services", "", "Services and what they select", false},
		{"get", "", "configmaps", "", "whether referenced ConfigMaps and keys exist", false},
		{"get", "", "secrets", "", "whether referenced Secrets exist (metadata only, never values)", false},
		{"list", "", "persistentvolumeclaims", "", "volume claims", false},
		{"list", "", "persistentvolumes", "", "volumes and where they can be reached", true},
		{"list", "", "resourcequotas", "", "quotas that refuse pods", false},
		{"list", "", "limitranges", "", "limit ranges that refuse pods", false},
		{"get", "", "serviceaccounts", "", "whether the pods' identity exists", false},
		{"list", "apps", "deployments", "", "rollouts", false},
		{"list", "apps", "replicasets", "", "revisions and refused pods", false},
		{"list", "apps", "statefulsets", "", "StatefulSets", false},
		{"list", "apps", "daemonsets", "", "DaemonSets, driver plugins among them", false},
		{"list", "apps", "controllerrevisions", "", "what the last rollout changed", false},
		{"list", "batch", "jobs", "", "Jobs", false},
		{"list", "networking.k8s.io", "networkpolicies", "", "policies that isolate pods", false},
		{"list", "networking.k8s.io", "ingresses", "", "Ingresses", false},
		{"list", "discovery.k8s.io", "endpointslices", "", "backends of Services", false},
		{"list", "storage.k8s.io", "storageclasses", "", "storage classes", true},
		{"list", "storage.k8s.io", "volumeattachments", "", "volumes still attached elsewhere", true},
		{"list", "policy", "poddisruptionbudgets", "", "budgets that block evictions", false},
		{"list", "autoscaling", "horizontalpodautoscalers", "", "autoscalers", false},
		{"list", "resource.k8s.io", "resourceclaims", "", "device claims", false},
		{"list", "resource.k8s.io", "resourceslices", "", "devices and their attributes", true},
		{"list", "resource.k8s.io", "deviceclasses", "", "device classes", true},
		{"list", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "webhooks that refuse objects", true},
		{"list", "apiregistration.k8s.io", "apiservices", "", "aggregated APIs that do not answer", true},
	}
}

// rights asks the API server which reads this identity may do. Resources the
// server does not have are left out.
func (r *reader) rights(ctx context.Context, namespace string) ([]Right, error) {
	served, err := r.src.Discovered(ctx)
	if err != nil {
		return nil, err
	}
	var asked []want
	for _, w := range wants() {
		if served.Has(w.group, w.resource) {
			asked = append(asked, w)
		}
	}
	out := make([]Right, len(asked))
	for i, w := range asked {
		out[i] = Right{Verb: w.verb, Resource: w.name(), Shows: w.shows}
	}
	everything, err := r.administrator(ctx, namespace)
	if err != nil {
		return nil, err
	}
	if everything {
		for i := range out {
			out[i].Allowed = "cluster"
		}
		return out, nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, w := range asked {
		g.Go(func() error {
			ok, err := r.src.Allowed(gctx, w.verb, w.group, w.resource, w.sub, "")
			if err != nil {
				return err
			}
			if ok {
				out[i].Allowed = "cluster"
				return nil
			}
			if w.clusterScoped || namespace == "" {
				return nil
			}
			ok, err = r.src.Allowed(gctx, w.verb, w.group, w.resource, w.sub, namespace)
			if ok {
				out[i].Allowed = "namespace"
			}
			return err
		})
	}
	return out, g.Wait()
}

// administrator settles it with two questions for those who may read all. The
// review of "*" alone is not believed: a recorded cluster answers yes to
// whatever its capture was not refused by name, and lists no rule for "*".
func (r *reader) administrator(ctx context.Context, namespace string) (bool, error) {
	all, err := r.src.Allowed(ctx, "list", "*", "*", "", "")
	if err != nil || !all {
		return false, err
	}
	rules, err := r.src.Rules(ctx, namespace)
	if err != nil {
		// The single reviews tell as well; a lost connection fails them too.
		rules = &authv1.SubjectRulesReviewStatus{}
	}
	for _, rule := range rules.ResourceRules {
		if slices.Contains(rule.APIGroups, "*") && slices.Contains(rule.Resources, "*") && slices.Contains(rule.Verbs, "*") && len(rule.ResourceNames) == 0 {
			return true, nil
		}
	}
	return false, nil
}

func (w want) name() string {
	name := w.resource
	if w.sub != "" {
		name += "/" + w.sub
	}
	if w.group != "" {
		name += "." + w.group
	}
	return name
}

// gaps words the missing rights for an answer.
func gaps(rows []Right) []incident.Gap {
	var out []incident.Gap
	for _, row := range rows {
		if row.Allowed == "" {
			out = append(out, incident.Gap{Source: row.Shows, Why: fmt.Sprintf("this identity may not %s %s", row.Verb, row.Resource), Fix: fmt.Sprintf("grant verb %s on %s", row.Verb, row.Resource)})
		}
	}
	return out
}

// access tells what this identity may read.
func (r *reader) access(ctx context.Context, in accessIn) (tool.Output[AccessOut], error) {
	var out tool.Output[AccessOut]
	ns := in.Namespace
	if ns == "" {
		ns = r.namespace
	}
	rows, err := r.rights(ctx, ns)
	if err != nil {
		return out, err
	}
	out.Data = AccessOut{Namespace: ns, Rights: rows, Rules: []string{}}
	if rules, err := r.src.Rules(ctx, ns); err == nil {
		out.Data.Incomplete = rules.Incomplete
		for _, rule := range rules.ResourceRules {
			text := strings.Join(rule.Verbs, ",") + " " + strings.Join(rule.Resources, ",")
			if g := strings.Join(rule.APIGroups, ","); g != "" {
				text += " in " + g
			}
			if len(rule.ResourceNames) > 0 {
				text += " named " + strings.Join(rule.ResourceNames, ",")
			}
			out.Data.Rules = append(out.Data.Rules, text)
		}
	}
	lines := [][]string{}
	for _, row := range rows {
		if row.Allowed == "cluster" {
			continue
		}
		may := "no"
		if row.Allowed == "namespace" {
			may = "only in " + ns
		} else {
			out.Data.Lacking++
		}
		lines = append(lines, []string{row.Verb + " " + row.Resource, may, row.Shows})
	}
	out.Text = accessText(len(rows), out.Data.Lacking, lines)
	return out, nil
}

func accessText(all, lacking int, rows [][]string) string {
	text := fmt.Sprintf("%d of %d reads are allowed\n", all-lacking, all)
	if len(rows) > 0 {
		text += table([]string{"READ", "ALLOWED", "SHOWS"}, rows)
	}
	return text
}
