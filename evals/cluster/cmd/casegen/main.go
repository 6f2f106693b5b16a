// Command casegen makes the captured cases again: each scenario happens on a
// fresh control plane and is recorded as a bundle with its case.yaml.
//
//	casegen [-run RE] [-out DIR] [-missing | -only-yaml]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
)

func main() {
	run := flag.String("run", "", "only scenarios whose id matches this expression")
	out := flag.String("out", "../cases", "directory of the cases")
	in := flag.String("scenarios", "scenarios", "directory of the scenarios")
	missing := flag.Bool("missing", false, "only scenarios that have no case yet")
	onlyYAML := flag.Bool("only-yaml", false, "write case.yaml of the cases that are there, and leave their bundles as they are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := generate(ctx, *in, *out, *run, *missing, *onlyYAML); err != nil {
		fmt.Fprintln(os.Stderr, "casegen:", err)
		stop()
		os.Exit(1)
	}
}

func generate(ctx context.Context, in, out, run string, missing, onlyYAML bool) error {
	re, err := regexp.Compile(run)
	if err != nil {
		return err
	}
	all, err := scenario.Load(in)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range all {
		dir := filepath.Join(out, s.ID)
		if _, err := os.Stat(filepath.Join(dir, "bundle")); !re.MatchString(s.ID) || (missing && err == nil) {
			continue
		}
		if onlyYAML {
			errs = append(errs, rewrite(s, dir))
			continue
		}
		started := time.Now()
		if err := one(ctx, s, dir); err != nil {
			errs = append(errs, err)
			fmt.Fprintf(os.Stderr, "%-40s FAILED: %v\n", s.ID, err)
			continue
		}
		fmt.Fprintf(os.Stderr, "%-40s %.1fs\n", s.ID, time.Since(started).Seconds())
	}
	return errors.Join(errs...)
}

// one makes the incident and writes the case; an old one is replaced only by a
// whole new one.
func one(ctx context.Context, s scenario.Scenario, dir string) error {
	cp, err := controlplane.Start(ctx, controlplane.Options{Kwok: s.Kwok})
	if err != nil {
		return err
	}
	defer cp.Stop()
	hands, err := scenario.NewHands(cp.RESTConfig())
	if err != nil {
		return err
	}
	if err := scenario.Run(ctx, s, hands, time.Now()); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".casegen-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	denied := make([]bundle.Denied, 0, len(s.Denied))
	for _, d := range s.Denied {
		denied = append(denied, bundle.Denied(d))
	}
	_, err = bundle.Capture(ctx, cp.RESTConfig(), filepath.Join(tmp, "bundle"), bundle.CaptureOptions{
		Namespaces: s.Namespaces, Cluster: "test", Version: "casegen", Logs: s.Logs, Denied: denied,
		Now: func() time.Time { return time.Now().Add(time.Duration(s.Age)) },
	})
	if err != nil {
		return err
	}
	raw, err := caseYAML(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "case.yaml"), raw, 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return errors.Join(os.Chmod(tmp, 0o755), os.Rename(tmp, dir))
}

// rewrite writes the case.yaml of a case that is there.
func rewrite(s scenario.Scenario, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "bundle")); err != nil {
		return fmt.Errorf("case %s has no bundle yet: %w", s.ID, err)
	}
	raw, err := caseYAML(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "case.yaml"), raw, 0o644)
}

// caseYAML writes the case with its fields in their order of declaration.
func caseYAML(s scenario.Scenario) ([]byte, error) {
	raw, err := json.Marshal(s.Case)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(raw)
}
