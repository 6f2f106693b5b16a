package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// outputs are the forms of an answer.
func outputs() []string { return []string{"text", "markdown", "json", "jsonl"} }

// answerFlags say how an investigation runs and how its answer is written.
type answerFlags struct {
	model, output string
	maxCost       float64
	maxSteps      int
	timeout       time.Duration
}

func (f *answerFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", "\"offline\" or `PROVIDER/NAME`, for example openai/NAME, vllm/NAME, ollama/NAME (default GUMSHOE_MODEL, else offline)")
	fl.StringVarP(&f.output, "output", "o", "text", "`FORM` of the answer: text, markdown, json (the report), jsonl (the event stream)")
	fl.Float64Var(&f.maxCost, "max-cost", 0, "end with what is known after this many US `DOLLARS`")
	fl.IntVar(&f.maxSteps, "max-steps", 0, "end with what is known after this many model turns")
	fl.DurationVar(&f.timeout, "timeout", 0, "end with what is known after this `TIME`, for example 2m")
}

func (f answerFlags) apply(c *app.Config) error {
	if !slices.Contains(outputs(), f.output) {
		return usage(fmt.Errorf("--output %q is none of %s", f.output, strings.Join(outputs(), ", ")))
	}
	if f.maxCost < 0 || f.maxSteps < 0 || f.timeout < 0 {
		return usage(errors.New("--max-cost, --max-steps and --timeout cannot be negative"))
	}
	if f.model != "" {
		c.Model.Name = f.model
	}
	if f.maxCost > 0 {
		c.Budget.Cost = f.maxCost
	}
	if f.maxSteps > 0 {
		c.Budget.Steps = f.maxSteps
	}
	if f.timeout > 0 {
		c.Budget.Timeout = app.Duration(f.timeout)
	}
	if err := c.Validate(); err != nil {
		return usage(err)
	}
	return nil
}

func newInvestigate(g *globals) *cobra.Command {
	var src sourceFlags
	var ans answerFlags
	var from, alert string
	cmd := &cobra.Command{
		Use:   "investigate [QUESTION]",
		Short: "Find the root cause of what a question names, with evidence",
		Example: "  gumshoe investigate \"why is pod train/llama-0 pending\"\n" +
			"  gumshoe investigate -n train\n" +
			"  gumshoe investigate \"why does deployment web not become ready\" --bundle ./incident --output json",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := question(args, g.streams)
			if err != nil {
				return err
			}
			cfg, err := g.load(src)
			if err != nil {
				return err
			}
			if err := ans.apply(&cfg); err != nil {
				return err
			}
			if from != "" && text != "" {
				return usage(errors.New("--alertmanager takes its questions from the alerts that fire: leave out the QUESTION"))
			}
			if alert != "" && from == "" {
				return usage(errors.New("--alert narrows --alertmanager, which is missing"))
			}
			if text == "" && from == "" {
				if cfg.Kubernetes.Namespace == "" {
					return usage(errors.New("investigate needs a QUESTION, or -n NAMESPACE to look at a whole namespace"))
				}
				text = "What is wrong in namespace " + cfg.Kubernetes.Namespace + "?"
			}
			ctx := cmd.Context()
			a, err := app.New(ctx, cfg)
			if err != nil {
				return err
			}
			defer func() { _ = a.Close() }()
			if from != "" {
				return g.answerAlerts(ctx, a, from, alert, ans.output)
			}
			return g.answer(ctx, a, incident.Question{Text: text, Namespace: cfg.Kubernetes.Namespace}, ans.output, true)
		},
	}
	src.add(cmd)
	ans.add(cmd)
	cmd.Flags().StringVar(&from, "alertmanager", "", "investigate the alerts that fire at the Alertmanager with this `URL`, one incident after the other")
	cmd.Flags().StringVar(&alert, "alert", "", "only alerts whose whole name fits this `REGEX`")
	return cmd
}

// answerAlerts investigates what fires at an Alertmanager. The exit code is that of the
// worst answer.
func (g *globals) answerAlerts(ctx context.Context, a *app.App, url, alert, output string) error {
	asked, err := a.Firing(ctx, url, alert)
	if err != nil {
		return err
	}
	if len(asked) == 0 {
		fmt.Fprintln(g.streams.Err, "no alert fires there")
		return nil
	}
	var worst error
	for i, q := range asked {
		fmt.Fprintf(g.streams.Err, "incident %d of %d: %s\n", i+1, len(asked), render.Clean(q.Title))
		if i > 0 && output == "text" {
			fmt.Fprintln(g.streams.Out)
		}
		err := g.answer(ctx, a, q.Question, output, true)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if worst == nil || code(err) > code(worst) {
			worst = err
		}
	}
	return worst
}

// maxQuestion bounds what is read from standard input, in bytes.
const maxQuestion = 64 << 10

// question joins the arguments; "-" reads standard input.
func question(args []string, s Streams) (string, error) {
	if len(args) == 1 && args[0] == "-" {
		raw, err := io.ReadAll(io.LimitReader(s.In, maxQuestion+1))
		if err != nil {
			return "", fmt.Errorf("read the question from standard input: %w", err)
		}
		if len(raw) > maxQuestion {
			return "", usage(fmt.Errorf("the question on standard input is longer than %d bytes", maxQuestion))
		}
		return strings.TrimSpace(string(raw)), nil
	}
	return strings.TrimSpace(strings.Join(args, " ")), nil
}

// answer runs one investigation, shows progress, and prints the result; keep
// leaves a journal of it. A journal that cannot be written is one warning.
func (g *globals) answer(ctx context.Context, a *app.App, q incident.Question, output string, keep bool) error {
	var sink event.Sink
	progress := newProgress(g.streams)
	if keep {
		a.KeepJournal(func(text string) {
			progress.Emit(event.Event{Type: event.Notice, Notice: &event.Message{Level: "warning", Text: text}})
		})
	}
	lines := newLines(g.streams.Out)
	if output == "jsonl" {
		sink = event.Tee(lines, progress)
	} else {
		sink = progress
	}
	report, err := a.Investigate(ctx, q, sink)
	progress.Stop()
	if err != nil {
		return err
	}
	if err := errors.Join(lines.failed(), g.print(report, output)); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if keep && output == "text" && g.streams.ErrTTY && report.Diagnosis.Outcome == incident.RootCause && len(report.Diagnosis.Proposals) > 0 {
		fmt.Fprintf(g.streams.Err, "to make a plan of it: gumshoe plan %s\n", report.ID)
	}
	if c := reportCode(report); c != exitAnswered {
		return &exitError{code: c}
	}
	return nil
}

// lines writes the event stream, one JSON object a line. A stream that broke off is
// no answer, so the first failure is kept.
type lines struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

var _ event.Sink = (*lines)(nil)

func newLines(w io.Writer) *lines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &lines{enc: enc}
}

// Emit implements event.Sink.
func (l *lines) Emit(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.enc.Encode(e)
	}
}

func (l *lines) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (g *globals) print(r incident.Report, output string) error {
	var err error
	switch output {
	case "json":
		enc := json.NewEncoder(g.streams.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	case "markdown":
		_, err = io.WriteString(g.streams.Out, render.Markdown(r))
	case "text":
		_, err = io.WriteString(g.streams.Out, render.Text(r, render.TextOptions{Width: g.streams.Width, Color: g.streams.color()}))
	}
	return err
}
