package approval

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Kind of a refusal, for audit records and for callers that branch.
type Kind string

// Kinds of refusals.
const (
	// Denied: the policy denies the plan, or its verdict is unknown.
	Denied Kind = "denied"
	// Missing: not enough people approved yet, and nothing is wrong with what is there.
	Missing Kind = "missing"
	// Rejection and Withdrawn: somebody said no.
	Rejection Kind = "rejected"
	Withdrawn Kind = "revoked"
	// Untrusted: signed by a key that is not trusted. Forged: a trusted key did not
	// sign this.
	Untrusted Kind = "untrusted"
	Forged    Kind = "forged"
	// Mismatch: given for other bytes than those that would be executed.
	Mismatch Kind = "digest_mismatch"
	// Expired: the approval no longer counts. Late: it was given, or the plan would
	// be executed, after the plan's end. Early: it is dated before the plan or in the
	// future.
	Expired Kind = "expired"
	Late    Kind = "late"
	Early   Kind = "early"
	// Replayed: its nonce was used before.
	Replayed Kind = "replayed"
	// Self: requester or author may not approve this plan. SamePerson: one person was
	// counted already.
	Self       Kind = "self_approval"
	SamePerson Kind = "same_person"
	// NoRole: break-glass without its role. NoRight: the person may not decide.
	NoRole  Kind = "no_role"
	NoRight Kind = "no_right"
	// Nobody: who says it is not known. Unknown: the word cannot be taken.
	Nobody  Kind = "nobody"
	Unknown Kind = "unknown"
)

// Refusal says why consent does not stand, or why a word is not taken.
type Refusal struct {
	Kind Kind
	// Plan and the person whose word it is about; By may be empty.
	Plan, By string
	// Why is one sentence.
	Why string
	// Others are refusals of further approvals of the plan.
	Others []*Refusal
}

// Error implements error.
func (e *Refusal) Error() string { return fmt.Sprintf("plan %s: %s", e.Plan, e.Why) }

// Question is what is asked before a plan is executed.
type Question struct {
	Plan incident.Plan
	// Digest of the canonical bytes that would be executed, computed anew.
	Digest string
	// Approvals are the words about the plan in the order of the journal.
	Approvals []incident.Approval
	// Decision is what the policy says now.
	Decision incident.Decision
	Now      time.Time
	// Used says that the nonce of an approval was spent by an execution.
	Used func(nonce string) bool
	// BreakGlassRole is the role that consents to a break-glass plan.
	BreakGlassRole string
}

// Consent is what stands.
type Consent struct {
	// By are the people whose approvals count, each once.
	By []incident.Person
	// Nonces of these approvals; they are spent with the first step of the execution.
	Nonces []string
	// Until is when the first of the approvals, or the plan, ends.
	Until time.Time
}

// skew is how far the clocks of two machines may be apart.
const skew = 2 * time.Minute

// Judge says whether consent to a plan stands. The error is a *Refusal: the decisive
// reason, with what is wrong with each approval that does not count.
//
// A no needs no proof: a rejection or withdrawal counts whatever its signature is. A
// withdrawal ends every approval before it; people may approve anew. A record that a
// trusted key did not sign, though it says so, refuses the plan: what is kept was
// changed.
func (k *Keys) Judge(q Question) (Consent, error) {
	p := q.Plan
	refuse := func(kind Kind, by, format string, args ...any) *Refusal {
		return &Refusal{Kind: kind, Plan: p.ID, By: by, Why: fmt.Sprintf(format, args...)}
	}
	need, ok := map[string]int{incident.Allow: 0, incident.AskOne: 1, incident.AskTwo: 2}[q.Decision.Verdict]
	switch {
	case q.Decision.Verdict == incident.Deny:
		return Consent{}, refuse(Denied, "", "the policy denies it: %s", reasons(q.Decision))
	case !ok:
		return Consent{}, refuse(Denied, "", "the policy's verdict %q is not known, and what is unknown is denied", q.Decision.Verdict)
	case q.Digest == "" || q.Now.IsZero() || q.Used == nil:
		return Consent{}, refuse(Unknown, "", "digest, time and the used approvals have to be known")
	case p.Expires.IsZero() || !q.Now.Before(p.Expires):
		return Consent{}, refuse(Late, "", "the plan expired at %s; make a new one", stamp(p.Expires))
	}
	need = max(need, q.Decision.Approvers)
	if p.BreakGlass {
		need = max(need, 1)
	}
	withdrawn := -1
	var since time.Time
	var revoked *Refusal
	for i, a := range q.Approvals {
		switch a.Word {
		case incident.Rejected:
			return Consent{}, refuse(Rejection, a.By.Name, "%s rejected it at %s%s", a.By.Name, stamp(a.At), because(a.Comment))
		case incident.Revoked:
			withdrawn = i
			if a.At.After(since) {
				since = a.At
			}
			revoked = refuse(Withdrawn, a.By.Name, "%s withdrew the approvals at %s%s; it has to be approved anew", a.By.Name, stamp(a.At), because(a.Comment))
		case incident.Approved, incident.Commented:
		default:
			return Consent{}, refuse(Unknown, a.By.Name, "a record says %q, which is no word about a plan", a.Word)
		}
	}
	c := Consent{Until: p.Expires}
	var bad []*Refusal
	for i, a := range q.Approvals {
		if a.Word != incident.Approved {
			continue
		}
		r := k.counts(q, a, c)
		if r == nil && (i < withdrawn || !since.IsZero() && !a.At.After(since)) {
			r = revoked
		}
		if r != nil {
			if r.Kind == Forged {
				return Consent{}, r
			}
			bad = append(bad, r)
			continue
		}
		if len(c.By) == need {
			continue // more than are needed: their approvals stay unspent
		}
		c.By, c.Nonces = append(c.By, a.By), append(c.Nonces, a.Nonce)
		if a.Expires.Before(c.Until) {
			c.Until = a.Expires
		}
	}
	if len(c.By) >= need {
		return c, nil
	}
	if len(bad) > 0 {
		bad[0].Others = bad[1:]
		return Consent{}, bad[0]
	}
	return Consent{}, refuse(Missing, "", "%d of %d people approved it", len(c.By), need)
}

// counts says why an approval does not count; nil means that it does.
func (k *Keys) counts(q Question, a incident.Approval, have Consent) *Refusal {
	p := q.Plan
	refuse := func(kind Kind, format string, args ...any) *Refusal {
		return &Refusal{Kind: kind, Plan: p.ID, By: a.By.Name, Why: fmt.Sprintf("the approval by %s does not count: ", a.By.Name) + fmt.Sprintf(format, args...)}
	}
	payload, err := Canonical(a)
	if err != nil {
		return refuse(Forged, "%v", err)
	}
	switch err := k.Verify(a.KeyID, payload, a.Signature); {
	case errors.Is(err, ErrUntrusted):
		return refuse(Untrusted, "%v; trusted are %s", err, strings.Join(k.IDs(), ", "))
	case err != nil:
		return refuse(Forged, "%v: somebody changed the record, and nothing of the plan is executed", err)
	}
	switch {
	case a.Plan != p.ID:
		return refuse(Mismatch, "it is about plan %s", a.Plan)
	case a.Digest != q.Digest:
		return refuse(Mismatch, "it was given for %s, and what would be executed is %s", a.Digest, q.Digest)
	case a.By.Name == "" || a.By.Proof == "":
		return refuse(Nobody, "nobody vouches for the name")
	case machine(a.By.Name):
		return refuse(Nobody, "it is no person's; people approve")
	case a.Expires.IsZero() || !q.Now.Before(a.Expires):
		return refuse(Expired, "it expired at %s", stamp(a.Expires))
	case !a.At.Before(p.Expires):
		return refuse(Late, "it was given at %s, after the plan's end", stamp(a.At))
	case a.At.Before(p.Created.Add(-skew)):
		return refuse(Early, "it is dated %s, before the plan was made", stamp(a.At))
	case a.At.After(q.Now.Add(skew)):
		return refuse(Early, "it is dated %s, which is yet to come", stamp(a.At))
	case a.Nonce == "" || q.Used(a.Nonce) || slices.Contains(have.Nonces, a.Nonce):
		return refuse(Replayed, "it was used before")
	}
	if p.BreakGlass {
		if q.BreakGlassRole == "" || !slices.Contains(a.By.Roles, q.BreakGlassRole) {
			return refuse(NoRole, "break-glass takes the role %s", q.BreakGlassRole)
		}
	}
	if !q.Decision.SelfApproval && (same(a.By.Name, p.Requester.Name) || same(a.By.Name, p.Author)) {
		return refuse(Self, "who asked for the plan or wrote it may not approve it")
	}
	if slices.ContainsFunc(have.By, func(o incident.Person) bool { return same(o.Name, a.By.Name) }) {
		return refuse(SamePerson, "the same person approved it already")
	}
	return nil
}

func because(comment string) string {
	if comment == "" {
		return ""
	}
	return ": " + comment
}

// reasons joins why a decision denies.
func reasons(d incident.Decision) string {
	var out []string
	for _, h := range d.Rules {
		if s := fmt.Sprintf("%s (%s)", h.Reason, h.Rule); h.Verdict == incident.Deny && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "no reason is given"
	}
	return strings.Join(out, "; ")
}
