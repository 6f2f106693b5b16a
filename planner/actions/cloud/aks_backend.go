package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Dry implements planner.Backend: Azure has no dry run, so the diff is the one that
// the plan was made with, and the pool must still be as it was then.
func (a *AKS) Dry(ctx context.Context, w incident.Write) (diff, dry string, err error) {
	r, err := a.mine(w)
	if err != nil {
		return "", "", err
	}
	doc, err := a.now(ctx, w.Ref.Name)
	if err != nil {
		return "", "", err
	}
	if err := unchanged(w.Ref, r, doc); err != nil {
		return "", "", err
	}
	return w.Diff, noDry("AKS"), nil
}

// mine decodes the request of a write, which has to be for a pool of this cluster.
func (a *AKS) mine(w incident.Write) (request, error) {
	r, err := decode(w, apiAKS)
	if err != nil {
		return r, err
	}
	if own := a.path(w.Ref.Name); !strings.EqualFold(r.Pool, own) || r.Path != own && !slices.Contains([]string{own + "/abort", own + "/completeUpgrade"}, r.Path) {
		return r, fmt.Errorf("write %s: %s is not pool %s of AKS cluster %s", w.ID, r.Path, w.Ref.Name, a.cfg.Cluster)
	}
	if r.Version != stable && (r.Version != preview || !a.cfg.Preview) {
		return r, fmt.Errorf("write %s: version %s of the API is not allowed here", w.ID, r.Version)
	}
	return r, nil
}

// now reads a pool as it is at this moment.
func (a *AKS) now(ctx context.Context, pool string) (map[string]any, error) {
	a.cache.forget()
	return a.read(ctx, pool)
}

// unchanged holds a pool against the preconditions of a request.
func unchanged(ref incident.Ref, r request, doc map[string]any) error {
	if is := field(doc, "properties.eTag"); r.Match != "" && is != r.Match {
		return drift(ref, "the pool was changed (ETag %s, planned on %s)", is, r.Match)
	}
	if is := field(doc, "properties.provisioningState"); len(r.From) > 0 && !slices.Contains(r.From, is) {
		return drift(ref, "the pool is %s, the request needs %s", is, strings.Join(r.From, " or "))
	}
	return nil
}

// Do implements planner.Backend. It gives the token by which the SDK finds the
// operation again; what the operation comes to is for the checks of the write.
func (a *AKS) Do(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error) {
	none := incident.WriteResult{Write: w.ID}
	r, err := a.mine(w)
	if err != nil {
		return none, err
	}
	if was, err := a.State(ctx, plan, w); err != nil || was.Done {
		return was, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(w.Timeout)*time.Second, timeout))
	defer cancel()
	doc, err := a.now(ctx, w.Ref.Name)
	if err != nil {
		return none, err
	}
	if err := unchanged(w.Ref, r, doc); err != nil {
		return none, err
	}
	if r.Match == "" && r.Method == http.MethodPut { // bound to what was just looked at
		r.Match = field(doc, "properties.eTag")
	}
	token, err := a.send(ctx, w, r)
	a.cache.forget()
	if err != nil {
		return none, err
	}
	out := incident.WriteResult{Write: w.ID, Done: true, UID: r.Pool, Resume: token}
	if doc, err := a.now(ctx, w.Ref.Name); err == nil {
		out.ResourceVersion = field(doc, "properties.eTag")
	}
	return out, nil
}

// send begins the operation: through the SDK what it has, else through the thin client.
func (a *AKS) send(ctx context.Context, w incident.Write, r request) (string, error) {
	group, cluster, pool := a.cfg.ResourceGroup, a.cfg.Cluster, w.Ref.Name
	switch {
	case r.Version == preview:
		res, err := a.call(ctx, r.Method, r.Path, r.Version, r.Match, r.Body)
		if err != nil {
			return "", a.conflict(w.Ref, err, pool)
		}
		defer func() { _ = res.Body.Close() }()
		p, err := runtime.NewPoller[operation](res, a.thin.Pipeline(), nil)
		if err != nil {
			return "", nil //nolint:nilerr // it was taken; without a poller the pool itself tells how it goes
		}
		return resume(p), nil
	case r.Method == http.MethodPost:
		p, err := a.pools.BeginAbortLatestOperation(ctx, group, cluster, pool, nil)
		if err != nil {
			return "", a.conflict(w.Ref, err, pool)
		}
		return resume(p), nil
	}
	var ap armcontainerservice.AgentPool
	if err := json.Unmarshal(r.Body, &ap); err != nil {
		return "", fmt.Errorf("write %s: the request is no agent pool: %w", w.ID, err)
	}
	p, err := a.pools.BeginCreateOrUpdate(ctx, group, cluster, pool, ap, &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfMatch: &r.Match})
	if err != nil {
		return "", a.conflict(w.Ref, err, pool)
	}
	return resume(p), nil
}

// operation is what an operation of the thin client comes to; its name is a part of
// the token.
type operation struct {
	Properties map[string]any `json:"properties"`
}

// resume gives the token of an operation, empty when it has ended already.
func resume[T any](p *runtime.Poller[T]) string {
	token, err := p.ResumeToken()
	if err != nil {
		return ""
	}
	return token
}

// conflict tells a precondition that does not hold from other failures.
func (a *AKS) conflict(ref incident.Ref, err error, pool string) error {
	if statusOf(err) == http.StatusPreconditionFailed {
		return drift(ref, "the pool was changed in the meantime (412)")
	}
	return a.failure(err, pool)
}

// State implements planner.Backend: by the state and the versions of the pool.
func (a *AKS) State(ctx context.Context, _ string, w incident.Write) (incident.WriteResult, error) {
	out := incident.WriteResult{Write: w.ID}
	r, err := a.mine(w)
	if err != nil {
		return out, err
	}
	doc, err := a.now(ctx, w.Ref.Name)
	if err != nil {
		return out, err
	}
	get := func(k string) string { return field(doc, "properties."+k) }
	versions := []string{get("currentOrchestratorVersion"), get("orchestratorVersion")}
	if !r.Want.stands(get("provisioningState"), versions, get("nodeImageVersion"), number(get("count")), doc) {
		return out, nil
	}
	return incident.WriteResult{Write: w.ID, Done: true, Found: true, UID: r.Pool, ResourceVersion: get("eTag")}, nil
}

// Hold implements planner.Backend.
func (a *AKS) Hold(ctx context.Context, t incident.Target) error {
	doc, err := a.now(ctx, t.Ref.Name)
	if isNoPool(err) {
		return drift(t.Ref, "it is gone")
	}
	if err != nil {
		return err
	}
	if is := field(doc, "properties.eTag"); t.ResourceVersion != "" && is != t.ResourceVersion {
		return drift(t.Ref, "the pool was changed (ETag %s, planned on %s)", is, t.ResourceVersion)
	}
	return nil
}
