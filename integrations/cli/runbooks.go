package cli

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func newRunbooks(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "runbooks", Short: "List, read and check runbooks", Args: argCount(0, 0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var dirs []string
	cmd.PersistentFlags().StringArrayVar(&dirs, "dir", nil, "`DIR` of your own runbooks, laid over the ones that ship (repeatable)")
	load := func() (app.Config, error) {
		cfg, err := g.load(sourceFlags{})
		cfg.Runbooks = append(cfg.Runbooks, dirs...)
		return cfg, err
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the runbooks", Args: argCount(0, 0, "no arguments"),
			RunE: func(*cobra.Command, []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				lib, err := app.Library(cfg)
				if err != nil {
					return usage(err)
				}
				w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "RUNBOOK\tMODES\tTITLE")
				for _, r := range lib.All() {
					fmt.Fprintf(w, "%s\t%s\t%s\n", r.ID, strings.Join(r.Modes, ","), r.Title)
				}
				return w.Flush()
			},
		},
		&cobra.Command{
			Use: "show ID", Short: "Print a runbook", Args: argCount(1, 1, "one runbook ID"),
			RunE: func(_ *cobra.Command, args []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				lib, err := app.Library(cfg)
				if err != nil {
					return usage(err)
				}
				r, ok := lib.Get(args[0])
				if !ok {
					return usage(fmt.Errorf("there is no runbook %q; see gumshoe runbooks list", args[0]))
				}
				_, err = g.streams.Out.Write(r.Raw)
				return err
			},
		},
		&cobra.Command{
			Use: "lint [DIR]", Short: "Check runbooks against the tools, finding codes and actions", Args: argCount(0, 1, "at most one DIR"),
			RunE: func(_ *cobra.Command, args []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				if len(args) == 1 {
					if st, err := os.Stat(args[0]); err != nil || !st.IsDir() {
						return usage(fmt.Errorf("%s is not a directory of runbooks", args[0]))
					}
					cfg.Runbooks = append(cfg.Runbooks, args[0])
				}
				problems, n, err := app.LintRunbooks(cfg)
				if err != nil {
					return usage(err)
				}
				for _, p := range problems {
					fmt.Fprintln(g.streams.Out, p.String())
				}
				if len(problems) > 0 {
					return usage(fmt.Errorf("%d problems in %d runbooks", len(problems), n))
				}
				_, err = fmt.Fprintf(g.streams.Out, "%d runbooks, no problems\n", n)
				return err
			},
		},
	)
	return cmd
}
