package kube

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// invalid makes an input error with the way out.
func invalid(fix, format string, args ...any) error {
	return &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf(format, args...), Fix: fix}
}

// age writes a duration as people read it: 45s, 12m, 3h, 2d5h.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		if m := int(d.Minutes()) % 60; m != 0 && d < 10*time.Hour {
			return fmt.Sprintf("%dh%dm", int(d.Hours()), m)
		}
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		if h := int(d.Hours()) % 24; h != 0 && d < 10*24*time.Hour {
			return fmt.Sprintf("%dd%dh", int(d.Hours())/24, h)
		}
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// ago writes how long ago a time was, "?" for none.
func (r *reader) ago(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return age(r.src.Now().Sub(t))
}

// parseSince reads "90s", "30m", "2h", "1d", "1d12h". Empty means the fallback.
func parseSince(s string, fallback time.Duration) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return fallback, nil
	}
	total := time.Duration(0)
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, invalid("write it like 30m, 2h or 1d", "since %q is not a duration", clip(s, 40))
		}
		total, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return 0, invalid("write it like 30m, 2h or 1d", "since %q is not a duration", clip(s, 40))
		}
		total += d
	}
	if total <= 0 {
		return 0, invalid("write it like 30m, 2h or 1d", "since %q is not a positive duration", clip(s, 40))
	}
	return total, nil
}

// clip bounds a text, on a character's edge.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// oneLine joins the lines of a text and bounds it.
func oneLine(s string, n int) string {
	return clip(strings.Join(strings.Fields(s), " "), n)
}

// table aligns rows under a header; the last column is not padded.
func table(header []string, rows [][]string) string {
	width := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, c := range row {
			if i < len(width) {
				width[i] = max(width[i], len([]rune(c)))
			}
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for i, c := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(c)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", max(0, width[i]-len([]rune(c)))))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// tally counts words and writes them, most frequent first: "40 Running, 8 Pending".
type tally map[string]int

func (t tally) String() string {
	keys := make([]string, 0, len(t))
	for k := range t {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if t[a] != t[b] {
			return t[b] - t[a]
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, 0, len(keys))
	for _, k := range keys {
		parts = append(parts, fmt.Sprintf("%d %s", t[k], k))
	}
	return strings.Join(parts, ", ")
}

// object is a kind that was found and the place of one object of it.
type object struct {
	m               source.Mapping
	namespace, name string
}

func (o object) ref(src *source.Source) incident.Ref {
	return src.Ref(o.m.GVR.Group, o.m.Kind, o.namespace, o.name)
}

// locate finds the kind of a word and, for a namespaced kind without a
// namespace, the one namespace that has the name.
func (r *reader) locate(ctx context.Context, kind, namespace, name string) (object, error) {
	m, err := r.src.Find(ctx, kind)
	if err != nil {
		return object{}, err
	}
	if strings.TrimSpace(name) == "" {
		return object{}, invalid("give the name, or list them with kube_list", "the name of a %s is needed", m.Kind)
	}
	o := object{m: m, namespace: namespace, name: name}
	if !m.Namespaced {
		o.namespace = ""
		return o, nil
	}
	if namespace != "" {
		return o, nil
	}
	found, err := r.src.MetadataList(ctx, m, "", source.Selectors{Fields: "metadata.name=" + name})
	if err != nil {
		if r.namespace != "" && tool.KindOf(err) == tool.Forbidden {
			o.namespace = r.namespace
			return o, nil
		}
		return object{}, err
	}
	var in []string
	for _, f := range found {
		if f.Name == name {
			in = append(in, f.Namespace)
		}
	}
	switch len(in) {
	case 0:
		return object{}, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("no namespace has a %s %s", m.Kind, clip(name, 253))}
	case 1:
		o.namespace = in[0]
		return o, nil
	}
	return object{}, invalid("give the namespace", "%s %s exists in namespaces %s", m.Kind, name, strings.Join(in, ", "))
}
