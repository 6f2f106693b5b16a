package dra

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// missingNodes looks, when devices are short, for nodes that are like those with
// matching devices and publish none: a plugin that does not run there, or runs and
// publishes nothing (F02, F03). It reports whether one was found.
func (n *analysis) missingNodes(ctx context.Context, x *want) bool {
	f := n.a.w.fleet
	with := map[string]bool{}
	drivers := map[string]bool{}
	for _, p := range f.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				if s.node != "" && x.judge(ctx, f, s, &s.devices[i]).matchesIt {
					with[s.node] = true
					drivers[p.driver] = true
				}
			}
		}
	}
	if len(with) == 0 || len(drivers) != 1 {
		return false
	}
	driver := ""
	for d := range drivers {
		driver = d
	}
	var bare []*corev1.Node
	for name := range siblings(n.a.w, with) {
		nd := n.a.w.byName[name]
		has := slices.ContainsFunc(f.onNode[name], func(s *slice) bool { return s.pool.driver == driver && len(s.devices) > 0 })
		if nd != nil && !has && nodeReady(nd) && n.a.refused[name] == "" && !n.t.settling(nd.CreationTimestamp) {
			bare = append(bare, nd)
		}
	}
	if len(bare) == 0 {
		return false
	}
	l := &driverLook{t: n.t, w: n.a.w, name: driver, devices: map[string]int{}, with: map[string]bool{}}
	l.published()
	var err error
	if l.plugin, err = n.t.plugin(ctx, n.a.w, driver); err != nil || l.plugin == nil {
		return false
	}
	l.out.DaemonSet = l.plugin.set.Namespace + "/" + l.plugin.set.Name
	slices.SortFunc(bare, func(a, b *corev1.Node) int { return cmpName(a.Name, b.Name) })
	for _, nd := range bare {
		if pod := l.plugin.pods[nd.Name]; l.plugin.should[nd.Name] && (pod == nil || !podReady(pod)) {
			l.podDown(nd, pod)
		}
		l.absent(nd.Name)
	}
	found := false
	for _, fd := range l.fs {
		if fd.Role != incident.Fault {
			continue
		}
		found = true
		fd.Confidence = max(fd.Confidence, 0.88)
		n.findings = append(n.findings, fd)
		n.edge(n.subject(x.claim), graph.OfferedBy, fd.Subject)
	}
	for _, e := range l.es {
		if e.Relation == graph.Publishes {
			n.edge(e.From, e.Relation, e.To)
		}
	}
	return found
}

// cannotGrow reports, where no node offers a driver's devices and none is meant
// to, that an autoscaler was asked for one and declined: it has no template that
// shows such devices (F11).
func (n *analysis) cannotGrow(driver string, x *want) bool {
	if n.a.pod == nil {
		return false
	}
	events, err := n.t.read.events(context.Background(), n.a.pod.Namespace, "Pod", n.a.pod.Name)
	if err != nil {
		return false
	}
	i := slices.IndexFunc(events, func(e corev1.Event) bool {
		declined := e.Reason == "NotTriggerScaleUp" || e.Reason == "FailedScheduling" && (e.Source.Component == "karpenter" || e.ReportingController == "karpenter")
		return declined && !n.t.stale(eventTime(&e), prepareWindow)
	})
	if i < 0 {
		return false
	}
	p, err := n.t.plugin(context.Background(), n.a.w, driver)
	if err != nil || p != nil && len(p.should) > 0 {
		return false // nodes for the driver exist; that they offer nothing is the driver's fault
	}
	pod := n.t.podRef(n.a.pod.Namespace, n.a.pod.Name)
	n.fault("dra.scale_from_zero", pod, 0.9, map[string]string{"group": "", "driver": driver, "class": x.className, "message": events[i].Message},
		"no node offers devices of driver %s (class %s), and the autoscaler does not add one: %s", driver, x.className, quote(events[i].Message))
	return true
}
