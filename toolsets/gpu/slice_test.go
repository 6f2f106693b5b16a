package gpu

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDevicesOfOlderVersions(t *testing.T) {
	t.Parallel()
	var o map[string]any
	if err := json.Unmarshal([]byte(`{"spec":{"devices":[{"name":"gpu-0","basic":{"attributes":{"uuid":{"string":"U"},"gpu.nvidia.com/index":{"int":3},"ok":{"bool":true},"none":{},"odd":7},
		"taints":[{"key":"gpu.nvidia.com/xid","value":"48","effect":"NoSchedule","timeAdded":"2026-11-27T17:00:00Z"},"odd"]}},"odd",{"name":7}]}}`), &o); err != nil {
		t.Fatal(err)
	}
	got := devicesOf(o)
	if len(got) != 2 || got[0].name != "gpu-0" || len(got[0].taints) != 1 || got[0].taints[0].value != "48" || got[0].taints[0].added.IsZero() {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(map[string]string{"uuid": "U", "index": "3", "ok": "true"}, got[0].attrs); diff != "" {
		t.Error(diff)
	}
}

func FuzzDevicesOf(f *testing.F) {
	f.Add(`{"spec":{"devices":[{"name":"a","attributes":{"d/uuid":{"string":"x"}},"taints":[{"key":"k"}]}]}}`)
	f.Add(`{"spec":{"devices":[{"basic":{"attributes":[]}},null,{"attributes":{"a":null}}]}}`)
	f.Add(`{"spec":[]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		var o map[string]any
		if json.Unmarshal([]byte(doc), &o) != nil {
			t.Skip()
		}
		for _, d := range devicesOf(o) {
			for k, v := range d.attrs {
				if v == "" {
					t.Fatalf("attribute %q without a value", k)
				}
			}
		}
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if _, err := loadLimits(); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	if got, err := loadStarts(); err != nil || len(got) < 10 {
		t.Errorf("%d %v", len(got), err)
	}
}

func FuzzAround(f *testing.F) {
	f.Add("Error: nvml error: driver not loaded: unknown", "nvml error")
	f.Add("\xffİ nvml", "nvml")
	f.Fuzz(func(t *testing.T, message, like string) {
		if got := around(message, like); len(got) > len(like)+2*80 {
			t.Fatalf("%d bytes", len(got))
		}
	})
}
