package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// oldest is the first version of the server that has what is needed: reading
// many messages with one request, since 2.11.
const (
	oldestMajor = 2
	oldestMinor = 11
)

// Times of the connection.
const (
	dialTime      = 5 * time.Second
	reconnectWait = 250 * time.Millisecond
	pingInterval  = 10 * time.Second
)

// denied is what the server did not let us do last.
type denied struct {
	mu  sync.Mutex
	err error
	ch  chan struct{}
}

func (d *denied) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	if d.ch != nil {
		close(d.ch)
		d.ch = nil
	}
}

// next is closed at the next refusal.
func (d *denied) next() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ch == nil {
		d.ch = make(chan struct{})
	}
	return d.ch
}

func (d *denied) get() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (s *Store) connect(ctx context.Context) error {
	c := s.cfg
	opts := []nats.Option{
		nats.Name(c.Name), nats.Timeout(dialTime), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1), // what cannot be sent now is sent again by us
		nats.SyncQueueLen(syncQueue),
		nats.PingInterval(pingInterval),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				s.denied.set(err)
			}
			c.Log.Warn("nats", "error", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.Log.Warn("the connection to NATS is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.Log.Info("the connection to NATS is back", "server", nc.ConnectedServerName())
			s.watchers.wakeAll()
		}),
	}
	url := ""
	if s.server != nil {
		s.where = s.server.dir
		opts = append(opts, nats.InProcessServer(s.server))
	} else {
		url = strings.Join(c.URLs, ",")
		s.where = hosts(c.URLs)
		if c.Credentials != "" {
			opts = append(opts, nats.UserCredentials(c.Credentials))
		}
		if c.CA != "" {
			opts = append(opts, nats.RootCAs(c.CA))
		}
		if c.Cert != "" {
			opts = append(opts, nats.ClientCert(c.Cert, c.Key))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	nc, err := nats.Connect(url, opts...)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("jetstream store: NATS at %s refuses the credentials: %w", s.where, err)
	case err != nil:
		return fmt.Errorf("jetstream store: NATS at %s cannot be reached: %w; check the URL, the network and TLS", s.where, err)
	}
	s.nc = nc
	err = s.checkServer()
	if err == nil {
		s.js, err = jetstream.New(nc)
	}
	if err != nil {
		nc.Close()
	}
	return err
}

// hosts gives URLs without user names and passwords.
func hosts(urls []string) string {
	out := make([]string, len(urls))
	for i, u := range urls {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme, _, _ := strings.Cut(u, "://")
			u = scheme + "://" + u[at+1:]
		}
		out[i] = u
	}
	return strings.Join(out, ", ")
}

func (s *Store) checkServer() error {
	v := s.nc.ConnectedServerVersion()
	if major, minor, ok := version(v); !ok || major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("jetstream store: NATS at %s has version %q; at least %d.%d is needed", s.where, v, oldestMajor, oldestMinor)
	}
	if m := s.nc.MaxPayload(); m < needPayload {
		return fmt.Errorf("jetstream store: NATS at %s takes messages of %d bytes at most (max_payload); at least %d are needed, its default is 1 MiB", s.where, m, needPayload)
	}
	return nil
}

func version(v string) (major, minor int, ok bool) {
	f := strings.SplitN(v, ".", 3)
	if len(f) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(strings.TrimPrefix(f[0], "v"))
	minor, err2 := strconv.Atoi(f[1])
	return major, minor, err == nil && err2 == nil
}

// The streams, behind the name and a dash.
const (
	journalStream = "journal"
	keptStream    = "kept"
	stateStream   = "state"
	outputsStream = "outputs"
)

// What stands between the name and the subject.
const (
	journalToken = "j"
	keptToken    = "p"
	timerToken   = "t"
	claimToken   = "c"
	outputToken  = "o"
	newsToken    = "n"
	liveToken    = "live"
)

// Metadata of the streams.
const (
	metaFormat    = "gumshoe-format"
	metaPermanent = "gumshoe-permanent"
	format        = "1"
)

// dedupe is how long the server knows an append again that was sent twice.
const dedupe = 10 * time.Minute

// maxPerState is how many messages of one timer or claim are kept: more than the
// parts of two timers.
const maxPerState = 32

func (s *Store) stream(what string) string         { return s.cfg.Name + "-" + what }
func (s *Store) subject(token, rest string) string { return s.cfg.Name + "." + token + "." + rest }
func (s *Store) journals() []string                { return []string{s.stream(journalStream), s.stream(keptStream)} }

func (s *Store) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	refused := s.denied.next()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a refusal has no other answer
		select {
		case <-refused:
			cancel()
		case <-stop:
		}
	}()
	meta := map[string]string{metaFormat: format, metaPermanent: strings.Join(s.cfg.Permanent, " ")}
	base := jetstream.StreamConfig{
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage, Replicas: s.cfg.Replicas,
		AllowDirect: true, Duplicates: dedupe, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1, Metadata: meta,
	}
	journal, kept, state := base, base, base
	journal.Name, journal.Subjects = s.stream(journalStream), []string{s.subject(journalToken, ">")}
	journal.Description = "records of runs, sessions and work"
	kept.Name, kept.Subjects = s.stream(keptStream), []string{s.subject(keptToken, ">")}
	kept.Description, kept.DenyDelete, kept.DenyPurge = "records of plans, approvals and the audit trail", true, true
	state.Name, state.Subjects = s.stream(stateStream), []string{s.subject(timerToken, ">"), s.subject(claimToken, ">")}
	state.Description, state.MaxMsgsPerSubject = "timers and claims", maxPerState
	for _, c := range []jetstream.StreamConfig{journal, kept, state} {
		if err := s.ensure(ctx, c); err != nil {
			if d := s.denied.get(); d != nil {
				err = fmt.Errorf("the user has no permission: %w; it needs $JS.API.>, _INBOX.> and %s.>", d, s.cfg.Name)
			}
			return fmt.Errorf("jetstream store: NATS at %s: stream %s: %w", s.where, c.Name, err)
		}
	}
	return nil
}

// ensure makes a stream, or checks the one that is there. Of several requests that make
// the same stream at once a cluster may leave one without an answer.
func (s *Store) ensure(ctx context.Context, want jetstream.StreamConfig) error {
	var said error // by the server: an attempt that ran out of time tells nothing
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.tryOnce(ctx, func(ctx context.Context) error { return s.tryEnsure(ctx, want) })
		if said != nil && errors.Is(err, context.DeadlineExceeded) {
			err = said
		}
		if err == nil || ctx.Err() != nil || !temporary(err) {
			return err
		}
		said = err
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func (s *Store) tryEnsure(ctx context.Context, want jetstream.StreamConfig) error {
	have, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		have, err = s.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was faster
			have, err = s.js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return why(err)
	}
	info := have.CachedInfo()
	c := info.Config
	s.clock.set(info.TimeStamp)
	if f := c.Metadata[metaFormat]; f != format {
		return fmt.Errorf("it has format %q, this version reads %q", f, format)
	}
	if p := c.Metadata[metaPermanent]; p != want.Metadata[metaPermanent] {
		return fmt.Errorf("%w patterns of permanent subjects %q: the stream was made with %q, and they cannot change", store.ErrInvalid, want.Metadata[metaPermanent], p)
	}
	if !c.AllowDirect || c.DenyDelete != want.DenyDelete || c.DenyPurge != want.DenyPurge || c.Retention != want.Retention || c.MaxMsgsPerSubject != want.MaxMsgsPerSubject {
		return errors.New("its configuration was changed: it wants allow_direct, limits retention and its own deny_delete and deny_purge")
	}
	if c.Replicas < want.Replicas {
		c.Replicas = want.Replicas
		if _, err := s.js.UpdateStream(ctx, c); err != nil {
			return why(err)
		}
	}
	return nil
}

// Codes of errors of the JetStream API, from the server's errors.json.
const (
	codeNotEnabled        = 10076
	codeNotEnabledAccount = 10039
	codeNoPeers           = 10005
	codeNoResources       = 10023
	codeStorage           = 10047
	codeClusterIncomplete = 10004
	codeUnavailable       = 10008
	codeNotLeader         = 10009
	codeStoreFailed       = 10077
	codeMaxBytes          = 10122
	codeWrongLast         = 10071
	codeWrongLastConst    = 10164
	codeDuplicate         = 10158
	codeStreamOffline     = 10118
	// codeStreamNotFound comes also from a server of a cluster that has not heard yet of
	// a stream that was just made; the streams of a store are made before it is used.
	codeStreamNotFound = 10059
)

func apiCode(err error) int {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return int(e.ErrorCode)
	}
	return 0
}

// temporary reports whether a request may succeed when it is made again.
func temporary(err error) bool {
	switch apiCode(err) {
	case codeClusterIncomplete, codeUnavailable, codeNotLeader, codeDuplicate, codeStreamOffline, codeStreamNotFound:
		return true
	case 0:
	default:
		return false
	}
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrStaleConnection) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, errAgain) || errors.Is(err, errSoon)
}

// errAgain: the answer is of a replica that is behind.
var errAgain = errors.New("the replica that answers is behind")

// why says in a sentence what an error of the API means.
func why(err error) error {
	switch apiCode(err) {
	case codeNotEnabled, codeNotEnabledAccount:
		return fmt.Errorf("JetStream is off: %w; enable it on the server and for the account", err)
	case codeNoPeers:
		return fmt.Errorf("the cluster has too few servers for the replicas: %w", err)
	case codeNoResources, codeStorage, codeMaxBytes:
		return fmt.Errorf("%w on the server: %w; raise its storage limit or remove old investigations", store.ErrFull, err)
	case codeStoreFailed:
		return fmt.Errorf("%w: the disk of the server refuses: %w", store.ErrFull, err)
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf("JetStream is off: %w; enable it on the server and for the account", err)
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("JetStream does not answer: %w; it is off, out of service, or without a leader", err)
	}
	return err
}
