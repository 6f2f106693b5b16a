package bundle

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Summary is what inspect tells about a bundle.
type Summary struct {
	Cluster       string    `json:"cluster,omitempty"`
	ServerVersion string    `json:"serverVersion,omitempty"`
	Captured      time.Time `json:"captured"`
	// Limited lists the namespaces the capture was limited to; empty means none was left out.
	Limited []string `json:"limited"`
	// Across lists the resources that are there of all namespaces all the same.
	Across     []string       `json:"across"`
	Namespaces []string       `json:"namespaces"`
	Kinds      map[string]int `json:"kinds"`
	Objects    int            `json:"objects"`
	Logs       int            `json:"logs"`
	// Bytes of all files.
	Bytes int64 `json:"bytes"`
	// Places lists the other sources the bundle holds: metrics, flows, ...
	Places  []string  `json:"places"`
	LeftOut []LeftOut `json:"leftOut"`
	Denied  []Denied  `json:"denied"`
}

// Inspect summarises a bundle.
func Inspect(b *Bundle) Summary {
	m := b.Manifest
	s := Summary{Cluster: m.Cluster, ServerVersion: m.ServerVersion, Captured: m.Captured, Kinds: map[string]int{}, Objects: len(b.Objects),
		Limited: append([]string{}, m.Namespaces...), Across: append([]string{}, m.Across...), Namespaces: []string{}, Places: []string{},
		LeftOut: append([]LeftOut{}, m.LeftOut...), Denied: append([]Denied{}, m.Denied...)}
	namespaces := map[string]bool{}
	for _, u := range b.Objects {
		s.Kinds[u.GetKind()]++
		if ns := u.GetNamespace(); ns != "" {
			namespaces[ns] = true
		}
	}
	s.Namespaces = append(s.Namespaces, slices.Sorted(maps.Keys(namespaces))...)
	places := map[string]bool{}
	for _, f := range b.files {
		s.Bytes += f.size
		switch top, _, _ := strings.Cut(f.name, "/"); top {
		case "logs":
			if !ignored(f.name) {
				s.Logs++
			}
		case "metrics", "rules", "nodes", "cloud", "oci", "flows", "alerts.json", "alertmanager.json", "flows.jsonl":
			places[top] = true
		}
	}
	s.Places = append(s.Places, slices.Sorted(maps.Keys(places))...)
	return s
}

// WriteText writes the summary for people. What a bundle says of itself is
// data: control characters in it do not reach the terminal.
func (s Summary) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("cluster", "%s", strings.TrimSpace(s.Cluster+" "+s.ServerVersion))
	line("captured", "%s", s.Captured.Format(time.RFC3339))
	if len(s.Limited) > 0 {
		line("limited to", "%s", strings.Join(s.Limited, ", "))
	}
	if len(s.Across) > 0 {
		line("and of all", "%s", strings.Join(s.Across, ", "))
	}
	line("namespaces", "%s", strings.Join(s.Namespaces, ", "))
	kinds := slices.Sorted(maps.Keys(s.Kinds))
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", s.Kinds[k], k)
	}
	line("objects", "%d: %s", s.Objects, strings.Join(kinds, ", "))
	line("logs", "%d", s.Logs)
	line("size", "%d bytes", s.Bytes)
	if len(s.Places) > 0 {
		line("also holds", "%s", strings.Join(s.Places, ", "))
	}
	for _, l := range s.LeftOut {
		what := l.What
		if l.Namespace != "" {
			what += " in " + l.Namespace
		}
		line("left out", "%s: %s", what, l.Why)
	}
	for _, d := range s.Denied {
		resource := d.Resource
		if d.Group != "" {
			resource += "." + d.Group
		}
		where := "everywhere"
		if d.Namespace != "" {
			where = "in namespace " + d.Namespace
		}
		line("denied", "%s %s %s", d.Verb, resource, where)
	}
	return t.Flush()
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}
