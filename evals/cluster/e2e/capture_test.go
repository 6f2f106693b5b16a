package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// incidents are scenarios that can happen side by side in one cluster. Those
// whose pods only a kubelet could move come first, while no other node is there.
func incidents() []string {
	return []string{
		"k8s-configmap-missing", "k8s-image-not-found", "k8s-oom-killed",
		"dra-selector-excludes-all", "dra-count-exceeds-node", "dra-class-missing", "dra-template-missing", "dra-constraint-pcie-virtualised",
		"k8s-node-selector", "k8s-pvc-missing", "k8s-service-selector", "k8s-quota-exceeded",
	}
}

// eventful makes all of them happen in one cluster and gives them in order.
func eventful(t *testing.T) (*live, []scenario.Scenario) {
	t.Helper()
	l := start(t, controlplane.Options{Kwok: true})
	all, err := scenario.Load("../scenarios")
	if err != nil {
		t.Fatal(err)
	}
	var out []scenario.Scenario
	var kubeletless []string
	for _, id := range incidents() {
		i := slices.IndexFunc(all, func(s scenario.Scenario) bool { return s.ID == id })
		if i < 0 {
			t.Fatalf("there is no scenario %s", id)
		}
		s := all[i]
		// The nodes of the first ones serve the others too.
		s.Fleet = slices.DeleteFunc(slices.Clone(s.Fleet), func(g scenario.Group) bool { return g.Preset == "cpu" && !g.Manual })
		manual := slices.ContainsFunc(s.Fleet, func(g scenario.Group) bool { return g.Manual })
		if !manual {
			// Nobody would run what comes later on the nodes without a kubelet.
			for _, n := range kubeletless {
				l.apply(t, "apiVersion: v1\nkind: Node\nmetadata: {name: "+n+"}\nspec: {unschedulable: true}\n")
			}
			kubeletless = nil
		}
		if err := scenario.Run(t.Context(), s, l.hands, l.began); err != nil {
			t.Fatal(err)
		}
		if manual {
			nodes, _ := l.seen(t)
			for _, n := range nodes {
				kubeletless = append(kubeletless, n.Name)
			}
		}
		out = append(out, s)
	}
	return l, out
}

// A cluster and the bundle captured from it get the same diagnosis; so the
// answer of an investigation can be had again after the incident.
func TestBundleTellsWhatTheClusterTold(t *testing.T) {
	t.Parallel()
	l, scenarios := eventful(t)
	out := filepath.Join(t.TempDir(), "bundle")
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = l.cp.Kubeconfig()
	questions := map[string]string{}
	told := map[string]incident.Report{}
	for _, s := range scenarios {
		q := s.Case.Question
		if q == "" && s.Case.Alert != nil {
			q = fmt.Sprintf("why does pod %s/%s crash?", s.Case.Alert.Labels["namespace"], s.Case.Alert.Labels["pod"])
		}
		questions[s.ID] = q
		told[s.ID] = investigate(t, cfg, q)
	}
	sum, err := app.CaptureBundle(t.Context(), cfg, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("captured %+v", sum)
	for _, s := range scenarios {
		t.Run(s.ID, func(t *testing.T) {
			live := told[s.ID]
			if live.Diagnosis.Outcome != s.Case.Expect.Outcome {
				t.Errorf("the live cluster gets %s, not %s: %s", live.Diagnosis.Outcome, s.Case.Expect.Outcome, tell(live))
			}
			if !slices.ContainsFunc(live.Diagnosis.Causes, func(c incident.Cause) bool { return c.Code == s.Case.Expect.Causes[0].Code }) {
				t.Errorf("the live cluster's causes lack %s: %s", s.Case.Expect.Causes[0].Code, tell(live))
			}
			recorded := app.Defaults()
			recorded.Bundle = out
			r := investigate(t, recorded, questions[s.ID])
			if a, b := essence(live), essence(r); a != b {
				t.Errorf("the live cluster was told\n%s\nits bundle is told\n%s", a, b)
			}
		})
	}
}

// essence is a diagnosis without times and without the cluster's name.
func essence(r incident.Report) string {
	var b strings.Builder
	d := r.Diagnosis
	name := func(x incident.Ref) string { x.Cluster = ""; return x.Group + "/" + x.String() }
	fmt.Fprintf(&b, "outcome %s\n", d.Outcome)
	for _, c := range d.Causes {
		fmt.Fprintf(&b, "cause %s %s %.2f\n", c.Code, name(c.Subject), c.Confidence)
	}
	for _, e := range d.Chain {
		fmt.Fprintf(&b, "chain %s %s %s\n", name(e.From), e.Relation, name(e.To))
	}
	for _, p := range d.Proposals {
		fmt.Fprintf(&b, "proposal %s %v\n", p.Action, p.Params)
	}
	for _, w := range d.WouldFit {
		fmt.Fprintf(&b, "would fit %s\n", w.Text)
	}
	for _, x := range d.RuledOut {
		fmt.Fprintf(&b, "ruled out %s\n", x.Code)
	}
	for _, f := range d.Unexplained {
		fmt.Fprintf(&b, "unexplained %s %s\n", f.Code, name(f.Subject))
	}
	return b.String()
}

// captured makes a small cluster with an incident and records it, with the log
// of one pod, which no kubelet is there to give.
func captured(t *testing.T) (l *live, dir, logged string) {
	t.Helper()
	l = start(t, controlplane.Options{Kwok: true})
	l.run(t, []scenario.Group{gpus("served", 2, 2)}, scenario.Step{Apply: wants("served", 1, `device.attributes['served.example.com'].productName == 'none'`) + `{{deploy "served" "web" 2}}`})
	l.run(t, nil, scenario.Step{Wait: &scenario.FieldWait{Object: scenario.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "served", Name: "web"}, Path: "status.readyReplicas", Value: "2"}})
	l.refused(t, "served", "wants")
	pods, err := l.client.CoreV1().Pods("served").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("%d pods of web: %v", len(pods.Items), err)
	}
	logged = pods.Items[0].Name
	dir = filepath.Join(t.TempDir(), "served")
	_, err = bundle.Capture(t.Context(), l.cp.RESTConfig(), dir, bundle.CaptureOptions{Cluster: "test", Version: "e2e", Now: time.Now,
		Logs: map[string]string{"served/" + logged + "/main": "first line\nERROR second line\n"}})
	if err != nil {
		t.Fatal(err)
	}
	return l, dir, logged
}

// serve puts a bundle behind the Kubernetes API for the length of the test.
func serve(t *testing.T, dir string) (url, kubeconfig string) {
	t.Helper()
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	ctx, cancel := context.WithCancel(context.Background())
	urls, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- app.ServeBundle(ctx, dir, "127.0.0.1:0", kubeconfig, func(s app.Served) error { urls <- s.Kubernetes; return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	select {
	case url = <-urls:
	case err := <-ended:
		ended <- err
		t.Fatalf("serve: %v", err)
	}
	return url, kubeconfig
}
