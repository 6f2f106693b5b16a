package investigate

import (
	"fmt"
	"sync"
)

// Spill keeps full outputs under their digest ("sha256:<hex>"). Put of a digest
// that is there already changes nothing.
type Spill interface {
	Put(digest string, raw []byte) error
	Get(digest string) ([]byte, error)
}

// DefaultSpill bounds a MemorySpill, in bytes.
const DefaultSpill = 64 << 20

// MemorySpill keeps outputs in memory up to a bound. It is safe for concurrent use.
type MemorySpill struct {
	mu   sync.Mutex
	max  int
	size int
	kept map[string][]byte
}

var _ Spill = (*MemorySpill)(nil)

// NewMemorySpill makes a spill of at most max bytes; 0 means DefaultSpill.
func NewMemorySpill(max int) *MemorySpill {
	if max <= 0 {
		max = DefaultSpill
	}
	return &MemorySpill{max: max, kept: map[string][]byte{}}
}

// Put implements Spill. It fails when the bound is reached.
func (s *MemorySpill) Put(digest string, raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, have := s.kept[digest]; have {
		return nil
	}
	if s.size+len(raw) > s.max {
		return fmt.Errorf("spill: %d bytes do not fit beside the %d of %d bytes kept", len(raw), s.size, s.max)
	}
	s.kept[digest] = raw
	s.size += len(raw)
	return nil
}

// Get implements Spill.
func (s *MemorySpill) Get(digest string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.kept[digest]
	if !ok {
		return nil, fmt.Errorf("spill: nothing is kept under %s", digest)
	}
	return raw, nil
}
