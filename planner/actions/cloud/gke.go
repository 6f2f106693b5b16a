package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

const (
	// apiGKE is the API of the writes.
	apiGKE = "gke"
	// gkeEndpoint is where the container API is.
	gkeEndpoint = "https://container.googleapis.com"
)

// GKEConfig names one cluster and how its API is reached.
type GKEConfig struct {
	Project, Location, Cluster string
	// Token gives an OAuth access token.
	Token func(context.Context) (string, error)
	// HTTP sends the requests; nil means http.DefaultTransport.
	HTTP http.RoundTripper
	// Endpoint of the API; empty means Google's.
	Endpoint string
	Now      func() time.Time
}

// GKE describes and changes the node pools of one cluster through the REST form of
// the container API, v1. It is safe for concurrent use.
type GKE struct {
	cfg   GKEConfig
	http  *http.Client
	cache *cache
}

var (
	_ actions.PoolCloud = (*GKE)(nil)
	_ planner.Backend   = (*GKE)(nil)
)

// NewGKE makes the client of one cluster. It talks to nobody.
func NewGKE(c GKEConfig) (*GKE, error) {
	switch {
	case c.Project == "" || c.Location == "" || c.Cluster == "":
		return nil, errors.New("gke: project, location and cluster are required")
	case c.Token == nil:
		return nil, errors.New("gke: Token is required")
	case c.Now == nil:
		return nil, errors.New("gke: a clock is required")
	}
	if c.Endpoint == "" {
		c.Endpoint = gkeEndpoint
	}
	if _, err := url.Parse(c.Endpoint); err != nil {
		return nil, fmt.Errorf("gke: endpoint %q: %w", c.Endpoint, err)
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultTransport
	}
	return &GKE{cfg: c, http: &http.Client{Transport: c.HTTP, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, cache: &cache{now: c.Now}}, nil
}

// Name implements actions.PoolCloud.
func (g *GKE) Name() string { return "GKE" }

func (g *GKE) location() string {
	return "projects/" + url.PathEscape(g.cfg.Project) + "/locations/" + url.PathEscape(g.cfg.Location)
}

// path is the name of a pool in the API.
func (g *GKE) path(pool string) string {
	return g.location() + "/clusters/" + url.PathEscape(g.cfg.Cluster) + "/nodePools/" + url.PathEscape(pool)
}

// errStatus is an answer that is none.
type errStatus struct {
	code int
	text string
}

// Error implements error.
func (e errStatus) Error() string { return e.text }

// call sends one request and reads its JSON.
func (g *GKE) call(ctx context.Context, method, path string, body []byte) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	token, err := g.cfg.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("no token for Google Cloud: %s: log in with application-default credentials, or use workload identity", firstLine(err.Error()))
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(g.cfg.Endpoint, "/")+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("gke: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", "gumshoe")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := g.http.Do(req)
	if err != nil {
		return nil, lost("the container API", err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, lost("the container API", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, g.refused(res.StatusCode, raw)
	}
	return object(raw)
}

// object reads a JSON object.
func object(raw []byte) (map[string]any, error) {
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("the container API's answer cannot be read: %s", firstLine(err.Error()))
	}
	return doc, nil
}

// refused turns an answer that is none into a sentence with a way out.
func (g *GKE) refused(status int, raw []byte) error {
	var e struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(raw, &e) // what is no JSON says nothing more
	where := "GKE cluster " + g.cfg.Cluster + " in " + g.cfg.Location
	text := strings.TrimSpace(fmt.Sprintf("the container API answered %d %s: %s", status, e.Error.Status, firstLine(e.Error.Message)))
	switch status {
	case http.StatusUnauthorized:
		text = "Google Cloud does not accept this identity (401): log in again, or check the workload identity"
	case http.StatusForbidden:
		text = "this identity may not do that on " + where + " (403): it needs container.clusters.get and container.clusters.update"
	case http.StatusNotFound:
		text = "not found in " + where + " (404): " + firstLine(e.Error.Message)
	}
	return errStatus{code: status, text: text}
}

// read gets the JSON of a pool, with the operations on it that are under way.
func (g *GKE) read(ctx context.Context, pool string) (map[string]any, error) {
	return g.cache.get(pool, func() (map[string]any, error) {
		doc, err := g.call(ctx, http.MethodGet, g.path(pool), nil)
		if e, ok := errors.AsType[errStatus](err); ok && e.code == http.StatusNotFound {
			return nil, errNoPool{pool}
		}
		if err != nil {
			return nil, err
		}
		ops, err := g.call(ctx, http.MethodGet, g.location()+"/operations", nil)
		if err != nil {
			return nil, err
		}
		doc[operations] = g.running(ops, pool)
		return doc, nil
	})
}

// operations is the key under which the running operations of a pool are kept beside
// its JSON.
const operations = "gumshoe/operations"

// running picks the operations on a pool that have not ended: "TYPE name", of one
// that is being stopped "ABORTING name".
func (g *GKE) running(doc map[string]any, pool string) []any {
	out := []any{}
	list, _ := doc["operations"].([]any)
	for _, o := range list {
		m, _ := o.(map[string]any)
		status := field(m, "status")
		if status != "RUNNING" && status != "PENDING" && status != "ABORTING" || !strings.HasSuffix(field(m, "targetLink"), "/clusters/"+g.cfg.Cluster+"/nodePools/"+pool) {
			continue
		}
		kind := field(m, "operationType")
		if status == "ABORTING" {
			kind = status
		}
		out = append(out, kind+" "+field(m, "name"))
	}
	return out
}

// upgrading names the operation that upgrades a pool, empty when there is none.
func upgrading(doc map[string]any) string {
	list, _ := doc[operations].([]any)
	for _, o := range list {
		s, _ := o.(string)
		if name, ok := strings.CutPrefix(s, "UPGRADE_NODES "); ok {
			return name
		}
	}
	return ""
}

func busy(doc map[string]any) bool {
	list, _ := doc[operations].([]any)
	return len(list) > 0
}

// gkePhase maps NodePool.Status and BlueGreenInfo.Phase. A blue-green upgrade that
// nothing works on was stopped, or has failed.
func gkePhase(doc map[string]any) string {
	blueGreen := field(doc, "updateInfo.blueGreenInfo.phase")
	if blueGreen != "" && blueGreen != "PHASE_UNSPECIFIED" {
		if !busy(doc) {
			return actions.PhasePaused
		}
		switch blueGreen {
		case "UPDATE_STARTED", "CREATING_GREEN_POOL":
			return actions.PhaseProvisioning
		case "CORDONING_BLUE_POOL":
			return actions.PhaseCordoning
		case "WAITING_TO_DRAIN_BLUE_POOL", "DRAINING_BLUE_POOL":
			return actions.PhaseDraining
		case "NODE_POOL_SOAKING":
			return actions.PhaseFinalSoak
		case "DELETING_BLUE_POOL":
			return actions.PhaseDeleting
		case "ROLLBACK_STARTED":
			return actions.PhaseRollingBack
		}
		return actions.PhaseUnknown
	}
	switch status := field(doc, "status"); {
	case status == "RUNNING" && busy(doc), status == "RECONCILING":
		return actions.PhaseUpdating
	case status == "RUNNING":
		return actions.PhaseIdle
	case status == "PROVISIONING":
		return actions.PhaseProvisioning
	case status == "STOPPING":
		return actions.PhaseDeleting
	case status == "ERROR", status == "RUNNING_WITH_ERROR":
		return actions.PhaseFailed
	}
	return actions.PhaseUnknown
}

// Describe implements actions.PoolCloud.
func (g *GKE) Describe(ctx context.Context, pool string, nodes []actions.PoolNode) (*actions.PoolState, error) {
	doc, err := g.read(ctx, pool)
	if isNoPool(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &actions.PoolState{Provider: g.Name(), Phase: gkePhase(doc), State: field(doc, "status"), Version: field(doc, "version"), Image: field(doc, "config.imageType"), Token: field(doc, "etag"),
		Count: len(nodes), Min: -1, Max: -1, Autoscale: field(doc, "autoscaling.enabled") == "true", Why: map[string]string{}}
	if p := field(doc, "updateInfo.blueGreenInfo.phase"); p != "" {
		s.State += " (" + p + ")"
	}
	s.Deadline, _ = time.Parse(time.RFC3339, field(doc, "updateInfo.blueGreenInfo.bluePoolDeletionStartTime"))
	if s.Facts, err = json.Marshal(doc); err != nil {
		return nil, fmt.Errorf("gke pool %s: %w", pool, err)
	}
	can := func(change string, ok bool, why string) {
		if ok {
			s.Can = append(s.Can, change)
			return
		}
		s.Why[change] = why
	}
	under := slices.Contains([]string{actions.PhaseProvisioning, actions.PhaseCordoning, actions.PhaseDraining, actions.PhaseFinalSoak}, s.Phase)
	blueGreen := field(doc, "updateInfo.blueGreenInfo.phase") != ""
	at := fmt.Sprintf("it is %s (%s)", s.Phase, s.State)
	can(actions.PoolStart, s.Phase == actions.PhaseIdle, at+", and an upgrade begins from idle")
	can(actions.PoolAbort, upgrading(doc) != "" && s.Phase != actions.PhaseDeleting && s.Phase != actions.PhaseRollingBack, "no upgrade is under way that could be stopped: "+at)
	can(actions.PoolCommit, s.Phase == actions.PhaseFinalSoak, "it is not in its soak: "+at)
	can(actions.PoolRevert, blueGreen && (under && upgrading(doc) != "" || s.Phase == actions.PhasePaused), "GKE rolls back a blue-green upgrade that was stopped or has failed, and none that has ended: "+at)
	can(actions.PoolScale, s.Phase == actions.PhaseIdle && !s.Autoscale, scaleWhy(s, at))
	s.Why[actions.PoolRollback] = "GKE goes back only from an upgrade that has not ended (pool_bluegreen_rollback)"
	s.Why[actions.PoolPause], s.Why[actions.PoolResume] = "GKE has no pause", "GKE has no pause"
	return s, nil
}

func scaleWhy(s *actions.PoolState, at string) string {
	if s.Autoscale {
		return "its autoscaler sets how many nodes there are"
	}
	return at + ", and a change of size needs it idle"
}
