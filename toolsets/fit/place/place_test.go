package place_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
)

func query(t *testing.T, name string, context int, s engine.Settings) (place.Query, hardware.Table, []hardware.SKU) {
	t.Helper()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	e, _, ok := model.Lookup(list, name)
	if !ok {
		t.Fatalf("no model %s", name)
	}
	m, err := e.Model()
	if err != nil {
		t.Fatal(err)
	}
	tab, err := hardware.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	skus, err := hardware.SKUs(tab)
	if err != nil {
		t.Fatal(err)
	}
	return place.Query{Input: estimate.Input{Model: m, Weights: e.Bytes(), Context: context, Engine: s}}, tab, skus
}

func TestClouds(t *testing.T) {
	t.Parallel()
	q, tab, skus := query(t, "llama-3.1-8b", 8192, engine.Settings{})
	q.TokensPerSecond = 1000
	a := place.OnClouds(q, tab, skus)
	if len(a.Candidates) < 10 {
		t.Fatalf("%d candidates", len(a.Candidates))
	}
	last := 0.0
	unpriced := false
	for i, c := range a.Candidates {
		if c.Verdict != estimate.Fits {
			break
		}
		if c.Cost == nil {
			unpriced = true
			continue
		}
		if unpriced {
			t.Errorf("%s has a price and comes after what has none", c.Where)
		}
		if c.Cost.Hour < last {
			t.Errorf("%s (%d) is cheaper than the one before it", c.Where, i)
		}
		last = c.Cost.Hour
		if c.PriceDate == "" || c.PriceSource == "" {
			t.Errorf("%s: a price without source or date", c.Where)
		}
		if c.Cost.PerMillion <= 0 {
			t.Errorf("%s: a throughput was given", c.Where)
		}
	}
	if !unpriced {
		t.Error("machine types without a price are not named")
	}
	if first := a.Candidates[0]; !strings.Contains(first.Where, "g6e.xlarge") && !strings.Contains(first.Where, "T4") && !strings.Contains(first.Where, "g5") && !strings.Contains(first.Where, "g6") {
		t.Errorf("the cheapest is %s", first.Where)
	}
	q.TokensPerSecond = 0
	if c := place.OnClouds(q, tab, skus).Candidates[0]; c.Cost.PerMillion != 0 {
		t.Error("no throughput, yet a price for a million tokens")
	}
	big, _, _ := query(t, "llama-3.1-405b", 8192, engine.Settings{})
	for _, c := range place.OnClouds(big, tab, skus).Candidates {
		if c.GPUs > c.Of {
			t.Errorf("%s has %d GPUs, %d are used", c.Where, c.Of, c.GPUs)
		}
	}
	huge, _, _ := query(t, "deepseek-r1", 8192, engine.Settings{DType: "float32", TP: 1})
	huge.Fixed = true
	if a := place.OnClouds(huge, tab, skus); len(a.Candidates) != 0 || len(a.Refused) == 0 {
		t.Errorf("%+v", a)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	h100 := func(name string, free int) place.Node {
		return place.Node{Name: name, Product: "NVIDIA-H100-80GB-HBM3", MiB: 81559, Total: 8, Free: free, SKU: "p5.48xlarge", Region: "us-east-1", Source: "capacity"}
	}
	q, tab, skus := query(t, "llama-3.3-70b", 8192, engine.Settings{})
	t.Run("the largest block of a node counts, not the sum", func(t *testing.T) {
		t.Parallel()
		long := q
		long.Input.Context = 65536
		a := place.OnCluster(long, tab, skus, []place.Node{h100("a", 3), h100("b", 3), h100("c", 2)})
		if len(a.Candidates) != 0 || !strings.Contains(strings.Join(a.Refused, "\n"), "8 GPUs are free in all, at most 3 on one node") {
			t.Errorf("%+v", a)
		}
	})
	t.Run("alike nodes are one candidate", func(t *testing.T) {
		t.Parallel()
		a := place.OnCluster(q, tab, skus, []place.Node{h100("a", 4), h100("b", 4), h100("c", 8)})
		if len(a.Candidates) != 2 {
			t.Fatalf("%+v", a)
		}
		c := a.Candidates[0]
		if !strings.Contains(c.Where, "node a and 1 like it") || c.TP != 4 || c.Cost == nil || c.Cost.Attributed != 55.04/2 || c.Cost.Hour != 55.04 {
			t.Errorf("%+v %+v", c, c.Cost)
		}
	})
	t.Run("barred nodes are named", func(t *testing.T) {
		t.Parallel()
		n := h100("a", 8)
		n.Barred = "cordoned"
		a := place.OnCluster(q, tab, skus, []place.Node{n})
		if len(a.Candidates) != 0 || !strings.Contains(a.Refused[0], "node a: cordoned (8 free GPUs)") {
			t.Errorf("%+v", a)
		}
	})
	t.Run("what cannot be judged is said", func(t *testing.T) {
		t.Parallel()
		a := place.OnCluster(q, tab, skus, []place.Node{
			{Name: "x", Product: "Mystery-9000", Total: 8, Free: 8}, {Name: "y", Product: "NVIDIA-A10-SHARED", MiB: 23028, Total: 40, Free: 40},
			{Name: "z", Product: "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", Total: 7, Free: 7},
		})
		all := strings.Join(a.Refused, "\n")
		for _, want := range []string{"Mystery-9000 is not known", "shared", "slice"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is not said:\n%s", want, all)
			}
		}
	})
	t.Run("a slice counts alone", func(t *testing.T) {
		t.Parallel()
		small, _, _ := query(t, "phi-4-mini", 4096, engine.Settings{})
		a := place.OnCluster(small, tab, skus, []place.Node{{Name: "z", Product: "NVIDIA-H100-80GB-HBM3-MIG-2g.20gb", MiB: 19968, Total: 3, Free: 3}})
		if len(a.Candidates) != 1 || a.Candidates[0].TP != 1 || a.Candidates[0].Cost != nil {
			t.Errorf("%+v", a)
		}
	})
	t.Run("an unknown GPU whose memory is reported is judged", func(t *testing.T) {
		t.Parallel()
		a := place.OnCluster(q, tab, skus, []place.Node{{Name: "x", Product: "Mystery-9000", MiB: 200000, Total: 1, Free: 1}})
		if len(a.Candidates) != 1 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("a pipeline may span nodes", func(t *testing.T) {
		t.Parallel()
		p, _, _ := query(t, "llama-3.3-70b", 8192, engine.Settings{TP: 2, PP: 2})
		p.Fixed = true
		a := place.OnCluster(p, tab, skus, []place.Node{h100("a", 2), h100("b", 2)})
		if len(a.Candidates) != 1 || a.Candidates[0].Machines != 2 || a.Candidates[0].GPUs != 4 {
			t.Fatalf("%+v", a)
		}
		if a := place.OnCluster(p, tab, skus, []place.Node{h100("a", 2)}); len(a.Candidates) != 0 {
			t.Errorf("one node of two GPUs holds four: %+v", a.Candidates)
		}
		if a := place.OnCluster(p, tab, skus, []place.Node{h100("a", 4)}); len(a.Candidates) != 1 || a.Candidates[0].Machines != 1 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the machine type says which GPUs it has", func(t *testing.T) {
		t.Parallel()
		small, _, _ := query(t, "phi-4-mini", 4096, engine.Settings{})
		a := place.OnCluster(small, tab, skus, []place.Node{{Name: "n", Total: 1, Free: 1, SKU: "Standard_NC24ads_A100_v4"}})
		if len(a.Candidates) != 1 || a.Candidates[0].GPU != "A100 80GB" || a.Candidates[0].Cost == nil {
			t.Errorf("%+v", a)
		}
	})
	t.Run("nothing free", func(t *testing.T) {
		t.Parallel()
		if a := place.OnCluster(q, tab, skus, nil); len(a.Refused) != 1 || !strings.Contains(a.Refused[0], "no node has a free GPU") {
			t.Errorf("%+v", a)
		}
	})
	t.Run("unpriced comes last", func(t *testing.T) {
		t.Parallel()
		n := h100("a", 4)
		n.SKU = ""
		a := place.OnCluster(q, tab, skus, []place.Node{n, h100("b", 8)})
		if len(a.Candidates) != 2 || a.Candidates[0].Cost == nil || a.Candidates[1].Cost != nil {
			t.Errorf("%+v", a.Candidates)
		}
	})
}
