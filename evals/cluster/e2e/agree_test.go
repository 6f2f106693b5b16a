package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
)

// Worlds are drawn from a seed, so that a disagreement can be had again:
// go test ./e2e -run TestAgrees -seed N -worlds M -only NAME
var (
	seed   = flag.Uint64("seed", 20261127, "seed of the generated worlds")
	worlds = flag.Int("worlds", 600, "how many worlds, each with one pod")
	only   = flag.String("only", "", "only the world of this name")
)

// batch is how many worlds are in the cluster at once.
const batch = 60

// outcome of one world, as predicted and as it came.
type outcome struct {
	*world
	// fits are the nodes on which gumshoe says that the claims fit, and takes those
	// of them that nothing else refuses.
	fits, takes []string
	// cramped says that some node has no room for the pod beside the devices.
	cramped bool
	came    decision
}

// The explainer and the scheduler agree, over hundreds of generated claims and
// slices, on whether a pod can be scheduled and on which nodes; of what is
// refused the explainer names a cause; and what it says would fit, fits.
func TestAgreesWithScheduler(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{NoControllers: true, APIServerArgs: []string{"--disable-admission-plugins=ServiceAccount"}})
	t.Logf("seed %d", *seed)
	var names []string
	for i := range *worlds {
		if name := fmt.Sprintf("w%04d", i); *only == "" || *only == name {
			names = append(names, name)
		}
	}
	tally := map[string]int{}
	for some := range slices.Chunk(names, batch) {
		l.agree(t, some, tally)
	}
	t.Logf("worlds: %v", tally)
	if *only == "" && (tally["scheduled"] < *worlds/5 || tally["refused"] < *worlds/5) {
		t.Errorf("the worlds are one-sided: %v", tally)
	}
}

func (l *live) agree(t *testing.T, names []string, tally map[string]int) {
	outs := make([]*outcome, len(names))
	for i, name := range names {
		outs[i] = &outcome{world: newDrawer(*seed, name).world()}
	}
	each := func(what string, do func(context.Context, *outcome) error) {
		t.Helper()
		g, ctx := errgroup.WithContext(t.Context())
		g.SetLimit(16)
		for _, o := range outs {
			g.Go(func() error {
				if err := do(ctx, o); err != nil {
					return fmt.Errorf("%s world %s: %w", what, o.name, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	each("create", func(ctx context.Context, o *outcome) error { return l.create(ctx, o.world) })
	defer each("remove", func(ctx context.Context, o *outcome) error { return l.remove(ctx, o.world) })
	ts := l.toolset(t)
	nodes, pods := l.seen(t)
	each("predict", func(ctx context.Context, o *outcome) error { return o.predict(ctx, ts, nodes, pods) })
	each("release", func(ctx context.Context, o *outcome) error {
		_, err := l.client.CoreV1().Pods(o.name).Patch(ctx, o.pod.Name, types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
		return err
	})
	l.settle(t, outs, func(o *outcome) string { return o.pod.Name })
	for _, o := range outs {
		switch {
		case o.came.node != "" && !slices.Contains(o.takes, o.came.node):
			t.Errorf("world %s: %s, and gumshoe says that it can be on none but %v (claims fit on %v)\n%s", o.name, o.came, o.takes, o.fits, l.dump(o.world))
		case o.came.node == "" && len(o.takes) > 0:
			t.Errorf("world %s: %s, and gumshoe says that it can be on %v\n%s", o.name, o.came, o.takes, l.dump(o.world))
		case o.came.node != "":
			tally["scheduled"]++
		default:
			tally["refused"]++
			tally[o.came.reason]++
		}
	}
	if !t.Failed() {
		l.explainAll(t, outs, tally)
	}
}

// toolset reads the cluster as it is now, once.
func (l *live) toolset(t *testing.T) *dra.Toolset {
	t.Helper()
	ts, err := dra.New(dra.Config{Client: l.client, Cluster: "test", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func (l *live) seen(t *testing.T) (nodes []*corev1.Node, pods []*corev1.Pod) {
	t.Helper()
	ns, err := l.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ps, err := l.client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ns.Items {
		nodes = append(nodes, &ns.Items[i])
	}
	for i := range ps.Items {
		pods = append(pods, &ps.Items[i])
	}
	return nodes, pods
}

// predict asks the two halves of gumshoe that judge whether a node takes a pod.
func (o *outcome) predict(ctx context.Context, ts *dra.Toolset, nodes []*corev1.Node, pods []*corev1.Pod) error {
	var err error
	if o.fits, err = ts.Verdict(ctx, o.name, o.pod.Name); err != nil {
		return err
	}
	mapped := func(name corev1.ResourceName) bool {
		return slices.ContainsFunc(o.classes, func(c *resourceapi.DeviceClass) bool {
			return c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName == string(name) || string(name) == resourceapi.ResourceDeviceClassPrefix+c.Name
		})
	}
	for _, v := range filters.New(filters.World{Pod: o.pod, Nodes: nodes, Pods: pods, Delegated: mapped}).Run() {
		if v.Fits() && slices.Contains(o.fits, v.Node.Name) {
			o.takes = append(o.takes, v.Node.Name)
		}
		o.cramped = o.cramped || v.Node.Labels["world"] == o.name && slices.Contains(v.Filters(), filters.Resource)
	}
	return nil
}

// settle waits until the scheduler has decided about a pod of each world. One
// that is refused where it should not be gets time: the scheduler may not have
// seen all objects when it first looked.
func (l *live) settle(t *testing.T, outs []*outcome, pod func(*outcome) string) {
	t.Helper()
	open := map[string]*outcome{}
	for _, o := range outs {
		open[o.name] = o
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := 0; len(open) > 0; {
		list, err := l.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			p := &list.Items[i]
			o := open[p.Namespace]
			if o == nil || p.Name != pod(o) {
				continue
			}
			d, ok := decided(p)
			if !ok {
				continue
			}
			o.came = d
			if d.node != "" || len(o.takes) == 0 {
				delete(open, p.Namespace)
			}
		}
		undecided := 0
		for _, o := range open {
			if o.came == (decision{}) {
				undecided++
			}
		}
		if last++; undecided == 0 && last > 100 {
			return // what is left was refused for 20 seconds, and is reported
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the scheduler has not decided about %d of %d pods\n%s", undecided, len(outs), l.cp.Log("kube-scheduler"))
		}
	}
}

// explainAll holds the explanation of each refused pod to what is known, makes
// the first change that it says would fit, and waits for the scheduler to agree.
func (l *live) explainAll(t *testing.T, outs []*outcome, tally map[string]int) {
	ts := l.toolset(t)
	again := map[string]string{}
	change := map[string]string{}
	var treated []*outcome
	for _, o := range outs {
		if o.came.node != "" {
			continue
		}
		x, faults, err := explain(t.Context(), ts, o.name, o.pod.Name)
		if err != nil {
			t.Errorf("world %s: %v", o.name, err)
			continue
		}
		bad := slices.Contains([]string{"does_not_fit", "aborts", "blocked"}, x.Verdict)
		named := slices.ContainsFunc(faults, func(f incident.Finding) bool { return f.Role == incident.Fault })
		if len(o.fits) == 0 && (!bad || !named) || len(o.fits) > 0 && x.Verdict != "fits" {
			t.Errorf("world %s: %s; claims fit on %v; verdict %s, findings %v\n%s", o.name, o.came, o.fits, x.Verdict, faults, l.dump(o.world))
			continue
		}
		tally[x.Verdict]++
		if bad && x.Verdict != "blocked" {
			o.accounted(t, x)
		}
		if len(x.WouldFit) == 0 || o.cramped {
			continue
		}
		p, err := l.patient(t.Context(), o.name, o.pod.Name, faults)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.spec) == 0 || strings.Contains(x.WouldFit[0].Change, "request container-") {
			continue
		}
		p.release = func(ctx context.Context, c *resourceapi.ResourceClaim) error {
			c.Status = resourceapi.ResourceClaimStatus{}
			_, err := l.client.ResourceV1().ResourceClaims(c.Namespace).UpdateStatus(ctx, c, metav1.UpdateOptions{})
			return err
		}
		cure, m, ok := find(x.WouldFit[0].Change)
		if !ok {
			t.Errorf("world %s: the change %q has no known form", o.name, x.WouldFit[0].Change)
			continue
		}
		name, err := p.treat(t.Context(), cure, m)
		if err != nil {
			t.Errorf("world %s: make %q: %v", o.name, x.WouldFit[0].Change, err)
			continue
		}
		again[o.name], change[o.name] = name, x.WouldFit[0].Change
		treated = append(treated, &outcome{world: o.world, takes: []string{"any"}})
	}
	l.settle(t, treated, func(o *outcome) string { return again[o.name] })
	for _, o := range treated {
		if o.came.node == "" {
			t.Errorf("world %s: gumshoe says that %q would fit; made so, the pod is %s\n%s", o.name, change[o.name], o.came, l.dump(o.world))
			continue
		}
		tally["cured"]++
	}
}

func explain(ctx context.Context, ts *dra.Toolset, namespace, pod string) (x dra.Explanation, faults []incident.Finding, err error) {
	for _, tl := range ts.Tools() {
		if tl.Info().Name != "dra_explain" {
			continue
		}
		args, err := json.Marshal(dra.ExplainIn{Namespace: namespace, Pod: pod})
		if err != nil {
			return x, nil, err
		}
		res, err := tl.Call(ctx, args)
		if err != nil {
			return x, nil, err
		}
		return x, res.Findings, json.Unmarshal(res.Data, &x)
	}
	return x, nil, fmt.Errorf("there is no dra_explain")
}

// accounted checks that the table of each request holds every device of the
// driver of its class, in the newest generation of its pool.
func (o *outcome) accounted(t *testing.T, x dra.Explanation) {
	newest, published := map[string]int64{}, map[string]int{}
	for _, s := range o.slices {
		id := s.Spec.Driver + "/" + s.Spec.Pool.Name
		newest[id] = max(newest[id], s.Spec.Pool.Generation)
	}
	for _, s := range o.slices {
		if s.Spec.Pool.Generation == newest[s.Spec.Driver+"/"+s.Spec.Pool.Name] {
			published[s.Spec.Driver] += len(s.Spec.Devices)
		}
	}
	for _, c := range x.Claims {
		for _, r := range c.Requests {
			have, free := 0, 0
			for _, d := range r.Devices {
				have += d.Count
				if len(d.ExcludedBy) == 0 && d.Label != "others" {
					free += d.Count
				}
			}
			driver := "gpu." + o.name + ".example.com"
			if strings.HasPrefix(r.Class, "nic.") {
				driver = "nic." + o.name + ".example.com"
			}
			if have != published[driver] {
				t.Errorf("world %s, request %s: the table holds %d of %d devices of %s", o.name, r.Name, have, published[driver], driver)
			}
			if free > r.Totals.Free {
				t.Errorf("world %s, request %s: %d devices have nothing against them, the totals say %d are free", o.name, r.Name, free, r.Totals.Free)
			}
		}
	}
}

// create makes a world; its pod is gated, so that the scheduler waits.
func (l *live) create(ctx context.Context, w *world) error {
	mk := metav1.CreateOptions{}
	if _, err := l.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: map[string]string{resourceapi.DRAAdminNamespaceLabelKey: "true"}}}, mk); err != nil {
		return err
	}
	for _, x := range w.rules {
		if _, err := l.client.ResourceV1().DeviceTaintRules().Create(ctx, x, mk); err != nil {
			return err
		}
	}
	for _, x := range w.classes {
		if _, err := l.client.ResourceV1().DeviceClasses().Create(ctx, x, mk); err != nil {
			return err
		}
	}
	for _, x := range w.nodes {
		n, err := l.client.CoreV1().Nodes().Create(ctx, x, mk)
		if err != nil {
			return err
		}
		n.Status = x.Status
		if _, err := l.client.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	for _, x := range w.slices {
		if _, err := l.client.ResourceV1().ResourceSlices().Create(ctx, x, mk); err != nil {
			return err
		}
	}
	for _, x := range w.claims {
		c, err := l.client.ResourceV1().ResourceClaims(w.name).Create(ctx, x, mk)
		if err != nil {
			return err
		}
		if x.Status.Allocation == nil {
			continue
		}
		c.Status = x.Status
		if _, err := l.client.ResourceV1().ResourceClaims(w.name).UpdateStatus(ctx, c, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	gated := w.pod.DeepCopy()
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/not-yet"}}
	_, err := l.client.CoreV1().Pods(w.name).Create(ctx, gated, mk)
	return err
}

// remove takes a world out of the scheduler's sight. Claims and namespace stay:
// nobody else's devices have their drivers' names.
func (l *live) remove(ctx context.Context, w *world) error {
	now := int64(0)
	gone := metav1.DeleteOptions{GracePeriodSeconds: &now}
	err := l.client.CoreV1().Pods(w.name).DeleteCollection(ctx, gone, metav1.ListOptions{})
	for _, x := range w.slices {
		err = first(err, l.client.ResourceV1().ResourceSlices().Delete(ctx, x.Name, gone))
	}
	for _, x := range w.nodes {
		err = first(err, l.client.CoreV1().Nodes().Delete(ctx, x.Name, gone))
	}
	for _, x := range w.classes {
		err = first(err, l.client.ResourceV1().DeviceClasses().Delete(ctx, x.Name, gone))
	}
	return first(err, l.client.ResourceV1().DeviceTaintRules().DeleteCollection(ctx, gone, metav1.ListOptions{FieldSelector: "metadata.name=" + w.name}))
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// dump writes a world down, to be looked at and to be had again.
func (l *live) dump(w *world) string {
	var b strings.Builder
	fmt.Fprintf(&b, "again: go test ./e2e -run TestAgrees -seed %d -only %s\n", *seed, w.name)
	put := func(x any) {
		raw, err := yaml.Marshal(x)
		if err != nil {
			raw = []byte(err.Error())
		}
		b.WriteString("---\n")
		b.Write(raw)
	}
	for _, x := range w.nodes {
		put(x)
	}
	for _, x := range w.slices {
		put(x)
	}
	for _, x := range w.rules {
		put(x)
	}
	for _, x := range w.claims {
		put(x)
	}
	put(w.pod)
	return b.String()
}
