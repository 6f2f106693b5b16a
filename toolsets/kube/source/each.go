package source

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// errEnough ends a walk early; it never leaves this package.
var errEnough = errors.New("enough")

// Each walks the objects of a kind page by page and keeps none: a table of
// 20,000 pods costs the memory of one page. See returns false to stop early.
// Nothing is cached. Of Secrets only metadata is read.
func (s *Source) Each(ctx context.Context, m Mapping, namespace string, sel Selectors, see func(*unstructured.Unstructured) bool) error {
	if isSecret(m) {
		return s.EachMetadata(ctx, m, namespace, sel, func(o *metav1.PartialObjectMetadata) bool {
			u, err := metadataObject(m, o)
			return err == nil && see(u)
		})
	}
	c := call{verb: "list", group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), labels: sel.Labels, fields: sel.Fields}
	_, err := pages(ctx, c, func(ctx context.Context, o metav1.ListOptions) ([]struct{}, string, error) {
		l, err := s.dynamic.Resource(m.GVR).Namespace(c.namespace).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for i := range l.Items {
			if !see(&l.Items[i]) {
				return nil, "", errEnough
			}
		}
		return nil, l.GetContinue(), nil
	})
	return s.walked(c, err)
}

// EachMetadata walks the metadata of a kind page by page, managedFields
// included, and keeps none.
func (s *Source) EachMetadata(ctx context.Context, m Mapping, namespace string, sel Selectors, see func(*metav1.PartialObjectMetadata) bool) error {
	c := call{verb: "list", group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), labels: sel.Labels, fields: sel.Fields}
	_, err := pages(ctx, c, func(ctx context.Context, o metav1.ListOptions) ([]struct{}, string, error) {
		l, err := s.meta.list(ctx, m.GVR, c.namespace, o)
		if err != nil {
			return nil, "", err
		}
		for i := range l.Items {
			bare(m.GVR, &l.Items[i])
			if !see(&l.Items[i]) {
				return nil, "", errEnough
			}
		}
		return nil, l.Continue, nil
	})
	return s.walked(c, err)
}

func (s *Source) walked(c call, err error) error {
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	return s.fail(c, err)
}
