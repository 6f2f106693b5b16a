// Package audit keeps who did what, why and when: a log that is only appended to, in
// which every entry carries the hash of the one before and a signature. An entry
// that is edited, dropped or moved breaks the chain; a dropped tail is missed by the
// signed head, which is kept apart, and by whoever wrote a head down elsewhere.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Subjects and types of the records in the journal.
const (
	// LogSubject holds the entries, HeadSubject the heads.
	LogSubject, HeadSubject = "audit.log", "audit.head"
	// EntryType and HeadType are the types of their records.
	EntryType, HeadType = "audit.entry", "audit.head"
)

// maxDetail is the largest detail of an entry, in bytes.
const maxDetail = 1 << 20

// tries is how often an append is repeated when other writers are faster.
const tries = 100

// Entry is one thing that happened.
type Entry struct {
	// Seq counts from 1 without a gap.
	Seq uint64 `json:"seq"`
	// At is when the writer saw it, in UTC.
	At time.Time `json:"at"`
	// Actor is who did it: a person's name in the cluster, or "gumshoe".
	Actor string `json:"actor"`
	// What happened, such as "plan.requested", "approval.given", "write.done".
	What string `json:"what"`
	// Plan, digest of its canonical bytes, step and write that it is about, if any.
	Plan   string `json:"plan,omitempty"`
	Digest string `json:"digest,omitempty"`
	Step   string `json:"step,omitempty"`
	Write  string `json:"write,omitempty"`
	// Detail is a JSON document.
	Detail json.RawMessage `json:"detail,omitempty"`
	// Prev is the hash of the entry before; empty for the first.
	Prev string `json:"prev"`
	// Hash is the SHA-256 of the entry as JSON up to here, "sha256:<hex>".
	Hash string `json:"hash,omitempty"`
	// KeyID and Signature are over the hash.
	KeyID     string `json:"key_id,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// Head says how far the log went: its last entry with that entry's signature.
type Head struct {
	Seq       uint64 `json:"seq"`
	Hash      string `json:"hash"`
	KeyID     string `json:"key_id,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// Journal is the part of a store that the log needs.
type Journal interface {
	Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (last uint64, err error)
	Load(ctx context.Context, subject string, after uint64) iter.Seq2[store.Record, error]
}

// Config of a Log; all of it is needed.
type Config struct {
	Journal Journal
	// Sign signs with the executor's or the desk's key, Verify checks with those
	// that are trusted.
	Sign   func(ctx context.Context, payload []byte) (sig []byte, keyID string, err error)
	Verify func(keyID string, payload, sig []byte) error
	Now    func() time.Time
}

// Log is the audit log. It is safe for concurrent use; several processes may write
// to one.
type Log struct {
	cfg Config

	mu sync.Mutex
	// last entry that was seen, and the sequences of the journal up to which the log
	// and the heads were read.
	last          Entry
	logAt, headAt uint64
	head          Head
}

// New gives the log in a journal. Nothing is read yet.
func New(cfg Config) (*Log, error) {
	if cfg.Journal == nil || cfg.Sign == nil || cfg.Verify == nil || cfg.Now == nil {
		return nil, errors.New("audit: a journal, a key and a clock are needed")
	}
	return &Log{cfg: cfg}, nil
}

// BrokenError says that the log is not what was written. Nothing is appended to it
// any more; gumshoe audit --verify shows more, and a person moves it away.
type BrokenError struct {
	// Seq of the first bad entry.
	Seq uint64
	Why string
}

// Error implements error.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("the audit log is broken at entry %d: %s", e.Seq, e.Why)
}

// Append adds an entry behind all others and gives it with its place in the chain.
// Actor and What are needed; Seq, At, Prev, Hash and the signature are given by the
// log. The error is a *BrokenError when what stands there is not what was written.
func (l *Log) Append(ctx context.Context, e Entry) (Entry, error) {
	switch {
	case e.Actor == "" || e.What == "":
		return Entry{}, fmt.Errorf("audit entry %q by %q: actor and what are needed", e.What, e.Actor)
	case len(e.Detail) > maxDetail:
		return Entry{}, fmt.Errorf("audit entry %q: its detail has %d bytes, at most %d are kept", e.What, len(e.Detail), maxDetail)
	case len(e.Detail) > 0 && !json.Valid(e.Detail):
		return Entry{}, fmt.Errorf("audit entry %q: its detail is no JSON", e.What)
	}
	for _, s := range []*string{&e.Actor, &e.What, &e.Plan, &e.Digest, &e.Step, &e.Write} {
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for range tries {
		if err := l.catchUp(ctx); err != nil {
			return Entry{}, err
		}
		made, raw, err := l.next(ctx, e)
		if err != nil {
			return Entry{}, err
		}
		at, err := l.cfg.Journal.Append(ctx, LogSubject, l.logAt, store.Entry{Type: EntryType, Data: raw})
		if _, faster := errors.AsType[*store.ConflictError](err); faster {
			continue
		}
		if err != nil {
			return Entry{}, fmt.Errorf("audit: %w", err)
		}
		l.last, l.logAt = made, at
		return made, l.raise(ctx)
	}
	return Entry{}, fmt.Errorf("audit: %d times another writer was faster; try again", tries)
}

// next makes the entry that follows the last one.
func (l *Log) next(ctx context.Context, e Entry) (Entry, []byte, error) {
	e.Seq, e.At, e.Prev = l.last.Seq+1, l.cfg.Now().UTC().Round(0), l.last.Hash
	hash, err := hashOf(e)
	if err != nil {
		return e, nil, err
	}
	e.Hash = hash
	if e.Signature, e.KeyID, err = l.cfg.Sign(ctx, payload(e.Hash)); err != nil {
		return e, nil, fmt.Errorf("audit: sign entry %d: %w", e.Seq, err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return e, nil, fmt.Errorf("audit: entry %d: %w", e.Seq, err)
	}
	return e, raw, nil
}

// catchUp reads what others appended. Chain and head are checked, and the signature
// of the last entry, which through the chain stands for all.
func (l *Log) catchUp(ctx context.Context) error {
	// Heads first: the log is then at least as long as the head says.
	head, headAt, err := l.heads(ctx, l.headAt, l.head)
	if err != nil {
		return err
	}
	last, logAt := l.last, l.logAt
	for rec, err := range l.cfg.Journal.Load(ctx, LogSubject, l.logAt) {
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		e, why := read(rec, last)
		if why != "" {
			return &BrokenError{Seq: last.Seq + 1, Why: why}
		}
		last, logAt = e, rec.Seq
	}
	if last.Seq > 0 && logAt != l.logAt {
		if err := l.cfg.Verify(last.KeyID, payload(last.Hash), last.Signature); err != nil {
			return &BrokenError{Seq: last.Seq, Why: "its signature: " + err.Error()}
		}
	}
	if head.Seq > last.Seq {
		return &BrokenError{Seq: last.Seq + 1, Why: fmt.Sprintf("the head says that there were %d entries, %d are there", head.Seq, last.Seq)}
	}
	if head.Seq == last.Seq && head.Hash != last.Hash {
		return &BrokenError{Seq: last.Seq, Why: "it is another entry than the head says"}
	}
	l.last, l.logAt, l.head, l.headAt = last, logAt, head, headAt
	return nil
}

// heads gives the highest head that is signed, from a place of the journal on.
func (l *Log) heads(ctx context.Context, after uint64, top Head) (Head, uint64, error) {
	for rec, err := range l.cfg.Journal.Load(ctx, HeadSubject, after) {
		if err != nil {
			return top, after, fmt.Errorf("audit head: %w", err)
		}
		after = rec.Seq
		var h Head
		if json.Unmarshal(rec.Data, &h) == nil && h.Seq > top.Seq && l.cfg.Verify(h.KeyID, payload(h.Hash), h.Signature) == nil {
			top = h
		}
	}
	return top, after, nil
}

// raise sets the head to the last entry, unless it is there or beyond.
func (l *Log) raise(ctx context.Context) error {
	for range tries {
		if l.head.Seq >= l.last.Seq {
			return nil
		}
		h := Head{Seq: l.last.Seq, Hash: l.last.Hash, KeyID: l.last.KeyID, Signature: l.last.Signature}
		raw, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("audit head: %w", err)
		}
		at, err := l.cfg.Journal.Append(ctx, HeadSubject, l.headAt, store.Entry{Type: HeadType, Data: raw})
		if err == nil {
			l.head, l.headAt = h, at
			return nil
		}
		if _, faster := errors.AsType[*store.ConflictError](err); !faster {
			return fmt.Errorf("audit head: %w", err)
		}
		if l.head, l.headAt, err = l.heads(ctx, l.headAt, l.head); err != nil {
			return err
		}
	}
	return fmt.Errorf("audit head: %d times another writer was faster; try again", tries)
}

// Entries gives the log as it stands, unchecked; see Verify.
func (l *Log) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for rec, err := range l.cfg.Journal.Load(ctx, LogSubject, 0) {
			var e Entry
			if err == nil {
				err = json.Unmarshal(rec.Data, &e)
			}
			if err != nil {
				yield(e, fmt.Errorf("audit: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// hashOf is the hash of an entry without hash and signature.
func hashOf(e Entry) (string, error) {
	e.Hash, e.KeyID, e.Signature = "", "", nil
	raw, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("audit: entry %d: %w", e.Seq, err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// payload is what is signed. The words before it keep the signature from being taken
// for that of something else.
func payload(hash string) []byte { return []byte("gumshoe.audit.v1 " + hash) }

// read takes a record as the entry that follows another, and says why it is not.
func read(rec store.Record, before Entry) (Entry, string) {
	var e Entry
	if rec.Type != EntryType {
		return e, fmt.Sprintf("a record of the type %q is no entry", rec.Type)
	}
	if err := json.Unmarshal(rec.Data, &e); err != nil {
		return e, "it cannot be read: " + err.Error()
	}
	// What reads alike may not be alike: each byte counts.
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, rec.Data) {
		return e, "it is not written as the log writes"
	}
	hash, err := hashOf(e)
	switch {
	case err != nil:
		return e, err.Error()
	case hash != e.Hash:
		return e, "it was edited: its hash is " + hash + ", and it says " + e.Hash
	case e.Seq != before.Seq+1:
		return e, fmt.Sprintf("it says it is entry %d: one was dropped, or moved", e.Seq)
	case e.Prev != before.Hash:
		return e, "it does not follow the entry before it: one was edited, dropped or moved"
	}
	return e, ""
}
