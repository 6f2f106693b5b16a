package apiserver

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// resource is one served kind.
type resource struct {
	bundle.Resource
	gvr schema.GroupVersionResource
	gvk schema.GroupVersionKind
	// typed says that client-go knows the Go type of the kind.
	typed bool
	// custom is what the kind's CustomResourceDefinition says; nil for others.
	custom *definition
	// leftOut says where and why the bundle does not hold the kind.
	leftOut []bundle.LeftOut
}

// offers reports whether the server has a verb for the kind.
func (r *resource) offers(verb string) bool {
	return slices.Contains(r.verbs(), verb)
}

func (r *resource) verbs() []string {
	if len(r.Verbs) > 0 {
		return r.Verbs
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// hasStatus reports whether status is written through its own subresource.
func (r *resource) hasStatus() bool { return slices.Contains(r.Subresources, "status") }

// definition is what a CustomResourceDefinition says about one version.
type definition struct {
	schema  map[string]any
	columns []any
	// selectable are the field selectors beside name and namespace.
	selectable []string
	// replicas, statusReplicas and selector are the paths of the scale subresource.
	replicas, statusReplicas, selector []string
}

// register collects what is served: what the manifest lists, or else the
// built-in kinds; then kinds with a CustomResourceDefinition in the bundle;
// then whatever else the objects are.
func (s *Server) register() error {
	known := map[schema.GroupKind]bundle.Resource{}
	for _, r := range builtin() {
		known[schema.GroupKind{Group: r.Group, Kind: r.Kind}] = r
	}
	listed := s.bundle.Manifest.Resources
	if len(listed) == 0 {
		listed = builtin()
	}
	for _, r := range listed {
		k, ok := known[schema.GroupKind{Group: r.Group, Kind: r.Kind}]
		if ok && k.Plural == r.Plural {
			// A bundle of an older capture does not say these.
			if len(r.Subresources) == 0 {
				r.Subresources = k.Subresources
			}
			if len(r.Categories) == 0 {
				r.Categories = k.Categories
			}
		} else if len(r.Subresources) == 0 && r.Group != "" && len(r.Verbs) == 0 {
			r.Subresources = []string{"status"}
		}
		s.serve(r)
	}
	kinds := map[schema.GroupVersionKind]bool{}
	for _, u := range s.bundle.Objects {
		kinds[u.GroupVersionKind()] = true
	}
	s.define(kinds)
	for _, u := range s.bundle.Objects {
		gvk := u.GroupVersionKind()
		if s.byKind[gvk] != nil {
			continue
		}
		r, ok := known[gvk.GroupKind()]
		if ok {
			r.Version = gvk.Version
		} else {
			// A kind that was written by hand without its definition.
			plural, singular := meta.UnsafeGuessKindToResource(gvk)
			r = bundle.Resource{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Plural: plural.Resource, Singular: singular.Resource,
				Namespaced: u.GetNamespace() != "", Subresources: []string{"status"}}
		}
		if old, taken := s.byPath[gvr(r)]; taken {
			return fmt.Errorf("%s %s: its kind and %s would both be served at %s; list it in bundle.yaml under resources", gvk.Kind, u.GetName(), old.Kind, r.Plural)
		}
		s.serve(r)
	}
	s.markLeftOut()
	return nil
}

// serve adds a resource; the first of a path counts.
func (s *Server) serve(r bundle.Resource) *resource {
	if old, taken := s.byPath[gvr(r)]; taken {
		return old
	}
	if r.Singular == "" {
		r.Singular = strings.ToLower(r.Kind)
	}
	res := &resource{Resource: r, gvr: gvr(r), gvk: schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}}
	res.typed = scheme.Scheme.Recognizes(res.gvk)
	s.resources = append(s.resources, res)
	s.byPath[res.gvr] = res
	if s.byKind[res.gvk] == nil {
		s.byKind[res.gvk] = res
	}
	return res
}

func gvr(r bundle.Resource) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}
}

// define reads the CustomResourceDefinitions of the bundle. kinds are those
// that the bundle has objects of.
func (s *Server) define(kinds map[schema.GroupVersionKind]bool) {
	for _, crd := range s.bundle.Objects {
		if crd.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}) {
			continue
		}
		text := func(path ...string) string {
			v, _, _ := unstructured.NestedString(crd.Object, append([]string{"spec"}, path...)...)
			return v
		}
		base := bundle.Resource{Group: text("group"), Kind: text("names", "kind"), Plural: text("names", "plural"), Singular: text("names", "singular"), Namespaced: text("scope") != "Cluster"}
		if base.Group == "" || base.Kind == "" || base.Plural == "" {
			continue
		}
		base.ShortNames, _, _ = unstructured.NestedStringSlice(crd.Object, "spec", "names", "shortNames")
		base.Categories, _, _ = unstructured.NestedStringSlice(crd.Object, "spec", "names", "categories")
		list, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		has := slices.ContainsFunc(s.resources, func(r *resource) bool { return r.Group == base.Group && r.Plural == base.Plural })
		var versions []map[string]any
		for _, v := range list {
			m, ok := v.(map[string]any)
			if ok && m["served"] != false && m["name"] != nil {
				versions = append(versions, m)
			}
		}
		// A bundle has each object in one version; another would look empty.
		wanted := func(m map[string]any) bool {
			return kinds[schema.GroupVersionKind{Group: base.Group, Version: fmt.Sprint(m["name"]), Kind: base.Kind}]
		}
		if !has && !slices.ContainsFunc(versions, wanted) {
			wanted = func(m map[string]any) bool { return m["storage"] == true || len(versions) == 1 }
		}
		for _, m := range versions {
			r := base
			r.Version = fmt.Sprint(m["name"])
			d, subs := readDefinition(m)
			r.Subresources = subs
			res, ok := s.byPath[gvr(r)]
			if !ok && (has || !wanted(m)) {
				continue
			}
			if !ok {
				res = s.serve(r)
			}
			res.custom, res.Subresources = d, subs
		}
	}
}

// readDefinition reads one version of a CustomResourceDefinition.
func readDefinition(version map[string]any) (*definition, []string) {
	d := &definition{}
	d.schema, _, _ = unstructured.NestedMap(version, "schema", "openAPIV3Schema")
	d.columns, _, _ = unstructured.NestedSlice(version, "additionalPrinterColumns")
	fields, _, _ := unstructured.NestedSlice(version, "selectableFields")
	for _, f := range fields {
		m, _ := f.(map[string]any)
		if p, ok := m["jsonPath"].(string); ok {
			d.selectable = append(d.selectable, strings.TrimPrefix(p, "."))
		}
	}
	var subs []string
	if _, ok, _ := unstructured.NestedMap(version, "subresources", "status"); ok {
		subs = append(subs, "status")
	}
	if sc, ok, _ := unstructured.NestedMap(version, "subresources", "scale"); ok {
		path := func(field string) []string {
			p, _ := sc[field].(string)
			return strings.FieldsFunc(p, func(r rune) bool { return r == '.' })
		}
		d.replicas, d.statusReplicas, d.selector = path("specReplicasPath"), path("statusReplicasPath"), path("labelSelectorPath")
		if len(d.replicas) > 0 {
			subs = append(subs, "scale")
		}
	}
	return d, subs
}

// markLeftOut ties what the manifest says was left out to the kinds it means.
func (s *Server) markLeftOut() {
	for _, l := range s.bundle.Manifest.LeftOut {
		var of []*resource
		for _, r := range s.resources {
			if r.Plural == l.What && (l.Group == r.Group || l.Group == "") {
				of = append(of, r)
			}
		}
		exact := slices.IndexFunc(of, func(r *resource) bool { return r.Group == l.Group && (l.Group != "" || l.Code != 0) })
		switch {
		case exact >= 0:
			of[exact].leftOut = append(of[exact].leftOut, l)
		case len(of) == 1:
			of[0].leftOut = append(of[0].leftOut, l)
		}
	}
}
