package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
)

var canaryBase64 = base64.StdEncoding.EncodeToString([]byte(canary)) //nolint:gochecknoglobals // a constant that the language cannot write

func has(t *testing.T, r incident.Report, text string) bool {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(raw), text) || strings.Contains(string(raw), canaryBase64)
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(fsys, path)
		out[path] = string(raw)
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%d files in %s: %v", len(out), dir, err)
	}
	return out
}

// agents are conditions that node agents and clouds write on healthy nodes:
// True is well for some and ill for others, and some say nothing either way.
func agents(i int) []corev1.NodeCondition {
	all := []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure"},
		{Type: "KernelDeadlock", Status: corev1.ConditionFalse, Reason: "KernelHasNoDeadlock"},
		{Type: "ReadonlyFilesystem", Status: corev1.ConditionFalse, Reason: "FilesystemIsNotReadOnly"},
		{Type: "FrequentKubeletRestart", Status: corev1.ConditionFalse, Reason: "NoFrequentKubeletRestart"},
		{Type: "FrequentContainerdRestart", Status: corev1.ConditionFalse, Reason: "NoFrequentContainerdRestart"},
		{Type: "VMEventScheduled", Status: corev1.ConditionFalse, Reason: "NoVMEventScheduled"},
		{Type: "GPUMissing", Status: corev1.ConditionFalse, Reason: "NoGPUMissing"},
		{Type: "NVLinkStatusInactive", Status: corev1.ConditionFalse, Reason: "NVLinkStatusActive"},
		{Type: "ContainerRuntimeReady", Status: corev1.ConditionTrue, Reason: "ContainerRuntimeIsReady"},
		{Type: "NetworkInterfaceReady", Status: corev1.ConditionTrue, Reason: "InterfacesUp"},
		{Type: "EtcdIsVoter", Status: corev1.ConditionTrue, Reason: "MemberNotLearner"},
		{Type: "AcceleratedHardwareReady", Status: corev1.ConditionTrue, Reason: "NvidiaAcceleratedHardwareIsReady"},
		{Type: "example.com/MaintenanceWindow", Status: corev1.ConditionTrue, Reason: "Agreed", Message: "Sundays, 02:00 to 04:00"},
		{Type: "example.com/FirmwareUpdate", Status: corev1.ConditionUnknown, Reason: "NeverAsked"},
	}
	var out []corev1.NodeCondition
	for k, c := range all {
		if (i+k)%4 != 0 {
			out = append(out, c)
		}
	}
	return out
}

// A large healthy cluster full of what looks like trouble is called healthy,
// and nothing is found to be wrong with it.
func TestHealthyClusterIsHealthy(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{Kwok: true})
	var fleet []scenario.Group
	for i := range 8 {
		g := gpus(fmt.Sprintf("ok%d", i), 25, 4)
		// One driver for all, as in a real fleet.
		g.Devices[0].Driver = "gpu.example.com"
		g.Conditions = agents(i)
		if i == 7 {
			g.Devices = nil
		}
		fleet = append(fleet, g)
	}
	var docs strings.Builder
	for i := range 12 {
		fmt.Fprintf(&docs, "{{deploy \"shop\" \"web-%d\" 5}}\napiVersion: v1\nkind: Service\nmetadata: {name: web-%d, namespace: shop}\nspec: {selector: {app: web-%d}, ports: [{port: 80, targetPort: 8080}]}\n---\n", i, i, i)
	}
	docs.WriteString(`{{class "gpu.example.com" "gpu.example.com"}}{{plugin "drivers" "gpu-plugin" "gpu.example.com" ""}}`)
	for i := range 10 {
		fmt.Fprintf(&docs, `{{hold "train" "job-%d" "gpu.example.com" 4 ""}}`, i)
	}
	l.run(t, fleet, scenario.Step{Apply: docs.String()})
	for i := range 12 {
		l.run(t, nil, scenario.Step{Wait: &scenario.FieldWait{Object: scenario.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: fmt.Sprintf("web-%d", i)}, Path: "status.readyReplicas", Value: "5"}})
	}
	for i := range 10 {
		l.run(t, nil, scenario.Step{Wait: &scenario.FieldWait{Object: scenario.Object{APIVersion: "v1", Kind: "Pod", Namespace: "train", Name: fmt.Sprintf("job-%d", i)}, Path: "status.phase", Value: "Running"}})
	}
	l.run(t, nil, scenario.Step{Wait: &scenario.FieldWait{Object: scenario.Object{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "drivers", Name: "gpu-plugin"}, Path: "status.numberReady", Value: "200"}})

	for _, q := range []string{"what is wrong with this cluster?", "what is wrong in namespace train?", "what is wrong in namespace shop?", "is node ok3-7 healthy?"} {
		r := ask(t, l.cp.Kubeconfig(), q)
		if r.Diagnosis.Outcome != incident.Healthy {
			t.Errorf("%s", tell(r))
		}
		if len(r.Diagnosis.Checked) == 0 {
			t.Errorf("%s: healthy, and nothing was checked", q)
		}
		for _, f := range r.Findings {
			if f.Role == incident.Symptom || f.Role == incident.Fault {
				t.Errorf("%s: a %s on %s is found: %s: %s", q, f.Role, f.Subject, f.Code, f.Message)
			}
		}
	}
}
