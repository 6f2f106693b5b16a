package audit

import (
	"context"
	"errors"
	"fmt"
)

// Must is something that has to be in the log because another record says that it
// happened. An empty field is not compared.
type Must struct {
	What   string `json:"what"`
	Plan   string `json:"plan,omitempty"`
	Digest string `json:"digest,omitempty"`
	Step   string `json:"step,omitempty"`
	Write  string `json:"write,omitempty"`
	Actor  string `json:"actor,omitempty"`
}

// Problem is where the log is not what was written. Seq is that of the entry that
// should be there; 0 when it is about the log as a whole.
type Problem struct {
	Seq uint64 `json:"seq"`
	Why string `json:"why"`
}

// Report is what a verification found; it is the form of --output json.
type Report struct {
	// OK says that the log is what was written, as far as can be told.
	OK bool `json:"ok"`
	// Entries that follow each other soundly from the first.
	Entries uint64 `json:"entries"`
	// Head is the last of these: write it down elsewhere, and a later verification
	// finds out whether what stands here today was ever dropped.
	Head *Head `json:"head,omitempty"`
	// Signed is the entry up to which the signed head reaches.
	Signed uint64 `json:"signed"`
	// Bad is the first problem of the chain.
	Bad *Problem `json:"bad,omitempty"`
	// Missing are records of plans that the log does not have.
	Missing []Must `json:"missing,omitempty"`
	// Lost are heads from elsewhere that the log does not reach or contradicts.
	Lost []Head `json:"lost,omitempty"`
}

// Verify reads the whole log and checks every hash, every link and every signature,
// the signed head, the heads that the caller knows from elsewhere, and that what must
// be in it is. Problems are in the report; the error is for what could not be read.
func (l *Log) Verify(ctx context.Context, must []Must, known ...Head) (Report, error) {
	head, _, err := l.heads(ctx, 0, Head{})
	if err != nil {
		return Report{}, err
	}
	r := Report{Signed: head.Seq}
	open := map[int]bool{}
	for i := range must {
		open[i] = true
	}
	hashes := map[uint64]string{}
	for _, h := range known {
		hashes[h.Seq] = ""
	}
	hashes[head.Seq] = ""
	var last Entry
	for rec, err := range l.cfg.Journal.Load(ctx, LogSubject, 0) {
		if err != nil {
			if ctx.Err() != nil {
				return r, fmt.Errorf("audit: %w", err)
			}
			r.Bad = &Problem{Seq: last.Seq + 1, Why: "it cannot be read: " + err.Error()}
			break
		}
		e, why := read(rec, last)
		if why == "" {
			if err := l.cfg.Verify(e.KeyID, payload(e.Hash), e.Signature); err != nil {
				why = "its signature: " + err.Error()
			}
		}
		if why != "" {
			r.Bad = &Problem{Seq: last.Seq + 1, Why: why}
			break
		}
		last = e
		if _, asked := hashes[e.Seq]; asked {
			hashes[e.Seq] = e.Hash
		}
		for i := range open {
			if must[i].in(e) {
				delete(open, i)
			}
		}
	}
	r.Entries = last.Seq
	if last.Seq > 0 {
		r.Head = &Head{Seq: last.Seq, Hash: last.Hash, KeyID: last.KeyID, Signature: last.Signature}
	}
	if r.Bad == nil && head.Seq > 0 && hashes[head.Seq] != head.Hash {
		r.Bad = &Problem{Seq: last.Seq + 1, Why: fmt.Sprintf("the signed head says that there were %d entries, %d are there: the end was dropped", head.Seq, last.Seq)}
		if head.Seq <= last.Seq {
			r.Bad = &Problem{Seq: head.Seq, Why: "it is another entry than the signed head says"}
		}
	}
	for _, h := range known {
		if h.Seq > 0 && hashes[h.Seq] != h.Hash {
			r.Lost = append(r.Lost, h)
		}
	}
	for i, m := range must {
		if open[i] {
			r.Missing = append(r.Missing, m)
		}
	}
	r.OK = r.Bad == nil && len(r.Missing) == 0 && len(r.Lost) == 0
	return r, nil
}

// Check looks at entries that were read elsewhere, from the first: whether each has the
// hash it says and follows the one before it. Signatures and the head are for Verify.
// It gives the first problem, or nil.
func Check(all []Entry) *Problem {
	var last Entry
	for _, e := range all {
		hash, err := hashOf(e)
		why := ""
		switch {
		case err != nil:
			why = err.Error()
		case hash != e.Hash:
			why = "it was edited: its hash is " + hash + ", and it says " + e.Hash
		case e.Seq != last.Seq+1:
			why = fmt.Sprintf("it says it is entry %d: one was dropped, or moved", e.Seq)
		case e.Prev != last.Hash:
			why = "it does not follow the entry before it: one was edited, dropped or moved"
		}
		if why != "" {
			return &Problem{Seq: last.Seq + 1, Why: why}
		}
		last = e
	}
	return nil
}

// in reports whether an entry is the one that must be there.
func (m Must) in(e Entry) bool {
	for _, f := range [][2]string{{m.What, e.What}, {m.Plan, e.Plan}, {m.Digest, e.Digest}, {m.Step, e.Step}, {m.Write, e.Write}, {m.Actor, e.Actor}} {
		if f[0] != "" && f[0] != f[1] {
			return false
		}
	}
	return true
}

// ParseHead reads "SEQ:HASH", as a person wrote it down.
func ParseHead(s string) (Head, error) {
	var h Head
	if n, err := fmt.Sscanf(s, "%d:%s", &h.Seq, &h.Hash); n != 2 || err != nil || h.Seq == 0 || s != h.String() {
		return Head{}, errors.New("a head is written SEQ:HASH, such as 12:sha256:3f0a, with the whole hash")
	}
	return h, nil
}

// String is the form that a person writes down.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }
