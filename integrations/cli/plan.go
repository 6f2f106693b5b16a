package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// surface is what approvals of this front end are marked with.
const surface = "cli"

// planFlags are those of every command on plans.
type planFlags struct {
	as, output string
	at         attachFlags
}

func (f *planFlags) add(cmd *cobra.Command, g *globals, who string) {
	f.at.add(cmd, g, "server")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "`FORM`: text, or json (the record with the canonical plan)")
	if who != "" {
		cmd.Flags().StringVar(&f.as, "as", "", who+" as `NAME`: the cluster must let you impersonate them, as for kubectl --as")
	}
}

func (f planFlags) check() error {
	if f.output != "text" && f.output != "json" {
		return usage(fmt.Errorf("--output %q is none of text, json", f.output))
	}
	return nil
}

// withPlans opens the cluster, if it is needed, and the plans.
func (g *globals) withPlans(ctx context.Context, src sourceFlags, at attachFlags, cluster bool, work func(planDesk) error) (err error) {
	if at.server != "" {
		c, err := at.client(session.CLI)
		if err != nil {
			return err
		}
		return work(&serverPlans{c: c, emit: g.telling()})
	}
	cfg, err := g.load(src)
	if err != nil {
		return err
	}
	var a *app.App
	if cluster {
		if a, err = app.New(ctx, cfg); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
	}
	p, err := app.OpenPlans(cfg, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	p.Emit = g.telling()
	return work(p)
}

func newPlan(g *globals) *cobra.Command {
	var src sourceFlags
	var f planFlags
	var file, action, reason string
	var set []string
	var glass bool
	cmd := &cobra.Command{
		Use:   "plan [INVESTIGATION | latest]",
		Short: "Make a plan of exact requests from a diagnosis, or from a file; nothing is changed",
		Long: "Makes a plan from the proposals of an investigation in the journal, or from a file that a person wrote.\n" +
			"The steps are compiled to exact requests, tried by the server in a dry run, and filed for approval.\n\n" +
			"A plan file is YAML:\n\n" +
			"  title: Give the trainer more memory        # optional\n" +
			"  reason: the loader was killed twice today  # what an approver reads\n" +
			"  steps:\n" +
			"    - action: patch_resources                # see docs/actions.md\n" +
			"      params: {kind: Deployment, namespace: ml, name: loader, container: main, resource: limits.memory, value: 8Gi}\n",
		Example: "  gumshoe plan latest\n" +
			"  gumshoe plan run-3f2a --action set_image --set image=registry.example.com/serve:1.4\n" +
			"  gumshoe plan --from fix.yaml",
		Args: argCount(0, 1, "at most one investigation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if (len(args) == 1) == (file != "") {
				return usage(errors.New("plan takes an investigation (its id, or latest) or --from FILE"))
			}
			req := app.PlanRequest{Caller: app.As(f.as, surface), BreakGlass: glass, Reason: reason, Choice: planner.Choice{Action: action, Set: map[string]string{}}}
			for _, kv := range set {
				k, v, ok := strings.Cut(kv, "=")
				if !ok || k == "" {
					return usage(fmt.Errorf("--set %q is not NAME=VALUE", kv))
				}
				req.Choice.Set[k] = v
			}
			if file != "" {
				if len(set) > 0 || action != "" {
					return usage(errors.New("--set and --action are for an investigation: a file says its own"))
				}
				raw, err := readFile(file, g.streams.In)
				if err != nil {
					return err
				}
				req.File = raw
			} else {
				req.Investigation = args[0]
			}
			return g.withPlans(cmd.Context(), src, f.at, true, func(p planDesk) error {
				r, err := p.Make(cmd.Context(), req)
				if err != nil {
					return noPlan(err)
				}
				g.next("approve it with gumshoe approve " + r.Plan.ID + "; gumshoe plan diff " + r.Plan.ID + " shows what it changes")
				return g.printPlan(r, f.output)
			})
		},
	}
	src.add(cmd)
	f.add(cmd, g, "ask")
	cmd.Flags().StringVar(&file, "from", "", "a plan that a person wrote (YAML `FILE`, or - for standard input)")
	cmd.Flags().StringVar(&action, "action", "", "take the proposal with this `ACTION`")
	cmd.Flags().StringArrayVar(&set, "set", nil, "give a parameter that a proposal leaves open, as `NAME=VALUE`; may be repeated")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the approver")
	cmd.Flags().BoolVar(&glass, "break-glass", false, "ask for the break-glass role's consent; --reason is required")
	cmd.AddCommand(newPlanShow(g), newPlanDiff(g), newPlanList(g))
	return cmd
}

// next tells a person at a terminal what comes after this.
func (g *globals) next(text string) {
	if g.streams.ErrTTY {
		fmt.Fprintln(g.streams.Err, text)
	}
}

// noPlan gives the errors that are the caller's to mend the exit code of usage.
func noPlan(err error) error {
	if _, ok := errors.AsType[*planner.NoPlan](err); ok {
		return &exitError{code: exitInconclusive, err: err}
	}
	if _, ok := errors.AsType[*planner.Missing](err); ok {
		return usage(err)
	}
	if _, ok := errors.AsType[*planner.Refused](err); ok {
		return usage(err)
	}
	return notNow(err)
}

// notNow gives refusals for want of consent, and drift, their exit code.
func notNow(err error) error {
	if _, ok := errors.AsType[*planner.Withheld](err); ok {
		return &exitError{code: exitApproval, err: err}
	}
	if _, ok := errors.AsType[*planner.Drift](err); ok {
		return &exitError{code: exitApproval, err: err}
	}
	return err
}

// maxFile bounds what is read of a file that a person gives, in bytes.
const maxFile = 1 << 20

func readFile(name string, in io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage(fmt.Errorf("--from: %w", err))
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("--from %s: %w", name, err)
	}
	if len(raw) > maxFile {
		return nil, usage(fmt.Errorf("--from %s: more than %d bytes", name, maxFile))
	}
	if len(raw) == 0 {
		return nil, usage(fmt.Errorf("--from %s: the file is empty", name))
	}
	return raw, nil
}

func view(r planner.Record) render.PlanView {
	return render.PlanView{
		Plan: r.Plan, Digest: r.Digest, Decision: r.Decision, State: r.State, Reason: r.Reason, Words: r.Words, Prose: r.Prose,
		Writes: r.Writes, Checks: r.Checks, Left: r.Left, Now: time.Now(),
	}
}

func (g *globals) printPlan(r planner.Record, output string) error {
	if output == "json" {
		return g.printJSON(r)
	}
	_, err := io.WriteString(g.streams.Out, render.Plan(view(r), render.TextOptions{Width: g.streams.Width, Color: g.streams.color()}))
	return err
}

func (g *globals) printJSON(v any) error {
	enc := json.NewEncoder(g.streams.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newPlanShow(g *globals) *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use: "show PLAN", Short: "Show a plan and how far it came", Args: argCount(1, 1, "the id of a plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return g.withPlans(cmd.Context(), sourceFlags{}, f.at, false, func(p planDesk) error {
				r, err := p.Get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return g.printPlan(r, f.output)
			})
		},
	}
	f.add(cmd, g, "")
	return cmd
}

func newPlanDiff(g *globals) *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use: "diff PLAN", Short: "Show what every request of a plan changes, as the server's dry run gave it", Args: argCount(1, 1, "the id of a plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withPlans(cmd.Context(), sourceFlags{}, f.at, false, func(p planDesk) error {
				r, err := p.Get(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				_, err = io.WriteString(g.streams.Out, render.PlanDiff(r.Plan))
				return err
			})
		},
	}
	f.at.add(cmd, g, "server")
	return cmd
}

func newPlanList(g *globals) *cobra.Command {
	var f planFlags
	var open bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the plans, the newest first", Args: argCount(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return g.withPlans(cmd.Context(), sourceFlags{}, f.at, false, func(p planDesk) error {
				all, err := p.List(cmd.Context())
				if open {
					all = slices.DeleteFunc(all, func(r planner.Record) bool { return r.State.Final() })
				}
				if f.output == "json" {
					briefs := []planner.Brief{}
					for _, r := range all {
						briefs = append(briefs, r.Brief())
					}
					return errors.Join(err, g.printJSON(briefs))
				}
				var views []render.PlanView
				for _, r := range all {
					views = append(views, view(r))
				}
				_, werr := io.WriteString(g.streams.Out, render.PlanList(views))
				return errors.Join(err, werr)
			})
		},
	}
	f.add(cmd, g, "")
	cmd.Flags().BoolVar(&open, "open", false, "only those that wait or are at work")
	return cmd
}

func newApprove(g *globals) *cobra.Command {
	return newWord(g, incident.Approved, "approve PLAN", "Approve exactly the requests of a plan", "comment", "what you want to say with it")
}

func newReject(g *globals) *cobra.Command {
	return newWord(g, incident.Rejected, "reject PLAN", "Reject a plan for good, or take your approval back with --revoke", "why", "the reason")
}

func newWord(g *globals, word, use, short, flag, what string) *cobra.Command {
	var src sourceFlags
	var f planFlags
	var text string
	var revoke bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: argCount(1, 1, "the id of a plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			say := word
			if word == incident.Rejected {
				if strings.TrimSpace(text) == "" {
					return usage(errors.New("--why is required: who asked wants to know"))
				}
				if revoke {
					say = incident.Revoked
				}
			}
			return g.withPlans(cmd.Context(), src, f.at, true, func(p planDesk) error {
				r, err := p.Say(cmd.Context(), args[0], say, text, app.As(f.as, surface))
				if err != nil {
					return &exitError{code: exitApproval, err: err}
				}
				if r.State == incident.PlanApproved {
					if f.at.server == "" {
						g.next("execute it with gumshoe apply " + r.Plan.ID)
					}
				}
				return g.printPlan(r, f.output)
			})
		},
	}
	src.add(cmd)
	f.add(cmd, g, "speak")
	cmd.Flags().StringVar(&text, flag, "", what+" (`TEXT`)")
	if word == incident.Rejected {
		cmd.Flags().BoolVar(&revoke, "revoke", false, "take an approval back instead; the plan stays")
	}
	return cmd
}

func newApply(g *globals) *cobra.Command {
	var src sourceFlags
	var f planFlags
	var dry bool
	cmd := &cobra.Command{
		Use: "apply PLAN", Aliases: []string{"execute"}, Short: "Execute an approved plan, prove that it worked, or take it back",
		Long: "Executes an approved plan step by step. Before the first write everything is checked again: the digest, the\n" +
			"approvals, the policy, the objects. What fails or does not verify is taken back. A plan that was cut off is\n" +
			"taken up again by the same command.",
		Args: argCount(1, 1, "the id of a plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return g.withPlans(cmd.Context(), src, f.at, true, func(p planDesk) error {
				if dry {
					r, problems, err := p.Rehearse(cmd.Context(), args[0])
					if err != nil {
						return err
					}
					fmt.Fprint(g.streams.Out, render.PlanDiff(r.Plan))
					if len(problems) > 0 {
						return &exitError{code: exitApproval, err: fmt.Errorf("plan %s would not run:\n  %s", args[0], strings.Join(problems, "\n  "))}
					}
					fmt.Fprintf(g.streams.Err, "plan %s would run: consent, objects and dry runs are as they have to be\n", args[0])
					return nil
				}
				r, err := p.Execute(cmd.Context(), args[0], app.As(f.as, surface))
				return g.ended(r, err, f.output, incident.PlanVerified)
			})
		},
	}
	src.add(cmd)
	f.add(cmd, g, "execute")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "check everything and dry-run every request again; write nothing")
	return cmd
}

func newUndo(g *globals) *cobra.Command {
	var src sourceFlags
	var f planFlags
	var because string
	cmd := &cobra.Command{
		Use: "undo PLAN", Short: "Take back what a plan wrote, in reverse order", Args: argCount(1, 1, "the id of a plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return g.withPlans(cmd.Context(), src, f.at, true, func(p planDesk) error {
				r, err := p.Undo(cmd.Context(), args[0], app.As(f.as, surface), because)
				return g.ended(r, err, f.output, incident.PlanUndone)
			})
		},
	}
	src.add(cmd)
	f.add(cmd, g, "undo")
	cmd.Flags().StringVar(&because, "why", "a person asked for it", "the reason (`TEXT`)")
	return cmd
}

// ended prints what became of a plan; anything but the wanted end is no success.
func (g *globals) ended(r planner.Record, err error, output string, want incident.PlanState) error {
	if err != nil {
		if r.State == incident.PlanExecuting {
			fmt.Fprintf(g.streams.Err, "plan %s is at work still; go on with gumshoe apply %[1]s, or take it back with gumshoe undo %[1]s\n", r.Plan.ID)
		}
		return notNow(err)
	}
	if err := g.printPlan(r, output); err != nil {
		return err
	}
	if r.State != want {
		return &exitError{code: exitInconclusive}
	}
	return nil
}

// telling writes a line an event to standard error.
func (g *globals) telling() func(event.Event) {
	return func(e event.Event) {
		line := ""
		switch e.Type {
		case event.StepBegun:
			line = e.Progress.Step + ": " + e.Progress.Say
		case event.WriteBegun:
			line = "  " + e.Progress.Write + " " + e.Progress.Say
		case event.WriteEnded:
			if !e.Write.Done {
				line = "  " + e.Write.Write + " failed: " + e.Write.Error
			}
		case event.Checked:
			line = fmt.Sprintf("  %s: %s (%s)", e.Check.Verdict, e.Check.Check.Say, e.Check.Saw)
		case event.Notice:
			line = e.Notice.Text
		case event.UndoBegun:
			line = "taking it back: " + e.Progress.Say
		}
		if line != "" {
			fmt.Fprintln(g.streams.Err, render.Clean(line))
		}
	}
}
