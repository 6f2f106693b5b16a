package dra

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// exclusionReason is why selectors leave nothing, in facts and in words.
type exclusionReason struct {
	index, part int
	expression  string
	attribute   string
	wanted      string
	offered     string
	hint        string
	sentence    string
	predicate   *selector.Predicate
}

// unit is one conjunct of one selector.
type unit struct{ selector, part int }

// explainSelectors finds the conjunct that decides: the one that alone keeps the
// nearest devices away. ofClass looks at every device of the drivers the class
// may mean, otherwise at the devices of the class.
func (n *analysis) explainSelectors(x *want, exprs []*selector.Expression, ofClass bool) exclusionReason {
	f := n.a.w.fleet
	alone := map[unit]int{}
	fewest := 1 << 30
	var nearestFails []unit
	seen := map[string][]unit{}
	for _, p := range f.pools {
		for _, s := range p.slices {
			if ofClass && !relevant(x, s) {
				continue
			}
			for i := range s.devices {
				d := &s.devices[i]
				if !ofClass && !x.judge(context.Background(), f, s, d).ofClass {
					continue
				}
				key := x.key(f, s, d)
				fails, ok := seen[key]
				if !ok {
					j := x.judge(context.Background(), f, s, d)
					which := j.fails
					if ofClass {
						which = j.classFails
					}
					fails = x.failingUnits(f, s, d, exprs, which)
					seen[key] = fails
				}
				if len(fails) == 1 {
					alone[fails[0]]++
				}
				if len(fails) < fewest {
					fewest, nearestFails = len(fails), fails
				}
			}
		}
	}
	decisive := unit{}
	if len(nearestFails) > 0 {
		decisive = nearestFails[0]
	}
	most := 0
	for _, u := range slices.SortedFunc(maps.Keys(alone), func(a, b unit) int { return cmp.Or(a.selector-b.selector, a.part-b.part) }) {
		c := alone[u]
		if c > most {
			most, decisive = c, u
		}
	}
	r := n.describeUnit(x, exprs, decisive, ofClass)
	if most == 0 && len(nearestFails) > 1 {
		var more []string
		for _, u := range nearestFails {
			if u != decisive && u.part < len(exprs[u.selector].Parts) {
				more = append(more, quote(exprs[u.selector].Parts[u.part].Text))
			}
		}
		if len(more) > 0 {
			r.hint = strings.TrimPrefix(r.hint+"; the nearest devices also fail "+strings.Join(more, " and "), "; ")
			r.sentence += "; the nearest devices also fail " + strings.Join(more, " and ")
		}
	}
	return r
}

// failingUnits lists the conjuncts that are false, of the selectors that are.
func (x *want) failingUnits(f *fleet, s *slice, d *device, exprs []*selector.Expression, which []int) []unit {
	var out []unit
	for _, i := range which {
		fails := []int{0}
		if len(exprs[i].Parts) > 1 {
			if fails = exprs[i].Failing(context.Background(), x.celDevice(f, s, d)); len(fails) == 0 {
				fails = []int{0}
			}
		}
		for _, p := range fails {
			out = append(out, unit{i, p})
		}
	}
	return out
}

// describeUnit says what a conjunct wants and what there is instead.
func (n *analysis) describeUnit(x *want, exprs []*selector.Expression, u unit, ofClass bool) exclusionReason {
	r := exclusionReason{index: u.selector, part: u.part}
	if u.selector >= len(exprs) {
		r.sentence = "no selector is decisive alone"
		return r
	}
	e := exprs[u.selector]
	r.expression = quote(e.Text)
	groups := n.tables[x].offered
	total := 0
	for _, g := range groups {
		total += g.Count
	}
	if u.part >= len(e.Parts) || len(e.Parts[u.part].Predicates) == 0 {
		r.wanted = r.expression
		r.offered = joinGroups(groups)
		r.sentence = fmt.Sprintf("selector %d is true for none of %d devices: %s", u.selector, total, r.expression)
		return r
	}
	preds := e.Parts[u.part].Predicates
	p := preds[0]
	r.predicate = &p
	r.attribute = p.Field.Name()
	var words []string
	for _, q := range preds {
		words = append(words, inWords(q))
	}
	r.wanted = strings.Join(words, " or ")
	values := n.valuesOf(x, p.Field, ofClass)
	r.offered = values.String()
	if r.offered == "" && len(groups) > 0 {
		r.offered = joinGroups(groups)
	}
	r.hint = n.hint(x, p, values, ofClass)
	where := fmt.Sprintf("class %s offers %d devices", x.className, total)
	if ofClass {
		where = fmt.Sprintf("the driver publishes %d devices", values.total)
	}
	r.sentence = fmt.Sprintf("selector %d wants %s; %s: %s", u.selector, r.wanted, where, r.offered)
	if r.hint != "" {
		r.sentence += "; " + r.hint
	}
	return r
}

// inWords puts a predicate into a phrase: `productName to contain "H200"`.
func inWords(p selector.Predicate) string {
	want := p.Want
	if p.Type == "string" {
		want = strconv.Quote(want)
	}
	name := p.Field.Short()
	switch p.Op {
	case "contains":
		return name + " to contain " + want
	case "startsWith":
		return name + " to start with " + want
	case "endsWith":
		return name + " to end with " + want
	case "matches":
		return name + " to match " + want
	case "exists":
		return name + " to exist"
	case "in":
		return name + " to be one of " + want
	case "==", "is":
		return name + " to be " + want
	case "!=":
		return name + " not to be " + want
	}
	return name + " " + p.Op + " " + want
}

// offer is what devices publish for one field.
type offer struct {
	counts map[value]int
	total  int
	absent int
}

// byCount lists the values, those of most devices first.
func (o offer) byCount() []value {
	all := make([]value, 0, len(o.counts))
	for v := range o.counts {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b value) int {
		return cmp.Or(cmp.Compare(o.counts[b], o.counts[a]), cmp.Compare(a.text, b.text), cmp.Compare(a.kind, b.kind))
	})
	return all
}

// String lists the values with counts, most first: "40 H100, 8 A100".
func (o offer) String() string {
	all := o.byCount()
	var parts []string
	for i, v := range all {
		if i == 6 {
			parts = append(parts, fmt.Sprintf("%d other values", len(all)-6))
			break
		}
		parts = append(parts, fmt.Sprintf("%d %s", o.counts[v], v.text))
	}
	if o.absent > 0 && len(all) > 0 {
		parts = append(parts, fmt.Sprintf("%d without it", o.absent))
	}
	return strings.Join(parts, ", ")
}

// valuesOf counts what the devices of the class (or of its driver) publish for a field.
func (n *analysis) valuesOf(x *want, fld selector.Field, ofClass bool) offer {
	o := offer{counts: map[value]int{}}
	f := n.a.w.fleet
	for _, p := range f.pools {
		for _, s := range p.slices {
			if ofClass && !relevant(x, s) {
				continue
			}
			for i := range s.devices {
				d := &s.devices[i]
				if !ofClass && !x.judge(context.Background(), f, s, d).ofClass {
					continue
				}
				o.total++
				if v, ok := fieldValue(f, s, d, fld); ok {
					o.counts[v]++
				} else {
					o.absent++
				}
			}
		}
	}
	return o
}

func fieldValue(f *fleet, s *slice, d *device, fld selector.Field) (value, bool) {
	switch fld.Kind {
	case selector.Attribute:
		return f.attr(s, d, fld.Name())
	case selector.Capacity:
		q, ok := capacityOf(s, d, fld.Name())
		return value{'q', text64(q)}, ok
	case selector.Driver:
		return value{'s', s.pool.driver}, true
	case selector.Multi:
		return value{'b', strconv.FormatBool(d.multi())}, true
	}
	return value{}, false
}

// hint recognises the usual slips: wrong domain, wrong name, wrong type, wrong
// unit, wrong letter case.
func (n *analysis) hint(x *want, p selector.Predicate, o offer, ofClass bool) string {
	if len(o.counts) == 0 {
		return n.nameHint(x, p.Field, ofClass)
	}
	for _, v := range o.byCount() {
		switch {
		case p.Type == "string" && (v.kind == 'v' || v.kind == 'i' || v.kind == 'b') && (p.Op == "==" || p.Op == "in"):
			kind := value{kind: v.kind}.typeName()
			h := fmt.Sprintf("%s is of type %s and is compared with a string", p.Field.Short(), kind)
			if v.kind == 'v' {
				h += "; compare with semver(...)"
			}
			return h
		case p.Type == "string" && v.kind == 's' && v.text != p.Want && strings.EqualFold(v.text, p.Want):
			return fmt.Sprintf("%q differs only in letter case", v.text)
		case p.Type == "string" && v.kind == 's' && p.Op == "contains" && !p.Fold && strings.Contains(strings.ToLower(v.text), strings.ToLower(p.Want)):
			return fmt.Sprintf("%q contains it in other letter case", v.text)
		case p.Type == "string" && v.kind == 's' && p.Op == "==" && strings.Contains(v.text, p.Want) && p.Want != "":
			return fmt.Sprintf("the full value is %q", v.text)
		}
	}
	if p.Type == "quantity" {
		return quantityHint(p, o)
	}
	return ""
}

// quantityHint shows both sides of a comparison in bytes and in one unit.
func quantityHint(p selector.Predicate, o offer) string {
	want, err := resource.ParseQuantity(p.Want)
	if err != nil {
		return ""
	}
	best, have := resource.Quantity{}, false
	for v := range o.counts {
		if q, err := resource.ParseQuantity(v.text); err == nil && (!have || q.Cmp(best) > 0) {
			best, have = q, true
		}
	}
	if !have || want.Value() <= 0 {
		return ""
	}
	ratio := float64(best.Value()) / float64(want.Value())
	if ratio >= 0.9 && ratio < 1 {
		return fmt.Sprintf("the largest is %s, %.1f%% of %s: a matter of units or of what the driver reserves", text64(best), ratio*100, p.Want)
	}
	return "the largest is " + text64(best)
}

// nameHint looks for the name elsewhere: same id in another domain, or a similar id.
func (n *analysis) nameHint(x *want, fld selector.Field, ofClass bool) string {
	f := n.a.w.fleet
	ids := map[string]bool{}
	elsewhere := map[string]bool{}
	for _, p := range f.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				if ofClass && !relevant(x, s) || !ofClass && !x.judge(context.Background(), f, s, d).ofClass {
					continue
				}
				for _, name := range fieldNames(f, s, d, fld.Kind) {
					domain, id, _ := strings.Cut(name, "/")
					if id == fld.ID && domain != fld.Domain {
						elsewhere[name] = true
					}
					ids[id] = true
				}
			}
		}
	}
	if names := slices.Sorted(maps.Keys(elsewhere)); len(names) > 0 {
		return fmt.Sprintf("the devices publish it as %s, not under domain %s", strings.Join(names, ", "), fld.Domain)
	}
	if near := nearest(fld.ID, slices.Sorted(maps.Keys(ids))); near != "" {
		return fmt.Sprintf("no device publishes %s; there is %s", fld.Name(), near)
	}
	return fmt.Sprintf("no device publishes %s", fld.Name())
}

func fieldNames(f *fleet, s *slice, d *device, kind string) []string {
	var out []string
	if kind == selector.Capacity {
		if d.caps != nil {
			for k := range d.caps.caps {
				out = append(out, qualified(string(k), s.pool.driver))
			}
		}
		return out
	}
	for _, a := range d.attrs {
		out = append(out, qualified(f.names.list[a.name], s.pool.driver))
	}
	return out
}

// selectorFault reports the selector that leaves no device (F14) and tries the
// values that are on offer.
func (n *analysis) selectorFault(ctx context.Context, x *want, t *table, confidence float64) {
	why := n.explainSelectors(x, x.exprs, false)
	if x.request != x.name {
		confidence -= 0.05
	}
	n.fault("dra.selector_excludes_all", n.subject(x.claim), confidence,
		map[string]string{"selector": strconv.Itoa(why.index), "attribute": why.attribute, "wanted": why.wanted, "offered": why.offered, "request": x.name, "class": x.className, "expression": why.expression, "hint": why.hint, "devices": strconv.Itoa(t.totals.MatchingClass)},
		"%s of claim %s: %s", capital(x.ref()), x.claim.Name, why.sentence)
	n.counterfactual(fmt.Sprintf("drop selector %d of request %s", why.index, x.name), n.a.where(ctx, dropSelector(x, why.index)))
	n.otherValues(ctx, x, why)
}

// maxOptions bounds how many other values are tried.
const maxOptions = 8

// otherValues tries the request with each value that devices do publish.
func (n *analysis) otherValues(ctx context.Context, x *want, why exclusionReason) {
	if why.predicate == nil || why.index >= len(x.exprs) {
		return
	}
	e := x.exprs[why.index]
	type option struct {
		text string
		fit  fitting
		free int
		fix  *fix
	}
	var options []option
	var offered []value
	if !n.a.serial[why.predicate.Field.Name()] {
		offered = n.valuesOf(x, why.predicate.Field, false).byCount()
	}
	for _, v := range offered[:min(len(offered), maxOptions)] {
		cond := condition(why.predicate.Field, v)
		if cond == "" {
			continue
		}
		expr := e.With(why.part, cond)
		f := n.a.where(ctx, setSelector(x, why.index, expr))
		if !f.cures() {
			continue
		}
		y := *x
		y.selectors = slices.Clone(x.selectors)
		y.selectors[why.index].CEL = celSelector(expr)
		y.compile(n.a.w, n.a.comp)
		options = append(options, option{fmt.Sprintf("request %s asking for %s %s", x.name, why.predicate.Field.Short(), v.text), f, n.freeOn(f, &y), x.fixSelector(why.index, expr)})
	}
	slices.SortFunc(options, func(a, b option) int {
		return cmp.Or(cmp.Compare(b.free, a.free), cmp.Compare(a.text, b.text))
	})
	for _, o := range options[:min(len(options), 3)] {
		n.wouldFit(o.text, o.fit, o.free, o.fix)
	}
	if len(options) == 0 {
		without := e.With(why.part, "")
		if f := n.a.where(ctx, setSelector(x, why.index, without)); f.ok() {
			n.wouldFit(fmt.Sprintf("request %s without the condition %s", x.name, why.wanted), f, 0, x.fixSelector(why.index, without))
		}
	}
}

// condition writes the CEL for "this field has this value".
func condition(f selector.Field, v value) string {
	lhs := ""
	switch f.Kind {
	case selector.Attribute:
		lhs = fmt.Sprintf("device.attributes[%q].%s", f.Domain, f.ID)
	case selector.Capacity:
		return fmt.Sprintf("device.capacity[%q].%s.compareTo(quantity(%q)) >= 0", f.Domain, f.ID, v.text)
	default:
		return ""
	}
	// The device may lack the field, and a missing one would abort scheduling.
	guard := fmt.Sprintf("%q in device.attributes[%q] && ", f.ID, f.Domain)
	switch v.kind {
	case 's':
		return guard + lhs + " == " + strconv.Quote(v.text)
	case 'v':
		return guard + lhs + ".compareTo(semver(" + strconv.Quote(v.text) + ")) == 0"
	case 'i', 'b':
		return guard + lhs + " == " + v.text
	}
	return ""
}

func joinGroups(groups []DeviceGroup) string {
	var parts []string
	sums := map[string]int{}
	var order []string
	for _, g := range groups {
		l := g.Label
		if l == "" {
			l = g.Driver
		}
		if _, ok := sums[l]; !ok {
			order = append(order, l)
		}
		sums[l] += g.Count
	}
	for _, l := range order {
		parts = append(parts, fmt.Sprintf("%d %s", sums[l], l))
	}
	return strings.Join(parts, ", ")
}
