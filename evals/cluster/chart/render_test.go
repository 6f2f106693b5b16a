// Package chart tries the Helm chart of deploy/chart: what it renders, what it refuses,
// and that a real control plane takes it and gives gumshoe the rights that it needs, and
// no others.
package chart

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chartv2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

const chartDir = "../../../deploy/chart"

// release is one rendering of the chart.
type release struct {
	name, namespace string
	objects         []*unstructured.Unstructured
	notes           string
}

func load(t *testing.T) *chartv2.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// values reads a file of values below ci, and lays more over it.
func values(t *testing.T, name string, over ...string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(chartDir, "ci", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := parse(t, string(raw))
	for _, o := range over {
		out = util.CoalesceTables(parse(t, o), out)
	}
	return out
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	out, err := loader.LoadValues(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

// render renders the chart as helm template does.
func render(t *testing.T, name, namespace string, vals map[string]any) (release, error) {
	t.Helper()
	c := load(t)
	caps := common.DefaultCapabilities.Copy()
	top, err := util.ToRenderValues(c, vals, common.ReleaseOptions{Name: name, Namespace: namespace, IsInstall: true, Revision: 1}, caps)
	if err != nil {
		return release{}, err
	}
	files, err := engine.Render(c, top)
	if err != nil {
		return release{}, err
	}
	r := release{name: name, namespace: namespace}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(file, "NOTES.txt") {
			r.notes = files[file]
			continue
		}
		for doc := range strings.SplitSeq(files[file], "\n---") {
			var u unstructured.Unstructured
			if err := yaml.UnmarshalStrict([]byte(doc), &u.Object); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, doc)
			}
			if len(u.Object) > 0 {
				r.objects = append(r.objects, &u)
			}
		}
	}
	return r, nil
}

func mustRender(t *testing.T, name, namespace string, vals map[string]any) release {
	t.Helper()
	r, err := render(t, name, namespace, vals)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// all gives the objects of a type, decoded strictly.
func all[T runtime.Object](t *testing.T, r release) []T {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var out []T
	for _, u := range r.objects {
		if u.GroupVersionKind().Group == "monitoring.coreos.com" {
			continue
		}
		raw, err := u.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := strict.Decode(raw, nil, nil)
		if err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
		if one, ok := o.(T); ok {
			out = append(out, one)
		}
	}
	return out
}

// one gives the only object of a type.
func one[T runtime.Object](t *testing.T, r release) T {
	t.Helper()
	list := all[T](t, r)
	if len(list) != 1 {
		t.Fatalf("%d objects %T", len(list), *new(T))
	}
	return list[0]
}

// ciFiles names the files of values that the chart is tried with.
func ciFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir, "ci", "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("only %v: %v", files, err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

// Whatever the values, the pod may nothing that it need not, the configuration is one that
// gumshoe takes, every file it names is mounted, and nothing that is rendered is a secret.
func TestEveryRendering(t *testing.T) {
	t.Parallel()
	for _, file := range ciFiles(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			r := mustRender(t, "gumshoe", "detectives", values(t, file))
			d := one[*appsv1.Deployment](t, r)
			restricted(t, d.Spec.Template.Spec)
			cfg := mounted(t, r, t.TempDir()).config(t)
			grace(t, d, cfg)
			probes(t, d, cfg)
			selected(t, r, d)
			for _, u := range r.objects {
				if u.GetLabels()["app.kubernetes.io/instance"] != "gumshoe" || u.GetLabels()["app.kubernetes.io/name"] != "gumshoe" {
					t.Errorf("%s %s has the labels %v", u.GetKind(), u.GetName(), u.GetLabels())
				}
				if u.GetKind() == "Secret" && (u.Object["data"] != nil || u.Object["stringData"] != nil) {
					t.Errorf("Secret %s is rendered with what it holds", u.GetName())
				}
				if strings.HasPrefix(u.GetKind(), "ClusterRole") != (u.GetNamespace() == "") {
					t.Errorf("%s %s is in namespace %q", u.GetKind(), u.GetName(), u.GetNamespace())
				}
			}
			if !strings.Contains(r.notes, "namespace detectives") || strings.Contains(r.notes, "\n\n\n") {
				t.Errorf("the notes are %q", r.notes)
			}
		})
	}
}

// restricted checks what Pod Security's restricted level asks for, and more: the file
// system and the identity of the pod.
func restricted(t *testing.T, p corev1.PodSpec) {
	t.Helper()
	sc, c := p.SecurityContext, p.Containers[0].SecurityContext
	switch {
	case !*sc.RunAsNonRoot, *sc.RunAsUser == 0, *sc.FSGroup == 0, sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, *sc.FSGroupChangePolicy != corev1.FSGroupChangeOnRootMismatch:
		t.Errorf("the pod's security context is %+v", sc)
	case *c.AllowPrivilegeEscalation, !*c.ReadOnlyRootFilesystem, !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}), len(c.Capabilities.Add) > 0, c.Privileged != nil:
		t.Errorf("the container's security context is %+v", c)
	case p.HostNetwork, p.HostPID, p.HostIPC, len(p.Containers) != 1, len(p.InitContainers) > 0, len(p.Containers[0].EnvFrom) > 0:
		t.Errorf("the pod is %+v", p)
	case !strings.HasSuffix(p.ServiceAccountName, "-reader"), p.EnableServiceLinks == nil || *p.EnableServiceLinks:
		t.Errorf("the pod is of %s", p.ServiceAccountName)
	}
	for _, v := range p.Volumes {
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("Secret %s is mounted with mode %v", v.Secret.SecretName, v.Secret.DefaultMode)
		}
		if v.HostPath != nil {
			t.Errorf("volume %s is a path of the host", v.Name)
		}
	}
	for _, m := range p.Containers[0].VolumeMounts {
		if m.ReadOnly == (m.Name == "state" || m.Name == "tmp") {
			t.Errorf("volume %s is mounted read-only: %v", m.Name, m.ReadOnly)
		}
	}
	if res := p.Containers[0].Resources; res.Requests.Memory().IsZero() || res.Limits.Memory().IsZero() {
		t.Errorf("resources %+v", res)
	}
}

// grace holds how long the kubelet waits against how long the server takes to end.
func grace(t *testing.T, d *appsv1.Deployment, cfg app.Config) {
	t.Helper()
	sleep := d.Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	drain, runs := time.Duration(cfg.Server.Auth.DrainTimeout), time.Duration(cfg.Server.Queue.Grace)
	if drain == 0 {
		drain = 20 * time.Second // what access waits where nothing is said
	}
	if runs == 0 {
		runs = 20 * time.Second // and the queue
	}
	need := time.Duration(sleep)*time.Second + drain + runs + 5*time.Second // and the last traces
	if got := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second; got <= need {
		t.Errorf("the kubelet waits %s and the server may take %s", got, need)
	}
}

// probes ask where the server answers without authentication.
func probes(t *testing.T, d *appsv1.Deployment, cfg app.Config) {
	t.Helper()
	c := d.Spec.Template.Spec.Containers[0]
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if cfg.Server.MetricsListen != fmt.Sprintf(":%d", ports["metrics"]) {
		t.Errorf("metrics and probes are on %s, the pod says %v", cfg.Server.MetricsListen, ports)
	}
	for path, p := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p.HTTPGet.Path != path || p.HTTPGet.Port.StrVal != "metrics" {
			t.Errorf("the probe of %s is %+v", path, p.HTTPGet)
		}
	}
	// Without authentication nothing but loopback: also no port that a Service could name.
	if open := cfg.Server.Auth.Authenticated(); open != strings.HasPrefix(cfg.Server.Listen, ":") || open != (ports["http"] != 0) {
		t.Errorf("authenticated %v, listens on %s, ports %v", open, cfg.Server.Listen, ports)
	}
}

// selected checks that everything that selects pods selects those of the Deployment.
func selected(t *testing.T, r release, d *appsv1.Deployment) {
	t.Helper()
	selectors := map[string]map[string]string{"Deployment": d.Spec.Selector.MatchLabels}
	for _, s := range all[*corev1.Service](t, r) {
		selectors["Service "+s.Name] = s.Spec.Selector
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(d.Spec.Template.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool { return c.Name == p.TargetPort.StrVal }) {
				t.Errorf("Service %s names the port %s, which the pod does not have", s.Name, p.TargetPort.StrVal)
			}
		}
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](t, r) {
		selectors["budget"] = b.Spec.Selector.MatchLabels
	}
	for _, n := range all[*networkingv1.NetworkPolicy](t, r) {
		selectors["network policy"] = n.Spec.PodSelector.MatchLabels
		for _, rule := range n.Spec.Ingress {
			if len(rule.From) == 0 {
				t.Error("a rule of the network policy lets everybody in")
			}
		}
	}
	for what, s := range selectors {
		for k, v := range s {
			if d.Spec.Template.Labels[k] != v {
				t.Errorf("the %s selects %s=%s, the pods have %v", what, k, v, d.Spec.Template.Labels)
			}
		}
		if len(s) == 0 {
			t.Errorf("the %s selects everything", what)
		}
	}
	if binds := len(d.Spec.Template.Spec.TopologySpreadConstraints); (*d.Spec.Replicas > 1) != (binds > 0) {
		t.Errorf("%d pods, %d constraints", *d.Spec.Replicas, binds)
	}
}

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

// What the Prometheus Operator gets: the alert rules as they are, and a selector that
// finds the Service of the metrics.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	r := mustRender(t, "gumshoe", "detectives", values(t, "nats", `prometheusRule: {rules: [dra, gpu, mtls, serving]}`))
	var seen int
	for _, u := range r.objects {
		switch u.GetKind() {
		case "ServiceMonitor":
			seen++
			want, _, _ := unstructured.NestedStringMap(u.Object, "spec", "selector", "matchLabels")
			var found []string
			for _, s := range all[*corev1.Service](t, r) {
				if subset(want, s.Labels) {
					found = append(found, s.Name)
				}
			}
			if !slices.Equal(found, []string{"detective-metrics"}) || u.GetLabels()["release"] != "monitoring" {
				t.Errorf("the ServiceMonitor with the labels %v finds %v", u.GetLabels(), found)
			}
		case "PrometheusRule":
			seen++
			got, _, _ := unstructured.NestedSlice(u.Object, "spec", "groups")
			var want []any
			for _, name := range []string{"dra", "gpu", "mtls", "serving"} {
				raw, err := os.ReadFile(filepath.Join("../../../deploy/rules", name+".yaml"))
				if err != nil {
					t.Fatal(err)
				}
				var f struct {
					Groups []any `json:"groups"`
				}
				if err := yaml.Unmarshal(raw, &f); err != nil {
					t.Fatal(err)
				}
				want = append(want, f.Groups...)
			}
			a, _ := yaml.Marshal(got)
			b, _ := yaml.Marshal(want)
			if len(want) < 4 || !bytes.Equal(a, b) {
				t.Errorf("the rules are not those of deploy/rules:\n%s", a)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d objects of the operator", seen)
	}
}

func subset(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) > 0
}

// Values that are unknown, wrong, unsafe or do not go together are refused, and the
// refusal says what is meant.
func TestRefusals(t *testing.T) {
	t.Parallel()
	auth := `{tokens: [{name: ci, role: asker, file: /etc/gumshoe/secrets/t/ci}]}`
	for name, c := range map[string]struct{ over, want string }{
		"no image":                  {`image: {repository: ""}`, "no image of gumshoe is published"},
		"no tag":                    {`image: {tag: ""}`, "image.tag and image.digest are empty"},
		"a digest that is none":     {`image: {digest: latest}`, "image/digest"},
		"an unknown value":          {`replica: 2`, "'replica' not allowed"},
		"an unknown field":          {`service: {ports: 2}`, "'ports' not allowed"},
		"an unknown configuration":  {`config: {server: {lisen: "x"}}`, "'lisen' not allowed"},
		"a deep one":                {`config: {server: {auth: {oidc: {issuerURL: x}}}}`, "'issuerURL' not allowed"},
		"a listen address":          {`config: {server: {listen: "0.0.0.0:7456"}}`, "'listen' not allowed"},
		"execute":                   {`config: {server: {execute: true}}`, "'execute' not allowed"},
		"an executor of its own":    {`config: {executor: {kubeconfig: /x}}`, "'executor' not allowed"},
		"another kubeconfig":        {`config: {kubernetes: {kubeconfig: /x}}`, "'kubeconfig' not allowed"},
		"a wrong type":              {`replicas: "two"`, "replicas"},
		"no replicas":               {`replicas: 0`, "replicas"},
		"a number as duration":      {`config: {server: {queue: {grace: 30}}}`, "grace"},
		"a wrong duration":          {`config: {server: {queue: {grace: 30 seconds}}}`, "grace"},
		"two and an own store":      {`replicas: 2`, "the embedded store belongs to one process"},
		"nats without a key":        {`config: {server: {nats: {urls: ["nats://nats:4222"]}}}`, "approval.existingSecret is empty"},
		"two and no session key":    {`{replicas: 2, approval: {existingSecret: k}, config: {server: {nats: {urls: ["nats://nats:4222"]}, auth: {oidc: {issuer: "https://i", clientID: c, redirectURL: "https://g/auth/callback"}, roles: {viewer: {users: ["*"]}}}}}}`, "sessionKeyFile is empty"},
		"sign-in without roles":     {`config: {server: {auth: {oidc: {issuer: "https://i", clientID: c}}}}`, "config.server.auth.roles is empty"},
		"empty roles":               {`config: {server: {auth: {tokenReview: {}, roles: {viewer: {}}}}}`, "config.server.auth.roles is empty"},
		"a token without a role":    {`config: {server: {auth: {tokens: [{name: ci, file: /x}]}}}`, "config.server.auth.roles is empty"},
		"roles without sign-in":     {`config: {server: {auth: {roles: {viewer: {users: ["*"]}}}}}`, "nobody who can sign in"},
		"an executor of nothing":    {`executor: {enabled: true}`, "executor.actions is empty"},
		"actions without executor":  {`executor: {actions: [cordon]}`, "executor.enabled is false"},
		"an action that is none":    {`executor: {enabled: true, actions: [become_admin]}`, "executor/actions/0"},
		"an open door on loopback":  {`ingress: {enabled: true, host: a.example.com, tlsSecret: t}`, "listens on loopback only, which no Ingress reaches"},
		"a balancer for loopback":   {`service: {type: LoadBalancer}`, "which no Service reaches"},
		"alerts to loopback":        {`config: {server: {alertmanager: {auth: {bearerTokenFile: /x}}}}`, "which no Alertmanager reaches"},
		"slack to loopback":         {`config: {server: {slack: {mode: http, botTokenFile: /x}}}`, "which Slack does not reach"},
		"an ingress without TLS":    {`{ingress: {enabled: true, host: a.example.com}, config: {server: {auth: ` + auth + `}}}`, "ingress.host and ingress.tlsSecret are both needed"},
		"one port for two":          {`ports: {http: 9090}`, "both 9090"},
		"a port of root":            {`ports: {http: 80}`, "ports/http"},
		"a password in an address":  {`config: {server: {nats: {urls: ["nats://me:secret@nats:4222"]}}}`, "urls/0"},
		"a password of Prometheus":  {`config: {prometheus: {url: "http://me:secret@prometheus:9090"}}`, "prometheus/url"},
		"a token in a header":       {`config: {prometheus: {headers: {Authorization: Bearer abc}}}`, "invalid propertyName 'Authorization'"},
		"a key in the environment":  {`env: {OPENAI_API_KEY: abc}`, "OPENAI_API_KEY"},
		"a key in the config":       {`config: {model: {apiKey: abc}}`, "'apiKey' not allowed"},
		"a secret without a name":   {`secrets: [{secretName: a}]`, "missing property 'name'"},
		"a secret with a value":     {`secrets: [{name: a, secretName: a, value: b}]`, "'value' not allowed"},
		"a path for a name":         {`secrets: [{name: ../config, secretName: a}]`, "secrets/0/name"},
		"a size without a unit":     {`persistence: {size: "10"}`, "persistence/size"},
		"a resource that is none":   {`resources: {limits: {memory: plenty}}`, "limits/memory"},
		"a toleration that is none": {`tolerations: [dedicated]`, "tolerations/0"},
		"rules that are not there":  {`prometheusRule: {enabled: true, rules: [weather]}`, "prometheusRule/rules/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := render(t, "gumshoe", "detectives", values(t, "default", c.over))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s gives %d objects and %v, want a refusal with %q", c.over, len(r.objects), err, c.want)
			}
		})
	}
}

// A release is named after itself; what it makes in the cluster also after its namespace.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ release, over, want string }{
		{"gumshoe", "", "gumshoe"}, {"my-gumshoe", "", "my-gumshoe"}, {"ops", "", "ops-gumshoe"}, {"ops", "fullnameOverride: detective", "detective"},
		{strings.Repeat("x", 53), "", strings.Repeat("x", 42) + "-gumshoe"},
	} {
		r := mustRender(t, c.release, "detectives", values(t, "executor", c.over))
		if d := one[*appsv1.Deployment](t, r); d.Name != c.want {
			t.Errorf("release %s makes the Deployment %s, want %s", c.release, d.Name, c.want)
		}
		for _, u := range r.objects {
			if limit := 63; len(u.GetName()) > limit && u.GetNamespace() != "" {
				t.Errorf("%s %s has more than %d characters", u.GetKind(), u.GetName(), limit)
			}
			if strings.HasPrefix(u.GetKind(), "ClusterRole") && !strings.HasPrefix(u.GetName(), "detectives-"+c.want) {
				t.Errorf("%s %s may be another release's", u.GetKind(), u.GetName())
			}
		}
	}
}

// A changed configuration makes new pods, and only that.
func TestChecksum(t *testing.T) {
	t.Parallel()
	sum := func(over string) string {
		return one[*appsv1.Deployment](t, mustRender(t, "gumshoe", "detectives", values(t, "default", over))).Spec.Template.Annotations["checksum/config"]
	}
	first := sum("")
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(first) || sum("{service: {port: 81}}") != first || sum("config: {budget: {steps: 3}}") == first {
		t.Errorf("the checksum is %q", first)
	}
}
