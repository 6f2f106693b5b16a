package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// StoreConfig says where investigations are journalled.
type StoreConfig struct {
	// Dir is the directory of the journal. Empty means gumshoe in XDG_STATE_HOME,
	// else in ~/.local/state; without a home directory nothing is kept.
	Dir string `json:"dir,omitempty"`
	// Keep is how many runs stay, the newest; 0 means DefaultKeep.
	Keep int `json:"keep,omitempty"`
	// Off keeps nothing; it is written "store: off".
	Off bool `json:"-"`
}

// UnmarshalJSON implements json.Unmarshaler. YAML reads off as false.
func (c *StoreConfig) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "false", `"off"`:
		c.Off = true
		return nil
	case "true", `"on"`:
		c.Off = false
		return nil
	}
	type plain StoreConfig
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(c)); err != nil {
		return fmt.Errorf("store: %w; it takes dir and keep, or is off", err)
	}
	return nil
}

// Bounds of the journal of a command line.
const (
	// DefaultKeep is how many runs stay where nothing else is configured.
	DefaultKeep = 200
	// maxOutputs is how much full outputs may take, in bytes.
	maxOutputs = 1 << 30
	// storeWait is how long an investigation waits for another process to let go
	// of the journal.
	storeWait = 2 * time.Second
)

// fromEnv lays the environment over the section and finds the default directory:
// GUMSHOE_STATE is a directory, or "off".
func (c *StoreConfig) fromEnv(getenv func(string) string) {
	switch v := getenv("GUMSHOE_STATE"); {
	case v == "off":
		c.Off = true
	case v != "":
		c.Dir, c.Off = v, false
	}
	if c.Dir != "" {
		return
	}
	// The XDG base directory specification has relative paths ignored.
	if x := getenv("XDG_STATE_HOME"); filepath.IsAbs(x) {
		c.Dir = filepath.Join(x, "gumshoe")
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		c.Dir = filepath.Join(home, ".local", "state", "gumshoe")
	}
}

func (c StoreConfig) validate() error {
	switch {
	case c.Keep < 0:
		return fmt.Errorf("store.keep %d: how many runs stay is a positive number", c.Keep)
	case c.Dir == "~" || strings.HasPrefix(c.Dir, "~/"):
		return fmt.Errorf("store.dir %q: write the home directory out, no shell reads it here", c.Dir)
	}
	return nil
}

// keep is how many runs stay.
func (c StoreConfig) keep() int {
	if c.Keep == 0 {
		return DefaultKeep
	}
	return c.Keep
}

// wanted reports whether anything is to be kept, and can be named.
func (c StoreConfig) wanted() bool { return !c.Off && c.Dir != "" }

// storeFix is the way out when the journal cannot be written.
const storeFix = "set store.dir or GUMSHOE_STATE to a directory that can be written, or GUMSHOE_STATE=off"

// journal opens the store for investigations that are to be kept.
type journal struct {
	cfg  StoreConfig
	mask func(string) string
	warn func(string)
	once sync.Once
}

// KeepJournal makes the investigations of this App leave a journal, where the
// configuration's store section has them: every fact of the event stream, and
// full outputs. When it cannot be written the investigation answers all the
// same, and warn is told once.
func (a *App) KeepJournal(warn func(text string)) {
	if a.cfg.Store.wanted() {
		a.journal = &journal{cfg: a.cfg.Store, mask: a.redactor.String, warn: warn}
	}
}

// failed says once that this run is not kept, or not whole.
func (j *journal) failed(err error) {
	j.once.Do(func() { j.warn(j.mask(fmt.Sprintf("the journal does not keep this run: %v; %s", err, storeFix))) })
}

// kept is one investigation with its journal, or, without one, as it is.
type kept struct {
	sink  event.Sink
	spill investigate.Spill
	// end closes the journal; it gives no error, the answer stands without it.
	end func()
}

// begin opens the journal for one investigation. The journal comes before the
// surfaces, so that what was shown was taken.
func (j *journal) begin(ctx context.Context, sink event.Sink) kept {
	if sink == nil {
		sink = event.SinkFunc(func(event.Event) {})
	}
	none := kept{sink: sink, end: func() {}}
	if j == nil {
		return none
	}
	s, err := file.Open(file.Config{Dir: j.cfg.Dir, Lazy: []string{store.Runs}, LockWait: storeWait})
	if err != nil {
		j.failed(err)
		return none
	}
	ctx = context.WithoutCancel(ctx) // an interrupted run is kept too
	var hold *file.Hold
	log := store.NewRunLog(ctx, s, store.RunLogOptions{Failed: j.failed, Begin: func(ctx context.Context, subject string) error {
		h, err := s.Hold(ctx, subject)
		hold = h
		return err
	}})
	return kept{
		sink:  event.Tee(log, sink),
		spill: &spill{disk: s.Outputs(ctx), memory: investigate.NewMemorySpill(0), failed: j.failed},
		end: func() {
			if err := errors.Join(j.close(ctx, s, log, hold), s.Close()); err != nil {
				j.failed(err)
			}
		},
	}
}

// close brings the run to the disk and tidies up behind it and behind others.
func (j *journal) close(ctx context.Context, s *file.Store, log *store.RunLog, hold *file.Hold) error {
	var errs []error
	if hold != nil {
		if !log.Ended() {
			_ = abandon(ctx, s, log.Subject(), "it ended without an answer") // it is told apart without the mark too
		}
		errs = append(errs, s.Sync(ctx, log.Subject()), hold.Release(ctx))
	}
	// What is wrong with the journals of other runs is not said of this one.
	_ = s.Orphans(ctx, func(subject string) error { return abandon(ctx, s, subject, "its process is gone") })
	_, err := s.Prune(ctx, file.Retention{Pattern: store.Runs, Keep: j.cfg.keep(), OutputBytes: maxOutputs})
	return errors.Join(append(errs, err)...)
}

// abandon marks a run as cut off. The error says that somebody is at work on it;
// one whose journal cannot be read is left as it is.
func abandon(ctx context.Context, s *file.Store, subject, reason string) error {
	id, ok := strings.CutPrefix(subject, strings.TrimSuffix(store.Runs, ">"))
	if !ok {
		return nil
	}
	_, err := store.Abandon(ctx, s, id, reason)
	if _, refused := errors.AsType[*store.ConflictError](err); refused {
		return err
	}
	return nil
}

// spill keeps full outputs on the disk, and in memory what the disk does not take:
// the run reads them back either way.
type spill struct {
	disk   *file.Outputs
	memory *investigate.MemorySpill
	failed func(error)
}

var _ investigate.Spill = (*spill)(nil)

// Put implements investigate.Spill.
func (s *spill) Put(digest string, raw []byte) error {
	err := s.disk.Put(digest, raw)
	if err == nil {
		return nil
	}
	s.failed(err)
	return s.memory.Put(digest, raw)
}

// Get implements investigate.Spill.
func (s *spill) Get(digest string) ([]byte, error) {
	if raw, err := s.memory.Get(digest); err == nil {
		return raw, nil
	}
	return s.disk.Get(digest)
}

// storeHealth says where runs are kept and whether they can be. It makes nothing.
func storeHealth(c StoreConfig) Health {
	h := Health{What: "journal", State: "off"}
	switch {
	case c.Off:
		h.Text, h.Fix = "off: nothing is kept of an investigation", "unset GUMSHOE_STATE, or store: off in the configuration, to keep runs"
	case c.Dir == "":
		h.Text, h.Fix = "there is no home directory to keep runs in", "set store.dir or GUMSHOE_STATE"
	default:
		n, err := file.Probe(c.Dir, store.Runs)
		if err != nil {
			return Health{What: "journal", State: "limited", Text: fmt.Sprintf("%s cannot be written, investigations are answered and not kept: %v", c.Dir, err), Fix: storeFix}
		}
		h.State, h.Text = "ok", fmt.Sprintf("%s, can be written; it holds %d of at most %d runs", c.Dir, n, c.keep())
	}
	return h
}
