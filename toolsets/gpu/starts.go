package gpu

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

//go:embed starts.json
var rawStarts []byte

// refusal is what a container runtime or the driver's hook says when a container
// cannot be given its GPU.
type refusal struct {
	// Like is a fragment of the message, in lower case.
	Like   string `json:"like"`
	Means  string `json:"means"`
	Do     string `json:"do"`
	Source string `json:"source"`
}

// loadStarts reads the refusals that ship.
func loadStarts() ([]refusal, error) {
	var out []refusal
	if err := json.Unmarshal(rawStarts, &out); err != nil {
		return nil, fmt.Errorf("refusals: %w", err)
	}
	var errs []error
	for _, r := range out {
		if r.Like == "" || r.Like != strings.ToLower(r.Like) || r.Means == "" || r.Do == "" || r.Source == "" {
			errs = append(errs, fmt.Errorf("refusal %q: like (in lower case), means, do and source are required", r.Like))
		}
	}
	return out, errors.Join(errs...)
}

// refused finds what a message says of a node's GPU software.
func (t *Toolset) refused(message string) (refusal, bool) {
	low := strings.ToLower(message)
	for _, r := range t.starts {
		if strings.Contains(low, r.Like) {
			return r, true
		}
	}
	return refusal{}, false
}

// fresh is how old the last refusal may be: a kubelet tries again within minutes.
const fresh = 30 * time.Minute

// start judges a pod whose containers do not start for want of the driver, by the
// kubelet's events. A container that runs was given its GPU.
func (v *verdict) start(ctx context.Context, p *corev1.Pod, out *Health) {
	if well(p) {
		return
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil {
			return
		}
	}
	pod, node := v.t.podRef(p.Namespace, p.Name), v.t.nodeRef(p.Spec.NodeName)
	events, err := v.t.Details.Events(ctx, pod)
	if err != nil {
		out.Notes = append(out.Notes, "events of the pod not seen: "+tool.UserText(err))
		return
	}
	for _, e := range events {
		r, ok := v.t.refused(e.Message)
		if !ok || v.t.Now().Sub(e.Last) > fresh {
			continue
		}
		v.edge(incident.Edge{From: pod, Relation: graph.RunsOn, To: node})
		v.find(incident.Finding{Code: "gpu.driver_unusable", Subject: node, Confidence: 0.93, FirstSeen: e.First, LastSeen: e.Last,
			Message: fmt.Sprintf("node %s cannot give pod %s/%s its GPU: %s; the kubelet says: %s (%s)", p.Spec.NodeName, p.Namespace, p.Name, r.Means, around(e.Message, r.Like), r.Source),
			Params:  params("means", r.Means, "do", r.Do, "pod", p.Namespace+"/"+p.Name)})
		return
	}
}

// around cuts a message down to the words around what tells.
func around(message, like string) string {
	const margin = 80
	at := strings.Index(strings.ToLower(message), like)
	if at < 0 || len(message) != len(strings.ToLower(message)) {
		return like
	}
	from, to := max(at-margin, 0), min(at+len(like)+margin, len(message))
	return strings.Join(strings.Fields(strings.ToValidUTF8(message[from:to], "")), " ")
}

// turnedAway ties a pod that the kubelet refused, because no GPU of the node is
// healthy, to the GPUs that are at fault.
func (v *verdict) turnedAway(m *machine, p *corev1.Pod) bool {
	if p.Status.Reason != "UnexpectedAdmissionError" || !strings.Contains(p.Status.Message, "nvidia.com/") && !strings.Contains(p.Status.Message, "amd.com/gpu") {
		return false
	}
	v.judge(m, everyCard)
	pod := v.t.podRef(p.Namespace, p.Name)
	for _, c := range m.cards {
		why, ok := v.hurt[c]
		if !ok {
			continue
		}
		v.edge(incident.Edge{From: pod, Relation: graph.BlockedBy, To: c.ref})
		v.find(incident.Finding{Code: "gpu.pod_on_faulty_gpu", Subject: pod, Params: params("gpu", c.short(), "node", c.node, "how", "refused by the kubelet"),
			Message: fmt.Sprintf("the kubelet of node %s refused pod %s/%s for want of a healthy GPU: %s", m.name, p.Namespace, p.Name, why)})
	}
	return true
}
