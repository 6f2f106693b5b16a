package prom

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// The parts of Alertmanager's API v2 that are read:
// https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
type (
	amAlert struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		StartsAt    time.Time         `json:"startsAt"`
		EndsAt      time.Time         `json:"endsAt"`
		Fingerprint string            `json:"fingerprint"`
		Status      amStatus          `json:"status"`
		Receivers   []amReceiver      `json:"receivers"`
	}
	amStatus struct {
		// State is active, suppressed or unprocessed.
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
		MutedBy     []string `json:"mutedBy"`
	}
	amReceiver struct {
		Name string `json:"name"`
	}
	amGroup struct {
		Labels   map[string]string `json:"labels"`
		Receiver amReceiver        `json:"receiver"`
		Alerts   []amAlert         `json:"alerts"`
	}
	amSilence struct {
		ID        string      `json:"id"`
		Comment   string      `json:"comment"`
		CreatedBy string      `json:"createdBy"`
		StartsAt  time.Time   `json:"startsAt"`
		EndsAt    time.Time   `json:"endsAt"`
		Matchers  []amMatcher `json:"matchers"`
		Status    struct {
			State string `json:"state"`
		} `json:"status"`
	}
	amMatcher struct {
		Name    string `json:"name"`
		Value   string `json:"value"`
		IsRegex bool   `json:"isRegex"`
		IsEqual *bool  `json:"isEqual"`
	}
)

// alertmanager asks Alertmanager's API v2. False means that there is none.
func (c *Client) alertmanager(ctx context.Context, path string, q url.Values, into any) (bool, error) {
	r, err := c.reach(ctx)
	if err != nil {
		return false, explain(ctx, "Alertmanager", err)
	}
	if r.found.Alertmanager.URL == "" {
		return false, nil
	}
	return true, c.get(ctx, "Alertmanager", r.am, r.found.Alertmanager.URL+"/api/v2/"+path, q, into)
}

// get asks a guarded server for JSON.
func (c *Client) get(ctx context.Context, who string, client *http.Client, address string, q url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if len(q) > 0 {
		address += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return &tool.Error{Kind: tool.Invalid, User: who + " address cannot be used", Err: err}
	}
	res, err := client.Do(req)
	if err != nil {
		return explain(ctx, who, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body) // bounded by the guard
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("%s answers what is not its API or cut off: %s", who, clip(err.Error(), 200)), Fix: "ask again; check the address", Err: err}
	}
	return nil
}

// String writes a matcher as Alertmanager does.
func (m amMatcher) String() string {
	op := "="
	switch equal := m.IsEqual == nil || *m.IsEqual; {
	case equal && m.IsRegex:
		op = "=~"
	case !equal && m.IsRegex:
		op = "!~"
	case !equal:
		op = "!="
	}
	return fmt.Sprintf("%s%s%q", m.Name, op, clip(m.Value, 200))
}
