package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

func newSessions(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "sessions", Short: "List, show, export and delete conversations", Args: argCount(0, 0, "a subcommand"), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newSessionsList(g), newSessionsShow(g), newSessionsExport(g), newSessionsDelete(g))
	return cmd
}

func newSessionsList(g *globals) *cobra.Command {
	var at attachFlags
	var f session.Filter
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List conversations, the one that changed last first", Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			a, stop, err := g.openArchive(cmd.Context(), at, session.CLI)
			if err != nil {
				return err
			}
			defer stop()
			all, err := a.Sessions(cmd.Context(), f)
			if err != nil {
				return err
			}
			if output == "json" {
				return g.json(all)
			}
			w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SESSION\tCHANGED\tSOURCE\tSTATE\tTITLE")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.ID, s.Changed.Local().Format(time.DateTime), s.Source, stateOf(s), s.Title)
			}
			return w.Flush()
		},
	}
	at.add(cmd, g, "server")
	fl := cmd.Flags()
	fl.BoolVar(&f.Open, "open", false, "leave out those that are merged, closed or resolved")
	fl.StringVar(&f.Source, "source", "", "only those opened on this `SURFACE`")
	fl.StringVar(&f.Text, "text", "", "only those whose title or question holds `TEXT`")
	fl.IntVar(&f.Limit, "limit", 50, "at most `N`; 0 lists all")
	fl.StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

// stateOf is a session's state in a word or two.
func stateOf(s session.Session) string {
	t, _ := s.Last()
	switch {
	case s.Merged != "":
		return "merged into " + s.Merged
	case s.Closed:
		return "closed"
	case !s.Resolved.IsZero():
		return "resolved"
	case t.State == session.Answered:
		return string(t.Outcome)
	}
	return string(t.State)
}

func (g *globals) json(v any) error {
	enc := json.NewEncoder(g.streams.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// conversation loads a session with its reports.
func conversation(ctx context.Context, a archive, id string) (session.Session, map[string]incident.Report, error) {
	s, err := a.Session(ctx, id)
	if err != nil {
		return s, nil, err
	}
	reports := map[string]incident.Report{}
	var errs []error
	for _, t := range s.Turns {
		if t.Run == "" {
			continue
		}
		r, err := a.Run(ctx, t.Run)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		reports[t.Run] = r.Report
	}
	return s, reports, errors.Join(errs...)
}

func newSessionsShow(g *globals) *cobra.Command {
	var at attachFlags
	cmd := &cobra.Command{
		Use: "show ID|latest", Short: "Show a conversation", Args: argCount(1, 1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, stop, err := g.openArchive(cmd.Context(), at, session.CLI)
			if err != nil {
				return err
			}
			defer stop()
			s, reports, err := conversation(cmd.Context(), a, args[0])
			if err != nil && s.ID == "" {
				return err
			}
			fmt.Fprintf(g.streams.Out, "%s  %s  %s\n", s.ID, stateOf(s), s.Title)
			for _, t := range s.Turns {
				fmt.Fprintf(g.streams.Out, "\n> %s\n  %s %s\n\n", t.Question.Text, t.State, t.Reason)
				if r, ok := reports[t.Run]; ok {
					fmt.Fprint(g.streams.Out, render.Text(r, render.TextOptions{Width: g.streams.Width, Color: g.streams.color()}))
				}
			}
			for _, p := range s.Plans {
				fmt.Fprintf(g.streams.Out, "\nplan %s: gumshoe plan show %s\n", p, p)
			}
			return err
		},
	}
	at.add(cmd, g, "server")
	return cmd
}

func newSessionsExport(g *globals) *cobra.Command {
	var at attachFlags
	var output, to string
	cmd := &cobra.Command{
		Use: "export ID|latest", Short: "Write a conversation with its reports as Markdown or JSON", Args: argCount(1, 1, "one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "markdown" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither markdown nor json", output))
			}
			a, stop, err := g.openArchive(cmd.Context(), at, session.CLI)
			if err != nil {
				return err
			}
			defer stop()
			s, reports, err := conversation(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			raw := []byte(render.Conversation(s, reports))
			if output == "json" {
				ordered := []incident.Report{}
				for _, t := range s.Turns {
					if r, ok := reports[t.Run]; ok {
						ordered = append(ordered, r)
					}
				}
				if raw, err = json.MarshalIndent(map[string]any{"session": s, "reports": ordered}, "", "  "); err != nil {
					return err
				}
				raw = append(raw, '\n')
			}
			if to == "" {
				_, err = g.streams.Out.Write(raw)
				return err
			}
			f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return usage(fmt.Errorf("--to: %w", err))
			}
			_, err = f.Write(raw)
			return errors.Join(err, f.Close())
		},
	}
	at.add(cmd, g, "server")
	cmd.Flags().StringVarP(&output, "output", "o", "markdown", "`FORM`: markdown or json")
	cmd.Flags().StringVar(&to, "to", "", "a new `FILE` to write; standard output otherwise")
	return cmd
}

func newSessionsDelete(g *globals) *cobra.Command {
	var at attachFlags
	cmd := &cobra.Command{
		Use: "delete ID...", Short: "Delete conversations and their runs; plans and the audit log stay", Args: argCount(1, -1, "at least one ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, stop, err := g.openArchive(cmd.Context(), at, session.CLI)
			if err != nil {
				return err
			}
			defer stop()
			for _, id := range args {
				if err := a.DeleteSession(cmd.Context(), id, incident.Person{Surface: session.CLI}); err != nil {
					return err
				}
				fmt.Fprintf(g.streams.Err, "deleted %s\n", id)
			}
			return nil
		},
	}
	at.add(cmd, g, "server")
	return cmd
}
