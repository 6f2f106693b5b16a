package actions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// colours is a pool in the middle of an upgrade: two cordoned blue nodes, two full
// green ones.
func colours() *world {
	w := &world{}
	w.node("blue-0", "pool: blue", "{unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}").node("blue-1", "pool: blue", "{unschedulable: true}")
	w.node("green-0", "pool: green").node("green-1", "pool: green")
	w.owner("StatefulSet", "apps/v1", "ml", "serve", "")
	for i := range 4 {
		w.pod("ml", fmt.Sprintf("serve-%d", i), fmt.Sprintf("green-%d", i%2), "StatefulSet apps/v1 serve", "app: serve", 4)
	}
	return w
}

func TestPoolMove(t *testing.T) {
	t.Parallel()
	s := newScene(t, colours().String())
	before := s.specs("Node")
	d := s.draft("pool_move", "from", "green", "to", "blue")
	same(t, "writes", []string{"patch blue-0", "patch blue-1", "patch green-0", "patch green-1", "evict serve-0", "evict serve-1", "evict serve-2", "evict serve-3"}, names(d.Writes))
	if d.Risk != incident.RiskCritical || len(d.Blast.Nodes) != 4 || d.Blast.GPUs != 16 || len(d.Capacity) != 4 || len(d.Warnings) > 0 {
		t.Errorf("%+v", d)
	}
	says(t, "capacity", texts(d.Capacity), "pod ml/serve-0 fits on node blue-0: 8 of 8 nvidia.com/gpu free", "pod ml/serve-1 fits on node blue-0: 4 of 8 nvidia.com/gpu free", "pod ml/serve-3 fits on node blue-1: 4 of 8")

	s.do(d.Writes)
	for node, want := range map[string]bool{"blue-0": false, "blue-1": false, "green-0": true, "green-1": true} {
		if on, _, _ := nested(s.get("Node", "", node), "spec", "unschedulable"); (on == true) != want {
			t.Errorf("node %s: unschedulable %v", node, on)
		}
	}
	check := mustCatalogue(t, s).NewChecker(nil, false)
	for _, c := range d.Verify {
		if c.Kind == actions.CheckScheduled { // no controller makes pods here
			continue
		}
		if v, saw := check.Check(t.Context(), c); v != incident.Pass {
			t.Errorf("%s: %s %s", c.Say, v, saw)
		}
	}
	s.undo(d)
	same(t, "nodes after the undo", before, s.specs("Node"))
}

func mustCatalogue(t *testing.T, s *scene) *actions.Catalogue {
	t.Helper()
	cat, err := actions.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

func TestPoolMoveRefuses(t *testing.T) {
	t.Parallel()
	t.Run("no room", func(t *testing.T) {
		t.Parallel()
		w := colours().pod("ml", "serve-4", "green-0", "StatefulSet apps/v1 serve", "app: serve", 4)
		s := newScene(t, w.String())
		s.refused([]string{"pod ml/serve-4 fits on no node of blue: 2 nodes: nvidia.com/gpu: 4 asked, 0 of 8 free"}, "pool_move", "from", "green", "to", "blue")
		// What was refused is not seen as done by the next action of the plan.
		if d := s.draft("uncordon", "node", "blue-0"); len(d.Writes) != 1 {
			t.Errorf("%+v", d.Writes)
		}
	})
	t.Run("tied", func(t *testing.T) {
		t.Parallel()
		w := colours().pod("ml", "tied-0", "green-0", "StatefulSet apps/v1 serve", "app: tied", 0, "  nodeSelector: {pool: green}")
		newScene(t, w.String()).refused([]string{"pod ml/tied-0 fits on no node of blue", "node selector or affinity pool=green"}, "pool_move", "from", "green", "to", "blue")
	})
	t.Run("not ready", func(t *testing.T) {
		t.Parallel()
		text := strings.ReplaceAll(colours().String(), `status: "True"`, `status: "Unknown"`)
		newScene(t, text).refused([]string{"no node of blue is ready"}, "pool_move", "from", "green", "to", "blue")
	})
	t.Run("parameters", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, colours().String())
		s.missing("to", "is of both", "pool_move", "from", "green", "to", "pool=green")
		s.missing("to", "label selector", "pool_move", "from", "green", "to", "red")
		s.missing("to", "no node has", "pool_move", "from", "green", "to", "pool=red")
		s.missing("to", "no label selector", "pool_move", "from", "green", "to", "a==b==c")
		s.missing("to", "required", "pool_move", "from", "green")
	})
}

func TestPoolMoveDone(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("b", "pool: blue").node("g", "pool: green", "{unschedulable: true}")
	if _, err := newScene(t, w.String()).try("pool_move", "from", "green", "to", "blue"); err == nil || !strings.Contains(err.Error(), "nothing to do") {
		t.Error(err)
	}
}

// TestStepsShareRoom: what one step takes, the next one does not have.
func TestStepsShareRoom(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("a", "pool: x").node("b", "pool: x").node("c", "pool: x")
	w.owner("StatefulSet", "apps/v1", "ml", "s", "")
	w.pod("ml", "s-0", "a", "StatefulSet apps/v1 s", "app: s", 8).pod("ml", "s-1", "b", "StatefulSet apps/v1 s", "app: s", 8)
	s := newScene(t, w.String())
	d := s.draft("drain", "node", "a")
	says(t, "first", texts(d.Capacity), "pod ml/s-0 fits on node c")
	d = s.draft("drain", "node", "b")
	says(t, "second", texts(d.Capacity), "pod ml/s-1 fits on no other node: 1 node: it is cordoned; 1 node: nvidia.com/gpu: 8 asked, 0 of 8 free")
	says(t, "warnings", d.Warnings, "1 pod will wait for a node")
	if d.Risk != incident.RiskCritical {
		t.Errorf("risk %s", d.Risk)
	}
}

// TestPlannedTemplates: the successor of a pod is what an earlier step makes of its
// workload.
func TestPlannedTemplates(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("a", "pool: x").node("b", "pool: west")
	w.add(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s, namespace: ml, uid: o-s}
spec:
  replicas: 1
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}}
    spec: {nodeSelector: {pool: x}, containers: [{name: main, image: i, resources: {requests: {cpu: "1"}}}]}
`)
	w.pod("ml", "s-0", "a", "StatefulSet apps/v1 s", "app: s", 0, "  nodeSelector: {pool: x}")
	s := newScene(t, w.String())
	d := s.draft("drain", "node", "a")
	says(t, "as it is", texts(d.Capacity), "pod ml/s-0 fits on no other node")
	s.renew()
	s.draft("move_replica", "kind", "StatefulSet", "namespace", "ml", "name", "s", "pool", "west", "how", "select")
	d = s.draft("drain", "node", "a")
	says(t, "after the patch", texts(d.Capacity), "pod ml/s-0 fits on node b")
}
