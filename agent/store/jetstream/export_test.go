package jetstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Embedded is an embedded server that several stores of a test share, as
// processes share a server.
type Embedded struct{ e *embedded }

// Embed starts one.
func Embed(cfg Config, sync bool) (*Embedded, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	e, err := embed(cfg)
	if err != nil || sync {
		return &Embedded{e}, err
	}
	// Nothing is lost when a process ends without fsync: the tests that do not
	// switch off the machine run faster.
	if err := e.close(); err != nil {
		return nil, err
	}
	opts := e.opts
	e.opts = func() *server.Options {
		o := opts()
		o.SyncAlways = false
		return o
	}
	if ok, err := e.lock.TryLock(); err != nil || !ok {
		return nil, err
	}
	e.down = false
	e.srv, err = e.start()
	return &Embedded{e}, err
}

// Close ends the server.
func (e *Embedded) Close() error { return e.e.close() }

// Open opens a store on the server; closing it leaves the server.
func (e *Embedded) Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e.e)
}

// Cut sends all messages of an append but the last one, as a writer does that
// dies in the middle.
func (s *Store) Cut(ctx context.Context, subject string, expect uint64, entries ...store.Entry) error {
	body := encodeEntries(entries)
	parts := (len(body)+partSize-1)/partSize + 1
	p := s.place(subject)
	first, at := uint64(0), expect/stride
	for i := range parts - 1 {
		piece := body[i*partSize : min((i+1)*partSize, len(body))]
		h := head{prev: expect / stride, first: first, part: i + 1, parts: parts, n: len(entries), sum: checksum(piece), typ: entries[len(entries)-1].Type}
		seq, _, err := s.send(ctx, &nats.Msg{Subject: p.subject, Data: piece, Header: nats.Header{
			headerName: {h.String()}, nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(at, 10)},
		}})
		if err != nil {
			return err
		}
		if i == 0 {
			first = seq
		}
		at = seq
	}
	return nil
}

// Raw is the connection.
func (s *Store) Raw() *nats.Conn { return s.nc }

// ParseHead reads the header of a message and writes it again.
func ParseHead(s string) (string, error) {
	h, err := parseHead(s)
	return h.String(), err
}

// DecodeEntries reads entries and writes them again.
func DecodeEntries(b []byte, n int) ([]byte, error) {
	es, err := decodeEntries(b, n)
	return encodeEntries(es), err
}

// Take reads one message as a part of a subject, a timer and a claim.
func Take(header string, body []byte) error {
	m := newMsg("x", 7, time.Unix(1, 0), nats.Header{headerName: {header}}, body)
	w, err := (&assembly{subject: "x", from: 1}).take(m)
	if w != nil {
		_, terr := decodeTimer("x", w)
		_, werr := decodeWork("x", m)
		err = errors.Join(err, terr, werr)
	}
	return err
}
