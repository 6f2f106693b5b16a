package triage

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestUnmeasured(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]incident.Outcome{
		"KubePersistentVolumeFillingUp": incident.Inconclusive, "CPUThrottlingHigh": incident.Inconclusive, "NodeFilesystemAlmostOutOfSpace": incident.Inconclusive,
		"KubeAPIErrorBudgetBurn": incident.Inconclusive, "GPUXIDError": incident.Inconclusive, "HighMemoryUsage": incident.Inconclusive,
		"KubePodCrashLooping": incident.Healthy, "KubeDeploymentReplicasMismatch": incident.Healthy, "KubeNodeNotReady": incident.Healthy, "KubeHpaMaxedOut": incident.Healthy, "KubeJobFailed": incident.Healthy,
	} {
		d := incident.Diagnosis{Outcome: incident.Healthy}
		unmeasured(&incident.Alert{Name: name}, &d)
		if d.Outcome != want || (len(d.NotSeen) > 0) != (want == incident.Inconclusive) {
			t.Errorf("%s: %s, not seen %v", name, d.Outcome, d.NotSeen)
		}
	}
	found := incident.Diagnosis{Outcome: incident.RootCause}
	if unmeasured(&incident.Alert{Name: "CPUThrottlingHigh"}, &found); found.Outcome != incident.RootCause {
		t.Error("a cause that was found is taken back")
	}
}
