package metric_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

var (
	start = time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)
	nan   = math.NaN()
)

// each puts values a minute apart; a nil entry of the variadic form is written as skip.
func each(v ...float64) []metric.Point {
	out := make([]metric.Point, 0, len(v))
	for i, x := range v {
		if x == skip {
			continue
		}
		out = append(out, metric.Point{At: at(i), Value: x})
	}
	return out
}

// skip stands for a missing point.
const skip = -987654321.5

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

func level(n int, v, noise float64, r *rand.Rand) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v + noise*r.NormFloat64()
	}
	return out
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestKeyAndSelector(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		labels              map[string]string
		wantKey, wantSelect string
	}{
		{map[string]string{"__name__": "up", "job": "a", "az": "b"}, `up{az="b",job="a"}`, `up{az="b",job="a"}`},
		{map[string]string{"__name__": "up"}, `up`, `up`},
		{map[string]string{"job": "x"}, `{job="x"}`, `{job="x"}`},
		{map[string]string{}, `{}`, `{}`},
		{map[string]string{"__name__": "vllm:num_requests_running"}, `vllm:num_requests_running`, `vllm:num_requests_running`},
		{map[string]string{"__name__": "http.server.duration", "k8s.pod": "p"}, `http.server.duration{"k8s.pod"="p"}`, `{"http.server.duration","k8s.pod"="p"}`},
		// A value that tries to end the selector stays a value.
		{map[string]string{"__name__": "up", "pod": "x\"} or vector(1) #\n\xff"}, `up{pod="x\"} or vector(1) #\n\xff"}`, `up{pod="x\"} or vector(1) #\n\xff"}`},
	} {
		if got := metric.Key(tc.labels); got != tc.wantKey {
			t.Errorf("Key %s, want %s", got, tc.wantKey)
		}
		equal := map[string]string{}
		for k, v := range tc.labels {
			if k != metric.Name {
				equal[k] = v
			}
		}
		if got := metric.Selector(tc.labels[metric.Name], equal); got != tc.wantSelect {
			t.Errorf("Selector %s, want %s", got, tc.wantSelect)
		}
	}
	if got, want := metric.AnyOf("a.b", "c|d"), `"a\\.b|c\\|d"`; got != want {
		t.Errorf("AnyOf %s, want %s", got, want)
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in       []metric.Point
		increase float64
		rate     float64
		ok       bool
		resets   int
	}{
		"steady":          {each(0, 60, 120), 120, 1, true, 0},
		"restart":         {each(100, 160, 30, 90), 150, 150.0 / 180, true, 1},
		"NaN between":     {each(0, nan, 120), 120, 1, true, 0},
		"one point":       {each(5), 0, 0, false, 0},
		"only NaN":        {each(nan, nan), 0, 0, false, 0},
		"none":            {nil, 0, 0, false, 0},
		"infinite is out": {each(0, math.Inf(1), 60), 60, 0.5, true, 0},
	} {
		got, ok := metric.Increase(tc.in)
		if ok != tc.ok || got != tc.increase {
			t.Errorf("%s: increase %v %v, want %v %v", name, got, ok, tc.increase, tc.ok)
		}
		if got, ok := metric.Rate(tc.in); ok != tc.ok || math.Abs(got-tc.rate) > 1e-9 {
			t.Errorf("%s: rate %v %v, want %v %v", name, got, ok, tc.rate, tc.ok)
		}
		if got := metric.Resets(tc.in); got != tc.resets {
			t.Errorf("%s: resets %d, want %d", name, got, tc.resets)
		}
	}
	same := []metric.Point{{At: start, Value: 1}, {At: start, Value: 5}}
	if _, ok := metric.Rate(same); ok {
		t.Error("a rate over no time was given")
	}
	if diff := cmp.Diff([]metric.Point{{At: at(1), Value: 1}, {At: at(4), Value: 0.5}},
		metric.Rates(each(0, 60, skip, 120, 30), 90*time.Second)); diff != "" {
		t.Errorf("the rate inside a gap is unknown, a restart counts from zero: %s", diff)
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   []metric.Point
		want []metric.Gap
	}{
		"whole":            {each(1, 1, 1, 1, 1, 1), nil},
		"vanished":         {each(1, 1, 1), []metric.Gap{{From: at(2), To: at(5)}}},
		"appeared":         {each(skip, skip, 1, 1, 1, 1), []metric.Gap{{From: at(0), To: at(2)}}},
		"hole":             {each(1, skip, skip, 1, 1, 1), []metric.Gap{{From: at(0), To: at(3)}}},
		"NaN is no gap":    {each(1, nan, nan, 1, 1, 1), nil},
		"nothing at all":   {nil, []metric.Gap{{From: at(0), To: at(5)}}},
		"one scrape amiss": {each(1, 1, 1, 1, skip, 1), []metric.Gap{{From: at(3), To: at(5)}}},
	} {
		if diff := cmp.Diff(tc.want, metric.Gaps(tc.in, at(0), at(5), time.Minute)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSummarise(t *testing.T) {
	t.Parallel()
	s := metric.Summarise(each(3, nan, 1, 2, 100))
	want := metric.Summary{Points: 4, NaNs: 1, First: 3, FirstAt: at(0), Last: 100, LastAt: at(4), Min: 1, MinAt: at(2), Max: 100, MaxAt: at(4), Mean: 26.5, Median: 2.5, Spread: 1.4826}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if s := metric.Summarise(each(nan)); s.Points != 0 || s.NaNs != 1 || !math.IsNaN(s.Mean) {
		t.Errorf("no numbers: %+v", s)
	}
	big := math.MaxFloat64
	if s := metric.Summarise(each(big, big)); s.Mean != big || s.Median != big {
		t.Errorf("figures of the largest values overflow: %+v", s)
	}
}

func TestThinKeepsSpikes(t *testing.T) {
	t.Parallel()
	v := make([]float64, 5000)
	for i := range v {
		v[i] = 10
	}
	v[1234], v[3456] = 99, -5
	in := each(v...)
	out := metric.Thin(in, 100)
	if len(out) > 100 || out[0] != in[0] || out[len(out)-1] != in[len(in)-1] {
		t.Fatalf("%d points, ends %v %v", len(out), out[0], out[len(out)-1])
	}
	s := metric.Summarise(out)
	if s.Max != 99 || s.Min != -5 {
		t.Errorf("a spike is lost: %v %v", s.Min, s.Max)
	}
	for i := 1; i < len(out); i++ {
		if !out[i].At.After(out[i-1].At) {
			t.Fatalf("points %d and %d out of order", i-1, i)
		}
	}
	for _, most := range []int{0, 1, 2, 3} {
		if got := metric.Thin(in, most); len(got) > max(most, 1) {
			t.Errorf("most %d gives %d", most, len(got))
		}
	}
}

func TestSparkline(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   []metric.Point
		want string
	}{
		"ramp":     {each(0, 1, 2, 3, 4, 5, 6, 7), "▁▂▃▄▅▆▇█"},
		"constant": {each(5, 5, 5, 5, 5, 5, 5, 5), "▁▁▁▁▁▁▁▁"},
		"vanished": {each(7, 0, 7), "█▁█     "},
		"NaN":      {each(0, nan, 7, nan, 0, 7, 0, 7), "▁x█x▁█▁█"},
		"nothing":  {nil, "        "},
	} {
		if got := metric.Sparkline(tc.in, at(0), at(7), 8); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := metric.Sparkline(each(1, 1, 1, 1, 9, 1, 1, 1), at(0), at(7), 2); got != "▁█" {
		t.Errorf("a spike is lost in a narrow line: %q", got)
	}
	if got := metric.Sparkline(each(1), at(0), at(7), 0); got != "" {
		t.Errorf("no width: %q", got)
	}
}

func TestTrend(t *testing.T) {
	t.Parallel()
	r := seeded()
	ramp := func(slope, noise float64) []float64 {
		out := make([]float64, 60)
		for i := range out {
			out[i] = 50 + slope*float64(i) + noise*r.NormFloat64()
		}
		return out
	}
	spike := level(60, 50, 0.2, r)
	spike[30], spike[31] = 500, 900
	for name, tc := range map[string]struct {
		in   []float64
		want metric.Direction
	}{
		"rising":           {ramp(1, 2), metric.Rising},
		"falling":          {ramp(-0.5, 2), metric.Falling},
		"flat":             {level(60, 50, 0.5, r), metric.Flat},
		"constant":         {level(60, 0, 0, r), metric.Flat},
		"spike is flat":    {spike, metric.Flat},
		"noise":            {level(60, 10, 30, r), metric.Unsteady},
		"too few":          {[]float64{1, 2, 3}, metric.Unknown},
		"tiny drift":       {ramp(0.01, 0), metric.Flat},
		"long":             {ramp(1, 0), metric.Rising},
		"mostly NaN":       {[]float64{nan, 1, nan, nan, 2}, metric.Unknown},
		"falls below zero": {ramp(-2, 1), metric.Falling},
	} {
		if got := metric.Trend(each(tc.in...)); got.Direction != tc.want {
			t.Errorf("%s: %+v, want %s", name, got, tc.want)
		}
	}
	c := metric.Trend(each(ramp(0.6, 0)...))
	if math.Abs(c.PerSecond-0.01) > 1e-9 || math.Abs(c.Change-0.6*59) > 1e-6 || c.Tau != 1 {
		t.Errorf("slope of a clean ramp: %+v", c)
	}
}

func TestChangePoints(t *testing.T) {
	t.Parallel()
	r := seeded()
	join := func(parts ...[]float64) []float64 {
		var out []float64
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	spike := level(60, 50, 0.5, r)
	spike[30], spike[31] = 500, 900
	ramp := make([]float64, 60)
	for i := range ramp {
		ramp[i] = float64(i)
	}
	noisyRamp := make([]float64, 120)
	for i := range noisyRamp {
		noisyRamp[i] = float64(i) + r.NormFloat64()
	}
	for name, tc := range map[string]struct {
		in   []float64
		want []int // minutes
	}{
		"step up":           {join(level(30, 10, 0.5, r), level(30, 40, 0.5, r)), []int{30}},
		"step down, clean":  {join(level(20, 1410, 0, r), level(20, 345, 0, r)), []int{20}},
		"up and back":       {join(level(20, 5, 0.2, r), level(10, 9, 0.2, r), level(20, 5, 0.2, r)), []int{20, 30}},
		"late":              {join(level(55, 0, 0, r), level(5, 3, 0, r)), []int{55}},
		"spike of two":      {spike, nil},
		"ramp":              {ramp, nil},
		"noisy ramp":        {noisyRamp, nil},
		"noise":             {level(200, 10, 3, r), nil},
		"constant":          {level(50, 7, 0, r), nil},
		"too short":         {[]float64{1, 1, 1, 1, 9, 9, 9, 9}, nil},
		"NaN does not move": {join([]float64{nan, nan}, level(20, 1, 0, r), level(20, 2, 0, r)), []int{22}},
	} {
		got := metric.ChangePoints(each(tc.in...))
		var when []int
		for _, s := range got {
			when = append(when, int(s.At.Sub(start).Minutes()))
		}
		if diff := cmp.Diff(tc.want, when); diff != "" {
			t.Errorf("%s: %s %+v", name, diff, got)
		}
	}
	got := metric.ChangePoints(each(join(level(20, 10, 0, r), level(20, 40, 0, r))...))
	if len(got) != 1 || got[0].Before != 10 || got[0].After != 40 {
		t.Errorf("levels: %+v", got)
	}
	var stairs []float64
	for i := range 12 {
		stairs = append(stairs, level(6, float64(i*i), 0, r)...)
	}
	if got := metric.ChangePoints(each(stairs...)); len(got) > 5 {
		t.Errorf("%d shifts, more than the bound", len(got))
	}
}

// TestChangePointsOnNoise counts false shifts in plain noise of many kinds: the
// threshold must hold them rare.
func TestChangePointsOnNoise(t *testing.T) {
	t.Parallel()
	r := seeded()
	wrong, all := 0, 400
	for range all {
		if len(metric.ChangePoints(each(level(120, 100, 5, r)...))) > 0 {
			wrong++
		}
	}
	if wrong > all/50 {
		t.Errorf("%d of %d noisy series have a shift that is none", wrong, all)
	}
}

func TestOutliers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in    []float64
		share float64
		want  []int
	}{
		"straggler":              {[]float64{1400, 1410, 1395, 345, 1405, 1400, 1402, 1398}, 0.1, []int{3}},
		"equal peers, one apart": {[]float64{5, 5, 5, 9}, 0.1, []int{3}},
		"rounding":               {[]float64{100, 100, 100, 100.1}, 0.1, nil},
		"two apart, worst first": {[]float64{10, 11, 10, 11, 10, 30, 11, 90}, 0.1, []int{7, 5}},
		"all differ":             {[]float64{10, 20, 30, 40}, 0.1, nil},
		"too few":                {[]float64{1, 100}, 0.1, nil},
		"NaN is left out":        {[]float64{nan, 10, 10, 10, 50}, 0.1, []int{4}},
		"zeros and one":          {[]float64{0, 0, 0, 0, 1}, 0.1, []int{4}},
		"none":                   {nil, 0.1, nil},
	} {
		var got []int
		for _, o := range metric.Outliers(tc.in, tc.share) {
			got = append(got, o.Index)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	o := metric.Outliers([]float64{1400, 1400, 1400, 345}, 0.1)
	if len(o) != 1 || o[0].Score >= 0 || o[0].Median != 1400 || o[0].Value != 345 {
		t.Errorf("the sign says which side: %+v", o)
	}
	if o := metric.Outliers([]float64{0, 0, 0, 1}, 0); len(o) != 1 || o[0].Score != 1000 {
		t.Errorf("the score is bounded: %+v", o)
	}
}

func TestPartialNamesTheServersWords(t *testing.T) {
	t.Parallel()
	err := error(&metric.Partial{Warnings: []string{"store a is away", "cut"}})
	if !strings.Contains(err.Error(), "partial: store a is away; cut") {
		t.Error(err)
	}
}

// FuzzFunctions feeds any numbers to every function: none may panic, answers
// keep their promises.
func FuzzFunctions(f *testing.F) {
	f.Add([]byte{1, 2, 3, 250, 4}, uint16(60), uint8(8))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 255, 254, 253}, uint16(0), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, step uint16, width uint8) {
		special := []float64{nan, math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64}
		points := make([]metric.Point, len(raw))
		vals := make([]float64, len(raw))
		for i, b := range raw {
			v := float64(b)
			if int(b) >= 250 {
				v = special[int(b)-250]
			}
			vals[i] = v
			points[i] = metric.Point{At: start.Add(time.Duration(i) * time.Duration(step) * time.Second), Value: v}
		}
		end := start.Add(time.Duration(len(raw)) * time.Duration(step) * time.Second)
		if got := utf8.RuneCountInString(metric.Sparkline(points, start, end, int(width))); got != int(width) && got != 0 {
			t.Fatalf("sparkline of %d, want %d", got, width)
		}
		if c := metric.Trend(points); c.Direction == "" || math.IsNaN(c.PerSecond) || math.IsNaN(c.Tau) {
			t.Fatalf("trend %+v", c)
		}
		for _, s := range metric.ChangePoints(points) {
			if !metric.Finite(s.Before) || !metric.Finite(s.After) || !metric.Finite(s.Score) {
				t.Fatalf("shift %+v", s)
			}
		}
		for _, o := range metric.Outliers(vals, 0.1) {
			if math.IsNaN(o.Score) || o.Index < 0 || o.Index >= len(vals) {
				t.Fatalf("outlier %+v", o)
			}
		}
		if got := metric.Thin(points, int(width)); len(got) > max(int(width), 1) {
			t.Fatalf("thinned to %d, want at most %d", len(got), width)
		}
		metric.Increase(points)
		metric.Rates(points, time.Minute)
		metric.Gaps(points, start, end, time.Duration(step)*time.Second)
		metric.Summarise(points)
	})
}
