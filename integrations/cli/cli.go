// Package cli is gumshoe's command line: cobra commands over integrations/app.
// Results go to stdout, progress and complaints to stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// Streams are the process's own, so that tests can stand in.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// InTTY, OutTTY and ErrTTY say that a person is looking; Width is the columns of Out.
	InTTY, OutTTY, ErrTTY bool
	Width                 int
}

// color reports whether styles may be written to Out.
func (s Streams) color() bool {
	return s.OutTTY && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}

// Quiet keeps what client-go logs by itself from the terminal. Its logger is one of the
// process and may not be set while it is used: main does so once, before Run.
func Quiet() { klog.SetLogger(logr.FromSlogHandler(slog.DiscardHandler)) }

// Run executes a command line and gives the exit code. It never panics on bad
// input and never waits for an answer without a terminal.
func Run(ctx context.Context, args []string, s Streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = &exitError{code: exitInterrupted, err: errors.New("interrupted")}
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintln(s.Err, "gumshoe: "+tool.UserText(err))
	}
	return code(err)
}

// globals are the flags every command knows.
type globals struct {
	streams Streams
	config  string
}

func newRoot(s Streams) *cobra.Command {
	g := &globals{streams: s}
	var chat chatFlags
	root := &cobra.Command{
		Use:   "gumshoe",
		Short: "Say why a workload on Kubernetes does not run, and prove it",
		Long: "gumshoe finds out why AI workloads on Kubernetes misbehave: the root cause, the chain from\n" +
			"symptom to cause, and the evidence for each link. It works without a model. What it proposes becomes\n" +
			"a plan of exact requests; nothing is changed before a person approves it.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("unknown command %q; see gumshoe --help", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A person at a terminal wants to talk; anything else wants to know how.
			if s.InTTY && s.OutTTY {
				return g.chat(cmd.Context(), chat, "")
			}
			return cmd.Help()
		},
	}
	chat.add(root, g)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
	})
	root.PersistentFlags().StringVar(&g.config, "config", s.Getenv("GUMSHOE_CONFIG"), "configuration `FILE` (YAML)")
	root.AddCommand(
		newDemo(g), newInvestigate(g), newTools(g), newRunbooks(g), newBundle(g), newEval(g), newFit(g), newDoctor(g), newVersion(g),
		newPlan(g), newApprove(g), newReject(g), newApply(g), newUndo(g), newAudit(g), newPolicy(g), newRBAC(g),
		newServer(g), newChat(g), newSessions(g), newSlack(g), newMCP(g), newAPI(g),
	)
	return root
}

// exactArgs and its kin turn cobra's argument errors into usage errors.
func argCount(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || (high >= 0 && len(args) > high) {
			return usage(fmt.Errorf("%s takes %s, got %d arguments; see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath()))
		}
		return nil
	}
}

// load reads the configuration and lays the command's flags over it.
func (g *globals) load(f sourceFlags) (app.Config, error) {
	cfg, err := app.LoadConfig(g.config, g.streams.Getenv)
	if err != nil {
		return cfg, usage(err)
	}
	f.apply(&cfg)
	if err := cfg.Validate(); err != nil {
		return cfg, usage(err)
	}
	return cfg, nil
}

// sourceFlags say where the facts come from; they are the same everywhere.
type sourceFlags struct {
	namespace, context, kubeconfig, bundle string
}

func (f *sourceFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.namespace, "namespace", "n", "", "`NAMESPACE` the question is about")
	fl.StringVar(&f.context, "context", "", "kubeconfig `CONTEXT`")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `FILE` (default: KUBECONFIG, ~/.kube/config, the pod's own identity)")
	fl.StringVar(&f.bundle, "bundle", "", "read a captured bundle (`DIR` or .tar.zst) instead of a cluster")
}

func (f sourceFlags) apply(c *app.Config) {
	set := func(dst *string, v string) {
		if v != "" {
			*dst = v
		}
	}
	set(&c.Kubernetes.Namespace, f.namespace)
	set(&c.Kubernetes.Context, f.context)
	set(&c.Kubernetes.Kubeconfig, f.kubeconfig)
	set(&c.Bundle, f.bundle)
}
