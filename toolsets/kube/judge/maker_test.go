package judge

import "testing"

func TestBelow(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered": "hardware",
		"OSError: [Errno 30] Read-only file system: '/data/x'":                    "hardware",
		"NVRM: Xid (PCI:0000:9b:00): 79":                                          "hardware",
		"dial tcp 10.0.0.1:5432: i/o timeout":                                     "",
		"could not load configuration":                                            "",
	} {
		if got := below(line); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// Each maker names a served resource and the kind that it makes.
func TestMakersAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range makers() {
		if m.resource == "" || m.group == "" || m.kind == "" || m.makes != "Secret" && m.makes != "ConfigMap" || seen[m.resource+m.group] {
			t.Errorf("%+v", m)
		}
		seen[m.resource+m.group] = true
	}
}
