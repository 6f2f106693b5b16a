// Command gumshoe-nvml asks the NVIDIA driver's own library (NVML) about the GPUs
// of the machine it runs on and prints the answer as JSON, in the schema of package
// toolsets/gpu/nvml. It is a program of its own because NVML needs cgo and glibc,
// and because a call that the installed driver lacks ends the process: then one
// look is lost, and not the agent.
//
//	gumshoe-nvml --node n1                      one report on stdout
//	gumshoe-nvml --node n1 --watch 30s          wait for XID events first
//	gumshoe-nvml --node n1 --out DIR --every 1m DIR/n1.json, again and again
//
// It changes nothing on the machine. It must not run with LD_BIND_NOW set nor be
// linked with -z now: the symbols of newer drivers are looked up when they are called.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	lib "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, open)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "gumshoe-nvml:", err)
		os.Exit(1)
	}
}

// options of one run.
type options struct {
	node, out, library string
	watch, every       time.Duration
}

// parse reads the arguments.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("gumshoe-nvml", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.node, "node", os.Getenv("NODE_NAME"), "name of the Kubernetes node (NODE_NAME)")
	f.StringVar(&o.out, "out", "", "directory to write NODE.json into; empty prints to stdout")
	f.StringVar(&o.library, "library", "", "path of libnvidia-ml.so.1, where it is not found by itself")
	f.DurationVar(&o.watch, "watch", 0, "how long to wait for XID events before the report")
	f.DurationVar(&o.every, "every", 0, "write again after this time; needs --out")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("argument %q is not understood; see --help", f.Arg(0))
	case o.watch < 0 || o.every < 0:
		return o, errors.New("--watch and --every cannot be negative")
	case o.every > 0 && o.out == "":
		return o, errors.New("--every needs --out DIR")
	case o.out != "" && o.node == "":
		return o, errors.New("--out needs --node NAME: the file is called after it")
	case strings.ContainsAny(o.node, "/\\") || o.node == "..":
		return o, fmt.Errorf("--node %q is not the name of a node", o.node)
	}
	return o, nil
}

// open makes the library's handle; it is loaded by Init.
func open(path string) lib.Interface {
	if path == "" {
		return lib.New()
	}
	return lib.New(lib.WithLibraryPath(path))
}

// run loads the library, looks and writes, until ctx ends where it repeats.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, open func(string) lib.Interface) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	l := open(o.library)
	// Nothing may be called before Init has succeeded, not even ErrorString: the
	// process would end.
	switch ret := l.Init(); ret {
	case lib.SUCCESS:
	case lib.ERROR_LIBRARY_NOT_FOUND:
		return errors.New("libnvidia-ml.so.1 is not found: no NVIDIA driver on this machine, or the container has no access to it (runtime class nvidia, capability utility)")
	case lib.ERROR_DRIVER_NOT_LOADED:
		return errors.New("the NVIDIA driver is not loaded on this machine")
	case lib.ERROR_NO_PERMISSION:
		return errors.New("this container may not open /dev/nvidiactl: use the runtime class nvidia, or mount the device")
	default:
		return fmt.Errorf("NVML does not start: code %d", int(ret))
	}
	defer func() { _ = l.Shutdown() }()
	r := newReader(l, healthOf)
	for {
		rep := r.report(ctx, o.node, o.watch)
		if err := write(rep, o, stdout); err != nil {
			return err
		}
		if o.every <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
}

// write prints the report, or puts it in place of the file at once.
func write(rep nvml.Report, o options, stdout io.Writer) error {
	raw, err := json.MarshalIndent(rep, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	raw = append(raw, '\n')
	if o.out == "" {
		_, err := stdout.Write(raw)
		return err
	}
	tmp, err := os.CreateTemp(o.out, "."+o.node+".*")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, werr := tmp.Write(raw)
	if err := errors.Join(werr, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return os.Rename(tmp.Name(), filepath.Join(o.out, o.node+".json"))
}

// healthOf reads the health mask of the fabric, which needs the second version of
// the call; nil where it is not told.
func healthOf(d lib.Device) *uint32 {
	info, ret := d.GetGpuFabricInfoV().V2()
	if ret != lib.SUCCESS {
		return nil
	}
	return &info.HealthMask
}
