package dra

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func celSelector(expr string) *resourceapi.CELDeviceSelector {
	return &resourceapi.CELDeviceSelector{Expression: expr}
}

// capital writes the first letter large.
func capital(s string) string {
	if s == "" {
		return s
	}
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// nearest gives the name that is most like the wanted one, empty when none is
// like it: equal but for letter case and separators, or a few letters apart.
func nearest(want string, names []string) string {
	best, bestDist := "", len(want)/4+1
	for _, n := range names {
		if n == want {
			continue
		}
		if plainName(n) == plainName(want) {
			return n
		}
		if d := distance(n, want, bestDist); d < bestDist || d == bestDist && best == "" && d <= len(want)/4 {
			best, bestDist = n, d
		}
	}
	return best
}

func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// distance is the number of single-letter edits between two names, cut off above limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// plural gives "1 node", "3 nodes".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return itoa(n) + " " + one + "s"
}

func itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

// more says whether a quantity is larger than another; text that is none is smallest.
func more(a, b string) bool {
	x, err := resource.ParseQuantity(a)
	if err != nil {
		return false
	}
	y, err := resource.ParseQuantity(b)
	return err != nil || x.Cmp(y) > 0
}

// policyText puts a request policy into a phrase: "one of 1Gi, 2Gi", "1Gi to 8Gi in steps of 1Gi".
func policyText(p *resourceapi.CapacityRequestPolicy) string {
	switch {
	case p.ValidRange != nil:
		text := ""
		if p.ValidRange.Min != nil {
			text = "from " + text64(*p.ValidRange.Min)
		}
		if p.ValidRange.Max != nil {
			text += " to " + text64(*p.ValidRange.Max)
		}
		if p.ValidRange.Step != nil {
			text += " in steps of " + text64(*p.ValidRange.Step)
		}
		return strings.TrimSpace(text)
	case len(p.ValidValues) > 0:
		var parts []string
		for _, v := range p.ValidValues {
			parts = append(parts, text64(v))
		}
		return "one of " + strings.Join(parts, ", ")
	}
	return ""
}

// nodeSelectorText puts an allocation's node selector on one line.
func nodeSelectorText(c *resourceapi.ResourceClaim) string {
	if c.Status.Allocation == nil || c.Status.Allocation.NodeSelector == nil {
		return ""
	}
	var terms []string
	for _, t := range c.Status.Allocation.NodeSelector.NodeSelectorTerms {
		var parts []string
		for _, e := range slices.Concat(t.MatchFields, t.MatchExpressions) {
			parts = append(parts, e.Key+" "+string(e.Operator)+" "+strings.Join(e.Values, ","))
		}
		terms = append(terms, strings.Join(parts, " and "))
	}
	return strings.Join(terms, " or ")
}

func cmpName(a, b string) int { return strings.Compare(a, b) }
