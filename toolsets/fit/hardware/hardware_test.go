package hardware_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
)

func table(t *testing.T) hardware.Table {
	t.Helper()
	tab, err := hardware.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestFind(t *testing.T) {
	t.Parallel()
	tab := table(t)
	for name, want := range map[string]string{
		"NVIDIA-H100-80GB-HBM3": "H100", "NVIDIA H100 80GB HBM3": "H100", "h100": "H100", "NVIDIA-H100-NVL": "H100 NVL", "H100NVL": "H100 NVL",
		"NVIDIA-GH200-96GB": "GH200 96GB", "NVIDIA-H200": "H200", "NVIDIA-L40S": "L40S", "NVIDIA-L4": "L4", "Tesla-T4": "T4", "NVIDIA-A10G": "A10G", "NVIDIA-A10": "A10",
		"NVIDIA-A100-SXM4-40GB": "A100 40GB", "NVIDIA A100 80GB PCIe": "A100 80GB", "a100 80 gb": "A100 80GB", "NVIDIA-A100-SXM4-80GB": "A100 80GB",
		"Tesla-V100-SXM2-32GB": "V100 32GB", "NVIDIA B200": "B200", "NVIDIA GB200": "GB200", "NVIDIA GeForce RTX 5090": "RTX 5090", "AMD-Instinct-MI300X": "MI300X",
		"NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition": "RTX PRO 6000",
	} {
		m, err := tab.Find(name)
		if err != nil || m.Name != want || m.MIG != "" || m.Shared {
			t.Errorf("%s is %q (%v), want %q", name, m.Name, err, want)
		}
	}
	if m, err := tab.Find("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"); err != nil || m.MIG != "1g.10gb" {
		t.Errorf("a MIG slice: %+v %v", m, err)
	}
	if m, err := tab.Find("NVIDIA-A10-SHARED"); err != nil || !m.Shared || m.Name != "A10" {
		t.Errorf("a shared GPU: %+v %v", m, err)
	}
	for name, near := range map[string]string{"A100": "A100 40GB, A100 80GB", "H101": "H100", "L40": "L40S", "V100": "V100 16GB", "quadro": "", "": ""} {
		_, err := tab.Find(name)
		var nf *hardware.NotFound
		if !errors.As(err, &nf) {
			t.Errorf("%q is taken for something: %v", name, err)
			continue
		}
		if got := strings.Join(nf.Near, ", "); !strings.Contains(got, near) || near == "" && got != "" {
			t.Errorf("near %q: %q, want %q", name, got, near)
		}
	}
}

func TestTableIsSourced(t *testing.T) {
	t.Parallel()
	tab := table(t)
	last := 0
	for _, g := range tab.All() {
		if g.MiB < last {
			t.Errorf("%s is out of order", g.Name)
		}
		last = g.MiB
		if m, err := tab.Find(g.Name); err != nil || m.Name != g.Name {
			t.Errorf("%s does not find itself: %q %v", g.Name, m.Name, err)
		}
	}
	skus, err := hardware.SKUs(tab)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range skus {
		if s.Source == "" || s.Date == "" {
			t.Errorf("%s has a price without source or date", s.SKU)
		}
		if seen[s.SKU+s.Region] {
			t.Errorf("%s stands twice", s.SKU)
		}
		seen[s.SKU+s.Region] = true
		if s.SKU == "Standard_ND96isr_H100_v5" && s.Count != 8 {
			t.Errorf("%s has %d GPUs", s.SKU, s.Count)
		}
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	tab := table(t)
	base, err := hardware.SKUs(tab)
	if err != nil {
		t.Fatal(err)
	}
	mine := "- provider: aws\n  region: us-east-1\n  source: contract\n  date: 2026-11-01\n  skus:\n  - {sku: p5.48xlarge, usd: 40}\n  - {sku: own.8x, gpu: H100, count: 8, usd: 10}\n"
	got, err := hardware.Prices("mine.yaml", []byte(mine), tab, base)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range got {
		switch s.SKU {
		case "p5.48xlarge":
			n++
			if s.USD != 40 || s.Count != 8 || s.GPU != "H100" || s.Date != "2026-11-01" {
				t.Errorf("%+v", s)
			}
		case "own.8x":
			n++
		}
	}
	if n != 2 || len(got) != len(base)+1 {
		t.Errorf("%d of 2 rows, %d in all", n, len(got))
	}
	for _, tc := range []struct{ file, say string }{
		{"- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, gpu: H100, count: 8, usd: -1}]\n", "usd -1"},
		{"- provider: aws\n  skus: [{sku: p5.48xlarge, usd: 1}]\n", "source and date"},
		{"- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, usd: 1}]\n", "gpu and count"},
		{"- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, gpu: H101, count: 1, usd: 1}]\n", "H100"},
		{"- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, gpu: H100, count: 9000, usd: 1}]\n", "count 9000"},
		{"- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, gpu: H100, count: 1, usd: .nan}]\n", "mine.yaml"},
		{"- provider: aws\n  prices: []\n", "prices"},
		{"[", "mine.yaml"},
		{strings.Repeat("#", 5<<20), "more than"},
	} {
		if _, err := hardware.Prices("mine.yaml", []byte(tc.file), tab, base); err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%v does not say %q", err, tc.say)
		}
	}
}

// FuzzPrices: no price file makes the reader panic, and accepted prices are sane.
func FuzzPrices(f *testing.F) {
	tab, err := hardware.GPUs()
	if err != nil {
		f.Fatal(err)
	}
	base, err := hardware.SKUs(tab)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("- provider: aws\n  source: a\n  date: b\n  skus: [{sku: x, gpu: H100, count: 1, usd: 1.5}]\n"))
	f.Add([]byte("- {provider: a, skus: [{sku: p5.48xlarge}]}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := hardware.Prices("x", raw, tab, base)
		if err != nil {
			return
		}
		for _, s := range got {
			if s.USD < 0 || s.USD != s.USD || s.Count < 1 || s.GPU == "" {
				t.Errorf("%+v", s)
			}
		}
	})
}

// FuzzFind: a device's name comes from a cluster and may be anything.
func FuzzFind(f *testing.F) {
	tab, err := hardware.GPUs()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED")
	f.Add("MIG")
	f.Fuzz(func(t *testing.T, name string) {
		m, err := tab.Find(name)
		if err == nil && m.MiB <= 0 {
			t.Errorf("%q gives %+v", name, m)
		}
	})
}
