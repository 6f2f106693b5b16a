// Command controlplane builds or runs the control plane of the tests.
//
//	controlplane build        build the binaries into the user's cache
//	controlplane up [--kwok]  run one, print its kubeconfig, end with Ctrl-C
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	log := func(s string) { fmt.Fprintln(os.Stderr, s) }
	switch {
	case len(args) == 1 && args[0] == "build":
		dir, err := controlplane.Build(ctx, log)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, dir)
		return nil
	case len(args) >= 1 && args[0] == "up":
		cp, err := controlplane.Start(ctx, controlplane.Options{Kwok: slices.Contains(args, "--kwok"), Log: log})
		if err != nil {
			return err
		}
		defer cp.Stop()
		fmt.Fprintln(os.Stdout, cp.Kubeconfig())
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("usage: controlplane build | up [--kwok]")
}
