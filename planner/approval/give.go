package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// payloadType keeps a signature of an approval from being taken for that of
// something else that the same key signs.
const payloadType = "application/vnd.gumshoe.approval.v1+json"

// Canonical gives the bytes of an approval that are signed: compact JSON without the
// key id and the signature, in the pre-authentication encoding of DSSE
// (github.com/secure-systems-lab/dsse, protocol.md).
func Canonical(a incident.Approval) ([]byte, error) {
	a.KeyID, a.Signature = "", nil
	a.At, a.Expires = a.At.UTC().Round(0), a.Expires.UTC().Round(0)
	body, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("approval of plan %s: %w", a.Plan, err)
	}
	return Envelope(payloadType, body), nil
}

// Envelope is the pre-authentication encoding of DSSE: a type and a body cannot be
// shifted into each other.
func Envelope(kind string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(kind), kind, len(body))
	b.Write(body)
	return b.Bytes()
}

// Reviewer says whether a person may consent to a plan: who could not make every
// change of it by their own rights must not have gumshoe make it.
type Reviewer interface {
	// MayApprove gives nil, or a sentence why not. What cannot be found out is no.
	MayApprove(ctx context.Context, who incident.Person, plan incident.Plan) error
}

// Desk takes people's words and signs them.
type Desk struct {
	Signer   Signer
	Reviewer Reviewer
	Now      func() time.Time
	// Nonce gives a new unguessable name, such as 16 random bytes in hex.
	Nonce func() (string, error)
	// TTL is how long an approval counts; never longer than its plan.
	TTL time.Duration
}

// maxComment is the longest comment, in bytes.
const maxComment = 4 << 10

// Give makes a signed word about a plan. The digest is that of the canonical plan the
// person was shown; earlier are the words given before. Approving takes a name that
// the cluster or a login vouches for and the right to make every change of the plan;
// saying no takes that right too, unless the person asked for the plan or gave an
// approval of it. The error is a *Refusal when the word is not taken.
func (d *Desk) Give(ctx context.Context, plan incident.Plan, digest, word string, by incident.Person, comment string, earlier []incident.Approval) (incident.Approval, error) {
	now := d.Now().UTC().Round(0)
	a := incident.Approval{Plan: plan.ID, Digest: digest, Word: word, By: by, At: now, Comment: strings.TrimSpace(comment)}
	refuse := func(kind Kind, format string, args ...any) (incident.Approval, error) {
		return incident.Approval{}, &Refusal{Kind: kind, Plan: plan.ID, By: by.Name, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case !slices.Contains([]string{incident.Approved, incident.Rejected, incident.Revoked, incident.Commented}, word):
		return refuse(Unknown, "the word %q is none of %s, %s, %s and %s", word, incident.Approved, incident.Rejected, incident.Revoked, incident.Commented)
	case by.Name == "" || by.Proof == "":
		return refuse(Nobody, "who gives the word is not known; the cluster or a login has to say it")
	case word == incident.Approved && machine(by.Name):
		return refuse(Nobody, "%s is no person; people approve", by.Name)
	case len(a.Comment) > maxComment || !whole(a):
		return refuse(Unknown, "the comment is longer than %d bytes, or a name or the comment is not valid text", maxComment)
	case word == incident.Rejected && a.Comment == "":
		return refuse(Unknown, "a rejection says why")
	}
	if word != incident.Commented && (word == incident.Approved || !mayWithdraw(by, plan, earlier)) {
		if err := d.Reviewer.MayApprove(ctx, by, plan); err != nil {
			return refuse(NoRight, "%s may not decide on the plan: %v", by.Name, err)
		}
	}
	if word == incident.Approved {
		if !now.Before(plan.Expires) {
			return refuse(Late, "the plan expired at %s", stamp(plan.Expires))
		}
		a.Expires = now.Add(d.TTL)
		if a.Expires.After(plan.Expires) {
			a.Expires = plan.Expires.UTC().Round(0)
		}
	}
	var err error
	if a.Nonce, err = d.Nonce(); err != nil {
		return incident.Approval{}, fmt.Errorf("approval of plan %s: %w", plan.ID, err)
	}
	if a.Nonce == "" {
		return incident.Approval{}, fmt.Errorf("approval of plan %s: its nonce is empty", plan.ID)
	}
	payload, err := Canonical(a)
	if err != nil {
		return incident.Approval{}, err
	}
	if a.Signature, a.KeyID, err = d.Signer.Sign(ctx, payload); err != nil {
		return incident.Approval{}, fmt.Errorf("sign the approval of plan %s: %w", plan.ID, err)
	}
	return a, nil
}

// mayWithdraw: who asked for a plan, or gave an approval of it, may say no.
func mayWithdraw(by incident.Person, plan incident.Plan, earlier []incident.Approval) bool {
	return same(by.Name, plan.Requester.Name) || slices.ContainsFunc(earlier, func(a incident.Approval) bool {
		return a.Word == incident.Approved && a.Plan == plan.ID && same(a.By.Name, by.Name)
	})
}

// machine reports whether a name of the cluster is known to be nobody's own.
func machine(name string) bool {
	return name == "system:anonymous" || strings.HasPrefix(name, "system:serviceaccount:") || strings.HasPrefix(name, "system:node:")
}

// whole reports whether every text of an approval is valid: JSON would put the same
// replacement in place of different bytes.
func whole(a incident.Approval) bool {
	for _, s := range slices.Concat([]string{a.Plan, a.Digest, a.Comment, a.By.Name, a.By.Surface, a.By.Proof}, a.By.Groups, a.By.Roles) {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// same compares names of people. Upper and lower case are one: better one person
// counted once than one person counted twice.
func same(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
