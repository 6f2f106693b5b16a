package approval

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const digest = "sha256:aaaa"

var born = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

// world is a desk and who judges what it made.
type world struct {
	key  *Key
	keys *Keys
	desk *Desk
	plan incident.Plan
	now  time.Time
	used map[string]bool
	// may holds the people with the right to decide.
	may map[string]bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{key: key, keys: NewKeys(key.Public()), now: born.Add(time.Hour), used: map[string]bool{}, may: map[string]bool{"anna": true, "bob": true, "carl": true}}
	w.plan = incident.Plan{ID: "plan-1", Author: "gumshoe", Requester: incident.Person{Name: "anna", Proof: "cluster"}, Created: born, Expires: born.Add(72 * time.Hour)}
	n := 0
	w.desk = &Desk{Signer: key, Reviewer: w, Now: func() time.Time { return w.now }, TTL: 12 * time.Hour, Nonce: func() (string, error) { n++; return fmt.Sprintf("n%d", n), nil }}
	return w
}

// MayApprove implements Reviewer.
func (w *world) MayApprove(_ context.Context, who incident.Person, _ incident.Plan) error {
	if !w.may[who.Name] {
		return errors.New("patch deployments in research is not allowed")
	}
	return nil
}

func person(name string, roles ...string) incident.Person {
	return incident.Person{Name: name, Groups: []string{"sre"}, Surface: "cli", Proof: "cluster", Roles: roles}
}

func (w *world) give(t testing.TB, word, name string) incident.Approval {
	t.Helper()
	a, err := w.desk.Give(t.Context(), w.plan, digest, word, person(name), "because", nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func decision(verdict string, self bool) incident.Decision {
	return incident.Decision{Verdict: verdict, Approvers: map[string]int{incident.AskOne: 1, incident.AskTwo: 2}[verdict], SelfApproval: self,
		Rules: []incident.RuleHit{{Rule: "r", Verdict: verdict, Reason: "why"}}}
}

func (w *world) judge(d incident.Decision, as ...incident.Approval) (Consent, error) {
	return w.keys.Judge(Question{Plan: w.plan, Digest: digest, Approvals: as, Decision: d, Now: w.now, Used: func(n string) bool { return w.used[n] }, BreakGlassRole: "break-glass"})
}

// wantKind holds an error against a kind of refusal.
func wantKind(t *testing.T, name string, err error, want Kind) {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Kind != want || r.Why == "" || r.Plan != "plan-1" {
		t.Errorf("%s: %v, want a refusal of the kind %s", name, err, want)
	}
}

func TestConsentStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := decision(incident.AskOne, true), decision(incident.AskTwo, true)
	anna, bob := w.give(t, incident.Approved, "anna"), w.give(t, incident.Approved, "bob")
	c, err := w.judge(one, anna)
	if err != nil || len(c.By) != 1 || c.By[0].Name != "anna" || !slices.Equal(c.Nonces, []string{anna.Nonce}) || !c.Until.Equal(w.now.Add(12*time.Hour)) {
		t.Errorf("%+v, %v", c, err)
	}
	// More than are needed stay unspent.
	if c, err := w.judge(one, anna, bob); err != nil || !slices.Equal(c.Nonces, []string{anna.Nonce}) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := w.judge(two, anna, w.give(t, incident.Commented, "carl"), bob); err != nil || len(c.By) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := w.judge(decision(incident.Allow, false)); err != nil || len(c.By) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	// It stands after the records went to disk and back.
	raw, err := json.Marshal([]incident.Approval{anna, bob})
	if err != nil {
		t.Fatal(err)
	}
	var back []incident.Approval
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if _, err := w.judge(two, back...); err != nil {
		t.Error(err)
	}
	// An approval never outlives its plan.
	w.now = w.plan.Expires.Add(-time.Hour)
	if late := w.give(t, incident.Approved, "bob"); !late.Expires.Equal(w.plan.Expires) {
		t.Errorf("it counts until %s", late.Expires)
	}
}

func TestConsentIsRefused(t *testing.T) {
	t.Parallel()
	one, two, self := decision(incident.AskOne, false), decision(incident.AskTwo, false), decision(incident.AskOne, true)
	stranger, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		want Kind
		run  func(w *world) (Consent, error)
	}{
		"nobody approved": {Missing, func(w *world) (Consent, error) { return w.judge(one) }},
		"one of two":      {Missing, func(w *world) (Consent, error) { return w.judge(two, w.give(t, incident.Approved, "bob")) }},
		"only a comment":  {Missing, func(w *world) (Consent, error) { return w.judge(one, w.give(t, incident.Commented, "bob")) }},
		"denied": {Denied, func(w *world) (Consent, error) {
			return w.judge(decision(incident.Deny, true), w.give(t, incident.Approved, "bob"))
		}},
		"an unknown verdict": {Denied, func(w *world) (Consent, error) {
			return w.judge(incident.Decision{Verdict: "perhaps"}, w.give(t, incident.Approved, "bob"))
		}},
		"no decision": {Denied, func(w *world) (Consent, error) {
			return w.judge(incident.Decision{}, w.give(t, incident.Approved, "bob"))
		}},
		"the requester": {Self, func(w *world) (Consent, error) { return w.judge(one, w.give(t, incident.Approved, "anna")) }},
		"the author": {Self, func(w *world) (Consent, error) {
			w.plan.Author = "bob"
			return w.judge(one, w.give(t, incident.Approved, "bob"))
		}},
		"the requester in capitals": {Self, func(w *world) (Consent, error) {
			w.may["ANNA"] = true
			return w.judge(one, w.give(t, incident.Approved, "ANNA"))
		}},
		"one person twice": {SamePerson, func(w *world) (Consent, error) {
			return w.judge(two, w.give(t, incident.Approved, "bob"), w.give(t, incident.Approved, "bob"))
		}},
		"one person twice, self allowed": {SamePerson, func(w *world) (Consent, error) {
			return w.judge(decision(incident.AskTwo, true), w.give(t, incident.Approved, "anna"), w.give(t, incident.Approved, "anna"))
		}},
		"the same record twice": {Replayed, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			return w.judge(two, a, a)
		}},
		"used before": {Replayed, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			w.used[a.Nonce] = true
			return w.judge(one, a)
		}},
		"rejected": {Rejection, func(w *world) (Consent, error) {
			return w.judge(one, w.give(t, incident.Approved, "bob"), w.give(t, incident.Rejected, "carl"))
		}},
		"rejected first": {Rejection, func(w *world) (Consent, error) {
			return w.judge(one, w.give(t, incident.Rejected, "carl"), w.give(t, incident.Approved, "bob"))
		}},
		"rejected though nobody has to approve": {Rejection, func(w *world) (Consent, error) {
			return w.judge(decision(incident.Allow, true), w.give(t, incident.Rejected, "carl"))
		}},
		"an unsigned rejection": {Rejection, func(w *world) (Consent, error) {
			return w.judge(one, w.give(t, incident.Approved, "bob"), incident.Approval{Word: incident.Rejected, By: person("x")})
		}},
		"withdrawn": {Withdrawn, func(w *world) (Consent, error) {
			return w.judge(one, w.give(t, incident.Approved, "bob"), w.give(t, incident.Revoked, "bob"))
		}},
		"withdrawn by another": {Withdrawn, func(w *world) (Consent, error) {
			return w.judge(one, w.give(t, incident.Approved, "bob"), w.give(t, incident.Revoked, "carl"))
		}},
		"withdrawn, the records exchanged": {Withdrawn, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			w.now = w.now.Add(time.Minute)
			return w.judge(one, w.give(t, incident.Revoked, "carl"), a)
		}},
		"an unknown word": {Unknown, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			return w.judge(one, a, incident.Approval{Word: "maybe", By: person("x")})
		}},
		"the plan expired": {Late, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			w.now = w.plan.Expires
			return w.judge(one, a)
		}},
		"a plan without an end": {Late, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			w.plan.Expires = time.Time{}
			return w.judge(one, a)
		}},
		"the approval expired": {Expired, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			w.now = a.Expires
			return w.judge(one, a)
		}},
		"dated before the plan": {Early, func(w *world) (Consent, error) {
			w.now = born.Add(-time.Hour)
			a := w.give(t, incident.Approved, "bob")
			w.now = born.Add(time.Minute)
			return w.judge(one, a)
		}},
		"dated in the future": {Early, func(w *world) (Consent, error) {
			w.now = born.Add(5 * time.Hour)
			a := w.give(t, incident.Approved, "bob")
			w.now = born.Add(time.Hour)
			return w.judge(one, a)
		}},
		"another digest": {Mismatch, func(w *world) (Consent, error) {
			a, err := w.desk.Give(t.Context(), w.plan, "sha256:bbbb", incident.Approved, person("bob"), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.judge(one, a)
		}},
		"another plan's": {Mismatch, func(w *world) (Consent, error) {
			p := w.plan
			w.plan.ID = "plan-2"
			a := w.give(t, incident.Approved, "bob")
			w.plan = p
			return w.judge(one, a)
		}},
		"a stranger's key": {Untrusted, func(w *world) (Consent, error) {
			w.desk.Signer = stranger
			return w.judge(one, w.give(t, incident.Approved, "bob"))
		}},
		"no signature": {Untrusted, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			a.KeyID, a.Signature = "", nil
			return w.judge(one, a)
		}},
		"no keys": {Untrusted, func(w *world) (Consent, error) {
			w.keys = nil
			return w.judge(one, w.give(t, incident.Approved, "bob"))
		}},
		"another name under the signature": {Forged, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "anna")
			a.By.Name = "bob"
			return w.judge(one, a)
		}},
		"a forged record beside a good one": {Forged, func(w *world) (Consent, error) {
			a := w.give(t, incident.Approved, "bob")
			f := a
			f.Nonce = "other"
			return w.judge(one, a, f)
		}},
		"a comment made an approval": {Forged, func(w *world) (Consent, error) {
			a := w.give(t, incident.Commented, "bob")
			a.Word = incident.Approved
			return w.judge(one, a)
		}},
		"a stranger's id on a known key": {Forged, func(w *world) (Consent, error) {
			w.desk.Signer = stranger
			a := w.give(t, incident.Approved, "bob")
			a.KeyID = w.key.ID()
			return w.judge(one, a)
		}},
		"nobody vouches": {Nobody, func(w *world) (Consent, error) {
			return w.judge(one, w.sign(t, func(a *incident.Approval) { a.By.Proof = "" }))
		}},
		"a machine": {Nobody, func(w *world) (Consent, error) {
			return w.judge(one, w.sign(t, func(a *incident.Approval) { a.By.Name = "system:serviceaccount:gumshoe:gumshoe-executor" }))
		}},
		"an approval without an end": {Expired, func(w *world) (Consent, error) {
			return w.judge(one, w.sign(t, func(a *incident.Approval) { a.Expires = time.Time{} }))
		}},
		"an approval without a nonce": {Replayed, func(w *world) (Consent, error) {
			return w.judge(one, w.sign(t, func(a *incident.Approval) { a.Nonce = "" }))
		}},
		"break-glass without the role": {NoRole, func(w *world) (Consent, error) {
			w.plan.BreakGlass = true
			return w.judge(self, w.give(t, incident.Approved, "anna"))
		}},
		"break-glass without anybody": {Missing, func(w *world) (Consent, error) {
			w.plan.BreakGlass = true
			return w.judge(decision(incident.Allow, true))
		}},
		"no digest": {Unknown, func(w *world) (Consent, error) {
			return w.keys.Judge(Question{Plan: w.plan, Decision: one, Now: w.now, Used: func(string) bool { return false }})
		}},
		"no record of what was used": {Unknown, func(w *world) (Consent, error) {
			return w.keys.Judge(Question{Plan: w.plan, Decision: one, Now: w.now, Digest: digest})
		}},
	} {
		got, err := c.run(newWorld(t))
		wantKind(t, name, err, c.want)
		if len(got.By)+len(got.Nonces) > 0 {
			t.Errorf("%s: a refusal gives consent %+v", name, got)
		}
	}
}

// sign makes an approval by bob that is signed after a change.
func (w *world) sign(t *testing.T, change func(*incident.Approval)) incident.Approval {
	t.Helper()
	a := w.give(t, incident.Approved, "bob")
	change(&a)
	payload, err := Canonical(a)
	if err != nil {
		t.Fatal(err)
	}
	if a.Signature, a.KeyID, err = w.key.Sign(t.Context(), payload); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestApprovedAnewAfterAWithdrawal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.give(t, incident.Approved, "bob")
	w.now = w.now.Add(time.Minute)
	r := w.give(t, incident.Revoked, "bob")
	w.now = w.now.Add(time.Minute)
	b := w.give(t, incident.Approved, "bob")
	c, err := w.judge(decision(incident.AskOne, false), a, r, b)
	if err != nil || !slices.Equal(c.Nonces, []string{b.Nonce}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan.BreakGlass = true
	a, err := w.desk.Give(t.Context(), w.plan, digest, incident.Approved, person("anna", "break-glass"), "fire", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := w.judge(decision(incident.AskOne, true), a); err != nil || len(c.By) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = w.keys.Judge(Question{Plan: w.plan, Digest: digest, Approvals: []incident.Approval{a}, Decision: decision(incident.AskOne, true), Now: w.now, Used: func(string) bool { return false }})
	wantKind(t, "no role is configured", err, NoRole)
}

func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.give(t, incident.Approved, "anna"), w.give(t, incident.Approved, "bob")
	w.used[b.Nonce] = true
	_, err := w.judge(decision(incident.AskOne, false), a, b)
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Kind != Self || len(r.Others) != 1 || r.Others[0].Kind != Replayed || r.Others[0].By != "bob" {
		t.Errorf("%+v", r)
	}
	_, err = w.judge(incident.Decision{Verdict: incident.Deny, Rules: []incident.RuleHit{{Rule: "never-secrets", Verdict: incident.Deny, Reason: "not gumshoe's to change"}}})
	if err == nil || !strings.Contains(err.Error(), "not gumshoe's to change (never-secrets)") {
		t.Errorf("the reason of the policy is lost: %v", err)
	}
}

func TestGiveIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.may["anna"] = false
	give := func(word string, by incident.Person, comment string, earlier ...incident.Approval) error {
		_, err := w.desk.Give(t.Context(), w.plan, digest, word, by, comment, earlier)
		return err
	}
	wantKind(t, "no right", give(incident.Approved, person("mallory"), ""), NoRight)
	wantKind(t, "no right to reject", give(incident.Rejected, person("mallory"), "no"), NoRight)
	wantKind(t, "the requester without the right", give(incident.Approved, person("anna"), ""), NoRight)
	wantKind(t, "no name", give(incident.Approved, incident.Person{Proof: "cluster"}, ""), Nobody)
	wantKind(t, "no proof", give(incident.Commented, incident.Person{Name: "bob"}, "hm"), Nobody)
	w.may["system:node:gpu-1"] = true
	wantKind(t, "a machine", give(incident.Approved, person("system:node:gpu-1"), ""), Nobody)
	wantKind(t, "no word", give("yes", person("bob"), ""), Unknown)
	wantKind(t, "a silent rejection", give(incident.Rejected, person("bob"), "  "), Unknown)
	wantKind(t, "a novel", give(incident.Commented, person("bob"), strings.Repeat("x", maxComment+1)), Unknown)
	wantKind(t, "no text", give(incident.Commented, person("bob"), "\xff"), Unknown)
	for name, err := range map[string]error{
		"the requester withdraws": give(incident.Revoked, person("anna"), ""),
		"the requester rejects":   give(incident.Rejected, person("anna"), "no longer needed"),
		"anybody comments":        give(incident.Commented, person("mallory"), "hm"),
		"who gave it withdraws":   give(incident.Revoked, person("mallory"), "", incident.Approval{Plan: "plan-1", Word: incident.Approved, By: person("mallory")}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantKind(t, "who gave another plan's", give(incident.Revoked, person("mallory"), "", incident.Approval{Plan: "plan-2", Word: incident.Approved, By: person("mallory")}), NoRight)
	w.now = w.plan.Expires
	wantKind(t, "too late", give(incident.Approved, person("bob"), ""), Late)
	w.now = born
	w.desk.Nonce = func() (string, error) { return "", nil }
	if give(incident.Approved, person("bob"), "") == nil {
		t.Error("an approval without a nonce was made")
	}
}

// TestAnyChangeIsForgery: no byte of a signed approval can be another.
func TestAnyChangeIsForgery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.give(t, incident.Approved, "bob")
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := Canonical(a)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		edit := slices.Clone(raw)
		edit[rapid.IntRange(0, len(edit)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
		var got incident.Approval
		if json.Unmarshal(edit, &got) != nil {
			return
		}
		again, err := Canonical(got)
		if err != nil {
			rt.Fatal(err)
		}
		c, err := w.judge(decision(incident.AskOne, false), got)
		if err == nil && (string(again) != string(payload) || len(c.By) != 1) {
			rt.Fatalf("consent stands on %s", edit)
		}
	})
}

func TestEnvelopeIsUnambiguous(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.StringMatching(`[ a-c0-9]{0,6}`)
		k1, b1, k2, b2 := s.Draw(rt, "kind"), s.Draw(rt, "body"), s.Draw(rt, "kind2"), s.Draw(rt, "body2")
		if (k1 != k2 || b1 != b2) && string(Envelope(k1, []byte(b1))) == string(Envelope(k2, []byte(b2))) {
			rt.Fatalf("%q %q and %q %q are one", k1, b1, k2, b2)
		}
	})
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "sign.pem")
	if _, err := OpenKey(path, false); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a key that is not there: %v", err)
	}
	var wg sync.WaitGroup
	made := make(chan *Key, 8)
	for range 8 {
		wg.Go(func() {
			k, err := CreateKey(path)
			if err == nil {
				made <- k
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(made)
	first, again := <-made, <-made
	if first == nil || again != nil {
		t.Fatal("not exactly one of eight made the key")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	k, err := OpenKey(path, false)
	if err != nil || k.ID() != first.ID() {
		t.Fatalf("%v, %v", k, err)
	}
	sig, id, err := k.Sign(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := NewKeys(first.Public()).Verify(id, []byte("x"), sig); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		mode        fs.FileMode
		group, good bool
	}{{0o600, false, true}, {0o400, false, true}, {0o640, false, false}, {0o440, true, true}, {0o640, true, true}, {0o660, true, false}, {0o644, true, false}, {0o604, false, false}} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKey(path, c.group); (err == nil) != c.good {
			t.Errorf("mode %04o, group %t: %v", c.mode, c.group, err)
		}
	}
	if _, err := OpenKey(filepath.Dir(path), false); err == nil {
		t.Error("a directory is no key")
	}
}

func TestKeyFileThatIsNone(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is never used
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "another type": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY"}),
		"another kind": pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: der}), "no key": pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: []byte("x")}),
		"large": make([]byte, maxKey+1),
	} {
		path := filepath.Join(t.TempDir(), "k.pem")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKey(path, false); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzKeys(f *testing.F) {
	k, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	pub, err := EncodeKey(k.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pub)
	f.Add(slices.Concat(pub, pub))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := parsePrivate(raw); err == nil && !strings.Contains(string(raw), privateType) {
			t.Error("a private key without its block")
		}
		keys, err := ParseKeys(raw)
		if err != nil {
			return
		}
		for _, k := range keys {
			back, err := EncodeKey(k)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseKeys(back); err != nil || len(again) != 1 || !again[0].Equal(k) {
				t.Errorf("%v, %v", again, err)
			}
		}
	})
}
