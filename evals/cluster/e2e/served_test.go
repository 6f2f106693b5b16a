package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// Informers of client-go and kubectl, as other people's tools use them, cannot
// tell a served bundle from the cluster it was captured from.
func TestServedBundle(t *testing.T) {
	t.Parallel()
	l, dir := captured(t)
	_, kubeconfig := serve(t, dir)
	t.Run("informers", func(t *testing.T) { informed(t, l, kubeconfig) })
	t.Run("kubectl", func(t *testing.T) { kubectl(t, l, kubeconfig) })
}

func informed(t *testing.T, l *live, kubeconfig string) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, nodes, events := factory.Core().V1().Pods(), factory.Core().V1().Nodes(), factory.Core().V1().Events()
	claims, slices, classes := factory.Resource().V1().ResourceClaims(), factory.Resource().V1().ResourceSlices(), factory.Resource().V1().DeviceClasses()
	deployments := factory.Apps().V1().Deployments()
	labelled := make(chan string, 16)
	if _, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, now any) {
		if p, ok := now.(*corev1.Pod); ok {
			labelled <- p.Name + "=" + p.Labels["seen"]
		}
	}}); err != nil {
		t.Fatal(err)
	}
	// Asking for an informer is what makes the factory start it.
	wanted := []cache.SharedIndexInformer{events.Informer(), nodes.Informer(), claims.Informer(), slices.Informer(), classes.Informer(), deployments.Informer()}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	synced := factory.WaitForCacheSync(ctx.Done())
	for kind, ok := range synced {
		if !ok {
			t.Fatalf("the informer of %s does not sync", kind)
		}
	}
	if len(synced) != len(wanted)+1 {
		t.Errorf("%d informers are synced, not %d", len(synced), len(wanted)+1)
	}
	all := labels.Everything()
	same := func(kind string, served, real int, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil || served != real || real == 0 {
			t.Errorf("%s: the bundle serves %d, the cluster %d: %v", kind, served, real, err)
		}
	}
	list := metav1.ListOptions{}
	sp, e1 := pods.Lister().List(all)
	lp, e2 := l.client.CoreV1().Pods("").List(ctx, list)
	same("pods", len(sp), len(lp.Items), e1, e2)
	sn, e1 := nodes.Lister().List(all)
	ln, e2 := l.client.CoreV1().Nodes().List(ctx, list)
	same("nodes", len(sn), len(ln.Items), e1, e2)
	sc, e1 := claims.Lister().List(all)
	lc, e2 := l.client.ResourceV1().ResourceClaims("").List(ctx, list)
	same("resourceclaims", len(sc), len(lc.Items), e1, e2)
	ss, e1 := slices.Lister().List(all)
	ls, e2 := l.client.ResourceV1().ResourceSlices().List(ctx, list)
	same("resourceslices", len(ss), len(ls.Items), e1, e2)
	sd, e1 := deployments.Lister().List(all)
	ld, e2 := l.client.AppsV1().Deployments("").List(ctx, list)
	same("deployments", len(sd), len(ld.Items), e1, e2)
	if ev, err := events.Lister().List(all); err != nil || len(ev) == 0 {
		t.Errorf("no events are served: %v", err)
	}
	for _, p := range lp.Items {
		got, err := pods.Lister().Pods(p.Namespace).Get(p.Name)
		if err != nil || got.UID != p.UID || got.Spec.NodeName != p.Spec.NodeName {
			t.Errorf("pod %s/%s is served as %v: %v", p.Namespace, p.Name, got, err)
		}
	}

	// A change to the served bundle reaches the informer, and nothing else.
	if _, err := client.CoreV1().Pods("served").Patch(ctx, "wants", types.MergePatchType, []byte(`{"metadata":{"labels":{"seen":"yes"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for got := ""; got != "wants=yes"; {
		select {
		case got = <-labelled:
		case <-ctx.Done():
			t.Fatal("the informer does not hear of the change")
		}
	}
	real, err := l.client.CoreV1().Pods("served").Get(ctx, "wants", metav1.GetOptions{})
	if err != nil || real.Labels["seen"] != "" {
		t.Errorf("the cluster's own pod: %v, %v", real.Labels, err)
	}
}

func kubectl(t *testing.T, l *live, kubeconfig string) {
	manifest := filepath.Join(t.TempDir(), "cm.yaml")
	if err := os.WriteFile(manifest, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made, namespace: served}\ndata: {a: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), l.cp.Kubectl(), append([]string{"--kubeconfig", kubeconfig}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		args string
		says []string
		not  string
	}{
		{args: "get pods -A", says: []string{"NAMESPACE", "wants", "Pending", "Running"}},
		{args: "get pods -n served -l app=wants -o name", says: []string{"pod/wants"}, not: "web"},
		{args: "get pods -n served --field-selector status.phase=Pending -o name", says: []string{"pod/wants"}, not: "web"},
		{args: "get nodes -o wide", says: []string{"served-1", "Ready"}},
		{args: "get deploy -n served web -o yaml", says: []string{"kind: Deployment", "readyReplicas: 2"}},
		{args: "get resourceclaims,resourceslices,deviceclasses -A", says: []string{"wants-gpu-", "served-1-", "served.example.com"}},
		{args: "describe pod wants -n served", says: []string{"FailedScheduling", "cannot allocate all claims", "ResourceClaimTemplateName"}},
		{args: "describe node served-1", says: []string{"Allocated resources", "web-"}},
		{args: "logs -n served wants", says: []string{"ERROR second line"}},
		{args: "logs -n served wants --tail=1", says: []string{"ERROR second line"}, not: "first line"},
		{args: "events -n served --for pod/wants", says: []string{"FailedScheduling"}},
		{args: "get events -n served", says: []string{"FailedScheduling"}},
		{args: "api-resources", says: []string{"resourceclaims", "resource.k8s.io/v1", "deployments"}},
		{args: "version", says: []string{"Server Version: v1.37.2"}},
		{args: "apply -f " + manifest + " --dry-run=server", says: []string{"configmap/made created (server dry run)"}},
		{args: "get cm -n served -o name", not: "made"},
		{args: "apply -f " + manifest, says: []string{"configmap/made created"}},
		{args: "get cm made -n served -o jsonpath={.data.a}", says: []string{"b"}},
		{args: "label pod wants -n served colour=blue", says: []string{"labeled"}},
		{args: "get pods -n served -l colour=blue -o name", says: []string{"pod/wants"}},
		{args: `patch deploy web -n served --dry-run=server -p {"spec":{"replicas":7}}`, says: []string{"patched"}},
		{args: "get deploy web -n served -o jsonpath={.spec.replicas}", says: []string{"2"}, not: "7"},
		{args: `patch deploy web -n served -p {"spec":{"replicas":7}}`, says: []string{"patched"}},
		{args: "get deploy web -n served -o jsonpath={.spec.replicas}", says: []string{"7"}},
	} {
		out, err := run(strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("kubectl %s: %v\n%s", c.args, err, out)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("kubectl %s lacks %q:\n%s", c.args, want, out)
			}
		}
		if c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("kubectl %s has %q:\n%s", c.args, c.not, out)
		}
	}
	if real, err := l.client.AppsV1().Deployments("served").Get(t.Context(), "web", metav1.GetOptions{}); err != nil || *real.Spec.Replicas != 2 {
		t.Errorf("the cluster's own Deployment: %v, %v", real, err)
	}
	if out, err := run("get", "pod", "nobody", "-n", "served"); err == nil || !strings.Contains(out, "NotFound") {
		t.Errorf("a pod that is not there: %v %s", err, out)
	}
}
