package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

func newPolicy(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Show and test the rules on plans, reset the circuit breaker", Args: argCount(0, 0, "a subcommand"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newPolicyShow(g), newPolicyTest(g), newPolicyReset(g))
	return cmd
}

// policyView is what policy show prints.
type policyView struct {
	Digest   string          `json:"digest"`
	Settings policy.Settings `json:"settings"`
	Rules    []policy.Rule   `json:"rules"`
}

func newPolicyShow(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "show", Short: "Print the rules and settings that are in force", Args: argCount(0, 0, "no arguments"),
		Long: "Prints the policy that ships with what policy.dirs of the configuration lays over it.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := g.load(sourceFlags{})
			if err != nil {
				return err
			}
			p, err := app.LoadPolicy(cfg)
			if err != nil {
				return err
			}
			v := policyView{Digest: p.Digest(), Settings: p.Settings(), Rules: p.Rules()}
			switch output {
			case "json":
				enc := json.NewEncoder(g.streams.Out)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				return enc.Encode(v)
			case "yaml", "text":
				raw, err := yaml.Marshal(v.Settings)
				if err != nil {
					return err
				}
				if output == "yaml" {
					if raw, err = yaml.Marshal(v); err != nil {
						return err
					}
					_, err = g.streams.Out.Write(raw)
					return err
				}
				w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
				fmt.Fprintln(w, "VERDICT\tRULE\tPER\tREASON")
				for _, r := range v.Rules {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Verdict, r.Name, r.Scope, render.Clean(r.Reason))
				}
				if err := w.Flush(); err != nil {
					return err
				}
				_, err = fmt.Fprintf(g.streams.Out, "\nThe strictest verdict that applies wins; what no rule permits is denied.\n\n%s\ndigest: %s\n", raw, v.Digest)
				return err
			}
			return usage(fmt.Errorf("--output %q is none of text, yaml and json", output))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text, yaml or json")
	return cmd
}

// caseView is a case in the JSON of policy test.
type caseView struct {
	Name     string             `json:"name"`
	File     string             `json:"file"`
	Want     string             `json:"want"`
	Got      string             `json:"got"`
	Rules    []incident.RuleHit `json:"rules"`
	Problems []string           `json:"problems"`
}

func newPolicyTest(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "test [DIR]", Short: "Put table cases to the policy", Args: argCount(0, 1, "at most one DIR"),
		Long: "Reads the policy that ships with the policy files (*.yaml) of DIR laid over it, and puts the cases in DIR\n" +
			"(*.test.yaml) to it. Without DIR the directories of the configuration are taken; when there are none, the cases\n" +
			"that ship. Exit code 1 when a decision is not as wanted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usage(fmt.Errorf("--output %q is neither text nor json", output))
			}
			cfg, err := g.load(sourceFlags{})
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if st, err := os.Stat(args[0]); err != nil || !st.IsDir() {
					return usage(fmt.Errorf("%s is not a directory of policies", args[0]))
				}
				cfg.Policy.Dirs = []string{args[0]}
			}
			p, err := app.LoadPolicy(cfg)
			if err != nil {
				return err
			}
			cases, err := app.PolicyCases(cfg)
			if err != nil {
				return err
			}
			if len(cases) == 0 {
				return usage(errors.New("there are no cases: files that end in .test.yaml hold them"))
			}
			return g.printCases(p.Test(cmd.Context(), cases), output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`FORM`: text or json")
	return cmd
}

func (g *globals) printCases(results []policy.Result, output string) error {
	failed := 0
	for _, r := range results {
		if len(r.Problems) > 0 {
			failed++
		}
	}
	if output == "json" {
		views := make([]caseView, 0, len(results))
		for _, r := range results {
			views = append(views, caseView{Name: r.Case.Name, File: r.Case.File, Want: r.Case.Want, Got: r.Got.Verdict, Rules: r.Got.Rules, Problems: append([]string{}, r.Problems...)})
		}
		enc := json.NewEncoder(g.streams.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(views); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(g.streams.Out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "RESULT\tCASE\tVERDICT\tDECIDED BY")
		for _, r := range results {
			result := "ok"
			if len(r.Problems) > 0 {
				result = "FAILED"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", result, render.Clean(r.Case.Name), r.Got.Verdict, strings.Join(deciders(r.Got), ", "))
			for _, p := range r.Problems {
				fmt.Fprintf(w, "\t  %s\t\t\n", render.Clean(p))
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{code: exitInternal, err: fmt.Errorf("%d of %d cases are not decided as they should be", failed, len(results))}
	}
	return nil
}

// deciders are the rules with the verdict that won.
func deciders(d incident.Decision) []string {
	var out []string
	for _, h := range d.Rules {
		if h.Verdict == d.Verdict && (len(out) == 0 || out[len(out)-1] != h.Rule) {
			out = append(out, h.Rule)
		}
	}
	return out
}

func newPolicyReset(g *globals) *cobra.Command {
	var src sourceFlags
	var as, reason string
	var at attachFlags
	cmd := &cobra.Command{
		Use: "reset-breaker --reason TEXT", Short: "Close the circuit breaker of the cluster again", Args: argCount(0, 0, "no arguments"),
		Long: "The breaker opens when much was done within its window and more was asked for; then every plan is denied until a\n" +
			"person with the role admin (settings.roles of the policy) has looked into it and resets it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage(errors.New("--reason says what you found; it is kept in the audit log"))
			}
			return g.withPlans(cmd.Context(), src, at, true, func(p planDesk) error {
				if err := p.ResetBreaker(cmd.Context(), app.As(as, surface), reason); err != nil {
					return err
				}
				_, err := fmt.Fprintln(g.streams.Out, "The circuit breaker is closed.")
				return err
			})
		},
	}
	src.add(cmd)
	at.add(cmd, g, "server")
	cmd.Flags().StringVar(&as, "as", "", "reset as `NAME`: the cluster must let you impersonate them, as for kubectl --as")
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT`: what you found, for the audit log")
	return cmd
}
