package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// LoadLister says what there is, and reads it.
type LoadLister interface {
	Loader
	Lister
}

// ViewOptions make a View. Pattern, New, Fold and Light are required.
type ViewOptions[S, L any] struct {
	// Pattern of the subjects that are shown.
	Pattern string
	// New gives the state of a subject before its first record.
	New func(subject string) S
	// Fold takes a record into a state.
	Fold func(S, Record) (S, error)
	// Light gives what is kept of every state, however many there are.
	Light func(S) L
	// Alive names those whose states are let go last; nil names none.
	Alive func(L) bool
	// Bytes bounds the states that are kept whole, by the data of their records; 0
	// means DefaultViewBytes. What is over it is read anew where it is asked for.
	Bytes int64
}

// DefaultViewBytes is how much of the states a View keeps where nothing else is said.
const DefaultViewBytes = 32 << 20

// View is a projection of all subjects of a pattern that is kept in memory. It needs
// no goroutine and is never behind: whenever it is asked, it first asks the store
// where the subjects end, and folds anew those that end elsewhere than it knows. What
// it shows is therefore at least as new as the store was when it was asked, whoever
// appended or deleted. It is safe for concurrent use; who asks while another brings
// it up to date shares what the next one reads.
type View[S, L any] struct {
	from LoadLister
	opts ViewOptions[S, L]

	// asked counts the questions.
	asked atomic.Uint64
	// turn is held while the store is read; what stands below is guarded by it. The
	// shown items are never changed, others take their place.
	turn   chan struct{}
	upTo   uint64 // the last question that was asked before shown was begun
	shown  []*viewed[S, L]
	places map[string]int // in shown
	bytes  int64
}

// viewed is a subject as it was folded last.
type viewed[S, L any] struct {
	end   Info
	light L
	state *S // nil where it was let go
	bytes int64
	err   error
}

// NewView makes a View; nothing is read yet.
func NewView[S, L any](from LoadLister, o ViewOptions[S, L]) *View[S, L] {
	if o.Bytes <= 0 {
		o.Bytes = DefaultViewBytes
	}
	return &View[S, L]{from: from, opts: o, turn: make(chan struct{}, 1)}
}

// Viewed is a subject of a View.
type Viewed[S, L any] struct {
	Subject string
	Light   L
	view    *View[S, L]
	state   *S
}

// State gives the whole state: the one that Light was made of where it is kept, else
// as it stands now; false when the subject is gone. What it refers to is shared: it
// must not be changed.
func (i Viewed[S, L]) State(ctx context.Context) (S, bool, error) {
	if i.state != nil {
		return *i.state, true, nil
	}
	one, err := i.view.load(ctx, i.Subject)
	if err != nil || one == nil {
		var none S
		return none, false, err
	}
	return *one.state, true, nil
}

// Items gives all subjects that are there, sorted by name. An error beside items says
// what could not be read and is left out; one without says that the store cannot tell
// what there is.
func (v *View[S, L]) Items(ctx context.Context) ([]Viewed[S, L], error) {
	shown, err := v.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Viewed[S, L], 0, len(shown))
	var errs []error
	for _, one := range shown {
		if one.err != nil {
			errs = append(errs, one.err)
			continue
		}
		out = append(out, Viewed[S, L]{Subject: one.end.Subject, Light: one.light, view: v, state: one.state})
	}
	return out, errors.Join(errs...)
}

// fresh gives what was read since it was called.
func (v *View[S, L]) fresh(ctx context.Context) ([]*viewed[S, L], error) {
	mine := v.asked.Add(1)
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-v.turn }()
	if v.upTo >= mine { // somebody read for all who waited
		return v.shown, nil
	}
	upTo := v.asked.Load()
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	v.upTo = upTo
	return v.shown, nil
}

// read brings the view up to date.
func (v *View[S, L]) read(ctx context.Context) error {
	var ends []Info
	var bad []error
	for info, err := range v.from.List(ctx, v.opts.Pattern) {
		if err != nil && info.Subject == "" {
			return err
		}
		ends, bad = append(ends, info), append(bad, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	next := make([]*viewed[S, L], 0, len(ends))
	for i, end := range ends {
		if at, ok := v.places[end.Subject]; ok && bad[i] == nil && v.shown[at].is(end) {
			next = append(next, v.shown[at])
			continue
		}
		one, err := v.load(ctx, end.Subject)
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if err != nil {
			one = &viewed[S, L]{end: Info{Subject: end.Subject}, err: err}
		}
		if one != nil { // nil: it was deleted meanwhile
			next = append(next, one)
		}
	}
	v.shown, v.places, v.bytes = next, make(map[string]int, len(next)), 0
	for i, one := range next {
		v.places[one.end.Subject] = i
		if one.state != nil {
			v.bytes += one.bytes
		}
	}
	v.letGo()
	return nil
}

// is reports whether a subject was folded up to where it ends. The time of the last
// record tells a subject from one that was deleted and begun again.
func (o *viewed[S, L]) is(end Info) bool {
	return o.err == nil && o.end.Last == end.Last && o.end.Type == end.Type && o.end.At.Equal(end.At)
}

// load folds a subject; nil when it is not there.
func (v *View[S, L]) load(ctx context.Context, subject string) (*viewed[S, L], error) {
	state := v.opts.New(subject)
	one := &viewed[S, L]{end: Info{Subject: subject}}
	for rec, err := range v.from.Load(ctx, subject, 0) {
		if err != nil {
			return nil, err
		}
		if state, err = v.opts.Fold(state, rec); err != nil {
			return nil, fmt.Errorf("%s, sequence %d (%s): %w", subject, rec.Seq, rec.Type, err)
		}
		one.end.Last, one.end.At, one.end.Type = rec.Seq, rec.At, rec.Type
		one.bytes += int64(len(rec.Data))
	}
	if one.end.Last == 0 {
		return nil, nil
	}
	one.light, one.state = v.opts.Light(state), &state
	return one, nil
}

// letGo keeps the states within their bound: those that ended long ago go first. It
// makes some room, so that it is not asked for at every change.
func (v *View[S, L]) letGo() {
	if v.bytes <= v.opts.Bytes {
		return
	}
	alive := func(o *viewed[S, L]) int {
		if v.opts.Alive != nil && v.opts.Alive(o.light) {
			return 1
		}
		return 0
	}
	var held []int
	for i, one := range v.shown {
		if one.state != nil {
			held = append(held, i)
		}
	}
	slices.SortFunc(held, func(a, b int) int {
		x, y := v.shown[a], v.shown[b]
		return cmp.Or(cmp.Compare(alive(x), alive(y)), x.end.At.Compare(y.end.At), cmp.Compare(a, b))
	})
	for _, i := range held {
		if v.bytes <= v.opts.Bytes-v.opts.Bytes/8 {
			return
		}
		light := *v.shown[i]
		light.state = nil
		v.bytes -= light.bytes
		v.shown[i] = &light
	}
}
