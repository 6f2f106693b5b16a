package controlplane_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
)

// Two control planes stand side by side, answer for themselves, know their
// version, and give an unknown user nothing.
func TestParallelInstances(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a := controlplane.ForTest(t, controlplane.Options{Users: map[string]string{"reader": "reader-token"}})
	b := controlplane.ForTest(t, controlplane.Options{Kwok: true})
	ca, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := kubernetes.NewForConfig(b.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	v, err := ca.Discovery().ServerVersion()
	if err != nil || v.GitVersion != controlplane.KubernetesVersion {
		t.Errorf("version %v, %v", v, err)
	}
	ns, err := ca.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := cb.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil || other.UID == ns.UID {
		t.Errorf("both clients reach the same cluster: %v, %v", other, err)
	}
	reader, err := kubernetes.NewForConfig(a.UserConfig("reader-token"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err == nil || !strings.Contains(err.Error(), `User "reader" cannot list resource "pods"`) {
		t.Errorf("a user without rights listed pods: %v", err)
	}
}

const childEnv = "GUMSHOE_CONTROLPLANE_CHILD"

// A test that is killed in the middle leaves no process behind.
func TestNothingSurvivesAKill(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		cp, err := controlplane.Start(context.Background(), controlplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("STARTED " + cp.Kubeconfig() + "\n")
		select {}
	}
	t.Parallel()
	if _, err := controlplane.Build(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingSurvivesAKill$")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	text := ""
	for !strings.Contains(text, "STARTED") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the child ended: %v: %s", err, text)
		}
		text += string(buf[:n])
	}
	dir := strings.TrimSuffix(strings.TrimSpace(strings.SplitN(text, "STARTED ", 2)[1]), "/kubeconfig")
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if pids := using(t, dir); len(pids) < 3 {
		t.Fatalf("only %d processes run in %s", len(pids), dir)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(using(t, dir)) > 0 {
		select {
		case <-deadline:
			for _, pid := range using(t, dir) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			t.Fatal("processes outlived the killed test")
		case <-tick.C:
		}
	}
}

// using lists the processes whose command line names the directory.
func using(t *testing.T, dir string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(raw), dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}
