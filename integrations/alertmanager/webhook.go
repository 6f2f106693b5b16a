package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// Queues and subjects of the journal.
const (
	queueAlerts  = "work.alerts"
	queueResults = "work.alertresults"
	queueDesk    = "work.alertdesk"
	typeAlerts   = "alerts.delivery"
	typeWake     = "alerts.wake"
	typeResult   = "alerts.result"
	typeDesk     = "alerts.desk"
)

const (
	// again is how long a delivery that says the same is a copy of the first. After
	// that it is kept once more, and is news only where something else was heard in
	// between: an alert whose end was a mistake begins again at the same time.
	again = 10 * time.Minute
	// chunk is how many alerts stand in one record of the journal.
	chunk = 500
	// chunkBytes is when a record is full, in bytes of labels and annotations.
	chunkBytes = 1 << 20
	// storeTime bounds how long a request waits for the journal.
	storeTime = 10 * time.Second
)

// Path is where Alertmanager posts.
const Path = "/webhooks/alertmanager"

// perMinute is how many requests one Alertmanager may send: a storm comes from one
// address.
const perMinute = 60_000

// Routes implements what a surface serves.
func (d *Desk) Routes() []access.Route {
	return []access.Route{{
		Method: http.MethodPost, Pattern: Path, Handler: http.HandlerFunc(d.serve), Public: true,
		Why: "it has an authentication of its own, and takes this machine only without one", MaxBody: MaxBody, PerMinute: perMinute,
	}}
}

// Answer is what a webhook is answered with.
type Answer struct {
	// ID of the delivery.
	ID string `json:"id,omitempty"`
	// Known says that the same was taken before.
	Known  bool     `json:"known,omitempty"`
	Alerts int      `json:"alerts,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// serve takes a webhook. It answers 2xx only once the journal holds what it says;
// Alertmanager sends again what is answered with 5xx, and drops what is answered with
// 4xx.
func (d *Desk) serve(w http.ResponseWriter, r *http.Request) {
	status, a := d.receive(w, r)
	if status >= 400 {
		d.log.LogAttrs(r.Context(), slog.LevelWarn, "an alert webhook was not taken", slog.Int("status", status), slog.String("why", a.Error))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="gumshoe alerts"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(a); err != nil {
		d.log.Debug("the sender of alerts did not wait for the answer", "error", err)
	}
}

func (d *Desk) receive(w http.ResponseWriter, r *http.Request) (int, Answer) {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, Answer{Error: "alerts are posted"}
	}
	signed, err := d.guard.before(r)
	if err != nil {
		return d.refuse(err)
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if _, big := errors.AsType[*http.MaxBytesError](err); big {
			return http.StatusRequestEntityTooLarge, Answer{Error: fmt.Sprintf("the body is larger than %d bytes; set max_alerts of the webhook, or group by more labels", MaxBody)}
		}
		return http.StatusBadRequest, Answer{Error: "the body was cut off"}
	}
	var sum [32]byte
	if signed {
		if sum, err = d.guard.signature(r, raw); err != nil {
			return d.refuse(err)
		}
	}
	del, err := decode(raw, d.now())
	if err != nil {
		return http.StatusBadRequest, Answer{Error: err.Error()}
	}
	for _, a := range del.Alerts {
		for k, v := range a.Annotations {
			a.Annotations[k] = d.redact(v)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTime)
	defer cancel()
	known, err := d.keep(ctx, del)
	switch {
	case errors.Is(err, store.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, Answer{Error: "the alerts are larger than a record of the journal; set max_alerts of the webhook"}
	case err != nil:
		d.log.Error("alerts could not be kept", "delivery", del.ID, "error", err)
		return http.StatusServiceUnavailable, Answer{Error: "the alerts could not be kept; send them again"}
	}
	if signed {
		d.guard.remember(sum)
	}
	if !known {
		d.Wake()
	}
	return http.StatusOK, Answer{ID: del.ID, Known: known, Alerts: len(del.Alerts), Notes: del.Notes}
}

// refuse answers a request that is not let in.
func (d *Desk) refuse(err error) (int, Answer) {
	if no, ok := asDenied(err); ok {
		return no.status, Answer{Error: no.why}
	}
	d.log.Error("a webhook cannot be authenticated", "error", err)
	return http.StatusServiceUnavailable, Answer{Error: "the secret of this webhook cannot be read on the server; send again later"}
}

// keep puts a delivery into the queue, once: what says the same is known, from
// whichever Alertmanager and through whichever replica it comes.
func (d *Desk) keep(ctx context.Context, del Delivery) (known bool, err error) {
	entries, err := chunks(del)
	if err != nil {
		return false, err
	}
	subject := queueAlerts + "." + del.ID
	first, err := d.append(ctx, subject, entries)
	if err != nil || !first.IsZero() && del.Received.Sub(first) < again {
		return !first.IsZero(), err
	}
	if first.IsZero() {
		return false, nil
	}
	turn := int64(del.Received.Sub(first) / again)
	second, err := d.append(ctx, fmt.Sprintf("%s-%d", subject, turn), entries)
	return !second.IsZero(), err
}

// append adds to a new subject. Where the subject is there, it gives when it began.
func (d *Desk) append(ctx context.Context, subject string, entries []store.Entry) (time.Time, error) {
	_, err := d.journal.Append(ctx, subject, 0, entries...)
	if _, there := errors.AsType[*store.ConflictError](err); !there {
		return time.Time{}, err
	}
	for rec, err := range d.journal.Load(ctx, subject, 0) {
		if err != nil {
			return time.Time{}, err
		}
		return rec.At, nil
	}
	return time.Time{}, fmt.Errorf("%s was there and is gone: %w", subject, store.ErrNotFound)
}

// chunks makes the records of a delivery: large groups are kept in parts that stand
// or fall together.
func chunks(del Delivery) ([]store.Entry, error) {
	var out []store.Entry
	all := del.Alerts
	for len(all) > 0 {
		n, size := 0, 0
		for n < len(all) && n < chunk && size < chunkBytes {
			for _, m := range []map[string]string{all[n].Labels, all[n].Annotations} {
				for k, v := range m {
					size += len(k) + len(v)
				}
			}
			n++
		}
		part := del
		part.Alerts, all = all[:n], all[n:]
		if len(out) > 0 {
			part.Notes = nil
		}
		data, err := json.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("delivery %s: %w", del.ID, err)
		}
		out = append(out, store.Entry{Type: typeAlerts, Data: data})
	}
	return out, nil
}

// wakeEntry is a record that makes the desk look at a group again.
func wakeEntry(group string) (store.Entry, error) {
	data, err := json.Marshal(Delivery{Group: group})
	return store.Entry{Type: typeWake, Data: data}, err
}

// isGroup accepts the digest of a group key.
func isGroup(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }
