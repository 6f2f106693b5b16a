// Package incident holds the nouns of an investigation: what was asked, what
// was seen, what it means, and what is concluded. It imports the standard
// library only, so every other package may speak these types.
package incident

import "strings"

// Ref names one thing in one cluster. It is comparable and serves as a map key
// and as a node of the dependency graph. A fact about one cluster never answers
// a question about another, so Cluster is part of the identity.
type Ref struct {
	Cluster   string `json:"cluster,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Group is the API group, empty for the core group.
	Group string `json:"group,omitempty"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`

	// Driver, Pool and Device name a DRA device, as the scheduler does in
	// ResourceClaim.status.allocation. Kind is then "Device" and Name the device.
	Driver string `json:"driver,omitempty"`
	Pool   string `json:"pool,omitempty"`
	Device string `json:"device,omitempty"`
}

// DeviceRef names a DRA device.
func DeviceRef(cluster, driver, pool, device string) Ref {
	return Ref{Cluster: cluster, Group: "resource.k8s.io", Kind: "Device", Name: device, Driver: driver, Pool: pool, Device: device}
}

// String gives "Kind namespace/name", or "Device driver/pool/device".
func (r Ref) String() string {
	var b strings.Builder
	if r.Kind != "" {
		b.WriteString(r.Kind)
		b.WriteByte(' ')
	}
	b.WriteString(r.Path())
	return strings.TrimSpace(b.String())
}

// Path gives the name without its kind: "namespace/name", "name", or
// "driver/pool/device" for a device.
func (r Ref) Path() string {
	switch {
	case r.Device != "":
		return r.Driver + "/" + r.Pool + "/" + r.Device
	case r.Namespace != "":
		return r.Namespace + "/" + r.Name
	default:
		return r.Name
	}
}

// IsZero reports whether the Ref names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Same reports whether two references name the same thing, where an empty
// Cluster or Group on either side means "not said".
func (r Ref) Same(o Ref) bool {
	loose := func(a, b string) bool { return a == "" || b == "" || a == b }
	return loose(r.Cluster, o.Cluster) && loose(r.Group, o.Group) &&
		strings.EqualFold(r.Kind, o.Kind) && r.Namespace == o.Namespace && r.Name == o.Name &&
		loose(r.Driver, o.Driver) && loose(r.Pool, o.Pool) && loose(r.Device, o.Device)
}

// Less orders references for stable output: cluster, namespace, kind, name, device.
func (r Ref) Less(o Ref) bool {
	a := [...]string{r.Cluster, r.Namespace, r.Kind, r.Name, r.Driver, r.Pool, r.Device, r.Group}
	b := [...]string{o.Cluster, o.Namespace, o.Kind, o.Name, o.Driver, o.Pool, o.Device, o.Group}
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
