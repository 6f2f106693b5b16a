package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// Request implements actions.PoolCloud.
func (a *AKS) Request(ctx context.Context, s *actions.PoolState, ch actions.PoolChange) (*actions.PoolRequest, error) {
	var doc map[string]any
	if err := json.Unmarshal(s.Facts, &doc); err != nil {
		return nil, fmt.Errorf("aks pool %s: %w", s.Ref.Name, err)
	}
	if s.Token == "" {
		return nil, &planner.Refused{Action: "pool_" + ch.Kind, Why: "AKS gives no ETag for pool " + s.Ref.Name + ", so a change could meet another one", Way: "do it with the Azure CLI"}
	}
	switch ch.Kind {
	case actions.PoolRollback:
		return a.rollback(ctx, s, doc, ch.Target)
	case actions.PoolStart:
		return a.start(ctx, s, doc, ch)
	case actions.PoolAbort:
		return a.abort(s)
	case actions.PoolCommit:
		return a.commit(s)
	case actions.PoolRevert:
		return a.revert(s, doc)
	case actions.PoolScale:
		return a.scale(s, doc, ch.Count)
	}
	return nil, fmt.Errorf("aks has no change %q", ch.Kind)
}

// asked is the pool's JSON as it is sent back: without what only the server writes.
// nodeImageVersion is left out: to send it starts a rollback.
func asked(doc map[string]any, change func(properties map[string]any)) map[string]any {
	out := copyOf(doc)
	for _, k := range []string{"id", "name", "type"} {
		delete(out, k)
	}
	p, _ := out["properties"].(map[string]any)
	if p == nil {
		p = map[string]any{}
		out["properties"] = p
	}
	for _, k := range []string{"eTag", "provisioningState", "currentOrchestratorVersion", "status", "nodeImageVersion", "virtualMachineNodesStatus"} {
		delete(p, k)
	}
	change(p)
	return out
}

// put makes the write that changes a pool as a whole.
func (a *AKS) put(s *actions.PoolState, verb, say, version string, doc map[string]any, w want, change func(map[string]any)) (incident.Write, error) {
	before, after := asked(doc, func(map[string]any) {}), asked(doc, change)
	raw, err := json.Marshal(after)
	if err != nil {
		return incident.Write{}, fmt.Errorf("aks pool %s: %w", s.Ref.Name, err)
	}
	path := a.path(s.Ref.Name)
	out, err := request{Pool: path, Method: http.MethodPut, Path: path, Version: version, Match: s.Token, Want: w, Body: raw}.write(apiAKS, s, verb, say)
	out.Diff, out.Dry = compare(s.Ref.Name, before, after), noDry("AKS")
	return out, err
}

func (a *AKS) post(s *actions.PoolState, verb, say, operation, version string, from []string, w want) (incident.Write, error) {
	path := a.path(s.Ref.Name)
	out, err := request{Pool: path, Method: http.MethodPost, Path: path + "/" + operation, Version: version, From: from, Want: w}.write(apiAKS, s, verb, say)
	out.Dry = noDry("AKS")
	return out, err
}

func (a *AKS) rollback(ctx context.Context, s *actions.PoolState, doc map[string]any, to actions.PoolTarget) (*actions.PoolRequest, error) {
	w, err := a.back(s, doc, actions.PoolRollback, to, stable)
	if err != nil {
		return nil, err
	}
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, to, -1, long)}
	r := &actions.PoolRequest{Writes: []incident.Write{w}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, to, -1, 60)}, More: -1,
		Lasting: "AKS goes one step back and keeps no way forth but an upgrade; settings of the pool other than the versions are not reverted",
		Warnings: []string{
			"AKS replaces every node of the pool and waits for disruption budgets up to the drain timeout; one node that fails, fails the whole operation",
			"a Fleet auto-upgrade group that holds the cluster is not visible here and would upgrade it again",
		}}
	if !to.Until.IsZero() {
		r.Warnings = append(r.Warnings, "AKS offers this version until "+to.Until.UTC().Format("2006-01-02 15:04")+" UTC")
	}
	cluster, err := a.upgrades(ctx)
	if err != nil {
		return nil, err
	}
	if c := field(cluster, "os"); c != "" && to.Image != s.Image {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the node OS channel %s will bring the newer image again", c))
	}
	return r, nil
}

// back is the request that goes back to a version: to send the node image starts it.
func (a *AKS) back(s *actions.PoolState, doc map[string]any, verb string, to actions.PoolTarget, version string) (incident.Write, error) {
	say := fmt.Sprintf("take pool %s back to %s", s.Ref.Name, strings.TrimSpace(to.Version+" "+to.Image))
	return a.put(s, verb, say, version, doc, want{Version: to.Version, Image: to.Image, States: []string{"RollingBack"}}, func(p map[string]any) {
		p["orchestratorVersion"], p["nodeImageVersion"] = to.Version, to.Image
	})
}

// setting is a field of a blue-green upgrade with its range, in minutes.
type setting struct {
	param, field  string
	def, min, max int
}

func settings() []setting {
	return []setting{
		{"drain_timeout", "drainTimeoutInMinutes", 30, 1, 1440},
		{"batch_soak", "batchSoakDurationInMinutes", 15, 0, 1440},
		{"final_soak", "finalSoakDurationInMinutes", 60, 0, 10080},
	}
}

func (a *AKS) start(ctx context.Context, s *actions.PoolState, doc map[string]any, ch actions.PoolChange) (*actions.PoolRequest, error) {
	bg, minutes := map[string]any{}, map[string]int{}
	for _, x := range settings() {
		minutes[x.param] = x.def
		raw := ch.Settings[x.param]
		if raw == "" {
			continue
		}
		n, err := strconv.Atoi(raw)
		if err != nil || n < x.min || n > x.max {
			return nil, &planner.Missing{Action: "pool_" + ch.Kind, Param: x.param, Why: fmt.Sprintf("AKS takes %d to %d minutes", x.min, x.max)}
		}
		minutes[x.param], bg[x.field] = n, n
	}
	batch := ch.Settings["drain_batch"]
	size, err := batchOf(batch, s.Count)
	if err != nil {
		return nil, &planner.Missing{Action: "pool_" + ch.Kind, Param: "drain_batch", Why: err.Error()}
	}
	if batch != "" {
		bg["drainBatchSize"] = batch
	}
	if err := a.withinControlPlane(ctx, ch); err != nil {
		return nil, err
	}
	w, err := a.put(s, actions.PoolStart, fmt.Sprintf("upgrade pool %s to %s, blue-green", s.Ref.Name, ch.Target.Version), preview, doc,
		want{Settings: map[string]string{"properties.upgradeStrategy": "BlueGreen", "properties.orchestratorVersion": ch.Target.Version}}, func(p map[string]any) {
			p["upgradeStrategy"], p["orchestratorVersion"] = "BlueGreen", ch.Target.Version
			if len(bg) > 0 {
				p["upgradeSettingsBlueGreen"] = bg
			}
		})
	if err != nil {
		return nil, err
	}
	undo, err := a.post(s, actions.PoolAbort, "stop the upgrade of pool "+s.Ref.Name, "abort", stable, nil, want{States: []string{"Canceling", "Canceled"}})
	if err != nil {
		return nil, err
	}
	undo.Of = "1"
	batches := 1
	if s.Count > 0 {
		batches = int(math.Ceil(float64(s.Count) / float64(size)))
	}
	span := func(drain int) int { return batches*(drain+minutes["batch_soak"]) + minutes["final_soak"] }
	return &actions.PoolRequest{Writes: []incident.Write{w}, Undo: []incident.Write{undo}, More: s.Count,
		Lasting: "an upgrade that is stopped keeps green and blue nodes side by side; pool_bluegreen_rollback goes back only in the final soak",
		Verify:  []incident.Check{actions.PoolPhase(s, strings.Join([]string{actions.PhaseProvisioning, actions.PhaseCordoning, actions.PhaseDraining, actions.PhaseFinalSoak, actions.PhaseIdle}, ","), actions.PoolTarget{}, -1, 900)},
		Warnings: []string{
			fmt.Sprintf("the pool has twice its %d nodes until the end: AKS fails the upgrade, and leaves the blue nodes alone, when it does not get them", s.Count),
			fmt.Sprintf("it takes %s to %s of batches and soaks (%d batches), before the time that machines need", hours(span(0)), hours(span(minutes["drain_timeout"])), batches),
			fmt.Sprintf("the way back ends with the final soak of %s: decide before it is over", hours(minutes["final_soak"])),
			"a pod that is not evicted within the drain timeout fails the upgrade",
			"blue-green upgrades of AKS are a preview",
		}}, nil
}

// withinControlPlane refuses nodes that are newer than the control plane.
func (a *AKS) withinControlPlane(ctx context.Context, ch actions.PoolChange) error {
	cluster, err := a.upgrades(ctx)
	if err != nil {
		return err
	}
	if is := field(cluster, "version"); is != "" && newer(ch.Target.Version, is) {
		return &planner.Missing{Action: "pool_" + ch.Kind, Param: "version", Why: fmt.Sprintf("%s is newer than the control plane, %s", ch.Target.Version, is)}
	}
	return nil
}

// newer compares versions by their numbers, as far as both have them.
func newer(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, err1 := strconv.Atoi(x[i])
		n, err2 := strconv.Atoi(y[i])
		if err1 != nil || err2 != nil || m != n {
			return err1 == nil && err2 == nil && m > n
		}
	}
	return false
}

// batchOf is how many nodes are drained together: a number or a share, 10% by default.
func batchOf(s string, nodes int) (int, error) {
	if s == "" {
		s = "10%"
	}
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("%q is no share of 1%% to 100%%", s)
		}
		return max(int(math.Ceil(float64(max(nodes, 1))*float64(n)/100)), 1), nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no number of nodes and no share such as 10%%", s)
	}
	return n, nil
}

func hours(minutes int) string {
	if minutes < 120 {
		return fmt.Sprintf("%d minutes", minutes)
	}
	return fmt.Sprintf("%.1f hours", float64(minutes)/60)
}

func (a *AKS) abort(s *actions.PoolState) (*actions.PoolRequest, error) {
	w, err := a.post(s, actions.PoolAbort, "stop the operation of pool "+s.Ref.Name, "abort", stable, []string{s.State}, want{States: []string{"Canceling", "Canceled"}})
	return &actions.PoolRequest{Writes: []incident.Write{w}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhasePaused, actions.PoolTarget{}, -1, 1800)},
		Lasting:  "the upgrade stays stopped, with nodes of both versions, until it is begun again or taken back",
		Warnings: []string{"what AKS has under way on a node is finished before it stops"}}, err
}

func (a *AKS) commit(s *actions.PoolState) (*actions.PoolRequest, error) {
	w, err := a.post(s, actions.PoolCommit, "end the final soak of pool "+s.Ref.Name, "completeUpgrade", preview, []string{s.State}, want{States: []string{"Succeeded"}})
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, long)}
	return &actions.PoolRequest{Writes: []incident.Write{w}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, -1, 60)},
		Lasting: "the blue nodes are gone; pool_rollback goes back, if AKS offers it, by making nodes anew", Warnings: []string{"blue-green upgrades of AKS are a preview"}}, err
}

// revert stops the upgrade, where it is not stopped yet, and goes back to what the
// blue nodes run.
func (a *AKS) revert(s *actions.PoolState, doc map[string]any) (*actions.PoolRequest, error) {
	r := &actions.PoolRequest{Lasting: "the green nodes are deleted", Warnings: []string{"blue-green upgrades of AKS are a preview", "pods on the green nodes are moved back within their disruption budgets"}}
	w, err := a.back(s, doc, actions.PoolRevert, s.Targets[0], preview)
	if err != nil {
		return nil, err
	}
	if s.Phase != actions.PhasePaused {
		stop, err := a.abort(s)
		if err != nil {
			return nil, err
		}
		stop.Writes[0].Await = stop.Verify
		r.Writes = stop.Writes
		// The ETag changes as the operation stops: the state is the precondition then.
		var q request
		if err := json.Unmarshal(w.Body, &q); err != nil {
			return nil, err
		}
		q.Match, q.From = "", []string{"Canceled"}
		if w.Body, err = json.Marshal(q); err != nil {
			return nil, err
		}
	}
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, s.Targets[0], -1, long)}
	r.Writes = append(r.Writes, w)
	r.Verify = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, s.Targets[0], -1, 60)}
	return r, nil
}

func (a *AKS) scale(s *actions.PoolState, doc map[string]any, to int) (*actions.PoolRequest, error) {
	to32 := func(n int) func(map[string]any) { return func(p map[string]any) { p["count"] = n } }
	w, err := a.put(s, actions.PoolScale, fmt.Sprintf("set the nodes of pool %s to %d", s.Ref.Name, to), stable, doc, want{Count: &to}, to32(to))
	if err != nil {
		return nil, err
	}
	w.Await = []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, to, 3600)}
	was := s.Count
	undo, err := a.put(s, actions.PoolScale, fmt.Sprintf("set the nodes of pool %s to %d again", s.Ref.Name, was), stable, doc, want{Count: &was}, to32(was))
	if err != nil {
		return nil, err
	}
	var q request
	if err := json.Unmarshal(undo.Body, &q); err != nil {
		return nil, err
	}
	q.Match = "" // the write that is taken back has made another one
	if undo.Body, err = json.Marshal(q); err != nil {
		return nil, err
	}
	undo.Of = "1"
	r := &actions.PoolRequest{Writes: []incident.Write{w}, Undo: []incident.Write{undo}, Verify: []incident.Check{actions.PoolPhase(s, actions.PhaseIdle, actions.PoolTarget{}, to, 60)}, More: max(to-was, 0)}
	if to < was {
		r.Lasting = "nodes that were deleted are made anew, not brought back"
		r.Warnings = []string{"AKS chooses which nodes go"}
	}
	return r, nil
}
