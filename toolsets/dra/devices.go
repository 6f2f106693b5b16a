package dra

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// DevicesIn narrows the devices; Expression is a CEL selector to evaluate.
type DevicesIn struct {
	Driver     string `json:"driver,omitempty"`
	Node       string `json:"node,omitempty"`
	Class      string `json:"class,omitempty" jsonschema:"only devices of this DeviceClass"`
	Expression string `json:"expression,omitempty" jsonschema:"CEL, for example device.attributes[\"gpu.example.com\"].model == \"x\""`
}

// Devices lists devices, those alike in one row.
type Devices struct {
	Total   int         `json:"total"`
	Matched int         `json:"matched" jsonschema:"devices for which the expression is true"`
	Errors  int         `json:"errors" jsonschema:"devices on which the expression fails"`
	Groups  []DeviceRow `json:"groups"`
	// Values lists, per attribute, what is published.
	Values []AttributeValues `json:"values"`
	Note   string            `json:"note,omitempty"`
}

// DeviceRow is a set of devices alike.
type DeviceRow struct {
	Driver     string            `json:"driver"`
	Count      int               `json:"count"`
	Nodes      int               `json:"nodes"`
	Example    string            `json:"example"`
	Attributes map[string]string `json:"attributes" jsonschema:"those equal for all devices of the row"`
	Capacity   map[string]string `json:"capacity"`
	Taints     []string          `json:"taints"`
	InUse      int               `json:"in_use"`
	UsedBy     []string          `json:"used_by"`
	Result     string            `json:"result,omitempty" jsonschema:"of the expression: true, false or the error"`
}

// AttributeValues counts the values of one attribute.
type AttributeValues struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Values string `json:"values"`
}

func (t *Toolset) devicesTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_devices", Text: text("dra_devices"), Effect: tool.Read}, t.devices)
}

// telltale is how many different values an attribute may have to describe a sort
// of device; serial numbers have as many as there are devices.
const telltale = 12

func (t *Toolset) devices(ctx context.Context, in DevicesIn) (tool.Output[Devices], error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return tool.Output[Devices]{}, err
	}
	a := newAttempt(w, nil, nil)
	var expr *selector.Expression
	if in.Expression != "" {
		if expr = a.comp.Parse(in.Expression); expr.Err != "" {
			return tool.Output[Devices]{}, &tool.Error{Kind: tool.Invalid, User: "the expression does not compile: " + quote(expr.Err)}
		}
	}
	out := Devices{Groups: []DeviceRow{}, Values: []AttributeValues{}}
	var x *want
	if in.Class != "" {
		if w.classes[in.Class] == nil {
			ref := t.classRef(in.Class)
			near := nearest(in.Class, slices.Sorted(maps.Keys(w.classes)))
			f := finding("dra.class_missing", ref, 0.9, map[string]string{"class": in.Class, "request": "", "near": near}, "DeviceClass %s does not exist%s", in.Class, prefixed("; there is ", near))
			out.Note = f.Message
			return tool.Output[Devices]{Data: out, Text: f.Message, Findings: []incident.Finding{f}}, nil
		}
		x = &want{className: in.Class}
		x.compile(w, a.comp)
	}
	fs := t.groupDevices(ctx, w, in, x, expr, &out)
	return tool.Output[Devices]{Data: out, Text: devicesText(&out, in), Findings: fs}, nil
}

func (t *Toolset) groupDevices(ctx context.Context, w *world, in DevicesIn, x *want, expr *selector.Expression, out *Devices) []incident.Finding {
	picked, fs := t.pick(ctx, w, in, x)
	out.Total = len(picked)
	distinct := offered(w.fleet, picked)
	sorts := &deviceSorts{w: w, distinct: distinct, tells: map[attrOf]bool{}, expr: expr, rows: map[string]*DeviceRow{}, places: map[string]map[string]bool{}}
	for _, p := range picked {
		sorts.count(ctx, p.slice, p.device, out)
	}
	out.Groups = sorts.sorted()
	if len(out.Groups) > 40 {
		out.Note = fmt.Sprintf("%d more sorts of device are not listed; narrow by driver or node", len(out.Groups)-40)
		out.Groups = out.Groups[:40]
	}
	for _, name := range slices.Sorted(maps.Keys(distinct)) {
		o := distinct[name]
		types := map[string]bool{}
		for v := range o.counts {
			types[v.typeName()] = true
		}
		out.Values = append(out.Values, AttributeValues{Name: name, Type: strings.Join(slices.Sorted(maps.Keys(types)), "/"), Values: valuesText(o)})
	}
	if x != nil && out.Total == 0 && len(fs) == 0 {
		an := &analysis{t: t, a: newAttempt(w, nil, nil), out: &Explanation{}, tables: map[*want]*table{x: {}}}
		if !an.noSlices(withClaim(x)) {
			why := an.explainSelectors(x, x.classExprs, true)
			fs = append(fs, finding("dra.selector_excludes_all", t.classRef(in.Class), 0.8,
				map[string]string{"selector": itoa(why.index), "attribute": why.attribute, "wanted": why.wanted, "offered": why.offered, "request": "", "class": in.Class}, "DeviceClass %s matches no device: %s", in.Class, why.sentence))
		}
		fs = append(fs, an.findings...)
		if len(fs) > 0 {
			out.Note = fs[0].Message
		}
	}
	return fs
}

// withClaim gives a want of a bare class a claim to speak of.
func withClaim(x *want) *want {
	y := *x
	y.claim = &resourceapi.ResourceClaim{}
	return &y
}

func valuesText(o offer) string {
	if len(o.counts) > telltale {
		example := ""
		for v := range o.counts {
			if example == "" || v.text < example {
				example = v.text
			}
		}
		return fmt.Sprintf("%d different, for example %s", len(o.counts), example)
	}
	return o.String()
}

func devicesText(o *Devices, in DevicesIn) string {
	var b strings.Builder
	b.WriteString(plural(o.Total, "device"))
	if in.Expression != "" {
		fmt.Fprintf(&b, "; the expression is true for %d, false for %d, fails on %d", o.Matched, o.Total-o.Matched-o.Errors, o.Errors)
	}
	b.WriteByte('\n')
	for _, g := range o.Groups {
		fmt.Fprintf(&b, "%d of %s on %s, for example %s: %d in use", g.Count, g.Driver, plural(g.Nodes, "node"), g.Example, g.InUse)
		fmt.Fprintf(&b, "%s%s%s%s%s\n", prefixed("; ", g.Result), attributesText(g.Attributes, ""), attributesText(g.Capacity, ""), prefixed("; tainted ", strings.Join(g.Taints, ", ")), prefixed("; used by ", strings.Join(g.UsedBy, ", ")))
	}
	for _, v := range o.Values {
		fmt.Fprintf(&b, "%s (%s): %s\n", v.Name, v.Type, v.Values)
	}
	if o.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", o.Note)
	}
	return strings.TrimRight(b.String(), "\n")
}
