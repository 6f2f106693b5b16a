package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// provisioning reads what the provisioner says of a claim that has no volume.
func (l *look) provisioning(ctx context.Context, m *mountOf) {
	c := m.claim
	if c.Status.Phase == corev1.ClaimBound || c.Status.Phase == corev1.ClaimLost {
		return
	}
	evs := l.events(ctx, "PersistentVolumeClaim", c.Namespace, c.Name)
	i := slices.IndexFunc(evs, func(e Event) bool { return e.Reason == "ProvisioningFailed" })
	if i < 0 {
		l.waitsForProvisioner(ctx, m, evs)
		return
	}
	if slices.ContainsFunc(evs, func(e Event) bool { return e.Reason == "ProvisioningSucceeded" && e.Last.After(evs[i].Last) }) {
		return
	}
	l.v.line("event ProvisioningFailed (%s ago): %s", l.t.ago(evs[i].Last), oneLine(evs[i].Message, 500))
	if m.class != "" {
		sc, err := l.t.reads.Class(ctx, m.class)
		switch {
		case err == nil:
			m.driver = sc.Provisioner
		case !isNotFound(err):
			l.v.gap("StorageClass "+m.class, err)
		}
	}
	s, facts := l.t.read(stageProvision, evs[i].Message)
	if s == nil || m.driver == "" {
		return // the words are kube.pvc_provision_failed's already
	}
	l.blame(ctx, s, facts, evs[i].Message, nil, m)
}

// waitsForProvisioner looks, when the control plane has long handed a claim to its
// provisioner and that says nothing, whether the provisioner runs.
func (l *look) waitsForProvisioner(ctx context.Context, m *mountOf, evs []Event) {
	i := slices.IndexFunc(evs, func(e Event) bool { return e.Reason == "ExternalProvisioning" })
	if i < 0 || m.class == "" || l.t.now().Sub(evs[i].First) < usual || slices.ContainsFunc(evs, func(e Event) bool { return e.Reason == "Provisioning" }) {
		return
	}
	sc, err := l.t.reads.Class(ctx, m.class)
	if err != nil {
		if !isNotFound(err) {
			l.v.gap("StorageClass "+m.class, err)
		}
		return
	}
	l.servers(ctx, l.t.claimRef(m.claim.Namespace, m.claim.Name), sc.Provisioner, "provisioner")
}

// resize says why a volume that was to be enlarged still has its old size.
func (l *look) resize(ctx context.Context, m *mountOf) {
	c := m.claim
	want, have := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	if have.IsZero() || want.Cmp(have) <= 0 {
		return
	}
	l.v.line("claim %s has %s and asks for %s", c.Name, have.String(), want.String())
	evs := l.events(ctx, "PersistentVolumeClaim", c.Namespace, c.Name)
	i := slices.IndexFunc(evs, func(e Event) bool {
		return e.Warning && (e.Reason == "VolumeResizeFailed" || e.Reason == "FileSystemResizeFailed")
	})
	if i < 0 || slices.ContainsFunc(evs, func(e Event) bool {
		return (e.Reason == "VolumeResizeSuccessful" || e.Reason == "FileSystemResizeSuccessful") && e.Last.After(evs[i].Last)
	}) {
		return
	}
	l.v.find("storage.resize_failed", 0.95, l.t.claimRef(c.Namespace, c.Name), map[string]string{"size": have.String(), "wanted": want.String(), "message": oneLine(evs[i].Message, 400)},
		"claim %s was to grow from %s to %s and did not: %s", c.Name, have.String(), want.String(), oneLine(evs[i].Message, 400))
}

// mounting reads what the kubelet says of mounting an attached volume.
func (l *look) mounting(ctx context.Context, p *corev1.Pod, m *mountOf, evs []Event) {
	for _, e := range evs {
		if (e.Reason != "FailedMount" && e.Reason != "FailedMapVolume") || !l.about(e, m, p) || l.t.now().Sub(e.Last) > 2*usual+usual/2 {
			continue
		}
		s, facts := l.t.read(stageMount, e.Message)
		if s == nil || s.Code == "storage.fsgroup_walk" {
			continue
		}
		l.blame(ctx, s, facts, e.Message, p, m)
		return
	}
}

// about reports whether a kubelet's event is about this volume: it names the
// PersistentVolume, its handle or the pod's name for it, or the pod has no other.
func (l *look) about(e Event, m *mountOf, p *corev1.Pod) bool {
	if strings.Contains(e.Message, m.pv.Name) || m.pv.Spec.CSI != nil && strings.Contains(e.Message, m.pv.Spec.CSI.VolumeHandle) {
		return true
	}
	names := claimNames(p)
	return len(names) == 1
}

// blame writes the finding that a row of the table stands for, on what the row is
// about, and ties the claim to it.
func (l *look) blame(ctx context.Context, s *sign, facts map[string]string, msg string, p *corev1.Pod, m *mountOf) {
	claim := l.t.claimRef(m.claim.Namespace, m.claim.Name)
	params := map[string]string{"message": oneLine(msg, 400), "way_out": s.WayOut}
	maps.Copy(params, facts)
	if m.driver != "" {
		params["driver"] = m.driver
	}
	node := ""
	if p != nil {
		node = p.Spec.NodeName
		if node != "" {
			params["node"] = node
		}
	}
	conf, subject, extra := 0.92, claim, ""
	switch s.Code {
	case "storage.attach_limit_reached":
		subject = l.t.csiNodeRef(node)
		l.v.edge(claim, graph.LimitedBy, subject)
		extra = l.count(ctx, node, m.driver, params)
	case "storage.zone_mismatch":
		subject = l.t.volumeRef(m.pv.Name)
		extra = l.zones(ctx, node, m, params)
	case "storage.cloud_throttled", "storage.cloud_permission_denied":
		subject = l.t.driverRef(m.driver)
		l.v.edge(claim, graph.ServedBy, subject)
	case "storage.provider_not_registered", "storage.cloud_quota_exceeded", "storage.class_parameters_refused", "storage.backend_full":
		subject = l.t.classRef(m.class)
		if m.class == "" {
			subject = l.t.driverRef(m.driver)
			l.v.edge(claim, graph.ServedBy, subject)
		}
	case "storage.access_mode_unsupported":
		conf = 0.95
		params["access_modes"], params["class"] = modesOf(m.claim), m.class
		extra = fmt.Sprintf(": claim %s asks class %s for %s", m.claim.Name, m.class, modesOf(m.claim))
	case "storage.topology_unknown", "storage.driver_not_registered":
		at := facts["node"]
		if at == "" {
			at = node
		}
		if at == "" {
			at = m.claim.Annotations["volume.kubernetes.io/selected-node"]
		}
		if at == "" {
			return
		}
		params["node"] = at
		subject = l.t.csiNodeRef(at)
		l.v.edge(claim, graph.ServedBy, subject)
		l.plugin(ctx, at, m.driver)
	case "storage.target_unreachable":
		subject = l.t.volumeRef(m.pv.Name)
		extra = l.elsewhere(ctx, node, m, params)
	default:
		subject = l.t.volumeRef(m.pv.Name)
	}
	l.v.line("this is what the words mean: %s (%s); way out: %s", s.Says, s.Source, s.WayOut)
	l.v.find(s.Code, conf, subject, params, "%s%s: %s", s.Says, extra, oneLine(msg, 400))
}

// count holds what a driver says of its limit against the API's own figures.
func (l *look) count(ctx context.Context, node, driver string, params map[string]string) string {
	used, ok := l.attachedBy(ctx, driver)
	params["attached"] = "unknown"
	if ok {
		params["attached"] = strconv.Itoa(used[node])
	}
	says := "names no limit"
	if n, err := l.t.reads.CSINode(ctx, node); err == nil {
		if allow, limited := allowance(n, driver); limited {
			says = "allows " + strconv.Itoa(allow)
			if params["limit"] == "" {
				params["limit"] = strconv.Itoa(allow)
			}
		}
	}
	if params["limit"] == "" {
		params["limit"] = "unknown"
	}
	return fmt.Sprintf(" (node %s has %s volumes of %s, and its CSINode %s)", node, params["attached"], driver, says)
}

// zones compares where the volume is with where the node is.
func (l *look) zones(ctx context.Context, node string, m *mountOf, params map[string]string) string {
	n, err := l.t.reads.Node(ctx, node)
	if err != nil {
		return ""
	}
	at := n.Labels[corev1.LabelTopologyZone]
	if params["node_zone"] == "" && at != "" {
		params["node_zone"] = at
	}
	if z := zonesOf(m.pv); params["volume_zone"] == "" && len(z) > 0 {
		params["volume_zone"] = strings.Join(z, ",")
	}
	free := ""
	if len(zonesOf(m.pv)) == 0 {
		free = ", and PersistentVolume " + m.pv.Name + " has no node affinity that would keep pods in its zone"
	}
	return fmt.Sprintf(" (node %s is in zone %s, the volume in %s%s)", node, orNone(params["node_zone"]), orNone(params["volume_zone"]), free)
}

// elsewhere looks whether pods on other nodes have the same driver's volumes: then
// the path from this node is at fault, not the storage.
func (l *look) elsewhere(ctx context.Context, node string, m *mountOf, params map[string]string) string {
	var fine, ill []string
	pools := map[string]string{}
	for _, o := range m.users {
		switch {
		case o.Spec.NodeName == "" || o.Spec.NodeName == node:
		case waiting(o):
			ill = append(ill, o.Spec.NodeName)
		case ready(o):
			fine = append(fine, o.Spec.NodeName)
		}
	}
	all, err := l.t.reads.Attachments(ctx)
	if err == nil {
		for _, a := range all {
			if a.Spec.Attacher == m.driver && a.Status.Attached && a.Spec.NodeName != node && !slices.Contains(fine, a.Spec.NodeName) && !slices.Contains(ill, a.Spec.NodeName) {
				pools[a.Spec.NodeName] = ""
			}
		}
	}
	slices.Sort(fine)
	fine = slices.Compact(fine)
	text := " from node " + node
	if len(ill) > 0 {
		slices.Sort(ill)
		text += ", nor from " + strings.Join(limit(slices.Compact(ill), 3), ", ")
	}
	if len(fine) > 0 {
		params["others"] = strings.Join(limit(fine, 5), ", ")
		text += "; pods on " + params["others"] + " have the same volume mounted, so the way from this node is at fault"
	}
	return text
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// fsGroup says that the kubelet walks the files of a volume.
func (l *look) fsGroup(p *corev1.Pod, evs []Event) {
	s := p.Spec.SecurityContext
	if s == nil || s.FSGroup == nil || s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch {
		return
	}
	for _, e := range evs {
		row, facts := l.t.read(stageMount, e.Reason+": "+e.Message)
		if row == nil || row.Code != "storage.fsgroup_walk" || l.t.now().Sub(e.Last) > 3*usual {
			continue
		}
		params := map[string]string{"message": oneLine(e.Message, 400), "way_out": row.WayOut, "fs_group": strconv.FormatInt(*s.FSGroup, 10)}
		maps.Copy(params, facts)
		l.v.find(row.Code, 0.9, l.t.podRef(p), params, "%s: pod %s has fsGroup %d and no fsGroupChangePolicy: %s", row.Says, p.Name, *s.FSGroup, oneLine(e.Message, 400))
		return
	}
}

// weights tells of a claim that many read at once, and of options that large
// sequential reads want. Neither is a fault by itself.
func (l *look) weights(_ context.Context, m *mountOf) {
	nodes := map[string]bool{}
	for _, p := range m.users {
		if p.Spec.NodeName != "" {
			nodes[p.Spec.NodeName] = true
		}
	}
	if len(m.users) > 1 && len(nodes) > 1 && !m.singleNode() {
		l.v.find("storage.weights_shared", 0, l.t.claimRef(m.claim.Namespace, m.claim.Name),
			map[string]string{"pods": strconv.Itoa(len(m.users)), "nodes": strconv.Itoa(len(nodes)), "access_modes": modesOf(m.claim)},
			"%d other pods on %d nodes mount claim %s (%s): they share its throughput", len(m.users), len(nodes), m.claim.Name, modesOf(m.claim))
	}
	if m.pv == nil {
		return
	}
	if lacks := slowOptions(m.driver, m.pv); lacks != "" {
		l.v.find("storage.mount_options", 0, l.t.volumeRef(m.pv.Name), map[string]string{"driver": m.driver, "lacks": lacks},
			"volume %s of driver %s is mounted without %s", m.pv.Name, m.driver, lacks)
	}
}

// slowOptions names the mount option that large sequential reads want and that is
// not set: nconnect for NFS (nfs(5); one TCP connection a mount without it),
// actimeo or nosharesock for SMB (Azure Files performance guide).
func slowOptions(driver string, pv *corev1.PersistentVolume) string {
	opts := strings.Join(pv.Spec.MountOptions, ",")
	attrs := map[string]string{}
	if pv.Spec.CSI != nil {
		attrs = pv.Spec.CSI.VolumeAttributes
	}
	nfs := pv.Spec.NFS != nil || strings.HasPrefix(driver, "nfs.") || driver == "file.csi.azure.com" && strings.EqualFold(attrs["protocol"], "nfs")
	smb := strings.HasPrefix(driver, "smb.") || driver == "file.csi.azure.com" && !nfs
	switch {
	case nfs && !strings.Contains(opts, "nconnect"):
		return "nconnect"
	case smb && !strings.Contains(opts, "actimeo"):
		return "actimeo"
	}
	return ""
}
