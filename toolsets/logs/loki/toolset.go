package loki

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/logtemplate"
)

//go:embed text/*.md
var texts embed.FS

// Toolset offers the loki_* tools. It is safe for concurrent use.
type Toolset struct {
	client *Client
	now    func() time.Time
	tools  []tool.Tool
	status *tool.Kept[tool.Status]
}

var _ tool.Toolset = (*Toolset)(nil)

// New makes the toolset over a client. It talks to nothing.
func New(c *Client) (*Toolset, error) {
	if c == nil {
		return nil, errors.New("loki: a client is required")
	}
	t := &Toolset{client: c, now: c.c.Now, status: tool.NewKept[tool.Status](tool.Keep{Now: c.c.Now, For: statusFor})}
	for _, mk := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("loki_query", t.query) },
		func() (tool.Tool, error) { return read("loki_pod", t.pod) },
		func() (tool.Tool, error) { return read("loki_labels", t.labels) },
	} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("loki: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "loki" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// statusFor is how long a status is reused.
const statusFor = time.Minute

// Status implements tool.Toolset: absent without a Loki, denied or broken as the
// server answers.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	st, err := t.status.Get(ctx, "", func(ctx context.Context) (tool.Status, error) { return t.probe(ctx), nil })
	if err != nil {
		return tool.Status{State: tool.Broken, Reason: err.Error()}
	}
	return st
}

func (t *Toolset) probe(ctx context.Context) tool.Status {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st := tool.Status{State: tool.Ready}
	if err := t.client.Reach(ctx); err != nil {
		st = tool.Status{State: tool.Broken, Reason: err.Error()}
		if e, ok := errors.AsType[*tool.Error](err); ok {
			st.Reason, st.Fix = e.User, e.Fix
			switch e.Kind {
			case tool.NotServed:
				st.State = tool.Absent
			case tool.Forbidden:
				st.State = tool.Denied
			}
		}
	}
	return st
}

// QueryIn is a LogQL query.
type QueryIn struct {
	Query string `json:"query" jsonschema:"LogQL: {namespace=\"train\"} |~ \"(?i)error\""`
	Since string `json:"since,omitempty" jsonschema:"90m, 7d; default 1h"`
	Until string `json:"until,omitempty" jsonschema:"how long before now"`
	Limit int    `json:"limit,omitempty"`
}

// PodIn asks for one pod's lines.
type PodIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container,omitempty"`
	Grep      string `json:"grep,omitempty"`
	Since     string `json:"since,omitempty"`
	Until     string `json:"until,omitempty"`
}

// Line is one line of a log.
type Line struct {
	At     time.Time `json:"at"`
	Stream string    `json:"stream,omitempty"`
	Text   string    `json:"text"`
}

// Shape is a template of lines.
type Shape struct {
	Template string `json:"template"`
	Level    string `json:"level"`
	Count    int    `json:"count"`
	Sample   string `json:"sample,omitempty"`
}

// SeriesOut is one result of a metric query.
type SeriesOut struct {
	Labels string `json:"labels"`
	First  string `json:"first"`
	Last   string `json:"last"`
	Points int    `json:"points"`
}

// Out is the answer of loki_query and loki_pod.
type Out struct {
	Query   string      `json:"query"`
	From    time.Time   `json:"from"`
	To      time.Time   `json:"to"`
	Lines   int         `json:"lines"`
	Streams int         `json:"streams"`
	More    bool        `json:"more"`
	Shapes  []Shape     `json:"templates"`
	Newest  []Line      `json:"newest"`
	Series  []SeriesOut `json:"series"`
}

const (
	shownLines  = 25
	shownShapes = 20
	shownSeries = 20
	shownBytes  = 600
)

func (t *Toolset) query(ctx context.Context, in QueryIn) (tool.Output[Out], error) {
	return t.run(ctx, in.Query, in.Since, in.Until, time.Hour, in.Limit)
}

func (t *Toolset) pod(ctx context.Context, in PodIn) (tool.Output[Out], error) {
	n, err := t.client.naming(ctx)
	if err != nil {
		return tool.Output[Out]{}, err
	}
	q := n.selector(in.Namespace, in.Pod, in.Container)
	if in.Grep != "" {
		q += " |~ " + strconv.Quote("(?i)"+in.Grep)
	}
	return t.run(ctx, q, in.Since, in.Until, 6*time.Hour, 2000)
}

func (t *Toolset) run(ctx context.Context, logql, since, until string, def time.Duration, limit int) (tool.Output[Out], error) {
	var out tool.Output[Out]
	back, err := parseSpan(since, def)
	if err != nil {
		return out, err
	}
	ends, err := parseSpan(until, 0)
	if err != nil {
		return out, err
	}
	if limit < 0 || limit > maxLines {
		return out, tool.Errorf(tool.Invalid, "limit %d: from 1 to %d lines may be asked for", limit, maxLines)
	}
	if limit == 0 {
		limit = 1000
	}
	now := t.now()
	q := Query{LogQL: logql, From: now.Add(-back), To: now.Add(-ends), Limit: limit}
	a, err := t.client.Range(ctx, q)
	if err != nil {
		return out, err
	}
	out.Data = summarise(q, a)
	out.Text = textOf(out.Data)
	return out, nil
}

func summarise(q Query, a Answer) Out {
	o := Out{Query: q.LogQL, From: q.From.UTC(), To: q.To.UTC(), Lines: a.Lines, Streams: len(a.Streams), More: a.Full, Shapes: []Shape{}, Newest: []Line{}, Series: []SeriesOut{}}
	type dated struct {
		Line
		stream int
	}
	var all []dated
	var text strings.Builder
	for i, s := range a.Streams {
		name := labelText(s.Labels)
		for _, e := range s.Entries {
			all = append(all, dated{Line{At: e.At, Stream: name, Text: clip(e.Line, shownBytes)}, i})
			text.WriteString(e.Line + "\n")
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].At.Before(all[j].At) })
	for _, l := range all[max(0, len(all)-shownLines):] {
		if len(a.Streams) == 1 {
			l.Stream = ""
		}
		o.Newest = append(o.Newest, l.Line)
	}
	if len(all) > shownLines {
		for _, t := range logtemplate.Mine(text.String()).Templates {
			if len(o.Shapes) == shownShapes {
				break
			}
			sh := Shape{Template: clip(t.Text, shownBytes), Level: t.Level.String(), Count: t.Count}
			if t.Level != logtemplate.Plain {
				sh.Sample = clip(t.Sample, shownBytes)
			}
			o.Shapes = append(o.Shapes, sh)
		}
	}
	for _, s := range a.Series[:min(len(a.Series), shownSeries)] {
		one := SeriesOut{Labels: labelText(s.Labels), Points: len(s.Points)}
		if n := len(s.Points); n > 0 {
			one.First, one.Last = s.Points[0].Value, s.Points[n-1].Value
		}
		o.Series = append(o.Series, one)
	}
	return o
}

// labelText writes labels in a fixed order.
func labelText(l map[string]string) string {
	parts := make([]string, 0, len(l))
	for k, v := range l {
		parts = append(parts, k+"="+strconv.Quote(clip(v, 120)))
	}
	sort.Strings(parts)
	return clip("{"+strings.Join(parts, ", ")+"}", 400)
}

func textOf(o Out) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s to %s: %d lines of %d streams", o.Query, o.From.Format(time.RFC3339), o.To.Format(time.RFC3339), o.Lines, o.Streams)
	if o.More {
		b.WriteString(" (there may be more: narrow the query or its time)")
	}
	b.WriteString("\n")
	for _, s := range o.Series {
		fmt.Fprintf(&b, "%s: %d points, first %s, last %s\n", s.Labels, s.Points, s.First, s.Last)
	}
	if len(o.Shapes) > 0 {
		b.WriteString("templates, rare errors first:\n")
		for _, s := range o.Shapes {
			fmt.Fprintf(&b, "%s x%d %s\n", s.Level, s.Count, s.Template)
		}
		fmt.Fprintf(&b, "newest %d lines:\n", len(o.Newest))
	}
	for _, l := range o.Newest {
		fmt.Fprintf(&b, "%s %s", l.At.Format(time.RFC3339), l.Text)
		if l.Stream != "" {
			b.WriteString("  " + l.Stream)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// LabelsIn asks for the names of labels, or for one's values.
type LabelsIn struct {
	Name  string `json:"name,omitempty"`
	Match string `json:"match,omitempty" jsonschema:"stream selector"`
	Since string `json:"since,omitempty"`
}

// LabelsOut lists names or values.
type LabelsOut struct {
	Values []string `json:"values"`
	Total  int      `json:"total"`
}

const shownValues = 200

func (t *Toolset) labels(ctx context.Context, in LabelsIn) (tool.Output[LabelsOut], error) {
	var out tool.Output[LabelsOut]
	back, err := parseSpan(in.Since, 24*time.Hour)
	if err != nil {
		return out, err
	}
	now := t.now()
	var all []string
	what := "labels"
	if in.Name == "" {
		all, err = t.client.Labels(ctx, now.Add(-back), now)
	} else {
		what = "values of " + in.Name
		all, err = t.client.Values(ctx, in.Name, in.Match, now.Add(-back), now)
	}
	if err != nil {
		return out, err
	}
	out.Data = LabelsOut{Values: []string{}, Total: len(all)}
	for _, v := range all[:min(len(all), shownValues)] {
		out.Data.Values = append(out.Data.Values, clip(v, 200))
	}
	out.Text = fmt.Sprintf("%d %s: %s\n", len(all), what, strings.Join(out.Data.Values, ", "))
	return out, nil
}
