package app

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

func rolesOf(t *testing.T, objects []runtime.Object) map[string]*rbacv1.ClusterRole {
	t.Helper()
	out := map[string]*rbacv1.ClusterRole{}
	for _, o := range objects {
		if r, ok := o.(*rbacv1.ClusterRole); ok {
			out[r.Name] = r
		}
	}
	return out
}

// TestRightsOfTheIdentities: the reader reads and nothing else; the executor has no
// right of everything and none on what is never changed; neither reads Secrets.
func TestRightsOfTheIdentities(t *testing.T) {
	t.Parallel()
	g, err := RBAC(RBACOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roles := rolesOf(t, g.Objects)
	reader, executor := roles[readerName], roles[executorName]
	if reader == nil || executor == nil || len(reader.Rules) < 10 || len(executor.Rules) < 5 {
		t.Fatalf("%+v", roles)
	}
	for _, r := range reader.Rules {
		for _, v := range r.Verbs {
			if v != "get" && v != "list" && v != "watch" {
				t.Errorf("the reader may %s %v", v, r.Resources)
			}
		}
	}
	writes := 0
	for _, r := range executor.Rules {
		if slices.Contains(r.Verbs, "*") || slices.Contains(r.Resources, "*") || slices.Contains(r.APIGroups, "*") {
			t.Errorf("the executor may %v %v of %v", r.Verbs, r.Resources, r.APIGroups)
		}
		if slices.Contains(r.Verbs, "create") || slices.Contains(r.Verbs, "patch") || slices.Contains(r.Verbs, "delete") {
			writes++
		}
		if slices.Contains(r.Verbs, "delete") && !slices.Contains(r.Verbs, "patch") {
			t.Errorf("%v are deleted and cannot be marked beforehand", r.Resources)
		}
		for _, bad := range []string{"rbac.authorization.k8s.io", "certificates.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "authentication.k8s.io"} {
			if slices.Contains(r.APIGroups, bad) {
				t.Errorf("the executor has rights on %s", bad)
			}
		}
	}
	if writes == 0 {
		t.Error("the executor writes nothing")
	}
	for name, role := range roles {
		for _, r := range role.Rules {
			if slices.Contains(r.APIGroups, "") && (slices.Contains(r.Resources, "secrets") || slices.Contains(r.Resources, "*") || slices.Contains(r.Resources, "nodes/proxy") || slices.Contains(r.Resources, "pods/exec")) {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
	if !slices.ContainsFunc(g.Notes, func(s string) bool { return strings.Contains(s, "secrets are left out") }) || !slices.ContainsFunc(g.Notes, func(s string) bool { return strings.Contains(s, "pods/proxy is left out") }) {
		t.Errorf("what is left out is not said: %q", g.Notes)
	}
}

func TestRightsThatAreAskedFor(t *testing.T) {
	t.Parallel()
	has := func(r *rbacv1.ClusterRole, resource, verb string) bool {
		return slices.ContainsFunc(r.Rules, func(p rbacv1.PolicyRule) bool {
			return slices.Contains(p.Resources, resource) && slices.Contains(p.Verbs, verb)
		})
	}
	g, err := RBAC(RBACOptions{Toolsets: []string{"kube", "serving"}, Actions: []string{"cordon"}, Secrets: true, Probes: true, Namespace: "ops"})
	if err != nil {
		t.Fatal(err)
	}
	roles := rolesOf(t, g.Objects)
	if !has(roles[readerName], "secrets", "get") || !has(roles[readerName], "pods/proxy", "create") {
		t.Error("secrets and probes are not granted")
	}
	if has(roles[readerName], "volumeattachments", "list") != true || has(roles[readerName], "devicetaintrules", "list") {
		t.Error("the reader's rights are not those of the toolsets named")
	}
	if !has(roles[executorName], "nodes", "patch") || has(roles[executorName], "pods/eviction", "create") || !has(roles[executorName], "namespaces", "get") {
		t.Error("the executor's rights are not those of the actions named")
	}
	for _, o := range g.Objects {
		if b, ok := o.(*rbacv1.ClusterRoleBinding); ok && b.Subjects[0].Namespace != "ops" {
			t.Errorf("%+v", b.Subjects)
		}
	}
	g, err = RBAC(RBACOptions{NoExecutor: true})
	if err != nil || rolesOf(t, g.Objects)[executorName] != nil {
		t.Errorf("%v, %v", g.Objects, err)
	}
	if _, err := RBAC(RBACOptions{Toolsets: []string{"nope"}}); err == nil || !strings.Contains(err.Error(), "kube") {
		t.Errorf("an unknown toolset: %v", err)
	}
	if _, err := RBAC(RBACOptions{Actions: []string{"nope"}}); err == nil || !strings.Contains(err.Error(), "cordon") {
		t.Errorf("an unknown action: %v", err)
	}
	all := grants{}
	if notes := all.read("x", tool.Right{Verbs: []string{"list"}, Resources: []string{"*", "*.apps"}}, RBACOptions{}); len(all) != 0 || len(notes) != 2 {
		t.Errorf("a right of everything: %v, %v", all, notes)
	}
}

// TestShippedPolicyNamesActions: an action that a shipped rule names is there.
func TestShippedPolicyNamesActions(t *testing.T) {
	t.Parallel()
	p, err := policy.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := infos(nil)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"scale": true} // comes with the actions on workloads
	families := map[string]bool{}
	for _, i := range all {
		known[i.Name], families[i.Family] = true, true
	}
	list, word := regexp.MustCompile(`action\.name (?:in \[([^\]]*)\]|== ('[^']*'))`), regexp.MustCompile(`'([^']*)'`)
	n := 0
	for _, r := range p.Rules() {
		for _, m := range list.FindAllStringSubmatch(r.When, -1) {
			for _, w := range word.FindAllStringSubmatch(m[1]+m[2], -1) {
				if n++; !known[w[1]] {
					t.Errorf("rule %s: there is no action %s", r.Name, w[1])
				}
			}
		}
		if r.Name == "known-action" {
			for f := range families {
				if !strings.Contains(r.When, "'"+f+"'") {
					t.Errorf("no rule permits the family %s", f)
				}
			}
		}
	}
	if n < 4 {
		t.Errorf("%d names of actions in the rules", n)
	}
}

func TestAdmissionGolden(t *testing.T) {
	t.Parallel()
	p, err := policy.New()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Admission(RBACOptions{Actions: []string{"cordon", "drain", "claim_recreate", "device_taint_rule_create"}}, p)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, o := range objects {
		raw, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "---\n%s", raw)
		switch o.(type) {
		case *admissionv1.ValidatingAdmissionPolicy:
			err = yaml.UnmarshalStrict(raw, &admissionv1.ValidatingAdmissionPolicy{})
		case *admissionv1.ValidatingAdmissionPolicyBinding:
			err = yaml.UnmarshalStrict(raw, &admissionv1.ValidatingAdmissionPolicyBinding{})
		default:
			err = fmt.Errorf("%T is printed", o)
		}
		if err != nil {
			t.Error(err)
		}
	}
	golden := filepath.Join("testdata", "admission.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the admission policies have changed; read the difference, then UPDATE=1 go test -run TestAdmissionGolden\n%s", b.Bytes())
	}
	if _, err := Admission(RBACOptions{Actions: []string{"nope"}}, p); err == nil {
		t.Error("an unknown action")
	}
	read, err := Admission(RBACOptions{NoExecutor: true}, p)
	if err != nil || len(read) != 2 {
		t.Errorf("%d objects, %v", len(read), err)
	}
}

// gateway evaluates admission policies as the API server does: variables lazily, in
// order, then every validation. That the API server takes them is tested on one.
type gateway struct {
	vars  []admissionv1.Variable
	rules []admissionv1.Validation
}

func (g gateway) ask(t *testing.T, in map[string]any) []string {
	t.Helper()
	var refused []string
	for _, r := range g.rules {
		if g.eval(t, r.Expression, in) != true {
			refused = append(refused, r.Message)
		}
	}
	return refused
}

// eval runs an expression; its variables are replaced by their own expressions, which
// is what evaluating them lazily comes to.
func (g gateway) eval(t *testing.T, expr string, in map[string]any) any {
	t.Helper()
	for _, v := range slices.Backward(g.vars) {
		expr = strings.ReplaceAll(expr, "variables."+v.Name, "("+v.Expression+")")
	}
	env, err := cel.NewEnv(cel.OptionalTypes(), ext.Strings(), cel.CrossTypeNumericComparisons(true),
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("namespaceObject", cel.DynType), cel.Variable("request", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	ast, iss := env.Compile(expr)
	if iss.Err() != nil {
		t.Fatalf("%s: %v", expr, iss.Err())
	}
	p, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := p.Eval(in)
	if err != nil {
		return err
	}
	return v.Value()
}

type m = map[string]any

// send makes the input of a request.
func send(op, group, resource, namespace string, object, old m) m {
	in := m{"object": nil, "oldObject": nil, "namespaceObject": nil}
	req := m{"operation": op, "name": "x", "resource": m{"group": group, "version": "v1", "resource": resource}, "userInfo": m{"username": "system:serviceaccount:gumshoe:gumshoe-executor"}}
	if main, sub, ok := strings.Cut(resource, "/"); ok {
		req["resource"], req["subResource"] = m{"group": group, "version": "v1", "resource": main}, sub
	}
	if namespace != "" {
		req["namespace"] = namespace
		in["namespaceObject"] = m{"metadata": m{"name": namespace, "labels": m{"kubernetes.io/metadata.name": namespace}}}
	}
	if object != nil {
		in["object"] = object
	}
	if old != nil {
		in["oldObject"] = old
	}
	in["request"] = req
	return in
}

// thing is an object with the mark of a plan.
func thing(spec m, more ...m) m {
	o := m{"apiVersion": "v1", "kind": "X", "metadata": m{"name": "x", "annotations": m{"gumshoe.ai/plan": "plan-1/s1.1"}}, "spec": spec}
	for _, add := range more {
		for k, v := range add {
			if k == "metadata" {
				maps.Copy(o["metadata"].(m), v.(m))
				continue
			}
			o[k] = v
		}
	}
	return o
}

func TestAdmissionRules(t *testing.T) {
	t.Parallel()
	p, err := policy.New()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Admission(RBACOptions{}, p)
	if err != nil {
		t.Fatal(err)
	}
	spec := objects[2].(*admissionv1.ValidatingAdmissionPolicy).Spec
	g := gateway{vars: spec.Variables, rules: append(spec.Validations, admissionv1.Validation{Expression: "true"})}
	unmarked := thing(m{})
	delete(unmarked["metadata"].(m), "annotations")
	tmpl := func(pod m) m { return m{"replicas": int64(2), "template": m{"spec": pod}} }
	containers := func(privileged bool) m {
		return m{"containers": []any{m{"name": "c", "securityContext": m{"privileged": privileged}}}}
	}
	note := func(k, v string) m {
		return m{"metadata": m{"annotations": m{"gumshoe.ai/plan": "plan-1/s1.1", k: v}}}
	}
	labelled := func(in m, key string) m {
		in["namespaceObject"].(m)["metadata"].(m)["labels"].(m)[key] = "true"
		return in
	}
	frozenNamespace := send("UPDATE", "apps", "deployments", "ml", thing(m{}), thing(m{}))
	frozenNamespace["namespaceObject"].(m)["metadata"].(m)["annotations"] = m{"gumshoe.ai/freeze": "release"}
	dry := send("DELETE", "", "pods", "ml", nil, unmarked)
	dry["request"].(m)["dryRun"] = true
	undo := thing(m{"replicas": int64(0)}, m{"metadata": m{"annotations": m{"gumshoe.ai/plan": "plan-1/s1.u1"}}})
	for name, c := range map[string]struct {
		in   m
		want string
	}{
		"a patch":                 {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(m{"x": "new"})), thing(tmpl(m{"x": "old"}))), ""},
		"a node":                  {send("UPDATE", "", "nodes", "", thing(m{"unschedulable": true}), thing(m{})), ""},
		"an eviction":             {send("CREATE", "", "pods/eviction", "ml", thing(m{}), nil), ""},
		"a claim":                 {send("CREATE", "resource.k8s.io", "resourceclaims", "ml", thing(m{}), nil), ""},
		"a delete":                {send("DELETE", "", "pods", "ml", nil, thing(m{})), ""},
		"a dry delete":            {dry, ""},
		"no mark":                 {send("UPDATE", "apps", "deployments", "ml", unmarked, thing(m{})), "names no write"},
		"no mark on a create":     {send("CREATE", "resource.k8s.io", "resourceclaims", "ml", unmarked, nil), "names no write"},
		"no mark on a delete":     {send("DELETE", "", "pods", "ml", nil, unmarked), "names no write"},
		"no mark on an eviction":  {send("CREATE", "", "pods/eviction", "ml", unmarked, nil), "names no write"},
		"a mark that is none":     {send("UPDATE", "apps", "deployments", "ml", thing(m{}, note("gumshoe.ai/plan", "yes")), thing(m{})), "names no write"},
		"exec":                    {send("CONNECT", "", "pods/exec", "ml", thing(m{}), nil), "no action"},
		"a secret":                {send("UPDATE", "", "secrets", "ml", thing(m{}), thing(m{})), "Secrets, identities"},
		"a role":                  {send("CREATE", "rbac.authorization.k8s.io", "clusterrolebindings", "", thing(m{}), nil), "Secrets, identities"},
		"a namespace that goes":   {send("DELETE", "", "namespaces", "", nil, thing(m{})), "no action"},
		"a status":                {send("UPDATE", "", "nodes/status", "", thing(m{}), thing(m{})), "no action"},
		"kube-system":             {send("DELETE", "", "pods", "kube-system", nil, thing(m{})), "cluster lives on"},
		"kube-system, labelled":   {labelled(send("DELETE", "", "pods", "kube-system", nil, thing(m{})), SystemWrites), ""},
		"its own namespace":       {send("DELETE", "", "pods", "gumshoe", nil, thing(m{})), "cluster lives on"},
		"a frozen object":         {send("UPDATE", "apps", "deployments", "ml", thing(m{}, note("gumshoe.ai/freeze", "x")), thing(m{}, note("gumshoe.ai/freeze", "x"))), "the object is frozen"},
		"a frozen object deleted": {send("DELETE", "", "pods", "ml", nil, thing(m{}, note("gumshoe.ai/freeze", "x"))), "the object is frozen"},
		"a freeze that is off":    {send("DELETE", "", "pods", "ml", nil, thing(m{}, note("gumshoe.ai/freeze", "false"))), ""},
		"a frozen namespace":      {frozenNamespace, "the namespace is frozen"},
		"a freeze set":            {send("UPDATE", "apps", "deployments", "ml", thing(m{}, note("gumshoe.ai/freeze", "x")), thing(m{})), "set and removed by people"},
		"zero allowed by itself":  {send("UPDATE", "apps", "deployments", "ml", thing(m{"replicas": int64(0)}, note(AllowZero, "true")), thing(m{"replicas": int64(1)})), "set and removed by people"},
		"zero":                    {send("UPDATE", "apps", "deployments", "ml", thing(m{"replicas": int64(0)}), thing(m{"replicas": int64(1)})), "switches no workload off"},
		"zero from nothing said":  {send("UPDATE", "apps", "deployments", "ml", thing(m{"replicas": int64(0)}), thing(m{})), "switches no workload off"},
		"zero allowed by people":  {send("UPDATE", "apps", "deployments", "ml", thing(m{"replicas": int64(0)}, note(AllowZero, "true")), thing(m{"replicas": int64(1)}, note(AllowZero, "true"))), ""},
		"zero again":              {send("UPDATE", "apps", "deployments", "ml", undo, thing(m{"replicas": int64(1)})), ""},
		"a finalizer":             {send("UPDATE", "resource.k8s.io", "resourceclaims", "ml", thing(m{}), thing(m{}, m{"metadata": m{"finalizers": []any{"a"}}})), "finalizers and owners"},
		"an owner":                {send("UPDATE", "apps", "deployments", "ml", thing(m{}, m{"metadata": m{"ownerReferences": []any{m{"name": "a"}}}}), thing(m{})), "finalizers and owners"},
		"data":                    {send("UPDATE", "apps", "deployments", "ml", thing(m{}, m{"data": m{"a": "b"}}), thing(m{})), "and nothing else"},
		"data that goes":          {send("UPDATE", "apps", "deployments", "ml", thing(m{}), thing(m{}, m{"data": m{"a": "b"}})), "and nothing else"},
		"data that stays":         {send("UPDATE", "apps", "deployments", "ml", thing(m{}, m{"data": m{"a": "b"}}), thing(m{}, m{"data": m{"a": "b"}})), ""},
		"another identity":        {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(m{"serviceAccountName": "root"})), thing(tmpl(m{}))), "another identity"},
		"the same identity":       {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(m{"serviceAccountName": "a", "n": "1"})), thing(tmpl(m{"serviceAccountName": "a"}))), ""},
		"the host's network":      {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(m{"hostNetwork": true})), thing(tmpl(m{}))), "no pod the host"},
		"privilege":               {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(containers(true))), thing(tmpl(containers(false)))), "no pod the host"},
		"privilege that was":      {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(containers(true))), thing(tmpl(containers(true)))), ""},
		"a path of the host":      {send("UPDATE", "apps", "deployments", "ml", thing(tmpl(m{"volumes": []any{m{"name": "v", "hostPath": m{"path": "/"}}}})), thing(tmpl(m{}))), "no pod the host"},
		"a privileged pod":        {send("CREATE", "", "pods", "ml", thing(containers(true)), nil), "no pod the host"},
		"a plain pod":             {send("CREATE", "", "pods", "ml", thing(containers(false)), nil), ""},
		"a cron job's privilege":  {send("UPDATE", "batch", "cronjobs", "ml", thing(m{"jobTemplate": m{"spec": tmpl(containers(true))}}), thing(m{"jobTemplate": m{"spec": tmpl(containers(false))}})), "no pod the host"},
		"every device":            {send("CREATE", "resource.k8s.io", "devicetaintrules", "", thing(m{"taint": m{"effect": "NoExecute"}}), nil), "every device"},
		"every device, emptily":   {send("CREATE", "resource.k8s.io", "devicetaintrules", "", thing(m{"deviceSelector": m{"driver": ""}}), nil), "every device"},
		"one device":              {send("CREATE", "resource.k8s.io", "devicetaintrules", "", thing(m{"deviceSelector": m{"driver": "d", "device": "gpu-0"}}), nil), ""},
	} {
		got := g.ask(t, c.in)
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s is refused: %q", name, got)
		case c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }):
			t.Errorf("%s: refused by %q, want %q", name, got, c.want)
		}
	}
	// Namespaces: labels yes, pod security no. No action needs this right in every
	// build, so that the first rule is left out.
	g.rules = g.rules[1:]
	label := func(k, v string) m { return m{"metadata": m{"labels": m{k: v}}} }
	for name, c := range map[string]struct {
		in   m
		want string
	}{
		"a label":         {send("UPDATE", "", "namespaces", "", thing(m{}, label("a", "b")), thing(m{})), ""},
		"pod security":    {send("UPDATE", "", "namespaces", "", thing(m{}, label("pod-security.kubernetes.io/enforce", "privileged")), thing(m{})), "pod security"},
		"no pod security": {send("UPDATE", "", "namespaces", "", thing(m{}), thing(m{}, label("pod-security.kubernetes.io/enforce", "restricted"))), "pod security"},
		"system writes":   {send("UPDATE", "", "namespaces", "", thing(m{}, label(SystemWrites, "true")), thing(m{})), "pod security"},
		"as it was":       {send("UPDATE", "", "namespaces", "", thing(m{}, label(SystemWrites, "true")), thing(m{}, label(SystemWrites, "true"))), ""},
	} {
		got := g.ask(t, c.in)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: refused by %q, want %q", name, got, c.want)
		}
	}
	system := send("UPDATE", "", "namespaces", "", thing(m{}, label("a", "b")), thing(m{}))
	system["request"].(m)["name"] = "kube-system"
	if got := g.ask(t, system); len(got) != 1 || !strings.Contains(got[0], "cluster lives on") {
		t.Errorf("kube-system itself: %q", got)
	}
	for _, c := range spec.MatchConditions {
		in := send("CREATE", "authorization.k8s.io", "selfsubjectaccessreviews", "", m{}, nil)
		if got := g.eval(t, c.Expression, in); got != (c.Name == "identity") {
			t.Errorf("%s of a question: %v", c.Name, got)
		}
	}
}
