package storage

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	// usual is how long an attach or detach may take before it is trouble. Cloud
	// drivers need 10 to 60 seconds; the attacher retries with a back-off of up to
	// five minutes (external-attacher, --retry-interval-max).
	usual = 2 * time.Minute
	// forced is when the control plane detaches by force from a node that does not
	// answer (kube-controller-manager, maxWaitForUnmountDuration, 6 minutes), and a
	// minute on each side.
	forced = 8 * time.Minute
)

// VolumesIn names what is looked at: a pod, or one claim, volume or attachment.
type VolumesIn struct {
	Namespace  string `json:"namespace,omitempty"`
	Pod        string `json:"pod,omitempty"`
	PVC        string `json:"pvc,omitempty"`
	PV         string `json:"pv,omitempty"`
	Attachment string `json:"attachment,omitempty"`
}

// Volumes is where volumes are, who holds them and what their drivers say.
type Volumes struct {
	Pod     string       `json:"pod,omitempty"`
	Node    string       `json:"node,omitempty" jsonschema:"node of the pod"`
	Volumes []VolumeView `json:"volumes"`
}

// VolumeView is one claim with its volume.
type VolumeView struct {
	Claim  string `json:"claim"`
	Phase  string `json:"phase"`
	Class  string `json:"class,omitempty"`
	Modes  string `json:"access_modes"`
	PV     string `json:"pv,omitempty"`
	Driver string `json:"driver,omitempty"`
	// Zones the volume can be reached from, by its node affinity.
	Zones []string `json:"zones,omitempty"`
	// Attached lists the nodes with a VolumeAttachment, "gpu-1 (attached)".
	Attached []string `json:"attached"`
	// Users are pods that mount the claim, "chat-0 on gpu-1".
	Users   []string `json:"users"`
	Problem string   `json:"problem,omitempty"`
}

func (t *Toolset) volumesTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "storage_volumes", Text: text("storage_volumes"), Effect: tool.Read}, t.volumes)
}

func (t *Toolset) volumes(ctx context.Context, in VolumesIn) (tool.Output[Volumes], error) {
	l := &look{t: t, v: &verdict{}}
	out := Volumes{Volumes: []VolumeView{}}
	var err error
	switch {
	case in.Pod != "":
		err = l.pod(ctx, in, &out)
	case in.PVC != "":
		err = l.claim(ctx, in, &out)
	case in.PV != "":
		err = l.volume(ctx, in.PV, &out)
	case in.Attachment != "":
		err = l.attachment(ctx, in.Attachment, &out)
	default:
		err = &tool.Error{Kind: tool.Invalid, User: "storage_volumes: nothing is named", Fix: "give namespace and pod, namespace and pvc, pv, or attachment"}
	}
	if err != nil {
		return tool.Output[Volumes]{}, err
	}
	if len(out.Volumes) == 0 {
		l.v.line("no volume of a PersistentVolumeClaim")
	}
	return tool.Output[Volumes]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

// look is one call of storage_volumes.
type look struct {
	t *Toolset
	v *verdict
}

// mountOf is one claim of a pod with everything that is known of it.
type mountOf struct {
	claim  *corev1.PersistentVolumeClaim
	class  string
	pv     *corev1.PersistentVolume
	driver string
	// own and others are the attachments to the pod's node and elsewhere.
	own    *storagev1.VolumeAttachment
	others []*storagev1.VolumeAttachment
	// users are the other live pods that mount the claim.
	users []*corev1.Pod
}

func (m *mountOf) singleNode() bool {
	modes := m.claim.Spec.AccessModes
	return len(modes) > 0 && !slices.ContainsFunc(modes, func(a corev1.PersistentVolumeAccessMode) bool {
		return a == corev1.ReadWriteMany || a == corev1.ReadOnlyMany
	})
}

// pod judges every claim of one pod.
func (l *look) pod(ctx context.Context, in VolumesIn, out *Volumes) error {
	p, err := l.t.reads.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return err
	}
	out.Pod, out.Node = p.Namespace+"/"+p.Name, p.Spec.NodeName
	names := claimNames(p)
	if len(names) == 0 {
		return nil
	}
	evs := l.events(ctx, "Pod", p.Namespace, p.Name)
	waits := waiting(p)
	for _, name := range names {
		ref := l.t.claimRef(p.Namespace, name)
		l.v.edge(l.t.podRef(p), graph.Mounts, ref)
		c, err := l.t.reads.Claim(ctx, p.Namespace, name)
		if err != nil {
			l.v.gap("claim "+p.Namespace+"/"+name, err)
			continue
		}
		m := l.mount(ctx, c, p)
		view := l.view(m)
		before := len(l.v.findings)
		if waits {
			l.judge(ctx, p, m, evs)
		}
		l.ceiling(ctx, p, m)
		if len(l.v.findings) > before {
			view.Problem = l.v.findings[before].Message
		}
		l.weights(ctx, m)
		out.Volumes = append(out.Volumes, view)
	}
	if waits {
		l.fsGroup(p, evs)
	}
	return nil
}

// claim judges one claim through the pods that wait for it, or, where none does,
// through what its provisioner says.
func (l *look) claim(ctx context.Context, in VolumesIn, out *Volumes) error {
	c, err := l.t.reads.Claim(ctx, in.Namespace, in.PVC)
	if err != nil {
		return err
	}
	m := l.mount(ctx, c, nil)
	out.Volumes = append(out.Volumes, l.view(m))
	users := m.users
	l.weights(ctx, m)
	for _, p := range limit(slices.DeleteFunc(slices.Clone(users), func(p *corev1.Pod) bool { return !waiting(p) }), 3) {
		l.v.line("pod %s waits for it", p.Name)
		l.judge(ctx, p, l.mount(ctx, c, p), l.events(ctx, "Pod", p.Namespace, p.Name))
	}
	if m.pv == nil {
		l.provisioning(ctx, m)
	} else {
		l.resize(ctx, m)
	}
	if n := len(l.v.findings); n > 0 {
		out.Volumes[0].Problem = l.v.findings[n-1].Message
	}
	return nil
}

// volume shows one PersistentVolume and its attachments.
func (l *look) volume(ctx context.Context, name string, out *Volumes) error {
	pv, err := l.t.reads.Volume(ctx, name)
	if err != nil {
		return err
	}
	if r := pv.Spec.ClaimRef; r != nil {
		err := l.claim(ctx, VolumesIn{Namespace: r.Namespace, PVC: r.Name}, out)
		if err == nil || !isNotFound(err) {
			return err
		}
		l.v.line("its claim %s/%s does not exist", r.Namespace, r.Name)
	}
	m := &mountOf{claim: &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.PersistentVolumeClaimPhase(pv.Status.Phase)}}, pv: pv, driver: driverOf(pv)}
	m.claim.Spec.AccessModes = pv.Spec.AccessModes
	l.attachments(ctx, m, "")
	out.Volumes = append(out.Volumes, l.view(m))
	return nil
}

// attachment judges what hangs on one VolumeAttachment.
func (l *look) attachment(ctx context.Context, name string, out *Volumes) error {
	all, err := l.t.reads.Attachments(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(a *storagev1.VolumeAttachment) bool { return a.Name == name })
	if i < 0 {
		return tool.Errorf(tool.NotFound, "VolumeAttachment %s does not exist", name)
	}
	a := all[i]
	l.v.edge(l.t.attachmentRef(a.Name), graph.AttachedTo, l.t.nodeRef(a.Spec.NodeName))
	pv := pvOf(a)
	if pv == "" {
		l.v.line("%s attaches an inline volume of %s to %s", name, a.Spec.Attacher, a.Spec.NodeName)
		return nil
	}
	err = l.volume(ctx, pv, out)
	if isNotFound(err) {
		l.v.line("%s attaches PersistentVolume %s, which does not exist, to %s", name, pv, a.Spec.NodeName)
		return nil
	}
	return err
}

// mount gathers what is known of a claim, seen from a pod where there is one.
func (l *look) mount(ctx context.Context, c *corev1.PersistentVolumeClaim, p *corev1.Pod) *mountOf {
	m := &mountOf{claim: c}
	if c.Spec.StorageClassName != nil {
		m.class = *c.Spec.StorageClassName
	}
	ref := l.t.claimRef(c.Namespace, c.Name)
	if m.class != "" {
		l.v.edge(ref, graph.Class, l.t.classRef(m.class))
	}
	if c.Spec.VolumeName != "" {
		l.v.edge(ref, graph.BoundTo, l.t.volumeRef(c.Spec.VolumeName))
		pv, err := l.t.reads.Volume(ctx, c.Spec.VolumeName)
		if err != nil {
			l.v.gap("volume "+c.Spec.VolumeName, err)
		} else {
			m.pv, m.driver = pv, driverOf(pv)
			node := ""
			if p != nil {
				node = p.Spec.NodeName
			}
			l.attachments(ctx, m, node)
		}
	}
	pods, err := l.t.reads.Pods(ctx, c.Namespace)
	if err != nil {
		l.v.gap("pods in "+c.Namespace, err)
	}
	for _, o := range pods {
		if !over(o) && (p == nil || o.Name != p.Name) && slices.Contains(claimNames(o), c.Name) {
			m.users = append(m.users, o)
		}
	}
	return m
}

// attachments finds where the volume is attached, and draws it.
func (l *look) attachments(ctx context.Context, m *mountOf, node string) {
	all, err := l.t.reads.Attachments(ctx)
	if err != nil {
		l.v.gap("VolumeAttachments", err)
		return
	}
	for _, a := range all {
		if pvOf(a) != m.pv.Name {
			continue
		}
		ref := l.t.attachmentRef(a.Name)
		l.v.edge(l.t.volumeRef(m.pv.Name), graph.AttachedBy, ref)
		l.v.edge(ref, graph.AttachedTo, l.t.nodeRef(a.Spec.NodeName))
		if node != "" && a.Spec.NodeName == node {
			m.own = a
		} else {
			m.others = append(m.others, a)
		}
	}
	slices.SortFunc(m.others, func(a, b *storagev1.VolumeAttachment) int { return strings.Compare(a.Name, b.Name) })
}

func (l *look) view(m *mountOf) VolumeView {
	c := m.claim
	v := VolumeView{Claim: c.Namespace + "/" + c.Name, Phase: string(c.Status.Phase), Class: m.class, Modes: modesOf(c), PV: c.Spec.VolumeName, Driver: m.driver, Attached: []string{}, Users: []string{}}
	if m.pv != nil {
		v.PV, v.Zones = m.pv.Name, zonesOf(m.pv)
	}
	for _, a := range slices.Concat([]*storagev1.VolumeAttachment{m.own}, m.others) {
		if a != nil {
			v.Attached = append(v.Attached, a.Spec.NodeName+" ("+attachState(a)+")")
		}
	}
	for _, p := range limit(m.users, 10) {
		v.Users = append(v.Users, p.Name+" on "+orNone(p.Spec.NodeName))
	}
	text := "claim " + v.Claim + " is " + orNone(v.Phase) + ", " + orNone(v.Modes) + ", class " + orNone(v.Class)
	if v.PV != "" {
		text += "; volume " + v.PV + " of driver " + orNone(v.Driver)
	}
	if len(v.Zones) > 0 {
		text += " in " + strings.Join(v.Zones, ", ")
	}
	if len(v.Attached) > 0 {
		text += "; attached: " + strings.Join(v.Attached, ", ")
	}
	if len(v.Users) > 0 {
		text += "; mounted by " + strings.Join(v.Users, ", ")
	}
	l.v.line("%s", text)
	return v
}

func (l *look) events(ctx context.Context, kind, namespace, name string) []Event {
	evs, err := l.t.reads.Events(ctx, kind, namespace, name)
	if err != nil {
		l.v.gap("events of "+kind+" "+name, err)
	}
	return evs
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func attachState(a *storagev1.VolumeAttachment) string {
	switch {
	case a.DeletionTimestamp != nil && a.Status.DetachError != nil:
		return "detach fails"
	case a.DeletionTimestamp != nil:
		return "detaching"
	case a.Status.AttachError != nil && !a.Status.Attached:
		return "attach fails"
	case a.Status.Attached:
		return "attached"
	}
	return "attaching"
}

func pvOf(a *storagev1.VolumeAttachment) string {
	if a.Spec.Source.PersistentVolumeName == nil {
		return ""
	}
	return *a.Spec.Source.PersistentVolumeName
}

// migrated maps the in-tree volume plugins to the CSI drivers that serve them since
// their migration (k8s.io/csi-translation-lib/plugins).
func migrated(pv *corev1.PersistentVolume) string {
	if d := pv.Annotations["pv.kubernetes.io/migrated-to"]; d != "" {
		return d
	}
	s := pv.Spec.PersistentVolumeSource
	switch {
	case s.AzureDisk != nil:
		return "disk.csi.azure.com"
	case s.AzureFile != nil:
		return "file.csi.azure.com"
	case s.AWSElasticBlockStore != nil:
		return "ebs.csi.aws.com"
	case s.GCEPersistentDisk != nil:
		return "pd.csi.storage.gke.io"
	case s.VsphereVolume != nil:
		return "csi.vsphere.vmware.com"
	case s.Cinder != nil:
		return "cinder.csi.openstack.org"
	}
	return ""
}

func driverOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.CSI != nil {
		return pv.Spec.CSI.Driver
	}
	return migrated(pv)
}

func modesOf(c *corev1.PersistentVolumeClaim) string {
	var out []string
	for _, m := range c.Spec.AccessModes {
		out = append(out, string(m))
	}
	return strings.Join(out, ",")
}

// zonesOf reads the zones a volume can be reached from out of its node affinity:
// the values of every key that ends in "zone".
func zonesOf(pv *corev1.PersistentVolume) []string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return nil
	}
	var out []string
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if !strings.HasSuffix(e.Key, "zone") || e.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			for _, z := range e.Values {
				if z != "" && !slices.Contains(out, z) {
					out = append(out, z)
				}
			}
		}
	}
	return out
}

// claimNames lists the claims a pod mounts, ephemeral ones by the name they are given.
func claimNames(p *corev1.Pod) []string {
	var out []string
	for _, v := range p.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, p.Name+"-"+v.Name)
		}
	}
	return out
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// waiting reports whether a pod may wait for a volume: it has no node yet, or its
// kubelet has not got past volumes and sandbox.
func waiting(p *corev1.Pod) bool {
	if over(p) || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodRunning {
		return false
	}
	if p.Spec.NodeName == "" {
		return true
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	return !slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		w := c.State.Waiting
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil ||
			w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing"
	})
}

// controller gives the owner that makes a pod.
func controller(o metav1.Object) *metav1.OwnerReference { return metav1.GetControllerOf(o) }
