package dra

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// tried remembers the last attempt. A pod and the claim it waits for are often
// explained one after the other, and the claim's explanation is its pod's.
type tried struct {
	mu    sync.Mutex
	world *world
	of    string
	out   Explanation
	fs    []incident.Finding
	es    []incident.Edge
}

// tryOnce is tryNodes, save that the same question about the same state of the
// cluster is not worked out twice.
func (t *Toolset) tryOnce(ctx context.Context, s *subject, out *Explanation) ([]incident.Finding, []incident.Edge, error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	of := s.identity()
	t.tried.mu.Lock()
	defer t.tried.mu.Unlock()
	if t.tried.world == w && t.tried.of == of {
		*out = t.tried.out
		return slices.Clone(t.tried.fs), slices.Clone(t.tried.es), nil
	}
	fs, es, err := t.tryNodes(ctx, s, out)
	if err != nil {
		return nil, nil, err
	}
	out.Notes, out.Limits, out.Claims = slices.Clip(out.Notes), slices.Clip(out.Limits), slices.Clip(out.Claims)
	t.tried.world, t.tried.of, t.tried.out, t.tried.fs, t.tried.es = w, of, *out, slices.Clone(fs), slices.Clone(es)
	return fs, es, nil
}

// identity names the pod and the claims of an attempt in their present state.
func (s *subject) identity() string {
	var b strings.Builder
	if s.pod != nil {
		b.WriteString(s.pod.Namespace + "/" + s.pod.Name + "/" + string(s.pod.UID) + "@" + s.pod.ResourceVersion)
	}
	for _, c := range s.claims {
		b.WriteString("\x00" + c.Namespace + "/" + c.Name + "/" + string(c.UID) + "@" + c.ResourceVersion)
	}
	return b.String()
}
