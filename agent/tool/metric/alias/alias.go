// Package alias knows the metrics whose names and labels drift between versions
// and exporters, and finds all names of one signal with one expression. The
// table is data (signals.json); this package only reads it. It imports the
// standard library and package metric.
package alias

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

//go:embed signals.json
var raw []byte

// Kind of a signal.
type Kind string

// Kinds. A last value is a gauge that holds the last of something and stays
// after it: DCGM's last XID.
const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
	Bitmask   Kind = "bitmask"
	Last      Kind = "last"
	Info      Kind = "info"
)

// Metric is one name under which a signal is found.
type Metric struct {
	Name string `json:"name"`
	// Scale turns the metric's unit into the signal's; 0 means 1.
	Scale float64 `json:"scale,omitempty"`
	// Where says which exporter or version uses the name.
	Where string `json:"where,omitempty"`
	// Match are labels the series must carry besides, for metrics that hold
	// several signals apart by a label.
	Match map[string]string `json:"match,omitempty"`
}

// Signal is one thing that can be measured, under all its names.
type Signal struct {
	// Signal is its name here: "gpu.temperature".
	Signal string `json:"signal"`
	// Family names the labels its series carry; see Families.
	Family string `json:"family"`
	Kind   Kind   `json:"kind"`
	Unit   string `json:"unit,omitempty"`
	// Text says what it means and what it does not, one sentence.
	Text string `json:"text"`
	// Metrics, the current name first.
	Metrics []Metric `json:"metrics"`
}

// Generation maps what a label means (pod, namespace, node, uuid, ...) to its
// name in one generation of an exporter or scrape configuration.
type Generation map[string]string

// Family is how the labels of a group of metrics are named.
type Family struct {
	// Labels by generation, the one that wins first. Meanings that are paired
	// (pod and namespace) are taken from the same generation.
	Labels []Generation `json:"labels"`
	// Self marks series that speak of the exporter itself: where a pod or
	// container label contains one of these it names no workload.
	Self []string `json:"self,omitempty"`
}

// Table is the whole of it.
type Table struct {
	Families map[string]Family `json:"families"`
	List     []Signal          `json:"signals"`
	byName   map[string]int
	byMetric map[string]int
}

// shipped is the table that ships, read and checked once in the life of the process.
var shipped = sync.OnceValues(func() (*Table, error) { return Parse(raw) })

// Load gives the table that ships. It is shared by all who ask and must not be changed.
func Load() (*Table, error) { return shipped() }

// Parse reads a table. Every signal needs a known family, a kind, a text and at
// least one name; a name belongs to one signal only, unless labels tell the
// signals apart.
func Parse(data []byte) (*Table, error) {
	t := &Table{byName: map[string]int{}, byMetric: map[string]int{}}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("alias table: %w", err)
	}
	var errs []error
	for i, s := range t.List {
		if _, dup := t.byName[s.Signal]; dup || s.Signal == "" {
			errs = append(errs, fmt.Errorf("signal %q stands twice or has no name", s.Signal))
		}
		t.byName[s.Signal] = i
		if _, ok := t.Families[s.Family]; !ok {
			errs = append(errs, fmt.Errorf("signal %s: there is no family %q", s.Signal, s.Family))
		}
		if !slices.Contains([]Kind{Gauge, Counter, Histogram, Bitmask, Last, Info}, s.Kind) || s.Text == "" || len(s.Metrics) == 0 {
			errs = append(errs, fmt.Errorf("signal %s: kind %q, text and metrics are required", s.Signal, s.Kind))
		}
		for _, m := range s.Metrics {
			if at, dup := t.byMetric[m.Name]; (dup && len(m.Match) == 0 && at != i) || m.Name == "" {
				errs = append(errs, fmt.Errorf("signal %s: metric %q belongs to another signal or has no name", s.Signal, m.Name))
				continue
			}
			if _, dup := t.byMetric[m.Name]; !dup {
				t.byMetric[m.Name] = i
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("alias table: %w", err)
	}
	return t, nil
}

// Signal finds a signal by its name.
func (t *Table) Signal(name string) (Signal, bool) {
	i, ok := t.byName[name]
	if !ok {
		return Signal{}, false
	}
	return t.List[i], true
}

// Meaning finds the signal that a metric measures. The suffixes of histograms
// and the prefix that Ray puts before an engine's metrics ("ray_vllm_...") are
// seen through.
func (t *Table) Meaning(name string) (Signal, bool) {
	for _, n := range variants(name) {
		if i, ok := t.byMetric[n]; ok {
			return t.List[i], true
		}
	}
	return Signal{}, false
}

// variants lists the spellings under which a metric's name may be known.
func variants(name string) []string {
	bare := name
	if rest, ok := strings.CutPrefix(name, "ray_"); ok {
		bare = rest
	}
	var out []string
	for _, n := range []string{name, bare} {
		out = append(out, n)
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if cut, ok := strings.CutSuffix(n, suffix); ok {
				out = append(out, cut)
			}
		}
	}
	for _, n := range slices.Clone(out) {
		// An engine's prefix is written with a colon or an underscore.
		for _, engine := range []string{"vllm", "sglang", "trtllm"} {
			if rest, ok := strings.CutPrefix(n, engine+"_"); ok {
				out = append(out, engine+":"+rest)
			}
		}
	}
	return out
}

// place stands in a wrap for the selector.
const place = "%s"

// Expr writes one PromQL expression that finds a signal under all its names and
// labels: the names and generations are joined with "or", so that what exports
// both old and new counts once. equal narrows it by meaning ("pod", "namespace",
// "uuid", ...) or by a label's own name. wrap is put around each selector, with
// %s for it ("rate(%s[5m])"); empty leaves the selector bare. Values come in the
// signal's unit.
func (t *Table) Expr(signal string, equal map[string]string, wrap string) (string, error) {
	s, ok := t.Signal(signal)
	if !ok {
		return "", fmt.Errorf("there is no signal %q", signal)
	}
	if wrap == "" {
		wrap = place
	}
	if strings.Count(wrap, place) != 1 {
		return "", fmt.Errorf("wrap %q needs %s once", wrap, place)
	}
	var parts []string
	for _, m := range s.Metrics {
		for _, labels := range t.generations(s.Family, equal) {
			maps.Copy(labels, m.Match)
			one := strings.Replace(wrap, place, metric.Selector(m.Name, labels), 1)
			if m.Scale != 0 && m.Scale != 1 {
				one = fmt.Sprintf("(%s) * %v", one, m.Scale)
			}
			if !slices.Contains(parts, one) {
				parts = append(parts, one)
			}
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	for i := range parts {
		parts[i] = "(" + parts[i] + ")"
	}
	return strings.Join(parts, " or "), nil
}

// generations writes the wanted labels in the names of every generation that
// has all of the meanings asked for; a generation that lacks one falls back to
// the others' name for it.
func (t *Table) generations(family string, equal map[string]string) []map[string]string {
	f := t.Families[family]
	var out []map[string]string
	for _, g := range f.Labels {
		labels, fits := map[string]string{}, len(equal) == 0
		for meaning, value := range equal {
			name, ok := g[meaning]
			fits = fits || ok
			for _, other := range f.Labels {
				if !ok {
					name, ok = other[meaning]
				}
			}
			if !ok {
				name = meaning
			}
			labels[name] = value
		}
		if fits {
			out = append(out, labels)
		}
		if len(equal) == 0 {
			break
		}
	}
	if len(out) == 0 {
		// No generation knows the meanings: they are labels as they stand.
		labels := map[string]string{}
		maps.Copy(labels, equal)
		out = append(out, labels)
	}
	return out
}

// Identity says what a series is about, whatever its labels are called.
type Identity map[string]string

// Identify reads the labels of a series of a signal's family by meaning: "pod",
// "namespace", "container", "node", "uuid", "gpu", "model", "claim", ... Where
// the labels speak of the exporter itself, pod, namespace and container are left
// out: a device that nobody uses has no workload.
func (t *Table) Identify(family string, labels map[string]string) Identity {
	f := t.Families[family]
	id := Identity{}
	for _, g := range f.Labels {
		workload := map[string]string{}
		own := false
		for meaning, name := range g {
			v := labels[name]
			if v == "" {
				continue
			}
			switch meaning {
			case "pod", "container", "namespace":
				workload[meaning] = v
				own = own || meaning != "namespace" && slices.ContainsFunc(f.Self, func(s string) bool { return strings.Contains(v, s) })
			default:
				if _, have := id[meaning]; !have {
					id[meaning] = v
				}
			}
		}
		// The paired ones come from one generation, or not at all.
		if _, have := id["pod"]; !have && !own && workload["pod"] != "" {
			maps.Copy(id, workload)
		}
	}
	if _, have := id["namespace"]; !have && len(f.Self) == 0 {
		for _, g := range f.Labels {
			if v := labels[g["namespace"]]; v != "" && id["namespace"] == "" {
				id["namespace"] = v
			}
		}
	}
	return id
}
