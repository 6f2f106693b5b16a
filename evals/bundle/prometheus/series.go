package prometheus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

const headerFile = metricsDir + "/header.yaml"

// header says what the files of series leave out.
type header struct {
	// Start of the series: RFC 3339, or relative to the capture ("-1h").
	Start string `json:"start,omitempty"`
	// Interval between two values, "1m".
	Interval string `json:"interval,omitempty"`
}

// readHeader reads metrics/header.yaml, where there is one.
func (r *reader) readHeader() error {
	raw, err := r.bytes(headerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = yaml.UnmarshalStrict(raw, &r.header)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", headerFile, err)
	}
	return nil
}

// moment reads a time: RFC 3339, or a duration before the capture with a sign.
func (r *reader) moment(s string) (time.Time, error) {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		d, err := model.ParseDuration(rest)
		if err != nil {
			return time.Time{}, fmt.Errorf("start %q: %w", s, err)
		}
		return r.now.Add(-time.Duration(d)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("start %q is neither an RFC 3339 time nor a duration before the capture such as -1h", s)
	}
	return t, nil
}

func interval(s string) (time.Duration, error) {
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("interval %q: %w", s, err)
	}
	if d <= 0 {
		return 0, fmt.Errorf("interval %q is not positive", s)
	}
	return time.Duration(d), nil
}

// readSeries reads a .series file.
func (r *reader) readSeries(raw []byte) error {
	start, step := r.header.Start, r.header.Interval
	line := 0
	for text := range strings.Lines(string(raw)) {
		line++
		text = strings.TrimSpace(text)
		verb, rest, _ := strings.Cut(text, " ")
		switch {
		case text == "", text[0] == '#':
		case verb == "start":
			start = strings.TrimSpace(rest)
		case verb == "load":
			step = strings.TrimSpace(rest)
		default:
			if err := r.seriesLine(text, start, step); err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
	}
	return nil
}

// seriesLine reads one series: its labels and its values.
func (r *reader) seriesLine(text, start, step string) error {
	if start == "" || step == "" {
		return fmt.Errorf("a series before its start and interval; say \"start -1h\" and \"load 1m\" above it, or start and interval in %s", headerFile)
	}
	at, err := r.moment(start)
	if err != nil {
		return err
	}
	every, err := interval(step)
	if err != nil {
		return err
	}
	// The parser expands before anyone can count, so the counting comes first.
	if n := expands(text); n > r.limits.Points {
		return fmt.Errorf("the series expands to %d points, more than %d", n, r.limits.Points)
	}
	ls, values, err := r.parser.ParseSeriesDesc(text)
	if err != nil {
		return err
	}
	if err := named(ls); err != nil {
		return err
	}
	ps := make([]point, 0, len(values))
	for i, v := range values {
		if v.Omitted {
			continue
		}
		ps = append(ps, point{t: at.Add(time.Duration(i) * every).UnixMilli(), f: v.Value, h: v.Histogram})
	}
	return r.store.add(ls, ps)
}

func named(ls labels.Labels) error {
	if ls.Get(model.MetricNameLabel) == "" {
		return fmt.Errorf("series %s has no name", ls)
	}
	return nil
}

// expands counts the values a line of series notation stands for: one a word,
// and n more for each "xn". Label values, which are in quotes, count for
// nothing. It never counts too few.
func expands(text string) int {
	n := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '\'', '`':
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && c != '`' {
					i++
				}
			}
		case ' ', '\t':
			n++
		case 'x':
			j := i + 1
			for j < len(text) && (text[j] == ' ' || text[j] == '\t') {
				j++
			}
			end := j
			for end < len(text) && text[end] >= '0' && text[end] <= '9' {
				end++
			}
			if end == j {
				continue
			}
			times, err := strconv.Atoi(text[j:end])
			if err != nil || times > math.MaxInt32 {
				return math.MaxInt32
			}
			n += times
			i = end - 1
		}
		if n > math.MaxInt32 {
			return math.MaxInt32
		}
	}
	return n
}

// readOpenMetrics reads OpenMetrics text. Every sample must carry its time.
func (r *reader) readOpenMetrics(raw []byte) error {
	p := textparse.NewOpenMetricsParser(raw, labels.NewSymbolTable())
	of := func() int { return bytes.Count(raw, []byte("\n")) }
	seen := 0
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d samples of %d lines: %w", seen, of(), err)
		}
		switch entry {
		case textparse.EntryType:
			name, typ := p.Type()
			r.rec.describe(string(name), func(m *metadata) { m.Type = string(typ) })
		case textparse.EntryHelp:
			name, help := p.Help()
			r.rec.describe(string(name), func(m *metadata) { m.Help = string(help) })
		case textparse.EntryUnit:
			name, unit := p.Unit()
			r.rec.describe(string(name), func(m *metadata) { m.Unit = string(unit) })
		case textparse.EntrySeries:
			seen++
			var ls labels.Labels
			p.Labels(&ls)
			_, t, v := p.Series()
			if t == nil {
				return fmt.Errorf("sample %d, %s, has no timestamp; a recording needs one", seen, ls)
			}
			if err := errors.Join(named(ls), r.store.add(ls, []point{{t: *t, f: v}})); err != nil {
				return err
			}
		case textparse.EntryInvalid, textparse.EntryComment, textparse.EntryHistogram:
		}
	}
}
