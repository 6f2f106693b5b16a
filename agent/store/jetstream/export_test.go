package jetstream

import (
	"context"

	"github.com/nats-io/nats-server/v2/server"
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
	s, err := open(ctx, cfg, e.e)
	if err == nil {
		s.embedded = nil
	}
	return s, err
}
