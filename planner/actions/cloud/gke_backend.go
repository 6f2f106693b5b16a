package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// Request implements actions.PoolCloud.
func (g *GKE) Request(_ context.Context, s *actions.PoolState, ch actions.PoolChange) (*actions.PoolRequest, error) {
	doc, err := object(s.Facts)
	if err != nil {
		return nil, err
	}
	switch ch.Kind {
	case actions.PoolStart:
		return g.start(s, doc, ch)
	case actions.PoolAbort:
		w, err := g.abort(s, doc)
		return &actions.PoolRequest{Writes: []incident.Write{w}, Lasting: "the upgrade stays stopped, with green and blue nodes, until it is begun again or rolled back",
			Verify: []incident.Check{actions.PoolPhase(s, actions.PhasePaused+","+actions.PhaseFailed, actions.PoolTarget{}, -1, 1800)}}, err
	case actions.PoolCommit:
		return g.commit(s)
	case actions.PoolRevert:
		return g.revert(s, doc)
	case actions.PoolScale:
		return g.scale(s, doc, ch)
	}
	return nil, fmt.Errorf("gke has no change %q", ch.Kind)
}

// ask makes the write of one call.
func (g *GKE) ask(s *actions.PoolState, verb, say, method, suffix string, body any, w want) (incident.Write, error) {
	r := request{Pool: g.path(s.Ref.Name), Method: method, Path: g.path(s.Ref.Name) + suffix, Match: s.Token, Want: w}
	raw, err := json.Marshal(body)
	if err != nil {
		return incident.Write{}, fmt.Errorf("gke pool %s: %w", s.Ref.Name, err)
	}
	r.Body = raw
	out, err := r.write(apiGKE, s, verb, say)
	out.Dry = noDry("GKE")
	return out, err
}

func (g *GKE) start(s *actions.PoolState, doc map[string]any, ch actions.PoolChange) (*actions.PoolRequest, error) {
	missing := func(param, text string, args ...any) error {
		return &planner.Missing{Action: "pool_" + ch.Kind, Param: param, Why: fmt.Sprintf(text, args...)}
	}
	if ch.Settings["drain_timeout"] != "" {
		return nil, missing("drain_timeout", "GKE has no such setting: it evicts by force after an hour")
	}
	policy := map[string]any{}
	batch := ch.Settings["drain_batch"]
	if _, err := batchOf(batch, s.Count); err != nil {
		return nil, missing("drain_batch", "%v", err)
	}
	if share, ok := strings.CutSuffix(batch, "%"); ok {
		n, _ := strconv.Atoi(share)
		policy["batchPercentage"] = float64(n) / 100
	} else if n, err := strconv.Atoi(batch); err == nil {
		policy["batchNodeCount"] = n
	}
	soak := ""
	for param, most := range map[string]int{"batch_soak": 7 * 24 * 60, "final_soak": 7 * 24 * 60} {
		raw := ch.Settings[param]
		if raw == "" {
			continue
		}
		n, err := strconv.Atoi(raw)
		if err != nil || n < 0 || n > most {
			return nil, missing(param, "GKE takes 0 to %d minutes", most)
		}
		if param == "batch_soak" {
			policy["batchSoakDuration"] = fmt.Sprintf("%ds", n*60)
		} else {
			soak = fmt.Sprintf("%ds", n*60)
		}
	}
	r := &actions.PoolRequest{More: s.Count, Lasting: "an upgrade that is stopped keeps green and blue nodes side by side until it is rolled back", Warnings: []string{
		fmt.Sprintf("the pool has twice its %d nodes until the end of the soak", s.Count),
		"GKE honours disruption budgets for an hour, then it evicts by force",
		"the way back ends when the blue nodes are deleted",
	}}
	settings := map[string]any{"strategy": "BLUE_GREEN", "blueGreenSettings": map[string]any{}}
	blueGreen, _ := settings["blueGreenSettings"].(map[string]any)
	if len(policy) > 0 {
		blueGreen["standardRolloutPolicy"] = policy
	}
	if soak != "" {
		blueGreen["nodePoolSoakDuration"] = soak
	}
	if len(blueGreen) > 0 || field(doc, "upgradeSettings.strategy") != "BLUE_GREEN" {
		w, err := g.ask(s, actions.PoolStart, "let pool "+s.Ref.Name+" upgrade blue-green", http.MethodPut, "", map[string]any{"upgradeSettings": settings, "etag": s.Token}, want{Settings: flat("upgradeSettings", settings)})
		if err != nil {
			return nil, err
		}
		after := copyOf(doc)
		after["upgradeSettings"] = settings
		w.Diff = compare(s.Ref.Name, clean(doc), clean(after))
		w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, 900)}
		r.Writes = append(r.Writes, w)
	}
	upgrade := map[string]any{"nodeVersion": ch.Target.Version, "imageType": s.Image}
	if len(r.Writes) == 0 { // another write before it changes the etag
		upgrade["etag"] = s.Token
	}
	w, err := g.ask(s, actions.PoolStart, "upgrade pool "+s.Ref.Name+" to "+ch.Target.Version, http.MethodPut, "", upgrade, want{Version: ch.Target.Version})
	if err != nil {
		return nil, err
	}
	after := copyOf(doc)
	after["version"] = ch.Target.Version
	w.Diff = compare(s.Ref.Name, clean(doc), clean(after))
	if len(r.Writes) > 0 {
		if err := rebind(&w, func(q *request) { q.Match = "" }); err != nil {
			return nil, err
		}
	}
	r.Writes = append(r.Writes, w)
	r.Verify = []incident.Check{actions.PoolPhase(s, strings.Join([]string{actions.PhaseProvisioning, actions.PhaseCordoning, actions.PhaseDraining, actions.PhaseFinalSoak}, ","), actions.PoolTarget{}, -1, 900)}
	return r, nil
}

// rebind changes the request of a write.
func rebind(w *incident.Write, change func(*request)) error {
	var q request
	if err := json.Unmarshal(w.Body, &q); err != nil {
		return err
	}
	change(&q)
	raw, err := json.Marshal(q)
	w.Body = raw
	return err
}

// flat lists the single values of nested settings by their path.
func flat(prefix string, m map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		switch x := v.(type) {
		case map[string]any:
			maps.Copy(out, flat(prefix+"."+k, x))
		case string:
			out[prefix+"."+k] = x
		case int:
			out[prefix+"."+k] = strconv.Itoa(x)
		case float64:
			out[prefix+"."+k] = fmt.Sprintf("%g", x)
		}
	}
	return out
}

// clean is the pool's JSON without what is kept beside it.
func clean(doc map[string]any) map[string]any {
	out := copyOf(doc)
	for _, k := range []string{operations, "etag", "selfLink", "instanceGroupUrls"} {
		delete(out, k)
	}
	return out
}

// abort stops the operation that upgrades a pool.
func (g *GKE) abort(s *actions.PoolState, doc map[string]any) (incident.Write, error) {
	op := upgrading(doc)
	w, err := g.ask(s, actions.PoolAbort, "stop the upgrade of pool "+s.Ref.Name, http.MethodPost, "", map[string]any{}, want{})
	if err != nil {
		return w, err
	}
	return w, rebind(&w, func(q *request) {
		q.Path, q.Match = g.location()+"/operations/"+op+":cancel", ""
		q.Want.Settings = map[string]string{stopped: op}
	})
}

// stopped is a setting that stands when an operation is no longer under way.
const stopped = "gumshoe/stopped"

func (g *GKE) commit(s *actions.PoolState) (*actions.PoolRequest, error) {
	w, err := g.ask(s, actions.PoolCommit, "end the soak of pool "+s.Ref.Name, http.MethodPost, ":completeUpgrade", map[string]any{}, want{})
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, long)}
	return &actions.PoolRequest{Writes: []incident.Write{w}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, 60)}, Lasting: "the blue nodes are gone, and GKE has no way back from an upgrade that has ended"}, err
}

// revert stops the upgrade, where it is under way, and rolls it back.
func (g *GKE) revert(s *actions.PoolState, doc map[string]any) (*actions.PoolRequest, error) {
	r := &actions.PoolRequest{Lasting: "the green nodes are deleted", Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{Version: s.Version}, -1, 60)}}
	w, err := g.ask(s, actions.PoolRevert, "roll the upgrade of pool "+s.Ref.Name+" back", http.MethodPost, ":rollback", map[string]any{"respectPdb": true}, want{Version: s.Version})
	if err != nil {
		return nil, err
	}
	if upgrading(doc) != "" {
		stop, err := g.abort(s, doc)
		if err != nil {
			return nil, err
		}
		stop.Await = []incident.Check{actions.PoolPhase(s, actions.PhasePaused+","+actions.PhaseFailed, actions.PoolTarget{}, -1, 1800)}
		r.Writes = append(r.Writes, stop)
		if err := rebind(&w, func(q *request) { q.Match = "" }); err != nil {
			return nil, err
		}
	}
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, long)}
	r.Writes = append(r.Writes, w)
	// NodePool.version is that of the blue nodes until the upgrade has ended.
	r.Warnings = []string{"pods on the green nodes are moved back; GKE is asked to honour disruption budgets (respectPdb)"}
	return r, nil
}

func (g *GKE) scale(s *actions.PoolState, doc map[string]any, ch actions.PoolChange) (*actions.PoolRequest, error) {
	zones := 1
	if l, ok := doc["locations"].([]any); ok && len(l) > 0 {
		zones = len(l)
	}
	if ch.Count%zones != 0 {
		return nil, &planner.Missing{Action: "pool_" + ch.Kind, Param: "count", Why: fmt.Sprintf("GKE sizes a pool by its %d zones: give a multiple of %d", zones, zones)}
	}
	mk := func(n int, say string) (incident.Write, error) {
		return g.ask(s, actions.PoolScale, fmt.Sprintf(say, s.Ref.Name, n), http.MethodPost, ":setSize", map[string]any{"nodeCount": n / zones}, want{})
	}
	w, err := mk(ch.Count, "set the nodes of pool %s to %d")
	if err != nil {
		return nil, err
	}
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, ch.Count, 3600)}
	r := &actions.PoolRequest{Writes: []incident.Write{w}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, ch.Count, 60)}, More: max(ch.Count-s.Count, 0)}
	if s.Count%zones == 0 {
		undo, err := mk(s.Count, "set the nodes of pool %s to %d again")
		if err != nil {
			return nil, err
		}
		if err := rebind(&undo, func(q *request) { q.Match = "" }); err != nil {
			return nil, err
		}
		undo.Of = "1"
		r.Undo = []incident.Write{undo}
	}
	if ch.Count < s.Count {
		r.Lasting, r.Warnings = "nodes that were deleted are made anew, not brought back", []string{"GKE chooses which nodes go"}
	}
	return r, nil
}

// mine decodes the request of a write, which has to be for a pool of this cluster.
func (g *GKE) mine(w incident.Write) (request, error) {
	r, err := decode(w, apiGKE)
	if err != nil {
		return r, err
	}
	own := g.path(w.Ref.Name)
	cancel := strings.HasPrefix(r.Path, g.location()+"/operations/") && strings.HasSuffix(r.Path, ":cancel") && strings.Count(r.Path, "/") == 5
	suffix, ok := strings.CutPrefix(r.Path, own)
	if r.Pool != own || !cancel && (!ok || suffix != "" && suffix != ":setSize" && suffix != ":rollback" && suffix != ":completeUpgrade") {
		return r, fmt.Errorf("write %s: %s is not pool %s of GKE cluster %s", w.ID, r.Path, w.Ref.Name, g.cfg.Cluster)
	}
	return r, nil
}

// now reads a pool as it is at this moment.
func (g *GKE) now(ctx context.Context, pool string) (map[string]any, error) {
	g.cache.forget()
	return g.read(ctx, pool)
}

// Dry implements planner.Backend: GKE has no dry run, so the diff is the one that the
// plan was made with, and the pool must still be as it was then.
func (g *GKE) Dry(ctx context.Context, w incident.Write) (diff, dry string, err error) {
	r, err := g.mine(w)
	if err != nil {
		return "", "", err
	}
	doc, err := g.now(ctx, w.Ref.Name)
	if err != nil {
		return "", "", err
	}
	return w.Diff, noDry("GKE"), g.unchanged(w.Ref, r, doc)
}

func (g *GKE) unchanged(ref incident.Ref, r request, doc map[string]any) error {
	if is := field(doc, "etag"); r.Match != "" && is != r.Match {
		return drift(ref, "the pool was changed (etag %s, planned on %s)", is, r.Match)
	}
	return nil
}

// Do implements planner.Backend. It gives the name of the operation; what that comes
// to is for the checks of the write.
func (g *GKE) Do(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error) {
	none := incident.WriteResult{Write: w.ID}
	r, err := g.mine(w)
	if err != nil {
		return none, err
	}
	if was, err := g.State(ctx, plan, w); err != nil || was.Done {
		return was, err
	}
	doc, err := g.now(ctx, w.Ref.Name)
	if err != nil {
		return none, err
	}
	if err := g.unchanged(w.Ref, r, doc); err != nil {
		return none, err
	}
	op, err := g.call(ctx, r.Method, r.Path, r.Body)
	g.cache.forget()
	if e, ok := errors.AsType[errStatus](err); ok && e.code == http.StatusPreconditionFailed {
		return none, drift(w.Ref, "the pool was changed in the meantime: %s", e.text)
	}
	if err != nil {
		return none, err
	}
	return incident.WriteResult{Write: w.ID, Done: true, UID: r.Pool, ResourceVersion: field(doc, "etag"), Resume: field(op, "name")}, nil
}

// State implements planner.Backend: by the state and the versions of the pool.
func (g *GKE) State(ctx context.Context, _ string, w incident.Write) (incident.WriteResult, error) {
	out := incident.WriteResult{Write: w.ID}
	r, err := g.mine(w)
	if err != nil {
		return out, err
	}
	doc, err := g.now(ctx, w.Ref.Name)
	if err != nil {
		return out, err
	}
	blueGreen := field(doc, "updateInfo.blueGreenInfo.phase")
	stands := r.Want.stands(field(doc, "status"), []string{field(doc, "version"), field(doc, "updateInfo.blueGreenInfo.greenPoolVersion")}, "", -1, doc)
	switch op := r.Want.Settings[stopped]; {
	case op != "":
		stands = upgrading(doc) != op
	case strings.HasSuffix(r.Path, ":setSize"):
		stands = g.sizing(doc)
	case strings.HasSuffix(r.Path, ":completeUpgrade"):
		stands = blueGreen == "DELETING_BLUE_POOL" || blueGreen == ""
	case strings.HasSuffix(r.Path, ":rollback"):
		stands = blueGreen == "ROLLBACK_STARTED" || blueGreen == "" && field(doc, "version") == r.Want.Version
	}
	if !stands {
		return out, nil
	}
	return incident.WriteResult{Write: w.ID, Done: true, Found: true, UID: r.Pool, ResourceVersion: field(doc, "etag")}, nil
}

// sizing reports whether a change of size is under way. To repeat one that has ended
// changes nothing.
func (g *GKE) sizing(doc map[string]any) bool {
	list, _ := doc[operations].([]any)
	for _, o := range list {
		if s, _ := o.(string); strings.HasPrefix(s, "SET_NODE_POOL_SIZE ") {
			return true
		}
	}
	return false
}

// Hold implements planner.Backend.
func (g *GKE) Hold(ctx context.Context, t incident.Target) error {
	doc, err := g.now(ctx, t.Ref.Name)
	if isNoPool(err) {
		return drift(t.Ref, "it is gone")
	}
	if err != nil {
		return err
	}
	if is := field(doc, "etag"); t.ResourceVersion != "" && is != t.ResourceVersion {
		return drift(t.Ref, "the pool was changed (etag %s, planned on %s)", is, t.ResourceVersion)
	}
	return nil
}
