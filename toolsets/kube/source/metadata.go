package source

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// metaReader reads objects without spec, status and data.
type metaReader interface {
	get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error)
	list(ctx context.Context, gvr schema.GroupVersionResource, namespace string, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error)
}

var (
	_ metaReader = metaClient{}
	_ metaReader = plainMetadata{}
)

// metaClient reads through client-go's metadata client, protobuf on the wire.
type metaClient struct{ c metadata.Interface }

func (m metaClient) get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	return m.c.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (m metaClient) list(ctx context.Context, gvr schema.GroupVersionResource, namespace string, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	return m.c.Resource(gvr).Namespace(namespace).List(ctx, o)
}

// plainMetadata asks for PartialObjectMetadata over the typed client's own
// transport. The Accept header names no other form: a server that cannot leave
// the data out is to refuse (406), not to send it.
type plainMetadata struct{ rest rest.Interface }

func newPlainMetadata(c kubernetes.Interface) metaReader {
	rc, ok := c.CoreV1().RESTClient().(*rest.RESTClient)
	if !ok || rc == nil {
		return plainMetadata{}
	}
	return plainMetadata{rest: rc}
}

func (m plainMetadata) ask(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, form string, o metav1.ListOptions, into any) error {
	if m.rest == nil {
		return fmt.Errorf("source: no metadata client: set Config.Metadata")
	}
	p := path.Join("/apis", gvr.Group, gvr.Version)
	if gvr.Group == "" {
		p = path.Join("/api", gvr.Version)
	}
	if namespace != "" {
		p = path.Join(p, "namespaces", namespace)
	}
	p = path.Join(p, gvr.Resource, name)
	raw, err := m.rest.Get().AbsPath(p).
		SetHeader("Accept", "application/json;as="+form+";g=meta.k8s.io;v=v1").
		VersionedParams(&o, scheme.ParameterCodec).Do(ctx).Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("couldn't get version/kind: decode metadata of %s: %w", gvr.Resource, err)
	}
	return nil
}

func (m plainMetadata) get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	out := &metav1.PartialObjectMetadata{}
	return out, m.ask(ctx, gvr, namespace, name, "PartialObjectMetadata", metav1.ListOptions{}, out)
}

func (m plainMetadata) list(ctx context.Context, gvr schema.GroupVersionResource, namespace string, o metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	out := &metav1.PartialObjectMetadataList{}
	return out, m.ask(ctx, gvr, namespace, "", "PartialObjectMetadataList", o, out)
}

// SecretInfo is what is told about a Secret: that it exists, its labels, and
// the names of its keys where the server's field bookkeeping gives them away.
type SecretInfo struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Keys come from managedFields and are sorted. They are only meaningful when
	// KeysKnown is true: an object without managedFields (a bundle may drop them)
	// says nothing about its keys.
	Keys      []string `json:"keys"`
	KeysKnown bool     `json:"keys_known"`
}

// Secret reads the metadata of a Secret; its values are not asked for.
func (s *Source) Secret(ctx context.Context, namespace, name string) (*SecretInfo, error) {
	c := call{verb: "get", resource: "secrets", namespace: namespace, name: name, extra: "metadata"}
	return cached(ctx, s, c, func(ctx context.Context) (*SecretInfo, int, error) {
		m, err := s.meta.get(ctx, schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, namespace, name)
		if err != nil {
			return nil, 0, err
		}
		info := &SecretInfo{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels}
		info.Keys, info.KeysKnown = dataKeys(m.ManagedFields)
		return info, 1, nil
	})
}

// dataKeys reads the key names under "f:data" of managedFields: the API server
// records every top-level key of data there with its owner, never the value
// (sigs.k8s.io/structured-merge-diff fieldpath serialisation).
func dataKeys(fields []metav1.ManagedFieldsEntry) (keys []string, known bool) {
	set := map[string]bool{}
	for _, f := range fields {
		if f.FieldsV1 == nil || f.Subresource != "" {
			continue
		}
		var top map[string]json.RawMessage
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &top) != nil {
			continue
		}
		known = true
		var data map[string]json.RawMessage
		if json.Unmarshal(top["f:data"], &data) != nil {
			continue
		}
		for k := range data {
			if name, ok := strings.CutPrefix(k, "f:"); ok {
				set[name] = true
			}
		}
	}
	keys = []string{}
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys, known
}

// bare drops from metadata what may carry values of the object: annotations of
// Secrets (last-applied-configuration is a copy of the whole Secret).
func bare(gvr schema.GroupVersionResource, m *metav1.PartialObjectMetadata) {
	if gvr.Group == "" && gvr.Resource == "secrets" {
		m.Annotations = nil
	}
}

// Metadata reads an object of any kind without spec and status, managedFields included.
func (s *Source) Metadata(ctx context.Context, m Mapping, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	c := call{verb: "get", group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), name: name, extra: "metadata/full"}
	return cached(ctx, s, c, func(ctx context.Context) (*metav1.PartialObjectMetadata, int, error) {
		o, err := s.meta.get(ctx, m.GVR, c.namespace, name)
		if err != nil {
			return nil, 0, err
		}
		bare(m.GVR, o)
		return o, 1, nil
	})
}

// MetadataList lists the metadata of objects of a kind, narrowed by selectors
// on the server. managedFields are left out.
func (s *Source) MetadataList(ctx context.Context, m Mapping, namespace string, sel Selectors) ([]*metav1.PartialObjectMetadata, error) {
	c := call{verb: "list", group: m.GVR.Group, resource: m.GVR.Resource, namespace: m.ns(namespace), labels: sel.Labels, fields: sel.Fields, extra: "metadata"}
	return cached(ctx, s, c, func(ctx context.Context) ([]*metav1.PartialObjectMetadata, int, error) {
		out, err := pages(ctx, c, func(ctx context.Context, o metav1.ListOptions) ([]*metav1.PartialObjectMetadata, string, error) {
			l, err := s.meta.list(ctx, m.GVR, c.namespace, o)
			if err != nil {
				return nil, "", err
			}
			page := make([]*metav1.PartialObjectMetadata, len(l.Items))
			for i := range l.Items {
				bare(m.GVR, &l.Items[i])
				slim(any(&l.Items[i]), c.namespace == "")
				page[i] = &l.Items[i]
			}
			return page, l.Continue, nil
		})
		return out, len(out), err
	})
}
