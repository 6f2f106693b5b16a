package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type getIn struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Path      string `json:"path,omitempty" jsonschema:"JSONPath of the part wanted"`
}

// GetOut is the answer of kube_get.
type GetOut struct {
	APIVersion string `json:"api_version"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	// Object is set without a path, Values with one.
	Object json.RawMessage   `json:"object,omitempty"`
	Values []json.RawMessage `json:"values"`
}

// get reads one object, whole or in part.
func (r *reader) get(ctx context.Context, in getIn) (tool.Output[GetOut], error) {
	var out tool.Output[GetOut]
	var p *path
	if in.Path != "" {
		var err error
		if p, err = parsePath(in.Path); err != nil {
			return out, err
		}
	}
	o, err := r.locate(ctx, in.Kind, in.Namespace, in.Name)
	if err != nil {
		return out, err
	}
	u, err := r.src.GetMapped(ctx, o.m, o.namespace, o.name)
	if err != nil {
		return out, err
	}
	body := clean(u)
	out.Data = GetOut{APIVersion: u.GetAPIVersion(), Kind: o.m.Kind, Namespace: o.namespace, Name: o.name, Values: []json.RawMessage{}}
	head := o.ref(r.src).String()
	if p == nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return out, fmt.Errorf("encode %s: %w", head, err)
		}
		text, err := yaml.JSONToYAML(raw)
		if err != nil {
			return out, fmt.Errorf("write %s as YAML: %w", head, err)
		}
		out.Data.Object, out.Text = raw, string(text)
		return out, nil
	}
	vs, err := p.values(body)
	if err != nil {
		return out, err
	}
	lines := make([]string, 0, len(vs))
	for _, v := range vs {
		raw, err := json.Marshal(v)
		if err != nil {
			return out, fmt.Errorf("encode %s of %s: %w", in.Path, head, err)
		}
		out.Data.Values = append(out.Data.Values, raw)
		lines = append(lines, scalar(v))
	}
	if len(lines) == 0 {
		out.Text = fmt.Sprintf("%s has nothing at %s", head, in.Path)
		return out, nil
	}
	out.Text = fmt.Sprintf("%s %s\n%s", head, in.Path, strings.Join(lines, "\n"))
	return out, nil
}

// clean copies an object without the bookkeeping that repeats the object.
func clean(u *unstructured.Unstructured) map[string]any {
	c := u.DeepCopy()
	c.SetManagedFields(nil)
	if a := c.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		delete(a, corev1.LastAppliedConfigAnnotation)
		c.SetAnnotations(a)
	}
	return c.Object
}
