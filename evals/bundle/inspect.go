package bundle

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Summary is what inspect tells about a bundle.
type Summary struct {
	Cluster       string         `json:"cluster,omitempty"`
	ServerVersion string         `json:"serverVersion,omitempty"`
	Captured      time.Time      `json:"captured"`
	Namespaces    []string       `json:"namespaces"`
	Kinds         map[string]int `json:"kinds"`
	Objects       int            `json:"objects"`
	Logs          int            `json:"logs"`
	Bytes         int64          `json:"bytes"`
	// Places lists the other sources the bundle holds: metrics, flows, ...
	Places  []string  `json:"places"`
	LeftOut []LeftOut `json:"leftOut"`
	Denied  []Denied  `json:"denied"`
}

// Inspect summarises a bundle.
func Inspect(b *Bundle) Summary {
	m := b.Manifest
	s := Summary{Cluster: m.Cluster, ServerVersion: m.ServerVersion, Captured: m.Captured, Kinds: map[string]int{}, Objects: len(b.Objects),
		Namespaces: []string{}, Places: []string{}, LeftOut: m.LeftOut, Denied: m.Denied}
	for _, u := range b.Objects {
		s.Kinds[u.GetKind()]++
		if ns := u.GetNamespace(); ns != "" && !slices.Contains(s.Namespaces, ns) {
			s.Namespaces = append(s.Namespaces, ns)
		}
	}
	slices.Sort(s.Namespaces)
	for _, f := range b.files {
		s.Bytes += f.size
		top, _, _ := strings.Cut(f.name, "/")
		switch top {
		case "bundle.yaml", "objects":
		case "logs":
			s.Logs++
		default:
			if !slices.Contains(s.Places, top) {
				s.Places = append(s.Places, top)
			}
		}
	}
	return s
}

// WriteText writes the summary for people.
func (s Summary) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "cluster\t%s %s\n", s.Cluster, s.ServerVersion)
	fmt.Fprintf(t, "captured\t%s\n", s.Captured.Format(time.RFC3339))
	fmt.Fprintf(t, "namespaces\t%s\n", strings.Join(s.Namespaces, ", "))
	var kinds []string
	for k := range s.Kinds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", s.Kinds[k], k)
	}
	fmt.Fprintf(t, "objects\t%d: %s\n", s.Objects, strings.Join(kinds, ", "))
	fmt.Fprintf(t, "logs\t%d\n", s.Logs)
	fmt.Fprintf(t, "size\t%d bytes\n", s.Bytes)
	if len(s.Places) > 0 {
		fmt.Fprintf(t, "also holds\t%s\n", strings.Join(s.Places, ", "))
	}
	for _, l := range s.LeftOut {
		fmt.Fprintf(t, "left out\t%s: %s\n", l.What, l.Why)
	}
	for _, d := range s.Denied {
		fmt.Fprintf(t, "denied\t%s %s in %q\n", d.Verb, d.Resource, d.Namespace)
	}
	return t.Flush()
}
