package dra

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"pgregory.net/rapid"
)

func TestE2E(t *testing.T) {
	path := os.Getenv("ZZ_KUBECONFIG")
	if path == "" {
		t.Skip()
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	cs := kubernetes.NewForConfigOrDie(cfg)
	dyn := dynamic.NewForConfigOrDie(cfg)
	ctx := context.Background()
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	count, _ := strconv.Atoi(os.Getenv("COUNT"))
	r := cs.ResourceV1()
	agree, skipped, fitsN, bad := 0, 0, 0, 0
	bg := metav1.DeletePropagationBackground
	zero := int64(0)
	del := metav1.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &bg}
	for seed := from; seed < from+count; seed++ {
		d := rapid.Custom(draw).Example(seed)
		ns := fmt.Sprintf("e%d", seed)
		skip := ""
		fail := func(what string, err error) {
			if err != nil && skip == "" {
				skip = what + ": " + err.Error()
			}
		}
		_, err := cs.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		fail("ns", err)
		_, err = cs.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
		_ = err
		for _, n := range d.w.nodes {
			m := n.DeepCopy()
			m.Spec = corev1.NodeSpec{}
			m, err = cs.CoreV1().Nodes().Create(ctx, m, metav1.CreateOptions{})
			fail("node", err)
			if err == nil {
				_, err = cs.CoreV1().Nodes().Patch(ctx, m.Name, types.StrategicMergePatchType, []byte(`{"status":{"allocatable":{"cpu":"64","memory":"64Gi","pods":"110"},"capacity":{"cpu":"64","memory":"64Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"`+time.Now().UTC().Format(time.RFC3339)+`"}]}}`), metav1.PatchOptions{}, "status")
				fail("node status", err)
				for range 40 {
					_, err = cs.CoreV1().Nodes().Patch(ctx, m.Name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
					time.Sleep(15 * time.Millisecond)
					q, _ := cs.CoreV1().Nodes().Get(ctx, m.Name, metav1.GetOptions{})
					if len(q.Spec.Taints) == 0 {
						break
					}
				}
				fail("untaint", err)
			}
		}
		for _, s := range d.snap.Slices {
			_, err = r.ResourceSlices().Create(ctx, s, metav1.CreateOptions{})
			fail("slice", err)
		}
		for _, c := range d.snap.Classes {
			_, err = r.DeviceClasses().Create(ctx, c.DeepCopy(), metav1.CreateOptions{})
			if err != nil && seed == from {
				fail("class", err)
			}
		}
		for _, rl := range d.snap.Rules {
			_, err = r.DeviceTaintRules().Create(ctx, rl.DeepCopy(), metav1.CreateOptions{})
			fail("rule", err)
		}
		for _, h := range d.snap.Claims {
			c := h.DeepCopy()
			c.UID = ""
			c.Namespace = ns
			c.Spec.Devices.Requests = []resourceapi.DeviceRequest{{Name: "gpu", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "gpu"}}}
			c, err = r.ResourceClaims(ns).Create(ctx, c, metav1.CreateOptions{})
			fail("holder", err)
			if err == nil {
				c.Status = h.Status
				_, err = r.ResourceClaims(ns).UpdateStatus(ctx, c, metav1.UpdateOptions{})
				fail("holder status", err)
			}
		}
		if skip == "" {
			c := d.claim.DeepCopy()
			c.UID, c.Namespace, c.ResourceVersion = "", ns, ""
			_, err = r.ResourceClaims(ns).Create(ctx, c, metav1.CreateOptions{})
			fail("claim", err)
			name := "job"
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns}, Spec: corev1.PodSpec{
				SchedulingGates: []corev1.PodSchedulingGate{{Name: "x.io/wait"}},
				Containers:      []corev1.Container{{Name: "m", Image: "x", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "g"}}}}},
				ResourceClaims:  []corev1.PodResourceClaim{{Name: "g", ResourceClaimName: &name}}}}
			if seed%5 == 0 {
				pod.Spec.NodeSelector = map[string]string{"zone": "a"}
			}
			_, err = cs.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{})
			fail("pod", err)
		}
		if skip == "" {
			ts, _ := New(Config{Client: cs, Dynamic: dyn, Cluster: "e2e"})
			got, err := ts.Verdict(ctx, ns, "p")
			if err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			time.Sleep(60 * time.Millisecond)
			_, err = cs.CoreV1().Pods(ns).Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
			fail("ungate", err)
			node, msg := "", ""
			for i := 0; i < 60; i++ {
				time.Sleep(25 * time.Millisecond)
				p, err := cs.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{})
				if err != nil {
					continue
				}
				node = p.Spec.NodeName
				for _, k := range p.Status.Conditions {
					if k.Type == corev1.PodScheduled {
						msg = k.Reason + ": " + k.Message
					}
				}
				if node != "" || (msg != "" && len(p.Spec.SchedulingGates) == 0 && i > 14) {
					break
				}
			}
			ok := (node != "") == (len(got) > 0)
			if node != "" {
				fitsN++
				in := false
				for _, g := range got {
					in = in || g == node
				}
				ok = ok && in
			}
			if ok {
				agree++
				if os.Getenv("V") != "" {
					fmt.Println(seed, node, got, msg)
				}
			} else {
				bad++
				res, _ := ts.explain(ctx, ExplainIn{Namespace: ns, Pod: "p"})
				t.Errorf("seed %d: scheduler node %q (%s), ours %v\n%s", seed, node, msg, got, res.Text)
			}
			// a fault must be named when it does not fit
			if node == "" {
				ts2, _ := New(Config{Client: cs, Dynamic: dyn, Cluster: "e2e"})
				res, err := ts2.explain(ctx, ExplainIn{Namespace: ns, Pod: "p"})
				faults := 0
				for _, f := range res.Findings {
					if f.Role == "fault" {
						faults++
					}
				}
				if err != nil || faults == 0 {
					t.Errorf("seed %d: no cause: %v\n%s", seed, err, res.Text)
				}
			}
		} else {
			skipped++
			if skipped < 4 {
				fmt.Println("skip", seed, skip)
			}
		}
		_ = cs.CoreV1().Pods(ns).Delete(ctx, "p", del)
		cl, _ := r.ResourceClaims(ns).List(ctx, metav1.ListOptions{})
		for i := range cl.Items {
			c := &cl.Items[i]
			_, _ = r.ResourceClaims(ns).Patch(ctx, c.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			_, _ = r.ResourceClaims(ns).Patch(ctx, c.Name, types.MergePatchType, []byte(`{"status":{"allocation":null,"reservedFor":null}}`), metav1.PatchOptions{}, "status")
			_ = r.ResourceClaims(ns).Delete(ctx, c.Name, del)
		}
		for _, s := range d.snap.Slices {
			_ = r.ResourceSlices().Delete(ctx, s.Name, del)
		}
		for _, rl := range d.snap.Rules {
			_ = r.DeviceTaintRules().Delete(ctx, rl.Name, del)
		}
		for _, n := range d.w.nodes {
			_ = cs.CoreV1().Nodes().Delete(ctx, n.Name, del)
		}
		for i := 0; i < 80; i++ {
			cl, err := r.ResourceClaims("").List(ctx, metav1.ListOptions{})
			ps, _ := cs.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
			if err == nil && len(cl.Items) == 0 && len(ps.Items) == 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	fmt.Printf("agree %d bad %d skipped %d fits %d\n", agree, bad, skipped, fitsN)
}
