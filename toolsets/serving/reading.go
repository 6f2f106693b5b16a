package serving

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Thresholds of the reading table of engine metrics (llm-d
// docs/operations/observability/promql.md and the engines' own documents; the
// factors are judgements, kept together so that they can be argued about).
const (
	// kvFull is the KV cache use from which sequences are put back, kvRoomy the one
	// below which the cache is not what requests wait for.
	kvFull, kvRoomy = 0.95, 0.5
	// slower is by what factor a latency must have risen, and at least by how much.
	slower      = 2.0
	slowerITL   = 1.5
	ttftAtLeast = 0.5
	itlAtLeast  = 0.015
	// hotter is by what factor a replica's queue must exceed its peers', and how
	// long it must be at least.
	hotter, queueAtLeast = 4.0, 5.0
	// grew is by what factor demand must have grown to be named.
	grew = 1.5
	// lostHits is the part of its former hit ratio below which a cache is lost, of
	// a ratio that was worth something.
	lostHits, worthHits = 0.5, 0.2
	// hungFor is how long an engine must stand still to be hung.
	hungFor, hungText = 5 * time.Minute, "5 minutes"
)

// reading turns the figures of replicas into findings.
type reading struct {
	t      *Toolset
	v      *verdict
	all    []ReplicaView
	blocks map[string]string
	chain  *chain
	// hot and lost say that requests are unevenly spread or miss the cache.
	hot, lost bool
}

func (r *reading) pod(i int) incident.Ref { return r.t.podRef(r.all[i].pod) }

// symptomOn adds a symptom about a subject.
func (r *reading) symptomOn(code string, ref incident.Ref, since time.Time, message string, p map[string]string) {
	r.v.add(incident.Finding{Code: code, Role: incident.Symptom, Severity: incident.Warning, Subject: ref, Message: message, Params: p, FirstSeen: since, LastSeen: r.t.now()})
}

func (r *reading) judge(ctx context.Context) {
	seen := 0
	for _, x := range r.all {
		if len(x.series) > 0 {
			seen++
		}
	}
	r.workersKnown(ctx)
	if seen == 0 {
		return
	}
	starved, hung := r.starved(ctx), r.hung()
	r.latency()
	slow := r.slow(hung)
	r.skew(hung, slow)
	r.transfers()
	r.batchLimit(hung)
	r.roles()
	r.heldCache()
	r.corrupted()
	r.prefix()
	r.demand(starved, len(hung) > 0)
	if r.hot || r.lost {
		r.misrouted(ctx)
	}
}

// whole is what the replicas make up: the subject itself, and for a pod its pool
// or a Service that selects it, to which the pod is then tied.
func (r *reading) whole(ctx context.Context) incident.Ref {
	if r.v.subject.Kind != "Pod" || len(r.all) == 0 {
		return r.v.subject
	}
	i := max(slices.IndexFunc(r.all, func(x ReplicaView) bool { return x.Pod == r.v.subject.Name }), 0)
	ref, ok := r.t.reachedBy(ctx, r.all[i].pod)
	if !ok {
		return r.v.subject
	}
	r.v.edge(r.v.subject, graph.PartOf, ref)
	return ref
}

// hung finds engines that hold requests and produce nothing.
func (r *reading) hung() map[int]bool {
	out := map[int]bool{}
	for i, x := range r.all {
		waits := r.t.lasted(x.series["engine.waiting"], hungFor, func(v float64) bool { return v >= 1 })
		runs := r.t.lasted(x.series["engine.running"], hungFor, func(v float64) bool { return v >= 1 })
		idle := r.t.lasted(x.series["engine.running"], hungFor, func(v float64) bool { return v == 0 })
		still := r.t.lasted(x.series["engine.generation_tokens"], hungFor, func(v float64) bool { return v == 0 })
		if len(x.series["engine.generation_tokens"]) == 0 {
			still = waits && idle
		}
		if !still || !waits && !runs {
			continue
		}
		out[i] = true
		what := fmt.Sprintf("%.0f running and %.0f waiting", x.Running, x.Waiting)
		if waits && idle && x.KV >= 0 && x.KV < kvRoomy {
			what += fmt.Sprintf(" with KV use %.2f: the scheduler waits for room that one request will never get", x.KV)
		}
		f := incident.Finding{Code: "serving.engine_hung", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.78, Subject: r.pod(i), LastSeen: r.t.now(),
			FirstSeen: r.t.began(x.series["engine.generation_tokens"]), Message: fmt.Sprintf("the engine of pod %s has produced no token for at least %s while it holds requests: %s", r.pod(i).Path(), hungText, what),
			Params: params("running", fmt.Sprintf("%.0f", x.Running), "waiting", fmt.Sprintf("%.0f", x.Waiting), "window", hungText, "node", orNone(x.Node))}
		r.v.add(f)
	}
	return out
}

// starved finds engines whose KV cache is full: requests wait, and running ones
// are put back. All three signals must agree.
func (r *reading) starved(ctx context.Context) []int {
	var full []int
	for i, x := range r.all {
		if x.Waiting >= 1 && x.KV >= kvFull && x.Preempted > 0 {
			full = append(full, i)
		}
	}
	known := 0
	for _, x := range r.all {
		if x.KV >= 0 {
			known++
		}
	}
	if len(full) == 0 {
		return nil
	}
	say := func(i int) string {
		x := r.all[i]
		return fmt.Sprintf("%s: %.0f waiting, KV use %.2f, %.2f preemptions a second", x.Pod, x.Waiting, x.KV, x.Preempted)
	}
	fault := func(ref incident.Ref, message string, i int) {
		x := r.all[i]
		r.v.add(incident.Finding{Code: "serving.kv_exhausted", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.76, Subject: ref, Message: message, FirstSeen: r.t.began(x.series["engine.kv_usage"]), LastSeen: r.t.now(),
			Params: params("waiting", fmt.Sprintf("%.0f", x.Waiting), "kv", fmt.Sprintf("%.2f", x.KV), "preempted", fmt.Sprintf("%.2f", x.Preempted), "replicas", fmt.Sprintf("%d of %d", len(full), known), "window", nowText)})
	}
	if len(full)*2 > known && known > 1 {
		// What holds for most replicas is a matter of the whole.
		ref := r.whole(ctx)
		said := []string{fmt.Sprintf("the KV cache of %d of %d replicas of %s is full over the last %s", len(full), known, ref, nowText)}
		for _, i := range full[:min(len(full), 3)] {
			said = append(said, say(i))
		}
		fault(ref, strings.Join(said, "; "), full[0])
		return full
	}
	for _, i := range full {
		fault(r.pod(i), fmt.Sprintf("the KV cache of the engine is full over the last %s: %s", nowText, say(i)), i)
	}
	return full
}

// latency compares the percentiles of each replica with what was before. Where
// most rose, it is the whole that is slow.
func (r *reading) latency() {
	for _, l := range []struct {
		code, what string
		now, was   func(ReplicaView) float64
		signal     string
		factor     float64
		least      float64
	}{
		{"serving.ttft_high", "time to first token", func(x ReplicaView) float64 { return x.TTFT }, func(x ReplicaView) float64 { return x.TTFTBefore }, "engine.ttft", slower, ttftAtLeast},
		{"serving.itl_high", "time between tokens", func(x ReplicaView) float64 { return x.ITL }, func(x ReplicaView) float64 { return x.ITLBefore }, "engine.itl", slowerITL, itlAtLeast},
	} {
		var risen []int
		known := 0
		for i, x := range r.all {
			if l.now(x) < 0 || l.was(x) < 0 {
				continue
			}
			known++
			if l.now(x) >= l.factor*l.was(x) && l.now(x)-l.was(x) >= l.least {
				risen = append(risen, i)
			}
		}
		say := func(i int) string {
			return fmt.Sprintf("%s: p95 %s over the last %s, %s before", r.all[i].Pod, seconds(l.now(r.all[i])), nowText, seconds(l.was(r.all[i])))
		}
		p := func(i int) map[string]string {
			return params("now", seconds(l.now(r.all[i])), "before", seconds(l.was(r.all[i])), "replicas", fmt.Sprintf("%d of %d", len(risen), known), "window", nowText)
		}
		if len(risen) == 0 {
			continue
		}
		ref, since := r.v.subject, r.t.began(r.all[risen[0]].series[l.signal])
		r.symptomOn(l.code, ref, since, fmt.Sprintf("the %s of %d of %d replicas of %s rose: %s", l.what, len(risen), known, ref, say(risen[0])), p(risen[0]))
		if len(risen)*2 <= known || known == 1 {
			for _, i := range risen {
				r.symptomOn(l.code, r.pod(i), r.t.began(r.all[i].series[l.signal]), fmt.Sprintf("the %s of one replica rose: %s", l.what, say(i)), p(i))
			}
		}
	}
}

// slow finds the replica whose tokens come slower than its peers'.
func (r *reading) slow(hung map[int]bool) map[int]bool {
	out := map[int]bool{}
	itl := func(x ReplicaView) float64 { return x.ITL }
	for i, x := range r.all {
		p := peers(r.all, i, itl)
		if hung[i] || x.ITL < 0 || p <= 0 || x.ITL < slowerITL*p || x.ITL-p < itlAtLeast {
			continue
		}
		out[i] = true
		r.symptomOn("serving.replica_slow", r.pod(i), r.t.began(x.series["engine.itl"]),
			fmt.Sprintf("pod %s on node %s produces tokens slower than its peers: p95 between tokens %s, theirs %s over the last %s", r.pod(i).Path(), orNone(x.Node), seconds(x.ITL), seconds(p), nowText),
			params("now", seconds(x.ITL), "peers", seconds(p), "node", orNone(x.Node), "window", nowText))
	}
	if len(out) > 0 {
		// A slow replica shows at what stands before it.
		r.symptomOn("serving.uneven", r.v.subject, time.Time{}, fmt.Sprintf("%d of %d replicas of %s are slower than their peers", len(out), len(r.all), r.v.subject), params("replicas", fmt.Sprintf("%d of %d", len(out), len(r.all)), "how", "slower"))
	}
	return out
}

// skew finds the replica whose queue is far longer than its peers' although its
// tokens come as fast.
func (r *reading) skew(hung, slow map[int]bool) {
	waiting := func(x ReplicaView) float64 { return x.Waiting }
	i := worst(r.all, waiting)
	if i < 0 || hung[i] || slow[i] || len(r.all) < 2 {
		return
	}
	x := r.all[i]
	p := peers(r.all, i, waiting)
	if x.Waiting < queueAtLeast || p < 0 || x.Waiting < hotter*max(p, 1) {
		return
	}
	r.hot = true
	r.symptomOn("serving.replica_hot", r.pod(i), r.t.began(x.series["engine.waiting"]),
		fmt.Sprintf("requests pile up on one replica: pod %s has %.0f waiting, the others %.0f (median) over the last %s", r.pod(i).Path(), x.Waiting, p, nowText),
		params("waiting", fmt.Sprintf("%.0f", x.Waiting), "peers", fmt.Sprintf("%.0f", p), "node", orNone(x.Node), "window", nowText))
	r.symptomOn("serving.uneven", r.v.subject, time.Time{}, fmt.Sprintf("requests are unevenly spread over the %d replicas of %s", len(r.all), r.v.subject), params("replicas", fmt.Sprintf("1 of %d", len(r.all)), "how", "busier"))
}

// transfers finds engines that do not get KV blocks from their peers.
func (r *reading) transfers() {
	for i, x := range r.all {
		if x.FailedMoves <= 0 {
			continue
		}
		line := fmt.Sprintf("%.2f failed KV transfers a second over the last %s", x.FailedMoves, nowText)
		ps := params("container", x.engine.container, "line", line, "mode", "F73", "meaning", "KV blocks do not come over from prefill to decode", "way", "the side channel's host must be the pod's IP and its port open between the pods; same engine version, block size and layout on both sides", "count", "")
		r.v.add(incident.Finding{Code: "serving.kv_transfer_failing", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.8, Subject: r.pod(i), Message: fmt.Sprintf("pod %s: %s", r.pod(i).Path(), line), Params: ps, FirstSeen: r.t.began(x.series["engine.kv_transfer_failures"]), LastSeen: r.t.now()})
		r.t.hostOf(r.v, x.pod, x.engine)
	}
}

// batchLimit finds engines that run as many sequences as they are told to, with
// room in the cache for more.
func (r *reading) batchLimit(hung map[int]bool) {
	for i, x := range r.all {
		limit, err := strconv.ParseFloat(x.engine.flag("max-num-seqs", "max-running-requests", "max-batch-size"), 64)
		if hung[i] || err != nil || limit <= 0 || x.Waiting < queueAtLeast || x.KV < 0 || x.KV >= kvRoomy || x.Running < 0.95*limit {
			continue
		}
		r.v.add(incident.Finding{Code: "serving.batch_limit", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.82, Subject: r.pod(i), FirstSeen: r.t.began(x.series["engine.waiting"]), LastSeen: r.t.now(),
			Message: fmt.Sprintf("pod %s runs %.0f sequences, as many as it is told to (%.0f), while %.0f wait and its KV cache is used to %.2f over the last %s", r.pod(i).Path(), x.Running, limit, x.Waiting, x.KV, nowText),
			Params:  params("limit", fmt.Sprintf("%.0f", limit), "running", fmt.Sprintf("%.0f", x.Running), "waiting", fmt.Sprintf("%.0f", x.Waiting), "kv", fmt.Sprintf("%.2f", x.KV), "container", x.engine.container)})
	}
}

// roles compares prefill with decode: a queue on one side only wants replicas
// moved from the other.
func (r *reading) roles() {
	wait, kv, n := map[string]float64{}, map[string]float64{}, map[string]int{}
	for _, x := range r.all {
		if x.Role == "" || x.Waiting < 0 {
			continue
		}
		wait[x.Role] += x.Waiting
		kv[x.Role] = max(kv[x.Role], x.KV)
		n[x.Role]++
	}
	if n["prefill"] == 0 || n["decode"] == 0 || r.v.subject.Kind == "Pod" {
		return
	}
	for _, side := range [][2]string{{"prefill", "decode"}, {"decode", "prefill"}} {
		busy, idle := side[0], side[1]
		if wait[busy] < queueAtLeast*float64(n[busy]) || wait[idle] >= float64(n[idle]) || kv[idle] >= kvRoomy {
			continue
		}
		r.v.add(incident.Finding{Code: "serving.roles_unbalanced", Role: incident.Fault, Severity: incident.Warning, Confidence: 0.72, Subject: r.v.subject, LastSeen: r.t.now(),
			Message: fmt.Sprintf("requests queue at %s only: %.0f wait on its %d replicas, %.0f on the %d of %s, whose KV use is at most %.2f, over the last %s", busy, wait[busy], n[busy], wait[idle], n[idle], idle, kv[idle], nowText),
			Params:  params("busy", busy, "idle", idle, "waiting", fmt.Sprintf("%.0f", wait[busy]), "replicas", fmt.Sprintf("%d %s, %d %s", n[busy], busy, n[idle], idle))})
	}
}

// heldCache finds a prefill engine whose cache is full of blocks that nobody
// fetches: few requests run, others wait, and the decode side does not pull.
func (r *reading) heldCache() {
	for i, x := range r.all {
		if x.Role != "prefill" || x.KV < kvFull || x.Waiting < 1 || x.Running < 0 || x.Running > 1 {
			continue
		}
		r.v.add(incident.Finding{Code: "serving.kv_held", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.72, Subject: r.pod(i), FirstSeen: r.t.began(x.series["engine.kv_usage"]), LastSeen: r.t.now(),
			Message: fmt.Sprintf("prefill pod %s runs %.0f requests with KV use %.2f while %.0f wait, over the last %s: its blocks wait to be fetched by decode", r.pod(i).Path(), x.Running, x.KV, x.Waiting, nowText),
			Params:  params("running", fmt.Sprintf("%.0f", x.Running), "kv", fmt.Sprintf("%.2f", x.KV), "waiting", fmt.Sprintf("%.0f", x.Waiting))})
		for _, y := range r.all {
			if y.Role == "decode" && !y.Ready {
				r.v.edge(r.pod(i), graph.GroupedWith, r.t.podRef(y.pod))
			}
		}
	}
}

// corrupted finds engines whose output holds NaN, where they count that.
func (r *reading) corrupted() {
	for i, x := range r.all {
		if v := r.t.present(x.series["engine.corrupted"]); v > 0 {
			r.symptomOn("serving.output_corrupted", r.pod(i), r.t.began(x.series["engine.corrupted"]), fmt.Sprintf("the engine of pod %s counts %.2f requests a second whose output holds NaN, over the last %s", r.pod(i).Path(), v, nowText),
				params("rate", fmt.Sprintf("%.2f", v), "node", orNone(x.Node), "window", nowText))
		}
	}
}

// prefix finds a prefix cache that no longer helps.
func (r *reading) prefix() {
	var lost []int
	known, young := 0, 0
	for i, x := range r.all {
		if x.Hits < 0 || x.HitsBefore < 0 {
			continue
		}
		known++
		if x.HitsBefore >= worthHits && x.Hits < lostHits*x.HitsBefore {
			lost = append(lost, i)
			if st, ok := statusOf(x.pod, x.engine.container); ok && st.State.Running != nil && r.t.now().Sub(st.State.Running.StartedAt.Time) < lookBack/6 {
				young++
			}
		}
	}
	if len(lost) == 0 || len(lost)*2 < known {
		return
	}
	r.lost = young < len(lost)
	x := r.all[lost[0]]
	msg := fmt.Sprintf("the prefix cache of %d of %d replicas of %s helps less: hit ratio %.2f over the last %s, %.2f before", len(lost), known, r.v.subject, x.Hits, nowText, x.HitsBefore)
	if young == len(lost) {
		msg += "; their engines started within the last 30 minutes, so it is cold"
	}
	r.symptomOn("serving.prefix_cache_lost", r.v.subject, r.t.began(x.series["engine.prefix_hits"]), msg, params("now", fmt.Sprintf("%.2f", x.Hits), "before", fmt.Sprintf("%.2f", x.HitsBefore), "replicas", fmt.Sprintf("%d of %d", len(lost), known), "window", nowText))
}

// demand tells more requests than before from none at all.
func (r *reading) demand(starved []int, hung bool) {
	now, was, queued, known := 0.0, 0.0, 0, 0
	idle := true
	for _, x := range r.all {
		if x.Finished < 0 || x.FinishedBefore < 0 {
			continue
		}
		known++
		now, was = now+x.Finished, was+x.FinishedBefore
		if x.Waiting >= 1 {
			queued++
		}
		idle = idle && x.Running == 0 && x.Waiting == 0 && x.Finished == 0
	}
	switch {
	case known == 0 || r.v.subject.Kind == "Pod":
	case idle && was > 0.1:
		r.v.context("serving.traffic_stopped", fmt.Sprintf("no request reaches the %d replicas of %s any more: 0 over the last %s, %.2f a second before", known, r.v.subject, nowText, was), params("before", fmt.Sprintf("%.2f", was), "replicas", fmt.Sprint(known), "window", nowText))
	case !hung && len(starved) == 0 && queued == known && now >= grew*was && was > 0:
		r.v.add(incident.Finding{Code: "serving.demand_grew", Role: incident.Fault, Severity: incident.Warning, Confidence: 0.66, Subject: r.v.subject, FirstSeen: r.t.began(r.all[0].series["engine.success"]), LastSeen: r.t.now(),
			Message: fmt.Sprintf("%s gets more requests than its %d replicas keep up with: %.2f a second finished over the last %s, %.2f before, and requests wait on every one", r.v.subject, known, now, nowText, was), Params: params("now", fmt.Sprintf("%.2f", now), "before", fmt.Sprintf("%.2f", was), "replicas", fmt.Sprint(known))})
	}
}

// workersKnown reads what a frontend knows of its workers.
func (r *reading) workersKnown(ctx context.Context) {
	if len(r.chain.fronts) == 0 || readyCount(r.chain.pods) == 0 {
		return
	}
	g := r.t.gauges(ctx, r.chain.namespace, r.chain.fronts)
	for _, p := range r.chain.fronts {
		points := g.byPod[p.Name]["frontend.model_workers"]
		if e, _ := engineOf(p); e.kind != front || len(points) == 0 || points[len(points)-1].Value > 0 {
			continue
		}
		ref := r.t.podRef(p)
		r.v.edge(r.chain.from, r.chain.relation, ref)
		r.symptomOn("serving.uneven", r.v.subject, time.Time{}, fmt.Sprintf("%s has a frontend without workers", r.v.subject), params("replicas", fmt.Sprint(len(r.chain.fronts)), "how", "blind"))
		r.v.fault("serving.frontend_blind", 0.8, ref, fmt.Sprintf("frontend %s knows 0 workers while %d worker pods are ready; its /health answers 200 all the same", ref.Path(), readyCount(r.chain.pods)), params("ready", fmt.Sprint(readyCount(r.chain.pods))))
	}
}

// misrouted looks for what makes a picker choose badly: two that split the index,
// another block size than the engines', hash seeds that differ.
func (r *reading) misrouted(ctx context.Context) {
	if len(r.all) == 0 {
		return
	}
	pool, info, ok := r.t.poolOf(ctx, r.all[0].pod)
	if !ok {
		return
	}
	if pool != r.v.subject {
		r.v.edge(r.v.subject, graph.RoutesTo, pool)
	}
	for _, x := range r.all {
		if r.v.touches(r.t.podRef(x.pod)) {
			// That requests pile up there is the picker's choice.
			r.v.edge(r.t.podRef(x.pod), graph.PickedBy, pool)
		}
	}
	seeds := map[string]bool{}
	precise := false
	for _, x := range r.all {
		seeds[x.engine.env["PYTHONHASHSEED"]] = true
		_, events := x.engine.args["kv-events-config"]
		precise = precise || events
	}
	if precise && len(seeds) > 1 {
		var have []string
		for _, s := range sortedKeys(seeds) {
			have = append(have, orNone(s))
		}
		r.v.fault("serving.hash_seed_differs", 0.84, pool, fmt.Sprintf("the engines of %s hash prefixes with different seeds (PYTHONHASHSEED %s), so what one announces no other finds", pool, list(have, 4)), params("seeds", list(have, 4)))
	}
	if info["picker"] == "" {
		return
	}
	pods := r.t.pickers(ctx, pool.Namespace, info["picker"])
	if len(pods) > 1 {
		r.v.fault("serving.picker_split", 0.74, pool, fmt.Sprintf("%d pods of endpoint picker %s choose for %s at once, each by the prefixes that it has seen itself", len(pods), info["picker"], pool), params("picker", info["picker"], "replicas", fmt.Sprint(len(pods))))
	}
	re := regexp.MustCompile(`(?i)\b(?:hash)?block_?size(?:tokens)?["']?\s*[:=]\s*["']?(\d+)`)
	for _, p := range pods {
		m := re.FindStringSubmatch(r.t.configText(ctx, p))
		if m == nil {
			continue
		}
		for _, pod := range sortedKeys(r.blocks) {
			if have := r.blocks[pod]; have != "" && have != m[1] && slices.ContainsFunc(r.all, func(x ReplicaView) bool { return x.Pod == pod }) {
				r.v.fault("serving.block_size_differs", 0.84, pool, fmt.Sprintf("endpoint picker %s looks for prefixes in blocks of %s tokens, the engine of pod %s keeps blocks of %s", info["picker"], m[1], pod, have), params("picker", info["picker"], "wanted", m[1], "have", have))
				return
			}
		}
		return
	}
}
