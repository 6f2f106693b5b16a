// Package store is the contract of the journal. The journal is the truth: lists
// of records, one list a subject (a run, later a plan or an approval), appended
// with the expected sequence and never changed in place. Everything else is a
// projection that can be rebuilt.
//
// Deliveries of scheduled records and of claims can repeat after a crash; who
// reads them must be idempotent. storetest is the suite that every
// implementation passes.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Bounds that every implementation keeps.
const (
	// MaxData is the largest Data of one entry, in bytes of compact JSON.
	MaxData = 4 << 20
	// MaxEntries is how many entries one Append may carry.
	MaxEntries = 100
	// MaxAppend is the largest sum of Data of one Append, in bytes.
	MaxAppend = 16 << 20
	// MaxSubject is the longest subject, in bytes.
	MaxSubject = 120
	// MaxLease is the longest lease and the longest delay of a release.
	MaxLease = 24 * time.Hour
)

// Errors a caller branches on; they are wrapped with what went wrong.
var (
	// ErrInvalid: a subject, type, key or document is not acceptable.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: a bound of the store would be passed.
	ErrTooLarge = errors.New("too large")
	// ErrNothing: no work is to be had at the moment.
	ErrNothing = errors.New("no work is waiting")
	// ErrLost: a lease ran out or was given back; the work may be another's.
	ErrLost = errors.New("the lease is lost")
	// ErrNotFound: the journal holds no such subject.
	ErrNotFound = errors.New("not in the journal")
	// ErrBusy: another process holds what is needed.
	ErrBusy = errors.New("busy")
	// ErrFull: the disk or the server below takes no more; what was kept is there.
	ErrFull = errors.New("there is no room")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// ConflictError refuses an append because the subject does not end where the
// caller expected. Nothing was appended.
type ConflictError struct {
	Subject string
	// Expect is the sequence that the caller named, Last the one that stands.
	Expect, Last uint64
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s ends at sequence %d, not at %d: another writer was faster; load it again", e.Subject, e.Last, e.Expect)
}

// Entry is what a caller appends.
type Entry struct {
	// Type says how Data is read: lower-case letters, digits, '.', '_' and '-',
	// at most 64 bytes.
	Type string `json:"type"`
	// Data is one JSON document; empty means null. It is kept without the white
	// space between its tokens.
	Data json.RawMessage `json:"data,omitempty"`
}

// Record is an entry as the journal took it.
type Record struct {
	Subject string `json:"subject"`
	// Seq grows from record to record of a subject. It need not grow by one.
	Seq uint64 `json:"seq"`
	// At is when the store took the record, by the store's clock, in UTC.
	At   time.Time       `json:"at"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// Info is the end of a subject.
type Info struct {
	Subject string `json:"subject"`
	// Last, At and Type are those of the last record.
	Last uint64    `json:"last"`
	At   time.Time `json:"at"`
	Type string    `json:"type"`
}

// Appender takes records.
type Appender interface {
	// Append adds entries to a subject that ends at sequence expect; 0 means that
	// the subject must be new. All entries are taken or none, and no reader sees a
	// part of them. It gives the sequence of the last entry. The error is a
	// *ConflictError when the subject ends elsewhere, ErrInvalid or ErrTooLarge
	// when an entry cannot be taken.
	//
	// What Append has acknowledged survives the end of the process. Whether it
	// survives the loss of power is for the implementation to say.
	Append(ctx context.Context, subject string, expect uint64, entries ...Entry) (last uint64, err error)
}

// Loader reads what is there.
type Loader interface {
	// Load gives the records of a subject with a sequence above after, in order,
	// as they stand when the iteration begins. A subject that is not there has
	// none. An error ends the iteration.
	Load(ctx context.Context, subject string, after uint64) iter.Seq2[Record, error]
}

// Position says for a subject which sequence was seen already. It is asked once
// a subject; nil means that nothing was seen.
type Position func(subject string) uint64

// After is the Position of a single subject, or of many read equally far.
func After(seq uint64) Position { return func(string) uint64 { return seq } }

// Watcher follows what comes.
type Watcher interface {
	// Watch gives the records of all subjects that match the pattern, above the
	// position, and goes on with what is appended later, by this process or
	// another, until ctx ends; that end is no error. The order is kept within a
	// subject, not between subjects, and no record comes twice. Any other error
	// ends the iteration.
	Watch(ctx context.Context, pattern string, after Position) iter.Seq2[Record, error]
}

// Lister says what there is.
type Lister interface {
	// List gives the subjects that match the pattern, sorted by name. An error
	// beside a subject concerns that one, and the list goes on; an error without
	// a subject ends it.
	List(ctx context.Context, pattern string) iter.Seq2[Info, error]
}

// Timer is a record that is to be appended later.
type Timer struct {
	// Key names the timer, with the alphabet of a subject. While it waits, a timer
	// with the same key replaces it.
	Key string `json:"key"`
	// At is when it is due; a time that is past is due at once.
	At time.Time `json:"at"`
	// Subject takes Entry, whatever its sequence is then.
	Subject string `json:"subject"`
	Entry   Entry  `json:"entry"`
}

// Scheduler appends records at a time.
type Scheduler interface {
	// Schedule keeps a timer. Its record is appended once it is due, not before,
	// and at the latest a second later or when a reader next looks at its subject.
	// It survives a restart. After a crash in the act it may be appended twice.
	Schedule(ctx context.Context, t Timer) error
}

// Lease is the right to work on a claimed record for some time. Each method
// gives ErrLost once the lease has run out, was given back or was done.
type Lease interface {
	// Extend lets the lease run out d from now.
	Extend(ctx context.Context, d time.Duration) error
	// Done says that the work is finished: the record is never claimed again.
	Done(ctx context.Context) error
	// Release gives the record back; it can be claimed again after the delay.
	Release(ctx context.Context, delay time.Duration) error
}

// Claim is a record of a queue, leased to whoever claimed it.
type Claim struct {
	Record Record
	// Attempt counts the claims of this record from 1.
	Attempt int
	Lease   Lease
}

// Queue hands out work. A queue is a subject under which every record is a piece
// of work: appending with expect 0 to "work.investigate.<id>" puts <id> into the
// queue "work.investigate" and refuses it a second time. Queues must not lie
// within each other.
type Queue interface {
	// Claim leases the oldest record of the queue that is not done and that nobody
	// holds; ErrNothing when there is none at the moment. A claim that ended
	// without Done, and a lease that ran out, come again: work is handed out at
	// least once.
	Claim(ctx context.Context, queue string, lease time.Duration) (*Claim, error)
}

// Store is the whole contract. Consumers ask for the part they need. All methods
// are safe for concurrent use; two processes may share one store.
type Store interface {
	Appender
	Loader
	Watcher
	Lister
	Scheduler
	Queue
	io.Closer
}

// Project folds the records of a subject above a sequence into a state, and
// gives the state and the sequence that it stands at.
func Project[S any](ctx context.Context, l Loader, subject string, after uint64, state S, fold func(S, Record) (S, error)) (S, uint64, error) {
	for rec, err := range l.Load(ctx, subject, after) {
		if err != nil {
			return state, after, err
		}
		next, err := fold(state, rec)
		if err != nil {
			return state, after, fmt.Errorf("%s, sequence %d (%s): %w", subject, rec.Seq, rec.Type, err)
		}
		state, after = next, rec.Seq
	}
	return state, after, nil
}
