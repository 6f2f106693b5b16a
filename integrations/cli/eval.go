package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func newEval(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "eval", Short: "Measure the investigator on recorded incidents", Args: argCount(0, 0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newEvalRun(g))
	return cmd
}

func newEvalRun(g *globals) *cobra.Command {
	var dir, filter, model, output string
	var runs int
	var remediate bool
	cmd := &cobra.Command{
		Use: "run", Short: "Investigate every case and grade the answers", Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			if runs < 1 {
				return usage(fmt.Errorf("--runs %d: at least 1", runs))
			}
			cases, err := selectCases(dir, filter)
			if err != nil {
				return usage(err)
			}
			cfg, err := g.load(sourceFlags{})
			if err != nil {
				return err
			}
			if model != "" {
				cfg.Model.Name = model
			}
			if err := cfg.Validate(); err != nil {
				return usage(err)
			}
			known, err := app.KnownActions()
			if err != nil {
				return err
			}
			factory, err := app.NewFactory(cfg)
			if err != nil {
				return err
			}
			investigate := func(ctx context.Context, c evals.Case) (incident.Report, error) {
				a, err := factory.FromBundle(ctx, c.Bundle)
				if err != nil {
					return incident.Report{}, err
				}
				defer func() { _ = a.Close() }()
				return a.Investigate(ctx, c.Ask(), event.SinkFunc(func(event.Event) {}))
			}
			o := evals.Options{Runs: runs, Known: known, Progress: func(r evals.Row) {
				if g.streams.ErrTTY {
					fmt.Fprintf(g.streams.Err, "\r\x1b[2K%s", r.Case)
				}
			}}
			if remediate {
				o.Remediate = factory.Remediate
			}
			res, err := evals.Run(cmd.Context(), cases, investigate, o)
			if g.streams.ErrTTY {
				fmt.Fprint(g.streams.Err, "\r\x1b[2K")
			}
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(g.streams.Out)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(res)
			}
			return res.WriteText(g.streams.Out)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "cases", "", "`DIR` of cases (default: the ones that ship)")
	fl.StringVar(&filter, "filter", "", "only cases whose id matches this `RE`")
	fl.StringVar(&model, "model", "", "\"offline\" or `PROVIDER/NAME`")
	fl.BoolVar(&remediate, "remediate", true, "mend the cases that say how, in memory, and grade that too")
	fl.IntVar(&runs, "runs", 1, "`N` runs of each case")
	fl.StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

func selectCases(dir, filter string) ([]evals.Case, error) {
	var fsys fs.FS
	var err error
	if dir == "" {
		fsys, err = evals.Embedded()
	} else {
		if st, serr := os.Stat(dir); serr != nil || !st.IsDir() {
			return nil, fmt.Errorf("--cases %s is not a directory", dir)
		}
		fsys = os.DirFS(dir)
	}
	if err != nil {
		return nil, err
	}
	cases, err := evals.Load(fsys)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(filter)
	if err != nil {
		return nil, fmt.Errorf("--filter %q: %w", filter, err)
	}
	var out []evals.Case
	for _, c := range cases {
		if re.MatchString(c.ID) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no case matches --filter %q", filter)
	}
	return out, nil
}
