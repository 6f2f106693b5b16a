package actions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// origin is where an object comes from, as far as the cluster tells.
type origin struct {
	owner incident.Ref
	where string
	// chart says that values and templates make the manifest; values are those that
	// the tool's object holds.
	chart  bool
	values map[string]any
	// note says what the tool does with a direct change.
	note string
}

// origin reads the tool's own objects. What cannot be read is said.
func (c *Cluster) origin(ctx context.Context, k keeper) origin {
	out := origin{owner: incident.Ref{Cluster: c.name, Namespace: k.namespace, Kind: k.kind, Name: cmp.Or(k.name, "(unknown)")}}
	switch k.kind {
	case "Application":
		out.owner.Group = "argoproj.io"
		c.ofArgo(ctx, k, &out)
	case "Kustomization":
		out.owner.Group = "kustomize.toolkit.fluxcd.io"
		c.ofKustomization(ctx, k, &out)
	case "HelmRelease":
		out.owner.Group = "helm.toolkit.fluxcd.io"
		out.chart = true
		c.ofHelmRelease(ctx, k, &out)
	default:
		out.chart = true
		out.note = "Nothing sets a direct change back at once, but the next helm upgrade may."
	}
	return out
}

func str(u map[string]any, path ...string) string {
	s, _, _ := unstructured.NestedString(u, path...)
	return s
}

// where writes the known parts of a place, with their names.
func where(parts ...string) string {
	var out []string
	for i := 0; i+1 < len(parts); i += 2 {
		if parts[i+1] != "" {
			out = append(out, parts[i]+" "+parts[i+1])
		}
	}
	return strings.Join(out, ", ")
}

// ofArgo finds the Application. In a namespace of its own its tracking name is
// "namespace_name" (argo-cd.readthedocs.io, applications in any namespace).
func (c *Cluster) ofArgo(ctx context.Context, k keeper, out *origin) {
	out.note = "Argo CD shows a direct change as out of sync; with self-heal it sets it back."
	if k.name == "" {
		return
	}
	list, err := c.List(ctx, "Application.argoproj.io", "", "", "")
	if err != nil {
		out.where = "the Application cannot be read: " + err.Error()
		return
	}
	i := slices.IndexFunc(list, func(o *Object) bool { return o.GetNamespace()+"_"+o.GetName() == k.name })
	if i < 0 {
		i = slices.IndexFunc(list, func(o *Object) bool { return o.GetName() == k.name })
	}
	if i < 0 {
		out.where = "there is no Application " + k.name + " in this cluster: Argo CD may run in another"
		return
	}
	app := list[i]
	out.owner = app.Ref
	if heal, _, _ := unstructured.NestedBool(app.Object, "spec", "syncPolicy", "automated", "selfHeal"); heal {
		out.note = "Argo CD sets a direct change back: the Application heals itself (spec.syncPolicy.automated.selfHeal)."
	}
	sources, _, _ := unstructured.NestedSlice(app.Object, "spec", "sources")
	if s, ok, _ := unstructured.NestedMap(app.Object, "spec", "source"); ok {
		sources = append(sources, s)
	}
	var places []string
	for _, v := range sources {
		s, _ := v.(map[string]any)
		places = append(places, where("repository", str(s, "repoURL"), "revision", cmp.Or(str(s, "targetRevision"), "HEAD"), "path", str(s, "path"), "chart", str(s, "chart")))
		if _, ok := s["helm"]; ok || str(s, "chart") != "" {
			out.chart = true
		}
		if m, ok, _ := unstructured.NestedMap(s, "helm", "valuesObject"); ok {
			out.values = m
		} else if t := str(s, "helm", "values"); t != "" {
			var m map[string]any
			if yaml.Unmarshal([]byte(t), &m) == nil {
				out.values = m
			}
		}
	}
	out.where = strings.Join(places, "; ")
	if r := controlled(app); r != nil {
		out.where += fmt.Sprintf(" (the Application itself is made by %s %s)", r.Kind, r.Name)
	}
}

// sourceOf reads where a Flux source is fetched from.
func (c *Cluster) sourceOf(ctx context.Context, kind, namespace, name string) string {
	if kind == "" || name == "" {
		return ""
	}
	o, err := c.Get(ctx, kind+".source.toolkit.fluxcd.io", namespace, name)
	if err != nil {
		return fmt.Sprintf("%s %s/%s, which cannot be read", kind, namespace, name)
	}
	ref, _, _ := unstructured.NestedMap(o.Object, "spec", "ref")
	revision := ""
	for _, f := range []string{"commit", "name", "semver", "tag", "branch", "digest"} {
		if v := str(ref, f); v != "" {
			revision = f + " " + v
			break
		}
	}
	return where("repository", str(o.Object, "spec", "url"), "revision", revision)
}

func (c *Cluster) ofKustomization(ctx context.Context, k keeper, out *origin) {
	out.note = "Flux sets the fields that it applies back at its next interval."
	if k.name == "" {
		return
	}
	o, err := c.Get(ctx, "Kustomization.kustomize.toolkit.fluxcd.io", k.namespace, k.name)
	if err != nil {
		out.where = "the Kustomization cannot be read: " + err.Error()
		return
	}
	out.owner = o.Ref
	src := c.sourceOf(ctx, str(o.Object, "spec", "sourceRef", "kind"), cmp.Or(str(o.Object, "spec", "sourceRef", "namespace"), k.namespace), str(o.Object, "spec", "sourceRef", "name"))
	out.where = strings.Trim(src+", "+where("path", str(o.Object, "spec", "path")), ", ")
	if s, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend"); s {
		out.note = "The Kustomization is suspended: Flux sets nothing back until it is resumed."
	}
}

func (c *Cluster) ofHelmRelease(ctx context.Context, k keeper, out *origin) {
	out.note = "Flux sets a direct change back where drift detection is on (spec.driftDetection), else with the next upgrade of the release."
	if k.name == "" {
		return
	}
	o, err := c.Get(ctx, "HelmRelease.helm.toolkit.fluxcd.io", k.namespace, k.name)
	if err != nil {
		out.where = "the HelmRelease cannot be read: " + err.Error()
		return
	}
	out.owner = o.Ref
	out.values, _, _ = unstructured.NestedMap(o.Object, "spec", "values")
	chart, ref := str(o.Object, "spec", "chart", "spec", "chart"), []string{"spec", "chart", "spec", "sourceRef"}
	if chart == "" {
		ref = []string{"spec", "chartRef"}
	}
	at := func(f string) string { return str(o.Object, append(slices.Clone(ref), f)...) }
	src := c.sourceOf(ctx, at("kind"), cmp.Or(at("namespace"), k.namespace), at("name"))
	out.where = strings.Trim(where("chart", chart, "version", str(o.Object, "spec", "chart", "spec", "version"))+", "+src, ", ")
	// The HelmRelease has a source of its own: that is where its values are.
	if by, ok := keeperOf(o.Unstructured); ok && by.kind == "Kustomization" {
		above := c.origin(ctx, by)
		out.where += fmt.Sprintf("; its values come with %s: %s", by, above.where)
	}
}

// holding are the values that hold one of the old values now, as path = value.
func holding(values any, path string, old map[string]bool) []string {
	var out []string
	switch x := values.(type) {
	case map[string]any:
		for _, k := range keys(x) {
			out = append(out, holding(x[k], dotted(path, k), old)...)
		}
	case []any:
		for i, v := range x {
			out = append(out, holding(v, fmt.Sprintf("%s[%d]", path, i), old)...)
		}
	case nil:
	default:
		if s := fmt.Sprint(x); old[s] {
			out = append(out, path+" = "+s)
		}
	}
	return out
}

// body is the text of a pull request: what, where, why not directly, and which
// rendered fields have to come out how.
func body(step incident.Step, n *net, by keeper, from origin, changes []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n%s is delivered by %s.\n", step.Say, n.ref, by)
	if from.where != "" {
		fmt.Fprintf(&b, "Source: %s.\n", from.where)
	}
	if from.note != "" {
		b.WriteString(from.note + "\n")
	}
	if from.chart {
		b.WriteString("\nThe manifest is rendered from a chart: change the chart's values, or the chart, so that these rendered fields come out:\n")
	} else {
		b.WriteString("\nThese fields of the manifest change:\n")
	}
	for _, c := range changes {
		b.WriteString("- " + c + "\n")
	}
	if from.chart {
		old := map[string]bool{}
		for _, f := range n.changes() {
			s := fmt.Sprint(f.from)
			if f.from == nil || len(s) < 2 {
				continue
			}
			old[s] = true
			if f.path != nil && f.path[len(f.path)-1] == "image" {
				repository := repositoryOf(s)
				old[repository], old[strings.TrimLeft(strings.TrimPrefix(s, repository), ":@")] = true, true
			}
		}
		delete(old, "")
		if hits := holding(from.values, "", old); len(hits) > 0 {
			b.WriteString("Values that hold what is there now: " + some(hits) + ".\n")
		}
	}
	for _, w := range step.Warnings {
		b.WriteString("\nNote: " + w + ".")
	}
	return strings.TrimSpace(b.String()) + "\n"
}
