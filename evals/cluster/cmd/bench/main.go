// Command bench measures the figures of docs/benchmarks.md: it runs the built
// binary as a user would, on recorded incidents and against a real API server,
// and writes what it saw beside a plain client-go list in the same run.
//
//	bench [-bin FILE] [-out FILE] [-nodes N] [-pods N]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/prompt"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
)

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "../../bin/gumshoe", "the stripped binary")
	flag.StringVar(&o.out, "out", "../../docs/benchmarks.md", "where the page is written")
	flag.StringVar(&o.cases, "cases", "../cases", "directory of the cases")
	flag.IntVar(&o.nodes, "nodes", 5000, "nodes of the large cluster, each with one slice of 8 devices")
	flag.IntVar(&o.pods, "pods", 20000, "running pods of the large cluster; a quarter of them hold a claim")
	flag.BoolVar(&o.hold, "hold", false, "only make the large cluster, print its kubeconfig and wait: for a profile by hand")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin, out, cases string
	nodes, pods     int
	hold            bool
}

// row is one figure of the page.
type row struct{ what, target, measured, beside string }

func bench(ctx context.Context, o options) error {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	o.bin = bin
	if o.hold {
		_, err := large(ctx, o)
		return err
	}
	var rows []row
	for _, part := range []func(context.Context, options) ([]row, error){start, recorded, tokens, explain, server, healthy, large} {
		rs, err := part(ctx, o)
		if err != nil {
			return err
		}
		for _, r := range rs {
			fmt.Fprintf(os.Stderr, "%s: %s\n", r.what, r.measured)
		}
		rows = append(rows, rs...)
	}
	return os.WriteFile(o.out, []byte(page(ctx, o, rows)), 0o644)
}

// start measures how long nothing takes, and how large the binary is.
func start(ctx context.Context, o options) ([]row, error) {
	runs, err := repeat(ctx, 30, o.bin, nil, "version")
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(o.bin)
	if err != nil {
		return nil, err
	}
	return []row{
		{"start: `gumshoe version`, median of 30", "< 50 ms", millis(runs.median()), "HolmesGPT about 5.9 s (its users' report)"},
		{"binary, stripped", "< 100 MB", fmt.Sprintf("%.1f MB", float64(st.Size())/1e6), "kubectl-ai 105 MB, HolmesGPT bundle 144 MB"},
	}, nil
}

// recorded investigates every recorded incident with a process of its own.
func recorded(ctx context.Context, o options) ([]row, error) {
	cases, err := filepath.Glob(filepath.Join(o.cases, "*", "bundle"))
	if err != nil || len(cases) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no case in %s", o.cases))
	}
	var all samples
	for _, dir := range cases {
		s, err := repeat(ctx, 1, o.bin, []int{0, 3}, "demo", filepath.Base(filepath.Dir(dir)), "--output", "json")
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	return []row{
		{fmt.Sprintf("offline investigation of a bundle, cold process, %d cases: median, slowest", len(all)), "< 1 s", millis(all.median()) + ", " + millis(all.max()), "-"},
		{"memory of it (the bundle's API server is in the same process), largest", "< 100 MiB", mib(all.rss()), "HolmesGPT about 450 MiB"},
	}, nil
}

// tokens counts what a model is sent first.
func tokens(ctx context.Context, o options) ([]row, error) {
	body, err := firstRequest(ctx, o.bin)
	if err != nil {
		return nil, err
	}
	return []row{{"first request to a model: system prompt, tools, triage, question", "< 8k tokens", fmt.Sprintf("about %d tokens (%d bytes)", prompt.Tokens(string(body)), len(body)), "HolmesGPT 6.1k for the system prompt alone"}}, nil
}

// explain reads the package benchmark of the design's promise.
func explain(ctx context.Context, _ options) ([]row, error) {
	out, err := output(ctx, "../..", "go", "test", "./toolsets/dra", "-run", "^$", "-bench", "BenchmarkExplain1000x16", "-benchtime", "5x")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, m := range regexp.MustCompile(`(?m)^BenchmarkExplain1000x16/(\S+?)(?:-\d+)?\s+\d+\s+(\d+) ns/op`).FindAllStringSubmatch(out, -1) {
		ns, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{"explain a claim on 1,000 nodes × 16 devices: " + m[1], "< 1 s", millis(time.Duration(ns)), "the allocator alone 0.4-5 ms a node"})
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no benchmark in the output:\n%s", out)
	}
	return rows, nil
}

// healthy asks about 200 healthy nodes whose conditions are unusual.
func healthy(ctx context.Context, o options) ([]row, error) {
	cp, err := controlplane.Start(ctx, controlplane.Options{NoControllers: true, APIServerArgs: loadArgs()})
	if err != nil {
		return nil, err
	}
	defer cp.Stop()
	l, err := newLoad(cp.RESTConfig())
	if err != nil {
		return nil, err
	}
	const nodes = 200
	if err := l.fill(ctx, nodes, 4*nodes, true); err != nil {
		return nil, err
	}
	runs, err := repeat(ctx, 3, o.bin, nil, "investigate", "what is wrong with this cluster?", "--kubeconfig", cp.Kubeconfig(), "--output", "json")
	if err != nil {
		return nil, err
	}
	r, err := parse(runs[0].out)
	if err != nil {
		return nil, err
	}
	return []row{
		{"false findings on 200 healthy nodes with custom conditions, real API server", "0", fmt.Sprintf("%d (outcome %s)", len(r.Diagnosis.Causes)+len(r.Diagnosis.Unexplained), r.Diagnosis.Outcome), "k8sgpt 400 of 402"},
		{"the same: time and memory", "-", millis(runs.median()) + ", " + mib(runs.rss()), "-"},
	}, nil
}

// page writes the Markdown of all rows with the machine they were seen on.
func page(ctx context.Context, o options, rows []row) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`; no test asserts a time.\n\n")
	fmt.Fprintf(&b, "Machine: %s. Date: %s. Kubernetes %s.\n", machine(ctx), time.Now().UTC().Format(time.DateOnly), controlplane.KubernetesVersion)
	fmt.Fprintf(&b, "Large cluster: %d nodes, %d pods, %d claims, %d slices of 8 devices, made through the API of a real kube-apiserver; the real scheduler refused the pod that is asked about.\n\n", o.nodes, o.pods, o.pods/4, o.nodes)
	b.WriteString("| what | target | measured | beside |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.target, r.measured, r.beside)
	}
	b.WriteString("\nThe figures beside are those projects' own or their users' reports; they were not measured here.\n")
	return b.String()
}
