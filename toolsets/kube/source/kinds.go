package source

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// discoveryTTL is how long the list of served kinds is reused; a CRD installed
// in between is seen that much later.
const discoveryTTL = 10 * time.Minute

// Mapping is a kind as the server serves it, in the version it prefers.
type Mapping struct {
	GVR        schema.GroupVersionResource
	Kind       string
	Namespaced bool
	Singular   string
	ShortNames []string
	Verbs      []string
}

// GVK gives the mapping's group, version and kind.
func (m Mapping) GVK() schema.GroupVersionKind { return m.GVR.GroupVersion().WithKind(m.Kind) }

// Can reports whether the server offers a verb for the kind.
func (m Mapping) Can(verb string) bool { return slices.Contains(m.Verbs, verb) }

// ns gives the namespace to ask for: none for a cluster-scoped kind.
func (m Mapping) ns(namespace string) string {
	if m.Namespaced {
		return namespace
	}
	return ""
}

// Served is what discovery told about a server.
type Served struct {
	Version string
	Kinds   []Mapping
	// Broken lists groups whose discovery failed, for example aggregated APIs
	// without a backend.
	Broken []string
	// gaps say why, for Limits.
	gaps []incident.Gap
}

// Has reports whether a resource of a group is served, in any version.
func (d *Served) Has(group, resource string) bool {
	return slices.ContainsFunc(d.Kinds, func(m Mapping) bool { return m.GVR.Group == group && m.GVR.Resource == resource })
}

// spoken are words people use for kinds beside the names, plurals and short
// names that the server publishes; each lists the resources it may mean.
func spoken(word string) []string {
	switch word {
	case "claim", "claims":
		return []string{"resourceclaims", "persistentvolumeclaims"}
	case "rc":
		return []string{"resourceclaims", "replicationcontrollers"}
	case "rct", "claimtemplate", "claim-template", "claimtemplates":
		return []string{"resourceclaimtemplates"}
	case "slice", "slices":
		return []string{"resourceslices"}
	case "volumeclaim":
		return []string{"persistentvolumeclaims"}
	case "volume", "volumes":
		return []string{"persistentvolumes"}
	case "autoscaler":
		return []string{"horizontalpodautoscalers"}
	case "budget":
		return []string{"poddisruptionbudgets"}
	case "route", "routes":
		return []string{"httproutes"}
	case "machine", "host":
		return []string{"nodes"}
	case "crd", "crds":
		return []string{"customresourcedefinitions"}
	}
	return nil
}

// Discovered gives what the server serves, cached.
func (s *Source) Discovered(ctx context.Context) (*Served, error) {
	v, err := s.cache.Do(tool.FreshFrom(ctx, time.Time{}), "discovery", func(ctx context.Context) tool.Answer[any] {
		d, err := s.discover(ctx)
		if err != nil {
			return tool.Answer[any]{Err: err}
		}
		return tool.Answer[any]{Value: d, Weight: len(d.Kinds), For: max(discoveryTTL, s.ttl)}
	})
	if err != nil {
		return nil, s.fail(call{verb: "read", resource: "the list of served kinds"}, err)
	}
	d := v.(*Served)
	for _, g := range d.gaps { // whoever is given it anew does not see them either
		s.unseen.Add(g)
	}
	return d, nil
}

func (s *Source) discover(ctx context.Context) (*Served, error) {
	groups, lists, err := serverGroupsAndResources(ctx, s.disco)
	broken := map[schema.GroupVersion]error{}
	if failed, ok := errors.AsType[*discovery.ErrGroupDiscoveryFailed](err); ok {
		broken = failed.Groups
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if len(lists) == 0 && len(broken) > 0 {
		for _, e := range broken {
			return nil, e
		}
	}
	d := &Served{}
	for gv, e := range broken {
		d.Broken = append(d.Broken, gv.String())
		d.gaps = append(d.gaps, incident.Gap{Source: "Kubernetes API: " + gv.String(), Why: "discovery of " + gv.String() + " failed: " + e.Error(), Fix: "look at APIService " + gv.Version + "." + gv.Group})
	}
	slices.Sort(d.Broken)
	if v, err := s.ServerVersion(ctx); err == nil {
		d.Version = v.GitVersion
	}
	d.Kinds = preferred(groups, lists)
	return d, nil
}

// preferred keeps one version of each resource: the group's preferred one where
// it has the resource, else the first the server lists.
func preferred(groups []*metav1.APIGroup, lists []*metav1.APIResourceList) []Mapping {
	rank := map[string]int{} // group/version -> position, smaller is better
	for _, g := range groups {
		for i, v := range g.Versions {
			rank[v.GroupVersion] = i + 1
		}
		rank[g.PreferredVersion.GroupVersion] = 0
	}
	at := map[schema.GroupResource]int{}
	best := map[schema.GroupResource]int{}
	var out []Mapping
	for _, l := range lists {
		if l == nil {
			continue
		}
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue
		}
		r, ok := rank[l.GroupVersion]
		if !ok {
			r = len(lists)
		}
		for _, res := range l.APIResources {
			if strings.Contains(res.Name, "/") {
				continue
			}
			m := Mapping{GVR: gv.WithResource(res.Name), Kind: res.Kind, Namespaced: res.Namespaced, Singular: res.SingularName, ShortNames: res.ShortNames, Verbs: res.Verbs}
			k := m.GVR.GroupResource()
			i, seen := at[k]
			switch {
			case !seen:
				at[k], best[k] = len(out), r
				out = append(out, m)
			case r < best[k]:
				out[i], best[k] = m, r
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Mapping) int {
		if c := groupRank(a.GVR.Group) - groupRank(b.GVR.Group); c != 0 {
			return c
		}
		if c := strings.Compare(a.GVR.Group, b.GVR.Group); c != 0 {
			return c
		}
		return strings.Compare(a.GVR.Resource, b.GVR.Resource)
	})
	return out
}

// groupRank orders groups for words that several of them use ("events",
// "ingresses"): what people mean comes first.
func groupRank(group string) int {
	switch {
	case group == "":
		return 0
	case group == "apps":
		return 1
	case group == "batch":
		return 2
	case !strings.Contains(group, "."):
		return 3
	case strings.HasSuffix(group, ".k8s.io") && strings.Count(group, ".") == 2:
		return 4
	case group == "metrics.k8s.io":
		// Its "pods" and "nodes" are figures, not the objects.
		return 9
	default:
		return 6
	}
}

// Kind finds the served kind a word means: a kind, plural, singular or short
// name, "resource.group", "Kind.group", or a word people use ("claim",
// "volume"). It reports false when nothing served answers to the word or
// discovery failed; Find tells the two apart.
func (s *Source) Kind(ctx context.Context, word string) (Mapping, bool) {
	m, err := s.Find(ctx, word)
	return m, err == nil
}

// Find is Kind with the reason: kind NotServed when the server has no such
// kind, or the error of discovery.
func (s *Source) Find(ctx context.Context, word string) (Mapping, error) {
	d, err := s.Discovered(ctx)
	if err != nil {
		return Mapping{}, err
	}
	if m, ok := d.find(word); ok {
		return m, nil
	}
	te := &tool.Error{Kind: tool.NotServed, User: "the API server has no kind " + quote(word)}
	if near := d.near(word); near != "" {
		te.Fix = "did you mean " + near + "?"
	}
	return Mapping{}, te
}

func (d *Served) find(word string) (Mapping, bool) {
	w := strings.ToLower(strings.TrimSpace(word))
	if w == "" {
		return Mapping{}, false
	}
	name, group, qualified := strings.Cut(w, ".")
	is := func(m Mapping, n string) bool {
		return strings.EqualFold(m.Kind, n) || m.GVR.Resource == n || m.Singular == n || slices.Contains(m.ShortNames, n)
	}
	// A name as published beats words people use; the order of Kinds decides among groups.
	for _, m := range d.Kinds {
		if !qualified && is(m, w) {
			return m, true
		}
		if qualified && is(m, name) && (m.GVR.Group == group || m.GVR.Version+"."+m.GVR.Group == group || m.GVR.Group == "" && m.GVR.Version == group) {
			return m, true
		}
	}
	for _, res := range spoken(w) {
		for _, m := range d.Kinds {
			if m.GVR.Resource == res {
				return m, true
			}
		}
	}
	// "pod's", "PodList", "rayClusters" in whatever case.
	for _, trim := range []string{"list", "es", "s"} {
		if short, ok := strings.CutSuffix(w, trim); ok && short != "" {
			for _, m := range d.Kinds {
				if strings.EqualFold(m.Kind, short) {
					return m, true
				}
			}
		}
	}
	return Mapping{}, false
}

// near offers the kind whose name is closest, empty if none is close.
func (d *Served) near(word string) string {
	w := strings.ToLower(word)
	best, at := "", 3
	if len(w) < 5 {
		at = 2
	}
	for _, m := range d.Kinds {
		for _, name := range []string{strings.ToLower(m.Kind), m.GVR.Resource} {
			if n := Distance(w, name, at); n < at {
				best, at = m.Kind, n
			}
		}
	}
	return best
}

// Distance is the number of letters to insert, delete or replace to turn one
// word into another (Levenshtein), at most limit.
func Distance(a, b string, limit int) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(a)+1)
	for i := range row {
		row[i] = i
	}
	for j := 1; j <= len(b); j++ {
		diag := row[0]
		row[0] = j
		least := j
		for i := 1; i <= len(a); i++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[i]
			row[i] = min(cost, row[i]+1, row[i-1]+1)
			least = min(least, row[i])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(a)], limit)
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return `"` + strings.ReplaceAll(s, `"`, `'`) + `"`
}

// MappingOf finds the served kind of a reference; the group, when given, counts.
func (s *Source) MappingOf(ctx context.Context, r incident.Ref) (Mapping, error) {
	if r.Group != "" {
		return s.Find(ctx, r.Kind+"."+r.Group)
	}
	return s.Find(ctx, r.Kind)
}

// ServerVersion gives the version the server reports.
func (s *Source) ServerVersion(ctx context.Context) (*version.Info, error) {
	return cached(ctx, s, call{verb: "get", resource: "version", name: "version"}, func(ctx context.Context) (*version.Info, int, error) {
		v, err := serverVersion(ctx, s.disco)
		return v, 1, err
	})
}

// serverVersion and serverGroupsAndResources honour the context where the
// discovery client does; the plain interface has no context.
func serverVersion(ctx context.Context, d discovery.DiscoveryInterface) (*version.Info, error) {
	if c, ok := d.(interface {
		ServerVersionWithContext(context.Context) (*version.Info, error)
	}); ok {
		return c.ServerVersionWithContext(ctx)
	}
	return d.ServerVersion()
}

func serverGroupsAndResources(ctx context.Context, d discovery.DiscoveryInterface) ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	if c, ok := d.(interface {
		ServerGroupsAndResourcesWithContext(context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error)
	}); ok {
		return c.ServerGroupsAndResourcesWithContext(ctx)
	}
	return d.ServerGroupsAndResources()
}
