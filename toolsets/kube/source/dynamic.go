package source

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Selectors narrow a list on the server; empty means everything.
type Selectors struct {
	Labels string
	Fields string
}

// isSecret reports whether a mapping's objects hold values that are never read.
func isSecret(m Mapping) bool { return m.GVR.Group == "" && m.GVR.Resource == "secrets" }

// Get reads an object of any served kind. Of a Secret only the metadata is read.
func (s *Source) Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error) {
	m, err := s.MappingOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.GetMapped(ctx, m, ref.Namespace, ref.Name)
}

// GetMapped is Get for a kind already found. managedFields are kept.
func (s *Source) GetMapped(ctx context.Context, m Mapping, namespace, name string) (*unstructured.Unstructured, error) {
	if m.Namespaced && namespace == "" {
		return nil, &tool.Error{Kind: tool.Invalid, User: m.Kind + " " + name + " needs a namespace", Fix: "give the namespace"}
	}
	if isSecret(m) {
		o, err := s.Metadata(ctx, m, namespace, name)
		if err != nil {
			return nil, err
		}
		return metadataObject(m, o)
	}
	c := call{group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), name: name, extra: "dynamic/" + m.GVR.Version}
	return getOne(ctx, s, c, func(ctx context.Context, name string, o metav1.GetOptions) (*unstructured.Unstructured, error) {
		return s.dynamic.Resource(m.GVR).Namespace(c.namespace).Get(ctx, name, o)
	})
}

// metadataObject shows metadata in the shape of an object.
func metadataObject(m Mapping, o *metav1.PartialObjectMetadata) (*unstructured.Unstructured, error) {
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Internal, User: "cannot show the metadata of " + m.Kind + " " + o.Name, Err: err}
	}
	u := &unstructured.Unstructured{Object: raw}
	u.SetGroupVersionKind(m.GVK())
	return u, nil
}

// List lists objects of a kind by a word for it ("httproutes",
// "resourceclaims"), narrowed on the server. Of Secrets only metadata is read.
func (s *Source) List(ctx context.Context, kind, namespace string, sel Selectors) ([]*unstructured.Unstructured, error) {
	m, err := s.Find(ctx, kind)
	if err != nil {
		return nil, err
	}
	return s.ListMapped(ctx, m, namespace, sel)
}

// ListMapped is List for a kind already found. managedFields are left out.
func (s *Source) ListMapped(ctx context.Context, m Mapping, namespace string, sel Selectors) ([]*unstructured.Unstructured, error) {
	if isSecret(m) {
		metas, err := s.MetadataList(ctx, m, namespace, sel)
		if err != nil {
			return nil, err
		}
		out := make([]*unstructured.Unstructured, 0, len(metas))
		for _, o := range metas {
			u, err := metadataObject(m, o)
			if err != nil {
				return nil, err
			}
			out = append(out, u)
		}
		return out, nil
	}
	c := call{group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), labels: sel.Labels, fields: sel.Fields, extra: "dynamic/" + m.GVR.Version}
	return listAll(ctx, s, c, s.dynamic.Resource(m.GVR).Namespace(c.namespace).List,
		func(l *unstructured.UnstructuredList) []unstructured.Unstructured { return l.Items })
}

// Count tells how many objects a list would hold, from one page of metadata
// and the server's own count of what remains where it gives one (it does not
// when a selector is set; then every page is counted).
func (s *Source) Count(ctx context.Context, m Mapping, namespace string, sel Selectors) (int, error) {
	if sel == (Selectors{}) {
		c := call{verb: "list", group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), extra: "count"}
		n, err := cached(ctx, s, c, func(ctx context.Context) (int, int, error) {
			l, err := s.meta.list(ctx, m.GVR, c.namespace, metav1.ListOptions{Limit: 1})
			if err != nil {
				return 0, 0, err
			}
			if l.Continue == "" {
				return len(l.Items), 1, nil
			}
			if l.RemainingItemCount == nil {
				return 0, 0, apierrors.NewMethodNotSupported(m.GVR.GroupResource(), "count")
			}
			return len(l.Items) + int(*l.RemainingItemCount), 1, nil
		})
		if err == nil || tool.KindOf(err) != tool.NotServed {
			return n, err
		}
	}
	l, err := s.MetadataList(ctx, m, namespace, sel)
	return len(l), err
}

// APIServices lists the registered API groups with their availability
// (kube-aggregator's apiregistration.k8s.io).
func (s *Source) APIServices(ctx context.Context) ([]*unstructured.Unstructured, error) {
	return s.List(ctx, "apiservices.apiregistration.k8s.io", "", Selectors{})
}
