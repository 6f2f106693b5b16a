package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
)

const (
	driver    = "gpu.example.com"
	perNode   = 8
	workers   = 48
	namespace = "load"
)

// loadArgs make an API server take many objects quickly, without controllers.
func loadArgs() []string {
	return []string{"--disable-admission-plugins=ServiceAccount", "--max-requests-inflight=2000", "--max-mutating-requests-inflight=2000"}
}

// load fills a cluster through its API.
type load struct {
	client *kubernetes.Clientset
	now    metav1.Time
}

func newLoad(c *rest.Config) (*load, error) {
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = -1, -1
	c.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	return &load{client: client, now: metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))}, nil
}

// each runs do for 0..n-1, many at a time.
func each(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// fill makes nodes with one slice each, and running pods, of which every fourth
// holds a claim on one device of its node.
func (l *load) fill(ctx context.Context, nodes, pods int, odd bool) error {
	if _, err := l.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: driver}, Spec: resourceapi.DeviceClassSpec{Selectors: cel(fmt.Sprintf("device.driver == %q", driver))}}
	if _, err := l.client.ResourceV1().DeviceClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := each(ctx, nodes, func(ctx context.Context, i int) error { return l.node(ctx, i, odd) }); err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if err := each(ctx, pods, func(ctx context.Context, i int) error { return l.pod(ctx, i, nodes) }); err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	return nil
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func (l *load) node(ctx context.Context, i int, odd bool) error {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status", LastHeartbeatTime: metav1.Now(), LastTransitionTime: l.now}
	conditions := []corev1.NodeCondition{ready}
	if odd {
		conditions = append(conditions, oddConditions(i, l.now)...)
	}
	n, err := l.client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{"kubernetes.io/hostname": nodeName(i), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "zone-" + strconv.Itoa(i%3)}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("512Gi"), corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti")}
	n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: conditions, NodeInfo: corev1.NodeSystemInfo{KubeletVersion: controlplane.KubernetesVersion, OperatingSystem: "linux", Architecture: "amd64"}}
	if _, err := l.client.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
		return err
	}
	name := n.Name
	slice := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + driver}, Spec: resourceapi.ResourceSliceSpec{Driver: driver, NodeName: &name, Pool: resourceapi.ResourcePool{Name: name, Generation: 1, ResourceSliceCount: 1}}}
	for d := range perNode {
		product, kind, uuid := "Example H100 80GB", "gpu", fmt.Sprintf("GPU-%05d-%d", i, d)
		slice.Spec.Devices = append(slice.Spec.Devices, resourceapi.Device{Name: "gpu-" + strconv.Itoa(d),
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"productName": {StringValue: &product}, "type": {StringValue: &kind}, "uuid": {StringValue: &uuid}},
			Capacity:   map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: resource.MustParse("80Gi")}}})
	}
	_, err = l.client.ResourceV1().ResourceSlices().Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// oddConditions are conditions of node agents and clouds in their healthy
// state, True for some and False for others, and some that say nothing.
func oddConditions(i int, since metav1.Time) []corev1.NodeCondition {
	all := []corev1.NodeCondition{
		{Type: "KernelDeadlock", Status: corev1.ConditionFalse, Reason: "KernelHasNoDeadlock"},
		{Type: "ReadonlyFilesystem", Status: corev1.ConditionFalse, Reason: "FilesystemIsNotReadOnly"},
		{Type: "FrequentContainerdRestart", Status: corev1.ConditionFalse, Reason: "NoFrequentContainerdRestart"},
		{Type: "VMEventScheduled", Status: corev1.ConditionFalse, Reason: "NoVMEventScheduled"},
		{Type: "GPUMissing", Status: corev1.ConditionFalse, Reason: "NoGPUMissing"},
		{Type: "NetworkInterfaceReady", Status: corev1.ConditionTrue, Reason: "InterfacesUp"},
		{Type: "EtcdIsVoter", Status: corev1.ConditionTrue, Reason: "MemberNotLearner"},
		{Type: "example.com/MaintenanceWindow", Status: corev1.ConditionTrue, Reason: "Agreed"},
		{Type: "AcceleratedHardwareReady", Status: corev1.ConditionTrue, Reason: "AcceleratedHardwareReady"},
	}
	var out []corev1.NodeCondition
	for k := range all {
		if (i+k)%3 != 0 {
			all[k].LastTransitionTime, all[k].LastHeartbeatTime = since, metav1.Now()
			out = append(out, all[k])
		}
	}
	return out
}

func (l *load) pod(ctx context.Context, i, nodes int) error {
	node, slot := i%nodes, i/nodes
	name := fmt.Sprintf("pod-%05d", i)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "load"}}, Spec: corev1.PodSpec{NodeName: nodeName(node), Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/load:1",
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")}}}}}}
	holds := i%4 == 0
	if holds {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &name}}
		p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}}
	}
	p, err := l.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &l.now, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: l.now}, {Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: l.now},
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: l.now}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: l.now}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, Image: "registry.example.com/load:1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: l.now}}}}}
	if _, err := l.client.CoreV1().Pods(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil || !holds {
		return err
	}
	return l.claim(ctx, name, p.UID, nodeName(node), "gpu-"+strconv.Itoa(slot%perNode))
}

// claim makes a claim that is allocated to a device and reserved for its pod.
func (l *load) claim(ctx context.Context, name string, pod types.UID, node, device string) error {
	c, err := l.client.ResourceV1().ResourceClaims(namespace).Create(ctx, claimFor(name, ""), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	c.Status = resourceapi.ResourceClaimStatus{
		Allocation: &resourceapi.AllocationResult{
			Devices:      resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{{Request: "gpu", Driver: driver, Pool: node, Device: device}}},
			NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}},
		},
		ReservedFor: []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: name, UID: pod}},
	}
	_, err = l.client.ResourceV1().ResourceClaims(namespace).UpdateStatus(ctx, c, metav1.UpdateOptions{})
	return err
}

func claimFor(name, selector string) *resourceapi.ResourceClaim {
	exact := &resourceapi.ExactDeviceRequest{DeviceClassName: driver}
	if selector != "" {
		exact.Selectors = cel(selector)
	}
	return &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "gpu", Exactly: exact}}}}}
}

func cel(expression string) []resourceapi.DeviceSelector {
	return []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: expression}}}
}

// large measures triage on a large cluster beside one plain list of its pods.
func large(ctx context.Context, o options) ([]row, error) {
	cp, err := controlplane.Start(ctx, controlplane.Options{NoControllers: true, APIServerArgs: loadArgs()})
	if err != nil {
		return nil, err
	}
	defer cp.Stop()
	l, err := newLoad(cp.RESTConfig())
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := l.fill(ctx, o.nodes, o.pods, false); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "large cluster filled in %s\n", time.Since(begin).Round(time.Second))
	if err := l.refused(ctx); err != nil {
		return nil, err
	}
	if o.hold {
		fmt.Println(cp.Kubeconfig())
		<-ctx.Done()
		return nil, nil
	}
	plain, err := kubernetes.NewForConfig(func() *rest.Config { c := rest.CopyConfig(cp.RESTConfig()); c.QPS, c.Burst = -1, -1; return c }())
	if err != nil {
		return nil, err
	}
	var lists, binaryLists samples
	for range 5 {
		for client, into := range map[*kubernetes.Clientset]*samples{plain: &lists, l.client: &binaryLists} {
			begin := time.Now()
			pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			*into = append(*into, sample{wall: time.Since(begin)})
			if len(pods.Items) <= o.pods {
				return nil, fmt.Errorf("the list holds %d pods of more than %d", len(pods.Items), o.pods)
			}
		}
	}
	runs, err := repeat(ctx, 5, o.bin, nil, "investigate", "why is pod "+namespace+"/wanted pending?", "--kubeconfig", cp.Kubeconfig(), "--output", "json")
	if err != nil {
		return nil, err
	}
	r, err := parse(runs[0].out)
	if err != nil {
		return nil, err
	}
	if len(r.Diagnosis.Causes) == 0 || r.Diagnosis.Causes[0].Code != "dra.selector_excludes_all" {
		return nil, fmt.Errorf("the large cluster got the answer %+v", r.Diagnosis)
	}
	all, err := repeat(ctx, 1, o.bin, []int{0, 3}, "investigate", "what is wrong with this cluster?", "--kubeconfig", cp.Kubeconfig(), "--output", "json")
	if err != nil {
		return nil, err
	}
	ratio := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(lists.median())) }
	return []row{
		{"client-go list of all pods, median of 5: JSON (its default), protobuf", "-", millis(lists.median()) + ", " + millis(binaryLists.median()), "the same server, the same minute"},
		{"triage of one Pending pod, whole process, median of 5", "≤ 2× the list", fmt.Sprintf("%s = %s× the list", millis(runs.median()), ratio(runs.median())), "k8sgpt 39 s at 200 services"},
		{"memory of it", "< 300 MiB", mib(runs.rss()), "-"},
		{"\"what is wrong with this cluster?\", whole process", "-", fmt.Sprintf("%s = %s× the list, %s", millis(all.median()), ratio(all.median()), mib(all.rss())), "-"},
	}, nil
}

// refused makes a pod whose claim no device satisfies, and waits for the
// scheduler to say so.
func (l *load) refused(ctx context.Context) error {
	name := "wanted"
	if _, err := l.client.ResourceV1().ResourceClaims(namespace).Create(ctx, claimFor(name, fmt.Sprintf(`device.attributes[%q].productName.contains("H200")`, driver)), metav1.CreateOptions{}); err != nil {
		return err
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &name}},
		Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/load:1", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu"}}}}}}}
	if _, err := l.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	w, err := l.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return err
	}
	defer w.Stop()
	deadline := time.After(5 * time.Minute)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return fmt.Errorf("the watch of pod %s ended before the scheduler spoke", name)
			}
			if p, ok := e.Object.(*corev1.Pod); ok {
				for _, c := range p.Status.Conditions {
					if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
						return nil
					}
				}
			}
		case <-deadline:
			return fmt.Errorf("the scheduler did not refuse pod %s in 5 minutes", name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
