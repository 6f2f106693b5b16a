package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// sample is one run of a process.
type sample struct {
	wall time.Duration
	// rss is the largest resident set, in KiB.
	rss int64
	out []byte
}

type samples []sample

func (s samples) median() time.Duration {
	walls := make([]time.Duration, 0, len(s))
	for _, x := range s {
		walls = append(walls, x.wall)
	}
	slices.Sort(walls)
	return walls[len(walls)/2]
}

func (s samples) max() time.Duration {
	var m time.Duration
	for _, x := range s {
		m = max(m, x.wall)
	}
	return m
}

func (s samples) rss() int64 {
	var m int64
	for _, x := range s {
		m = max(m, x.rss)
	}
	return m
}

// repeat runs a command n times. Exit codes beside 0 are fine when listed.
func repeat(ctx context.Context, n int, bin string, codes []int, args ...string) (samples, error) {
	var all samples
	for range n {
		cmd := exec.CommandContext(ctx, bin, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		watch := highWater(cmd.Process.Pid)
		err := cmd.Wait()
		s := sample{wall: time.Since(begin), out: out.Bytes(), rss: watch()}
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || !slices.Contains(codes, exit.ExitCode())) {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, errs.String())
		}
		all = append(all, s)
	}
	return all, nil
}

// highWater follows the peak resident memory of a process, in KiB, until the
// returned function is called. The rusage of a child would not do: on Linux it
// starts at what the parent held when it made the child.
func highWater(pid int) (stop func() int64) {
	done, peak := make(chan struct{}), make(chan int64, 1)
	go func() {
		var last int64
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if _, rest, ok := strings.Cut(string(raw), "VmHWM:"); err == nil && ok {
				var kib int64
				if _, err := fmt.Sscan(rest, &kib); err == nil {
					last = max(last, kib)
				}
			}
			select {
			case <-done:
				peak <- last
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(done); return <-peak }
}

func output(ctx context.Context, dir string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func parse(raw []byte) (incident.Report, error) {
	var r incident.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("report: %w\n%s", err, raw)
	}
	return r, nil
}

// firstRequest gives the body of the first request that the demo makes to a
// model; the server behind it then refuses to go on.
func firstRequest(ctx context.Context, bin string) ([]byte, error) {
	bodies := make(chan []byte, 64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			select {
			case bodies <- body:
			default:
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":{"message":"the benchmark has seen enough","type":"invalid_request_error","code":"invalid_api_key"}}`)
	}))
	defer server.Close()
	cmd := exec.CommandContext(ctx, bin, "demo", "--model", "compatible/bench")
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+server.URL+"/v1", "OPENAI_API_KEY=none")
	out, _ := cmd.CombinedOutput()
	for {
		select {
		case body := <-bodies:
			if len(body) > 0 {
				return body, nil
			}
		default:
			return nil, fmt.Errorf("the demo asked no model:\n%s", out)
		}
	}
}

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

func mib(kib int64) string { return fmt.Sprintf("%d MiB", kib/1024) }

// machine names the processor, the cores, the memory and the Go version.
func machine(ctx context.Context) string {
	model, memory := "unknown processor", "unknown memory"
	scan := func(file, key string) string {
		f, err := os.Open(file)
		if err != nil {
			return ""
		}
		defer func() { _ = f.Close() }()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if k, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	if v := scan("/proc/cpuinfo", "model name"); v != "" {
		model = v
	}
	if v := scan("/proc/meminfo", "MemTotal"); v != "" {
		memory = v
	}
	commit, err := output(ctx, ".", "git", "rev-parse", "--short", "HEAD")
	if err != nil {
		commit = "unknown"
	}
	return fmt.Sprintf("%s, %d cores, %s, %s, commit %s", model, runtime.NumCPU(), memory, runtime.Version(), strings.TrimSpace(commit))
}
