package app

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// Names of the identities.
const (
	readerName, executorName = "gumshoe-reader", "gumshoe-executor"
	// DefaultNamespace is where the identities live.
	DefaultNamespace = "gumshoe"
)

// RBACOptions say what the identities have to be enough for.
type RBACOptions struct {
	// Toolsets and Actions by name; empty means all that ship.
	Toolsets, Actions []string
	// Namespace of the identities; empty means DefaultNamespace.
	Namespace string
	// Probes lets the reader touch workloads where a probe asks first.
	Probes bool
	// Secrets lets the reader get Secrets, with their values: Kubernetes knows no right
	// to the metadata alone.
	Secrets bool
	// NoExecutor leaves the identity out that writes.
	NoExecutor bool
}

// Grants are the objects that give gumshoe its rights, and notes on what they leave out.
type Grants struct {
	Objects []runtime.Object
	Notes   []string
}

// grant is the verbs on one resource of one group.
type grants map[[2]string]map[string]bool

func (g grants) add(group, resource string, verbs ...string) {
	k := [2]string{group, resource}
	if g[k] == nil {
		g[k] = map[string]bool{}
	}
	for _, v := range verbs {
		g[k][v] = true
	}
}

// rules merges the grants: one rule for each group and set of verbs.
func (g grants) rules() []rbacv1.PolicyRule {
	merged := map[[2]string][]string{}
	for k, verbs := range g {
		id := [2]string{k[0], strings.Join(slices.Sorted(maps.Keys(verbs)), ",")}
		merged[id] = append(merged[id], k[1])
	}
	var out []rbacv1.PolicyRule
	for id, resources := range merged {
		slices.Sort(resources)
		out = append(out, rbacv1.PolicyRule{APIGroups: []string{id[0]}, Resources: resources, Verbs: strings.Split(id[1], ",")})
	}
	slices.SortFunc(out, func(a, b rbacv1.PolicyRule) int {
		return cmp.Or(strings.Compare(a.APIGroups[0], b.APIGroups[0]), strings.Compare(strings.Join(a.Verbs, ","), strings.Join(b.Verbs, ",")))
	})
	return out
}

// resourceName is a resource as a toolset writes it: "pods/log", "jobs.batch",
// "*.ray.io" for all of a group of custom resources.
var resourceName = regexp.MustCompile(`^([a-z0-9]+|\*)((?:\.[a-z0-9-]+)*)((?:/[a-z]+)?)$`)

// RBAC makes the least rights that toolsets and actions say they need: one identity
// that reads, and one, apart from it, that executes plans.
func RBAC(o RBACOptions) (Grants, error) {
	o.Namespace = cmp.Or(o.Namespace, DefaultNamespace)
	var out Grants
	reader, notes, err := readerGrants(o)
	if err != nil {
		return out, err
	}
	out.Notes = notes
	out.Objects = append(out.Objects, &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: o.Namespace}})
	out.Objects = append(out.Objects, identity(readerName, o.Namespace, reader.rules())...)
	if o.NoExecutor {
		return out, nil
	}
	executor, err := executorGrants(o.Actions)
	if err != nil {
		return out, err
	}
	out.Objects = append(out.Objects, identity(executorName, o.Namespace, executor.rules())...)
	return out, nil
}

// identity is a ServiceAccount with a ClusterRole of its own.
func identity(name, namespace string, rules []rbacv1.PolicyRule) []runtime.Object {
	labels := map[string]string{"app.kubernetes.io/name": "gumshoe", "app.kubernetes.io/component": strings.TrimPrefix(name, "gumshoe-")}
	return []runtime.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels}},
		&rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Rules: rules},
		&rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"}, ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: namespace}}},
	}
}

// readerGrants is what the toolsets read. Verbs that read are given together: who may
// list may get what the list names.
func readerGrants(o RBACOptions) (grants, []string, error) {
	sets, err := Toolsets()
	if err != nil {
		return nil, nil, err
	}
	if err := known("toolset", o.Toolsets, sets, func(s ToolsetInfo) string { return s.Name }); err != nil {
		return nil, nil, err
	}
	g := grants{}
	var notes []string
	for _, s := range sets {
		if len(o.Toolsets) > 0 && !slices.Contains(o.Toolsets, s.Name) {
			continue
		}
		for _, r := range s.Rights {
			notes = append(notes, g.read(s.Name, r, o)...)
		}
	}
	slices.Sort(notes)
	return g, slices.Compact(notes), nil
}

// read takes a right of a toolset, and says what of it is left out.
func (g grants) read(toolset string, r tool.Right, o RBACOptions) []string {
	var notes []string
	for _, name := range r.Resources {
		m := resourceName.FindStringSubmatch(name)
		if m == nil {
			notes = append(notes, fmt.Sprintf("%s: %s of %s is no right of Kubernetes, or differs from job to job: %s", toolset, strings.Join(r.Verbs, ", "), name, r.For))
			continue
		}
		group, resource := strings.TrimPrefix(m[2], "."), m[1]+m[3]
		if m[1] == "*" && !strings.Contains(group, ".") { // the core group holds Secrets
			notes = append(notes, fmt.Sprintf("%s: %s is everything of a group of Kubernetes itself and is left out", toolset, name))
			continue
		}
		if group == "" && m[1] == "secrets" && !o.Secrets {
			notes = append(notes, fmt.Sprintf("%s: secrets are left out: %s; --secrets grants it, and with it the values, which gumshoe never asks for", toolset, r.For))
			continue
		}
		for _, v := range r.Verbs {
			switch {
			case (v == "get" || v == "list" || v == "watch") && m[3] == "":
				g.add(group, resource, "get", "list", "watch")
			case v == "get":
				g.add(group, resource, v)
			case v == "create" && o.Probes:
				g.add(group, resource, v)
			case v == "create":
				notes = append(notes, fmt.Sprintf("%s: create on %s is left out: %s; --probes grants it", toolset, name, r.For))
			default:
				notes = append(notes, fmt.Sprintf("%s: %s on %s is no right to read and is left out: %s", toolset, v, name, r.For))
			}
		}
	}
	return notes
}

// infos lists the actions that ship, or those of the names. No cluster is needed.
func infos(names []string) ([]planner.Info, error) {
	all, err := actions.New(actions.Config{Now: time.Now})
	if err != nil {
		return nil, err
	}
	list := all.Infos()
	if err := known("action", names, list, func(i planner.Info) string { return i.Name }); err != nil {
		return nil, err
	}
	if len(names) > 0 {
		list = slices.DeleteFunc(list, func(i planner.Info) bool { return !slices.Contains(names, i.Name) })
	}
	return list, nil
}

// executorGrants is what the actions need, and what the executor needs for any: it
// looks whether a namespace is frozen, and marks what it deletes beforehand.
func executorGrants(names []string) (grants, error) {
	list, err := infos(names)
	if err != nil {
		return nil, err
	}
	g := grants{}
	g.add("", "namespaces", "get")
	for _, i := range list {
		for _, r := range i.Rights {
			for _, resource := range r.Resources {
				if resource == "" || strings.Contains(resource, "*") || slices.Contains(r.Verbs, "*") || r.Group == "*" {
					return nil, fmt.Errorf("action %s asks for %s on %s.%s: a right of everything is never granted", i.Name, strings.Join(r.Verbs, ","), resource, r.Group)
				}
				g.add(r.Group, resource, r.Verbs...)
				if slices.Contains(r.Verbs, "delete") || slices.Contains(r.Verbs, "patch") {
					g.add(r.Group, resource, "get", "patch")
				}
			}
		}
	}
	return g, nil
}

// known says which of the names there is not.
func known[T any](what string, names []string, all []T, name func(T) string) error {
	var there []string
	for _, a := range all {
		there = append(there, name(a))
	}
	for _, n := range names {
		if !slices.Contains(there, n) {
			return fmt.Errorf("there is no %s %q; there are %s", what, n, strings.Join(there, ", "))
		}
	}
	return nil
}
