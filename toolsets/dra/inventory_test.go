package dra

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// A device counts as free only when nobody holds it, nothing taints it, and no
// partition of it is allocated. What has no memory is no GPU.
func TestInventory(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, filepath.Join("testdata", "inventory.yaml"))
	got, err := newToolset(t, c, objs).Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, n := range got {
		have = append(have, fmt.Sprintf("%s %s %s %d MiB: %d of %d free", n.Node, n.Driver, n.Product, n.Bytes>>20, n.Free, n.Total))
		if n.Object == nil || n.Object.Name != n.Node {
			t.Errorf("%s comes without its node", n.Node)
		}
	}
	want := []string{
		"cut0 gpu.nvidia.com NVIDIA A100-SXM4-40GB 40960 MiB: 1 of 2 free",
		"h0 gpu.nvidia.com NVIDIA H100 80GB HBM3 81559 MiB: 3 of 4 free",
		"h1 gpu.nvidia.com NVIDIA H100 80GB HBM3 81559 MiB: 3 of 4 free",
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestInventoryWithoutDRA(t *testing.T) {
	t.Parallel()
	ts, err := New(Config{Client: fake.NewClientset(), Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ts.Inventory(t.Context())
	if kind := tool.KindOf(err); kind != tool.NotServed {
		t.Errorf("kind %s: %v", kind, err)
	}
}
