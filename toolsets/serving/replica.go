package serving

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// ReplicaView is one engine pod in figures. A figure that is not known is -1.
type ReplicaView struct {
	Pod     string  `json:"pod"`
	Node    string  `json:"node,omitempty"`
	Ready   bool    `json:"ready"`
	Role    string  `json:"role,omitempty"`
	Running float64 `json:"running"`
	Waiting float64 `json:"waiting"`
	// KV is the part of the KV cache in use, 0 to 1.
	KV float64 `json:"kv_usage"`
	// Preempted, Finished and Tokens are a second.
	Preempted float64 `json:"preemptions_per_second"`
	Finished  float64 `json:"requests_per_second"`
	Tokens    float64 `json:"tokens_per_second"`
	// Hits is the part of looked-up tokens that the prefix cache had.
	Hits       float64 `json:"prefix_hit_ratio"`
	HitsBefore float64 `json:"prefix_hit_ratio_before"`
	// TTFT and ITL are 95th percentiles in seconds, now and before.
	TTFT           float64 `json:"ttft_p95"`
	TTFTBefore     float64 `json:"ttft_p95_before"`
	ITL            float64 `json:"itl_p95"`
	ITLBefore      float64 `json:"itl_p95_before"`
	FinishedBefore float64 `json:"requests_per_second_before"`
	FailedMoves    float64 `json:"kv_transfer_failures_per_second"`

	pod    *corev1.Pod
	engine engine
	series map[string][]metric.Point
}

// replicaOf reads one pod's figures: the median of the last ten minutes, and what
// was before they began to differ.
func (t *Toolset) replicaOf(p *corev1.Pod, series map[string][]metric.Point) ReplicaView {
	r := ReplicaView{Pod: p.Name, Node: p.Spec.NodeName, Ready: ready(p), Role: roleOf(p), pod: p, series: series}
	r.engine, _ = engineOf(p)
	now := func(signal string) float64 { return t.present(series[signal]) }
	r.Running, r.Waiting, r.KV = now("engine.running"), now("engine.waiting"), now("engine.kv_usage")
	r.Preempted, r.Finished, r.Tokens = now("engine.preemptions"), now("engine.success"), now("engine.generation_tokens")
	r.FailedMoves = now("engine.kv_transfer_failures")
	r.TTFT, r.ITL = now("engine.ttft"), now("engine.itl")
	r.TTFTBefore, r.ITLBefore, r.FinishedBefore = t.past(series["engine.ttft"]), t.past(series["engine.itl"]), t.past(series["engine.success"])
	r.Hits = ratio(now("engine.prefix_hits"), now("engine.prefix_queries"))
	r.HitsBefore = ratio(t.past(series["engine.prefix_hits"]), t.past(series["engine.prefix_queries"]))
	return r
}

// roleOf says whether a pod prefills or decodes, where its labels tell.
func roleOf(p *corev1.Pod) string {
	for _, k := range []string{"llm-d.ai/role", "nvidia.com/dynamo-sub-component-type", "nvidia.com/dynamo-component-type", "kaito.sh/inference-role", "disaggregatedset.x-k8s.io/role"} {
		if v := p.Labels[k]; v == "prefill" || v == "decode" {
			return v
		}
	}
	return ""
}

func ratio(part, whole float64) float64 {
	if part < 0 || whole <= 0 {
		return -1
	}
	return part / whole
}

// present is the median of the last ten minutes, -1 if there is no point in them.
func (t *Toolset) present(points []metric.Point) float64 {
	return middle(points, t.now().Add(-nowWindow), t.now())
}

// past is the level that lasted before the present one: up to the last lasting
// shift where there is one, else all that is older than half an hour; -1 if
// nothing is.
func (t *Toolset) past(points []metric.Point) float64 {
	for _, s := range slices.Backward(metric.ChangePoints(points)) {
		if t.now().Sub(s.At) < nowWindow/2 {
			continue
		}
		return s.Before
	}
	return middle(points, t.now().Add(-lookBack), t.now().Add(-lookBack/6))
}

// began is when the present level of a signal began, zero if it did not change.
func (t *Toolset) began(points []metric.Point) time.Time {
	shifts := metric.ChangePoints(points)
	if len(shifts) == 0 {
		return time.Time{}
	}
	return shifts[len(shifts)-1].At
}

func middle(points []metric.Point, from, to time.Time) float64 {
	var v []float64
	for _, p := range points {
		if !p.At.Before(from) && !p.At.After(to) && metric.Finite(p.Value) {
			v = append(v, p.Value)
		}
	}
	return median(v)
}

// median of some values, -1 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return -1
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// lasted reports whether a condition held for every point of the last d, of which
// there must be at least three.
func (t *Toolset) lasted(points []metric.Point, d time.Duration, holds func(float64) bool) bool {
	n := 0
	for _, p := range points {
		if p.At.Before(t.now().Add(-d)) {
			continue
		}
		if !holds(p.Value) {
			return false
		}
		n++
	}
	return n >= 3
}

// figures writes what is known of a replica on one line.
func (r ReplicaView) figures() string {
	var parts []string
	add := func(label, format string, v float64) {
		if v >= 0 {
			parts = append(parts, label+" "+fmt.Sprintf(format, v))
		}
	}
	add("running", "%.0f", r.Running)
	add("waiting", "%.0f", r.Waiting)
	add("KV use", "%.2f", r.KV)
	add("preempted", "%.2f/s", r.Preempted)
	add("finished", "%.2f/s", r.Finished)
	if r.FinishedBefore >= 0 {
		parts = append(parts, fmt.Sprintf("(before %.2f/s)", r.FinishedBefore))
	}
	add("tokens", "%.0f/s", r.Tokens)
	add("prefix hits", "%.2f", r.Hits)
	if r.HitsBefore >= 0 {
		parts = append(parts, fmt.Sprintf("(before %.2f)", r.HitsBefore))
	}
	if r.TTFT >= 0 {
		parts = append(parts, "TTFT p95 "+seconds(r.TTFT)+before(r.TTFTBefore))
	}
	if r.ITL >= 0 {
		parts = append(parts, "ITL p95 "+seconds(r.ITL)+before(r.ITLBefore))
	}
	if r.FailedMoves > 0 {
		add("failed KV transfers", "%.2f/s", r.FailedMoves)
	}
	if len(parts) == 0 {
		return "no metrics seen"
	}
	return strings.Join(parts, ", ")
}

func before(v float64) string {
	if v < 0 {
		return " (before: not seen)"
	}
	return " (before " + seconds(v) + ")"
}

// seconds writes a duration in the unit people read it in.
func seconds(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.0f ms", v*1000)
	}
	return fmt.Sprintf("%.1f s", v)
}

// peers gives the median of a figure over the other replicas that have it; -1 if
// fewer than two do.
func peers(all []ReplicaView, i int, figure func(ReplicaView) float64) float64 {
	var v []float64
	for j, r := range all {
		if x := figure(r); j != i && x >= 0 && r.Role == all[i].Role {
			v = append(v, x)
		}
	}
	if len(v) < 1 {
		return -1
	}
	return median(v)
}

// worst gives the index of the replica with the largest figure, -1 of none.
func worst(all []ReplicaView, figure func(ReplicaView) float64) int {
	best, at := math.Inf(-1), -1
	for i, r := range all {
		if v := figure(r); v >= 0 && v > best {
			best, at = v, i
		}
	}
	return at
}

func orNone(s string) string { return cmp.Or(s, "none") }
