package kube

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// namedKinds are the kinds a name without a kind may belong to, built-in ones
// first. Those the server does not have cost nothing.
func namedKinds() []string {
	return []string{
		"pods", "deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps", "jobs.batch", "cronjobs.batch",
		"nodes", "namespaces", "services", "ingresses.networking.k8s.io", "persistentvolumeclaims", "persistentvolumes",
		"resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io", "deviceclasses.resource.k8s.io",
		"horizontalpodautoscalers.autoscaling", "poddisruptionbudgets.policy", "configmaps", "storageclasses.storage.k8s.io",
		"networkpolicies.networking.k8s.io", "resourcequotas", "devicetaintrules.resource.k8s.io",
		"httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io",
		"leaderworkersets.leaderworkerset.x-k8s.io", "jobsets.jobset.x-k8s.io", "workloads.kueue.x-k8s.io", "clusterqueues.kueue.x-k8s.io", "localqueues.kueue.x-k8s.io",
		"rayclusters.ray.io", "rayservices.ray.io", "rayjobs.ray.io", "inferenceservices.serving.kserve.io", "llminferenceservices.serving.kserve.io",
		"computedomains.resource.nvidia.com", "pytorchjobs.kubeflow.org", "mpijobs.kubeflow.org", "trainjobs.trainer.kubeflow.org", "notebooks.kubeflow.org",
		"inferencepools.inference.networking.k8s.io", "inferencepools.inference.networking.x-k8s.io", "podgroups.scheduling.x-k8s.io", "podgroups.scheduling.volcano.sh",
		"jobs.batch.volcano.sh", "nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "rollouts.argoproj.io", "applications.argoproj.io",
		"dynamographdeployments.nvidia.com", "clusterpolicies.nvidia.com", "nodes.cilium.io",
	}
}

// nearKinds are searched for similar names; pods only where the mention looks
// like a made name, because every word of a question is looked up.
func nearKinds(m tool.Mention) []string {
	kinds := []string{"deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch", "services", "nodes", "namespaces",
		"persistentvolumeclaims", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io",
		"leaderworkersets.leaderworkerset.x-k8s.io", "rayclusters.ray.io", "rayservices.ray.io", "jobsets.jobset.x-k8s.io", "inferenceservices.serving.kserve.io"}
	if m.Kind != "" || strings.ContainsAny(m.Name, "-.0123456789") {
		kinds = append([]string{"pods"}, kinds...)
	}
	return kinds
}

const (
	maxName = 253 // RFC 1123 subdomain, the longest name an object may have
	maxNear = 8
)

// Resolve implements tool.Resolver. Exact are the objects of exactly that name
// (all namespaces unless one is said); Near come only when there is none: the
// same name elsewhere or of another kind, the current pods of what a gone pod
// belonged to, and names that differ by a few letters or a suffix.
func (t *Toolset) Resolve(ctx context.Context, m tool.Mention) (tool.Resolution, error) {
	var res tool.Resolution
	s := &search{Toolset: t}
	m, err := s.tidy(ctx, m)
	if err != nil || m.Name == "" || len(m.Name) > maxName || !nameLike(m.Name) {
		return res, err
	}
	if m.Namespace != "" {
		_, err := t.src.Namespace(ctx, m.Namespace)
		switch {
		case err == nil:
		case tool.KindOf(err) == tool.NotFound:
			res.NoNamespace = true
		case tool.KindOf(err) == tool.Forbidden:
			// Not known; the search tells.
		default:
			return res, err
		}
	}
	kinds := namedKinds()
	if m.Kind != "" {
		kinds = []string{m.Kind}
	}
	if !res.NoNamespace {
		if res.Exact, err = s.exact(ctx, kinds, m); err != nil {
			return res, err
		}
	}
	if len(res.Exact) == 0 && !res.NoNamespace {
		if res.Exact, err = s.indirect(ctx, m); err != nil && tool.KindOf(err) != tool.Forbidden {
			return res, err
		}
	}
	if len(res.Exact) > 0 {
		return res, nil
	}
	res.Near, err = s.near(ctx, m)
	if err != nil {
		return res, err
	}
	if len(res.Near) == 0 && (m.Kind == "" || m.Kind == "pods") && !res.NoNamespace {
		res.Exact = s.gone(ctx, m)
	}
	return res, nil
}

// search is one look-up.
type search struct {
	*Toolset
}

// nameLike reports whether a word can be the name of an object at all; anything
// else is not put into a field selector.
func nameLike(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' && c != '_' {
			return false
		}
	}
	return true
}

// tidy splits "namespace/name" and "kind/name", and settles the kind word to
// the served resource; a kind that is not served is dropped, so that the name
// alone is looked for.
func (s *search) tidy(ctx context.Context, m tool.Mention) (tool.Mention, error) {
	if before, after, ok := strings.Cut(m.Name, "/"); ok {
		if _, isKind := s.src.Kind(ctx, before); isKind && m.Kind == "" {
			m.Kind, m.Name = before, after
		} else if m.Namespace == "" || m.Namespace == before {
			m.Namespace, m.Name = before, after
		}
	}
	m.Name = strings.TrimSpace(m.Name)
	if m.Kind == "" {
		return m, nil
	}
	k, err := s.src.Find(ctx, m.Kind)
	switch {
	case err == nil:
		m.Kind = k.GVR.GroupResource().String()
		// What lives in no namespace is looked for in none.
		if !k.Namespaced {
			m.Namespace = ""
		}
	case tool.KindOf(err) == tool.NotServed:
		m.Kind = ""
	default:
		return m, err
	}
	return m, nil
}

// exact looks for the name among kinds, narrowed on the server, in parallel.
// A kind that may not be listed is left out (the source remembers it); only
// when nothing at all could be read does the failure come back.
func (s *search) exact(ctx context.Context, kinds []string, m tool.Mention) ([]incident.Ref, error) {
	return s.each(ctx, kinds, func(ctx context.Context, k source.Mapping) ([]incident.Ref, error) {
		list, err := s.src.MetadataList(ctx, k, m.Namespace, source.Selectors{Fields: "metadata.name=" + m.Name})
		if tool.KindOf(err) == tool.Forbidden && err != nil && m.Namespace == "" && s.namespace != "" && k.Namespaced {
			list, err = s.src.MetadataList(ctx, k, s.namespace, source.Selectors{Fields: "metadata.name=" + m.Name})
		}
		var out []incident.Ref
		for _, o := range list {
			// A server that does not know the selector would send everything.
			if o.Name == m.Name && (m.Namespace == "" || !k.Namespaced || o.Namespace == m.Namespace) {
				out = append(out, s.src.Ref(k.GVR.Group, k.Kind, o.Namespace, o.Name))
			}
		}
		return out, err
	})
}

// each runs a look-up per served kind, at most eight at once, and gives the
// results in the order of kinds.
func (s *search) each(ctx context.Context, kinds []string, look func(context.Context, source.Mapping) ([]incident.Ref, error)) ([]incident.Ref, error) {
	served, err := s.src.Discovered(ctx)
	if err != nil {
		return nil, err
	}
	var mappings []source.Mapping
	for _, word := range kinds {
		for _, k := range served.Kinds {
			if k.GVR.GroupResource().String() == word && k.Can("list") {
				mappings = append(mappings, k)
			}
		}
	}
	found := make([][]incident.Ref, len(mappings))
	errs := make([]error, len(mappings))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, k := range mappings {
		g.Go(func() error {
			found[i], errs[i] = look(gctx, k)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := slices.Concat(found...)
	if err := ctx.Err(); err != nil {
		return nil, &tool.Error{Kind: tool.TimedOut, User: "looking up names was stopped", Err: err}
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, nothing(errs)
}

// nothing gives the reason when every look-up failed, nil when one was answered.
// A dead server matters more than a missing right.
func nothing(errs []error) error {
	var worst error
	for _, err := range errs {
		switch {
		case err == nil:
			return nil
		case worst == nil || tool.KindOf(err) == tool.Unreachable && tool.KindOf(worst) != tool.Unreachable:
			worst = err
		}
	}
	if worst != nil && tool.KindOf(worst) == tool.Forbidden {
		return &tool.Error{Kind: tool.Forbidden, Err: worst, User: "this identity may not look for names there (403 for every kind)", Fix: "name the namespace, or bind the ClusterRole \"view\" to the identity"}
	}
	return worst
}

// gone finds a pod that no longer exists in the events about it.
func (s *search) gone(ctx context.Context, m tool.Mention) []incident.Ref {
	events, err := s.src.Events(ctx, m.Namespace, incident.Ref{Kind: "Pod", Namespace: m.Namespace, Name: m.Name})
	if err != nil {
		return nil
	}
	var out []incident.Ref
	for _, e := range events {
		ref := s.src.Ref("", "Pod", e.Involved.Namespace, e.Involved.Name)
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	slices.SortFunc(out, func(a, b incident.Ref) int { return strings.Compare(a.Namespace, b.Namespace) })
	return out
}
