package cilium

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

const (
	// settling is how long a young pod is left alone.
	settling = 2 * time.Minute
	// maxNeeds bounds how many peers of one pod are judged.
	maxNeeds = 12
	// logLines is how much of a log's end is read for names of peers.
	logLines = 200
)

// need is a peer that a pod wants, and how that is known.
type need struct {
	host  string
	port  int32
	proto string
	// why is "log" when the pod itself complains of it, else "spec".
	why string
	// line is what the log said, or where the spec names it.
	line string
	// dns marks the need of the cluster's resolver.
	dns bool
}

var (
	// addressed are the places in which a text names whom it wants, with a port or a
	// scheme that implies one.
	addressed = []*regexp.Regexp{
		regexp.MustCompile(`\b([a-z][a-z0-9+]*)://(?:[^/@\s"']*@)?([A-Za-z0-9][A-Za-z0-9.-]*)(?::(\d{1,5}))?`),
		regexp.MustCompile(`(?:^|[\s"'=,(\[/])()([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*):(\d{2,5})\b`),
	}
	// failing is how logs say that nothing came back. A refusal or an answer with an
	// error status comes from a peer that was reached: no policy did that.
	failing = regexp.MustCompile(`(?i)timed? ?out|etimedout|deadline exceeded|no route to host|ehostunreach|network is unreachable|failed to connect|unable to connect|could not connect|cannot connect|can't connect|unreachable`)
	// mute is how logs say that no resolver answered.
	mute = regexp.MustCompile(`(?i)temporary failure in name resolution|server misbehaving|eai_again|lookup \S+ on \S+:53: (?:read|write|dial) .*timeout|lookup \S+: i/o timeout|no servers could be reached|resolving timed out`)
)

// schemePort is the port that a scheme means.
func schemePort(scheme string) int32 {
	return map[string]int32{"http": 80, "https": 443, "grpc": 0, "redis": 6379, "rediss": 6379, "postgres": 5432, "postgresql": 5432, "mysql": 3306, "amqp": 5672, "nats": 4222, "mongodb": 27017, "kafka": 9092}[scheme]
}

// named lists the hosts that a text names.
func named(text string) []need {
	var out []need
	for _, re := range addressed {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			n := need{host: strings.ToLower(strings.Trim(m[2], ".")), proto: "TCP", port: schemePort(m[1])}
			if m[3] != "" {
				p, err := strconv.ParseInt(m[3], 10, 32)
				if err != nil || p > 65535 {
					continue
				}
				n.port = int32(p)
			}
			if len(n.host) < 2 || n.host == "localhost" || strings.HasPrefix(n.host, "127.") || n.host == "0.0.0.0" || n.port == 0 ||
				slices.ContainsFunc(out, func(o need) bool { return o.host == n.host && o.port == n.port }) {
				continue
			}
			if _, err := strconv.Atoi(n.host); err == nil {
				continue // a time of day
			}
			out = append(out, n)
		}
	}
	return out
}

// needs lists the peers that a pod is told to use or complains of, those it
// complains of first.
func (s *scene) needs(ctx context.Context, p *corev1.Pod) []need {
	var out []need
	add := func(n need) {
		i := slices.IndexFunc(out, func(o need) bool { return o.host == n.host && o.port == n.port && o.dns == n.dns })
		if i < 0 && len(out) < maxNeeds {
			out = append(out, n)
		}
	}
	told, lines := s.complaints(ctx, p)
	for _, n := range told {
		add(n)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		var said []string
		for _, e := range c.Env {
			if !strings.Contains(strings.ToUpper(e.Name), "NO_PROXY") {
				said = append(said, e.Value)
			}
		}
		said = append(append(said, c.Args...), c.Command...)
		for _, x := range said {
			for _, n := range named(x) {
				n.why, n.line = "spec", fmt.Sprintf("container %s is told to use %s:%d", c.Name, n.host, n.port)
				// A complaint may name the host alone.
				if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(strings.ToLower(l), n.host) }); i >= 0 {
					n.why, n.line = "log", lines[i]
				}
				add(n)
			}
		}
	}
	return out
}

// complaints reads the end of the pod's logs for peers that did not answer, and gives
// the lines that say so. What is older than a quarter of an hour is not of now.
func (s *scene) complaints(ctx context.Context, p *corev1.Pod) (out []need, lines []string) {
	for i, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if i == 4 {
			break
		}
		text, err := s.t.pods.Tail(ctx, p.Namespace, p.Name, c.Name, logLines)
		if err != nil {
			continue // kube_pod says what of a log cannot be read
		}
		for line := range strings.SplitSeq(text, "\n") {
			stamp, rest, ok := strings.Cut(line, " ")
			if at, err := time.Parse(time.RFC3339Nano, stamp); ok && err == nil {
				if s.t.now().Sub(at) > recent {
					continue
				}
				line = rest
			}
			if mute.MatchString(line) {
				out = append(out, need{host: "kube-dns.kube-system", port: 53, proto: "UDP", why: "log", line: line, dns: true})
			}
			if failing.MatchString(line) && !mute.MatchString(line) {
				lines = append(lines, line)
				for _, n := range named(line) {
					n.why, n.line = "log", line
					out = append(out, n)
				}
			}
		}
	}
	return out, lines
}

// recent is how far back a complaint counts.
const recent = 15 * time.Minute

// target is the other end of a need.
type target struct {
	end  *policy.End
	port int32
	// pod is the one looked at, for a peer in the cluster.
	pod *corev1.Pod
	// service is set for a peer behind a Service.
	service incident.Ref
	// selector of that Service.
	selector map[string]string
	text     string
}

// resolve finds the other end of a need; false where it cannot be told.
func (s *scene) resolve(ctx context.Context, from string, n need) (target, bool) {
	if a, err := netip.ParseAddr(n.host); err == nil {
		return s.byAddr(ctx, a, n)
	}
	short, whole := strings.CutSuffix(n.host, ".cluster.local")
	short, svc := strings.CutSuffix(short, ".svc")
	parts := strings.Split(short, ".")
	name, ns := parts[0], from
	switch {
	case len(parts) == 2:
		ns = parts[1]
	case len(parts) == 3 && (svc || whole):
		name, ns = parts[1], parts[2]
	case len(parts) > 2:
		return s.outside(n), true
	}
	o, err := s.t.objects.Get(ctx, "", "Service", ns, name)
	if err != nil {
		if len(parts) == 2 && !svc && !whole {
			if _, nsErr := s.t.objects.Get(ctx, "", "Namespace", "", ns); nsErr != nil {
				return s.outside(n), true // example.com
			}
		}
		return target{}, false
	}
	return s.behind(ctx, o, n)
}

func (s *scene) outside(n need) target {
	e := policy.ReservedEnd("world")
	e.Host = n.host
	return target{end: e, port: n.port, text: n.host}
}

// byAddr finds whose address it is.
func (s *scene) byAddr(ctx context.Context, a netip.Addr, n need) (target, bool) {
	services, err := s.t.objects.List(ctx, "", "Service", "")
	if err != nil {
		return target{}, false
	}
	for _, o := range services {
		if str(o, "spec", "clusterIP") == n.host {
			return s.behind(ctx, o, n)
		}
	}
	pods, err := s.t.pods.Pods(ctx, "")
	if err != nil {
		return target{}, false
	}
	for _, p := range pods {
		if p.Status.PodIP == n.host && !p.Spec.HostNetwork && !over(p) {
			e, _ := s.end(ctx, p)
			return target{end: e, port: n.port, pod: p, text: "pod " + p.Namespace + "/" + p.Name}, true
		}
	}
	if a.IsPrivate() {
		return target{}, false // a node, a peer of another cluster: not told by the address
	}
	return target{end: policy.ReservedEnd("world", a), port: n.port, text: n.host}, true
}

// behind finds a pod behind a Service and the port it serves on.
func (s *scene) behind(ctx context.Context, o *unstructured.Unstructured, n need) (target, bool) {
	if ext := str(o, "spec", "externalName"); ext != "" {
		n.host = strings.ToLower(strings.TrimSuffix(ext, "."))
		return s.outside(n), true
	}
	sel, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
	svc := s.t.ref("", "Service", o.GetNamespace(), o.GetName())
	if len(sel) == 0 {
		if o.GetNamespace() == "default" && o.GetName() == "kubernetes" {
			e := policy.ReservedEnd("kube-apiserver")
			e.Service = "default/kubernetes"
			return target{end: e, port: n.port, service: svc, text: "the API server"}, true
		}
		return target{}, false
	}
	pods, err := s.t.pods.Pods(ctx, o.GetNamespace())
	if err != nil {
		s.notes = append(s.notes, gap("pods of "+svc.String(), err))
		return target{}, false
	}
	var pick *corev1.Pod
	for _, p := range pods {
		if labels.SelectorFromSet(sel).Matches(labels.Set(p.Labels)) && !over(p) && (pick == nil || ready(p) && !ready(pick)) {
			pick = p
		}
	}
	if pick == nil {
		return target{}, false
	}
	port, ok := podPort(o, n.port, pick)
	if !ok {
		return target{}, false // the Service has no such port: not a matter of policy
	}
	e, _ := s.end(ctx, pick)
	with := *e
	with.Service = svc.Path()
	return target{end: &with, port: port, pod: pick, service: svc, selector: sel, text: svc.String()}, true
}

// podPort is the port of a pod behind a port of its Service.
func podPort(o *unstructured.Unstructured, port int32, p *corev1.Pod) (int32, bool) {
	ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	for _, x := range ports {
		m, _ := x.(map[string]any)
		n, _ := m["port"].(int64)
		if f, ok := m["port"].(float64); ok {
			n = int64(f)
		}
		if int32(n) != port {
			continue
		}
		switch v := m["targetPort"].(type) {
		case int64:
			return int32(v), true
		case float64:
			return int32(v), true
		case string:
			got := namedPorts(p)[v]
			return got, got != 0
		}
		return port, true
	}
	if str(o, "spec", "clusterIP") == corev1.ClusterIPNone {
		return port, true
	}
	return 0, false
}
