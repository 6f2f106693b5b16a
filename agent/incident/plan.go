package incident

import (
	"encoding/json"
	"reflect"
	"time"
)

// PlanVersion is the form of Plan that this build writes and executes.
const PlanVersion = 1

// Risk is how much an action can hurt when everything about it goes wrong.
type Risk string

// Risks, mildest first.
const (
	// RiskLow: reversible, and nothing that runs is stopped.
	RiskLow Risk = "low"
	// RiskMedium: pods of one workload are made anew, or its spec changes.
	RiskMedium Risk = "medium"
	// RiskHigh: a node, a policy of the network, several workloads, or something
	// is deleted that cannot be brought back as it was.
	RiskHigh Risk = "high"
	// RiskCritical: a node pool or the whole cluster.
	RiskCritical Risk = "critical"
)

// Weight orders risks from 1; an unknown risk weighs more than every known one.
func (r Risk) Weight() int {
	switch r {
	case RiskLow:
		return 1
	case RiskMedium:
		return 2
	case RiskHigh:
		return 3
	case RiskCritical:
		return 4
	}
	return 5
}

// Person is who asked, approved or executed, as the cluster or the surface's own
// login knows them; never as a message claims.
type Person struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Surface is where they were: "cli", "slack", "web", "api".
	Surface string `json:"surface,omitempty"`
	// Proof says how the name is known: "cluster" (SelfSubjectReview), "impersonation"
	// (the cluster let the caller act as them), "login".
	Proof string `json:"proof,omitempty"`
	// Roles of gumshoe's own that the configuration gives them, such as "break-glass".
	Roles []string `json:"roles,omitempty"`
}

// Plan is what a person approves: exact steps with exact requests. Its canonical
// bytes (planner.Canonical) are what is signed and what is executed; prose of a
// model is never a part of it.
type Plan struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Title   string `json:"title"`
	Cluster string `json:"cluster"`
	// ClusterUID is the uid of the namespace kube-system: a plan for one cluster is
	// never executed on another of the same name.
	ClusterUID string `json:"cluster_uid"`
	// Investigation that the plan comes from, if any, and the validated cause.
	Investigation string     `json:"investigation,omitempty"`
	Cause         *PlanCause `json:"cause,omitempty"`
	// Author wrote the steps: "gumshoe" from a validated diagnosis, else a person.
	Author    string `json:"author"`
	Requester Person `json:"requester"`
	// Reason is why, in the words of the person who wrote the plan by hand.
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
	// Expires is when an approval of the plan ends to be worth anything.
	Expires time.Time `json:"expires"`
	Steps   []Step    `json:"steps"`
	// Before must hold when the plan begins: the trouble is still there.
	Before []Check `json:"before,omitempty"`
	// Verify is asked after the last step.
	Verify []Check `json:"verify,omitempty"`
	Blast  Blast   `json:"blast"`
	// Capacity is the proof that what is moved will fit, or says that there is none.
	Capacity     []Claim       `json:"capacity,omitempty"`
	Alternatives []Alternative `json:"alternatives,omitempty"`
	// Baseline are the codes and subjects of the faults seen around the targets
	// when the plan was made, "code Kind ns/name", sorted: what is not among them
	// afterwards is new.
	Baseline []string `json:"baseline,omitempty"`
	// BreakGlass asks for the role of that name instead of ordinary consent.
	BreakGlass bool `json:"break_glass,omitempty"`
}

// PlanCause is the validated cause that a plan mends.
type PlanCause struct {
	Subject    Ref      `json:"subject"`
	Code       string   `json:"code"`
	Statement  string   `json:"statement"`
	Confidence float64  `json:"confidence"`
	Evidence   []string `json:"evidence"`
	// Symptoms are what the question was about.
	Symptoms []Ref `json:"symptoms,omitempty"`
}

// Alternative is another way that was considered and not taken.
type Alternative struct {
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
	Risk   Risk              `json:"risk,omitempty"`
	Why    string            `json:"why"`
}

// Step is one typed action and the requests it comes to.
type Step struct {
	// ID is s1, s2, ... in the order of execution.
	ID     string            `json:"id"`
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
	// Say is one sentence in the code's own words.
	Say  string `json:"say"`
	Risk Risk   `json:"risk"`
	// Targets are the objects that the step reads or changes, as they were.
	Targets []Target `json:"targets"`
	Writes  []Write  `json:"writes"`
	// Undo takes the writes back; it is executed in its own order.
	Undo []Write `json:"undo,omitempty"`
	// Lasting says what Undo cannot bring back; empty when it brings back all.
	Lasting string `json:"lasting,omitempty"`
	// Before must hold before the first write, Verify after the last one.
	Before []Check `json:"before,omitempty"`
	Verify []Check `json:"verify,omitempty"`
	Blast  Blast   `json:"blast"`
	// Warnings are what a careful colleague would mention.
	Warnings []string `json:"warnings,omitempty"`
	// Source is set, and Writes is empty, when the object is kept in a repository
	// and a person has to change it there.
	Source *SourcePatch `json:"source,omitempty"`
}

// SourcePatch is a change for the repository that an object is delivered from.
type SourcePatch struct {
	// Tool is "Argo CD", "Flux" or "Helm"; Owner its object, such as an Application.
	Tool  string `json:"tool"`
	Owner Ref    `json:"owner"`
	// Where says the repository, revision and path as far as the cluster tells.
	Where string `json:"where,omitempty"`
	// Diff is the change of the object's manifest, unified; Body the text of a pull
	// request.
	Diff string `json:"diff"`
	Body string `json:"body"`
}

// Target is an object as it was when the plan was made.
type Target struct {
	Ref             Ref               `json:"ref"`
	Version         string            `json:"version,omitempty"`
	Resource        string            `json:"resource,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resource_version,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	// Digest of the wanted state: labels and everything but status and the
	// bookkeeping of metadata. Another digest at execution is drift.
	Digest string `json:"digest,omitempty"`
	// Observed is the condition of the object that the plan relies on.
	Observed string `json:"observed,omitempty"`
	// Owner names the delivery tool or operator that keeps the object, if any.
	Owner string `json:"owner,omitempty"`
	// System is set for what the cluster itself lives on: kube-system, CNI, CSI,
	// device plugins and DRA drivers.
	System bool `json:"system,omitempty"`
}

// Verbs of a write to the Kubernetes API. A cloud's verbs are named by its backend.
const (
	VerbCreate = "create"
	VerbPatch  = "patch"
	VerbDelete = "delete"
	VerbEvict  = "evict"
)

// APIKubernetes is the API of writes to the cluster itself.
const APIKubernetes = "kubernetes"

// Write is one request that changes something.
type Write struct {
	// ID is s1.1, s1.2, ...; of an undo s1.u1, s1.u2, ...
	ID string `json:"id"`
	// API is APIKubernetes, "aks" or "gke".
	API  string `json:"api"`
	Verb string `json:"verb"`
	Ref  Ref    `json:"ref"`
	// Of is set in an undo: the write that is taken back. It is executed only when
	// that write was done, with the uid and digest that came of it where its own
	// are empty.
	Of string `json:"of,omitempty"`
	// Version and Resource complete the address in Kubernetes: "v1", "deployments".
	Version  string `json:"version,omitempty"`
	Resource string `json:"resource,omitempty"`
	// UID and Digest are preconditions: the object that is meant, in the state that
	// was planned on. Digest is empty where the state does not matter.
	UID    string `json:"uid,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Body is a JSON patch of RFC 6902 (patch), the object (create) or a cloud's request.
	Body json.RawMessage `json:"body,omitempty"`
	// Grace is the termination grace period of a delete or eviction, in seconds;
	// negative means the pod's own.
	Grace int64 `json:"grace,omitempty"`
	// Say is one sentence in the code's own words.
	Say string `json:"say"`
	// Diff is unified: the server's own dry run against what is there.
	Diff string `json:"diff,omitempty"`
	// Dry says how Diff came about: "server", or a sentence why there was no dry run.
	Dry string `json:"dry,omitempty"`
	// Await must hold before the next write, each within its time.
	Await []Check `json:"await,omitempty"`
	// Timeout of the request with its repetitions, in seconds; 0 means 30.
	Timeout int `json:"timeout,omitempty"`
}

// Check is a question with the answers pass, fail and inconclusive.
type Check struct {
	// Kind names the check, for example "rollout_complete".
	Kind    string            `json:"kind"`
	Subject Ref               `json:"subject"`
	Params  map[string]string `json:"params,omitempty"`
	// Say is what must hold, one sentence.
	Say string `json:"say"`
	// Within is how long it may take to come true, in seconds; Hold how long it has
	// to stay true, in seconds.
	Within int `json:"within,omitempty"`
	Hold   int `json:"hold,omitempty"`
}

// Verdict of a check. What could not be seen is inconclusive, and inconclusive is
// never taken for a pass.
type Verdict string

// Verdicts.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unclear Verdict = "inconclusive"
)

// CheckResult is the answer to a check.
type CheckResult struct {
	Check   Check   `json:"check"`
	Verdict Verdict `json:"verdict"`
	// Saw is what was seen, with figures.
	Saw string    `json:"saw"`
	At  time.Time `json:"at"`
}

// Repeats reports whether another result is of the same check with the same verdict, as
// it is asked again after an executor was gone.
func (r CheckResult) Repeats(other CheckResult) bool {
	return r.Verdict == other.Verdict && reflect.DeepEqual(r.Check, other.Check)
}

// Blast is whom a step or a plan hurts.
type Blast struct {
	// Pods that are stopped, by name, at most 50; PodCount counts all.
	Pods     []Ref `json:"pods,omitempty"`
	PodCount int   `json:"pod_count"`
	// Workloads whose pods these are, and nodes that are touched.
	Workloads []Ref `json:"workloads,omitempty"`
	Nodes     []Ref `json:"nodes,omitempty"`
	// GPUs that are held by the pods, and the hours of work since they started
	// times GPUs, which a pod without checkpoints loses.
	GPUs     int     `json:"gpus"`
	GPUHours float64 `json:"gpu_hours"`
	// BelowBudget names PodDisruptionBudgets that allow fewer disruptions than needed.
	BelowBudget []string `json:"below_budget,omitempty"`
	// Requests in flight, where metrics tell; negative when they do not.
	Requests float64 `json:"requests,omitempty"`
	// Notes are sentences: gangs that stop as a whole, local volumes that are lost.
	Notes []string `json:"notes,omitempty"`
}

// Verdicts of the policy, mildest first.
const (
	Allow  = "allow"
	AskOne = "ask_one"
	AskTwo = "ask_two"
	Deny   = "deny"
)

// Decision is what the policy says of a plan.
type Decision struct {
	// Verdict is allow, ask_one, ask_two or deny.
	Verdict string `json:"verdict"`
	// Approvers is how many people have to approve: 0, 1 or 2.
	Approvers int `json:"approvers"`
	// SelfApproval says that the requester may be one of them.
	SelfApproval bool      `json:"self_approval,omitempty"`
	Rules        []RuleHit `json:"rules"`
	// Policy is the digest of the rules that decided.
	Policy string `json:"policy"`
}

// RuleHit is a rule that applied, and where.
type RuleHit struct {
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"`
	Step    string `json:"step,omitempty"`
	Reason  string `json:"reason"`
}

// Words of an approval.
const (
	Approved  = "approve"
	Rejected  = "reject"
	Revoked   = "revoke"
	Commented = "comment"
)

// Approval is one person's word about one plan, signed.
type Approval struct {
	Plan string `json:"plan"`
	// Digest of the canonical plan, "sha256:<hex>".
	Digest string `json:"digest"`
	// Word is approve, reject, revoke or comment.
	Word    string    `json:"word"`
	By      Person    `json:"by"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires,omitzero"`
	Comment string    `json:"comment,omitempty"`
	// Nonce makes the approval usable once.
	Nonce string `json:"nonce"`
	// KeyID and Signature are over the canonical approval without these two.
	KeyID     string `json:"key_id,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// PlanState is how far a plan came.
type PlanState string

// States of a plan.
const (
	PlanPending   PlanState = "pending"   // waits for approval
	PlanApproved  PlanState = "approved"  // may be executed
	PlanRejected  PlanState = "rejected"  // somebody said no
	PlanExpired   PlanState = "expired"   // nobody said yes in time
	PlanVoid      PlanState = "void"      // the cluster is not as it was planned on, or a freeze stands
	PlanExecuting PlanState = "executing" // begun; its process may be gone
	PlanVerified  PlanState = "verified"  // done, and the checks passed
	PlanUndone    PlanState = "undone"    // failed or taken back, everything is as it was
	PlanStopped   PlanState = "stopped"   // ended in between; the record says what stands
)

// Final reports whether nothing more happens to a plan by itself. A verified plan
// can still be undone by a person.
func (s PlanState) Final() bool {
	switch s {
	case PlanRejected, PlanExpired, PlanVoid, PlanVerified, PlanUndone, PlanStopped:
		return true
	}
	return false
}

// WriteResult is what became of a write.
type WriteResult struct {
	Write string `json:"write"`
	// Done says that the change stands.
	Done bool `json:"done"`
	// Found says that it was found done after a restart.
	Found bool   `json:"found,omitempty"`
	UID   string `json:"uid,omitempty"`
	// ResourceVersion and Digest of the object afterwards.
	ResourceVersion string `json:"resource_version,omitempty"`
	Digest          string `json:"digest,omitempty"`
	// Error is the user-facing sentence of a failed write.
	Error string `json:"error,omitempty"`
	// Resume is what a cloud needs to find its operation again after a restart.
	Resume string `json:"resume,omitempty"`
}
