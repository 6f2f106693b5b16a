package kube

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// candidate is an object that may be meant, with how far it is from the words.
type candidate struct {
	ref  incident.Ref
	far  int
	tail int // length difference, the tie-break
}

// near finds what may have been meant, best first.
func (s *search) near(ctx context.Context, m tool.Mention) ([]incident.Ref, error) {
	var out []incident.Ref
	add := func(refs ...incident.Ref) {
		for _, r := range refs {
			if !slices.Contains(out, r) && len(out) < maxNear {
				out = append(out, r)
			}
		}
	}
	// The name as written, elsewhere or of another kind.
	if m.Namespace != "" || m.Kind != "" {
		elsewhere := m
		elsewhere.Namespace = ""
		refs, err := s.exact(ctx, namedKinds(), elsewhere)
		if err != nil && tool.KindOf(err) != tool.Forbidden {
			return nil, err
		}
		slices.SortStableFunc(refs, func(a, b incident.Ref) int {
			return cmp.Compare(place(a, m), place(b, m))
		})
		add(refs...)
	}
	kinds := nearKinds(m)
	if m.Kind != "" && !slices.Contains(kinds, m.Kind) {
		kinds = append([]string{m.Kind}, kinds...)
	}
	like := newNearness(m.Name)
	found := map[string]*[]candidate{}
	for _, k := range kinds {
		found[k] = &[]candidate{}
	}
	_, err := s.each(ctx, kinds, func(ctx context.Context, k source.Mapping) ([]incident.Ref, error) {
		into := found[k.GVR.GroupResource().String()]
		list, err := s.names(ctx, k, m.Namespace)
		for _, ref := range list {
			if far, ok := like.distance(ref.Name); ok {
				if k.GVR.GroupResource().String() != m.Kind && m.Kind != "" {
					far++
				}
				*into = append(*into, candidate{ref, far, abs(len(ref.Name) - len(m.Name))})
			}
		}
		return nil, err
	})
	if err != nil && tool.KindOf(err) != tool.Forbidden {
		return nil, err
	}
	var all []candidate
	for _, k := range kinds {
		all = append(all, *found[k]...)
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.tail, b.tail), cmp.Compare(kindRank(a.ref), kindRank(b.ref)), strings.Compare(a.ref.Path(), b.ref.Path()))
	})
	for _, c := range all {
		add(c.ref)
	}
	return out, nil
}

// place prefers the said namespace, then the said kind.
func place(r incident.Ref, m tool.Mention) int {
	if r.Namespace == m.Namespace {
		return 0
	}
	return 1
}

// kindRank puts what runs before what describes: of a gone pod's relatives the
// pods of today come first.
func kindRank(r incident.Ref) int {
	if i := slices.Index([]string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "Node"}, r.Kind); i >= 0 {
		return i
	}
	return 9
}

// names lists the objects of a kind in a namespace, or where this identity may
// look. The list is cached, so that all words of a question share it.
func (s *search) names(ctx context.Context, k source.Mapping, namespace string) ([]incident.Ref, error) {
	list, err := s.src.MetadataList(ctx, k, namespace, source.Selectors{})
	if err != nil && tool.KindOf(err) == tool.Forbidden && namespace == "" && s.namespace != "" && k.Namespaced {
		list, err = s.src.MetadataList(ctx, k, s.namespace, source.Selectors{})
	}
	out := make([]incident.Ref, 0, len(list))
	for _, o := range list {
		out = append(out, s.src.Ref(k.GVR.Group, k.Kind, o.Namespace, o.Name))
	}
	return out, err
}

// nearness compares names with one that was written.
type nearness struct {
	// suffix is what controllers append to names: a ReplicaSet's hash and a pod's
	// five letters, a Job's index, a StatefulSet's ordinal. The alphabet is that
	// of apimachinery util/rand: no vowels, no 0, 1 and 3.
	suffix        *regexp.Regexp
	written, base string
}

func newNearness(written string) *nearness {
	const r = `[bcdfghjklmnpqrstvwxz2456789]`
	n := &nearness{suffix: regexp.MustCompile(`(?:-` + r + `{6,10}-` + r + `{5}|-[0-9]{1,4}-` + r + `{5}|-` + r + `{5}|-[0-9]{1,5})$`)}
	n.written = strings.ToLower(written)
	n.base = n.strip(n.written)
	return n
}

// strip takes off what controllers append.
func (n *nearness) strip(name string) string {
	if m := n.suffix.FindStringIndex(name); m != nil && m[0] > 0 {
		return name[:m[0]]
	}
	return name
}

// distance says how far a name is from what was written, small is near:
//
//	0  the same, letter case aside
//	1  of the same set: written "web-7d9f8b6c5d-x2k4p", there is "web-55c9d8f7b-q9zzt"
//	2  a suffix is missing or too much: written "web", there is "web-0", or the reverse
//	3+ a few letters differ
func (n *nearness) distance(other string) (int, bool) {
	w, o := n.written, strings.ToLower(other)
	if w == o {
		return 0, true
	}
	wb, ob := n.base, n.strip(o)
	switch {
	case wb == ob && wb != w && ob != o:
		return 1, true
	case wb == o && wb != w, ob == w && ob != o:
		return 2, true
	case len(w) >= 4 && strings.HasPrefix(o, w+"-"):
		return 2, true
	}
	limit := 2
	switch {
	case len(w) < 4:
		limit = 1
	case len(w) >= 8:
		limit = 3
	}
	if d := source.Distance(w, o, limit+1); d <= limit {
		return 2 + d, true
	}
	// "lama" for "llama-ft-0": compare without what controllers append.
	if ob != o && len(w) >= 5 {
		if d := source.Distance(w, ob, limit); d < limit {
			return 3 + d, true
		}
	}
	return 0, false
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
