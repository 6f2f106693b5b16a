package chart

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
)

// patience is how long a test waits for the cluster to do one thing.
const patience = 3 * time.Minute

// cluster is a real control plane that the chart is installed on.
type cluster struct {
	cp     *controlplane.ControlPlane
	hands  *scenario.ClusterHands
	client *kubernetes.Clientset
}

// TestOnACluster installs the chart as helm does, in namespaces that enforce Pod Security's
// restricted level, and runs the server with what the pod would have: its configuration, its
// Secrets and a token of its ServiceAccount.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	cp := controlplane.ForTest(t, controlplane.Options{Kwok: true, Audit: true})
	hands, err := scenario.NewHands(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{cp: cp, hands: hands, client: client}
	c.run(t, []scenario.Group{{Prefix: "n", Count: 1}}, operatorKinds)
	t.Run("admitted", func(t *testing.T) {
		for _, file := range ciFiles(t) {
			t.Run(file, func(t *testing.T) {
				t.Parallel()
				c.admitted(t, c.install(t, "gumshoe", file+"-admitted", values(t, file)))
			})
		}
	})
	t.Run("reader", func(t *testing.T) { t.Parallel(); reader(t, c) })
	t.Run("executor", func(t *testing.T) { t.Parallel(); executor(t, c) })
	t.Run("review", func(t *testing.T) { t.Parallel(); review(t, c) })
	t.Run("life", func(t *testing.T) { t.Parallel(); life(t, c) })
}

// operatorKinds are the kinds of the Prometheus Operator that the chart makes.
const operatorKinds = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec: {group: monitoring.coreos.com, scope: Namespaced, names: {kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec: {group: monitoring.coreos.com, scope: Namespaced, names: {kind: PrometheusRule, plural: prometheusrules, singular: prometheusrule}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
`

// misled makes a Deployment, and a Service that selects a label which none of its pods
// carries.
func (c *cluster) misled(t *testing.T, namespace string) {
	t.Helper()
	c.apply(t, strings.ReplaceAll(`---
apiVersion: v1
kind: Namespace
metadata: {name: SHOP}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: SHOP}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: main, image: "registry.example.com/front:1", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: SHOP}
spec: {selector: {app: fornt}, ports: [{port: 80, targetPort: 8080}]}
`, "SHOP", namespace))
	soon(t, "the shop runs", func(ctx context.Context) (bool, error) {
		d, err := c.client.AppsV1().Deployments(namespace).Get(ctx, "front", metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas == 1, err
	})
}

func (c *cluster) run(t *testing.T, fleet []scenario.Group, documents string) {
	t.Helper()
	s := scenario.Scenario{ID: t.Name(), Fleet: fleet, Steps: []scenario.Step{{Apply: documents}}}
	if err := scenario.Run(t.Context(), s, c.hands, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) apply(t *testing.T, documents string) {
	t.Helper()
	c.run(t, nil, documents)
}

// helm gives Helm's actions for a namespace.
func (c *cluster) helm(t *testing.T, namespace string) *action.Configuration {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	kubeconfig := c.cp.Kubeconfig()
	flags.KubeConfig, flags.Namespace = &kubeconfig, &namespace
	cfg := action.NewConfiguration()
	if err := cfg.Init(flags, namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// install installs the chart in a namespace of its own, and gives what it rendered.
func (c *cluster) install(t *testing.T, name, namespace string, vals map[string]any) release {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if _, err := c.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	i := action.NewInstall(c.helm(t, namespace))
	i.ReleaseName, i.Namespace, i.WaitStrategy, i.Timeout = name, namespace, kube.HookOnlyStrategy, patience
	if _, err := i.RunWithContext(t.Context(), load(t), vals); err != nil {
		t.Fatalf("the chart is not installed: %v", err)
	}
	return mustRender(t, name, namespace, vals)
}

// soon waits until something holds.
func soon(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	controlplane.Soon(t, patience, what, holds)
}

// admitted waits until the controllers have made the pods, which the restricted level then
// let through, and shows that it lets a bolder one not.
func (c *cluster) admitted(t *testing.T, r release) {
	t.Helper()
	d := one[*appsv1.Deployment](t, r)
	soon(t, "the pods of "+r.namespace, func(ctx context.Context) (bool, error) {
		got, err := c.client.AppsV1().Deployments(r.namespace).Get(ctx, d.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		pods, err := c.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return len(pods.Items) == int(*d.Spec.Replicas), fmt.Errorf("%d pods: %+v", len(pods.Items), got.Status.Conditions)
	})
	as := func(change func(*corev1.PodSpec)) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "bold-", Namespace: r.namespace}, Spec: *d.Spec.Template.Spec.DeepCopy()}
		change(&p.Spec)
		_, err := c.client.CoreV1().Pods(r.namespace).Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := as(func(*corev1.PodSpec) {}); err != nil {
		t.Errorf("the pod as it is: %v", err)
	}
	for what, change := range map[string]func(*corev1.PodSpec){
		"privileged": func(p *corev1.PodSpec) {
			p.Containers[0].SecurityContext.Privileged, p.Containers[0].SecurityContext.AllowPrivilegeEscalation = new(true), nil
		},
		"as root":                   func(p *corev1.PodSpec) { p.SecurityContext.RunAsNonRoot = new(false) },
		"with escalation":           func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil },
		"with capabilities":         func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.Capabilities = nil },
		"without a seccomp profile": func(p *corev1.PodSpec) { p.SecurityContext.SeccompProfile = nil },
		"on the host's network":     func(p *corev1.PodSpec) { p.HostNetwork = true },
	} {
		if err := as(change); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "violates PodSecurity") {
			t.Errorf("a pod %s: %v", what, err)
		}
	}
}

// token gives a token of a ServiceAccount, as the kubelet projects it into a pod.
func (c *cluster) token(t *testing.T, namespace, account string, audiences ...string) string {
	t.Helper()
	r, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

// office is the server of a release, run as its pod would run it.
type office struct {
	main, metrics string
	cfg           app.Config
}

// serve runs the server of a pod until the test ends. The pod's own identity is that of
// its ServiceAccount; the addresses that it listens on are taken on free ports.
func (c *cluster) serve(t *testing.T, r release, p pod) office {
	t.Helper()
	d := one[*appsv1.Deployment](t, r)
	self := filepath.Join(t.TempDir(), "self.kubeconfig")
	if err := c.cp.UserKubeconfig(self, c.token(t, r.namespace, d.Spec.Template.Spec.ServiceAccountName)); err != nil {
		t.Fatal(err)
	}
	load := func() (app.Config, error) {
		cfg, err := p.load()
		cfg.Kubernetes.Kubeconfig = self // in a pod it is found by itself
		return cfg, err
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Serve(t, app.ServerOptions{
		Load: load,
		Listen: func(network, addr string) (net.Listener, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return net.Listen(network, net.JoinHostPort(host, "0"))
		},
	})
	return office{main: s.URL, metrics: s.Metrics, cfg: cfg}
}

// status asks for a page with a bearer token, none when it is empty.
func status(t *testing.T, url, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// as signs in with a token, and without any when it is empty.
func (o office) as(t *testing.T, token string) *client.Client {
	t.Helper()
	cfg := client.Config{URL: o.main}
	if token != "" {
		cfg.TokenFile = filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(cfg.TokenFile, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// healthy checks what the kubelet and Prometheus ask.
func (o office) healthy(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if got := status(t, o.metrics+path, ""); got != http.StatusOK {
			t.Errorf("%s answers %d", path, got)
		}
	}
}

// investigate asks why a shop's Service does not serve, and gives the run and its report.
func investigate(t *testing.T, c *client.Client, shop string) (string, incident.Report) {
	t.Helper()
	s, turn, err := c.Ask(t.Context(), session.Ask{Question: incident.Question{Text: "why does service " + shop + "/front not answer?"}})
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "an answer", func(ctx context.Context) (bool, error) {
		got, err := c.Session(ctx, s.ID)
		if err != nil {
			return false, err
		}
		for _, have := range got.Turns {
			if have.ID == turn.ID {
				turn = have
			}
		}
		return turn.State == session.Answered, fmt.Errorf("the turn is %+v", turn)
	})
	run, err := c.Run(t.Context(), turn.Run)
	if err != nil {
		t.Fatal(err)
	}
	if causes := run.Report.Diagnosis.Causes; len(causes) == 0 || causes[0].Code != "kube.service_selector_mismatch" {
		raw, _ := json.Marshal(run.Report.Diagnosis)
		t.Fatalf("the diagnosis is %s", raw)
	}
	return turn.Run, run.Report
}

// A release is changed and taken away: what it granted goes, what it kept stays.
func life(t *testing.T, c *cluster) {
	c.install(t, "gumshoe", "living", values(t, "default"))
	up := action.NewUpgrade(c.helm(t, "living"))
	up.Namespace, up.WaitStrategy, up.Timeout = "living", kube.HookOnlyStrategy, patience
	if _, err := up.RunWithContext(t.Context(), "gumshoe", load(t), values(t, "executor")); err != nil {
		t.Fatalf("the release is not changed: %v", err)
	}
	if _, err := c.client.CoreV1().ServiceAccounts("living").Get(t.Context(), "gumshoe-executor", metav1.GetOptions{}); err != nil {
		t.Errorf("the executor is turned on and is not there: %v", err)
	}
	if _, err := up.RunWithContext(t.Context(), "gumshoe", load(t), values(t, "default")); err != nil {
		t.Fatalf("the release is not changed back: %v", err)
	}
	roles := func() []string {
		l, err := c.client.RbacV1().ClusterRoleBindings().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, b := range l.Items {
			if strings.HasPrefix(b.Name, "living-") {
				out = append(out, b.Name)
			}
		}
		return out
	}
	if got := roles(); !slices.Equal(got, []string{"living-gumshoe-reader"}) {
		t.Errorf("the executor is turned off and %v stay", got)
	}
	down := action.NewUninstall(c.helm(t, "living"))
	down.WaitStrategy, down.Timeout = kube.HookOnlyStrategy, patience
	if _, err := down.Run("gumshoe"); err != nil {
		t.Fatal(err)
	}
	if got := roles(); len(got) > 0 {
		t.Errorf("the release is gone and %v stay", got)
	}
	if _, err := c.client.CoreV1().PersistentVolumeClaims("living").Get(t.Context(), "gumshoe", metav1.GetOptions{}); err != nil {
		t.Errorf("the audit log went with the release: %v", err)
	}
}
