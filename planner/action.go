// Package planner turns a validated diagnosis, or what a person wrote, into a plan
// of exact requests; dry-runs it; executes it once it is approved; proves that it
// worked; and takes it back when it did not. It sees neither a model nor a cluster
// client: actions, backends and checks are given to it.
package planner

import (
	"context"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Families of actions.
const (
	Workloads = "workloads"
	Placement = "placement"
	DRA       = "dra"
	Network   = "network"
	Pools     = "pools"
	Images    = "images"
	Settings  = "settings"
	People    = "people"
)

// Types of a parameter's value; the value itself is written as a string.
const (
	String   = "string"
	Int      = "int"
	Bool     = "bool"
	Quantity = "quantity" // "500m", "80Gi"
	CEL      = "cel"
	JSON     = "json"
	Duration = "duration" // "30s"
)

// Param is a parameter of an action.
type Param struct {
	Name string
	// Type is one of the types above; empty means String.
	Type     string
	Required bool
	// Values are those allowed; empty means any.
	Values []string
	// Object says that the value names an object of the cluster.
	Object bool
	// Text says what it is, one sentence without a stop.
	Text string
}

// Right is what the executor needs for an action, in RBAC's terms.
type Right struct {
	Group     string
	Resources []string
	Verbs     []string
}

// Info describes an action to people, policies and RBAC.
type Info struct {
	Name   string
	Family string
	// Text is one sentence: what it does.
	Text   string
	Params []Param
	// Risk is the least risk of the action; a draft may raise it.
	Risk   incident.Risk
	Rights []Right
	// Contains says that the action keeps a trouble from spreading and does not end it:
	// that the cause is still found afterwards is no failure.
	Contains bool
	// Undo says how it is taken back, or why it cannot be; Verify how it is proved.
	Undo, Verify string
	// Sources are the documents that the behaviour was taken from.
	Sources []string
}

// Draft is what an action comes to on the cluster as it is: a step before it has
// its ids and the server's dry run.
type Draft struct {
	Say string
	// Risk above the action's own, or empty.
	Risk     incident.Risk
	Targets  []incident.Target
	Writes   []incident.Write
	Undo     []incident.Write
	Lasting  string
	Before   []incident.Check
	Verify   []incident.Check
	Blast    incident.Blast
	Warnings []string
	// Capacity is the proof that what is moved will fit.
	Capacity []incident.Claim
	Source   *incident.SourcePatch
}

// Action is one typed change. Compile reads the cluster, checks the parameters
// against it (Preflight) and gives the exact requests with their preconditions,
// their undo and their proof. It changes nothing. The error is a *Missing when a
// person has to say more, a *Refused when the change is never made.
type Action interface {
	Info() Info
	Compile(ctx context.Context, params map[string]string) (Draft, error)
}

// Session gives actions that see the cluster as earlier steps of the same plan
// would leave it.
type Session interface {
	// Action gives an action by name; nil when there is none.
	Action(name string) Action
}

// Catalogue is what can be done.
type Catalogue interface {
	Infos() []Info
	Session() Session
}

// Backend executes writes of one API.
type Backend interface {
	// Dry asks the server what a write would do and changes nothing. It gives the
	// unified diff and how it came about (Write.Diff, Write.Dry).
	Dry(ctx context.Context, w incident.Write) (diff, dry string, err error)
	// Do executes a write for a plan, honouring its preconditions. Repeating a write
	// that was done changes nothing and gives Found. The error is a *Drift when a
	// precondition does not hold.
	Do(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error)
	// State says whether a write of a plan that was begun stands: after a crash.
	State(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error)
	// Hold checks that a target is as planned: uid, digest, no freeze. The error is a
	// *Drift when it is not.
	Hold(ctx context.Context, t incident.Target) error
}

// Checker answers checks, once each and without waiting.
type Checker interface {
	Check(ctx context.Context, c incident.Check) (incident.Verdict, string)
}

// Missing says that a person has to give a parameter, or a better one.
type Missing struct {
	Action, Param string
	// Why says what is needed, one sentence.
	Why string
}

// Error implements error.
func (e *Missing) Error() string {
	return fmt.Sprintf("action %s: parameter %q: %s", e.Action, e.Param, e.Why)
}

// Refused says that a change is not made, whoever asks.
type Refused struct {
	Action string
	Why    string
	// Way is what can be done instead.
	Way string
}

// Error implements error.
func (e *Refused) Error() string {
	s := fmt.Sprintf("action %s is refused: %s", e.Action, e.Why)
	if e.Way != "" {
		s += "; " + e.Way
	}
	return s
}

// Drift says that the cluster is not as it was planned on.
type Drift struct {
	Ref incident.Ref
	Why string
}

// Error implements error.
func (e *Drift) Error() string {
	return fmt.Sprintf("%s is not as it was planned on: %s", e.Ref, e.Why)
}
