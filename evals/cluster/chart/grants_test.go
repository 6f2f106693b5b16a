package chart

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// The identity of the pod has the rights that gumshoe rbac prints, and besides them what
// the server asks the cluster for where the values have it ask; the executor is there only
// where it is wanted, and has the rights of its actions.
func TestRightsAreTheWordOfRBAC(t *testing.T) {
	t.Parallel()
	tokens := `config: {server: {auth: {tokens: [{name: ci, role: asker, file: /etc/gumshoe/secrets/t/ci}]}}}`
	for name, c := range map[string]struct {
		file, over string
		rbac       app.RBACOptions
		asks       []string
	}{
		"loopback": {file: "default", rbac: app.RBACOptions{NoExecutor: true}},
		"tokens":   {file: "default", over: tokens, rbac: app.RBACOptions{NoExecutor: true}, asks: []string{"create subjectaccessreviews.authorization.k8s.io"}},
		"slack alone": {file: "default", over: `config: {server: {slack: {botTokenFile: /etc/gumshoe/secrets/s/bot, appTokenFile: /etc/gumshoe/secrets/s/app}}}`,
			rbac: app.RBACOptions{NoExecutor: true}, asks: []string{"create subjectaccessreviews.authorization.k8s.io"}},
		"review":   {file: "review", rbac: app.RBACOptions{NoExecutor: true, Probes: true}, asks: []string{"create subjectaccessreviews.authorization.k8s.io", "create tokenreviews.authentication.k8s.io"}},
		"executor": {file: "executor", rbac: app.RBACOptions{Actions: []string{"patch_service_selector", "cordon", "uncordon"}}, asks: []string{"create subjectaccessreviews.authorization.k8s.io"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustRender(t, "here", "detectives", values(t, c.file, c.over))
			got := granted(t, r)
			want := printed(t, c.rbac)
			want["here-gumshoe-reader"] = append(want["gumshoe-reader"], c.asks...)
			delete(want, "gumshoe-reader")
			if x, ok := want["gumshoe-executor"]; ok {
				want["here-gumshoe-executor"] = x
				delete(want, "gumshoe-executor")
			}
			for account := range want {
				slices.Sort(want[account])
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the chart grants\n%v\nwanted is\n%v", got, want)
			}
			if accounts := all[*corev1.ServiceAccount](t, r); len(accounts) != len(want) {
				t.Errorf("%d ServiceAccounts for %d identities", len(accounts), len(want))
			}
		})
	}
}

// granted lists what each account of a release may do, "VERB RESOURCE.GROUP".
func granted(t *testing.T, r release) map[string][]string {
	t.Helper()
	roles := map[string][]rbacv1.PolicyRule{}
	for _, c := range all[*rbacv1.ClusterRole](t, r) {
		roles[c.Name] = c.Rules
	}
	out := map[string][]string{}
	for _, b := range all[*rbacv1.ClusterRoleBinding](t, r) {
		if len(b.Subjects) != 1 || b.Subjects[0].Namespace != r.namespace {
			t.Errorf("binding %s is for %v", b.Name, b.Subjects)
		}
		out[b.Subjects[0].Name] = append(out[b.Subjects[0].Name], flat(roles[b.RoleRef.Name])...)
	}
	for account := range out {
		slices.Sort(out[account])
		out[account] = slices.Compact(out[account])
	}
	return out
}

// printed lists the same of what gumshoe rbac prints.
func printed(t *testing.T, o app.RBACOptions) map[string][]string {
	t.Helper()
	g, err := app.RBAC(o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, obj := range g.Objects {
		if c, ok := obj.(*rbacv1.ClusterRole); ok {
			out[c.Name] = slices.Compact(slices.Sorted(slices.Values(flat(c.Rules))))
		}
	}
	return out
}

func flat(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				for _, v := range r.Verbs {
					out = append(out, strings.TrimSuffix(v+" "+res+"."+g, "."))
				}
			}
		}
	}
	return out
}
