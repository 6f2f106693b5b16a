package api_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// frames reads events until n came or the stream ended.
func frames(t *testing.T, r io.Reader, n int) []frame {
	t.Helper()
	var out []frame
	f := frame{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for len(out) < n && sc.Scan() {
		name, value, _ := strings.Cut(sc.Text(), ": ")
		switch name {
		case "id":
			f.id = value
		case "event":
			f.name = value
		case "data":
			f.data = value
		case "retry":
			f.retry = value
		case "":
			if f.data != "" {
				out = append(out, f)
				f = frame{retry: f.retry}
			}
		}
	}
	return out
}

type frame struct{ id, name, data, retry string }

func (c *contract) holds(schema string, f frame) {
	c.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(f.data), &v); err != nil {
		c.t.Fatal(err)
	}
	if err := c.doc.Components.Schemas[schema].Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
		c.t.Errorf("an event %s is no %s: %v", f.name, schema, err)
	}
}

func (c *contract) streams(svc stage, run string) {
	vic := c.r.as(c.t, "vic", nil)
	plans, err := vic.Plans(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	i := slices.IndexFunc(plans, func(p planner.Record) bool { return p.Touched() })
	undone := plans[i].Plan.ID
	for range vic.Events(c.t.Context(), undone, 0) { // until it is taken back
	}
	for path, last := range map[string]string{"/api/v1/runs/" + run + "/events": "run.ended", "/api/v1/plans/" + undone + "/events": "plan.released"} {
		all := frames(c.t, bytes.NewReader(c.want(200, "retry: 2000", sent{as: "vic", method: "GET", path: path})), 1<<20)
		n := len(all)
		if n < 4 || all[n-2].name != last || all[n-1].name != "end" || all[0].id != "1" {
			c.t.Fatalf("%s: %d events, the last %v", path, n, all[n-1])
		}
		for _, f := range all[:n-1] {
			c.holds("Event", f)
		}
		c.holds("End", all[n-1])
		// Taken up in the middle, by the header, by the parameter, and behind the end.
		at := all[n/2].id
		for _, s := range []sent{
			{header: map[string]string{"Last-Event-ID": at}}, {path: "?after=" + at},
			{path: "?after=0", header: map[string]string{"Last-Event-ID": at}},
		} {
			s.as, s.method, s.path = "vic", "GET", path+s.path
			if rest := frames(c.t, bytes.NewReader(c.want(200, "", s)), 1<<20); len(rest) != n-n/2-1 || rest[0].id != all[n/2+1].id {
				c.t.Errorf("%s: %d of %d events behind %s", s.path, len(rest), n, at)
			}
		}
		behind := frames(c.t, bytes.NewReader(c.want(200, "", sent{as: "vic", method: "GET", path: path + "?after=" + all[n-2].id})), 1<<20)
		if len(behind) != 1 || behind[0].name != "end" {
			c.t.Errorf("%s: behind the end comes %v", path, behind)
		}
	}
	c.everything()
	c.overload(svc)
}

// everything: the stream of all that changes, from the beginning, from a moment, from a
// place in each subject.
func (c *contract) everything() {
	some := func(method, path, body string, header map[string]string, n int) []frame {
		c.t.Helper()
		ctx, stop := context.WithCancel(c.t.Context())
		defer stop()
		q := c.r.request(c.t, "vic", method, path).WithContext(ctx)
		if body != "" {
			q.Body, q.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			q.Header.Set("Content-Type", "application/json")
		}
		for k, v := range header {
			q.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			c.t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
			c.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		out := frames(c.t, resp.Body, n)
		for _, f := range out {
			c.holds("Notice", f)
		}
		c.seen[map[string]string{"GET": "follow 200", "POST": "followAfter 200"}[method]] = true
		return out
	}
	first := some("GET", "/api/v1/events", "", nil, 10)
	newest := slices.MaxFunc(first, func(a, b frame) int { return cmp.Compare(a.id, b.id) })
	if got := some("GET", "/api/v1/events", "", map[string]string{"Last-Event-ID": newest.id}, 3); len(got) != 3 {
		c.t.Errorf("taken up again: %v", got)
	}
	var n session.Notice
	if err := json.Unmarshal([]byte(newest.data), &n); err != nil {
		c.t.Fatal(err)
	}
	for _, f := range some("GET", "/api/v1/events?since="+n.At.Format(time.RFC3339Nano), "", nil, 1) {
		if f.id < newest.id {
			c.t.Errorf("an older notice: %v", f)
		}
	}
	after := map[string]uint64{}
	for _, f := range first {
		var n session.Notice
		if err := json.Unmarshal([]byte(f.data), &n); err != nil {
			c.t.Fatal(err)
		}
		if n.Session != "" {
			after["session."+n.Session] = max(after["session."+n.Session], n.Seq)
		}
	}
	raw, err := json.Marshal(wire.Follow{After: after})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range some("POST", "/api/v1/events", string(raw), nil, 5) {
		var n session.Notice
		if err := json.Unmarshal([]byte(f.data), &n); err != nil {
			c.t.Fatal(err)
		}
		if n.Session != "" && n.Seq <= after["session."+n.Session] {
			c.t.Errorf("seen already: %v", f)
		}
	}
}

// overload: too many streams, and too many requests.
func (c *contract) overload(svc stage) {
	before := c.r
	defer func() { c.r = before }()
	c.r = server(c.t, svc, api.Config{MaxStreams: 1}, nil)
	q := c.r.request(c.t, "vic", "GET", "/api/v1/events")
	ctx, stop := context.WithCancel(c.t.Context())
	resp, err := http.DefaultClient.Do(q.WithContext(ctx))
	if err != nil {
		c.t.Fatal(err)
	}
	frames(c.t, resp.Body, 1)
	for id, s := range c.every() {
		if op := c.doc.Paths.Find(s.path).GetOperation(s.method); op.Responses.Status(503) != nil {
			c.want(503, "1 event streams", sent{as: "vic", method: s.method, path: s.real(), body: bodyOf(id)})
		}
	}
	stop()
	_ = resp.Body.Close()

	c.r = server(c.t, svc, api.Config{}, func(a *access.Config) { a.Rate = access.RateConfig{PerMinute: 1, Burst: 1} })
	c.loose("GET", "/api/v1/status", "", nil) // bob's one request
	for id, s := range c.every() {
		c.want(429, "too many", sent{as: "bob", method: s.method, path: s.real() + query(id), body: bodyOf(id)})
	}
}
