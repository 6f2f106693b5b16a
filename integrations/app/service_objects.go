package app

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// completed are the kinds whose names a person is likely to type.
func completed() []struct {
	kind string
	gvr  schema.GroupVersionResource
} {
	type k = struct {
		kind string
		gvr  schema.GroupVersionResource
	}
	return []k{
		{"Namespace", schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}},
		{"Node", schema.GroupVersionResource{Version: "v1", Resource: "nodes"}},
		{"Pod", schema.GroupVersionResource{Version: "v1", Resource: "pods"}},
		{"Deployment", schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}},
		{"StatefulSet", schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}},
		{"Job", schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}},
		{"Service", schema.GroupVersionResource{Version: "v1", Resource: "services"}},
		{"PersistentVolumeClaim", schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}},
		{"ResourceClaim", schema.GroupVersionResource{Group: "resource.k8s.io", Version: "v1", Resource: "resourceclaims"}},
	}
}

// Bounds of completion.
const (
	objectsFresh = 30 * time.Second
	objectsEach  = 2000
	objectsWait  = 3 * time.Second
)

// objectCache remembers names for a moment: a person types a letter at a time.
type objectCache struct {
	mu   sync.Mutex
	at   time.Time
	refs []incident.Ref
}

// Objects gives objects whose names begin with a prefix, then those that hold it.
// "kind/name" and "namespace/name" are understood. What cannot be listed is left out.
func (s *Service) Objects(ctx context.Context, prefix string, limit int) ([]incident.Ref, error) {
	refs, err := s.objects.get(ctx, s.app)
	if err != nil {
		return nil, err
	}
	where, name, scoped := strings.Cut(strings.ToLower(prefix), "/")
	if !scoped {
		name, where = where, ""
	}
	type hit struct {
		incident.Ref
		rank int
	}
	var hits []hit
	for _, r := range refs {
		if scoped && strings.ToLower(r.Kind) != where && r.Namespace != where {
			continue
		}
		switch i := strings.Index(strings.ToLower(r.Name), name); {
		case i == 0:
			hits = append(hits, hit{r, 0})
		case i > 0:
			hits = append(hits, hit{r, 1})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	out := make([]incident.Ref, 0, min(len(hits), max(limit, 0)))
	for _, h := range hits[:min(len(hits), max(limit, 0))] {
		out = append(out, h.Ref)
	}
	return out, nil
}

func (c *objectCache) get(ctx context.Context, a *App) ([]incident.Ref, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refs != nil && time.Since(c.at) < objectsFresh {
		return c.refs, nil
	}
	m, err := metadata.NewForConfig(a.src.rest)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, objectsWait)
	defer stop()
	refs := []incident.Ref{}
	for _, k := range completed() {
		l, err := m.Resource(k.gvr).List(ctx, metav1.ListOptions{Limit: objectsEach})
		if err != nil {
			continue
		}
		for _, o := range l.Items {
			refs = append(refs, incident.Ref{Cluster: a.src.cluster, Namespace: o.Namespace, Group: k.gvr.Group, Kind: k.kind, Name: o.Name})
		}
	}
	c.refs, c.at = refs, time.Now()
	return refs, nil
}
