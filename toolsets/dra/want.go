package dra

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// want is one request of a claim, or one alternative of a firstAvailable request.
type want struct {
	claim   *resourceapi.ResourceClaim
	request string
	// name is the request's, or "request/alternative".
	name      string
	className string
	class     *resourceapi.DeviceClass
	all       bool
	count     int64
	admin     bool
	tolerates []resourceapi.DeviceToleration
	capacity  *resourceapi.CapacityRequirements
	selectors []resourceapi.DeviceSelector

	classExprs []*selector.Expression
	exprs      []*selector.Expression
	fields     []selector.Field
	exact      bool
	cache      map[string]*judgement
}

// judgement is what the selectors of a want say about a sort of device.
type judgement struct {
	// classFails and fails are the indices of selectors that are false.
	classFails []int
	fails      []int
	// err is a run-time error; where names the selector, aborting says that the
	// scheduler gets as far as this error, because everything before it is true.
	err       string
	errClass  bool
	errAt     int
	aborting  bool
	compile   bool
	ofClass   bool
	matchesIt bool
}

// outcome writes down what the selectors said, for comparing devices.
func (j *judgement) outcome() []byte {
	b := []byte{'j'}
	for _, i := range j.classFails {
		b = append(b, 'c', byte(i))
	}
	for _, i := range j.fails {
		b = append(b, 'r', byte(i))
	}
	if j.err != "" {
		b = append(b, 'e', byte(j.errAt))
	}
	return b
}

// wantsOf flattens the requests of claims.
func wantsOf(w *world, comp *selector.Compiler, claims []*resourceapi.ResourceClaim) []*want {
	var out []*want
	for _, c := range claims {
		for i := range c.Spec.Devices.Requests {
			r := &c.Spec.Devices.Requests[i]
			if e := r.Exactly; e != nil {
				x := &want{
					claim: c, request: r.Name, name: r.Name, className: e.DeviceClassName, count: e.Count,
					all: e.AllocationMode == resourceapi.DeviceAllocationModeAll, admin: e.AdminAccess != nil && *e.AdminAccess,
					tolerates: e.Tolerations, capacity: e.Capacity, selectors: e.Selectors,
				}
				out = append(out, x)
			}
			for j := range r.FirstAvailable {
				s := &r.FirstAvailable[j]
				out = append(out, &want{
					claim: c, request: r.Name, name: r.Name + "/" + s.Name, className: s.DeviceClassName, count: s.Count,
					all: s.AllocationMode == resourceapi.DeviceAllocationModeAll, tolerates: s.Tolerations, capacity: s.Capacity, selectors: s.Selectors,
				})
			}
		}
	}
	for _, x := range out {
		x.compile(w, comp)
	}
	return out
}

func (x *want) compile(w *world, comp *selector.Compiler) {
	x.exact, x.cache = true, map[string]*judgement{}
	x.class = w.classes[x.className]
	take := func(sels []resourceapi.DeviceSelector) []*selector.Expression {
		var out []*selector.Expression
		for _, s := range sels {
			text := ""
			if s.CEL != nil {
				text = s.CEL.Expression
			}
			e := comp.Parse(text)
			x.exact = x.exact && e.Exact
			for _, f := range e.Fields {
				if !slices.Contains(x.fields, f) {
					x.fields = append(x.fields, f)
				}
			}
			out = append(out, e)
		}
		return out
	}
	if x.class != nil {
		x.classExprs = take(x.class.Spec.Selectors)
	}
	x.exprs = take(x.selectors)
}

// ref names the want in texts: "request gpu of claim ns/name".
func (x *want) ref() string { return fmt.Sprintf("request %s", x.name) }

// judge evaluates the selectors on a device, once for all devices that look the
// same to them.
func (x *want) judge(ctx context.Context, f *fleet, s *slice, d *device) *judgement {
	key := x.key(f, s, d)
	if j, ok := x.cache[key]; ok {
		return j
	}
	dev := x.celDevice(f, s, d)
	j := &judgement{errAt: -1}
	true_ := true
	run := func(exprs []*selector.Expression, ofClass bool) (fails []int) {
		for i, e := range exprs {
			ok, err := e.Matches(ctx, dev)
			if err != nil && j.errAt < 0 {
				j.err, j.errAt, j.errClass, j.aborting, j.compile = err.Error(), i, ofClass, true_, e.Err != ""
			}
			if err != nil || !ok {
				fails = append(fails, i)
				true_ = false
			}
		}
		return fails
	}
	j.classFails = run(x.classExprs, true)
	j.ofClass = x.class != nil && len(j.classFails) == 0
	j.fails = run(x.exprs, false)
	j.matchesIt = j.ofClass && len(j.fails) == 0
	x.cache[key] = j
	return j
}

// celDevice is a device as the selectors see it. Attributes that no selector
// reads are left out when it is sure that none does.
func (x *want) celDevice(f *fleet, s *slice, d *device) cel.Device {
	multi := d.multi()
	dev := cel.Device{Driver: s.pool.driver, AllowMultipleAllocations: &multi}
	if !x.exact {
		dev.Attributes, dev.Capacity = f.attributes(d), d.capacities()
		return dev
	}
	for _, fld := range x.fields {
		switch fld.Kind {
		case selector.Capacity:
			if dev.Capacity == nil {
				dev.Capacity = d.capacities()
			}
		case selector.Attribute:
			for _, a := range d.attrs {
				name := f.names.list[a.name]
				if qualified(name, s.pool.driver) != fld.Name() {
					continue
				}
				if dev.Attributes == nil {
					dev.Attributes = map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}
				}
				dev.Attributes[resourceapi.QualifiedName(name)] = f.values.list[a.value].unpack()
			}
		}
	}
	return dev
}

// key is what the selectors can see of a device.
func (x *want) key(f *fleet, s *slice, d *device) string {
	b := make([]byte, 0, 64)
	b = append(b, s.pool.driver...)
	if d.multi() {
		b = append(b, 1)
	}
	if !x.exact {
		return string(shape(b, f, d))
	}
	for _, fld := range x.fields {
		b = append(b, 0)
		switch fld.Kind {
		case selector.Attribute:
			if v, ok := f.attr(s, d, fld.Name()); ok {
				b = append(b, v.kind)
				b = append(b, v.text...)
			}
		case selector.Capacity:
			if d.caps != nil {
				b = binary.LittleEndian.AppendUint32(b, d.caps.id+1)
			}
		}
	}
	return string(b)
}

// shape appends everything a device publishes, without its name.
func shape(b []byte, f *fleet, d *device) []byte {
	for _, a := range d.attrs {
		b = binary.LittleEndian.AppendUint32(b, a.name)
		b = binary.LittleEndian.AppendUint32(b, a.value)
	}
	if d.caps != nil {
		b = binary.LittleEndian.AppendUint32(append(b, 'c'), d.caps.id)
	}
	return b
}

// tainted lists the taints of a device that the want does not tolerate, with the
// rule each comes from (empty for the device's own).
func (x *want) tainted(w *world, s *slice, d *device) []taintHit {
	if !w.assume.Features.DeviceTaints {
		return nil
	}
	var out []taintHit
	check := func(t resourceapi.DeviceTaint, rule string) {
		if t.Effect != resourceapi.DeviceTaintEffectNoSchedule && t.Effect != resourceapi.DeviceTaintEffectNoExecute {
			return
		}
		for _, tol := range x.tolerates {
			if resourceclaim.ToleratesTaint(tol, t) {
				return
			}
		}
		out = append(out, taintHit{taint: t, rule: rule})
	}
	for _, t := range d.taints() {
		check(t, "")
	}
	for _, r := range w.rulesFor(s, d) {
		check(r.Spec.Taint, r.Name)
	}
	return out
}

// taintHit is a taint that keeps a device away from a request.
type taintHit struct {
	taint resourceapi.DeviceTaint
	rule  string
}

func (t taintHit) String() string {
	text := taintText(t.taint)
	if t.rule != "" {
		text += " by DeviceTaintRule " + t.rule
	}
	return text
}

func taintText(t resourceapi.DeviceTaint) string {
	text := t.Key
	if t.Value != "" {
		text += "=" + t.Value
	}
	return text + ":" + string(t.Effect)
}

// quote puts an expression on one line.
func quote(expr string) string { return strings.Join(strings.Fields(expr), " ") }

func tolerates(ts []resourceapi.DeviceToleration, taint resourceapi.DeviceTaint) bool {
	for _, t := range ts {
		if resourceclaim.ToleratesTaint(t, taint) {
			return true
		}
	}
	return false
}
