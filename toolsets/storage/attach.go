package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// judge says what keeps a waiting pod from one of its claims.
func (l *look) judge(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) {
	switch {
	case m.pv == nil:
		l.provisioning(ctx, m)
	case p.Spec.NodeName == "":
		l.home(ctx, m)
		l.full(ctx, p, m, evs)
	case m.driver != "":
		l.onNode(ctx, p, m, evs)
	default:
		l.mounting(ctx, p, m, evs)
	}
}

// onNode judges a bound pod's volume: held elsewhere, refused, not answered, or its
// driver missing on the node.
func (l *look) onNode(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) {
	if l.held(ctx, p, m, evs) || l.refused(ctx, p, m, evs) {
		return
	}
	if l.unregistered(ctx, p.Spec.NodeName, m.driver, evs) {
		l.v.edge(l.t.volumeRef(m.pv.Name), graph.ServedBy, l.t.csiNodeRef(p.Spec.NodeName))
		return
	}
	if a := m.own; a != nil && !a.Status.Attached && a.Status.AttachError == nil && a.DeletionTimestamp == nil {
		l.unanswered(ctx, m, a)
		return
	}
	l.mounting(ctx, p, m, evs)
}

// lastOf finds the newest event of a reason that names a volume and that nothing
// newer of the other reason has settled.
func lastOf(evs []Event, reason, settled, volume string) (Event, bool) {
	var done time.Time
	for _, e := range evs {
		if e.Reason == settled && strings.Contains(e.Message, volume) && e.Last.After(done) {
			done = e.Last
		}
	}
	for _, e := range evs {
		if e.Reason == reason && strings.Contains(e.Message, volume) && !done.After(e.Last) {
			return e, true
		}
	}
	return Event{}, false
}

// held finds who keeps a volume of one node at a time on another node.
func (l *look) held(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) bool {
	e, said := lastOf(evs, "FailedAttachVolume", "SuccessfulAttachVolume", m.pv.Name)
	said = said && strings.Contains(strings.ToLower(e.Message), "multi-attach")
	if !m.singleNode() || len(m.others) == 0 || !said && (m.own != nil || m.others[0].DeletionTimestamp == nil) {
		return false
	}
	since := e.First
	if !said {
		since = m.others[0].DeletionTimestamp.Time
	}
	for _, a := range m.others {
		l.heldBy(ctx, p, m, a, since)
	}
	return true
}

func (l *look) heldBy(ctx context.Context, p *corev1.Pod, m *mountOf, a *storagev1.VolumeAttachment, since time.Time) {
	ref, node, pv := l.t.attachmentRef(a.Name), a.Spec.NodeName, m.pv.Name
	n, err := l.t.reads.Node(ctx, node)
	if isNotFound(err) {
		l.v.find("storage.attachment_orphaned", 0.95, ref, map[string]string{"pv": pv, "node": node},
			"volume %s of claim %s is still attached, by VolumeAttachment %s, to node %s, which does not exist", pv, m.claim.Name, a.Name, node)
		return
	}
	if err != nil {
		l.v.gap("node "+node, err)
	}
	if n != nil {
		if down, at := dead(n); down {
			f := l.v.find("storage.attachment_on_dead_node", 0.94, ref, map[string]string{"pv": pv, "node": node, "since": l.t.ago(at)},
				"volume %s of claim %s is still attached to node %s, which has not been ready for %s: no other node gets it until the node is back or is marked out of service", pv, m.claim.Name, node, l.t.ago(at))
			f.FirstSeen = at
			return
		}
	}
	if d := a.Status.DetachError; d != nil {
		params := map[string]string{"pv": pv, "node": node, "message": oneLine(d.Message, 300)}
		says := ""
		if s, _ := l.t.read(stageDetach, d.Message); s != nil {
			params["way_out"] = s.WayOut
			says = " (" + s.Says + ")"
		}
		l.v.find("storage.detach_failed", 0.94, ref, params, "volume %s cannot be detached from node %s%s: %s", pv, node, says, oneLine(d.Message, 300))
		return
	}
	holders := slices.DeleteFunc(slices.Clone(m.users), func(o *corev1.Pod) bool { return o.Spec.NodeName != node })
	if len(holders) > 0 {
		l.holder(ctx, p, m, holders[0])
		return
	}
	waited := l.t.now().Sub(since)
	if waited < forced {
		l.v.find("storage.detaching", 0, ref, map[string]string{"pv": pv, "node": node, "since": span(waited)},
			"volume %s is still attached to node %s, where no pod uses it any more, for %s: a detach takes up to %s", pv, node, span(waited), span(forced))
		return
	}
	l.v.find("storage.attachment_leaked", 0.9, ref, map[string]string{"pv": pv, "node": node, "since": span(waited)},
		"volume %s stays attached to node %s, where no pod uses it, for %s; a detach takes at most %s", pv, node, span(waited), span(forced))
	l.servers(ctx, ref, m.driver, "attacher")
}

// holder judges the pod that has the volume: another pod of the same workload, one
// that is going, or somebody else's.
func (l *look) holder(ctx context.Context, p *corev1.Pod, m *mountOf, o *corev1.Pod) {
	claim, modes := m.claim.Name, modesOf(m.claim)
	l.v.edge(l.t.claimRef(m.claim.Namespace, claim), graph.HeldBy, l.t.podRef(o))
	if o.DeletionTimestamp != nil {
		over := l.t.now().Sub(o.DeletionTimestamp.Time)
		l.v.line("pod %s on %s, which holds the volume, is terminating, %s past its grace period", o.Name, o.Spec.NodeName, span(over))
		if over > usual && len(o.Finalizers) == 0 {
			l.v.find("storage.held_by_pod", 0.93, l.t.podRef(o), map[string]string{"pv": m.pv.Name, "claim": claim, "node": o.Spec.NodeName, "state": "Terminating"},
				"pod %s on node %s is terminating, %s past its grace period, and still holds volume %s of claim %s", o.Name, o.Spec.NodeName, span(over), m.pv.Name, claim)
		}
		return
	}
	if mine, theirs := controller(p), controller(o); mine != nil && theirs != nil {
		if l.sameWorkload(ctx, p, m, o) {
			return
		}
	}
	l.v.find("storage.held_by_pod", 0.93, l.t.podRef(o), map[string]string{"pv": m.pv.Name, "claim": claim, "node": o.Spec.NodeName, "state": string(o.Status.Phase)},
		"pod %s runs on node %s and uses claim %s (%s), so volume %s cannot be attached to node %s too", o.Name, o.Spec.NodeName, claim, modes, m.pv.Name, p.Spec.NodeName)
}

// sameWorkload blames the workload whose own pods stand in each other's way.
func (l *look) sameWorkload(ctx context.Context, p *corev1.Pod, m *mountOf, o *corev1.Pod) bool {
	mine, theirs := controller(p), controller(o)
	claim, modes := m.claim.Name, modesOf(m.claim)
	from := l.t.claimRef(m.claim.Namespace, claim)
	if mine.UID == theirs.UID && mine.Name == theirs.Name {
		owner := l.t.ref(groupOf(mine.APIVersion), mine.Kind, p.Namespace, mine.Name)
		replicas := "several"
		if mine.Kind == "ReplicaSet" {
			rs, err := l.t.reads.ReplicaSet(ctx, p.Namespace, mine.Name)
			if err == nil {
				if rs.Spec.Replicas != nil {
					replicas = strconv.Itoa(int(*rs.Spec.Replicas))
				}
				if up := controller(rs); up != nil && up.Kind == "Deployment" {
					owner = l.t.ref("apps", "Deployment", p.Namespace, up.Name)
				}
			}
		}
		l.v.edge(from, graph.UsedBy, owner)
		l.v.find("storage.rwo_many_replicas", 0.95, owner, map[string]string{"claim": claim, "replicas": replicas, "access_modes": modes},
			"%s has %s replicas that share claim %s, which is %s: pod %s has it on node %s, so pod %s cannot have it on node %s", owner, replicas, claim, modes, o.Name, o.Spec.NodeName, p.Name, p.Spec.NodeName)
		return true
	}
	if mine.Kind != "ReplicaSet" || theirs.Kind != "ReplicaSet" {
		return false
	}
	a, errA := l.t.reads.ReplicaSet(ctx, p.Namespace, mine.Name)
	b, errB := l.t.reads.ReplicaSet(ctx, o.Namespace, theirs.Name)
	if errA != nil || errB != nil || controller(a) == nil || controller(b) == nil || controller(a).UID != controller(b).UID || controller(a).Kind != "Deployment" {
		return false
	}
	owner := l.t.ref("apps", "Deployment", p.Namespace, controller(a).Name)
	l.v.edge(from, graph.UsedBy, owner)
	l.v.find("storage.rwo_rolling_update", 0.95, owner, map[string]string{"claim": claim, "holder": o.Name, "access_modes": modes},
		"a rolling update of %s starts pod %s on node %s before pod %s on node %s is gone, and both want claim %s, which is %s", owner, p.Name, p.Spec.NodeName, o.Name, o.Spec.NodeName, claim, modes)
	return true
}

func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// refused reads what the driver says against attaching, in the attachment's own
// status or in the pod's events.
func (l *look) refused(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) bool {
	msg := ""
	if m.own != nil && m.own.Status.AttachError != nil && !m.own.Status.Attached {
		msg = m.own.Status.AttachError.Message
	} else if e, ok := lastOf(evs, "FailedAttachVolume", "SuccessfulAttachVolume", m.pv.Name); ok {
		msg = e.Message
	}
	if msg == "" {
		return false
	}
	if strings.Contains(msg, "timed out waiting for external-attacher") {
		if m.own != nil {
			l.unanswered(ctx, m, m.own)
		}
		return m.own != nil
	}
	s, facts := l.t.read(stageAttach, msg)
	if s == nil {
		return false
	}
	l.blame(ctx, s, facts, msg, p, m)
	return true
}

// unanswered judges an attachment that nobody has answered.
func (l *look) unanswered(ctx context.Context, m *mountOf, a *storagev1.VolumeAttachment) {
	ref, since := l.t.attachmentRef(a.Name), l.t.now().Sub(a.CreationTimestamp.Time)
	params := map[string]string{"pv": m.pv.Name, "node": a.Spec.NodeName, "driver": m.driver, "since": span(since)}
	if since < usual {
		l.v.find("storage.attaching", 0, ref, params, "volume %s is being attached to node %s for %s", m.pv.Name, a.Spec.NodeName, span(since))
		return
	}
	if l.storm(ctx, a) {
		return
	}
	f := l.v.find("storage.attacher_silent", 0.88, ref, params,
		"VolumeAttachment %s asks driver %s to attach volume %s to node %s for %s, and nobody has answered: neither attached nor an error (usual: below %s)", a.Name, m.driver, m.pv.Name, a.Spec.NodeName, span(since), span(usual))
	f.FirstSeen = a.CreationTimestamp.Time
	l.servers(ctx, ref, m.driver, "attacher")
}

// storm says that many attachments of a driver wait at once while others get
// through: the driver is there and does not keep up.
func (l *look) storm(ctx context.Context, own *storagev1.VolumeAttachment) bool {
	const many = 20
	all, err := l.t.reads.Attachments(ctx)
	if err != nil {
		return false
	}
	waiting, lately := 0, 0
	oldest := own.CreationTimestamp.Time
	for _, a := range all {
		if a.Spec.Attacher != own.Spec.Attacher || a.DeletionTimestamp != nil {
			continue
		}
		switch {
		case !a.Status.Attached:
			waiting++
			if a.CreationTimestamp.Time.Before(oldest) {
				oldest = a.CreationTimestamp.Time
			}
		case a.CreationTimestamp.After(own.CreationTimestamp.Add(-10 * time.Minute)):
			lately++
		}
	}
	if waiting < many || lately == 0 {
		return false
	}
	driver := l.t.driverRef(own.Spec.Attacher)
	l.v.edge(l.t.attachmentRef(own.Name), graph.ServedBy, driver)
	f := l.v.find("storage.attach_storm", 0.86, driver, map[string]string{"driver": own.Spec.Attacher, "waiting": strconv.Itoa(waiting), "since": l.t.ago(oldest)},
		"%d volumes of driver %s wait to be attached, the oldest for %s, while %d made in the same minutes got through: the driver does not keep up", waiting, own.Spec.Attacher, l.t.ago(oldest), lately)
	f.FirstSeen = oldest
	return true
}

// full says that the nodes a pod could use take no more volumes of the driver.
func (l *look) full(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) {
	if m.driver == "" || !slices.ContainsFunc(evs, func(e Event) bool {
		return e.Reason == "FailedScheduling" && strings.Contains(e.Message, "exceed max volume count") && !slices.ContainsFunc(evs, func(o Event) bool { return o.Reason == "FailedScheduling" && o.Last.After(e.Last) })
	}) {
		return
	}
	nodes, err := l.t.reads.CSINodes(ctx)
	if err != nil {
		l.v.gap("CSINodes", err)
		return
	}
	used, ok := l.attachedBy(ctx, m.driver)
	if !ok {
		return
	}
	var rows []string
	var names []string
	least, most := -1, 0
	for _, n := range nodes {
		if allow, limited := allowance(n, m.driver); limited && used[n.Name] >= allow {
			names = append(names, n.Name)
			rows = append(rows, fmt.Sprintf("%s %d of %d", n.Name, used[n.Name], allow))
			if least < 0 || allow < least {
				least = allow
			}
			most = max(most, used[n.Name])
		}
	}
	if len(rows) == 0 {
		return
	}
	slices.Sort(rows)
	subject := l.t.driverRef(m.driver)
	if len(rows) == 1 {
		subject = l.t.csiNodeRef(names[0])
	}
	more := ""
	if len(rows) > 5 {
		more = fmt.Sprintf(" and %d more", len(rows)-5)
	}
	l.v.edge(l.t.claimRef(m.claim.Namespace, m.claim.Name), graph.LimitedBy, subject)
	l.v.find("storage.attach_limit_reached", 0.92, subject, map[string]string{"driver": m.driver, "attached": strconv.Itoa(most), "limit": strconv.Itoa(least)},
		"%d nodes have as many volumes of driver %s attached as their CSINode allows (%s%s), so pod %s fits on none of them", len(rows), m.driver, strings.Join(limit(rows, 5), ", "), more, p.Name)
}

// attachedBy counts the volumes of a driver on each node.
func (l *look) attachedBy(ctx context.Context, driver string) (map[string]int, bool) {
	all, err := l.t.reads.Attachments(ctx)
	if err != nil {
		l.v.gap("VolumeAttachments", err)
		return nil, false
	}
	used := map[string]int{}
	for _, a := range all {
		if a.Spec.Attacher == driver {
			used[a.Spec.NodeName]++
		}
	}
	return used, true
}

// allowance is how many volumes of a driver a node takes, if it says so.
func allowance(n *storagev1.CSINode, driver string) (int, bool) {
	for _, d := range n.Spec.Drivers {
		if d.Name == driver && d.Allocatable != nil && d.Allocatable.Count != nil {
			return int(*d.Allocatable.Count), true
		}
	}
	return 0, false
}

// dead reports whether a node's kubelet is gone or the node is shut down, and since when.
func dead(n *corev1.Node) (bool, time.Time) {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			return true, c.LastTransitionTime.Time
		}
	}
	return false, time.Time{}
}
