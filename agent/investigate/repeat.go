package investigate

import (
	"crypto/sha256"
	"slices"
)

// window is how many calls back a repeat is noticed.
const repeatWindow = 10

// repeats notices calls that were made before with the same answer, also when
// two or more of them take turns.
type repeats struct {
	last  [][sha256.Size]byte
	hints int
}

// seen records a call and its answer and reports whether both were there before.
func (r *repeats) seen(name, args, answer string) bool {
	h := sha256.Sum256([]byte(name + "\x00" + args + "\x00" + answer))
	again := slices.Contains(r.last, h)
	r.last = append(r.last, h)
	if len(r.last) > repeatWindow {
		r.last = r.last[1:]
	}
	if again {
		r.hints++
	}
	return again
}

// forget is called when answers were taken out of the conversation: to ask for
// them again is then sensible.
func (r *repeats) forget() { r.last = nil }
