package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// KubernetesVersion is the version of the control plane's own binaries; go.mod
// of this module pins the same.
const KubernetesVersion = "v1.37.2"

// program is one binary and the module it is built in.
type program struct {
	name, pkg string
	// dir is the module directory below this module's root.
	dir string
}

func programs() []program {
	k := func(n string) program { return program{name: n, pkg: "k8s.io/kubernetes/cmd/" + n, dir: "."} }
	return []program{
		k("kube-apiserver"), k("kube-scheduler"), k("kube-controller-manager"), k("kubectl"),
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3", dir: "tools/etcd"},
		{name: "kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok", dir: "tools/kwok"},
	}
}

// Build makes the binaries, once per user and per set of pinned versions, and
// gives the directory that holds them. A cold build takes about 15 CPU-minutes;
// a lock lets parallel test processes wait for one build. log may be nil.
func Build(ctx context.Context, log func(string)) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	key, err := buildKey(root)
	if err != nil {
		return "", err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory for the control plane's binaries: %w", err)
	}
	dir := filepath.Join(base, "gumshoe", "controlplane", key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("build lock: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("build lock: %w", err)
	}
	for _, p := range programs() {
		out := filepath.Join(dir, p.name)
		if _, err := os.Stat(out); err == nil {
			continue
		}
		if log != nil {
			log("building " + p.name)
		}
		if err := buildOne(ctx, root, p, out); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// buildOne builds to a temporary name and renames, so that a killed build
// leaves nothing that looks finished.
func buildOne(ctx context.Context, root string, p program, out string) error {
	tmp := out + ".building"
	args := []string{"build", "-trimpath", "-o", tmp, "-ldflags", ldflags(), p.pkg}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(root, p.dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("build %s: %w: %s", p.name, err, tail(errs.Bytes(), 2000)), os.RemoveAll(tmp))
	}
	return os.Rename(tmp, out)
}

// kwokStages names the stages of kwok's own module that make a bound pod run
// and a deleted one go; a pod on a node without kwok's annotation is left alone.
func kwokStages(ctx context.Context) ([]string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	cmd.Dir = filepath.Join(root, "tools/kwok")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find kwok's module: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "kustomize/stage")
	var args []string
	for _, stage := range []string{"node/fast/node-initialize.yaml", "pod/fast/pod-ready.yaml", "pod/fast/pod-delete.yaml"} {
		args = append(args, "--config="+filepath.Join(dir, filepath.FromSlash(stage)))
	}
	return args, nil
}

func ldflags() string {
	v := strings.SplitN(strings.TrimPrefix(KubernetesVersion, "v"), ".", 3)
	set := func(name, value string) string { return " -X k8s.io/component-base/version." + name + "=" + value }
	return "-s -w" + set("gitVersion", KubernetesVersion) + set("gitMajor", v[0]) + set("gitMinor", v[1])
}

// moduleRoot is the directory of this module, wherever the tests run from.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gumshoe-ai/gumshoe/evals/cluster").Output()
	if err != nil {
		return "", fmt.Errorf("find the evals/cluster module (run inside it): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildKey changes when a pinned version or the compiler changes.
func buildKey(root string) (string, error) {
	h := sha256.New()
	for _, f := range []string{"tools/etcd/go.sum", "tools/kwok/go.sum"} {
		raw, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			return "", fmt.Errorf("pinned versions: %w", err)
		}
		h.Write(raw)
	}
	return KubernetesVersion + "-" + runtime.Version() + "-" + hex.EncodeToString(h.Sum(nil))[:12], nil
}

func tail(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return strings.TrimSpace(string(b))
}
