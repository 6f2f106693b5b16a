package cilium

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

// Flows reads what Hubble saw. Errors are tool.Errors: NotServed where there is no
// Hubble to ask.
type Flows interface {
	Flows(ctx context.Context, q hubble.Query) (hubble.Answer, error)
	Status(ctx context.Context) (hubble.Status, error)
}

// FlowsIn names whose flows; a namespace alone means all its pods.
type FlowsIn struct {
	Namespace     string `json:"namespace"`
	Pod           string `json:"pod,omitempty"`
	Service       string `json:"service,omitempty"`
	PeerNamespace string `json:"peer_namespace,omitempty"`
	PeerPod       string `json:"peer_pod,omitempty"`
	Minutes       int    `json:"minutes,omitempty"`
	Dropped       bool   `json:"dropped,omitempty"`
}

// FlowsOut is a summary of flows by pair.
type FlowsOut struct {
	Since   time.Time  `json:"since"`
	Until   time.Time  `json:"until"`
	Flows   uint64     `json:"flows"`
	Pairs   []FlowPair `json:"pairs" jsonschema:"those with drops first"`
	More    int        `json:"more" jsonschema:"pairs left out"`
	Unheard []string   `json:"unheard" jsonschema:"nodes whose flows were not seen"`
	Lost    uint64     `json:"lost" jsonschema:"events lost: then absence proves nothing"`
	Cut     bool       `json:"cut" jsonschema:"there were more flows than are read"`
	Notes   []string   `json:"notes"`
}

// FlowPair is what was seen between two ends on one port.
type FlowPair struct {
	From      string            `json:"from"`
	To        string            `json:"to"`
	Port      uint32            `json:"port"`
	Proto     string            `json:"proto"`
	Forwarded uint64            `json:"forwarded"`
	Dropped   uint64            `json:"dropped"`
	Audited   uint64            `json:"audited" jsonschema:"would have been dropped but for audit mode"`
	Replies   uint64            `json:"replies"`
	Resets    uint64            `json:"resets"`
	Reasons   map[string]uint64 `json:"reasons,omitempty"`
	Side      string            `json:"side,omitempty" jsonschema:"where it was dropped: EGRESS of the sender or INGRESS of the receiver"`
	DeniedBy  []string          `json:"denied_by,omitempty" jsonschema:"policies whose deny rule decided"`
	HTTP      map[string]uint64 `json:"http,omitempty" jsonschema:"responses by status"`
	DNS       map[string]uint64 `json:"dns,omitempty" jsonschema:"responses by code"`
	First     time.Time         `json:"first"`
	Last      time.Time         `json:"last"`
	Nodes     []string          `json:"nodes"`

	// What findings are made from; not for readers.
	from, to                     hubble.End
	denied                       []hubble.Policy
	allowed                      []hubble.Policy
	firstDrop, lastDrop          time.Time
	firstForwarded, lastForwared time.Time
	l7Denied                     uint64
}

const (
	// flowWindow is how far back flows are read.
	flowWindow = 15 * time.Minute
	// maxPairs bounds the pairs of one answer.
	maxPairs = 30
	// fewDrops is how many drops of a pair are noise: a retry or two, a packet of a
	// closing connection.
	fewDrops = 3
)

func (t *Toolset) flowsTool(ctx context.Context, in FlowsIn) (tool.Output[FlowsOut], error) {
	var behind map[string]bool
	if in.Service != "" {
		var err error
		if behind, err = t.podsBehind(ctx, in.Namespace, in.Service); err != nil {
			return tool.Output[FlowsOut]{}, err
		}
	}
	out, pairs, err := t.readFlows(ctx, in, behind)
	if err != nil {
		return tool.Output[FlowsOut]{}, err
	}
	j := &flowJudge{t: t, in: in, out: out, pairs: pairs, behind: behind}
	if err := j.judge(ctx); err != nil {
		return tool.Output[FlowsOut]{}, err
	}
	return tool.Output[FlowsOut]{Data: *out, Text: flowsText(in, out), Findings: j.findings, Edges: j.edges}, nil
}

// podsBehind names the pods that a Service selects.
func (t *Toolset) podsBehind(ctx context.Context, namespace, service string) (map[string]bool, error) {
	o, err := t.objects.Get(ctx, "", "Service", namespace, service)
	if err != nil {
		return nil, err
	}
	sel, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
	out := map[string]bool{}
	if len(sel) == 0 {
		return out, nil
	}
	pods, err := t.pods.Pods(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if labels.SelectorFromSet(sel).Matches(labels.Set(p.Labels)) && !over(p) {
			out[p.Name] = true
		}
	}
	return out, nil
}

// readFlows reads and sums up; with behind given, only what is sent to these pods.
func (t *Toolset) readFlows(ctx context.Context, in FlowsIn, behind map[string]bool) (*FlowsOut, []*FlowPair, error) {
	window := flowWindow
	if in.Minutes > 0 {
		window = time.Duration(min(in.Minutes, 24*60)) * time.Minute
	}
	until := t.now()
	a, err := t.flows.Flows(ctx, hubble.Query{Since: until.Add(-window), Until: until, Namespace: in.Namespace, Pod: in.Pod, PeerNamespace: in.PeerNamespace, PeerPod: in.PeerPod, Dropped: in.Dropped})
	if err != nil {
		return nil, nil, err
	}
	out := &FlowsOut{Since: until.Add(-window), Until: until, Pairs: []FlowPair{}, Unheard: slices.Sorted(maps.Keys(a.Unheard)), Cut: a.Cut, Notes: []string{}}
	if out.Unheard == nil {
		out.Unheard = []string{}
	}
	for _, n := range slices.Sorted(maps.Keys(a.Lost)) {
		out.Lost += a.Lost[n]
	}
	t.unheard(a, until)
	pairs := summarise(a.Flows)
	if behind != nil {
		pairs = slices.DeleteFunc(pairs, func(p *FlowPair) bool { return p.to.Namespace != in.Namespace || !behind[p.to.Pod] })
	}
	for _, p := range pairs {
		out.Flows += p.Forwarded + p.Dropped + p.Audited
	}
	for i, p := range pairs {
		if i == maxPairs {
			out.More = len(pairs) - i
			break
		}
		out.Pairs = append(out.Pairs, *p)
	}
	return out, pairs, nil
}

// unheard remembers what Hubble could not tell, for the end of the investigation.
func (t *Toolset) unheard(a hubble.Answer, _ time.Time) {
	if len(a.Unheard) > 0 {
		names := slices.Sorted(maps.Keys(a.Unheard))
		t.limit(incident.Gap{Source: "network flows of nodes " + listed(names, 6), Why: "hubble-relay has no connection to them: " + a.Unheard[names[0]], Fix: "check TCP 4244 between hubble-relay and these nodes, and the Hubble certificates"})
	}
	var lost uint64
	for _, n := range a.Lost {
		lost += n
	}
	if lost > 0 {
		t.limit(incident.Gap{Source: "some network flows", Why: fmt.Sprintf("Hubble lost %d events: that a flow is absent proves nothing", lost), Fix: "raise hubble-event-queue-size and the ring buffer"})
	}
	if a.Cut {
		t.limit(incident.Gap{Source: "some network flows", Why: fmt.Sprintf("only %d flows are read", hubble.DefaultMax), Fix: "ask for fewer minutes or one pod"})
	}
}

// summarise sums flows up by pair and port, pairs with drops first.
func summarise(flows []hubble.Flow) []*FlowPair {
	type key struct {
		from, to string
		port     uint32
		proto    string
	}
	at := map[key]*FlowPair{}
	for _, f := range flows {
		k := key{f.Source.String(), f.Destination.String(), f.Port, f.Proto}
		reply := f.Reply == "yes"
		if reply {
			k = key{f.Destination.String(), f.Source.String(), f.SourcePort, f.Proto}
			if f.L7 {
				// The proxy writes a response with the ports of its request.
				k = key{f.Source.String(), f.Destination.String(), f.Port, f.Proto}
				if at[k] == nil {
					k = key{f.Destination.String(), f.Source.String(), f.SourcePort, f.Proto}
				}
			}
		}
		p := at[k]
		if p == nil {
			p = &FlowPair{From: k.from, To: k.to, Port: k.port, Proto: k.proto, Reasons: map[string]uint64{}, HTTP: map[string]uint64{}, DNS: map[string]uint64{}, Nodes: []string{}, from: f.Source, to: f.Destination}
			if reply {
				p.from, p.to = f.Destination, f.Source
			}
			at[k] = p
		}
		p.add(f, reply)
	}
	return slices.SortedFunc(maps.Values(at), func(a, b *FlowPair) int {
		return cmp.Or(cmp.Compare(b.Dropped, a.Dropped), cmp.Compare(b.Audited, a.Audited), cmp.Compare(b.Forwarded, a.Forwarded), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To), cmp.Compare(a.Port, b.Port))
	})
}

func (p *FlowPair) add(f hubble.Flow, reply bool) {
	if p.First.IsZero() || f.Time.Before(p.First) {
		p.First = f.Time
	}
	if f.Time.After(p.Last) {
		p.Last = f.Time
	}
	if f.Node != "" && !slices.Contains(p.Nodes, f.Node) && len(p.Nodes) < 8 {
		p.Nodes = append(p.Nodes, f.Node)
	}
	if f.RST {
		p.Resets += f.Count
	}
	if f.HTTPCode != 0 {
		p.HTTP[fmt.Sprint(f.HTTPCode)] += f.Count
	}
	if f.DNSCode >= 0 {
		p.DNS[dnsCode(f.DNSCode)] += f.Count
	}
	switch f.Verdict {
	case "DROPPED", "ERROR":
		p.Dropped += f.Count
		if f.L7 {
			p.l7Denied += f.Count
		}
		if f.Drop != "" {
			p.Reasons[f.Drop] += f.Count
		}
		p.Side = f.Direction
		p.denied = f.DeniedBy
		for _, d := range f.DeniedBy {
			if s := policyText(d); !slices.Contains(p.DeniedBy, s) {
				p.DeniedBy = append(p.DeniedBy, s)
			}
		}
		if p.firstDrop.IsZero() || f.Time.Before(p.firstDrop) {
			p.firstDrop = f.Time
		}
		if f.Time.After(p.lastDrop) {
			p.lastDrop = f.Time
		}
	case "AUDIT":
		p.Audited += f.Count
	case "FORWARDED", "REDIRECTED", "TRANSLATED", "TRACED":
		if reply {
			p.Replies += f.Count
			return
		}
		p.Forwarded += f.Count
		p.allowed = f.AllowedBy
		if p.firstForwarded.IsZero() || f.Time.Before(p.firstForwarded) {
			p.firstForwarded = f.Time
		}
		if f.Time.After(p.lastForwared) {
			p.lastForwared = f.Time
		}
	}
}

func policyText(p hubble.Policy) string {
	if p.Namespace == "" {
		return strings.TrimSpace(p.Kind + " " + p.Name)
	}
	return strings.TrimSpace(p.Kind + " " + p.Namespace + "/" + p.Name)
}

// dnsCode names the response codes of RFC 1035 that matter.
func dnsCode(n int) string {
	if name, ok := map[int]string{0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}[n]; ok {
		return name
	}
	return fmt.Sprintf("RCODE%d", n)
}

// reason gives the most frequent drop reason.
func (p *FlowPair) reason() string {
	best := ""
	for _, r := range slices.Sorted(maps.Keys(p.Reasons)) {
		if best == "" || p.Reasons[r] > p.Reasons[best] {
			best = r
		}
	}
	return best
}

// port writes "8000/TCP".
func (p *FlowPair) port() string { return fmt.Sprintf("%d/%s", p.Port, p.Proto) }

// listed writes the first few of a list.
func listed(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func flowsText(in FlowsIn, o *FlowsOut) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d flows of %s from %s to %s\n", o.Flows, strings.TrimSuffix(in.Namespace+"/"+in.Pod+in.Service, "/"), o.Since.UTC().Format("15:04:05"), o.Until.UTC().Format("15:04:05"))
	for _, p := range o.Pairs {
		fmt.Fprintf(&b, "%s -> %s %s: %d forwarded, %d dropped", p.From, p.To, p.port(), p.Forwarded, p.Dropped)
		for _, r := range slices.Sorted(maps.Keys(p.Reasons)) {
			fmt.Fprintf(&b, "; %s %d (%s)", r, p.Reasons[r], meaningOf(r).text)
		}
		if p.Dropped > 0 && p.Side != "" {
			fmt.Fprintf(&b, "; at %s", strings.ToLower(p.Side))
		}
		if len(p.DeniedBy) > 0 {
			fmt.Fprintf(&b, "; denied by %s", listed(p.DeniedBy, 4))
		}
		if p.Audited > 0 {
			fmt.Fprintf(&b, "; %d would be dropped, audit mode", p.Audited)
		}
		if p.Resets > 0 {
			fmt.Fprintf(&b, "; %d resets", p.Resets)
		}
		for _, m := range []map[string]uint64{p.HTTP, p.DNS} {
			for _, c := range slices.Sorted(maps.Keys(m)) {
				fmt.Fprintf(&b, "; %s x%d", c, m[c])
			}
		}
		fmt.Fprintf(&b, "; last %s\n", p.Last.UTC().Format("15:04:05"))
	}
	if o.More > 0 {
		fmt.Fprintf(&b, "%d more pairs\n", o.More)
	}
	if len(o.Unheard) > 0 {
		fmt.Fprintf(&b, "not heard: nodes %s\n", listed(o.Unheard, 8))
	}
	if o.Lost > 0 {
		fmt.Fprintf(&b, "%d events were lost: absence proves nothing\n", o.Lost)
	}
	if o.Cut {
		b.WriteString("there were more flows than are read\n")
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "%s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}
