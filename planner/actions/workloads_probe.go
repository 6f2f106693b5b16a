package actions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// startupFailures and startupPeriod give an engine ten minutes to load its model
// when nothing else is said.
const (
	startupFailures = 60
	startupPeriod   = 10
)

// nextProbe is the probe that the parameters ask for; nil means none.
func nextProbe(p params, e *edit, k container, which string, was map[string]any) (map[string]any, error) {
	if v := p.str("value"); v != "" {
		var next map[string]any
		if err := json.Unmarshal([]byte(v), &next); err != nil {
			return nil, p.missing("value", "a probe is a JSON object or null: %v", err)
		}
		if next == nil && was == nil {
			return nil, p.missing("value", "container %s has no %s probe", k.name, which)
		}
		var typed corev1.Probe
		if err := json.Unmarshal([]byte(v), &typed); err != nil {
			return nil, p.missing("value", "it is no probe: %v", err)
		}
		if next != nil && typed.HTTPGet == nil && typed.TCPSocket == nil && typed.GRPC == nil && typed.Exec == nil {
			return nil, p.missing("value", "the probe asks nothing: it needs httpGet, tcpSocket, grpc or exec")
		}
		return whole(next), nil
	}
	given := func() bool {
		return slices.ContainsFunc([]string{"port", "path", "initial_delay", "period", "timeout", "failures"}, func(n string) bool { return p.str(n) != "" })
	}()
	next := (&unstructured.Unstructured{Object: was}).DeepCopy().Object
	if was == nil {
		next = borrowed(k)
		switch {
		case p.str("port") == "" && next == nil:
			return nil, p.missing("port", "container %s has no %s probe; say the port to ask, and the path for HTTP; it has the ports %s", k.name, which, portsText(k))
		case !given && which != "startup":
			return nil, p.missing("value", "container %s of %s has no %s probe; say what it shall ask", k.name, e.what(), which)
		case next == nil:
			next = map[string]any{}
		}
		if which == "startup" {
			next["failureThreshold"], next["periodSeconds"] = int64(startupFailures), int64(startupPeriod)
		}
	} else if !given {
		return nil, p.missing("value", "say what shall change in the %s probe of container %s; it is %s, and the container has the ports %s", which, k.name, probeText(was), portsText(k))
	}
	if err := askAt(p, next); err != nil {
		return nil, err
	}
	for param, field := range map[string]string{"initial_delay": "initialDelaySeconds", "period": "periodSeconds", "timeout": "timeoutSeconds", "failures": "failureThreshold"} {
		if p.str(param) == "" {
			continue
		}
		least := int64(1)
		if param == "initial_delay" {
			least = 0
		}
		n := p.num(param, 0)
		if n < least {
			return nil, p.missing(param, "it is at least %d", least)
		}
		next[field] = n
	}
	return next, nil
}

// borrowed is what the other probes of a container ask, as the start of a new one.
func borrowed(k container) map[string]any {
	for _, other := range []string{"livenessProbe", "readinessProbe"} {
		was, _ := k.m[other].(map[string]any)
		for _, h := range []string{"httpGet", "grpc", "tcpSocket", "exec"} {
			if v, ok := was[h].(map[string]any); ok {
				return map[string]any{h: (&unstructured.Unstructured{Object: v}).DeepCopy().Object}
			}
		}
	}
	return nil
}

// askAt sets port and path in what a probe asks.
func askAt(p params, next map[string]any) error {
	port, path := p.str("port"), p.str("path")
	if port == "" && path == "" {
		return nil
	}
	for _, h := range []string{"httpGet", "grpc", "tcpSocket"} {
		m, ok := next[h].(map[string]any)
		if !ok {
			continue
		}
		if port != "" {
			m["port"] = portValue(port)
		}
		if path != "" {
			if h != "httpGet" {
				return p.missing("path", "the probe is %s, which asks no path", h)
			}
			m["path"] = path
		}
		return nil
	}
	if _, ok := next["exec"]; ok {
		return p.missing("value", "the probe runs a command, which has no port; give the whole probe")
	}
	if port == "" {
		return p.missing("port", "say the port to ask")
	}
	if path == "" {
		next["tcpSocket"] = map[string]any{"port": portValue(port)}
		return nil
	}
	next["httpGet"] = map[string]any{"port": portValue(port), "path": path}
	return nil
}

// whole turns the numbers of decoded JSON into those of the API.
func whole(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	v, _ := integers(m).(map[string]any)
	return v
}

// integers turns floats that are whole numbers into integers, as unstructured
// objects hold them.
func integers(v any) any {
	switch x := v.(type) {
	case float64:
		if x == float64(int64(x)) {
			return int64(x)
		}
	case map[string]any:
		for k, e := range x {
			x[k] = integers(e)
		}
	case []any:
		for i, e := range x {
			x[i] = integers(e)
		}
	}
	return v
}

func probeText(m map[string]any) string {
	if m == nil {
		return "none"
	}
	var out []string
	for _, h := range []string{"httpGet", "grpc", "tcpSocket", "exec"} {
		v, ok := m[h].(map[string]any)
		if !ok {
			continue
		}
		out = append(out, strings.TrimSpace(h+" "+cmp.Or(text(v, "path"), "")))
		if port, ok := v["port"]; ok {
			out = append(out, fmt.Sprintf("port %v", port))
		}
		if c, ok := v["command"]; ok {
			out = append(out, fmt.Sprint(c))
		}
	}
	for _, f := range []struct{ field, say string }{{"initialDelaySeconds", "after %vs"}, {"periodSeconds", "every %vs"}, {"timeoutSeconds", "timeout %vs"}, {"failureThreshold", "%v failures"}, {"successThreshold", "%v successes"}} {
		if v, ok := m[f.field]; ok {
			out = append(out, fmt.Sprintf(f.say, v))
		}
	}
	return "(" + strings.Join(out, ", ") + ")"
}

func portsText(k container) string {
	list, _ := k.m["ports"].([]any)
	var out []string
	for _, v := range list {
		m, _ := v.(map[string]any)
		out = append(out, strings.TrimSpace(fmt.Sprintf("%v %s", m["containerPort"], text(m, "name"))))
	}
	if len(out) == 0 {
		return "(none declared)"
	}
	return strings.Join(out, ", ")
}

// patchShm gives a container shared memory: an emptyDir of medium Memory at
// /dev/shm. Without a size it may grow to the pod's memory limit, which it counts
// against (kubernetes.io/docs/concepts/storage/volumes, emptyDir).
func patchShm(ctx context.Context, c *Cluster, p params, e *edit, k container) (*draft, error) {
	size := p.str("value")
	volume, from := shm(e.t, k)
	if volume != "" && from == "" {
		return nil, p.refuse("change that volume", "/dev/shm of container %s is volume %s, which is no emptyDir", k.name, volume)
	}
	if volume != "" && size == "" {
		return nil, p.missing("value", "say how large /dev/shm of container %s shall be; it is %s", k.name, from)
	}
	to := cmp.Or(size, "as large as the memory limit allows")
	if from == to {
		return nil, p.missing("value", "/dev/shm of container %s is %s already", k.name, size)
	}
	say := fmt.Sprintf("Set /dev/shm of container %s of %s from %s to %s", k.name, e.what(), from, to)
	d := c.draft("%s", say)
	err := d.rollout(ctx, e, say, func(t *template) error {
		k, _ := t.container(k.name)
		dir := map[string]any{"medium": "Memory"}
		if size != "" {
			dir["sizeLimit"] = size
		}
		list, _ := t.spec["volumes"].([]any)
		if volume != "" {
			for _, v := range list {
				if m, ok := v.(map[string]any); ok && text(m, "name") == volume {
					m["emptyDir"] = dir
				}
			}
			return nil
		}
		name := "shm"
		for slices.ContainsFunc(list, func(v any) bool { m, _ := v.(map[string]any); return text(m, "name") == name }) {
			name += "m"
		}
		t.spec["volumes"] = append(slices.Clone(list), map[string]any{"name": name, "emptyDir": dir})
		mounts, _ := k.m["volumeMounts"].([]any)
		k.m["volumeMounts"] = append(slices.Clone(mounts), map[string]any{"name": name, "mountPath": "/dev/shm"})
		return nil
	})
	d.Warnings = append(d.Warnings, "shared memory counts against the container's memory limit")
	return d, err
}

// shm finds the volume at /dev/shm of a container, and says its size; the size is
// empty when the volume is no emptyDir.
func shm(t *template, k container) (volume, size string) {
	mounts, _ := k.m["volumeMounts"].([]any)
	for _, v := range mounts {
		m, _ := v.(map[string]any)
		if strings.TrimSuffix(text(m, "mountPath"), "/") != "/dev/shm" {
			continue
		}
		list, _ := t.spec["volumes"].([]any)
		for _, v := range list {
			vol, _ := v.(map[string]any)
			dir, ok := vol["emptyDir"].(map[string]any)
			if text(vol, "name") != text(m, "name") {
				continue
			}
			if !ok {
				return text(vol, "name"), ""
			}
			if q, ok := dir["sizeLimit"]; ok {
				return text(vol, "name"), fmt.Sprint(q)
			}
			return text(vol, "name"), "as large as the memory limit allows"
		}
	}
	return "", "the 64Mi that runtimes give by default"
}
