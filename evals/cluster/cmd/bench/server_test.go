package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

const printed = `goos: linux
pkg: github.com/gumshoe-ai/gumshoe/integrations/app
BenchmarkAlertStorm-2       	       1	7000000000 ns/op	      9000 alerts/s	      9990 alerts-of-incidents	         8.250 all-accounted-s	         3.500 answer-p50-ms	        41.25 answer-p99-ms	         4.000 investigations	         3.000 sessions
BenchmarkConcurrent200-2    	       1	9000000000 ns/op	         1.250 MiB/run	      1234 events/s	        22.20 runs/s	         8.000 sse-p50-ms	       120.0 sse-p99-ms
BenchmarkRestartPending-2   	       1	5000000000 ns/op	      1500 listed-ms	       400.0 ready-ms	       250.0 status-ms
PASS
BenchmarkRedraw     	     200	    1234567 ns/op	   70000 B/op	     900 allocs/op
BenchmarkTorn-2 	 1	x ns/op
PASS
`

func TestServerRows(t *testing.T) {
	t.Parallel()
	rows, err := serverRows(printed)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, r := range rows {
		all.WriteString(r.measured + "\n")
	}
	const want = `3.5 ms, 41.2 ms
9000 alerts a second; 3 sessions with 9990 alerts, 4 investigations; all accounted for after 8.2 s
1.25 MiB
22.2 runs, 1234 events a second
8.0 ms, 120.0 ms
400 ms; 1500 ms
250 ms
1.23 ms
`
	if all.String() != want {
		t.Errorf("got\n%swant\n%s", all.String(), want)
	}
	if _, err := serverRows(strings.ReplaceAll(printed, "sse-p99-ms", "ms")); err == nil || !strings.Contains(err.Error(), "Concurrent200 sse-p99-ms") {
		t.Errorf("a figure that is missing: %v", err)
	}
}

// The units are those that the benchmarks report.
func TestUnitsAreReported(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../../../integrations/app/server_bench_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range benchmarks(printed) {
		for unit := range values {
			if unit != "ns/op" && unit != "B/op" && unit != "allocs/op" && !strings.Contains(string(source), strconv.Quote(unit)) {
				t.Errorf("%s reports no %s any more", name, unit)
			}
		}
	}
}
