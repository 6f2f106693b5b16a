package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// MaxOutput is the largest output that is kept, in bytes.
const MaxOutput = 64 << 20

// Outputs keeps full outputs of tools under their digest. An output that is kept
// twice is there once; the oldest go when Config.OutputBytes is reached. It is
// safe for concurrent use.
type Outputs struct {
	ctx context.Context
	s   *Store
}

// Outputs gives the outputs of this store; ctx bounds its requests.
func (s *Store) Outputs(ctx context.Context) *Outputs { return &Outputs{ctx: ctx, s: s} }

// once does something until it succeeded.
type once struct {
	mu   sync.Mutex
	done bool
}

func (o *once) do(fn func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return nil
	}
	err := fn()
	o.done = err == nil
	return err
}

// bucket makes the stream of outputs when one is first used.
func (s *Store) bucket(ctx context.Context) error {
	return s.outputs.do(func() error {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
		defer cancel()
		err := s.ensure(ctx, jetstream.StreamConfig{
			Name: s.stream(outputsStream), Subjects: []string{s.subject(outputToken, ">")}, Description: "full outputs of tools",
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage, Replicas: s.cfg.Replicas,
			AllowDirect: true, MaxMsgs: -1, MaxBytes: s.cfg.OutputBytes, MaxMsgsPerSubject: 1, MaxConsumers: -1, MaxMsgSize: -1,
			Metadata: map[string]string{metaFormat: format, metaPermanent: strings.Join(s.cfg.Permanent, " ")},
		})
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.stream(outputsStream), err)
		}
		return nil
	})
}

// outputSubject of a digest "sha256:<64 hex digits>", up to its parts.
func (s *Store) outputSubject(digest string) (string, error) {
	hexes, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(hexes)
	if !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(hexes) != hexes {
		return "", fmt.Errorf("%w digest %.80q: it is sha256: and 64 hexadecimal digits", store.ErrInvalid, digest)
	}
	return s.subject(outputToken, hexes), nil
}

func matches(digest string, raw []byte) bool {
	sum := sha256.Sum256(raw)
	return digest == "sha256:"+hex.EncodeToString(sum[:])
}

// partsHeader says how many parts an output has.
const partsHeader = "Gumshoe-Parts"

// Put keeps an output; raw has to be what the digest says.
func (o *Outputs) Put(digest string, raw []byte) error {
	subject, err := o.s.outputSubject(digest)
	if err != nil {
		return err
	}
	if len(raw) > MaxOutput || int64(len(raw)) > o.s.cfg.OutputBytes {
		return fmt.Errorf("an output of %d bytes is %w: at most %d, and %d for all", len(raw), store.ErrTooLarge, MaxOutput, o.s.cfg.OutputBytes)
	}
	if !matches(digest, raw) {
		return fmt.Errorf("%w output: its digest is not %s", store.ErrInvalid, digest)
	}
	if err := o.put(subject, digest, raw); err != nil {
		return fmt.Errorf("keep output %s: %w", digest, err)
	}
	return nil
}

func (o *Outputs) put(subject, digest string, raw []byte) error {
	s := o.s
	end, err := s.begin(o.ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.bucket(o.ctx); err != nil {
		return err
	}
	if fresh, err := o.fresh(subject); err != nil || fresh {
		if got, gerr := o.get(subject); err != nil || gerr == nil && matches(digest, got) {
			return err
		}
	}
	parts := max(1, (len(raw)+partSize-1)/partSize)
	for i := range parts {
		m := &nats.Msg{
			Subject: subject + "." + strconv.Itoa(i), Data: raw[i*partSize : min((i+1)*partSize, len(raw))],
			Header: nats.Header{partsHeader: {strconv.Itoa(parts)}, nats.ExpectedStreamHdr: {s.stream(outputsStream)}},
		}
		if _, _, err := s.send(o.ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// fresh reports whether an output is there and in the younger half: an older one
// is put again, since it is in use.
func (o *Outputs) fresh(subject string) (bool, error) {
	m, ok, err := o.s.last(o.ctx, o.s.stream(outputsStream), subject+".0")
	if err != nil || !ok {
		return false, err
	}
	info, err := o.s.streamInfo(o.ctx, o.s.stream(outputsStream), "", 0, untilDone)
	return m.seq > info.State.First+(info.State.LastSeq-info.State.First)/2 || info.State.Bytes < uint64(o.s.cfg.OutputBytes)/2, err
}

// Get gives an output; store.ErrNotFound when it is not kept, or no longer. One
// that is damaged is an error, never what Put was given.
func (o *Outputs) Get(digest string) ([]byte, error) {
	subject, err := o.s.outputSubject(digest)
	if err != nil {
		return nil, err
	}
	if err := o.s.open(o.ctx); err != nil {
		return nil, err
	}
	if err := o.s.bucket(o.ctx); err != nil {
		return nil, fmt.Errorf("output %s: %w", digest, err)
	}
	raw, err := o.get(subject)
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", digest, err)
	}
	if raw == nil {
		return nil, fmt.Errorf("output %s is %w, or no longer", digest, store.ErrNotFound)
	}
	if !matches(digest, raw) {
		return nil, fmt.Errorf("output %s is damaged: its digest differs; it is not used", digest)
	}
	return raw, nil
}

// get puts the parts together; nil when one is missing.
func (o *Outputs) get(subject string) ([]byte, error) {
	s, stream := o.s, o.s.stream(outputsStream)
	first, ok, err := s.last(o.ctx, stream, subject+".0")
	if err != nil || !ok {
		return nil, err
	}
	parts, err := strconv.Atoi(first.outputParts)
	if err != nil || parts < 1 || parts > MaxOutput/partSize {
		return nil, fmt.Errorf("it is damaged: it has %.20q parts", first.outputParts)
	}
	out := append([]byte{}, first.body...)
	for i := 1; i < parts; i++ {
		m, ok, err := s.last(o.ctx, stream, subject+"."+strconv.Itoa(i))
		if err != nil || !ok {
			return nil, err
		}
		out = append(out, m.body...)
	}
	return out, nil
}
