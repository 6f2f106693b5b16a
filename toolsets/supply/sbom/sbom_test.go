package sbom_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

const spdx = `{"spdxVersion":"SPDX-2.3","packages":[
 {"name":"image"},
 {"name":"libnccl2","versionInfo":"2.27.3-1+cuda12.9","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/ubuntu/libnccl2@2.27.3-1%2Bcuda12.9?arch=amd64"}]},
 {"name":"cuda-cudart-12-8","versionInfo":"12.8.90-1","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"x"},{"referenceType":"purl","referenceLocator":"pkg:deb/ubuntu/cuda-cudart-12-8@12.8.90-1"}]},
 {"name":"torch","versionInfo":"2.8.0","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:pypi/torch@2.8.0"}]},
 {"name":"curl","versionInfo":"8.5.0"}]}`

const cyclone = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[
 {"name":"libnccl2","version":"2.19.3","purl":"pkg:deb/ubuntu/libnccl2@2.19.3"},
 {"name":"cuda-cudart-13-0","version":"13.0.96-1","purl":"pkg:deb/ubuntu/cuda-cudart-13-0@13.0.96-1"},
 {"name":"app","version":"1","components":[{"name":"Torch","version":"2.9.0rc1","purl":"pkg:pypi/torch@2.9.0rc1"}]},
 {"name":"flash_attn","version":"2.8.3","purl":"pkg:pypi/flash-attn@2.8.3"}]}`

func parse(t *testing.T, s string) sbom.Document {
	t.Helper()
	d, err := sbom.Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDiffPutsTheGPUFirst(t *testing.T) {
	t.Parallel()
	a, b := parse(t, spdx), parse(t, cyclone)
	if a.Format != "SPDX-2.3" || b.Format != "CycloneDX-1.6" || len(b.Packages) != 5 {
		t.Errorf("%s %s %d", a.Format, b.Format, len(b.Packages))
	}
	var got []string
	for _, c := range sbom.Diff(a, b) {
		got = append(got, c.Part+": "+c.String())
	}
	want := []string{
		"CUDA: cuda-cudart-13-0 12.8.90-1 to 13.0.96-1 (newer)",
		"NCCL: libnccl2 2.27.3-1+cuda12.9 to 2.19.3 (older)",
		"framework: torch 2.8.0 to 2.9.0rc1 (newer)",
		"framework: flash-attn 2.8.3 (added)",
		": app 1 (added)", ": curl 8.5.0 (removed)", ": image  (removed)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d := sbom.Diff(a, a); len(d) != 0 {
		t.Errorf("a bill differs from itself: %v", d)
	}
	if v, ok := a.Find("nope", "TORCH"); !ok || v != "2.8.0" {
		t.Errorf("%q %v", v, ok)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"1.2", "1.2", 0}, {"1.9", "1.10", -1}, {"2.27.3", "2.19.3", 1}, {"1.2rc1", "1.2", -1}, {"1.2", "1.2.1", -1},
		{"2.9.0rc1", "2.8.0", 1}, {"1.2.dev3", "1.2", -1}, {"1.2-ubuntu1", "1.2", 1}, {"", "1", -1}, {"1.0a", "1.0b", -1}, {"1:2", "1:3", -1},
		{"999999999999999999999999", "1", -1},
	} {
		if got := sbom.Compare(tc.a, tc.b); got != tc.want {
			t.Errorf("%q and %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if got := sbom.Compare(tc.b, tc.a); got != -tc.want {
			t.Errorf("%q and %q: %d, want %d", tc.b, tc.a, got, -tc.want)
		}
	}
}

func TestKeyIsStableAcrossVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{"cuda-cudart-12-8", "cuda-cudart-13-0"}, {"libcudnn8", "libcudnn9"}, {"nvidia-nccl-cu12", "nvidia-nccl-cu13"}, {"flash_attn", "flash-attn"}} {
		if a, b := sbom.Key(sbom.Package{Name: pair[0]}), sbom.Key(sbom.Package{Name: pair[1]}); a != b {
			t.Errorf("%s and %s are %s and %s", pair[0], pair[1], a, b)
		}
	}
	if sbom.Key(sbom.Package{Name: "torch", Type: "pypi"}) == sbom.Key(sbom.Package{Name: "torch", Type: "conda"}) {
		t.Error("two ecosystems are one")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{``: "unexpected end", `[]`: "cannot unmarshal", `{"name":"x"}`: "neither SPDX 2 nor CycloneDX", `{"spdxVersion":"SPDX-2.3","packages":"x"}`: "cannot unmarshal"} {
		if _, err := sbom.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
	deep := strings.Repeat(`{"name":"x","components":[`, 50) + `{"name":"y"}` + strings.Repeat("]}", 50)
	if d := parse(t, `{"bomFormat":"CycloneDX","components":[`+deep+`]}`); len(d.Packages) > 10 {
		t.Errorf("%d packages of a nested bill", len(d.Packages))
	}
}

func FuzzSBOM(f *testing.F) {
	f.Add([]byte(spdx))
	f.Add([]byte(cyclone))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := sbom.Parse(raw)
		if err != nil {
			return
		}
		if len(sbom.Diff(d, d)) != 0 {
			t.Fatal("a bill differs from itself")
		}
		if _, err := json.Marshal(sbom.Diff(sbom.Document{}, d)); err != nil {
			t.Fatal(err)
		}
	})
}
