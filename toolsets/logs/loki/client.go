// Package loki reads Loki, a store of logs, over its HTTP API (version 1): lines of
// containers that the cluster no longer keeps, searches across pods, label names
// and values. Queries are bounded in time, lines and bytes. It only reads.
package loki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Endpoint is where Loki is reached.
type Endpoint struct {
	// URL is the base of the API, before /loki/api/v1. Empty means that there is none.
	URL string
	// Client reaches it and carries the credentials; nil means a plain one.
	Client *http.Client
	// Origin says how it came to be known: "configured", "service logging/loki-gateway".
	Origin string
}

// ClientConfig says where logs are read.
type ClientConfig struct {
	Endpoint Endpoint
	// Discover looks for a Loki when none is configured; it gives an empty Endpoint
	// when there is none. Nil: only Endpoint.
	Discover func(ctx context.Context) (Endpoint, error)
	// Tenant is sent as X-Scope-OrgID when it is not empty.
	Tenant string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	maxAnswer  = 32 << 20 // bytes of one answer
	maxLines   = 5000     // Loki's own default of max_entries_limit_per_query
	maxSpan    = 30 * 24 * time.Hour
	timeout    = 30 * time.Second
	maxLine    = 8 << 10 // bytes of one line that are kept
	maxQuery   = 4 << 10
	discovered = 5 * time.Minute // how long a discovery is reused
)

// Client reads one Loki. It is safe for concurrent use.
type Client struct {
	c ClientConfig

	found *tool.Kept[Endpoint]
	names *tool.Kept[labelNames]
}

// NewClient makes a client. It talks to nothing.
func NewClient(c ClientConfig) *Client {
	if c.Now == nil {
		c.Now = time.Now
	}
	known := tool.Keep{Now: c.Now, For: discovered}
	// That none was found is not looked up again for every call.
	known.Failed = func(error) time.Duration { return discovered }
	return &Client{c: c, found: tool.NewKept[Endpoint](known), names: tool.NewKept[labelNames](tool.Keep{Now: c.Now, For: discovered})}
}

// endpoint gives the configured server or the one that discovery finds; one
// discovery serves all callers for a while. Where a server is holds for a fresh look
// too (what it says is read anew), that none was found does not.
func (c *Client) endpoint(ctx context.Context) (Endpoint, error) {
	if c.c.Endpoint.URL != "" {
		return c.c.Endpoint, nil
	}
	if c.c.Discover == nil {
		return Endpoint{}, absent()
	}
	if ep, ok := c.found.Peek(tool.FreshFrom(ctx, time.Time{}), ""); ok {
		return ep, nil
	}
	return c.found.Get(ctx, "", func(ctx context.Context) (Endpoint, error) {
		ep, err := c.c.Discover(ctx)
		if err == nil && ep.URL == "" {
			err = absent()
		}
		return ep, err
	})
}

func absent() error {
	return &tool.Error{Kind: tool.NotServed, User: "no Loki is configured and none was found among the cluster's Services", Fix: "set loki.url in the configuration"}
}

// Entry is one line.
type Entry struct {
	At   time.Time
	Line string
}

// Stream is the lines of one set of labels, in the order that was asked for.
type Stream struct {
	Labels  map[string]string
	Entries []Entry
}

// Point is one value of a metric query.
type Point struct {
	At    time.Time
	Value string
}

// Series is one result of a metric query.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Answer is what a range query gave: streams of lines, or series.
type Answer struct {
	Streams []Stream
	Series  []Series
	// Lines counts the lines; Full says that as many came as were asked for, so that
	// there may be more.
	Lines int
	Full  bool
}

// Query is a range query.
type Query struct {
	LogQL    string
	From, To time.Time
	Limit    int
	// Forward gives the oldest lines first; otherwise the newest come.
	Forward bool
}

// Range runs a LogQL query over a range of time. Errors are tool.Errors.
func (c *Client) Range(ctx context.Context, q Query) (Answer, error) {
	switch {
	case strings.TrimSpace(q.LogQL) == "":
		return Answer{}, &tool.Error{Kind: tool.Invalid, User: "the query is empty", Fix: `give LogQL such as {namespace="train"} |= "error"`}
	case len(q.LogQL) > maxQuery:
		return Answer{}, tool.Errorf(tool.Invalid, "the query has %d bytes, more than %d", len(q.LogQL), maxQuery)
	case !q.To.After(q.From):
		return Answer{}, tool.Errorf(tool.Invalid, "the range ends at %s, not after its begin %s", q.To.Format(time.RFC3339), q.From.Format(time.RFC3339))
	case q.To.Sub(q.From) > maxSpan:
		return Answer{}, tool.Errorf(tool.Invalid, "the range of %s is longer than %s", q.To.Sub(q.From), maxSpan)
	}
	limit := q.Limit
	if limit <= 0 || limit > maxLines {
		limit = maxLines
	}
	v := url.Values{"query": {q.LogQL}, "start": {nano(q.From)}, "end": {nano(q.To)}, "limit": {strconv.Itoa(limit)}, "direction": {"backward"}}
	if q.Forward {
		v.Set("direction", "forward")
	}
	// About a hundred points of a metric query.
	v.Set("step", strconv.Itoa(max(1, int(q.To.Sub(q.From).Seconds())/100)))
	raw, err := c.get(ctx, "/loki/api/v1/query_range", v)
	if err != nil {
		return Answer{}, err
	}
	a, err := decode(raw)
	if err != nil {
		return Answer{}, &tool.Error{Kind: tool.Unreachable, User: "Loki's answer cannot be read: " + err.Error(), Err: err}
	}
	a.Full = a.Lines >= limit
	return a, nil
}

// Labels lists the names of labels in a range of time.
func (c *Client) Labels(ctx context.Context, from, to time.Time) ([]string, error) {
	return c.list(ctx, "/loki/api/v1/labels", url.Values{"start": {nano(from)}, "end": {nano(to)}})
}

// Values lists the values of a label; match narrows by a stream selector and may be empty.
func (c *Client) Values(ctx context.Context, name, match string, from, to time.Time) ([]string, error) {
	if !plainLabel(name) {
		return nil, tool.Errorf(tool.Invalid, "%q is no name of a label", name)
	}
	v := url.Values{"start": {nano(from)}, "end": {nano(to)}}
	if match != "" {
		v.Set("query", match)
	}
	return c.list(ctx, "/loki/api/v1/label/"+name+"/values", v)
}

func (c *Client) list(ctx context.Context, path string, v url.Values) ([]string, error) {
	raw, err := c.get(ctx, path, v)
	if err != nil {
		return nil, err
	}
	var a struct {
		Status string   `json:"status"`
		Data   []string `json:"data"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "Loki's answer is no JSON of its API: " + err.Error(), Err: err}
	}
	if a.Status != "success" && a.Status != "" {
		return nil, tool.Errorf(tool.Internal, "Loki answers with status %q", clip(a.Status, 60))
	}
	slices.Sort(a.Data)
	return a.Data, nil
}

// plainLabel holds a name against what Prometheus and Loki allow.
func plainLabel(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func nano(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// get asks the server once; the answer is bounded in time and size.
func (c *Client) get(ctx context.Context, path string, v url.Values) ([]byte, error) {
	ep, err := c.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(ep.URL, "/")+path+"?"+v.Encode(), nil)
	if err != nil {
		return nil, tool.Errorf(tool.Invalid, "loki.url: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	if c.c.Tenant != "" {
		r.Header.Set("X-Scope-OrgID", c.c.Tenant)
	}
	client := ep.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, unreachable(ep, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, unreachable(ep, fmt.Errorf("the answer is cut off: %w", err))
	case len(body) > maxAnswer:
		return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("Loki's answer has more than %d MiB", maxAnswer>>20), Fix: "narrow the query or its time"}
	case resp.StatusCode/100 != 2:
		return nil, refused(ep, resp.StatusCode, body)
	case bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return nil, &tool.Error{Kind: tool.Unreachable, User: ep.Origin + " answers with a web page, not with Loki's API", Fix: "check loki.url"}
	}
	return body, nil
}

func unreachable(ep Endpoint, err error) error {
	kind := tool.Unreachable
	if errors.Is(err, context.DeadlineExceeded) {
		kind = tool.TimedOut
	}
	// The URL of the request is long and says nothing new.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &tool.Error{Kind: kind, User: fmt.Sprintf("Loki (%s) does not answer: %v", ep.Origin, err), Fix: "check loki.url and the network", Err: err}
}

// refused words an error answer. Loki's errors are plain text; gateways add pages.
func refused(ep Endpoint, code int, body []byte) error {
	text := strings.TrimSpace(string(body[:min(len(body), 300)]))
	var api struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(body, &api) == nil && api.Message+api.Error != "" {
		text = clip(api.Message+api.Error, 300)
	}
	if strings.HasPrefix(text, "<") {
		text = http.StatusText(code)
	}
	e := &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("Loki (%s) answers HTTP %d: %s", ep.Origin, code, text)}
	switch {
	case strings.Contains(text, "no org id"):
		e.Kind, e.Fix = tool.Forbidden, "set loki.tenant in the configuration"
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		e.Kind, e.Fix = tool.Forbidden, "give credentials in the loki section, or the right to reach services/proxy"
	case code == http.StatusBadRequest:
		e.Kind, e.Fix = tool.Invalid, "correct the LogQL"
	case code == http.StatusNotFound:
		e.Kind, e.Fix = tool.NotServed, "check that loki.url is the base of a Loki, without /loki/api/v1"
	case code == http.StatusTooManyRequests || code == http.StatusGatewayTimeout:
		e.Kind, e.Fix = tool.TimedOut, "ask for a shorter time or fewer streams"
	}
	return e
}

// decode reads a range query's answer.
func decode(raw []byte) (Answer, error) {
	var a struct {
		Status string `json:"status"`
		Data   struct {
			ResultType string            `json:"resultType"`
			Result     []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return Answer{}, err
	}
	var out Answer
	for _, r := range a.Data.Result {
		switch a.Data.ResultType {
		case "streams":
			var s struct {
				Stream map[string]string   `json:"stream"`
				Values [][]json.RawMessage `json:"values"`
			}
			if err := json.Unmarshal(r, &s); err != nil {
				return Answer{}, fmt.Errorf("a stream: %w", err)
			}
			one := Stream{Labels: s.Stream}
			for _, v := range s.Values {
				e, err := entry(v)
				if err != nil {
					return Answer{}, err
				}
				one.Entries = append(one.Entries, e)
				out.Lines++
			}
			out.Streams = append(out.Streams, one)
		case "matrix":
			var m struct {
				Metric map[string]string    `json:"metric"`
				Values [][2]json.RawMessage `json:"values"`
			}
			if err := json.Unmarshal(r, &m); err != nil {
				return Answer{}, fmt.Errorf("a series: %w", err)
			}
			one := Series{Labels: m.Metric}
			for _, v := range m.Values {
				var sec float64
				var value string
				if err := errors.Join(json.Unmarshal(v[0], &sec), json.Unmarshal(v[1], &value)); err != nil {
					return Answer{}, fmt.Errorf("a point: %w", err)
				}
				one.Points = append(one.Points, Point{At: time.UnixMilli(int64(sec * 1000)).UTC(), Value: value})
			}
			out.Series = append(out.Series, one)
		default:
			return Answer{}, fmt.Errorf("result type %q is neither streams nor matrix", clip(a.Data.ResultType, 40))
		}
	}
	return out, nil
}

// entry reads [time in nanoseconds as text, line, structured metadata if any].
func entry(v []json.RawMessage) (Entry, error) {
	if len(v) < 2 {
		return Entry{}, fmt.Errorf("a line has %d fields, not 2", len(v))
	}
	var ns, line string
	if err := errors.Join(json.Unmarshal(v[0], &ns), json.Unmarshal(v[1], &line)); err != nil {
		return Entry{}, fmt.Errorf("a line: %w", err)
	}
	n, err := strconv.ParseInt(ns, 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("the time %q of a line is no number of nanoseconds", clip(ns, 40))
	}
	return Entry{At: time.Unix(0, n).UTC(), Line: clip(line, maxLine)}, nil
}
