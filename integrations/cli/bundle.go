package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func newBundle(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "bundle", Short: "Record a cluster, serve a recording, look into one", Args: argCount(0, 0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newCapture(g), newServe(g), newInspect(g))
	return cmd
}

func newCapture(g *globals) *cobra.Command {
	var namespaces []string
	var src sourceFlags
	cmd := &cobra.Command{
		Use: "capture OUT", Short: "Record a cluster into a directory or a .tar.zst, redacted; Secret values are never read", Args: argCount(1, 1, "one OUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := g.load(src)
			if err != nil {
				return err
			}
			if err := fresh(args[0]); err != nil {
				return usage(err)
			}
			sum, err := app.CaptureBundle(cmd.Context(), cfg, args[0], namespaces)
			if err != nil {
				return err
			}
			return sum.WriteText(g.streams.Out)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&namespaces, "namespace", "n", nil, "only this `NAMESPACE` (repeatable; default all)")
	fl.StringVar(&src.context, "context", "", "kubeconfig `CONTEXT`")
	fl.StringVar(&src.kubeconfig, "kubeconfig", "", "kubeconfig `FILE`")
	return cmd
}

// fresh reports whether a recording can be written there: nothing is in its place,
// and the directory around it is there.
func fresh(out string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s exists already; name a new directory or file", out)
	}
	if st, err := os.Stat(filepath.Dir(out)); err != nil || !st.IsDir() {
		return fmt.Errorf("%s cannot be written: %s is no directory", out, filepath.Dir(out))
	}
	return nil
}

func newServe(g *globals) *cobra.Command {
	var out, addr string
	cmd := &cobra.Command{
		Use: "serve DIR", Short: "Put a recording behind the Kubernetes, Prometheus and Alertmanager APIs on loopback; changes stay in memory", Args: argCount(1, 1, "one bundle"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := app.ServeBundle(cmd.Context(), args[0], addr, out, func(at app.Served) error {
				_, err := fmt.Fprintf(g.streams.Out, "serving %s at %s\n", args[0], at.Kubernetes)
				if err == nil && at.Metrics != "" {
					_, err = fmt.Fprintf(g.streams.Out, "Prometheus and Alertmanager at %s\n", at.Metrics)
				}
				if err == nil && at.Hubble != "" {
					_, err = fmt.Fprintf(g.streams.Out, "Hubble Observer at %s\n", at.Hubble)
				}
				if err == nil && out != "" {
					_, err = fmt.Fprintf(g.streams.Out, "kubectl --kubeconfig %s get pods -A\n", out)
				}
				return err
			})
			if _, ok := errors.AsType[*tool.Error](err); ok {
				return err
			}
			if err != nil {
				return usage(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "kubeconfig-out", "", "write a kubeconfig for it to this `FILE`; removed at the end")
	cmd.Flags().StringVar(&addr, "listen", "127.0.0.1:0", "`ADDRESS` to listen on")
	return cmd
}

func newInspect(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "inspect DIR", Short: "Summarise a recording", Args: argCount(1, 1, "one bundle"),
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			sum, err := app.InspectBundle(args[0])
			if err != nil {
				return &exitError{code: exitUnreachable, err: err}
			}
			if output == "json" {
				enc := json.NewEncoder(g.streams.Out)
				enc.SetIndent("", "  ")
				return enc.Encode(sum)
			}
			return sum.WriteText(g.streams.Out)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

func newDoctor(g *globals) *cobra.Command {
	var src sourceFlags
	var output string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what gumshoe can see from here, and what would open the rest", Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			cfg, err := g.load(src)
			if err != nil {
				return err
			}
			all := app.Doctor(cmd.Context(), cfg)
			if output == "json" {
				enc := json.NewEncoder(g.streams.Out)
				enc.SetIndent("", "  ")
				err = enc.Encode(all)
			} else {
				w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
				for _, h := range all {
					text := h.Text
					if h.Fix != "" {
						text += " (" + h.Fix + ")"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", h.State, h.What, text)
				}
				err = w.Flush()
			}
			if err != nil {
				return err
			}
			for _, h := range all {
				if h.State != "broken" {
					continue
				}
				switch h.What {
				case "model":
					return &exitError{code: exitModel}
				case "runbooks":
					return &exitError{code: exitUsage}
				}
				return &exitError{code: exitUnreachable}
			}
			return nil
		},
	}
	src.add(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}
