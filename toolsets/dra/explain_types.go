package dra

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// ExplainIn asks about a pod or a claim; one of the two is needed.
type ExplainIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod,omitempty"`
	Claim     string `json:"claim,omitempty"`
}

// Explanation says why claims are, or are not, allocated.
type Explanation struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod,omitempty"`
	// Verdict is one of: no_claims, allocated, fits, does_not_fit, aborts, blocked, unknown.
	Verdict         string           `json:"verdict" jsonschema:"no_claims, allocated, fits, does_not_fit, aborts (an error ends scheduling on every node), blocked (before any node is tried), unknown"`
	Claims          []ClaimView      `json:"claims"`
	Nodes           []NodeView       `json:"nodes" jsonschema:"nodes grouped by identical shape"`
	Counterfactuals []Counterfactual `json:"counterfactuals" jsonschema:"runs of the scheduler's allocator with one thing relaxed"`
	WouldFit        []WouldFit       `json:"would_fit" jsonschema:"smallest changes, each proved with the scheduler's allocator"`
	// FitsOn counts nodes where the claims fit and nothing else refuses the pod.
	FitsOn   int            `json:"fits_on"`
	Features string         `json:"features" jsonschema:"feature gates assumed, and from what"`
	Limits   []incident.Gap `json:"limits"`
	// Notes are facts that belong to no finding.
	Notes []string `json:"notes"`
}

// ClaimView is one claim of the pod.
type ClaimView struct {
	Name     string `json:"name"`
	Template string `json:"template,omitempty"`
	// State is pending, allocated, reserved, deleted, missing or generated (extended resources).
	State       string           `json:"state"`
	Node        string           `json:"node,omitempty" jsonschema:"where an allocated claim can be used"`
	Devices     []string         `json:"devices" jsonschema:"allocated devices, driver/pool/device"`
	Requests    []RequestView    `json:"requests"`
	Constraints []ConstraintView `json:"constraints"`
}

// RequestView is one request, or one alternative of a request.
type RequestView struct {
	Name      string        `json:"name"`
	Class     string        `json:"class"`
	Count     int64         `json:"count" jsonschema:"devices wanted; 0 with mode All"`
	Mode      string        `json:"mode"`
	Selectors []string      `json:"selectors"`
	Totals    Totals        `json:"totals"`
	Devices   []DeviceGroup `json:"devices" jsonschema:"devices grouped by identical shape and exclusion"`
	// Largest is the most devices one node has that pass the selectors, free or not.
	Largest int `json:"largest_node" jsonschema:"most devices on one node that pass the selectors, free or not"`
}

// Totals count devices over the whole cluster.
type Totals struct {
	MatchingClass  int `json:"matching_class"`
	ClassNodes     int `json:"class_nodes" jsonschema:"nodes that have devices of the class"`
	AfterSelectors int `json:"after_selectors"`
	Free           int `json:"free" jsonschema:"pass the selectors, not in use, not tainted, pool in order"`
	InUse          int `json:"in_use"`
	Tainted        int `json:"tainted"`
	NotPublished   int `json:"pool_incomplete" jsonschema:"pass the selectors, in a pool that is not complete or is invalid"`
	Short          int `json:"capacity_or_counters_short"`
}

// DeviceGroup is a set of devices that look the same to the request.
type DeviceGroup struct {
	Driver     string            `json:"driver"`
	Label      string            `json:"label,omitempty"`
	Attributes map[string]string `json:"attributes"`
	Count      int               `json:"count"`
	Nodes      int               `json:"nodes"`
	Example    string            `json:"example"`
	ExcludedBy []Exclusion       `json:"excluded_by"`
}

// Exclusion is one reason that keeps devices from a request.
type Exclusion struct {
	// Kind is class_selector, selector, in_use, taint, pool_incomplete, pool_invalid, stale, capacity, counters, error.
	Kind   string `json:"kind"`
	Index  int    `json:"index,omitempty" jsonschema:"which selector"`
	Detail string `json:"detail"`
}

// ConstraintView groups what could serve by attribute value.
type ConstraintView struct {
	Attribute string            `json:"attribute"`
	Kind      string            `json:"kind"`
	Requests  []string          `json:"requests"`
	Groups    []ConstraintGroup `json:"groups"`
	Missing   []string          `json:"missing" jsonschema:"requests whose devices lack the attribute, with counts"`
}

// ConstraintGroup counts the devices of each request that carry one value, on
// one node of the example shape.
type ConstraintGroup struct {
	Value string         `json:"value"`
	Have  map[string]int `json:"have" jsonschema:"request to devices that pass its selectors"`
	Free  map[string]int `json:"free"`
}

// NodeView is a set of nodes of one shape.
type NodeView struct {
	Example string   `json:"example"`
	Count   int      `json:"count"`
	Fits    bool     `json:"fits"`
	Reasons []string `json:"reasons"`
}

// Counterfactual is one relaxation and where the claims would fit with it.
type Counterfactual struct {
	Relax  string `json:"relax"`
	FitsOn int    `json:"fits_on" jsonschema:"nodes"`
	Node   string `json:"node,omitempty"`
}

// WouldFit is a change that was tried and works.
type WouldFit struct {
	Change  string `json:"change"`
	Devices int    `json:"devices" jsonschema:"free devices that pass the changed request, on the nodes where it fits"`
	Nodes   int    `json:"nodes"`
	Node    string `json:"node,omitempty"`
	// Advice marks what the scheduler will not do by itself.
	Advice bool `json:"advice,omitempty"`
	// fix is the change as parameters, for proposals.
	fix *fix
}
