package dra

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func lintWorld(t testing.TB) *Toolset {
	t.Helper()
	c, objs := loadCase(t, "testdata/cases/f15-missing.yaml")
	return newToolset(t, c, objs)
}

func TestLint(t *testing.T) {
	t.Parallel()
	ts := lintWorld(t)
	claim := func(devices string) string {
		return "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {name: c, namespace: ml}\nspec: {devices: {" + devices + "}}\n"
	}
	for _, tc := range []struct {
		name, manifest string
		level, says    string
	}{
		{"fine", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu}}]"), "", ""},
		{"unknown class", claim("requests: [{name: gpu, exactly: {deviceClassName: gpuu}}]"), "error", "DeviceClass gpuu does not exist; there is gpu"},
		{"compile", claim(`requests: [{name: gpu, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: 'device.nope'}}]}}]`), "error", "does not compile"},
		{"not boolean", claim(`requests: [{name: gpu, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: 'device.driver'}}]}}]`), "error", "does not compile"},
		{"missing key", claim(`requests: [{name: gpu, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: 'device.attributes["gpu.acme.io"].fast'}}]}}]`), "error", "no such key"},
		{"no value", claim(`requests: [{name: gpu, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: 'device.attributes["gpu.acme.io"].model == "Z9"'}}]}}]`), "error", `wants model to be "Z9"`},
		{"count", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu, count: 9}}]"), "error", "no node has more than 4"},
		{"33 devices", claim("requests: [{name: a, exactly: {deviceClassName: gpu, count: 30}}, {name: b, exactly: {deviceClassName: gpu, count: 3}}]"), "error", "33 devices together"},
		{"all and count", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu, allocationMode: All, count: 2}}]"), "error", "not allowed with allocationMode All"},
		{"unqualified", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu}}], constraints: [{matchAttribute: model}]"), "error", "must be fully qualified"},
		{"absent attribute", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu}}], constraints: [{matchAttribute: acme.io/rail}]"), "error", "none of the 8 devices"},
		{"constraint request", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu}}], constraints: [{matchAttribute: gpu.acme.io/model, requests: [nic]}]"), "error", "there is no request nic"},
		{"admin", claim("requests: [{name: gpu, exactly: {deviceClassName: gpu, adminAccess: true}}]"), "warning", "resource.kubernetes.io/admin-access=true"},
		{"misspelt field", claim("requests: [{name: gpu, exactly: {deviceClass: gpu}}]"), "error", "unknown field"},
		{"v1beta1", strings.Replace(claim("requests: [{name: gpu, deviceClassName: gpu}]"), "v1\n", "v1beta1\n", 1), "error", "v1beta1 has no"},
		{"empty rule", "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: r}\nspec: {deviceSelector: {}, taint: {key: k, effect: NoExecute}}", "error", "every device of the cluster"},
		{"rule without selector", "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: r}\nspec: {taint: {key: k, effect: NoSchedule}}", "warning", "taints no device"},
		{"rule effect", "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: r}\nspec: {deviceSelector: {driver: gpu.acme.io}, taint: {key: k, effect: Never}}", "error", `effect "Never"`},
		{"class", "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: x}\nspec: {selectors: [{cel: {expression: 'device.driver == \"gone.io\"'}}]}", "warning", "matches no device"},
		{"class open", "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: x}\nspec: {selectors: [{cel: {expression: 'true'}}]}", "warning", "devices of other drivers"},
		{"pod", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ml}\nspec: {containers: [{name: a, resources: {claims: [{name: x}]}}], resourceClaims: [{name: y, resourceClaimTemplateName: gone}]}", "error", "ResourceClaimTemplate gone does not exist"},
		{"no yaml", "a: [", "error", "no YAML object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			res, err := call(t, ts, "dra_lint", LintIn{Manifest: strings.ReplaceAll(tc.manifest, `\"`, `"`)})
			if err != nil {
				t.Fatal(err)
			}
			var out Lint
			if err := json.Unmarshal(res.Data, &out); err != nil {
				t.Fatal(err)
			}
			if tc.says == "" {
				if len(out.Issues) != 0 {
					t.Errorf("%s", res.Text)
				}
				return
			}
			for _, i := range out.Issues {
				if i.Level == tc.level && strings.Contains(i.Message, tc.says) {
					return
				}
			}
			t.Errorf("no %s %q in\n%s", tc.level, tc.says, res.Text)
		})
	}
}

// TestLintBringsItsOwnClass: a class in the same manifest counts as existing.
func TestLintBringsItsOwnClass(t *testing.T) {
	t.Parallel()
	res, err := call(t, lintWorld(t), "dra_lint", LintIn{Manifest: `apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: mine}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.acme.io"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: mine}}]}}
`})
	if err != nil || !strings.HasPrefix(res.Text, "2 documents, 0 errors") {
		t.Errorf("%v\n%s", err, res.Text)
	}
}

func TestLintTooLarge(t *testing.T) {
	t.Parallel()
	if _, err := call(t, lintWorld(t), "dra_lint", LintIn{Manifest: strings.Repeat("a", maxManifest+1)}); tool.KindOf(err) != tool.Invalid {
		t.Errorf("%v", err)
	}
}

// FuzzLint: no manifest, however odd, panics or hangs.
func FuzzLint(f *testing.F) {
	ts := lintWorld(f)
	for _, s := range []string{
		"", "---\n---\n", "kind: ResourceClaim", "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nspec: {devices: {requests: [{}], constraints: [{}]}}",
		"kind: DeviceClass\nspec: {selectors: [{}]}", "kind: DeviceTaintRule\nspec: {deviceSelector: {}}", "kind: Pod\nspec: {resourceClaims: [{}]}",
		"kind: ResourceClaimTemplate\nspec: {spec: {devices: {requests: [{name: a, firstAvailable: [{}]}]}}}",
		"kind: ResourceClaim\nspec: {devices: {requests: [{name: a, exactly: {deviceClassName: gpu, count: 9223372036854775807, selectors: [{cel: {expression: 'device.attributes[device.driver].x == 1 || !true'}}]}}]}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, manifest string) {
		if _, err := ts.lint(context.Background(), LintIn{Manifest: manifest}); err != nil && tool.KindOf(err) == tool.Internal {
			t.Errorf("%v", err)
		}
	})
}
