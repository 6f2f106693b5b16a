package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// schedulingFields are the fields of a pod spec that the action changes, and an
// example of their JSON type for checking a whole value.
func schedulingFields() map[string]func() any {
	return map[string]func() any{
		"nodeSelector":              func() any { return &map[string]string{} },
		"tolerations":               func() any { return &[]corev1.Toleration{} },
		"affinity":                  func() any { return &corev1.Affinity{} },
		"topologySpreadConstraints": func() any { return &[]corev1.TopologySpreadConstraint{} },
		"priorityClassName":         nil,
		"schedulerName":             nil,
		"dnsPolicy":                 nil,
		"hostPort":                  nil,
	}
}

// move is what a change of scheduling comes to.
type move struct {
	say   string
	warn  []string
	apply func(spec map[string]any) error
}

func patchScheduling(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	field := p.str("field")
	typed, ok := schedulingFields()[field]
	if !ok {
		return nil, p.missing("field", "%q is none of nodeSelector, tolerations, affinity, topologySpreadConstraints, priorityClassName, schedulerName, dnsPolicy, hostPort", field)
	}
	if p.str("value") == "" && p.str("op") != "remove" {
		return nil, p.missing("value", "say what %s of %s shall be; now it is %s", field, e.what(), jsonText(e.t.spec[field]))
	}
	var m move
	switch v := p.str("value"); {
	case typed != nil && (strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[")):
		m, err = wholeField(p, e, field, typed())
	case field == "nodeSelector":
		m, err = c.nodeSelector(ctx, p, e)
	case field == "tolerations":
		m, err = toleration(p, e)
	case field == "topologySpreadConstraints":
		m, err = spread(p, e)
	case field == "affinity":
		m, err = affinity(p, e)
	case field == "hostPort":
		m, err = hostPort(p, e)
	default:
		m, err = c.plainField(ctx, p, e)
	}
	if err != nil {
		return nil, err
	}
	say := fmt.Sprintf("%s of %s", m.say, e.what())
	d := c.draft("%s", say)
	if scheduleFree(e.Object) {
		err = d.patch(e.Object, say, func(u *unstructured.Unstructured) error {
			t, err := e.in(u)
			if err != nil {
				return err
			}
			return m.apply(t.spec)
		})
		d.climbed(e)
	} else {
		err = d.rollout(ctx, e, say, func(t *template) error { return m.apply(t.spec) })
	}
	if err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, m.warn...)
	if !scheduleFree(e.Object) && e.Ref.Kind != "CronJob" && len(d.Verify) > 0 {
		d.Verify = slices.Insert(d.Verify, 0, incident.Check{Kind: CheckScheduled, Subject: e.Ref, Say: "every pod of " + e.Ref.String() + " has a node", Within: rolloutTime(e, 1)})
	}
	if len(d.Verify) == 0 {
		d.Verify = []incident.Check{{Kind: CheckExists, Subject: e.Ref, Say: e.Ref.String() + " is there", Within: 30}}
	}
	return d, nil
}

// scheduleFree reports whether a Job's scheduling may still be changed in place: it
// is suspended and has never run (kubernetes.io, Jobs, mutable scheduling directives).
func scheduleFree(o *Object) bool {
	if o.Ref.Kind != "Job" || o.Ref.Group != "batch" {
		return false
	}
	suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend")
	_, started, _ := unstructured.NestedString(o.Object, "status", "startTime")
	return suspended && !started
}

func jsonText(v any) string {
	if v == nil {
		return "none"
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// wholeField replaces a field by the JSON of the value, checked against its type.
func wholeField(p params, e *edit, field string, typed any) (move, error) {
	if op := p.str("op"); op != "" && op != "set" {
		return move{}, p.missing("op", "a whole %s as JSON can only be set", field)
	}
	dec := json.NewDecoder(strings.NewReader(p.str("value")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(typed); err != nil {
		return move{}, p.missing("value", "it is no %s: %v", field, err)
	}
	var v any
	if err := json.Unmarshal([]byte(p.str("value")), &v); err != nil {
		return move{}, p.missing("value", "%v", err)
	}
	v = integers(v)
	if jsonText(v) == jsonText(e.t.spec[field]) {
		return move{}, p.missing("value", "%s is that already", field)
	}
	return move{
		say:   fmt.Sprintf("Set %s from %s to %s", field, jsonText(e.t.spec[field]), jsonText(v)),
		apply: func(spec map[string]any) error { spec[field] = v; return nil },
	}, nil
}

func (c *Cluster) nodeSelector(ctx context.Context, p params, e *edit) (move, error) {
	now, _, _ := unstructured.NestedStringMap(e.t.spec, "nodeSelector")
	key, value, valued := strings.Cut(p.str("value"), "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	_, there := now[key]
	if p.str("op") == "remove" {
		if !there || valued && now[key] != value {
			return move{}, p.missing("value", "nodeSelector has no %s; it is %s", p.str("value"), jsonText(now))
		}
		return move{say: fmt.Sprintf("Remove %s=%s from nodeSelector", key, now[key]), warn: []string{"its pods may then start on nodes that the label kept them off"}, apply: func(spec map[string]any) error {
			m, _ := spec["nodeSelector"].(map[string]any)
			if delete(m, key); len(m) == 0 {
				delete(spec, "nodeSelector")
			}
			return nil
		}}, nil
	}
	if !valued || len(validation.IsQualifiedName(key)) > 0 {
		return move{}, p.missing("value", "write the label as key=value; nodeSelector is %s", jsonText(now))
	}
	if there && now[key] == value {
		return move{}, p.missing("op", "nodeSelector has %s=%s already; say op remove to take it out, or give another value", key, value)
	}
	n, err := c.matching(ctx, map[string]string{key: value})
	if err != nil {
		return move{}, err
	}
	if n == 0 {
		return move{}, p.missing("value", "no node has the label %s=%s: no pod could start", key, value)
	}
	say := fmt.Sprintf("Add %s=%s to nodeSelector", key, value)
	if there {
		say = fmt.Sprintf("Set %s in nodeSelector from %s to %s", key, now[key], value)
	}
	return move{say: say, apply: func(spec map[string]any) error { return unstructured.SetNestedField(spec, value, "nodeSelector", key) }}, nil
}

// tolerationOf reads key=value:Effect, key:Effect, key=value or key.
func tolerationOf(s string) (map[string]any, bool) {
	kv, effect, _ := strings.Cut(strings.TrimSpace(s), ":")
	key, value, valued := strings.Cut(kv, "=")
	if len(validation.IsQualifiedName(key)) > 0 || effect != "" && !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
		return nil, false
	}
	t := map[string]any{"key": key, "operator": "Exists"}
	if valued && value != "" {
		t["operator"], t["value"] = "Equal", value
	}
	if effect != "" {
		t["effect"] = effect
	}
	return t, true
}

func toleration(p params, e *edit) (move, error) {
	t, ok := tolerationOf(p.str("value"))
	if !ok {
		return move{}, p.missing("value", "write the taint as key=value:Effect")
	}
	list, _ := e.t.spec["tolerations"].([]any)
	same := func(v any) bool {
		m, _ := v.(map[string]any)
		return text(m, "key") == text(t, "key") && (text(t, "effect") == "" || text(m, "effect") == text(t, "effect") || text(m, "effect") == "") && (text(m, "operator") == "Exists" || text(m, "value") == text(t, "value"))
	}
	if p.str("op") == "remove" {
		if !slices.ContainsFunc(list, same) {
			return move{}, p.missing("value", "there is no toleration of %s; there are %s", p.str("value"), jsonText(e.t.spec["tolerations"]))
		}
		return move{say: "Remove the toleration of " + p.str("value"), apply: func(spec map[string]any) error {
			list, _ := spec["tolerations"].([]any)
			if list = slices.DeleteFunc(list, same); len(list) == 0 {
				delete(spec, "tolerations")
				return nil
			}
			spec["tolerations"] = list
			return nil
		}}, nil
	}
	if slices.ContainsFunc(list, same) {
		return move{}, p.missing("value", "%s is tolerated already", p.str("value"))
	}
	var warn []string
	if key := text(t, "key"); strings.HasPrefix(key, "node.kubernetes.io/") {
		warn = append(warn, key+" is set by Kubernetes on nodes that are not well: pods then stay on or start on such nodes")
	}
	return move{say: "Tolerate the taint " + p.str("value") + " in the pods", warn: warn, apply: func(spec map[string]any) error {
		list, _ := spec["tolerations"].([]any)
		spec["tolerations"] = append(slices.Clone(list), t)
		return nil
	}}, nil
}

func spread(p params, e *edit) (move, error) {
	list, _ := e.t.spec["topologySpreadConstraints"].([]any)
	key := p.str("value")
	var keys []string
	for _, v := range list {
		m, _ := v.(map[string]any)
		keys = append(keys, text(m, "topologyKey"))
	}
	on := func(v any) bool { m, _ := v.(map[string]any); return text(m, "topologyKey") == key }
	if !slices.Contains(keys, key) {
		return move{}, p.missing("value", "there is no spread constraint on %q; there are %s", key, strings.Join(keys, ", "))
	}
	switch p.str("op") {
	case "relax":
		if !slices.ContainsFunc(list, func(v any) bool {
			m, _ := v.(map[string]any)
			return on(v) && text(m, "whenUnsatisfiable") != "ScheduleAnyway"
		}) {
			return move{}, p.missing("op", "the spread constraint on %s is a preference already", key)
		}
		return move{say: fmt.Sprintf("Make the spread constraint on %s a preference (whenUnsatisfiable from DoNotSchedule to ScheduleAnyway)", key), apply: func(spec map[string]any) error {
			list, _ := spec["topologySpreadConstraints"].([]any)
			for _, v := range list {
				if m, ok := v.(map[string]any); ok && on(v) {
					m["whenUnsatisfiable"] = "ScheduleAnyway"
				}
			}
			return nil
		}}, nil
	case "remove":
		return move{say: "Remove the spread constraint on " + key, apply: func(spec map[string]any) error {
			list, _ := spec["topologySpreadConstraints"].([]any)
			if list = slices.DeleteFunc(list, on); len(list) == 0 {
				delete(spec, "topologySpreadConstraints")
				return nil
			}
			spec["topologySpreadConstraints"] = list
			return nil
		}}, nil
	}
	return move{}, p.missing("op", "say relax to make the constraint on %s a preference, or remove to take it out", key)
}

// affinity relaxes or removes required terms; a new affinity is given as JSON.
func affinity(p params, e *edit) (move, error) {
	now, _ := e.t.spec["affinity"].(map[string]any)
	kind := p.str("value")
	if p.str("op") == "remove" && kind == "" {
		if now == nil {
			return move{}, p.missing("field", "%s has no affinity", e.what())
		}
		return move{say: "Remove the affinity " + jsonText(now), apply: func(spec map[string]any) error { delete(spec, "affinity"); return nil }}, nil
	}
	part, _ := now[kind].(map[string]any)
	if part == nil {
		return move{}, p.missing("value", "give the whole affinity as JSON, or with op relax or remove one of nodeAffinity, podAffinity, podAntiAffinity; now it is %s", jsonText(e.t.spec["affinity"]))
	}
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	switch p.str("op") {
	case "remove":
		return move{say: fmt.Sprintf("Remove %s %s", kind, jsonText(part)), apply: func(spec map[string]any) error {
			m, _ := spec["affinity"].(map[string]any)
			if delete(m, kind); len(m) == 0 {
				delete(spec, "affinity")
			}
			return nil
		}}, nil
	case "relax":
		weighted, err := preferredTerms(kind, part[required])
		if err != nil {
			return move{}, p.missing("op", "%v; %s is %s", err, kind, jsonText(part))
		}
		return move{say: fmt.Sprintf("Make the required %s a preference", kind), apply: func(spec map[string]any) error {
			m, _ := spec["affinity"].(map[string]any)
			part, _ := m[kind].(map[string]any)
			list, _ := part[preferred].([]any)
			part[preferred] = append(slices.Clone(list), weighted...)
			delete(part, required)
			return nil
		}}, nil
	}
	return move{}, p.missing("op", "say relax to make the required %s a preference, or remove to take it out", kind)
}

// preferredTerms are required terms with the greatest weight.
func preferredTerms(kind string, required any) ([]any, error) {
	var terms []any
	field := "podAffinityTerm"
	switch r := required.(type) {
	case []any:
		terms = r
	case map[string]any: // of nodes
		terms, _ = r["nodeSelectorTerms"].([]any)
		field = "preference"
	}
	if len(terms) == 0 {
		return nil, fmt.Errorf("%s requires nothing", kind)
	}
	var out []any
	for _, t := range terms {
		m, _ := t.(map[string]any)
		out = append(out, map[string]any{"weight": int64(100), field: (&unstructured.Unstructured{Object: m}).DeepCopy().Object})
	}
	return out, nil
}

// hostPort takes a port of the node away from the containers that ask for it.
func hostPort(p params, e *edit) (move, error) {
	want := p.str("value")
	var hits []string
	each := func(spec map[string]any, do func(k container, port map[string]any)) {
		t := &template{spec: spec, spot: e.t.spot, at: e.t.at}
		for _, k := range t.containers() {
			list, _ := k.m["ports"].([]any)
			for _, v := range list {
				if m, ok := v.(map[string]any); ok && m["hostPort"] != nil && fmt.Sprint(m["hostPort"]) == want {
					do(k, m)
				}
			}
		}
	}
	each(e.t.spec, func(k container, _ map[string]any) { hits = append(hits, k.name) })
	if len(hits) == 0 {
		return move{}, p.missing("value", "no container asks for host port %q", want)
	}
	if op := p.str("op"); op != "" && op != "remove" {
		return move{}, p.missing("op", "a host port can only be removed")
	}
	return move{
		say:  fmt.Sprintf("Remove host port %s of container %s", want, strings.Join(hits, ", ")),
		warn: []string{"who reaches the pod by its node's address and port " + want + " no longer does; a Service has to"},
		apply: func(spec map[string]any) error {
			if v, _ := spec["hostNetwork"].(bool); v {
				return fmt.Errorf("the pods use the node's network, where every port is a host port; give another port instead")
			}
			each(spec, func(_ container, port map[string]any) { delete(port, "hostPort") })
			return nil
		},
	}, nil
}

// plainField sets a field that is one word.
func (c *Cluster) plainField(ctx context.Context, p params, e *edit) (move, error) {
	field, value := p.str("field"), p.str("value")
	now := text(e.t.spec, field)
	m := move{say: fmt.Sprintf("Set %s from %s to %s", field, orNone(now), orNone(value)), apply: func(spec map[string]any) error {
		if spec[field] = value; value == "" {
			delete(spec, field)
		}
		return nil
	}}
	if now == value {
		return move{}, p.missing("value", "%s is %s already", field, orNone(now))
	}
	switch field {
	case "priorityClassName":
		// An admission plugin has written the number; it follows from the class.
		set := m.apply
		m.apply = func(spec map[string]any) error { delete(spec, "priority"); return set(spec) }
		if value == "" {
			return m, nil
		}
		if _, err := c.Get(ctx, "PriorityClass.scheduling.k8s.io", "", value); err != nil {
			if notThere(err) {
				return move{}, p.missing("value", "there is no PriorityClass %s", value)
			}
			return move{}, err
		}
		m.warn = append(m.warn, "pods of a higher priority may push others off their nodes")
	case "dnsPolicy":
		if !slices.Contains([]string{"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"}, value) {
			return move{}, p.missing("value", "%q is no dnsPolicy", value)
		}
	case "schedulerName":
		m.warn = append(m.warn, "a scheduler of the name "+value+" has to run; the default one is default-scheduler")
	}
	return m, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
