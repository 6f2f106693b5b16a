package judge

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// The three ways in which a call over the network fails, as logs put it.
var (
	lookupFailed = pattern.New(`(?i)no such host|name or service not known|name resolution|could not resolve host|server misbehaving|\benotfound\b|\beai_again\b|unknownhost|could not translate host name|nodename nor servname|nxdomain|can't find`)
	turnedAway   = pattern.New(`(?i)connection refused|econnrefused|connectexception|no route to host|ehostunreach|network is unreachable|connection reset|econnreset|broken pipe|service unavailable|\b50[234]\b|failed to connect|unable to connect|could not connect|cannot connect|can't connect|waiting for|not (?:yet )?(?:ready|reachable|available)|unreachable`)
	timedOut     = pattern.New(`(?i)timed? ?out|etimedout|deadline exceeded`)
	// unanswered is a resolver that does not answer, rather than one that says no.
	unanswered = pattern.New(`(?i)temporary failure in name resolution|server misbehaving|eai_again|lookup \S+ on \S+:53: (?:read|write|dial) .*(?:timeout|refused)|lookup \S+: i/o timeout|no servers could be reached`)
)

// The places in which a line names whom it wanted.
var addressed = []*pattern.Regexp{
	pattern.New(`\b[a-z][a-z0-9+.-]*://(?:[^/@\s"']*@)?([A-Za-z0-9][A-Za-z0-9.-]*)(?::(\d{1,5}))?`),
	pattern.New(`(?i)\blookup ([a-z0-9][a-z0-9.-]*)`),
	pattern.New(`(?i)(?:translate host name|resolve host:?|\bresolve|\benotfound|\beai_again|unknownhostexception:?|host(?:name)?[ =:]+) ?["']?([a-z0-9][a-z0-9.-]*)`),
	pattern.New(`\b([A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]):(\d{2,5})\b`),
	pattern.New(`\bnc (?:-\w+ )*([a-z0-9][a-z0-9.-]*) (\d{2,5})\b`),
	pattern.New(`\b(?:nslookup|ping|dig|getent hosts|pg_isready -h|mysqladmin (?:ping )?-h|can't find) ?([a-z0-9][a-z0-9.-]*)`),
}

// peer is a host that a line names, with the port if it does.
type peer struct {
	host string
	port int32
}

// peersOf lists the hosts that a line of a log names, the likeliest first. The
// resolver asked ("on 10.96.0.10:53") is not who was wanted.
func peersOf(line string) []peer {
	line = regexp.MustCompile(` on \[?[0-9a-f.:]+\]?:53\b`).ReplaceAllString(line, "")
	var out []peer
	for _, re := range addressed {
		for _, m := range re.FindAllStringSubmatch(line, -1) {
			p := peer{host: strings.ToLower(strings.Trim(m[1], "."))}
			if len(m) > 2 {
				n, _ := strconv.ParseInt(m[2], 10, 32)
				p.port = int32(n)
			}
			if p.host == "" || slices.ContainsFunc(out, func(o peer) bool { return o.host == p.host && (p.port == 0 || o.port == p.port) }) {
				continue
			}
			out = append(out, p)
		}
	}
	return out
}

// called ties a pod to the Service that a line of its log complains of: to one
// that is not there, to one whose pods are to be looked at, or to the policy
// that stands between. Names outside of the cluster are left alone.
func (j *judge) called(ctx context.Context, v *verdict, p *corev1.Pod, container, line string) {
	lost, away, mute := lookupFailed.MatchString(line), turnedAway.MatchString(line), timedOut.MatchString(line)
	if !lost && !away && !mute {
		return
	}
	if unanswered.MatchString(line) {
		j.resolver(ctx, v, p)
	}
	for _, at := range peersOf(line) {
		svc, found := j.serviceAt(ctx, p.Namespace, at.host, lost)
		if svc.Name == "" {
			continue
		}
		v.edge(v.subject, graph.Calls, svc)
		if !found {
			v.line("%s, which container %s asks for, does not exist", svc, container)
			v.fault("kube.service_missing", incident.Critical, 0.9, svc, fmt.Sprintf("%s, which container %s of pod %s asks for, does not exist%s: %s", svc, container, v.subject.Path(), j.servicesNear(ctx, svc), line), params("wanted_by", v.subject.Path()))
			return
		}
		v.line("container %s asks for %s", container, svc)
		if s, err := j.src.Service(ctx, svc.Namespace, svc.Name); err == nil {
			j.between(ctx, v, p, s, at.port, mute || away)
		}
		return
	}
}

// patient is how a program says that it waits and tries again.
var patient = pattern.New(`(?i)\bwait(?:ing|s)?\b|retry|sleeping|not (?:yet )?(?:ready|up|available|reachable)|nxdomain|can't find`)

// awaited reports whether an init container waits for somebody: its log says so, or
// it says nothing and its command does. The line is then the one that names whom.
func (j *judge) awaited(v *verdict, p *corev1.Pod, container string, l *logCause) bool {
	if patient.MatchString(l.line) && len(peersOf(l.line)) > 0 {
		return true
	}
	c := containerSpec(p, container)
	if c == nil || l.line != "" && !patient.MatchString(l.line) {
		return false
	}
	command := oneLine(strings.Join(slices.Concat(c.Command, c.Args), " "), 200)
	if !regexp.MustCompile(`(?i)\b(?:until|while|wait)`).MatchString(command) || len(peersOf(command)) == 0 && !regexp.MustCompile(`\b(?:nc|nslookup|curl|wget|ping|dig|getent|pg_isready|mysqladmin)\b`).MatchString(command) {
		return false
	}
	l.line = firstOf(l.line, "waiting") + " (command: " + command + ")"
	return true
}

// serviceAt finds the Service behind a host name or an address; found is false
// where the name can only be that of a Service and there is none.
func (j *judge) serviceAt(ctx context.Context, namespace, host string, lost bool) (ref incident.Ref, found bool) {
	if _, err := netip.ParseAddr(host); err == nil {
		all, err := j.src.Services(ctx, "")
		if err != nil {
			return incident.Ref{}, false
		}
		for _, s := range all {
			if slices.Contains(s.Spec.ClusterIPs, host) || s.Spec.ClusterIP == host {
				return j.ref("", "Service", s.Namespace, s.Name), true
			}
		}
		return incident.Ref{}, false
	}
	short, whole := strings.CutSuffix(host, ".cluster.local")
	short, svc := strings.CutSuffix(short, ".svc")
	parts := strings.Split(short, ".")
	name, ns := parts[0], namespace
	switch {
	case len(parts) == 1 && (svc || whole):
		return incident.Ref{}, false
	case len(parts) == 2:
		ns = parts[1]
	case len(parts) == 3 && svc:
		// A pod of a headless Service: web-0.web.shop.svc.
		name, ns = parts[1], parts[2]
	case len(parts) > 2:
		return incident.Ref{}, false
	}
	if _, err := j.src.Namespace(ctx, ns); err != nil && ns != namespace {
		return incident.Ref{}, false
	}
	r := j.ref("", "Service", ns, name)
	_, err := j.src.Service(ctx, ns, name)
	switch {
	case err == nil:
		return r, true
	case missing(err) && lost && (svc || len(parts) <= 2):
		return r, false
	}
	return incident.Ref{}, false
}

// servicesNear says which Services of a namespace have a name like the one that
// is not there.
func (j *judge) servicesNear(ctx context.Context, svc incident.Ref) string {
	all, err := j.src.Services(ctx, svc.Namespace)
	if err != nil {
		return ""
	}
	words := strings.FieldsFunc(svc.Name, func(r rune) bool { return r == '-' })
	var like []string
	for _, s := range all {
		if slices.ContainsFunc(words, func(w string) bool { return len(w) > 2 && strings.Contains(s.Name, w) }) {
			like = append(like, s.Name)
		}
	}
	slices.Sort(like)
	if len(like) == 0 {
		return ""
	}
	return fmt.Sprintf(" (namespace %s has %s)", svc.Namespace, strings.Join(limit(like, 3), ", "))
}

// resolver ties a pod that gets no answer to its look-ups to the cluster's DNS.
func (j *judge) resolver(ctx context.Context, v *verdict, p *corev1.Pod) {
	ofNode := p.Spec.DNSPolicy == corev1.DNSDefault || p.Spec.DNSPolicy == corev1.DNSNone || p.Spec.HostNetwork && p.Spec.DNSPolicy != corev1.DNSClusterFirstWithHostNet
	if _, _, down := j.dnsDown(ctx); down || ofNode {
		return // names judges both
	}
	s, err := j.src.Service(ctx, "kube-system", "kube-dns")
	if err != nil {
		return
	}
	v.edge(v.subject, graph.Calls, j.ref("", "Service", s.Namespace, s.Name))
	j.between(ctx, v, p, s, 53, true)
}

// between looks for what stands between a pod and a Service whose pods are
// ready: a port the Service does not have, or a NetworkPolicy.
func (j *judge) between(ctx context.Context, v *verdict, p *corev1.Pod, s *corev1.Service, port int32, cut bool) {
	if len(s.Spec.Selector) == 0 || !cut {
		return
	}
	pods, err := j.src.PodsMatching(ctx, s.Namespace, labels.SelectorFromSet(s.Spec.Selector))
	if err != nil {
		return
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(q *corev1.Pod) bool { return !ready(q) })
	if len(pods) == 0 {
		return
	}
	if port != 0 && len(s.Spec.Ports) > 0 && !slices.ContainsFunc(s.Spec.Ports, func(sp corev1.ServicePort) bool { return sp.Port == port }) && s.Spec.ClusterIP != corev1.ClusterIPNone {
		have := make([]string, 0, len(s.Spec.Ports))
		for _, sp := range s.Spec.Ports {
			have = append(have, fmt.Sprint(sp.Port))
		}
		svc := j.ref("", "Service", s.Namespace, s.Name)
		v.line("%s has port %s, not %d", svc, strings.Join(have, ", "), port)
		v.fault("kube.service_port_not_offered", incident.Critical, 0.88, svc, fmt.Sprintf("pod %s asks %s for port %d, and it offers %s", v.subject.Path(), svc, port, strings.Join(have, ", ")), params("port", fmt.Sprint(port), "offered", strings.Join(have, ", "), "wanted_by", v.subject.Path()))
		return
	}
	j.cutOff(ctx, v, p, pods[0], s, port)
}

// heard takes from the telling line of a log what it says of other things: a
// right that is refused, a Service that does not answer, a volume that is full,
// a peer that is gone. What is named there may be the cause of what is seen here.
func (j *judge) heard(ctx context.Context, v *verdict, p *corev1.Pod, container, line string) {
	if line == "" {
		return
	}
	j.logRight(v, p, line)
	j.called(ctx, v, p, container, line)
	j.full(ctx, v, p, container, line)
	j.peers(ctx, v, p, line)
}
