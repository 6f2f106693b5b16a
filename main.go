// Command gumshoe says why a workload on Kubernetes does not run, and proves it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/term"

	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

func main() {
	collectLate(os.Getenv)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	cli.Quiet()
	code := cli.Run(ctx, os.Args[1:], streams())
	stop()
	os.Exit(code)
}

// collectLate lets a small heap grow without collections, for a short process
// hardly needs one, and keeps a large one below 300 MiB resident (measured at
// 5,000 nodes and 20,000 pods). GOGC and GOMEMLIMIT win where they are set.
func collectLate(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200)
		debug.SetMemoryLimit(220 << 20)
	}
}

// streams describes the process's own streams: whether a person is looking, and
// how wide the terminal is.
func streams() cli.Streams {
	s := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
	s.InTTY = term.IsTerminal(int(os.Stdin.Fd()))
	s.OutTTY = term.IsTerminal(int(os.Stdout.Fd()))
	s.ErrTTY = term.IsTerminal(int(os.Stderr.Fd()))
	if s.OutTTY {
		if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			s.Width = w
		}
	}
	return s
}
