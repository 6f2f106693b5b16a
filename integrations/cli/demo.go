package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// demo is a case under a short name, chosen because its chain crosses several systems.
type demo struct{ name, id, shows string }

// demos are the names that `gumshoe demo` takes besides the ids of cases; the first
// is the default.
func demos() []demo {
	return []demo{
		{"pending-claim", "dra-selector-excludes-all", "a claim that no device satisfies"},
		{"mtls-drop", "mtls-drop", "a router's requests are dropped: flow, policy, identity, SPIRE"},
	}
}

// demoCase gives the case that a name or id means.
func demoCase(name string) string {
	for _, d := range demos() {
		if name == "" || name == d.name {
			return d.id
		}
	}
	return name
}

func newDemo(g *globals) *cobra.Command {
	var ans answerFlags
	var list bool
	cmd := &cobra.Command{
		Use:   "demo [NAME|CASE]",
		Short: "Investigate a recorded incident that ships with gumshoe: no cluster, no key, no network",
		Args:  argCount(0, 1, "at most one CASE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			cases, err := embeddedCases()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			var ids []string
			for _, d := range demos() {
				ids = append(ids, d.name+"\t"+d.shows)
			}
			for _, c := range cases {
				ids = append(ids, c.ID)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				cases, err := embeddedCases()
				if err != nil {
					return err
				}
				return listCases(g.streams, cases)
			}
			id := demoCase("")
			if len(args) == 1 {
				id = demoCase(args[0])
			}
			shipped, err := evals.Embedded()
			if err != nil {
				return err
			}
			c, err := evals.Find(shipped, id)
			if errors.Is(err, fs.ErrNotExist) {
				return usage(fmt.Errorf("there is no case %q; see gumshoe demo --list", id))
			}
			if err != nil {
				return err
			}
			cfg, err := g.load(sourceFlags{})
			if err != nil {
				return err
			}
			if err := ans.apply(&cfg); err != nil {
				return err
			}
			a, err := app.NewFromBundle(cmd.Context(), cfg, c.Bundle)
			if err != nil {
				return err
			}
			defer func() { _ = a.Close() }()
			return g.answer(cmd.Context(), a, c.Ask(), ans.output, false)
		},
	}
	ans.add(cmd)
	cmd.Flags().BoolVar(&list, "list", false, "list the cases")
	return cmd
}

func embeddedCases() ([]evals.Case, error) {
	fsys, err := evals.Embedded()
	if err != nil {
		return nil, err
	}
	return evals.Load(fsys)
}

func listCases(s Streams, cases []evals.Case) error {
	w := tabwriter.NewWriter(s.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tTRACK\tMODES\tTITLE")
	for _, c := range cases {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.ID, c.Track, strings.Join(c.Modes, ","), c.Title)
	}
	return w.Flush()
}

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: argCount(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(g.streams.Out, app.Version())
			return err
		},
	}
}
