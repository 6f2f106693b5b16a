package triage

import (
	"context"
	"fmt"
	"maps"
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
// clarification that says why; with subjects it is a remark.
func (s *session) resolve(ctx context.Context, q incident.Question, r reading) ([]incident.Ref, *incident.Clarification, error) {
	if q.Cluster != "" && s.cluster != "" && q.Cluster != s.cluster {
		return nil, &incident.Clarification{Text: fmt.Sprintf("the question is about cluster %s, and this is %s: ask there", q.Cluster, s.cluster)}, nil
	}
	if len(q.Subjects) > 0 {
		return q.Subjects, nil, nil
	}
	alert := q.Alert
	if alert == nil {
		alert = r.alert
	}
	if alert != nil {
		if refs := AlertSubjects(*alert, s.cluster); len(refs) > 0 {
			return s.existing(ctx, refs)
		}
	}
	if err := s.locate(ctx, q, &r); err != nil {
		return nil, nil, err
	}
	n := names{session: s, reading: r, alert: alert != nil}
	for _, m := range r.firm {
		if err := n.look(ctx, m, true); err != nil {
			return nil, nil, err
		}
	}
	for _, m := range r.soft {
		if err := n.look(ctx, m, false); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case n.many != nil:
		return nil, n.many, nil
	case len(n.found) > 0 && n.ask == nil && len(n.missing) > 0:
		return n.found, notFound(n.missing, n.near, n.noNamespace, n.unknown), nil
	case len(n.found) > 0:
		return n.found, n.ask, nil
	case len(n.missing) > 0:
		// A name that does not exist is answered as such, also when other words of
		// the question are names of something: the person asked about this one.
		return nil, notFound(n.missing, n.near, n.noNamespace, n.unknown), nil
	}
	return s.resolveLoose(ctx, r, n.tried, earlier(q))
}

// earlier is what the last answer of the conversation was about.
func earlier(q incident.Question) []incident.Ref {
	if len(q.Before) == 0 {
		return nil
	}
	return q.Before[len(q.Before)-1].Subjects
}

// names collects what the names of a question turn out to be.
type names struct {
	*session
	reading
	// alert is set when the words come from an alert: its prose is no question,
	// so nothing in it is held to be a name that must exist.
	alert   bool
	looked  int
	found   []incident.Ref
	near    []incident.Ref
	missing []tool.Mention
	// tried are names that turned out to be none.
	tried       []string
	noNamespace string
	// unknown is why a look-up failed: a name may exist all the same.
	unknown   string
	ask, many *incident.Clarification
}

// look looks one name up. A firm one that is not there is missing; a soft one is
// only where something comes near, or where its namespace is there without it.
func (n *names) look(ctx context.Context, m tool.Mention, firm bool) error {
	if n.looked++; n.looked > maxMentions {
		n.gap(incident.Gap{Source: "the name " + m.Name, Why: fmt.Sprintf("the question holds more than %d names", maxMentions), Fix: "ask about fewer at once"})
		return nil
	}
	scoped := m.Namespace != ""
	if !scoped && namespaced(m.Kind) {
		m.Namespace = n.namespace
	}
	res, unknown, err := n.lookup(ctx, m)
	if err != nil {
		return err
	}
	exact := prefer(res.Exact, n.found, n.traffic)
	switch {
	case len(exact) == 0:
		if (firm || len(res.Near) > 0 || scoped && !res.NoNamespace) && !n.alert {
			n.missing = append(n.missing, m)
			n.near = appendNew(n.near, res.Near...)
			n.unknown = first(n.unknown, unknown)
			if res.NoNamespace {
				n.noNamespace = m.Namespace
			}
		} else {
			n.tried = appendNew(n.tried, m.Name)
		}
	case len(exact) > maxEach:
		n.many = &incident.Clarification{Text: fmt.Sprintf("%s exists in %d namespaces; say which one, for example with -n", m.Name, len(exact)), Choices: exact}
	case len(exact) > 1:
		n.ask = &incident.Clarification{Text: fmt.Sprintf("%s exists in several namespaces; each is answered. Name one with -n NAMESPACE to narrow it", m.Name), Choices: exact}
		n.found = appendNew(n.found, exact...)
	default:
		n.found = appendNew(n.found, exact...)
	}
	return nil
}

// locate settles the namespace where the text only hints at it, "pending in
// train", and takes the words that name it out of the names.
func (s *session) locate(ctx context.Context, q incident.Question, r *reading) error {
	if !r.said && q.Namespace == "" {
		for _, p := range r.places {
			res, _, err := s.lookup(ctx, tool.Mention{Kind: "Namespace", Name: p})
			if err != nil {
				return err
			}
			if slices.ContainsFunc(res.Exact, func(x incident.Ref) bool { return x.Kind == "Namespace" && x.Name == p }) {
				r.namespace, r.said = p, true
				break
			}
		}
	}
	if r.namespace == "" {
		return nil
	}
	isPlace := func(m tool.Mention) bool {
		return m.Name == r.namespace && m.Namespace == "" && m.Kind == "" && slices.Contains(r.places, m.Name)
	}
	r.firm = slices.DeleteFunc(slices.Clone(r.firm), isPlace)
	r.soft = slices.DeleteFunc(slices.Clone(r.soft), isPlace)
	r.loose = slices.DeleteFunc(slices.Clone(r.loose), isPlace)
	return nil
}

// existing keeps the subjects of an alert that are there. An alert outlives its
// pod: one that is gone is said to be, with what came in its place.
func (s *session) existing(ctx context.Context, refs []incident.Ref) ([]incident.Ref, *incident.Clarification, error) {
	if len(s.resolvers()) == 0 {
		return refs, nil, nil
	}
	n := names{session: s}
	for _, ref := range refs {
		m := tool.Mention{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
		res, unknown, err := s.lookup(ctx, m)
		switch {
		case err != nil:
			return nil, nil, err
		case unknown != "" && len(res.Exact) == 0:
			n.found = appendNew(n.found, ref) // it may be there; the checks will tell
		case len(res.Exact) > 0:
			n.found = appendNew(n.found, ref)
		default:
			n.missing = append(n.missing, m)
			n.near = appendNew(n.near, res.Near...)
			if res.NoNamespace {
				n.noNamespace = m.Namespace
			}
		}
	}
	var ask *incident.Clarification
	if len(n.missing) > 0 {
		ask = notFound(n.missing, n.near, n.noNamespace, "")
	}
	return n.found, ask, nil
}

// resolveLoose is for questions without a written name: plain words that happen
// to be names, else the namespace, else the whole cluster. tried are words that
// were looked up already and are no names; earlier is what the conversation is about,
// which a question means that names nothing.
func (s *session) resolveLoose(ctx context.Context, r reading, tried []string, earlier []incident.Ref) ([]incident.Ref, *incident.Clarification, error) {
	var found, places []incident.Ref
	for _, m := range limit(r.loose, maxMentions) {
		if m.Namespace == "" && namespaced(m.Kind) {
			m.Namespace = r.namespace
		}
		res, _, err := s.lookup(ctx, m)
		if err != nil {
			return nil, nil, err
		}
		hit := prefer(res.Exact, nil, r.traffic)
		switch {
		case len(hit) == 0 || len(hit) > maxEach:
			tried = appendNew(tried, m.Name)
		case hit[0].Kind == "Namespace":
			places = appendNew(places, hit...)
		default:
			found = appendNew(found, hit...)
		}
	}
	if len(found) > 0 {
		return found, nil, nil
	}
	// An ordinary word that is also the name of a namespace ("monitoring") counts
	// only where no namespace was said.
	if r.namespace == "" && len(places) > 0 {
		return places, nil, nil
	}
	if len(earlier) > 0 && !r.said {
		return earlier, nil, nil
	}
	var remark *incident.Clarification
	say := func(where string) {
		switch {
		case len(places) > 0:
			remark = &incident.Clarification{Text: fmt.Sprintf("%s is a namespace too; %s was looked at, as said", places[0].Name, where), Choices: places}
		case len(tried) > 0:
			remark = &incident.Clarification{Text: fmt.Sprintf("nothing here is called %s, so %s was looked at as a whole; name an object to narrow it", strings.Join(limit(tried, 5), ", "), where)}
		}
	}
	if r.namespace != "" {
		ref := incident.Ref{Cluster: s.cluster, Kind: "Namespace", Name: r.namespace}
		m := tool.Mention{Kind: "Namespace", Name: r.namespace}
		res, unknown, err := s.lookup(ctx, m)
		if err != nil {
			return nil, nil, err
		}
		if len(res.Exact) == 0 && unknown == "" && len(s.resolvers()) > 0 {
			return nil, notFound([]tool.Mention{m}, res.Near, "", ""), nil
		}
		say("namespace " + r.namespace)
		return []incident.Ref{ref}, remark, nil
	}
	if !r.trouble {
		return nil, &incident.Clarification{Text: "the question names nothing in this cluster; name an object (\"why is pod train/llama-0 pending\") or ask \"what is wrong in namespace X\""}, nil
	}
	say("the cluster")
	return []incident.Ref{{Cluster: s.cluster, Kind: "Cluster", Name: first(s.cluster, "this cluster")}}, remark, nil
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

// lookup asks every resolver; only an unreachable source ends the run. unknown
// says why a resolver could not answer: what was not found may exist then.
func (s *session) lookup(ctx context.Context, m tool.Mention) (all tool.Resolution, unknown string, err error) {
	for _, r := range s.resolvers() {
		res, err := r.Resolve(ctx, m)
		if err != nil {
			if unreachable(err) || ctx.Err() != nil {
				return all, "", err
			}
			unknown = first(unknown, tool.UserText(err))
			s.gap(incident.Gap{Source: "looking up " + m.Name, Why: tool.UserText(err)})
			continue
		}
		all.Exact = appendNew(all.Exact, res.Exact...)
		all.Near = appendNew(all.Near, res.Near...)
		all.NoNamespace = all.NoNamespace || res.NoNamespace
	}
	return all, unknown, nil
}

// tier orders what a bare name means to people: things that run, things that
// lead to them or feed them, places, and the rest, which only describes.
func tier(r incident.Ref) (tier, rank int) {
	for i, kinds := range [][]string{
		{"Pod", "ModelDeployment", "MultiRoleInference", "InferenceSet", "Workspace", "LLMInferenceService", "DisaggregatedSet", "LeaderWorkerSet", "JobSet", "RayService", "RayCluster", "RayJob",
			"InferenceService", "PyTorchJob", "MPIJob", "TFJob", "TrainJob", "DynamoGraphDeployment", "PodCliqueSet", "Notebook",
			"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "Node"},
		{"ResourceClaim", "Service", "Ingress", "HTTPRoute", "GRPCRoute", "Gateway", "InferencePool", "PersistentVolumeClaim", "HorizontalPodAutoscaler"},
		{"Namespace"},
	} {
		if j := slices.Index(kinds, r.Kind); j >= 0 {
			return i, j
		}
	}
	return 3, 0
}

// prefer narrows several kinds of one name to what people mean: things that run
// before things that describe, wherever they are, and in one namespace the
// object that owns the others. Objects of different namespaces all stay. Who asks
// about requests means the pool that answers them, and what is beneath it.
func prefer(refs, have []incident.Ref, traffic bool) []incident.Ref {
	tier := tier
	if pool := func(r incident.Ref) bool { return r.Kind == "InferencePool" }; traffic && slices.ContainsFunc(refs, pool) {
		of := tier
		tier = func(r incident.Ref) (int, int) {
			if pool(r) {
				return 0, -1
			}
			return of(r)
		}
	}
	top := 9
	for _, r := range refs {
		t, _ := tier(r)
		top = min(top, t)
	}
	best := map[string]incident.Ref{}
	for _, r := range refs {
		t, rank := tier(r)
		if t != top {
			continue
		}
		b, ok := best[r.Namespace]
		_, other := tier(b)
		if !ok || rank < other {
			best[r.Namespace] = r
		}
	}
	if len(best) > 1 {
		delete(best, "") // beside things in namespaces, one in none is not meant
	}
	keys := slices.Sorted(maps.Keys(best))
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

// notFound says which names are not there and what comes near. unknown says why
// the look-up failed; then nothing is known of them.
func notFound(missing []tool.Mention, near []incident.Ref, noNamespace, unknown string) *incident.Clarification {
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
	text := strings.Join(names, ", ")
	switch {
	case unknown != "":
		text += " could not be looked up: " + unknown
	case len(names) > 1:
		text += " do not exist"
	default:
		text += " does not exist"
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
