package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// rulePath is the place of a rule in a policy.
type rulePath struct {
	// spec is the index in specs, -1 for the policy's one spec.
	spec, index int
	dir         string
	deny        bool
}

// parseRule reads "ingress[0]", "egressDeny[1]" or "specs[2].egress[0]".
func parseRule(s string) (rulePath, error) {
	r := rulePath{spec: -1}
	rest := s
	if after, ok := strings.CutPrefix(rest, "specs["); ok {
		n, tail, ok := strings.Cut(after, "].")
		i, err := strconv.ParseUint(n, 10, 16)
		if !ok || err != nil {
			return r, fmt.Errorf("%q is no place of a rule: it is written specs[0].ingress[1]", s)
		}
		r.spec, rest = int(i), tail
	}
	head, n, ok := strings.Cut(strings.TrimSuffix(rest, "]"), "[")
	i, err := strconv.ParseUint(n, 10, 16)
	if !ok || err != nil || !strings.HasSuffix(rest, "]") {
		return r, fmt.Errorf("%q is no place of a rule: it is written ingress[0]", s)
	}
	r.index = int(i)
	r.dir, r.deny = strings.CutSuffix(head, "Deny")
	if r.dir != "ingress" && r.dir != "egress" {
		return r, fmt.Errorf("%q is no place of a rule: it begins with ingress or egress", s)
	}
	return r, nil
}

// policyPort is a port with its protocol.
type policyPort struct {
	number int
	proto  string
}

func (p policyPort) String() string { return fmt.Sprintf("%d/%s", p.number, p.proto) }

// parsePort reads "8000" or "8000/TCP".
func parsePort(s string) (policyPort, error) {
	n, proto, has := strings.Cut(s, "/")
	if !has {
		proto = "TCP"
	}
	proto = strings.ToUpper(proto)
	i, err := strconv.ParseUint(n, 10, 16)
	if err != nil || i == 0 || !slices.Contains([]string{"TCP", "UDP", "SCTP"}, proto) {
		return policyPort{}, fmt.Errorf("%q is no port: it is written 8000/TCP", s)
	}
	return policyPort{int(i), proto}, nil
}

// oneAddress reads a single address, also as a prefix of full length. Anything wider
// lets in peers that nobody named.
func oneAddress(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		s = netip.PrefixFrom(a, a.BitLen()).String()
	}
	x, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return x, fmt.Errorf("%q is no address", s)
	case x.Bits() != x.Addr().BitLen() || x.Addr().IsUnspecified():
		return x, fmt.Errorf("%s is a network, and a plan lets in single addresses only", s)
	}
	return x, nil
}

// parseLabels reads "key=value,key=value". It is never empty: an empty selector
// means everybody.
func parseLabels(s string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is no label: it is written key=value", part)
		}
		for _, e := range content.IsLabelKey(k) {
			return nil, fmt.Errorf("%q is no key of a label: %s", k, e)
		}
		for _, e := range validation.IsValidLabelValue(v) {
			return nil, fmt.Errorf("%q is no value of a label: %s", v, e)
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("label %q stands twice", k)
		}
		out[k] = v
	}
	return out, nil
}

// peerLabels is the other end of a pair.
type peerLabels struct {
	namespace string
	labels    map[string]string
	entity    string
	address   string
}

func (p peerLabels) String() string {
	switch {
	case p.entity != "":
		return "the entity " + p.entity
	case p.address != "":
		return "the address " + p.address
	}
	return "pods of namespace " + p.namespace + " with " + labels.Set(p.labels).String()
}

// ends reads port and peer.
func (e *policyEdit) ends(ctx context.Context) error {
	if s := e.p.str("port"); s != "" {
		x, err := parsePort(s)
		if err != nil {
			return e.p.missing("port", "%v", err)
		}
		e.port = &x
	}
	var ways []string
	for _, w := range []string{"peer", "peer_labels", "peer_entity", "peer_address"} {
		if e.p.str(w) != "" {
			ways = append(ways, w)
		}
	}
	if len(ways) > 1 {
		return e.p.missing(ways[1], "it stands beside %s: name the peer in one way", ways[0])
	}
	if len(ways) == 0 {
		if e.p.str("peer_namespace") != "" {
			return e.p.refuse("name its labels with peer_labels", "a namespace without labels lets in all of its pods")
		}
		return nil
	}
	e.peer = &peerLabels{entity: strings.ToLower(e.p.str("peer_entity"))}
	switch ways[0] {
	case "peer_entity":
		if e.k8s {
			return e.p.missing("peer_entity", "a NetworkPolicy knows no entities: name the peer by labels")
		}
		return nil
	case "peer_address":
		x, err := oneAddress(e.p.str("peer_address"))
		if err != nil {
			return e.p.missing("peer_address", "%v", err)
		}
		e.peer.address = x.String()
		return nil
	case "peer_labels":
		set, err := parseLabels(e.p.str("peer_labels"))
		if err != nil {
			return e.p.missing("peer_labels", "%v", err)
		}
		e.peer.labels, e.peer.namespace = set, e.p.str("peer_namespace")
		if e.peer.namespace == "" {
			e.peer.namespace = e.o.GetNamespace()
		}
		if e.peer.namespace == "" {
			return e.p.missing("peer_namespace", "the policy is in no namespace: say in which the labels are meant")
		}
		return nil
	}
	return e.peerOf(ctx)
}

// peerOf names a pod or a Service by the labels that stay when its pods are made anew.
func (e *policyEdit) peerOf(ctx context.Context) error {
	s := e.p.str("peer")
	head, rest, worded := strings.Cut(s, " ")
	if !worded {
		head, rest = "", s
	}
	ns, name, ok := strings.Cut(rest, "/")
	if !ok || name == "" || strings.Contains(name, "/") || !slices.Contains([]string{"", "pod", "Pod", "Service"}, head) {
		return e.p.missing("peer", "%q names no pod or Service: it is written namespace/name", s)
	}
	e.peer.namespace = ns
	if head != "Service" {
		pod, err := e.c.Get(ctx, "Pod", ns, name)
		if err == nil {
			e.peer.labels, err = e.c.stableLabels(ctx, pod)
			if err == nil && len(e.peer.labels) == 0 {
				return e.p.refuse("give the pod labels of its own", "pod %s has no label that stays: a rule for it would mean every pod", s)
			}
			return err
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	svc, err := e.c.Get(ctx, "Service", ns, name)
	if apierrors.IsNotFound(err) {
		return e.p.missing("peer", "there is no pod and no Service %s", rest)
	}
	if err != nil {
		return err
	}
	if e.peer.labels, _, _ = unstructured.NestedStringMap(svc.Object, "spec", "selector"); len(e.peer.labels) == 0 {
		return e.p.refuse("name the pods by peer_labels", "Service %s selects no pods: a rule for it would mean every pod", rest)
	}
	return nil
}

// stableLabels are the labels by which a pod's workload finds it, else those of the
// pod that do not change when it is made anew.
func (c *Cluster) stableLabels(ctx context.Context, pod *Object) (map[string]string, error) {
	list, _, err := c.chain(ctx, pod, map[incident.Ref]*Object{})
	if err != nil {
		return nil, err
	}
	for _, o := range slices.Backward(list[1:]) {
		sel, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
		for k := range sel {
			if changes(k) {
				delete(sel, k)
			}
		}
		if len(sel) > 0 && labels.SelectorFromSet(sel).Matches(labels.Set(pod.GetLabels())) {
			return sel, nil
		}
	}
	out := maps.Clone(pod.GetLabels())
	maps.DeleteFunc(out, func(k, _ string) bool { return changes(k) })
	return out, nil
}

// changes reports whether a label differs from pod to pod of one workload or from
// revision to revision.
func changes(key string) bool {
	for _, part := range []string{"pod-template-hash", "controller-revision-hash", "pod-template-generation", "pod-name", "pod-index", "completion-index", "controller-uid", "job-name", "worker-index", "template-revision-hash", "group-index", "group-key", "topology.kubernetes.io/"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

func (e *policyEdit) portObject() map[string]any {
	if e.k8s {
		return map[string]any{"port": int64(e.port.number), "protocol": e.port.proto}
	}
	return map[string]any{"ports": []any{map[string]any{"port": strconv.Itoa(e.port.number), "protocol": e.port.proto}}}
}

// peerObject is the peer as the policy's own kind writes it, with the field it stands in.
func (e *policyEdit) peerObject() (field string, x any) {
	if e.k8s {
		field = map[string]string{"ingress": "from", "egress": "to"}[e.dir]
		if e.peer.address != "" {
			return field, map[string]any{"ipBlock": map[string]any{"cidr": e.peer.address}}
		}
		out := map[string]any{"podSelector": map[string]any{"matchLabels": untyped(e.peer.labels)}}
		if e.peer.namespace != e.o.GetNamespace() {
			out["namespaceSelector"] = map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": e.peer.namespace}}
		}
		return field, out
	}
	prefix := map[string]string{"ingress": "from", "egress": "to"}[e.dir]
	switch {
	case e.peer.entity != "":
		return prefix + "Entities", e.peer.entity
	case e.peer.address != "":
		return prefix + "CIDR", e.peer.address
	}
	set := untyped(e.peer.labels)
	if e.peer.namespace != e.o.GetNamespace() {
		set["k8s:io.kubernetes.pod.namespace"] = e.peer.namespace
	}
	return prefix + "Endpoints", map[string]any{"matchLabels": set}
}

func untyped(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// addPort lets one port more through in a rule.
func (e *policyEdit) addPort(r map[string]any) error {
	field := "toPorts"
	if e.k8s {
		field = "ports"
	}
	list, _ := r[field].([]any)
	if len(list) == 0 {
		return e.p.missing("port", "rule %s names no ports, so it lets every port through already", e.p.str("rule"))
	}
	for _, x := range mappings(list) {
		ports := []map[string]any{x}
		if !e.k8s {
			ports = mappings(x["ports"])
		}
		for _, have := range ports {
			proto := text(have, "protocol")
			if fmt.Sprint(have["port"]) == strconv.Itoa(e.port.number) && (proto == e.port.proto || proto == "ANY" || proto == "" && e.port.proto == "TCP") {
				return e.p.missing("port", "rule %s lets %s through already", e.p.str("rule"), e.port)
			}
		}
	}
	r[field] = append(slices.Clone(list), e.portObject())
	return nil
}

// addPeer lets one peer more through in a rule. A rule of Cilium that names peers in
// another way cannot take it, and one that names none means everybody.
func (e *policyEdit) addPeer(r map[string]any) error {
	field, peer := e.peerObject()
	if !e.k8s {
		for k := range r {
			if (strings.HasPrefix(k, "from") || strings.HasPrefix(k, "to") && k != "toPorts") && k != field {
				return e.p.missing("rule", "rule %s names its peers by %s, which does not go together with %s: make a new rule with direction, peer and port", e.p.str("rule"), k, field)
			}
		}
	}
	list, _ := r[field].([]any)
	if len(list) == 0 {
		return e.p.missing("peer", "rule %s names no peer by %s: make a new rule with direction, peer and port", e.p.str("rule"), field)
	}
	want, err := json.Marshal(peer)
	if err != nil {
		return err
	}
	for _, x := range list {
		if have, err := json.Marshal(x); err == nil && string(have) == string(want) {
			return e.p.missing("peer", "rule %s names %s already", e.p.str("rule"), e.peer)
		}
	}
	r[field] = append(slices.Clone(list), peer)
	return nil
}

// addName lets one DNS name more through in an egress rule that names some.
func (e *policyEdit) addName(r map[string]any, name string) error {
	if bad := validation.IsDNS1123Subdomain(strings.TrimSuffix(name, ".")); len(bad) > 0 {
		return e.p.missing("fqdn", "%q is no DNS name: %s", name, strings.Join(bad, "; "))
	}
	list, _ := r["toFQDNs"].([]any)
	if len(list) == 0 {
		return e.p.missing("rule", "rule %s names no DNS names", e.p.str("rule"))
	}
	for _, x := range mappings(list) {
		if text(x, "matchName") == name {
			return e.p.missing("fqdn", "rule %s names %s already", e.p.str("rule"), name)
		}
	}
	r["toFQDNs"] = append(slices.Clone(list), map[string]any{"matchName": name})
	return nil
}

// newRule lets one pair through on one port. Where the policy's rules ask for
// authentication, the new one does too.
func (e *policyEdit) newRule() (func(*unstructured.Unstructured) error, error) {
	field, peer := e.peerObject()
	rule := map[string]any{field: []any{peer}}
	if e.k8s {
		rule["ports"] = []any{e.portObject()}
	} else {
		rule["toPorts"] = []any{e.portObject()}
		list, _ := e.rules(e.o.Unstructured)
		for _, r := range mappings(list) {
			if mode, _, _ := unstructured.NestedString(r, "authentication", "mode"); mode == "required" {
				rule["authentication"] = map[string]any{"mode": "required"}
			}
		}
	}
	e.said = fmt.Sprintf("Let %s of %s on port %s through", e.dir, e.peer, e.port)
	return e.appended(rule), nil
}

func (e *policyEdit) appended(rule map[string]any) func(*unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		list, set := e.rules(u)
		set(append(slices.Clone(list), any(rule)))
		return nil
	}
}

// asks lets one DNS name be asked through Cilium's DNS proxy, which is how toFQDNs
// learns addresses.
func (e *policyEdit) asks(ctx context.Context, name string) (func(*unstructured.Unstructured) error, error) {
	if e.k8s {
		return nil, e.p.missing("dns", "a NetworkPolicy knows no DNS names")
	}
	if bad := validation.IsDNS1123Subdomain(strings.TrimSuffix(name, ".")); len(bad) > 0 {
		return nil, e.p.missing("dns", "%q is no DNS name: %s", name, strings.Join(bad, "; "))
	}
	pods, err := e.c.List(ctx, "Pod", "kube-system", "k8s-app=kube-dns", "")
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, e.p.missing("dns", "no pod in kube-system has the label k8s-app=kube-dns: which pods answer DNS is not known here")
	}
	e.said = "Let " + name + " be asked through the DNS proxy"
	return e.appended(map[string]any{
		"toEndpoints": []any{map[string]any{"matchLabels": map[string]any{"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}},
		"toPorts": []any{map[string]any{
			"ports": []any{map[string]any{"port": "53", "protocol": "ANY"}},
			"rules": map[string]any{"dns": []any{map[string]any{"matchName": name}}},
		}},
	}), nil
}
