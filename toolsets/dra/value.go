package dra

import (
	"encoding/json"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
)

// pack turns an attribute into its compact form.
func pack(a resourceapi.DeviceAttribute) value {
	list := func(kind byte, v any) value {
		raw, _ := json.Marshal(v) // slices of plain values always marshal
		return value{kind, string(raw)}
	}
	switch {
	case a.StringValue != nil:
		return value{'s', strings.Clone(*a.StringValue)}
	case a.VersionValue != nil:
		return value{'v', strings.Clone(*a.VersionValue)}
	case a.IntValue != nil:
		return value{'i', strconv.FormatInt(*a.IntValue, 10)}
	case a.BoolValue != nil:
		return value{'b', strconv.FormatBool(*a.BoolValue)}
	case a.StringValues != nil:
		return list('S', a.StringValues)
	case a.VersionValues != nil:
		return list('V', a.VersionValues)
	case a.IntValues != nil:
		return list('I', a.IntValues)
	case a.BoolValues != nil:
		return list('B', a.BoolValues)
	}
	return value{}
}

// unpack gives the attribute back.
func (v value) unpack() resourceapi.DeviceAttribute {
	var a resourceapi.DeviceAttribute
	fill := func(p any) { _ = json.Unmarshal([]byte(v.text), p) } // written by pack
	switch v.kind {
	case 's':
		t := v.text
		a.StringValue = &t
	case 'v':
		t := v.text
		a.VersionValue = &t
	case 'i':
		n, _ := strconv.ParseInt(v.text, 10, 64)
		a.IntValue = &n
	case 'b':
		b := v.text == "true"
		a.BoolValue = &b
	case 'S':
		fill(&a.StringValues)
	case 'V':
		fill(&a.VersionValues)
	case 'I':
		fill(&a.IntValues)
	case 'B':
		fill(&a.BoolValues)
	}
	return a
}

// typeName is the type in the words of the API.
func (v value) typeName() string {
	switch v.kind {
	case 's':
		return "string"
	case 'v':
		return "version"
	case 'i':
		return "int"
	case 'b':
		return "bool"
	case 'S':
		return "strings"
	case 'V':
		return "versions"
	case 'I':
		return "ints"
	case 'B':
		return "bools"
	}
	return "none"
}

// attributes gives the attributes of a device as the API has them.
func (f *fleet) attributes(d *device) map[resourceapi.QualifiedName]resourceapi.DeviceAttribute {
	if len(d.attrs) == 0 {
		return nil
	}
	out := make(map[resourceapi.QualifiedName]resourceapi.DeviceAttribute, len(d.attrs))
	for _, a := range d.attrs {
		out[resourceapi.QualifiedName(f.names.list[a.name])] = f.values.list[a.value].unpack()
	}
	return out
}

// capacities copies the capacities of a device: a Quantity caches its text, so
// a shared one must not be formatted by two goroutines.
func (d *device) capacities() map[resourceapi.QualifiedName]resourceapi.DeviceCapacity {
	if d.caps == nil {
		return nil
	}
	out := make(map[resourceapi.QualifiedName]resourceapi.DeviceCapacity, len(d.caps.caps))
	for k, v := range d.caps.caps {
		out[k] = *v.DeepCopy()
	}
	return out
}

// api makes the ResourceSlice again, with taints beside the device's own added by extra.
func (f *fleet) api(s *slice, extra func(*slice, *device) []resourceapi.DeviceTaint) *resourceapi.ResourceSlice {
	out := &resourceapi.ResourceSlice{}
	out.Name = s.name
	out.CreationTimestamp = s.created
	out.Spec = resourceapi.ResourceSliceSpec{
		Driver: s.pool.driver,
		Pool:   resourceapi.ResourcePool{Name: s.pool.name, Generation: s.gen, ResourceSliceCount: s.want},
	}
	switch {
	case s.node != "":
		node := s.node
		out.Spec.NodeName = &node
	case s.all:
		yes := true
		out.Spec.AllNodes = &yes
	case s.selector != nil:
		out.Spec.NodeSelector = s.selector
	case s.per:
		yes := true
		out.Spec.PerDeviceNodeSelection = &yes
	}
	for i := range s.counters {
		out.Spec.SharedCounters = append(out.Spec.SharedCounters, *s.counters[i].DeepCopy())
	}
	out.Spec.Devices = make([]resourceapi.Device, len(s.devices))
	for i := range s.devices {
		d := &s.devices[i]
		dev := &out.Spec.Devices[i]
		if d.rest != nil {
			*dev = *d.rest.DeepCopy()
		}
		dev.Name = d.name
		dev.Attributes = f.attributes(d)
		dev.Capacity = d.capacities()
		if extra != nil {
			dev.Taints = append(dev.Taints, extra(s, d)...)
		}
	}
	return out
}
