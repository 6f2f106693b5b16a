package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// server reads the package benchmarks of the server and of the terminal.
func server(ctx context.Context, _ options) ([]row, error) {
	out, err := output(ctx, "../..", "go", "test", "./integrations/app", "-run", "^$", "-bench", "^(BenchmarkAlertStorm|BenchmarkConcurrent200|BenchmarkRestartPending)$", "-benchtime", "1x", "-timeout", "30m")
	if err != nil {
		return nil, err
	}
	more, err := output(ctx, "../..", "go", "test", "./integrations/tui", "-run", "^$", "-bench", "^BenchmarkRedraw$", "-benchtime", "200x")
	if err != nil {
		return nil, err
	}
	return serverRows(out + more)
}

// serverRows makes rows of what those benchmarks print.
func serverRows(out string) ([]row, error) {
	seen := benchmarks(out)
	var missing []string
	get := func(name, unit string, digits int) string {
		v, ok := seen[name][unit]
		if !ok {
			missing = append(missing, name+" "+unit)
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	const storm, many, restart, redraw = "AlertStorm", "Concurrent200", "RestartPending", "Redraw"
	rows := []row{
		{"10,000 alerts of 500 groups over loopback, embedded store: webhook answer p50, p99", "-", get(storm, "answer-p50-ms", 1) + " ms, " + get(storm, "answer-p99-ms", 1) + " ms", "-"},
		{"the same: alerts taken; what came of them", "10,000 in 60 s", get(storm, "alerts/s", 0) + " alerts a second; " + get(storm, "sessions", 0) + " sessions with " + get(storm, "alerts-of-incidents", 0) + " alerts, " + get(storm, "investigations", 0) + " investigations; all accounted for after " + get(storm, "all-accounted-s", 1) + " s", "-"},
		{"200 questions at once, scripted model in the same process: memory of a run", "-", get(many, "MiB/run", 2) + " MiB", "-"},
		{"the same: runs, events", "-", get(many, "runs/s", 1) + " runs, " + get(many, "events/s", 0) + " events a second", "-"},
		{"the same: from an event to its reader over SSE, p50, p99", "-", get(many, "sse-p50-ms", 1) + " ms, " + get(many, "sse-p99-ms", 1) + " ms", "-"},
		{"start on a store with 1,000 plans that wait: ready; all plans listed", "-", get(restart, "ready-ms", 0) + " ms; " + get(restart, "listed-ms", 0) + " ms", "-"},
		{"the same: one status with their number", "-", get(restart, "status-ms", 0) + " ms", "-"},
	}
	ns := get(redraw, "ns/op", 0)
	if len(missing) > 0 {
		return nil, fmt.Errorf("no %s in the output:\n%s", strings.Join(missing, ", "), out)
	}
	took, err := strconv.ParseFloat(ns, 64)
	if err != nil {
		return nil, err
	}
	return append(rows, row{"terminal: one redraw above 10,000 lines while an answer comes", "-", fmt.Sprintf("%.2f ms", took/1e6), "-"}), nil
}

// benchmarks reads the output of go test -bench: values by benchmark, without "Benchmark"
// and the number of processors, and by unit.
func benchmarks(out string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		values := map[string]float64{}
		for i := 2; i < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				values = nil
				break
			}
			values[f[i+1]] = v
		}
		if values != nil {
			all[name] = values
		}
	}
	return all
}
