package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// bouncer speaks the review API and permits what its list names.
type bouncer struct {
	mu    sync.Mutex
	may   map[string]bool
	asked []string
}

func (b *bouncer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SelfSubjectAccessReview
	if !strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") || json.NewDecoder(r.Body).Decode(&review) != nil || review.Spec.ResourceAttributes == nil {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	a := review.Spec.ResourceAttributes
	what := strings.Join([]string{a.Verb, a.Group, a.Version, a.Resource, a.Subresource, a.Namespace, a.Name}, "|")
	b.mu.Lock()
	b.asked = append(b.asked, what)
	review.Status.Allowed = b.may[what]
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

// TestNobodyApprovesWhatTheyMayNotDo: every write is asked about, the undo included,
// and what the cluster cannot know takes a role of the policy.
func TestNobodyApprovesWhatTheyMayNotDo(t *testing.T) {
	t.Parallel()
	dep := incident.Ref{Group: "apps", Kind: "Deployment", Namespace: "ml", Name: "web"}
	claim := incident.Ref{Group: "resource.k8s.io", Kind: "ResourceClaim", Namespace: "ml", Name: "c"}
	pod := incident.Ref{Kind: "Pod", Namespace: "ml", Name: "web-0"}
	plan := incident.Plan{ID: "plan-1", Steps: []incident.Step{{
		Writes: []incident.Write{
			{ID: "s1.1", API: incident.APIKubernetes, Verb: incident.VerbPatch, Ref: dep, Version: "v1", Resource: "deployments"},
			{ID: "s1.2", API: incident.APIKubernetes, Verb: incident.VerbCreate, Ref: claim, Version: "v1", Resource: "resourceclaims"},
			{ID: "s1.3", API: incident.APIKubernetes, Verb: incident.VerbEvict, Ref: pod, Version: "v1", Resource: "pods"},
		},
		Undo: []incident.Write{{ID: "s1.u1", API: incident.APIKubernetes, Verb: incident.VerbDelete, Ref: claim, Version: "v1", Resource: "resourceclaims"}},
	}}}
	all := []string{"patch|apps|v1|deployments||ml|web", "create|resource.k8s.io|v1|resourceclaims||ml|", "create||v1|pods|eviction|ml|web-0", "delete|resource.k8s.io|v1|resourceclaims||ml|c"}
	anna := incident.Person{Name: "anna", Groups: []string{"sre"}, Proof: proofCluster}
	rules := func(settings string) *policy.Policy {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := policy.New(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	review := func(p *policy.Policy, plan incident.Plan, may ...string) (*bouncer, error) {
		b := &bouncer{may: map[string]bool{}}
		for _, m := range may {
			b.may[m] = true
		}
		srv := httptest.NewServer(b)
		t.Cleanup(srv.Close)
		r := reviewer{app: &App{src: &source{rest: &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}}}, rules: p}
		return b, r.MayApprove(t.Context(), anna, plan)
	}
	plain := rules("settings: {}")
	if b, err := review(plain, plan, all...); err != nil || strings.Join(b.asked, " ") != strings.Join(all, " ") {
		t.Errorf("%v; asked %q", err, b.asked)
	}
	for i := range all {
		may := append(append([]string{}, all[:i]...), all[i+1:]...)
		if _, err := review(plain, plan, may...); err == nil || !strings.Contains(err.Error(), "may not") {
			t.Errorf("without %s: %v", all[i], err)
		}
	}
	if _, err := review(rules("settings: {roles: {approver: {users: [bob]}}}"), plan, all...); err == nil || !strings.Contains(err.Error(), "role approver") {
		t.Errorf("the policy names others: %v", err)
	}
	if _, err := review(rules("settings: {roles: {approver: {groups: [sre]}}}"), plan, all...); err != nil {
		t.Errorf("the policy names their group: %v", err)
	}
	cloud := incident.Plan{ID: "plan-2", Steps: []incident.Step{{Writes: []incident.Write{{ID: "s1.1", API: "aks", Verb: "put", Ref: incident.Ref{Kind: "AgentPool", Name: "gpu"}}}}}}
	if _, err := review(plain, cloud, all...); err == nil || !strings.Contains(err.Error(), "nothing that the cluster knows") {
		t.Errorf("a cloud without the role: %v", err)
	}
	if _, err := review(rules("settings: {roles: {approver: {groups: [sre]}}}"), cloud); err != nil {
		t.Errorf("a cloud with the role: %v", err)
	}
}
