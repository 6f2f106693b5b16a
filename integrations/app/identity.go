package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// Proofs of a name.
const (
	proofCluster       = "cluster"
	proofImpersonation = "impersonation"
	proofLogin         = "login"
)

// asPerson gives a client configuration that acts as somebody; "" is the caller.
func (a *App) asPerson(as string) *rest.Config {
	rc := rest.CopyConfig(a.src.rest)
	if as != "" {
		rc.Impersonate = rest.ImpersonationConfig{UserName: as}
	}
	return rc
}

// Caller is who wants something of a plan.
type Caller struct {
	// As is a name that the cluster is asked to let the process act as; empty is the
	// process's own identity.
	As string
	// Known is a person whom a surface's own login proved; it goes before As.
	Known incident.Person
	// Surface is where they are: "cli", "slack", "web", "api".
	Surface string
}

// As is a caller known by the cluster.
func As(name, surface string) Caller { return Caller{As: name, Surface: surface} }

// Login is a caller known by a surface's login. A person without a name is the
// process's own identity.
func Login(who incident.Person) Caller { return Caller{Known: who, Surface: who.Surface} }

// person says who the caller is. Whom no login proved, the cluster names; a name that
// is claimed is the cluster's word too: it lets the process impersonate them, or
// refuses.
func (p *Plans) person(ctx context.Context, c Caller) (incident.Person, error) {
	if err := p.needsCluster(); err != nil {
		return incident.Person{}, err
	}
	if c.Known.Name != "" {
		who := c.Known
		who.Surface, who.Proof = c.Surface, proofLogin
		who.Roles = p.rules.Roles(who)
		return who, nil
	}
	as, surface := c.As, c.Surface
	client, err := kubernetes.NewForConfig(p.app.asPerson(as))
	if err != nil {
		return incident.Person{}, fmt.Errorf("kubernetes client: %w", err)
	}
	r, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		who := "you are"
		if as != "" {
			who = as + " is"
		}
		kind := tool.Unreachable
		if apierrors.IsForbidden(err) {
			kind = tool.Forbidden
		}
		return incident.Person{}, &tool.Error{Kind: kind, User: fmt.Sprintf("the cluster does not say who %s: %v", who, err), Fix: "a word about a plan needs a name that the cluster vouches for", Err: err}
	}
	who := incident.Person{Name: r.Status.UserInfo.Username, Groups: r.Status.UserInfo.Groups, Surface: surface, Proof: proofCluster}
	if as != "" {
		who.Proof = proofImpersonation
	}
	if who.Name == "" {
		return who, errors.New("the cluster knows no name for this identity")
	}
	who.Roles = p.rules.Roles(who)
	return who, nil
}

// reviewer asks the cluster whether a person could make every write of a plan: no
// one approves what they may not do.
type reviewer struct {
	app   *App
	rules *policy.Policy
}

var _ approval.Reviewer = reviewer{}

// MayApprove implements approval.Reviewer.
func (r reviewer) MayApprove(ctx context.Context, who incident.Person, plan incident.Plan) error {
	// Where the policy names approvers, nobody else approves.
	named := r.rules.Settings().Roles[policy.RoleApprover]
	approver := slices.Contains(r.rules.Roles(who), policy.RoleApprover)
	if !approver && len(named.Users)+len(named.Groups) > 0 {
		return fmt.Errorf("the policy gives the role %s to others (settings.roles)", policy.RoleApprover)
	}
	self, err := kubernetes.NewForConfig(r.app.src.rest)
	if err != nil {
		return fmt.Errorf("kubernetes client: %w", err)
	}
	asked := map[authorizationv1.ResourceAttributes]bool{}
	for _, s := range plan.Steps {
		for _, w := range slices.Concat(s.Writes, s.Undo) {
			if w.API != incident.APIKubernetes {
				if !approver {
					return fmt.Errorf("whether %s may change %s is nothing that the cluster knows: the policy has to give them the role %s (settings.roles)", who.Name, w.API, policy.RoleApprover)
				}
				continue
			}
			attr := authorizationv1.ResourceAttributes{Namespace: w.Ref.Namespace, Verb: w.Verb, Group: w.Ref.Group, Version: w.Version, Resource: w.Resource, Name: w.Ref.Name}
			if w.Verb == incident.VerbEvict {
				attr.Verb, attr.Subresource = "create", "eviction"
			}
			if w.Verb == incident.VerbCreate { // RBAC does not know names of what is to be
				attr.Name = ""
			}
			if asked[attr] {
				continue
			}
			asked[attr] = true
			ok, err := r.allowed(ctx, self, who, attr)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("%s may not %s %s themselves, and nobody approves what they may not do", who.Name, w.Verb, w.Ref)
			}
		}
	}
	return nil
}

// allowed asks as the person: with their own credentials, or impersonating them.
func (r reviewer) allowed(ctx context.Context, self kubernetes.Interface, who incident.Person, attr authorizationv1.ResourceAttributes) (bool, error) {
	if who.Proof == proofCluster {
		a, err := self.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attr}}, metav1.CreateOptions{})
		if err != nil {
			return false, fmt.Errorf("whether %s may do it cannot be asked: %w", who.Name, err)
		}
		return a.Status.Allowed, nil
	}
	a, err := self.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &attr, User: who.Name, Groups: who.Groups}}, metav1.CreateOptions{})
	if err == nil {
		return a.Status.Allowed, nil
	}
	// Who may impersonate may not always ask about others: then it is asked as them.
	as, cerr := kubernetes.NewForConfig(r.app.asPerson(who.Name))
	if cerr != nil {
		return false, fmt.Errorf("kubernetes client: %w", cerr)
	}
	b, serr := as.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attr}}, metav1.CreateOptions{})
	if serr != nil {
		return false, fmt.Errorf("whether %s may do it cannot be asked: %w", who.Name, errors.Join(err, serr))
	}
	return b.Status.Allowed, nil
}
