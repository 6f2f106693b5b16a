// Package tool is the contract between an investigation and the systems it
// looks at. A toolset offers typed, read-only tools; a tool answers with data,
// text, findings and edges. Nothing here can change a cluster.
package tool

import (
	"context"
	"encoding/json"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Effect is what a call does to the world. The zero value is no effect class
// and is refused: unknown means no.
type Effect string

const (
	// Read looks and changes nothing.
	Read Effect = "read"
	// Probe touches the workload (a one-token completion, a connection) and asks first.
	Probe Effect = "probe"
)

// Info is what a model and a person are told about a tool.
type Info struct {
	// Name is snake_case and starts with the system it reads: "dra_explain".
	Name string
	// Text is one paragraph for the model: what it answers, when to use it.
	Text   string
	Effect Effect
	// MaxText bounds the text of one answer, in bytes; 0 means DefaultMaxText.
	MaxText int
	// Input and Output are inferred from the Go types of the function.
	Input, Output *jsonschema.Schema
}

// DefaultMaxText is the output budget of one call, in bytes: about 2k tokens.
const DefaultMaxText = 8 << 10

// Result is what one call answers. Evidence ids of findings and edges are
// filled in by the caller, which owns the ledger.
type Result struct {
	// Data is the typed output as JSON.
	Data json.RawMessage
	// Text is the same for a reader: terse, figures first.
	Text     string
	Findings []incident.Finding
	Edges    []incident.Edge
}

// Tool is one read-only question that can be put to a system.
type Tool interface {
	Info() Info
	// Call validates args against Info().Input first. A returned error is an
	// *Error wherever the caller may branch on it; it becomes failed evidence.
	Call(ctx context.Context, args json.RawMessage) (Result, error)
}

// State of a toolset at start.
type State string

const (
	// Ready: its tools are offered.
	Ready State = "ready"
	// Absent: the system is not there (no resource.k8s.io API, no Prometheus configured).
	Absent State = "absent"
	// Denied: the system is there, this identity may not read it.
	Denied State = "denied"
	// Broken: the system is there and does not answer.
	Broken State = "broken"
)

// Status is the state of a toolset, the reason and the way out.
type Status struct {
	State State `json:"state"`
	// Reason is one sentence; empty when ready.
	Reason string `json:"reason,omitempty"`
	// Fix says what would make it ready.
	Fix string `json:"fix,omitempty"`
	// NotRun says of an absent system that the cluster does not run it: nothing of
	// it is missed, so an answer does not name it as not seen.
	NotRun bool `json:"notRun,omitempty"`
	// Limits lists what a ready toolset cannot see, for example lists it may not read.
	Limits []incident.Gap `json:"limits,omitempty"`
}

// Toolset is one system: its tools and whether they can be used.
type Toolset interface {
	Name() string
	Status(ctx context.Context) Status
	Tools() []Tool
}

// Check tells triage how to judge a kind of subject: which call to make, and
// which relations lead from the subject to what it depends on. A new toolset
// extends the walk by offering checks; triage is not touched.
type Check struct {
	// Name for people, "pod", "claim allocation".
	Name string
	// Tool to call.
	Tool string
	// Applies reports whether the check judges this subject.
	Applies func(incident.Ref) bool
	// Args builds the tool's input for the subject.
	Args func(incident.Ref) any
	// Follow names the relations of edges leaving the subject that lead to what
	// it depends on, most telling first.
	Follow []string
	// Through lets the walk pass through subjects of which the check finds nothing
	// abnormal: objects of custom kinds, which often say nothing of themselves.
	Through bool
	// Survey marks a check of a whole namespace or cluster: its findings name
	// other subjects, which the walk then enters.
	Survey bool
}

// Checker is the optional ability of a toolset to extend the walk.
type Checker interface{ Checks() []Check }

// Mention is a name in a question that may be an object of a cluster.
type Mention struct {
	// Kind as the person wrote it ("pod", "deploy", "claim"), empty if not said.
	Kind string
	// Namespace, empty if not said.
	Namespace string
	Name      string
}

// Resolution is what a mention can mean.
type Resolution struct {
	// Exact matches; more than one is answered by asking back.
	Exact []incident.Ref
	// Near matches, best first; offered, never merged.
	Near []incident.Ref
	// NoNamespace is set when the mention's namespace does not exist.
	NoNamespace bool
}

// Resolver is the optional ability of a toolset to find objects by name.
type Resolver interface {
	Resolve(ctx context.Context, m Mention) (Resolution, error)
}

// Code describes a finding code a toolset may emit; the lint of runbooks and
// cases, and the generated docs, are checked against it.
type Code struct {
	Code     string
	Role     incident.Role
	Severity incident.Severity
	// Kinds of subject, for example "Pod".
	Kinds []string
	// Params are the names of the facts that every finding of this code carries.
	Params []string
	// Optional are the names of facts that a finding carries only where they
	// apply, such as the template of a claim that was made from one. A reader
	// must ask whether they are there.
	Optional []string
	// Text says what the code means, one sentence.
	Text string
}

// Right is something a toolset must be allowed to read.
type Right struct {
	// Verbs on Resources, as RBAC writes them ("get", "list"; "pods/log",
	// "resourceclaims.resource.k8s.io"), or as the system itself names its rights.
	Verbs, Resources []string
	// For says what is not seen without it.
	For string
}

// Description tells people what a toolset reads, by what right, and where its
// knowledge is from; the generated docs are made of it.
type Description struct {
	// Reads is a sentence: which system, through which of its interfaces.
	Reads  string
	Rights []Right
	// Config names the section of the configuration; empty when there is none.
	Config string
	// Found says how the system is found when it is not configured.
	Found string
	// Sources are the documents and versions that its facts are from.
	Sources []string
}

// Describer is the ability of a toolset to describe itself.
type Describer interface{ Describe() Description }

// Cataloguer is the optional ability of a toolset to list its finding codes.
type Cataloguer interface{ Codes() []Code }

// Caller calls tools by name and records each call as evidence. The evidence
// ids are filled into the findings and edges of the result.
type Caller interface {
	Call(ctx context.Context, name string, args any) (incident.Evidence, Result)
}
