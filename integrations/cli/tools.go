package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

func newTools(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "tools", Short: "List the read-only tools, or call one", Args: argCount(0, 0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newToolsList(g), newToolsCall(g))
	return cmd
}

func newToolsList(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List the tools and what they take", Args: argCount(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			infos, err := app.Tools()
			if err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(g.streams.Out)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(infos)
			case "text":
				w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "TOOL\tEFFECT\tTAKES\tANSWERS")
				for _, t := range infos {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, t.Effect, t.Takes, clip(render.Clean(t.Text), 90))
				}
				return w.Flush()
			}
			return usage(fmt.Errorf("--output %q is neither text nor json", output))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

func newToolsCall(g *globals) *cobra.Command {
	var src sourceFlags
	var args, output string
	var probe bool
	cmd := &cobra.Command{
		Use: "call NAME --args JSON", Short: "Call one tool and print what it answers",
		Example: "  gumshoe tools call dra_explain --args '{\"namespace\":\"train\",\"pod\":\"llama-0\"}' --bundle ./incident",
		Args:    argCount(1, 1, "one tool NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !json.Valid([]byte(args)) {
				return usage(fmt.Errorf("--args %q is not valid JSON", args))
			}
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			cfg, err := g.load(src)
			if err != nil {
				return err
			}
			cfg.AllowProbe = probe
			a, err := app.New(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer func() { _ = a.Close() }()
			answer, err := a.CallTool(cmd.Context(), names[0], json.RawMessage(args))
			if err != nil {
				return err
			}
			return printAnswer(g.streams.Out, answer, output)
		},
	}
	src.add(cmd)
	cmd.Flags().StringVar(&args, "args", "{}", "arguments as `JSON`")
	cmd.Flags().BoolVar(&probe, "allow-probe", false, "let a tool of effect probe touch the workload (serving_probe sends one request)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

// printAnswer writes one tool's answer; its text ends with its findings.
func printAnswer(w io.Writer, a app.ToolAnswer, output string) error {
	if output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(a)
	}
	if a.Evidence.Error != "" {
		return errors.New(a.Evidence.Error)
	}
	_, err := fmt.Fprintln(w, a.Evidence.Text)
	return err
}
