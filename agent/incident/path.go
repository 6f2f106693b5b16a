package incident

import (
	"strconv"
	"strings"
)

// Path leads to a value of a Kubernetes object: names of fields and numbers of items.
type Path []string

// ParsePath cuts a path at dots and brackets, such as
// spec.template.spec.containers[0].image; \. is a dot in a name, as in
// metadata.labels.app\.kubernetes\.io/name.
func ParsePath(text string) Path {
	var out Path
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == '.' || c == '[' || c == ']':
			flush()
		default:
			b.WriteByte(c)
		}
	}
	flush()
	return out
}

// In gives the value at the path of a document as encoding/json decodes it, and whether
// there is one.
func (p Path) In(doc any) (any, bool) {
	for _, name := range p {
		switch t := doc.(type) {
		case map[string]any:
			next, ok := t[name]
			if !ok {
				return nil, false
			}
			doc = next
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(t) {
				return nil, false
			}
			doc = t[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

// Put sets the value at the path of such a document, and reports whether there is a place
// for it: what leads there has to be there, and a list does not grow.
func (p Path) Put(doc, value any) bool {
	if len(p) == 0 {
		return false
	}
	above, ok := p[:len(p)-1].In(doc)
	if !ok {
		return false
	}
	last := p[len(p)-1]
	switch t := above.(type) {
	case map[string]any:
		t[last] = value
		return true
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(t) {
			t[i] = value
			return true
		}
	}
	return false
}
