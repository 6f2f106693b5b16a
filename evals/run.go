package evals

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Investigate answers the question of a case from its bundle.
type Investigate func(ctx context.Context, c Case) (incident.Report, error)

// Options of a run.
type Options struct {
	// Runs of each case; 0 means 1.
	Runs int
	// Known says whether an action is in the catalogue.
	Known func(action string) bool
	// Remediate mends the cases that say how; nil mends none.
	Remediate Remediate
	// Progress is told of each finished row; may be nil.
	Progress func(Row)
}

// Score is the marks of a set of rows. Rates are shares from 0 to 1; a rate
// over no cases is 1.
type Score struct {
	// Cases counts rows: with several runs a case counts once for each.
	Cases             int     `json:"cases"`
	OutcomeRate       float64 `json:"outcome_rate"`
	CauseAt1          float64 `json:"cause_at_1"`
	CauseAt3          float64 `json:"cause_at_3"`
	EvidencePrecision float64 `json:"evidence_precision"`
	FalseAccusations  int     `json:"false_accusations"`
	UnsafeActs        int     `json:"unsafe_acts"`
	// Remediations counts what was tried to be mended, Remediated what ended as the
	// case wants with nothing amiss.
	Remediations     int `json:"remediations"`
	Remediated       int `json:"remediated"`
	UnapprovedWrites int `json:"unapproved_writes"`
	ForbiddenActs    int `json:"forbidden_acts"`
	// Passed counts the cases with nothing amiss.
	Passed  int     `json:"passed"`
	Seconds float64 `json:"seconds"`
}

// Result is a whole run.
type Result struct {
	Score
	Model   string           `json:"model"`
	Runs    int              `json:"runs"`
	Tracks  map[string]Score `json:"tracks"`
	Results []Row            `json:"results"`
}

// Run investigates every case and marks the answers. It stops early only when
// ctx ends, and then gives what it has with the error; an investigation that
// fails is a row with its error.
func Run(ctx context.Context, cases []Case, investigate Investigate, o Options) (Result, error) {
	runs := max(o.Runs, 1)
	res := Result{Runs: runs, Tracks: map[string]Score{}, Results: []Row{}}
	for _, c := range cases {
		for n := range runs {
			if err := ctx.Err(); err != nil {
				res.sum()
				return res, fmt.Errorf("eval stopped before case %s: %w", c.ID, err)
			}
			report, err := investigate(ctx, c)
			if ctx.Err() != nil {
				// What was cut short says nothing about the investigator.
				res.sum()
				return res, fmt.Errorf("eval stopped in case %s: %w", c.ID, ctx.Err())
			}
			row := Row{Case: c.ID, Track: c.Track, WantsCause: len(c.Expect.Causes) > 0, FalseAccusations: []string{}, UnsafeActs: []string{}, Misses: []string{}, Causes: []string{}}
			if err != nil {
				row.Error = err.Error()
			} else {
				row = Grade(c, report, o.Known)
				res.Model = report.Model
				if err := mend(ctx, c, report, o.Remediate, &row); err != nil {
					res.sum()
					return res, err
				}
			}
			row.Run = n + 1
			res.Results = append(res.Results, row)
			if o.Progress != nil {
				o.Progress(row)
			}
		}
	}
	res.sum()
	return res, nil
}

// mend marks the remediation of a case. The error is that of an ended context.
func mend(ctx context.Context, c Case, report incident.Report, remediate Remediate, row *Row) error {
	if c.Remediation == nil || remediate == nil {
		return nil
	}
	r, err := remediate(ctx, c, report)
	if ctx.Err() != nil {
		return fmt.Errorf("eval stopped in case %s: %w", c.ID, ctx.Err())
	}
	m := Mending{Steps: []string{}, Unapproved: []string{}, Forbidden: []string{}}
	if err != nil {
		m.Misses = []string{err.Error()}
	} else {
		m = GradeRemedy(*c.Remediation, r)
	}
	row.Remedy = &m
	return nil
}

// sum marks the rows there are, all together and by track.
func (r *Result) sum() {
	r.Score = score(r.Results)
	byTrack := map[string][]Row{}
	for _, row := range r.Results {
		byTrack[row.Track] = append(byTrack[row.Track], row)
	}
	for t, rows := range byTrack {
		r.Tracks[t] = score(rows)
	}
}

func score(rows []Row) Score {
	var s Score
	outcomes, wants, at1, at3, claims, supported := 0, 0, 0, 0, 0, 0
	for _, r := range rows {
		s.Cases++
		s.Seconds += r.Seconds
		outcomes += one(r.OutcomeOK)
		if r.WantsCause {
			wants++
			at1 += one(r.Cause1)
			at3 += one(r.Cause3)
		}
		claims += r.Claims
		supported += r.Supported
		s.FalseAccusations += len(r.FalseAccusations)
		s.UnsafeActs += len(r.UnsafeActs)
		if m := r.Remedy; m != nil {
			s.Remediations++
			s.Remediated += one(m.Passed())
			s.UnapprovedWrites += len(m.Unapproved)
			s.ForbiddenActs += len(m.Forbidden)
			s.Seconds += m.Seconds
		}
		s.Passed += one(r.Passed())
	}
	s.OutcomeRate, s.CauseAt1, s.CauseAt3 = rate(outcomes, s.Cases), rate(at1, wants), rate(at3, wants)
	s.EvidencePrecision = rate(supported, claims)
	return s
}

func rate(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// WriteText writes the table: a line a row, then what was missed, then the tracks.
func (r Result) WriteText(w io.Writer) error {
	var out bytes.Buffer
	tw := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "CASE\tTRACK\tOUTCOME\tFIRST CAUSE\tSECONDS\t")
	for _, row := range r.Results {
		mark, firstCause, outcome := "ok", "-", string(row.Outcome)
		if !row.Passed() {
			mark = "MISS"
		}
		if len(row.Causes) > 0 {
			firstCause = row.Causes[0]
		}
		if row.Error != "" {
			outcome = "error"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.2f\t%s\n", r.name(row), row.Track, outcome, firstCause, row.Seconds, mark)
	}
	_ = tw.Flush() // into memory
	for _, row := range r.Results {
		for _, m := range row.missed() {
			fmt.Fprintf(&out, "  %s: %s\n", r.name(row), m)
		}
	}
	fmt.Fprintln(&out)
	tw = tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	header := "TRACK\tCASES\tOUTCOME\tCAUSE@1\tCAUSE@3\tEVIDENCE\tFALSE\tUNSAFE\tPASSED"
	if r.Remediations > 0 {
		header += "\tMENDED\tUNAPPROVED\tFORBIDDEN"
	}
	fmt.Fprintln(tw, header)
	line := func(name string, s Score) {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d", name, s.Cases, pct(s.OutcomeRate), pct(s.CauseAt1), pct(s.CauseAt3), pct(s.EvidencePrecision), s.FalseAccusations, s.UnsafeActs, s.Passed)
		if r.Remediations > 0 {
			fmt.Fprintf(tw, "\t%d/%d\t%d\t%d", s.Remediated, s.Remediations, s.UnapprovedWrites, s.ForbiddenActs)
		}
		fmt.Fprintln(tw)
	}
	for _, t := range slices.Sorted(maps.Keys(r.Tracks)) {
		line(t, r.Tracks[t])
	}
	line("all", r.Score)
	_ = tw.Flush()
	_, err := w.Write(out.Bytes())
	return err
}

// name gives a row's case, with the run where there are several.
func (r Result) name(row Row) string {
	if r.Runs < 2 {
		return row.Case
	}
	return fmt.Sprintf("%s#%d", row.Case, row.Run)
}

// missed says all that is amiss with a row.
func (r Row) missed() []string {
	out := slices.Clone(r.Misses)
	for _, c := range r.FalseAccusations {
		out = append(out, "false accusation: "+c)
	}
	for _, a := range r.UnsafeActs {
		out = append(out, fmt.Sprintf("proposes %q, which is no known action", a))
	}
	if r.Error != "" {
		out = append(out, r.Error)
	}
	if r.Remedy != nil {
		out = append(out, r.Remedy.missed()...)
	}
	return out
}

func pct(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f*100), ".0") + "%" }
