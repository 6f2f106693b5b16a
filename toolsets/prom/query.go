package prom

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// QueryIn is the input of prom_query.
type QueryIn struct {
	Expr  string `json:"expr" jsonschema:"PromQL"`
	At    string `json:"at,omitempty" jsonschema:"RFC 3339 or -10m; default now"`
	Limit int    `json:"limit,omitempty" jsonschema:"series shown, default 30, at most 500"`
}

// Sample is one series of an instant query.
type Sample struct {
	Labels map[string]string `json:"labels"`
	// Value is left out when it is no number; Text then says NaN or Inf.
	Value *float64 `json:"value,omitempty"`
	Text  string   `json:"text"`
	// Apart is set when the value stands apart from its peers: the distance
	// from their median in robust standard deviations.
	Apart float64 `json:"apart,omitempty"`
}

// QueryOut is the answer of prom_query.
type QueryOut struct {
	Expr string    `json:"expr"`
	At   time.Time `json:"at"`
	// Total is how many series the expression gives; Samples holds the first.
	Total   int      `json:"total"`
	Samples []Sample `json:"samples"`
	// Median of all values, where there are at least three.
	Median *float64 `json:"median,omitempty"`
	// Partial says that the answer is not complete, in the server's words.
	Partial []string `json:"partial,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// mostSamples bounds the samples of one answer.
const mostSamples = 500

// share is how far a peer must be from the median, as a part of it, to stand apart.
const share = 0.1

// query evaluates an expression at one time.
func (t *Toolset) query(ctx context.Context, in QueryIn) (tool.Output[QueryOut], error) {
	var out tool.Output[QueryOut]
	at, err := t.moment("at", in.At, t.client.Now())
	if err != nil {
		return out, err
	}
	limit, err := within1("limit", in.Limit, 30, mostSamples)
	if err != nil {
		return out, err
	}
	ans, err := t.client.query(ctx, in.Expr, at, maxSeries)
	if err != nil {
		return out, err
	}
	if ans.series != nil {
		return out, &tool.Error{Kind: tool.Invalid, User: "the expression gives a range of values for each series", Fix: "leave out its last [...], or use prom_range"}
	}
	d := QueryOut{Expr: in.Expr, At: at, Total: len(ans.samples), Samples: []Sample{}, Partial: ans.missing, Notes: ans.notes}
	values := make([]float64, len(ans.samples))
	for i, s := range ans.samples {
		values[i] = s.Value
	}
	apart := map[int]float64{}
	for _, o := range metric.Outliers(values, share) {
		apart[o.Index] = o.Score
		d.Median = num(o.Median)
	}
	// What stands apart comes first, then the order of the server.
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return bool2int(apart[b] != 0) - bool2int(apart[a] != 0)
	})
	for _, i := range order {
		if len(d.Samples) == limit {
			break
		}
		s := ans.samples[i]
		d.Samples = append(d.Samples, Sample{Labels: s.Labels, Value: num(s.Value), Text: number(s.Value), Apart: apart[i]})
	}
	out.Data, out.Text = d, queryText(d, ans.text)
	return out, nil
}

func queryText(d QueryOut, text string) string {
	var b strings.Builder
	switch {
	case text != "":
		fmt.Fprintf(&b, "%q", text)
		return b.String()
	case d.Total == 0:
		b.WriteString("no series at " + stamp(d.At))
		remarks(&b, d.Partial, d.Notes)
		return b.String()
	}
	fmt.Fprintf(&b, "%d series at %s", d.Total, stamp(d.At))
	if d.Median != nil {
		fmt.Fprintf(&b, ", median %s", number(*d.Median))
	}
	list := make([]map[string]string, len(d.Samples))
	for i, s := range d.Samples {
		list[i] = s.Labels
	}
	common := shared(list)
	if len(common) > 0 {
		fmt.Fprintf(&b, ", all %s", metric.Key(common))
	}
	b.WriteByte('\n')
	for _, s := range d.Samples {
		fmt.Fprintf(&b, "%s %s", differing(s.Labels, common), s.Text)
		if s.Apart != 0 {
			fmt.Fprintf(&b, "  stands apart")
		}
		b.WriteByte('\n')
	}
	if d.Total > len(d.Samples) {
		fmt.Fprintf(&b, "%d more; narrow by labels or aggregate\n", d.Total-len(d.Samples))
	}
	remarks(&b, d.Partial, d.Notes)
	return strings.TrimRight(b.String(), "\n")
}

// remarks writes what the server said beside an answer.
func remarks(b *strings.Builder, partial, notes []string) {
	for _, p := range partial {
		fmt.Fprintf(b, "\nincomplete: %s", p)
	}
	for _, n := range notes {
		fmt.Fprintf(b, "\nnote: %s", n)
	}
}

// shared gives the labels that all series have with the same value, when there
// are at least two series.
func shared(list []map[string]string) map[string]string {
	if len(list) < 2 {
		return nil
	}
	out := maps.Clone(list[0])
	for _, l := range list[1:] {
		maps.DeleteFunc(out, func(k, v string) bool {
			have, ok := l[k]
			return !ok || have != v
		})
	}
	return out
}

// maxShown is how long a label's value is in a text.
const maxShown = 80

// differing writes the labels beside the shared ones.
func differing(labels, common map[string]string) string {
	out := map[string]string{}
	for k, v := range labels {
		if _, ok := common[k]; !ok {
			out[k] = clip(v, maxShown)
		}
	}
	return metric.Key(out)
}

// num gives a value that JSON can carry, nil for one it cannot.
func num(v float64) *float64 {
	if !metric.Finite(v) {
		return nil
	}
	return &v
}

// moment reads a time of an input: RFC 3339, or a duration before now.
func (t *Toolset) moment(field, s string, otherwise time.Time) (time.Time, error) {
	if s == "" || s == "now" {
		return otherwise, nil
	}
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		d, err := model.ParseDuration(rest)
		if err == nil {
			return t.client.Now().Add(-time.Duration(d)), nil
		}
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s %q is no time", field, clip(s, 60)), Fix: "write RFC 3339, for example 2026-03-04T10:00:00Z, or -10m"}
	}
	return at, nil
}

// within1 reads a count of an input: 0 means the default, the bound is never passed.
func within1(field string, n, otherwise, most int) (int, error) {
	if n < 0 {
		return 0, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s %d is negative", field, n)}
	}
	if n == 0 {
		n = otherwise
	}
	return min(n, most), nil
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

func asToolError(err error) (*tool.Error, bool) { return errors.AsType[*tool.Error](err) }
