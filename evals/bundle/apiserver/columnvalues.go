package apiserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

func deleted(o cells) bool { return o.at("metadata.deletionTimestamp") != nil }

func terminating(o cells, otherwise string) string {
	if deleted(o) {
		return "Terminating"
	}
	return otherwise
}

// sidecars names the init containers that go on running.
func sidecars(o cells) map[string]bool {
	out := map[string]bool{}
	for _, c := range o.list("spec.initContainers") {
		if c.text("restartPolicy") == "Always" {
			out[c.text("name")] = true
		}
	}
	return out
}

// running gives the statuses of the containers that are meant to go on running.
func running(o cells) []cells {
	keep := sidecars(o)
	var out []cells
	for _, c := range o.list("status.initContainerStatuses") {
		if keep[c.text("name")] {
			out = append(out, c)
		}
	}
	return append(out, o.list("status.containerStatuses")...)
}

func readyContainers(o cells) string {
	ready := 0
	for _, c := range running(o) {
		if c.text("ready") == "true" {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(o.list("spec.containers"))+len(sidecars(o)))
}

// podStatus is the one word that people know a pod's trouble by.
func podStatus(o cells) string {
	phase := or(o.text("status.reason"), o.text("status.phase"))
	if deleted(o) {
		if o.text("status.reason") == "NodeLost" {
			return "Unknown"
		}
		if p := o.text("status.phase"); p != "Succeeded" && p != "Failed" {
			return "Terminating"
		}
	}
	if text := initStatus(o); text != "" {
		return text
	}
	status, someRun := phase, false
	for _, c := range slices.Backward(o.list("status.containerStatuses")) {
		switch {
		case c.text("state.waiting.reason") != "":
			status = c.text("state.waiting.reason")
		case c.object("state.terminated") != nil:
			status = ended(c, "")
		case c.text("ready") == "true" && c.object("state.running") != nil:
			someRun = true
		}
	}
	if status == "Completed" && someRun {
		if condition(o, "Ready") == "True" {
			return "Running"
		}
		return "NotReady"
	}
	if status == "Pending" || phase == "Pending" && status == phase {
		for _, c := range o.list("status.conditions") {
			if c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated" {
				return "SchedulingGated"
			}
		}
	}
	return status
}

// ended says how a container came to its end.
func ended(c cells, prefix string) string {
	t := "state.terminated."
	switch {
	case c.text(t+"reason") != "":
		return prefix + c.text(t+"reason")
	case c.number(t+"signal") != 0:
		return fmt.Sprintf("%sSignal:%d", prefix, c.number(t+"signal"))
	}
	return fmt.Sprintf("%sExitCode:%d", prefix, c.number(t+"exitCode"))
}

// initStatus says where a pod's init containers stand, empty when they are done.
func initStatus(o cells) string {
	keep := sidecars(o)
	for i, c := range o.list("status.initContainerStatuses") {
		switch {
		case c.object("state.terminated") != nil && c.number("state.terminated.exitCode") == 0:
		case keep[c.text("name")] && c.text("started") == "true":
		case c.object("state.terminated") != nil:
			return ended(c, "Init:")
		case c.text("state.waiting.reason") != "" && c.text("state.waiting.reason") != "PodInitializing":
			return "Init:" + c.text("state.waiting.reason")
		default:
			return fmt.Sprintf("Init:%d/%d", i, len(o.list("spec.initContainers")))
		}
	}
	return ""
}

func condition(o cells, kind string) string {
	for _, c := range o.list("status.conditions") {
		if c.text("type") == kind {
			return c.text("status")
		}
	}
	return ""
}

// restarts counts them, with how long ago the last was.
func restarts(o cells) string {
	list := running(o)
	if initStatus(o) != "" {
		list = o.list("status.initContainerStatuses")
	}
	var n int64
	var last time.Time
	for _, c := range list {
		n += c.number("restartCount")
		if t, err := time.Parse(time.RFC3339, c.text("lastState.terminated.finishedAt")); err == nil && t.After(last) {
			last = t
		}
	}
	if n == 0 || last.IsZero() {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d (%s ago)", n, duration.HumanDuration(max(o.now.Sub(last), 0)))
}

func gates(o cells) string {
	all := o.list("spec.readinessGates")
	if len(all) == 0 {
		return "<none>"
	}
	met := 0
	for _, g := range all {
		if condition(o, g.text("conditionType")) == "True" {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(all))
}

func nodeStatus(o cells) string {
	out := map[string]string{"True": "Ready", "False": "NotReady", "Unknown": "NotReady"}[condition(o, "Ready")]
	out = or(out, "Unknown")
	if o.text("spec.unschedulable") == "true" {
		out += ",SchedulingDisabled"
	}
	return out
}

func nodeRoles(o cells) string {
	var out []string
	for k, v := range o.object("metadata.labels") {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			out = append(out, role)
		} else if k == "kubernetes.io/role" && v != "" {
			out = append(out, fmt.Sprint(v))
		}
	}
	slices.Sort(out)
	return or(strings.Join(slices.Compact(out), ","), "<none>")
}

func address1(name, kind string) column {
	return computed(name, func(o cells) string {
		for _, a := range o.list("status.addresses") {
			if a.text("type") == kind {
				return a.text("address")
			}
		}
		return "<none>"
	})
}

func balancer(o cells) string {
	var out []string
	for _, i := range o.list("status.loadBalancer.ingress") {
		out = append(out, or(i.text("ip"), i.text("hostname")))
	}
	return strings.Join(out, ",")
}

func externalIP(o cells) string {
	ips := texts(o, "spec.externalIPs")
	switch o.text("spec.type") {
	case "ExternalName":
		return o.text("spec.externalName")
	case "LoadBalancer":
		if b := balancer(o); b != "" {
			ips = append(strings.Split(b, ","), ips...)
		}
		return or(strings.Join(ips, ","), "<pending>")
	}
	return or(strings.Join(ips, ","), "<none>")
}

func servicePorts(o cells) string {
	var out []string
	for _, p := range o.list("spec.ports") {
		text := p.text("port")
		if n := p.number("nodePort"); n > 0 {
			text += fmt.Sprintf(":%d", n)
		}
		out = append(out, text+"/"+or(p.text("protocol"), "TCP"))
	}
	return or(strings.Join(out, ","), "<none>")
}

// few keeps the first three and counts the rest.
func few(list []string, empty string) string {
	if n := len(list); n > 3 {
		list = append(slices.Clone(list[:3]), fmt.Sprintf("+ %d more...", n-3))
		return strings.Join(list[:3], ",") + " " + list[3]
	}
	return or(strings.Join(list, ","), empty)
}

func endpoints(o cells) string {
	var out []string
	for _, s := range o.list("subsets") {
		for _, a := range s.list("addresses") {
			if len(s.list("ports")) == 0 {
				out = append(out, a.text("ip"))
			}
			for _, p := range s.list("ports") {
				out = append(out, a.text("ip")+":"+p.text("port"))
			}
		}
	}
	return few(out, "<none>")
}

func sliceEndpoints(o cells) string {
	var out []string
	for _, e := range o.list("endpoints") {
		out = append(out, texts(e, "addresses")...)
	}
	return few(out, "<unset>")
}

func modes(o cells, path string) string {
	short := map[string]string{"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
	var out []string
	for _, m := range texts(o, path) {
		out = append(out, or(short[m], m))
	}
	return strings.Join(out, ",")
}

func quota(o cells, limits bool) string {
	hard, used := o.object("status.hard"), o.object("status.used")
	if hard == nil {
		hard = o.object("spec.hard")
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(hard)) {
		if strings.HasPrefix(k, "limits.") != limits {
			continue
		}
		have := used[k]
		if have == nil {
			have = 0
		}
		out = append(out, fmt.Sprintf("%s: %v/%v", k, have, hard[k]))
	}
	return strings.Join(out, ", ")
}

func ready(o cells) string {
	want := int64(1)
	if o.at("spec.replicas") != nil {
		want = o.number("spec.replicas")
	}
	return fmt.Sprintf("%d/%d", o.number("status.readyReplicas"), want)
}

func controller(o cells) string {
	for _, r := range o.list("metadata.ownerReferences") {
		if r.text("controller") == "true" {
			kind := strings.ToLower(r.text("kind"))
			if g, _, ok := strings.Cut(r.text("apiVersion"), "/"); ok {
				kind += "." + g
			}
			return kind + "/" + r.text("name")
		}
	}
	return "<none>"
}

func jobStatus(o cells) string {
	switch {
	case condition(o, "Complete") == "True":
		return "Complete"
	case condition(o, "Failed") == "True":
		return "Failed"
	case deleted(o):
		return "Terminating"
	case condition(o, "Suspended") == "True":
		return "Suspended"
	case condition(o, "FailureTarget") == "True":
		return "FailureTarget"
	case condition(o, "SuccessCriteriaMet") == "True":
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func completions(o cells) string {
	done := o.number("status.succeeded")
	switch {
	case o.at("spec.completions") != nil:
		return fmt.Sprintf("%d/%d", done, o.number("spec.completions"))
	case o.number("spec.parallelism") > 1:
		return fmt.Sprintf("%d/1 of %d", done, o.number("spec.parallelism"))
	}
	return fmt.Sprintf("%d/1", done)
}

func jobDuration(o cells) string {
	start, err := time.Parse(time.RFC3339, o.text("status.startTime"))
	if err != nil {
		return ""
	}
	end, err := time.Parse(time.RFC3339, o.text("status.completionTime"))
	if err != nil {
		end = o.now
	}
	return duration.HumanDuration(max(end.Sub(start), 0))
}

func eventSeen(o cells) string {
	for _, f := range []string{"series.lastObservedTime", "lastTimestamp", "eventTime", "firstTimestamp"} {
		if o.text(f) != "" {
			return o.ago(f)
		}
	}
	return "<unknown>"
}

func eventSource(o cells) string {
	text := or(o.text("source.component"), o.text("reportingComponent"))
	if host := or(o.text("source.host"), o.text("reportingInstance")); host != "" {
		text += ", " + host
	}
	return text
}

// targets says what a HorizontalPodAutoscaler measures beside what it aims at.
func targets(o cells) string {
	current := o.list("status.currentMetrics")
	var out []string
	for i, m := range o.list("spec.metrics") {
		kind := m.text("type")
		source := strings.ToLower(kind[:min(1, len(kind))]) + kind[min(1, len(kind)):]
		var now cells
		if i < len(current) {
			now = current[i]
		}
		have := "<unknown>"
		want := or(m.text(source+".target.averageUtilization"), "")
		if want != "" {
			want += "%"
			if v := now.text(source + ".current.averageUtilization"); v != "" {
				have = v + "%"
			}
		} else {
			want = or(m.text(source+".target.averageValue"), m.text(source+".target.value"))
			have = or(or(now.text(source+".current.averageValue"), now.text(source+".current.value")), have)
		}
		text := have + "/" + or(want, "<unset>")
		if n := m.text(source + ".name"); n != "" && (kind == "Resource" || kind == "ContainerResource") {
			text = n + ": " + text
		}
		out = append(out, text)
	}
	if n := len(out); n > 2 {
		return strings.Join(out[:2], ", ") + fmt.Sprintf(" + %d more...", n-2)
	}
	return or(strings.Join(out, ", "), "<none>")
}

func hosts(o cells) string {
	var out []string
	for _, r := range o.list("spec.rules") {
		if h := r.text("host"); h != "" {
			out = append(out, h)
		}
	}
	return few(out, "*")
}

func available(o cells) string {
	for _, c := range o.list("status.conditions") {
		if c.text("type") == "Available" {
			if c.text("status") == "True" {
				return "True"
			}
			return fmt.Sprintf("%s (%s)", c.text("status"), c.text("reason"))
		}
	}
	return "Unknown"
}

func claimState(o cells) string {
	var parts []string
	if deleted(o) {
		parts = append(parts, "deleted")
	}
	switch {
	case o.object("status.allocation") != nil:
		parts = append(parts, "allocated")
	case !deleted(o):
		parts = append(parts, "pending")
	}
	if len(o.list("status.reservedFor")) > 0 {
		parts = append(parts, "reserved")
	}
	return strings.Join(parts, ",")
}

func sliceNode(o cells) string {
	switch {
	case o.text("spec.nodeName") != "":
		return o.text("spec.nodeName")
	case o.text("spec.allNodes") == "true":
		return "<all>"
	case o.object("spec.nodeSelector") != nil:
		return "<selector>"
	}
	return "<unset>"
}
