package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// The identities that gumshoe rbac prints, with tokens of the tests.
const (
	readerAccount, readerAccountToken     = "system:serviceaccount:gumshoe:gumshoe-reader", "reader-account-token"
	executorAccount, executorAccountToken = "system:serviceaccount:gumshoe:gumshoe-executor", "executor-account-token"
)

// install creates what gumshoe rbac prints.
func (l *live) install(t *testing.T, objects []runtime.Object) {
	t.Helper()
	dyn, err := dynamic.NewForConfig(l.cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(l.cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc))
	for _, o := range objects {
		raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: raw}
		m, err := mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dyn.Resource(m.Resource).Namespace(u.GetNamespace()).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("the API server does not take %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// The identities that gumshoe rbac prints, under the admission policies that it
// prints: the reader learns what the administrator learns and writes nothing; the
// executor executes plans, and the API server refuses what no plan may do.
func TestPrintedIdentities(t *testing.T) {
	t.Parallel()
	users := people()
	users[readerAccount], users[executorAccount] = readerAccountToken, executorAccountToken
	c := &clinic{live: start(t, controlplane.Options{Kwok: true, Audit: true, Users: users}), state: t.TempDir(), rules: t.TempDir()}
	for _, name := range []string{"ann", "bob"} {
		c.grant(t, name, "", rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	}
	rules, err := policy.New()
	if err != nil {
		t.Fatal(err)
	}
	grants, err := app.RBAC(app.RBACOptions{})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := app.Admission(app.RBACOptions{}, rules)
	if err != nil {
		t.Fatal(err)
	}
	c.install(t, grants.Objects)
	c.install(t, policies)
	c.run(t, []scenario.Group{gpus("printed", 2, 2)}, scenario.Step{Apply: `{{class "printed.example.com" "printed.example.com"}}
{{claimTmpl "printed" "serve-gpu" "printed.example.com" 1 "device.attributes['printed.example.com'].productName.contains('H200')"}}
` + deployment("printed", "serve", "resourceClaims: [{name: gpu, resourceClaimTemplateName: serve-gpu}]", "resources: {claims: [{name: gpu}]}") +
		deployment("printed", "frozen", "nodeSelector: {site: nowhere}", "")})
	pod := c.podOf(t, "printed", "serve")
	c.refused(t, "printed", pod)
	dyn, err := dynamic.NewForConfig(c.cp.UserConfig(executorAccountToken))
	if err != nil {
		t.Fatal(err)
	}
	x := hand{dyn}
	soon(t, "the admission policies are in force", func(ctx context.Context) (bool, error) {
		err := x.patch(ctx, "nodes", "", "printed-1", `{"metadata":{"labels":{"probe":"x"}}}`)
		return err != nil && strings.Contains(err.Error(), "names no write of a plan"), err
	})
	t.Run("reader", func(t *testing.T) { printedReader(t, c, pod) })
	t.Run("refused", func(t *testing.T) { printedRefusals(t, c, x) })
	t.Run("executor", func(t *testing.T) { printedExecutor(t, c, pod) })
}

func printedReader(t *testing.T, c *clinic, pod string) {
	for _, q := range []string{"why is pod printed/" + pod + " pending?", "what is wrong with this cluster?"} {
		admin, reader := ask(t, c.cp.Kubeconfig(), q), ask(t, c.kubeconfigOf(t, readerAccountToken), q)
		if len(admin.Diagnosis.Causes) == 0 {
			t.Errorf("the administrator learns %s", tell(admin))
		}
		if a, b := essence(admin), essence(reader); a != b {
			t.Errorf("the administrator learns\n%s\nthe reader learns\n%s", a, b)
		}
	}
	dyn, err := dynamic.NewForConfig(c.cp.UserConfig(readerAccountToken))
	if err != nil {
		t.Fatal(err)
	}
	x := hand{dyn}
	for name, err := range map[string]error{
		"patch a node":       x.patch(t.Context(), "nodes", "", "printed-1", `{"metadata":{"labels":{"a":"b"}}}`),
		"create a ConfigMap": x.create(t.Context(), "configmaps", "printed", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`),
		"delete a pod":       x.delete(t.Context(), "pods", "printed", pod),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("the reader may %s: %v", name, err)
		}
	}
	if _, err := dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the reader may list Secrets: %v", err)
	}
}

// hand writes as the executor would, without gumshoe.
type hand struct{ dynamic.Interface }

func (h hand) of(resource, namespace string) dynamic.ResourceInterface {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: resource}
	if name, group, ok := strings.Cut(resource, "."); ok {
		gvr.Resource, gvr.Group = name, group
	}
	return h.Resource(gvr).Namespace(namespace)
}

func (h hand) patch(ctx context.Context, resource, namespace, name, body string) error {
	_, err := h.of(resource, namespace).Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "gumshoe"})
	return err
}

func (h hand) create(ctx context.Context, resource, namespace, object string) error {
	var u unstructured.Unstructured
	if err := json.Unmarshal([]byte(object), &u.Object); err != nil {
		return err
	}
	_, err := h.of(resource, namespace).Create(ctx, &u, metav1.CreateOptions{FieldManager: "gumshoe"})
	return err
}

func (h hand) delete(ctx context.Context, resource, namespace, name string) error {
	return h.of(resource, namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// printedRefusals asks of the API server what no plan may do, with the executor's
// credentials and the mark of a plan, and beside each the like that is permitted.
func printedRefusals(t *testing.T, c *clinic, x hand) {
	ctx := t.Context()
	if err := (hand{c.dyn(t)}).patch(ctx, "deployments.apps", "printed", "frozen", `{"metadata":{"annotations":{"gumshoe.ai/freeze":"release week"}}}`); err != nil {
		t.Fatal(err)
	}
	c.apply(t, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: agent, namespace: kube-system}\nspec: {nodeSelector: {site: nowhere}, containers: [{name: main, image: registry.example.com/agent:1}]}\n")
	const mark = `"metadata":{"annotations":{"gumshoe.ai/plan":"plan-1/s1.1"}}`
	taint := func(selector string) string {
		return fmt.Sprintf(`{"apiVersion":"resource.k8s.io/v1","kind":"DeviceTaintRule","metadata":{"name":"r","annotations":{"gumshoe.ai/plan":"plan-1/s1.2"}},"spec":{%s"taint":{"key":"a.example.com/b","effect":"None"}}}`, selector)
	}
	for _, r := range []struct {
		name string
		err  error
		// want is a part of the refusal; empty means that it is permitted.
		want string
	}{
		{"a node with a mark", x.patch(ctx, "nodes", "", "printed-1", `{`+mark+`,"spec":{"unschedulable":true}}`), ""},
		{"a node back", x.patch(ctx, "nodes", "", "printed-1", `{"metadata":{"annotations":{"gumshoe.ai/plan":"plan-1/s1.u1"}},"spec":{"unschedulable":null}}`), ""},
		{"a mark that is none", x.patch(ctx, "nodes", "", "printed-2", `{"metadata":{"annotations":{"gumshoe.ai/plan":"x"}},"spec":{"unschedulable":true}}`), "names no write of a plan"},
		{"no mark", x.patch(ctx, "deployments.apps", "printed", "serve", `{"spec":{"paused":true}}`), "names no write of a plan"},
		{"an image", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"revisionHistoryLimit":3}}`), ""},
		{"a frozen workload", x.patch(ctx, "deployments.apps", "printed", "frozen", `{`+mark+`,"spec":{"paused":true}}`), "frozen"},
		{"a thaw", x.patch(ctx, "deployments.apps", "printed", "frozen", `{"metadata":{"annotations":{"gumshoe.ai/plan":"plan-1/s1.1","gumshoe.ai/freeze":null}}}`), "frozen"},
		{"zero", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"replicas":0}}`), "switches no workload off"},
		{"two", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"replicas":1}}`), ""},
		{"another identity", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"template":{"spec":{"serviceAccountName":"admin"}}}}`), "another identity"},
		{"the host", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"template":{"spec":{"hostNetwork":true}}}}`), "no pod the host"},
		{"a path of the host", x.patch(ctx, "deployments.apps", "printed", "serve", `{`+mark+`,"spec":{"template":{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"}}]}}}}`), "no pod the host"},
		{"an owner", x.patch(ctx, "deployments.apps", "printed", "serve", `{"metadata":{"annotations":{"gumshoe.ai/plan":"plan-1/s1.1"},"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"b"}]}}`), "finalizers and owners"},
		{"a finalizer", x.patch(ctx, "deployments.apps", "printed", "serve", `{"metadata":{"annotations":{"gumshoe.ai/plan":"plan-1/s1.1"},"finalizers":["a.example.com/b"]}}`), "finalizers and owners"},
		{"every device", x.create(ctx, "devicetaintrules.resource.k8s.io", "", taint("")), "taints every device"},
		{"every device, emptily", x.create(ctx, "devicetaintrules.resource.k8s.io", "", taint(`"deviceSelector":{},`)), "taints every device"},
		{"one device", x.create(ctx, "devicetaintrules.resource.k8s.io", "", taint(`"deviceSelector":{"driver":"printed.example.com","device":"gpu-0"},`)), ""},
		{"the rule goes", x.delete(ctx, "devicetaintrules.resource.k8s.io", "", "r"), ""},
		{"a pod without a mark goes", x.delete(ctx, "pods", "printed", c.podOf(t, "printed", "serve")), "names no write of a plan"},
		{"kube-system", x.patch(ctx, "pods", "kube-system", "agent", `{`+mark+`}`), "cluster lives on"},
		{"a privileged pod", x.create(ctx, "pods", "printed", `{"apiVersion":"v1","kind":"Pod",`+mark[:len(mark)-1]+`,"name":"p"},"spec":{"containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]}}`), "no pod the host"},
		{"a Secret", x.create(ctx, "secrets", "printed", `{"apiVersion":"v1","kind":"Secret",`+mark[:len(mark)-1]+`,"name":"s"}}`), "forbidden"},
		{"a role", x.create(ctx, "clusterroles.rbac.authorization.k8s.io", "", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole",`+mark[:len(mark)-1]+`,"name":"s"}}`), "forbidden"},
	} {
		switch {
		case r.want == "" && r.err != nil:
			t.Errorf("%s is refused: %v", r.name, r.err)
		case r.want != "" && (r.err == nil || !strings.Contains(r.err.Error(), r.want)):
			t.Errorf("%s: %v, want a refusal with %q", r.name, r.err, r.want)
		}
	}
	if err := (hand{c.dyn(t)}).patch(ctx, "namespaces", "", "kube-system", `{"metadata":{"labels":{"gumshoe.ai/system-writes":"true"}}}`); err != nil {
		t.Fatal(err)
	}
	soon(t, "the label of kube-system counts", func(ctx context.Context) (bool, error) {
		err := x.patch(ctx, "pods", "kube-system", "agent", `{`+mark+`}`)
		return err == nil, err
	})
}

// dyn is the administrator's client.
func (c *clinic) dyn(t *testing.T) dynamic.Interface {
	t.Helper()
	dyn, err := dynamic.NewForConfig(c.cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return dyn
}

// printedExecutor has a plan executed by the printed identity: ann asks and sees with
// the reader's eyes of her own, bob approves, and only the executor writes.
func printedExecutor(t *testing.T, c *clinic, pod string) {
	report := c.diagnose(t, "why is pod printed/"+c.podOf(t, "printed", "serve")+" pending?", "dra.selector_excludes_all")
	made := c.plan(t, app.PlanRequest{Report: &report})
	c.approve(t, made.Plan.ID, bobToken)
	cfg := c.config(t, annToken)
	cfg.Executor.Kubeconfig = filepath.Join(t.TempDir(), "executor.kubeconfig")
	if err := c.cp.UserKubeconfig(cfg.Executor.Kubeconfig, executorAccountToken); err != nil {
		t.Fatal(err)
	}
	c.with(t, cfg, func(p *app.Plans) {
		r, err := p.Execute(t.Context(), made.Plan.ID, app.As("", "cli"))
		if err != nil || r.State != incident.PlanVerified {
			t.Fatalf("%s %s %q: %v", r.State, r.Reason, r.Left, err)
		}
		if r, err = p.Undo(t.Context(), made.Plan.ID, app.As("", "cli"), "to see whether it may"); err != nil || r.State != incident.PlanUndone {
			t.Errorf("%s %q: %v", r.State, r.Left, err)
		}
	})
	if got := c.writes(t); len(got) > 0 {
		t.Errorf("people wrote by their own rights: %q", got)
	}
	c.whole(t)
}
