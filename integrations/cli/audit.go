package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

func newAudit(g *globals) *cobra.Command {
	var f planFlags
	var verify bool
	var heads []string
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who did what, why and when; --verify finds any record that was edited, dropped or moved",
		Long: "Shows the audit log. With --verify the chain of hashes, the signatures and the signed head are checked, and\n" +
			"that every record of every plan is in it. A head that was written down earlier (--head) proves that nothing\n" +
			"before it was cut off, whoever held the disk.",
		Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			var known []audit.Head
			for _, h := range heads {
				k, err := audit.ParseHead(h)
				if err != nil {
					return usage(fmt.Errorf("--head: %w", err))
				}
				known = append(known, k)
			}
			return g.withPlans(cmd.Context(), sourceFlags{}, f.at, false, func(p planDesk) error {
				if !verify {
					return g.trail(cmd, p, f.output)
				}
				r, err := p.Audit(cmd.Context(), known...)
				if err != nil {
					return err
				}
				if f.output == "json" {
					if err := g.printJSON(r); err != nil {
						return err
					}
				} else {
					fmt.Fprint(g.streams.Out, auditText(r))
				}
				if !r.OK {
					return &exitError{code: exitInternal}
				}
				return nil
			})
		},
	}
	f.add(cmd, g, "")
	cmd.Flags().BoolVar(&verify, "verify", false, "check the log")
	cmd.Flags().StringArrayVar(&heads, "head", nil, "a `HEAD` that was written down earlier (SEQ:HASH), which must be in the log")
	return cmd
}

func (g *globals) trail(cmd *cobra.Command, p planDesk, output string) error {
	all, err := p.Trail(cmd.Context())
	if err != nil {
		return err
	}
	if output == "json" {
		if all == nil {
			all = []audit.Entry{}
		}
		return g.printJSON(all)
	}
	for _, e := range all {
		part := e.Write
		if part == "" {
			part = e.Step
		}
		fmt.Fprintf(g.streams.Out, "%5d  %s  %-24s %-18s %-18s %s\n", e.Seq, e.At.UTC().Format(time.RFC3339), render.Clean(e.Actor), e.What, e.Plan, part)
	}
	return nil
}

// auditText writes what a verification found.
func auditText(r audit.Report) string {
	var b strings.Builder
	if r.OK {
		fmt.Fprintf(&b, "the log is whole: %d entries, signed up to %d\n", r.Entries, r.Signed)
	} else {
		fmt.Fprintf(&b, "the log is NOT what was written: %d entries are sound\n", r.Entries)
	}
	if r.Bad != nil {
		fmt.Fprintf(&b, "entry %d: %s\n", r.Bad.Seq, render.Clean(r.Bad.Why))
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "missing: %s of plan %s %s%s\n", m.What, m.Plan, m.Step, m.Write)
	}
	for _, h := range r.Lost {
		fmt.Fprintf(&b, "missing: the head %s, which was written down elsewhere\n", h)
	}
	if r.Head != nil {
		fmt.Fprintf(&b, "head %s (write it down elsewhere; check it later with --head)\n", r.Head)
	}
	return b.String()
}
