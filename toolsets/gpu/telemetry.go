package gpu

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

const (
	// window is how far back the telemetry of a node is read, step how finely.
	window = 2 * time.Hour
	step   = time.Minute
	// past is how far back XIDs are looked for, pastStep how finely.
	past     = 24 * time.Hour
	pastStep = 5 * time.Minute
	// recent is the part of the window that is "now" for load, clocks and heat.
	recent = 10 * time.Minute
)

// family of the exporter's labels in the alias table.
const family = "dcgm"

// telemetry is what Prometheus tells of a node's GPUs.
type telemetry struct {
	// asked says that a server answered at all.
	asked bool
	// why says what was not seen, empty when everything was.
	why string
	// stopped is when the last of the series ended; zero while they go on.
	stopped  time.Time
	from, to time.Time
	series   int
}

// seen reports whether there is telemetry of this moment.
func (t telemetry) seen() bool { return t.series > 0 && t.stopped.IsZero() }

// anyGPU selects every series of dcgm-exporter, narrowed by more matchers.
func anyGPU(more string) string {
	if more != "" {
		more = "," + more
	}
	return `{__name__=~"(DCGM|dcgm)_.+"` + more + `}`
}

// byNode are the labels under which the node's name stands, the likeliest first.
// An exporter writes the short or the full name of its host.
func byNode(name string) []string {
	value := strconv.Quote(regexp.QuoteMeta(name) + `(\..+)?`)
	var out []string
	for _, l := range []string{"Hostname", "hostname", "node", "kubernetes_node", "exported_node"} {
		out = append(out, l+"=~"+value)
	}
	return out
}

// fromMetrics reads the series of the node's GPUs over the window.
func (t *Toolset) fromMetrics(ctx context.Context, m *machine) {
	now := t.Now()
	m.tel = telemetry{from: now.Add(-window), to: now}
	matchers := byNode(m.name)
	if ids := m.uuids(); len(ids) > 0 {
		matchers = append(matchers, "UUID=~"+metric.AnyOf(ids...))
	}
	var got []metric.Series
	for _, by := range matchers {
		series, err := t.Metrics.Range(ctx, anyGPU(by), m.tel.from, m.tel.to, step)
		if err != nil {
			if p, ok := errors.AsType[*metric.Partial](err); ok {
				m.notes = append(m.notes, "metrics are incomplete: "+p.Error())
			} else {
				m.tel.why = tool.UserText(err)
				return
			}
		}
		m.tel.asked = true
		if got = series; len(got) > 0 {
			break
		}
	}
	m.tel.series = len(got)
	if len(got) == 0 {
		m.tel.why = "Prometheus holds no series of dcgm-exporter for node " + m.name
		return
	}
	var last time.Time
	for _, s := range got {
		t.file(m, s)
		if n := len(s.Points); n > 0 && s.Points[n-1].At.After(last) {
			last = s.Points[n-1].At
		}
	}
	if m.tel.to.Sub(last) > 2*step {
		m.tel.stopped = last
		m.tel.why = "the series of dcgm-exporter for node " + m.name + " ended at " + clock(last)
	}
}

func (m *machine) uuids() []string {
	var out []string
	for _, c := range m.cards {
		if c.uuid != "" {
			out = append(out, c.uuid)
		}
	}
	return out
}

// file puts a series with the card it speaks of.
func (t *Toolset) file(m *machine, s metric.Series) {
	sig, ok := t.alias.Meaning(s.Labels[metric.Name])
	id := t.alias.Identify(family, s.Labels)
	if !ok && id["uuid"] == "" || strings.HasPrefix(id["uuid"], "MIG-") && m.find(id["uuid"], "") == nil {
		return
	}
	c := m.find(id["uuid"], id["pci"])
	if c == nil && id["gpu"] != "" {
		i := slices.IndexFunc(m.cards, func(c *card) bool { return c.index == id["gpu"] && c.uuid == "" })
		if i >= 0 {
			c = m.cards[i]
		}
	}
	if c == nil {
		if id["uuid"] == "" && id["pci"] == "" && id["gpu"] == "" {
			return // of the exporter, or of a switch
		}
		c = &card{node: m.name}
		m.cards = append(m.cards, c)
	}
	c.learn(id["gpu"], id["uuid"], id["pci"], id["model"], s.Labels["DCGM_FI_DRIVER_VERSION"])
	t.holderOf(m, c, id)
	if !ok {
		return
	}
	if c.series == nil {
		c.series = map[string][]metric.Series{}
	}
	name := sig.Signal
	if id["mig"] != "" && !strings.HasPrefix(name, "gpu.xid") {
		name = "mig:" + name
	}
	c.series[name] = append(c.series[name], s)
}

// holderOf reads the workload from a series' labels: its pod, or its claim.
func (t *Toolset) holderOf(m *machine, c *card, id map[string]string) {
	if id["pod"] == "" || id["namespace"] == "" {
		return
	}
	ref := t.podRef(id["namespace"], id["pod"])
	for _, p := range m.pods {
		if p.Namespace == ref.Namespace && p.Name == ref.Name && !over(p) {
			h := holder{pod: ref, how: "exporter labels", obj: p}
			if id["claim"] != "" {
				h.claim = t.claimRef(id["claim_namespace"], id["claim"])
				h.device = c.ref
			}
			c.hold(h)
			return
		}
	}
}

// points of a signal over the last d, all series of the signal together, in time.
func (c *card) points(signal string, to time.Time, d time.Duration) []metric.Point {
	var out []metric.Point
	for _, s := range c.series[signal] {
		for _, p := range s.Points {
			if p.At.After(to.Add(-d)) && !p.At.After(to) && metric.Finite(p.Value) {
				out = append(out, p)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b metric.Point) int { return a.At.Compare(b.At) })
	return out
}

// latest gives the newest value of a signal, the largest of several series, and
// whether it is of this moment.
func (c *card) latest(signal string, to time.Time) (float64, bool) {
	best, ok := math.Inf(-1), false
	for _, s := range c.series[signal] {
		if n := len(s.Points); n > 0 && to.Sub(s.Points[n-1].At) <= 2*step && metric.Finite(s.Points[n-1].Value) {
			best, ok = max(best, s.Points[n-1].Value), true
		}
	}
	return best, ok
}

// median of a signal over the last d; false with no point in it.
func (c *card) median(signal string, to time.Time, d time.Duration) (float64, bool) {
	p := c.points(signal, to, d)
	if len(p) == 0 {
		return 0, false
	}
	return metric.Summarise(p).Median, true
}

// load is how busy the card was over the last d, in percent.
func (c *card) load(to time.Time, d time.Duration) (float64, bool) {
	best, ok := 0.0, false
	for _, s := range []struct {
		name  string
		scale float64
	}{{"gpu.utilization", 1}, {"gpu.engine_active", 100}, {"mig:gpu.engine_active", 100}} {
		if v, have := c.median(s.name, to, d); have {
			best, ok = max(best, v*s.scale), true
		}
	}
	return best, ok
}

// growth is how much a counter grew over the last d, all its series together.
func (c *card) growth(signal string, to time.Time, d time.Duration) (float64, bool) {
	sum, ok := 0.0, false
	for _, s := range c.series[signal] {
		var in []metric.Point
		for _, p := range s.Points {
			if !p.At.Before(to.Add(-d)) {
				in = append(in, p)
			}
		}
		if v, have := metric.Increase(in); have {
			sum, ok = sum+v, true
		}
	}
	return sum, ok
}

// ended gives when the card's last series ended, zero while one goes on or there
// never was one.
func (c *card) ended(to time.Time) time.Time {
	var last time.Time
	for _, list := range c.series {
		for _, s := range list {
			if n := len(s.Points); n > 0 && s.Points[n-1].At.After(last) {
				last = s.Points[n-1].At
			}
		}
	}
	if last.IsZero() || to.Sub(last) <= 2*step {
		return time.Time{}
	}
	return last
}

// metricReports reads XIDs from the exporter. The gauge holds the last XID and
// keeps it: what counts is when it changed. The counter of a window, where it is
// exported, tells every one.
func (t *Toolset) metricReports(ctx context.Context, m *machine) {
	if !m.tel.asked || m.tel.series == 0 {
		return
	}
	names := map[string]bool{}
	for _, signal := range []string{"gpu.xid_last", "gpu.xid_count"} {
		if s, ok := t.alias.Signal(signal); ok {
			for _, one := range s.Metrics {
				names[one.Name] = true
			}
		}
	}
	var any []string
	for n := range names {
		any = append(any, n)
	}
	slices.Sort(any)
	var long []metric.Series
	for _, by := range append(byNode(m.name), "UUID=~"+metric.AnyOf(m.uuids()...)) {
		got, err := t.Metrics.Range(ctx, "{__name__=~"+metric.AnyOf(any...)+","+by+"}", m.tel.to.Add(-past), m.tel.to, pastStep)
		if err != nil && len(got) == 0 {
			m.note("XIDs of the last day", err)
			break
		}
		if long = got; len(long) > 0 {
			break
		}
	}
	gauges := map[*card][]metric.Series{}
	for _, s := range long {
		sig, _ := t.alias.Meaning(s.Labels[metric.Name])
		id := t.alias.Identify(family, s.Labels)
		c := m.find(id["uuid"], id["pci"])
		switch {
		case c == nil || len(s.Points) == 0:
		case sig.Signal == "gpu.xid_count":
			t.counted(m, c, s, workload(id))
		case sig.Signal == "gpu.xid_last":
			gauges[c] = append(gauges[c], s)
		}
	}
	for _, c := range m.cards {
		t.gauged(m, c, gauges[c])
	}
}

// workload names the pod of a series, "namespace/name", empty if it names none.
func workload(id map[string]string) string {
	if id["pod"] == "" {
		return ""
	}
	return id["namespace"] + "/" + id["pod"]
}

// gauged reads the changes of the gauge that holds the last XID of a card. A pod
// that comes or goes makes a new series of the same card; at one time the series
// that lasts longer is the one to believe.
func (t *Toolset) gauged(m *machine, c *card, all []metric.Series) {
	type reading struct {
		value float64
		until time.Time
		who   string
		name  string
	}
	line := map[time.Time]reading{}
	for _, s := range all {
		until := s.Points[len(s.Points)-1].At
		for _, p := range s.Points {
			if have, ok := line[p.At]; metric.Finite(p.Value) && (!ok || until.After(have.until)) {
				line[p.At] = reading{p.Value, until, workload(t.alias.Identify(family, s.Labels)), s.Labels[metric.Name]}
			}
		}
	}
	before, had, who := 0.0, false, ""
	for _, at := range slices.SortedFunc(maps.Keys(line), time.Time.Compare) {
		r := line[at]
		if r.value >= 1 && (!had || r.value != before) {
			// Whoever held the card when the value changed is whom it hit: the pod
			// that died of it is gone from the next sample on.
			one := report{Line: xid.Line{Code: int(r.value), PCI: c.pci, UUID: c.uuid}, from: r.name, pod: cmp.Or(who, r.who), last: at}
			if had {
				// Without a value before, there was an XID, and nobody knows when.
				one.first = t.sharper(c, r.value, at)
				one.last = one.first
			}
			t.report(m, c, one)
		}
		before, had, who = r.value, true, r.who
	}
}

// sharper dates a change that was seen every few minutes by the finer series.
func (t *Toolset) sharper(c *card, value float64, at time.Time) time.Time {
	best := at
	for _, s := range c.series["gpu.xid_last"] {
		for _, p := range s.Points {
			if p.Value == value && p.At.After(at.Add(-pastStep)) && p.At.Before(best) {
				best = p.At
			}
		}
	}
	return best
}

// counted reads the exporter's count of XIDs in its window: it rises when one
// comes and falls when the window leaves it behind.
func (t *Toolset) counted(m *machine, c *card, s metric.Series, who string) {
	code, err := strconv.Atoi(s.Labels["xid"])
	if err != nil || code <= 0 {
		return
	}
	before, had := 0.0, false
	for i, p := range s.Points {
		if p.Value > before && p.Value > 0 {
			r := report{Line: xid.Line{Code: code, PCI: c.pci, UUID: c.uuid}, from: s.Labels[metric.Name], pod: who, last: p.At}
			// The series appears with its first XID; only one that is there from the
			// first step on may be older.
			if had || i == 0 && p.At.After(m.tel.to.Add(-past+pastStep)) {
				r.first = p.At
			}
			t.report(m, c, r)
		}
		before, had = p.Value, true
	}
}

// clock writes a time as findings show it.
func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }
