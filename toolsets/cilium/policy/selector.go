package policy

import (
	"fmt"
	"slices"
	"strings"
)

// requirement is one condition of a selector. Key has its source: "any:app",
// "k8s:app", "reserved:host".
type requirement struct {
	key    string
	op     string
	values []string
}

// selector is a conjunction of requirements; none selects everything.
type selector struct{ reqs []requirement }

// withSource gives a key its source as Cilium reads it: none means any.
func withSource(key string) string {
	if src, _, ok := strings.Cut(key, ":"); ok && src != "" && !strings.ContainsAny(src, "./") {
		return key
	}
	return "any:" + key
}

// value looks a label up; a key of source any is found under every source.
func value(labels map[string]string, key string) (string, bool) {
	bare, isAny := strings.CutPrefix(key, "any:")
	if !isAny {
		v, ok := labels[key]
		return v, ok
	}
	if v, ok := labels["k8s:"+bare]; ok {
		return v, ok
	}
	for k, v := range labels {
		if _, rest, ok := strings.Cut(k, ":"); ok && rest == bare {
			return v, true
		}
	}
	return "", false
}

// met reports whether labels meet the requirement.
func (r requirement) met(labels map[string]string) bool {
	v, ok := value(labels, r.key)
	switch r.op {
	case "In":
		return ok && slices.Contains(r.values, v)
	case "NotIn":
		return !ok || !slices.Contains(r.values, v)
	case "Exists":
		return ok
	case "DoesNotExist":
		return !ok
	}
	return false
}

// String writes the requirement as people do: app=router, tier in (a, b), !debug.
func (r requirement) String() string {
	key := strings.TrimPrefix(strings.TrimPrefix(r.key, "any:"), "k8s:")
	switch r.op {
	case "In":
		if len(r.values) == 1 {
			return key + "=" + r.values[0]
		}
		return key + " in (" + strings.Join(r.values, ", ") + ")"
	case "NotIn":
		return key + " notin (" + strings.Join(r.values, ", ") + ")"
	case "DoesNotExist":
		return "!" + key
	}
	return key
}

// matches reports whether labels meet all requirements.
func (s selector) matches(labels map[string]string) bool { return len(s.missing(labels)) == 0 }

// missing lists the requirements that labels do not meet.
func (s selector) missing(labels map[string]string) []requirement {
	var out []requirement
	for _, r := range s.reqs {
		if !r.met(labels) {
			out = append(out, r)
		}
	}
	return out
}

// has reports whether a requirement is about a key, whatever its source; a key
// that ends in a dot is a prefix.
func (s selector) has(key string) bool {
	return slices.ContainsFunc(s.reqs, func(r requirement) bool {
		_, bare, _ := strings.Cut(r.key, ":")
		return bare == key || strings.HasSuffix(key, ".") && strings.HasPrefix(bare, key)
	})
}

func (s selector) reserved() bool {
	return slices.ContainsFunc(s.reqs, func(r requirement) bool { return strings.HasPrefix(r.key, "reserved:") })
}

// String writes the selector; "everything" if it has no requirement.
func (s selector) String() string {
	if len(s.reqs) == 0 {
		return "everything"
	}
	out := make([]string, 0, len(s.reqs))
	for _, r := range s.reqs {
		out = append(out, r.String())
	}
	return strings.Join(out, ",")
}

// parseSelector reads a label selector; each key gets its source by key. A shape
// that is not understood is an error: a selector is never guessed.
func parseSelector(raw any, source func(string) string) (selector, error) {
	var s selector
	if raw == nil {
		return s, nil
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return s, fmt.Errorf("a selector is %T, not an object", raw)
	}
	labels, err := object(m, "matchLabels")
	if err != nil {
		return s, err
	}
	for _, k := range sortedKeys(labels) {
		v, ok := labels[k].(string)
		if !ok {
			return s, fmt.Errorf("matchLabels.%s is %T, not a string", k, labels[k])
		}
		s.reqs = append(s.reqs, requirement{key: source(k), op: "In", values: []string{v}})
	}
	exprs, err := list(m, "matchExpressions")
	if err != nil {
		return s, err
	}
	for i, e := range exprs {
		x, ok := e.(map[string]any)
		if !ok {
			return s, fmt.Errorf("matchExpressions[%d] is %T, not an object", i, e)
		}
		key, _ := x["key"].(string)
		op, _ := x["operator"].(string)
		if key == "" || !slices.Contains([]string{"In", "NotIn", "Exists", "DoesNotExist"}, op) {
			return s, fmt.Errorf("matchExpressions[%d] has key %q and operator %q", i, key, op)
		}
		values, err := texts(x, "values")
		if err != nil {
			return s, fmt.Errorf("matchExpressions[%d]: %w", i, err)
		}
		s.reqs = append(s.reqs, requirement{key: source(key), op: op, values: values})
	}
	return s, nil
}

// scoped limits a peer selector of a policy the way Cilium does: without a word of
// namespaces it means the policy's own; in a clusterwide policy, any pod.
func scoped(s selector, namespace, cluster string) selector {
	if s.reserved() {
		return s
	}
	if !s.has(NamespaceKey) {
		switch {
		case namespace == "":
			s.reqs = append(s.reqs, requirement{key: "k8s:" + NamespaceKey, op: "Exists"})
		case !s.has(NamespaceLabelKey):
			s.reqs = append(s.reqs, requirement{key: "k8s:" + NamespaceKey, op: "In", values: []string{namespace}})
		}
	}
	if cluster != "" && !s.has(ClusterKey) {
		s.reqs = append(s.reqs, requirement{key: "k8s:" + ClusterKey, op: "In", values: []string{cluster}})
	}
	return s
}
