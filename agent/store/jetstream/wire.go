package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Times of requests.
const (
	// answerTime is how long one request waits for its answer before it is sent
	// again.
	answerTime = 3 * time.Second
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second
)

// How often a request is made.
type persistence bool

const (
	untilDone persistence = false
	onlyOnce  persistence = true
)

// retry makes a request until it is answered, for Config.Wait or until ctx or the
// store ends.
func (s *Store) retry(ctx context.Context, p persistence, try func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	begin := time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := s.tryOnce(whole, try)
		if err == nil {
			return nil
		}
		again := temporary(err)
		if ctx.Err() == nil && (p == onlyOnce || !again) {
			return why(err)
		}
		select {
		case <-time.After(pause):
			continue
		case <-whole.Done():
		}
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), why(err))
		case s.ctx.Err() != nil:
			return fmt.Errorf("jetstream store %s: %w: %w", s.where, store.ErrClosed, why(err))
		}
		return fmt.Errorf("NATS at %s did not answer for %s: %w", s.where, time.Since(begin).Round(time.Second), why(err))
	}
}

// tryOnce makes a request. Where the embedded server stands still because its
// disk refused a write, it is started again, or the error says so.
func (s *Store) tryOnce(ctx context.Context, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if s.server == nil {
		return try(ctx)
	}
	well := s.server.health()
	if well.Err() != nil {
		if err := s.server.revive(); err != nil {
			return err
		}
		well = s.server.health()
	}
	unhook := context.AfterFunc(well, cancel)
	err := try(ctx)
	unhook()
	if err != nil && well.Err() != nil {
		return fmt.Errorf("%w: %w", errDisk, context.Cause(well))
	}
	return err
}

// ask makes one request of the JetStream API.
func (s *Store) ask(ctx context.Context, subject string, req, into any) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	resp, err := s.nc.RequestWithContext(ctx, subject, raw)
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(resp.Data, &failed); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", subject, err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	return json.Unmarshal(resp.Data, into)
}

// send publishes one message and waits until it is stored; it sends it again,
// with the same id, until it knows. doubt says that an attempt before the last
// one may have been stored.
func (s *Store) send(ctx context.Context, m *nats.Msg) (seq uint64, doubt bool, err error) {
	err = s.retry(ctx, untilDone, func(ctx context.Context) error {
		resp, err := s.nc.RequestMsgWithContext(ctx, m)
		if err == nil {
			var ack struct {
				Error *jetstream.APIError `json:"error"`
				Seq   uint64              `json:"seq"`
			}
			if err = json.Unmarshal(resp.Data, &ack); err == nil && ack.Error != nil {
				return ack.Error
			}
			seq = ack.Seq
		}
		if err == nil && seq == 0 {
			err = errors.New("an acknowledgement without a sequence")
		}
		doubt = doubt || err != nil && !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrReconnectBufExceeded)
		return err
	})
	return seq, doubt, err
}

// query selects messages of a stream.
type query struct {
	Seq       uint64   `json:"seq,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

const codeNoMessage = 10037

// get asks the leader for one message; ok is false when there is none.
func (s *Store) get(ctx context.Context, stream string, q query) (m *msg, ok bool, err error) {
	err = s.retry(ctx, untilDone, func(ctx context.Context) error {
		var resp struct {
			Message struct {
				Subject string    `json:"subject"`
				Seq     uint64    `json:"seq"`
				Header  []byte    `json:"hdrs"`
				Data    []byte    `json:"data"`
				Time    time.Time `json:"time"`
			} `json:"message"`
		}
		ok = false
		err := s.ask(ctx, "$JS.API.STREAM.MSG.GET."+stream, q, &resp)
		if apiCode(err) == codeNoMessage {
			return nil
		}
		if err != nil {
			return err
		}
		r := resp.Message
		h, err := nats.DecodeHeadersMsg(r.Header)
		if err != nil {
			h = nats.Header{}
		}
		m, ok = newMsg(r.Subject, r.Seq, r.Time, h, r.Data), true
		return nil
	})
	return m, ok, err
}

func newMsg(subject string, seq uint64, at time.Time, h nats.Header, body []byte) *msg {
	m := &msg{subject: subject, seq: seq, at: at.UTC(), id: h.Get(nats.MsgIdHdr), outputParts: h.Get(partsHeader), body: body}
	m.head, m.bad = parseHead(h.Get(headerName))
	return m
}

// last asks the leader for the last message of a subject or of a filter.
func (s *Store) last(ctx context.Context, stream, filter string) (*msg, bool, error) {
	return s.get(ctx, stream, query{Last: filter})
}

// Bounds of one batch, in messages and bytes.
const (
	batchMsgs  = 512
	batchBytes = 4 << 20
	// syncQueue is how many messages wait for a reader of a subscription: more than
	// one answer has, and as many as wait for a subscriber to live events. The
	// client's own default reserves half a MiB for each, also for each batch.
	syncQueue = maxLive
)

// page is an answer to a batch request.
type page struct {
	msgs []*msg
	// more says that there are more messages.
	more bool
	// upTo is the last sequence of the stream on the replica that answered a
	// MultiLast.
	upTo uint64
}

// batch asks any replica for messages. It may be behind the leader.
func (s *Store) batch(ctx context.Context, stream string, q query) (p page, err error) {
	if q.MaxBytes == 0 {
		q.MaxBytes = batchBytes
	}
	raw, err := json.Marshal(q)
	if err != nil {
		return p, err
	}
	err = s.retry(ctx, untilDone, func(ctx context.Context) error {
		p = page{}
		inbox := s.nc.NewRespInbox()
		sub, err := s.nc.SubscribeSync(inbox)
		if err != nil {
			return err
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, raw); err != nil {
			return err
		}
		for {
			r, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				return err
			}
			switch status := r.Header.Get("Status"); status {
			case "":
			case "204":
				p.more = r.Header.Get("Nats-Num-Pending") != "0"
				p.upTo, _ = strconv.ParseUint(r.Header.Get("Nats-UpTo-Sequence"), 10, 64)
				last, _ := strconv.ParseUint(r.Header.Get("Nats-Last-Sequence"), 10, 64)
				if n := len(p.msgs); n > 0 && p.msgs[n-1].seq != last {
					return errAgain // some were dropped on the way
				}
				return nil
			case "404":
				return nil
			case "503":
				return nats.ErrNoResponders
			default:
				return fmt.Errorf("the server answers %s %s", status, r.Header.Get("Description"))
			}
			seq, err := strconv.ParseUint(r.Header.Get(jetstream.SequenceHeader), 10, 64)
			at, err2 := time.Parse(time.RFC3339Nano, r.Header.Get(jetstream.TimeStampHeaer))
			if err := errors.Join(err, err2); err != nil {
				return fmt.Errorf("an answer of the server cannot be read: %w", err)
			}
			p.msgs = append(p.msgs, newMsg(r.Header.Get(jetstream.SubjectHeader), seq, at, r.Header, r.Data))
		}
	})
	return p, err
}

// streamInfo asks the leader for the state of a stream and, with a filter, for
// its subjects behind an offset.
type streamInfo struct {
	Time  time.Time `json:"ts"`
	State struct {
		LastSeq  uint64            `json:"last_seq"`
		Messages uint64            `json:"messages"`
		Bytes    uint64            `json:"bytes"`
		First    uint64            `json:"first_seq"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
	Total  int `json:"total"`
	Offset int `json:"offset"`
	Limit  int `json:"limit"`
}

func (s *Store) streamInfo(ctx context.Context, stream, filter string, offset int, p persistence) (info streamInfo, err error) {
	err = s.retry(ctx, p, func(ctx context.Context) error {
		info = streamInfo{}
		return s.ask(ctx, "$JS.API.STREAM.INFO."+stream, map[string]any{"subjects_filter": filter, "offset": offset}, &info)
	})
	return info, err
}

// purge removes the messages of a filter below a sequence, all of them when it
// is 0.
func (s *Store) purge(ctx context.Context, stream, filter string, below uint64) error {
	return s.retry(ctx, untilDone, func(ctx context.Context) error {
		req := map[string]any{"filter": filter}
		if below > 0 {
			req["seq"] = below
		}
		var resp struct{}
		return s.ask(ctx, "$JS.API.STREAM.PURGE."+stream, req, &resp)
	})
}
