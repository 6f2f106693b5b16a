package controlplane_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// TestChild is the test that ends badly; it runs only inside TestNothingSurvives.
func TestChild(t *testing.T) {
	end := os.Getenv(childEnv)
	if end == "" {
		t.Skip("it fails on purpose, for TestNothingSurvives")
	}
	cp := controlplane.ForTest(t, controlplane.Options{NoControllers: true})
	os.Stdout.WriteString("STARTED " + cp.Kubeconfig() + "\n")
	switch end {
	case "fatal":
		t.Fatal("on purpose")
	case "panic":
		panic("on purpose")
	case "exit":
		os.Exit(3)
	}
	select {} // until it is killed
}

// However a test ends, by failing, panicking, exiting or being killed, none of
// its processes is left behind.
func TestNothingSurvives(t *testing.T) {
	t.Parallel()
	if _, err := controlplane.Build(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"fatal", "panic", "exit", "kill"} {
		t.Run(end, func(t *testing.T) { survives(t, end) })
	}
}

func survives(t *testing.T, end string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+end)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	dir, said := "", ""
	for dir == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if _, kubeconfig, ok := strings.Cut(lines.Text(), "STARTED "); ok {
			dir = filepath.Dir(kubeconfig)
		}
	}
	if dir == "" {
		t.Fatalf("the child ended: %v\n%s", lines.Err(), said)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if end == "kill" {
		if pids := using(t, dir); len(pids) < 3 {
			t.Fatalf("only %d processes run in %s", len(pids), dir)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child was meant to end badly")
	}
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(using(t, dir)) > 0 {
		select {
		case <-deadline:
			for _, pid := range using(t, dir) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			t.Fatal("processes outlived the test")
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
