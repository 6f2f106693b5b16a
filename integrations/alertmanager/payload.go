package alertmanager

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// payload is Alertmanager's webhook message, version 4. What it says beyond these
// fields is passed over:
// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
type payload struct {
	Version         string            `json:"version"`
	GroupKey        string            `json:"groupKey"`
	TruncatedAlerts uint64            `json:"truncatedAlerts"`
	Status          string            `json:"status"`
	Receiver        string            `json:"receiver"`
	GroupLabels     map[string]string `json:"groupLabels"`
	ExternalURL     string            `json:"externalURL"`
	Alerts          []payloadAlert    `json:"alerts"`
}

// payloadAlert keeps times as text: one that cannot be read costs the time, not the
// alert.
type payloadAlert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    string            `json:"startsAt"`
	EndsAt      string            `json:"endsAt"`
	Fingerprint string            `json:"fingerprint"`
}

// Delivery is what was heard of one group of alerts at one time, as it is kept in the
// journal.
type Delivery struct {
	// ID is the digest of what it says: the group, and the status, fingerprint and start
	// of each alert.
	ID string `json:"id"`
	// Group is the digest of the group key.
	Group       string            `json:"group"`
	GroupKey    string            `json:"group_key"`
	GroupLabels map[string]string `json:"group_labels,omitempty"`
	Receiver    string            `json:"receiver,omitempty"`
	// ExternalURL is that of the Alertmanager that sent it.
	ExternalURL string `json:"external_url,omitempty"`
	// Status is "resolved" when all alerts of the group are.
	Status string           `json:"status"`
	Alerts []incident.Alert `json:"alerts"`
	// Truncated counts the alerts of the group that Alertmanager left out.
	Truncated uint64 `json:"truncated,omitempty"`
	// Notes are sentences on what was not as it should be and was taken all the same.
	Notes []string `json:"notes,omitempty"`
	// Received is when it was taken.
	Received time.Time `json:"received"`
}

// Statuses of alerts and groups.
const (
	firing   = "firing"
	resolved = "resolved"
)

// Bounds of a payload.
const (
	// MaxBody is the largest payload, in bytes.
	MaxBody = 8 << 20
	// MaxAlerts is how many alerts one payload may carry.
	MaxAlerts    = 10_000
	maxLabels    = 128
	maxLabel     = 8 << 10
	maxGroupKey  = 16 << 10
	maxNotes     = 20
	maxAnnotated = 500
	// skew is how far ahead of this clock an alert may begin before it is not believed.
	skew = 10 * time.Minute
	// oldest is how long ago an alert may have begun before its time is not believed.
	oldest = 5 * 365 * 24 * time.Hour
)

// decode reads a payload. Its errors are sentences for whoever sent it; what only
// costs a part is taken with a note.
func decode(raw []byte, now time.Time) (Delivery, error) {
	var d Delivery
	if !utf8.Valid(raw) {
		return d, errors.New("the body is not valid UTF-8")
	}
	var p payload
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&p); err != nil {
		return d, fmt.Errorf("the body is no JSON of an Alertmanager webhook: %s", clip(err.Error(), 200))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("the body holds more than one JSON document")
	}
	switch {
	case p.Version != "4":
		return d, fmt.Errorf("the payload has version %q, version \"4\" is read: Alertmanager sends it since 0.6, without a custom payload", clip(p.Version, 20))
	case p.GroupKey == "" || len(p.GroupKey) > maxGroupKey:
		return d, fmt.Errorf("groupKey is empty or longer than %d bytes", maxGroupKey)
	case p.Status != firing && p.Status != resolved:
		return d, fmt.Errorf("status %q is neither firing nor resolved", clip(p.Status, 20))
	case len(p.Alerts) == 0:
		return d, errors.New("the payload carries no alerts")
	case len(p.Alerts) > MaxAlerts:
		return d, fmt.Errorf("the payload carries %d alerts, at most %d are taken: set max_alerts of the webhook, or group by more labels", len(p.Alerts), MaxAlerts)
	}
	d = Delivery{Group: digest(p.GroupKey), GroupKey: p.GroupKey, GroupLabels: p.GroupLabels, Receiver: clip(p.Receiver, 200), ExternalURL: clip(p.ExternalURL, 500),
		Status: p.Status, Truncated: p.TruncatedAlerts, Received: now.UTC()}
	var refused []string
	at := map[string]int{}
	// The digest holds the times as they were sent: where now is taken instead, the
	// next repetition would be another delivery.
	said := map[string]string{}
	for i, pa := range p.Alerts {
		a, notes, err := pa.read(p.Status, now)
		if err != nil {
			refused = append(refused, fmt.Sprintf("alert %d %s", i+1, err))
			continue
		}
		d.note(notes...)
		said[a.Fingerprint] = a.Fingerprint + " " + a.Status + " " + pa.StartsAt
		if j, twice := at[a.Fingerprint]; twice {
			d.Alerts[j] = a
			continue
		}
		at[a.Fingerprint] = len(d.Alerts)
		d.Alerts = append(d.Alerts, a)
	}
	if len(d.Alerts) == 0 {
		return d, errors.New("no alert of the payload can be taken: " + clip(strings.Join(refused, "; "), 500))
	}
	d.note(refused...)
	if d.Truncated > 0 {
		d.note(fmt.Sprintf("Alertmanager left %s of the group out (max_alerts); they are not known here", count(int(min(d.Truncated, 1<<31)), "alert")))
	}
	lines := slices.Sorted(maps.Values(said))
	d.ID = digest(append([]string{d.GroupKey, d.Status}, lines...)...)
	return d, nil
}

// read makes an alert of what was sent. The notes begin with its name.
func (p payloadAlert) read(group string, now time.Time) (incident.Alert, []string, error) {
	a := incident.Alert{Name: p.Labels["alertname"], Status: p.Status, Labels: p.Labels, Fingerprint: p.Fingerprint}
	if len(p.Labels) == 0 {
		return a, nil, errors.New("has no labels, so that it is about nothing")
	}
	if len(p.Labels) > maxLabels {
		return a, nil, fmt.Errorf("has %d labels, more than %d", len(p.Labels), maxLabels)
	}
	for k, v := range p.Labels {
		if len(k)+len(v) > maxLabel {
			return a, nil, fmt.Errorf("has a label %s of more than %d bytes", clip(k, 60), maxLabel)
		}
	}
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, clip(fmt.Sprintf("alert %s ", clip(a.Name, 100))+fmt.Sprintf(format, args...), 400))
	}
	if a.Name == "" {
		a.Name = "(no alertname)"
		note("carries no label alertname")
	}
	if a.Status != firing && a.Status != resolved {
		a.Status = group
		note("has the status %q; it is taken as the group's, %s", clip(p.Status, 20), group)
	}
	if !fingerprint(a.Fingerprint) {
		a.Fingerprint = labelPrint(p.Labels)
		note("carries no usable fingerprint; it is known by its labels")
	}
	a.StartsAt = p.begin(now, note)
	if a.Status == resolved {
		a.EndsAt = p.end(a.StartsAt, now, note)
	}
	for _, k := range []string{"summary", "description", "message", "runbook_url"} {
		if v := p.Annotations[k]; v != "" {
			if a.Annotations == nil {
				a.Annotations = map[string]string{}
			}
			a.Annotations[k] = clip(v, maxAnnotated)
		}
	}
	return a, notes, nil
}

// begin gives when an alert began, or now where that cannot be believed.
func (p payloadAlert) begin(now time.Time, note func(string, ...any)) time.Time {
	t, err := time.Parse(time.RFC3339Nano, p.StartsAt)
	switch {
	case p.StartsAt == "" || err == nil && t.Year() <= 1:
		note("does not say when it began; now is taken")
	case err != nil:
		note("began at %q, which is no time; now is taken", clip(p.StartsAt, 40))
	case t.After(now.Add(skew)):
		note("began at %s, ahead of this clock by %s; now is taken, check the clocks", t.UTC().Format(time.RFC3339), t.Sub(now).Round(time.Second))
	case t.Before(now.Add(-oldest)):
		note("began at %s, which is not believed; now is taken", t.UTC().Format(time.RFC3339))
	default:
		return t.UTC()
	}
	return now.UTC()
}

// end gives when an alert ended, or now where that cannot be believed.
func (p payloadAlert) end(begin, now time.Time, note func(string, ...any)) time.Time {
	t, err := time.Parse(time.RFC3339Nano, p.EndsAt)
	switch {
	case p.EndsAt == "" || err == nil && t.Year() <= 1:
	case err != nil:
		note("ended at %q, which is no time; now is taken", clip(p.EndsAt, 40))
	case t.Before(begin):
		note("ended at %s, before it began; now is taken", t.UTC().Format(time.RFC3339))
	case t.After(now.Add(skew)):
		note("ended at %s, ahead of this clock; now is taken", t.UTC().Format(time.RFC3339))
	default:
		return t.UTC()
	}
	return now.UTC()
}

func (d *Delivery) note(notes ...string) {
	for _, n := range notes {
		switch {
		case len(d.Notes) < maxNotes:
			d.Notes = append(d.Notes, clip(n, 400))
		case len(d.Notes) == maxNotes:
			d.Notes = append(d.Notes, "and more that is left out here")
		}
	}
}

// digest gives 32 hex digits of what parts say.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// labelPrint stands for a fingerprint: a digest of the labels.
func labelPrint(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for k, v := range labels {
		parts = append(parts, k+"\xff"+v)
	}
	slices.Sort(parts)
	return digest(parts...)[:16]
}

func fingerprint(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
