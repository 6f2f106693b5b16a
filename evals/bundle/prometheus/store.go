package prometheus

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// store holds series in memory, for the engine to read. Prometheus' own
// database wants a directory to write to, and its package links the clients of
// every cloud; a bundle is small and never changes.
type store struct {
	limits  Limits
	all     []*series
	byKey   map[string]*series
	byName  map[string][]*series
	samples int
}

var _ storage.Queryable = (*store)(nil)

// series is one series, its points ascending in time once the store is sealed.
type series struct {
	labels labels.Labels
	points []point
}

// point is one sample: a float, or a native histogram when h is set.
type point struct {
	t int64 // milliseconds since the epoch
	f float64
	h *histogram.FloatHistogram
}

var _ chunks.Sample = point{}

// T implements chunks.Sample.
func (p point) T() int64 { return p.t }

// ST implements chunks.Sample; a recording knows no start times.
func (point) ST() int64 { return 0 }

// F implements chunks.Sample.
func (p point) F() float64 { return p.f }

// H implements chunks.Sample; all histograms are of floats.
func (point) H() *histogram.Histogram { return nil }

// FH implements chunks.Sample.
func (p point) FH() *histogram.FloatHistogram { return p.h }

// Type implements chunks.Sample.
func (p point) Type() chunkenc.ValueType {
	if p.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// Copy implements chunks.Sample.
func (p point) Copy() chunks.Sample {
	if p.h != nil {
		p.h = p.h.Copy()
	}
	return p
}

// points of a series as the list iterator wants them.
type points []point

// Get implements storage.Samples.
func (p points) Get(i int) chunks.Sample { return p[i] }

// Len implements storage.Samples.
func (p points) Len() int { return len(p) }

func newStore(l Limits) *store {
	return &store{limits: l, byKey: map[string]*series{}, byName: map[string][]*series{}}
}

// add puts points into a series. Order does not matter before seal.
func (s *store) add(ls labels.Labels, ps []point) error {
	key := string(ls.Bytes(nil))
	at, ok := s.byKey[key]
	if !ok {
		if len(s.all) >= s.limits.Series {
			return fmt.Errorf("more than %d series", s.limits.Series)
		}
		at = &series{labels: ls}
		s.byKey[key] = at
		s.all = append(s.all, at)
	}
	if s.samples += len(ps); s.samples > s.limits.Samples {
		return fmt.Errorf("more than %d samples", s.limits.Samples)
	}
	at.points = append(at.points, ps...)
	return nil
}

// seal sorts and indexes. Of two points at one time the one added last stays,
// so that a later file can mend an earlier one.
func (s *store) seal() {
	s.byKey = nil
	for _, at := range s.all {
		slices.SortStableFunc(at.points, func(a, b point) int { return int(min(max(a.t-b.t, -1), 1)) })
		kept := at.points[:0]
		for _, p := range at.points {
			if n := len(kept); n > 0 && kept[n-1].t == p.t {
				kept[n-1] = p
				continue
			}
			kept = append(kept, p)
		}
		at.points = kept
	}
	slices.SortFunc(s.all, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	for _, at := range s.all {
		name := at.labels.Get(model.MetricNameLabel)
		s.byName[name] = append(s.byName[name], at)
	}
}

// with gives a store that holds more series over the same ones; s stays as it is.
func (s *store) with(more []*series) *store {
	out := newStore(s.limits)
	out.all = slices.Clone(s.all)
	out.all = append(out.all, more...)
	out.seal()
	return out
}

// first is the time of the earliest point, in milliseconds; max when there is none.
func (s *store) first() int64 {
	t := int64(math.MaxInt64)
	for _, at := range s.all {
		if len(at.points) > 0 {
			t = min(t, at.points[0].t)
		}
	}
	return t
}

// Querier implements storage.Queryable.
func (s *store) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{store: s, mint: mint, maxt: maxt}, nil
}

// querier reads a store between two times, both included.
type querier struct {
	store      *store
	mint, maxt int64
}

var _ storage.Querier = (*querier)(nil)

// match gives the series with points in the time range that fit, in order of
// their labels.
func (q *querier) match(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) ([]*series, error) {
	from := q.store.all
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			from = q.store.byName[m.Value]
		}
	}
	var out []*series
	for i, at := range from {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(at.between(mint, maxt)) > 0 && matches(at.labels, ms) {
			out = append(out, at)
		}
	}
	return out, nil
}

func matches(ls labels.Labels, ms []*labels.Matcher) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(ls.Get(m.Name)) })
}

// between gives the points from mint to maxt, both included.
func (at *series) between(mint, maxt int64) points {
	lo := sort.Search(len(at.points), func(i int) bool { return at.points[i].t >= mint })
	hi := sort.Search(len(at.points), func(i int) bool { return at.points[i].t > maxt })
	return points(at.points[lo:max(lo, hi)])
}

// Select implements storage.Querier.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		mint, maxt = max(mint, hints.Start), min(maxt, hints.End)
	}
	found, err := q.match(ctx, mint, maxt, ms)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	return &seriesSet{series: found, mint: mint, maxt: maxt, at: -1}
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	out, err := q.collect(ctx, ms, func(ls labels.Labels, add func(string)) {
		if v := ls.Get(name); v != "" {
			add(v)
		}
	})
	return out, nil, err
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, _ *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	out, err := q.collect(ctx, ms, func(ls labels.Labels, add func(string)) {
		ls.Range(func(l labels.Label) { add(l.Name) })
	})
	return out, nil, err
}

// collect gives the sorted, distinct texts of the series that fit.
func (q *querier) collect(ctx context.Context, ms []*labels.Matcher, of func(labels.Labels, func(string))) ([]string, error) {
	found, err := q.match(ctx, q.mint, q.maxt, ms)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	out := []string{}
	for _, at := range found {
		of(at.labels, func(v string) {
			if !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		})
	}
	slices.Sort(out)
	return out, nil
}

// Close implements storage.Querier.
func (*querier) Close() error { return nil }

// seriesSet walks what a Select found.
type seriesSet struct {
	series     []*series
	mint, maxt int64
	at         int
}

var _ storage.SeriesSet = (*seriesSet)(nil)

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	s.at++
	return s.at < len(s.series)
}

// At implements storage.SeriesSet.
func (s *seriesSet) At() storage.Series {
	found := s.series[s.at]
	return &storage.SeriesEntry{Lset: found.labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return storage.NewListSeriesIterator(found.between(s.mint, s.maxt))
	}}
}

// Err implements storage.SeriesSet.
func (*seriesSet) Err() error { return nil }

// Warnings implements storage.SeriesSet.
func (*seriesSet) Warnings() annotations.Annotations { return nil }
