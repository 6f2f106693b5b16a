package dra

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestWhatIf(t *testing.T) {
	t.Parallel()
	zero, all := 0, -1
	job := func(in WhatIfIn) WhatIfIn { in.Namespace, in.Pod = "ml", "job-0"; return in }
	for _, tc := range []struct {
		name, fixture string
		in            WhatIfIn
		before, after int
		devices       int
		says          string
	}{
		{name: "as it is", fixture: "in-use", in: job(WhatIfIn{})},
		{name: "pod gone", fixture: "in-use", in: job(WhatIfIn{WithoutPod: "h0"}), after: 1, says: "does not preempt"},
		{name: "smaller", fixture: "in-use-count", in: job(WhatIfIn{Count: 2}), after: 2, devices: 4},
		{name: "on a node", fixture: "in-use-count", in: job(WhatIfIn{Count: 2, Node: "n1"}), after: 1, devices: 2, says: "gpu=gpu.acme.io/n1/gpu-2"},
		{name: "taint", fixture: "f23-taint-rule", in: job(WhatIfIn{IgnoreTaint: true}), after: 2, devices: 8},
		{name: "selector dropped", fixture: "f14-units", in: job(WhatIfIn{DropSelector: &zero}), after: 2, devices: 8},
		{name: "selector replaced", fixture: "f14-case", in: job(WhatIfIn{Selector: `device.attributes["gpu.acme.io"].model.contains("Tensor A1")`}), after: 2, devices: 8},
		{name: "class", fixture: "f12-class-missing", in: job(WhatIfIn{Class: "gpu.acme.io"}), after: 2, devices: 8},
		{name: "constraint", fixture: "f15-pcie-virtualised", in: job(WhatIfIn{DropConstraint: &all}), after: 2},
		{name: "cel error", fixture: "f13-cel-runtime", in: job(WhatIfIn{}), says: "CEL runtime error"},
		{name: "guarded", fixture: "f13-cel-runtime", in: job(WhatIfIn{Selector: `"fast" in device.attributes["gpu.acme.io"] && device.attributes["gpu.acme.io"].fast`}), after: 1, devices: 2},
		{name: "extended", fixture: "ext-in-use", in: job(WhatIfIn{WithoutPod: "ml/h1"}), after: 1},
		{name: "allocated already", fixture: "ok-running", in: job(WhatIfIn{Count: 4}), before: 1, after: 1, devices: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, objs := loadCase(t, "testdata/cases/"+tc.fixture+".yaml")
			res, err := call(t, newToolset(t, c, objs), "dra_what_if", tc.in)
			if err != nil {
				t.Fatal(err)
			}
			var out WhatIf
			if err := json.Unmarshal(res.Data, &out); err != nil {
				t.Fatal(err)
			}
			if out.Before != tc.before || out.After != tc.after || tc.devices != 0 && out.Devices != tc.devices || !strings.Contains(res.Text, tc.says) {
				t.Errorf("before %d after %d devices %d, want %d %d %d %q\n%s", out.Before, out.After, out.Devices, tc.before, tc.after, tc.devices, tc.says, res.Text)
			}
		})
	}
}

func TestWhatIfRefusesNonsense(t *testing.T) {
	t.Parallel()
	five := 5
	for _, tc := range []struct {
		fixture string
		in      WhatIfIn
		says    string
	}{
		{"in-use", WhatIfIn{Class: "nope"}, "DeviceClass nope does not exist"},
		{"in-use", WhatIfIn{Node: "nope"}, "node nope does not exist"},
		{"in-use", WhatIfIn{Count: -1}, "must be 1 or more"},
		{"in-use", WhatIfIn{DropSelector: &five}, "there is no selector 5"},
		{"in-use", WhatIfIn{DropConstraint: &five}, "have no constraints"},
		{"in-use", WhatIfIn{Selector: "device."}, "does not compile"},
		{"in-use", WhatIfIn{WithoutPod: "nobody"}, "no claim is held by pod ml/nobody"},
		{"f15-pcie-virtualised", WhatIfIn{Count: 2}, "several requests: gpu, nic"},
		{"f15-pcie-virtualised", WhatIfIn{Count: 2, Request: "x"}, "there is no request x"},
		{"ok-noclaims", WhatIfIn{}, "uses no claims"},
	} {
		c, objs := loadCase(t, "testdata/cases/"+tc.fixture+".yaml")
		tc.in.Namespace, tc.in.Pod = "ml", "job-0"
		_, err := call(t, newToolset(t, c, objs), "dra_what_if", tc.in)
		if err == nil || !strings.Contains(tool.UserText(err), tc.says) {
			t.Errorf("%+v: %v, want %q", tc.in, err, tc.says)
		}
	}
}

func TestDevicesExpression(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/f13-cel-runtime.yaml")
	res, err := call(t, newToolset(t, c, objs), "dra_devices", DevicesIn{Expression: `device.attributes["gpu.acme.io"].fast`})
	if err != nil {
		t.Fatal(err)
	}
	var out Devices
	if err := json.Unmarshal(res.Data, &out); err != nil {
		t.Fatal(err)
	}
	if out.Total != 4 || out.Matched != 2 || out.Errors != 2 || !strings.Contains(res.Text, "no such key: fast") {
		t.Errorf("%+v\n%s", out, res.Text)
	}
	if !slices.ContainsFunc(out.Values, func(v AttributeValues) bool { return v.Name == "gpu.acme.io/model" && v.Values == "2 A1, 2 B1" }) {
		t.Errorf("values %+v", out.Values)
	}
}

func TestDevicesOfClass(t *testing.T) {
	t.Parallel()
	for fixture, want := range map[string]string{"f14-class-driver": "dra.selector_excludes_all", "f01-no-slices": "dra.driver_no_slices", "f13-cel-class": "dra.cel_runtime_error", "ok-fits": ""} {
		c, objs := loadCase(t, "testdata/cases/"+fixture+".yaml")
		res, err := call(t, newToolset(t, c, objs), "dra_devices", DevicesIn{Class: "gpu"})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(res.Findings) > 0 {
			got = res.Findings[0].Code
		}
		if got != want {
			t.Errorf("%s: %q, want %q\n%s", fixture, got, want, res.Text)
		}
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/in-use-count.yaml")
	ts := newToolset(t, c, objs)
	res, err := call(t, ts, "dra_overview", OverviewIn{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"driver gpu.acme.io: 8 devices on 2 nodes, 4 allocated, 4 free, 0 tainted", "node n0 and 1 alike", "held by ml/a: 2 devices, pods a", "class gpu: 8 devices"} {
		if !strings.Contains(res.Text, want) {
			t.Errorf("no %q in\n%s", want, res.Text)
		}
	}
	res, err = call(t, ts, "dra_overview", OverviewIn{Node: "n1"})
	if err != nil || !strings.Contains(res.Text, "4 devices on 1 node, 2 allocated") {
		t.Errorf("%v\n%s", err, res.Text)
	}
	if _, err := call(t, ts, "dra_overview", OverviewIn{Node: "nope"}); tool.KindOf(err) != tool.NotFound {
		t.Errorf("unknown node: %v", err)
	}
}
