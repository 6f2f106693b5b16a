package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

const (
	readerToken = "reader-token"
	narrowToken = "narrow-token"
)

// canary is the value of a Secret that nobody may ever read.
const canary = "c4n4ry-8d1f0b6e"

// grant lets a user read what the rules say.
func (l *live) grant(t *testing.T, user, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	subject := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}
	meta := metav1.ObjectMeta{Name: user, Namespace: namespace}
	var err error
	if namespace == "" {
		_, err = l.client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		if err == nil {
			_, err = l.client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user}}, metav1.CreateOptions{})
		}
	} else {
		_, err = l.client.RbacV1().Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		if err == nil {
			_, err = l.client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user}}, metav1.CreateOptions{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reading gives get, list and watch on resources.
func reading(group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"get", "list", "watch"}}
}

// kubeconfigOf writes a kubeconfig for a user.
func (l *live) kubeconfigOf(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := l.cp.UserKubeconfig(path, token); err != nil {
		t.Fatal(err)
	}
	return path
}

// Reading suffices: an identity that may only get, list and watch, and no
// Secrets, learns the same as the administrator; one with few rights learns what
// it lacks; and the API server's own log shows that gumshoe wrote nothing,
// whoever asked.
func TestReadingSuffices(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{Kwok: true, Audit: true, Users: map[string]string{"reader": readerToken, "narrow": narrowToken}})
	l.run(t, []scenario.Group{gpus("rights", 2, 2)}, scenario.Step{Apply: wants("rights", 4, "") + `
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: rights}
stringData: {value: ` + canary + `}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: rights}
spec: {nodeSelector: {site: nowhere}, containers: [{name: main, image: "registry.example.com/app:1", env: [{name: T, valueFrom: {secretKeyRef: {name: token, key: value}}}]}]}
`})
	l.refused(t, "rights", "wants")
	l.refused(t, "rights", "plain")
	l.grant(t, "reader", "", reading("", "pods", "nodes", "events", "namespaces", "services", "configmaps", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes", "resourcequotas", "limitranges", "endpoints", "replicationcontrollers"),
		reading("apps", "*"), reading("batch", "*"), reading("resource.k8s.io", "*"), reading("discovery.k8s.io", "*"), reading("scheduling.k8s.io", "*"), reading("storage.k8s.io", "*"),
		reading("networking.k8s.io", "*"), reading("policy", "*"), reading("autoscaling", "*"), reading("admissionregistration.k8s.io", "*"), reading("apiextensions.k8s.io", "*"))
	l.grant(t, "narrow", "rights", reading("", "pods", "events"))

	questions := map[string]string{"dra.count_exceeds_node": "why is pod rights/wants pending?", "kube.sched_node_selector_mismatch": "why is pod rights/plain pending?"}
	for code, q := range questions {
		admin, reader := ask(t, l.cp.Kubeconfig(), q), ask(t, l.kubeconfigOf(t, readerToken), q)
		if len(admin.Diagnosis.Causes) == 0 || admin.Diagnosis.Causes[0].Code != code {
			t.Errorf("the administrator learns %s", tell(admin))
		}
		if a, b := essence(admin), essence(reader); a != b {
			t.Errorf("the administrator learns\n%s\na reader learns\n%s", a, b)
		}
	}
	t.Run("few rights", func(t *testing.T) { narrow(t, l) })
	t.Run("whole cluster", func(t *testing.T) {
		r := ask(t, l.kubeconfigOf(t, readerToken), "what is wrong with this cluster?")
		if r.Diagnosis.Outcome != incident.RootCause {
			t.Errorf("a reader learns %s", tell(r))
		}
	})
	t.Run("capture", func(t *testing.T) {
		cfg := app.Defaults()
		cfg.Kubernetes.Kubeconfig = l.kubeconfigOf(t, readerToken)
		out := filepath.Join(t.TempDir(), "bundle")
		if _, err := app.CaptureBundle(t.Context(), cfg, out, []string{"rights"}); err != nil {
			t.Fatal(err)
		}
		recorded := app.Defaults()
		recorded.Bundle = out
		r := investigate(t, recorded, questions["dra.count_exceeds_node"])
		if len(r.Diagnosis.Causes) == 0 || r.Diagnosis.Causes[0].Code != "dra.count_exceeds_node" {
			t.Errorf("what a reader captured tells %s", tell(r))
		}
	})
	t.Run("canary", func(t *testing.T) { secretless(t, l) })
	l.nothingWritten(t)
}

// narrow may read pods and events of one namespace: what it cannot see is said
// with the right that is missing, and nothing is made up.
func narrow(t *testing.T, l *live) {
	kubeconfig := l.kubeconfigOf(t, narrowToken)
	for _, c := range []struct {
		pod    string
		wanted []string
		causes []string
	}{
		{"wants", []string{"resourceclaims", "resourceslices"}, nil},
		{"plain", []string{"nodes"}, []string{"kube.sched_node_selector_mismatch"}},
	} {
		r := ask(t, kubeconfig, "why is pod rights/"+c.pod+" pending?")
		var gaps []string
		for _, g := range r.Diagnosis.NotSeen {
			gaps = append(gaps, g.Source+": "+g.Why+" "+g.Fix)
		}
		text := strings.Join(gaps, "\n")
		for _, want := range c.wanted {
			if !strings.Contains(text, want) {
				t.Errorf("pod %s: what was not seen does not name %s: %s", c.pod, want, tell(r))
			}
		}
		switch r.Diagnosis.Outcome {
		case incident.Inconclusive:
		case incident.RootCause:
			for _, cause := range r.Diagnosis.Causes {
				if !slices.Contains(c.causes, cause.Code) {
					t.Errorf("pod %s: %s is named by somebody who cannot see it: %s", c.pod, cause.Code, tell(r))
				}
			}
		default:
			t.Errorf("pod %s: %s", c.pod, tell(r))
		}
	}
	if r := ask(t, kubeconfig, "what is wrong with this cluster?"); r.Diagnosis.Outcome == incident.Healthy {
		t.Errorf("somebody who sees nearly nothing calls the cluster healthy: %s", tell(r))
	}
}

// secretless checks that a Secret's value is in no report, whoever asks, and in
// no bundle.
func secretless(t *testing.T, l *live) {
	r := ask(t, l.cp.Kubeconfig(), "what is wrong in namespace rights? is secret token there?")
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = l.cp.Kubeconfig()
	out := filepath.Join(t.TempDir(), "bundle")
	if _, err := app.CaptureBundle(t.Context(), cfg, out, nil); err != nil {
		t.Fatal(err)
	}
	if has(t, r, canary) {
		t.Error("the report holds the Secret's value")
	}
	for path, text := range files(t, out) {
		if strings.Contains(text, canary) || strings.Contains(text, canaryBase64) {
			t.Errorf("%s holds the Secret's value", path)
		}
	}
}

// nothingWritten reads the API server's own record of what gumshoe asked.
func (l *live) nothingWritten(t *testing.T) {
	t.Helper()
	log, err := l.cp.AuditLog()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range log {
		if r.UserAgent != "gumshoe" && r.User.Username != "reader" && r.User.Username != "narrow" {
			continue
		}
		if r.UserAgent != "gumshoe" {
			t.Errorf("%s asks as %q, not as gumshoe", r.User.Username, r.UserAgent)
		}
		seen[r.User.Username]++
		switch r.Verb {
		case "get", "list", "watch":
		case "create":
			// A question about one's own rights is put by creating it; nothing is stored.
			if r.Object == nil || !strings.HasPrefix(r.Object.Resource, "selfsubject") {
				t.Errorf("%s: %s %s", r.User.Username, r.Verb, r.URI)
			}
		default:
			t.Errorf("%s: %s %s", r.User.Username, r.Verb, r.URI)
		}
	}
	for _, user := range []string{"admin", "reader", "narrow"} {
		if seen[user] == 0 {
			t.Errorf("the audit log knows nothing of %s: %v", user, seen)
		}
	}
	t.Logf("requests: %v", seen)
}
