package triage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// maxMentions bounds how many names of a question are looked up.
const maxMentions = 8

// maxEach is how many objects of one name are answered each on their own;
// with more of them the person is asked which one is meant.
const maxEach = 5

// resolve turns the question into subjects. No subject comes back with a
// clarification that says why.
func (s *session) resolve(ctx context.Context, q incident.Question, r reading) ([]incident.Ref, *incident.Clarification, error) {
	if len(q.Subjects) > 0 {
		return q.Subjects, nil, nil
	}
	if q.Alert != nil {
		if refs := alertSubjects(*q.Alert, s.cluster); len(refs) > 0 {
			return refs, nil, nil
		}
	}
	var near []incident.Ref
	var missing []tool.Mention
	noNamespace := ""
	var found []incident.Ref
	var ask *incident.Clarification

	for _, m := range limit(r.firm, maxMentions) {
		if m.Namespace == "" && namespaced(m.Kind) {
			m.Namespace = r.namespace
		}
		res, err := s.lookup(ctx, m)
		if err != nil {
			return nil, nil, err
		}
		exact := prefer(res.Exact, found)
		switch {
		case len(exact) == 0:
			missing = append(missing, m)
			near = append(near, res.Near...)
			if res.NoNamespace {
				noNamespace = m.Namespace
			}
		case ambiguous(exact) && len(exact) > maxEach:
			return nil, &incident.Clarification{Text: fmt.Sprintf("%s exists in %d namespaces; say which one, for example with -n", m.Name, len(exact)), Choices: exact}, nil
		case ambiguous(exact):
			ask = &incident.Clarification{Text: fmt.Sprintf("%s exists in several namespaces; each is answered. Name one with -n NAMESPACE to narrow it", m.Name), Choices: exact}
			found = appendNew(found, exact...)
		default:
			found = appendNew(found, exact...)
		}
	}
	// A name that does not exist is answered as such, also when other words of
	// the question are names of something: the person asked about this one.
	if len(missing) > 0 && len(found) == 0 {
		return nil, notFound(missing, near, noNamespace), nil
	}
	if len(found) > 0 {
		return found, ask, nil
	}
	return s.resolveLoose(ctx, r)
}

// resolveLoose is for questions without a written name: plain words that happen
// to be names, else the namespace, else the whole cluster.
func (s *session) resolveLoose(ctx context.Context, r reading) ([]incident.Ref, *incident.Clarification, error) {
	var found []incident.Ref
	for _, m := range limit(r.loose, maxMentions) {
		if m.Namespace == "" {
			m.Namespace = r.namespace
		}
		res, err := s.lookup(ctx, m)
		if err != nil {
			return nil, nil, err
		}
		if len(res.Exact) > 0 && len(res.Exact) <= maxEach {
			found = appendNew(found, prefer(res.Exact, nil)...)
		}
	}
	if len(found) > 0 {
		return found, nil, nil
	}
	if r.namespace != "" {
		ref := incident.Ref{Cluster: s.cluster, Kind: "Namespace", Name: r.namespace}
		res, err := s.lookup(ctx, tool.Mention{Kind: "Namespace", Name: r.namespace})
		if err != nil {
			return nil, nil, err
		}
		if len(res.Exact) == 0 && len(s.resolvers()) > 0 {
			return nil, notFound([]tool.Mention{{Kind: "Namespace", Name: r.namespace}}, res.Near, ""), nil
		}
		s.surveyed[ref] = true
		return []incident.Ref{ref}, nil, nil
	}
	if !r.trouble {
		return nil, &incident.Clarification{Text: "the question names nothing in this cluster; name an object (\"why is pod train/llama-0 pending\") or ask \"what is wrong in namespace X\""}, nil
	}
	ref := incident.Ref{Cluster: s.cluster, Kind: "Cluster", Name: first(s.cluster, "this cluster")}
	s.surveyed[ref] = true
	return []incident.Ref{ref}, nil, nil
}

func (s *session) resolvers() []tool.Resolver {
	var out []tool.Resolver
	for _, ts := range s.ready {
		if r, ok := ts.(tool.Resolver); ok {
			out = append(out, r)
		}
	}
	return out
}

// lookup asks every resolver; only an unreachable source ends the run.
func (s *session) lookup(ctx context.Context, m tool.Mention) (tool.Resolution, error) {
	var all tool.Resolution
	for _, r := range s.resolvers() {
		res, err := r.Resolve(ctx, m)
		if err != nil {
			if unreachable(err) || ctx.Err() != nil {
				return all, err
			}
			s.gap(incident.Gap{Source: "looking up " + m.Name, Why: tool.UserText(err)})
			continue
		}
		all.Exact = appendNew(all.Exact, res.Exact...)
		all.Near = appendNew(all.Near, res.Near...)
		all.NoNamespace = all.NoNamespace || res.NoNamespace
	}
	return all, nil
}

// prefer narrows several kinds of one name to what people mean: things that run
// before things that describe, and within one workload the object that owns the
// others. Objects of different namespaces all stay.
func prefer(refs, have []incident.Ref) []incident.Ref {
	rank := func(r incident.Ref) int {
		order := []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ResourceClaim", "ReplicaSet", "Node", "Service", "Ingress", "HTTPRoute", "PersistentVolumeClaim", "HorizontalPodAutoscaler"}
		if i := slices.Index(order, r.Kind); i >= 0 {
			return i
		}
		return len(order)
	}
	best := map[string]incident.Ref{}
	var keys []string
	for _, r := range refs {
		b, ok := best[r.Namespace]
		if !ok {
			keys = append(keys, r.Namespace)
			best[r.Namespace] = r
			continue
		}
		if rank(r) < rank(b) {
			best[r.Namespace] = r
		}
	}
	slices.Sort(keys)
	var out []incident.Ref
	for _, k := range keys {
		// A name that another mention already brought in with its namespace is
		// not a second subject elsewhere.
		if len(keys) > 1 && slices.Contains(have, best[k]) {
			return []incident.Ref{best[k]}
		}
		out = append(out, best[k])
	}
	return out
}

func ambiguous(refs []incident.Ref) bool {
	return len(refs) > 1
}

func notFound(missing []tool.Mention, near []incident.Ref, noNamespace string) *incident.Clarification {
	var names []string
	for _, m := range missing {
		n := m.Name
		if m.Namespace != "" {
			n = m.Namespace + "/" + n
		}
		if m.Kind != "" {
			n = m.Kind + " " + n
		}
		names = append(names, n)
	}
	text := strings.Join(names, ", ") + " does not exist"
	if len(names) > 1 {
		text = strings.Join(names, ", ") + " do not exist"
	}
	if noNamespace != "" {
		text += fmt.Sprintf(" (there is no namespace %s)", noNamespace)
	}
	near = limit(near, 5)
	if len(near) > 0 {
		var n []string
		for _, r := range near {
			n = append(n, r.String())
		}
		text += "; near it: " + strings.Join(n, ", ")
	}
	return &incident.Clarification{Text: text, Choices: near}
}

// namespaced reports whether a kind lives in namespaces; an unsaid kind may.
func namespaced(kind string) bool {
	switch kind {
	case "Node", "Namespace", "PersistentVolume", "StorageClass", "DeviceClass", "DeviceTaintRule", "GatewayClass":
		return false
	}
	return true
}

func limit[T any](in []T, n int) []T {
	if len(in) > n {
		return in[:n]
	}
	return in
}

func appendNew[T comparable](in []T, add ...T) []T {
	for _, a := range add {
		if !slices.Contains(in, a) {
			in = append(in, a)
		}
	}
	return in
}
