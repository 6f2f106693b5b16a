package chart

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// The server of a plain installation answers with the reader's rights, on loopback, and
// writes nothing; nobody could make it.
func reader(t *testing.T, c *cluster) {
	c.misled(t, "shop-reading")
	r := c.install(t, "gumshoe", "reading", values(t, "default"))
	o := c.serve(t, r, mounted(t, r, t.TempDir()))
	o.healthy(t)
	if !strings.HasPrefix(o.cfg.Server.Listen, "127.0.0.1:") {
		t.Errorf("without authentication it listens on %s", o.cfg.Server.Listen)
	}
	run, report := investigate(t, o.as(t, ""), "shop-reading")
	for _, gap := range report.Diagnosis.NotSeen {
		if strings.Contains(gap.Why, "forbidden") && !strings.Contains(gap.Why, "secrets") {
			t.Errorf("with the reader's rights is not seen: %s: %s", gap.Source, gap.Why)
		}
	}
	made, err := o.as(t, "").Propose(t.Context(), session.PlanAsk{Run: run})
	if err != nil {
		t.Fatalf("no plan: %v", err)
	}
	say := o.as(t, "")
	if _, err := say.Plan(t.Context(), made.Plan.ID); err != nil {
		t.Fatal(err)
	}
	if rec, err := say.Say(t.Context(), made.Plan.ID, incident.Approved, "go", incident.Person{}); err == nil && rec.State != incident.PlanPending {
		t.Errorf("who may do nothing approved: the plan is %s", rec.State)
	}
	account := "system:serviceaccount:reading:gumshoe-reader"
	self, err := kubernetes.NewForConfig(c.cp.UserConfig(c.token(t, "reading", "gumshoe-reader")))
	if err != nil {
		t.Fatal(err)
	}
	_, create := self.CoreV1().ConfigMaps("shop-reading").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	_, secrets := self.CoreV1().Secrets("reading").List(t.Context(), metav1.ListOptions{})
	_, reviews := self.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}, metav1.CreateOptions{})
	for what, err := range map[string]error{
		"write": create, "list Secrets": secrets, "review tokens": reviews,
		"delete": self.CoreV1().Services("shop-reading").Delete(t.Context(), "front", metav1.DeleteOptions{}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("the reader may %s: %v", what, err)
		}
	}
	if got := c.writes(t, account); len(got) > 0 {
		t.Errorf("the reader wrote %q", got)
	}
}

// writes lists what an account changed, by the API server's own log.
func (c *cluster) writes(t *testing.T, account string) []string {
	t.Helper()
	log, err := c.cp.AuditLog()
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	var out []string
	for _, r := range log {
		if r.User.Username != account {
			continue
		}
		seen = true
		if r.Object == nil || r.Status.Code >= 300 || strings.Contains(r.URI, "dryRun=All") || slices.Contains([]string{"get", "list", "watch"}, r.Verb) ||
			strings.HasSuffix(r.Object.APIGroup, "authorization.k8s.io") || r.Object.APIGroup == "authentication.k8s.io" {
			continue
		}
		out = append(out, strings.TrimSuffix(r.Verb+" "+r.Object.Resource+" "+r.Object.Namespace+"/"+r.Object.Name, "/"))
	}
	if !seen {
		t.Errorf("the API server never heard of %s", account)
	}
	return out
}

// With the executor on, an approved plan is executed, by the executor's identity and with
// its rights alone; who could not do it themselves does not approve.
func executor(t *testing.T, c *cluster) {
	c.misled(t, "shop-executing")
	vals := values(t, "executor", `config: {server: {auth: {tokens: [{name: ann, role: asker, file: /etc/gumshoe/secrets/tokens/ann}, {name: bob, role: approver, file: /etc/gumshoe/secrets/tokens/bob}, {name: eve, role: approver, file: /etc/gumshoe/secrets/tokens/eve}]}}}`, `approval: {existingSecret: gumshoe-approval}`)
	r := c.install(t, "gumshoe", "executing", vals)
	held := map[string]string{}
	people := map[string]string{}
	for _, name := range []string{"ann", "bob", "eve"} {
		people[name] = name + "-signs-in-to-gumshoe"
		held["gumshoe-tokens/"+name] = people[name]
	}
	soon(t, "the executor's token", func(ctx context.Context) (bool, error) {
		s, err := c.client.CoreV1().Secrets("executing").Get(ctx, "gumshoe-executor", metav1.GetOptions{})
		if err != nil || len(s.Data["token"]) == 0 {
			return false, err
		}
		for k, v := range s.Data {
			held["gumshoe-executor/"+k] = string(v)
		}
		return true, nil
	})
	p := mounted(t, r, t.TempDir(), held)
	c.reach(t, p)
	c.grant(t, "bob", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get", "patch"}})
	o := c.serve(t, r, p)
	o.healthy(t)
	if got := status(t, o.main+"/api/v1/investigations", ""); got != http.StatusUnauthorized {
		t.Errorf("a stranger is answered %d", got)
	}
	run, _ := investigate(t, o.as(t, people["ann"]), "shop-executing")
	made, err := o.as(t, people["ann"]).Propose(t.Context(), session.PlanAsk{Run: run})
	if err != nil {
		t.Fatalf("no plan: %v", err)
	}
	if len(made.Plan.Steps) != 1 || made.Plan.Steps[0].Action != "patch_service_selector" || made.Plan.Steps[0].Writes[0].Dry != "server" {
		t.Fatalf("the plan is %+v", made.Plan)
	}
	// A plan beyond the actions of the values says beforehand that the executor may not.
	beyond, err := o.as(t, people["ann"]).Propose(t.Context(), session.PlanAsk{File: []byte("reason: it hangs\nsteps:\n- {action: rollout_restart, params: {kind: Deployment, namespace: shop-executing, name: front}}\n")})
	if err != nil {
		t.Fatalf("no plan beyond the executor's rights: %v", err)
	}
	if dry := beyond.Plan.Steps[0].Writes[0].Dry; !strings.Contains(dry, "this identity may not get deployments") {
		t.Errorf("the plan beyond the executor's rights was tried with: %s", dry)
	}
	approve := func(name string) error {
		say := o.as(t, people[name])
		if _, err := say.Plan(t.Context(), made.Plan.ID); err != nil {
			t.Fatal(err)
		}
		_, err := say.Say(t.Context(), made.Plan.ID, incident.Approved, "go", incident.Person{})
		return err
	}
	if err := approve("eve"); err == nil || !strings.Contains(err.Error(), "nobody approves what they may not do") {
		t.Errorf("eve has no rights on the cluster and approves: %v", err)
	}
	if err := approve("bob"); err != nil {
		t.Fatalf("bob does not approve: %v", err)
	}
	soon(t, "the plan is executed", func(ctx context.Context) (bool, error) {
		rec, err := o.as(t, people["ann"]).Plan(ctx, made.Plan.ID)
		if err != nil {
			return false, err
		}
		return rec.State == incident.PlanVerified, fmt.Errorf("it is %s %s %q", rec.State, rec.Reason, rec.Left)
	})
	svc, err := c.client.CoreV1().Services("shop-executing").Get(t.Context(), "front", metav1.GetOptions{})
	if err != nil || svc.Spec.Selector["app"] != "front" {
		t.Errorf("the Service selects %v: %v", svc.Spec.Selector, err)
	}
	if got := c.writes(t, "system:serviceaccount:executing:gumshoe-executor"); !slices.Equal(got, []string{"patch services shop-executing/front"}) {
		t.Errorf("the executor wrote %q", got)
	}
	if got := c.writes(t, "system:serviceaccount:executing:gumshoe-reader"); len(got) > 0 {
		t.Errorf("the reader wrote %q", got)
	}
	hand, err := kubernetes.NewForConfig(c.cp.UserConfig(held["gumshoe-executor/token"]))
	if err != nil {
		t.Fatal(err)
	}
	_, scaled := hand.AppsV1().Deployments("shop-executing").Patch(t.Context(), "front", "application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{})
	_, pods := hand.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	for what, err := range map[string]error{"scale": scaled, "list pods": pods, "delete the Service": hand.CoreV1().Services("shop-executing").Delete(t.Context(), "front", metav1.DeleteOptions{})} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("the executor may %s, which no action of the values does: %v", what, err)
		}
	}
}

// reach lets the executor's kubeconfig name this control plane: kubernetes.default.svc
// is a name of the cluster's own DNS.
func (c *cluster) reach(t *testing.T, p pod) {
	t.Helper()
	file := filepath.Join(p.root, "etc/gumshoe/config/executor.kubeconfig")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const inside = "https://kubernetes.default.svc"
	if strings.Count(string(raw), inside) != 1 {
		t.Fatalf("the executor's kubeconfig is %s", raw)
	}
	text := strings.Replace(string(raw), inside, c.cp.RESTConfig().Host, 1)
	if err := errors.Join(os.Remove(file), os.WriteFile(file, []byte(text), 0o440)); err != nil {
		t.Fatal(err)
	}
}

// grant gives a person rights on the whole cluster.
func (c *cluster) grant(t *testing.T, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: name}
	if _, err := c.client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}}}
	if _, err := c.client.RbacV1().ClusterRoleBindings().Create(t.Context(), b, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Where the values have the cluster asked whose token it is, the reader may ask, and a
// ServiceAccount signs in with a token that is meant for gumshoe, and with no other.
func review(t *testing.T, c *cluster) {
	c.apply(t, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: visitors}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: visitor, namespace: visitors}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other, namespace: visitors}\n")
	c.misled(t, "shop-reviewing")
	r := c.install(t, "gumshoe", "reviewing", values(t, "review"))
	o := c.serve(t, r, mounted(t, r, t.TempDir()))
	o.healthy(t)
	if o.cfg.Server.Listen != ":7456" {
		t.Errorf("with authentication it listens on %s", o.cfg.Server.Listen)
	}
	good := c.token(t, "visitors", "visitor", "gumshoe")
	for what, x := range map[string]struct {
		token string
		want  int
	}{
		"a token for gumshoe":                {good, http.StatusOK},
		"a token for the cluster":            {c.token(t, "visitors", "visitor"), http.StatusUnauthorized},
		"somebody's without a role":          {c.token(t, "visitors", "other", "gumshoe"), http.StatusForbidden},
		"a token that was tampered with":     {good[:len(good)-8] + "AAAAAAAA", http.StatusUnauthorized},
		"no token":                           {"", http.StatusUnauthorized},
		"a token of gumshoe's own, untitled": {c.token(t, "reviewing", "gumshoe-reader", "gumshoe"), http.StatusForbidden},
	} {
		if got := status(t, o.main+"/api/v1/sessions", x.token); got != x.want {
			t.Errorf("%s is answered %d, want %d", what, got, x.want)
		}
	}
	investigate(t, o.as(t, good), "shop-reviewing")
}
