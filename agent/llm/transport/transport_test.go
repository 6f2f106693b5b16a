package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trip answers requests with a function instead of a network.
type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func streamOf(body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body}
}

func request(t *testing.T, ctx context.Context) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model.example/v1/chat/completions", strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func kindOf(err error) llm.ErrorKind {
	if e, ok := errors.AsType[*llm.Error](err); ok {
		return e.Kind
	}
	return ""
}

// slow is a body that gives a piece after each pause; it respects the context.
type slow struct {
	ctx    context.Context
	pieces []string
	pauses []time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.pauses[0]):
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	n := copy(p, s.pieces[0])
	s.pieces, s.pauses = s.pieces[1:], s.pauses[1:]
	return n, nil
}

func (s *slow) Close() error { return nil }

const event = "data: {\"choices\":[]}\n\n"

// TestSilence runs on a clock of its own: minutes pass at once.
func TestSilence(t *testing.T) {
	t.Parallel()
	const keep = ": keep-alive\n\n"
	repeat := func(n int, piece string, pause time.Duration) (p []string, d []time.Duration) {
		for range n {
			p, d = append(p, piece), append(d, pause)
		}
		return p, d
	}
	type pieces struct {
		text  []string
		pause []time.Duration
	}
	of := func(n int, piece string, pause time.Duration) pieces {
		p, d := repeat(n, piece, pause)
		return pieces{p, d}
	}
	join := func(all ...pieces) (out pieces) {
		for _, p := range all {
			out.text, out.pause = append(out.text, p.text...), append(out.pause, p.pause...)
		}
		return out
	}
	tests := map[string]struct {
		in     pieces
		header time.Duration
		kind   llm.ErrorKind
		took   time.Duration
	}{
		"a long healthy stream":              {in: of(600, event, time.Minute), took: 600 * time.Minute},
		"a long first wait":                  {in: of(2, event, 0), header: 9 * time.Minute, took: 9 * time.Minute},
		"no header":                          {header: time.Hour, kind: llm.Idle, took: 10 * time.Minute},
		"header, then a long first wait":     {in: of(1, event, 9*time.Minute), took: 9 * time.Minute},
		"header, then nothing":               {in: of(1, event, time.Hour), kind: llm.Idle, took: 10 * time.Minute},
		"keep-alives before the first event": {in: join(of(9, keep, time.Minute), of(1, event, 0)), took: 9 * time.Minute},
		"keep-alives only":                   {in: of(60, keep, time.Minute), kind: llm.Idle, took: 10 * time.Minute},
		"silence mid-stream":                 {in: join(of(3, event, time.Minute), of(1, event, time.Hour)), kind: llm.Idle, took: 5 * time.Minute},
		"keep-alives mid-stream":             {in: join(of(1, event, 0), of(9, keep, time.Minute), of(1, event, 0)), took: 9 * time.Minute},
		"keep-alives for ever mid-stream":    {in: join(of(1, event, 0), of(60, keep, time.Minute)), kind: llm.Idle, took: 10 * time.Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := New(Options{Base: trip(func(r *http.Request) (*http.Response, error) {
					select {
					case <-time.After(tc.header):
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
					return streamOf(&slow{ctx: r.Context(), pieces: tc.in.text, pauses: tc.in.pause}), nil
				})})
				started := time.Now()
				res, err := d.Do(request(t, t.Context()))
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				if kindOf(err) != tc.kind || (err != nil) != (tc.kind != "") {
					t.Errorf("error %v, want kind %q", err, tc.kind)
				}
				if took := time.Since(started); took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
			})
		})
	}
}

func TestASlowConsumerIsNotASilentServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Base: trip(func(r *http.Request) (*http.Response, error) {
			return streamOf(&slow{ctx: r.Context(), pieces: []string{event, event}, pauses: []time.Duration{0, time.Second}}), nil
		})})
		res, err := d.Do(request(t, t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<10)
		if _, err := res.Body.Read(buf); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // on the bubble's clock
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Errorf("error %v after the consumer's pause", err)
		}
		_ = res.Body.Close()
	})
}

func TestCloseDoesNotWaitForAServerThatGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Base: trip(func(r *http.Request) (*http.Response, error) {
			return streamOf(&slow{ctx: r.Context(), pieces: []string{event + "data: [DONE]\n\n", "x"}, pauses: []time.Duration{0, time.Hour}}), nil
		})})
		started := time.Now()
		res, err := d.Do(request(t, t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if took := time.Since(started); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestRetryPauses(t *testing.T) {
	t.Parallel()
	fails := func(kind llm.ErrorKind, after time.Duration) *llm.Error {
		return &llm.Error{Kind: kind, RetryAfter: after}
	}
	tests := map[string]struct {
		policy      Policy
		errs        []*llm.Error
		tries       int
		least, most time.Duration
		kind        llm.ErrorKind
	}{
		"at once":                  {tries: 1},
		"the server's wish":        {errs: []*llm.Error{fails(llm.RateLimited, 7*time.Second)}, tries: 2, least: 7 * time.Second, most: 7 * time.Second},
		"a wish beyond patience":   {errs: []*llm.Error{fails(llm.RateLimited, time.Minute)}, tries: 1, kind: llm.RateLimited},
		"growing pauses":           {errs: []*llm.Error{fails(llm.Overloaded, 0), fails(llm.Server, 0), fails(llm.Unreachable, 0)}, tries: 4, least: time.Second, most: 4 * time.Second},
		"attempts are bounded":     {errs: []*llm.Error{fails(llm.Server, 0), fails(llm.Server, 0), fails(llm.Server, 0), fails(llm.Overloaded, 0)}, tries: 4, least: time.Second, most: 4 * time.Second, kind: llm.Overloaded},
		"time is bounded":          {policy: Policy{Attempts: 99, Total: 25 * time.Second}, errs: []*llm.Error{fails(llm.RateLimited, 10*time.Second), fails(llm.RateLimited, 10*time.Second), fails(llm.RateLimited, 10*time.Second)}, tries: 3, least: 20 * time.Second, most: 20 * time.Second, kind: llm.RateLimited},
		"one attempt":              {policy: Policy{Attempts: 1}, errs: []*llm.Error{fails(llm.Server, 0)}, tries: 1, kind: llm.Server},
		"what does not mend":       {errs: []*llm.Error{fails(llm.Auth, 0)}, tries: 1, kind: llm.Auth},
		"silence is not repeated":  {errs: []*llm.Error{fails(llm.Idle, 0)}, tries: 1, kind: llm.Idle},
		"an early cut is repeated": {errs: []*llm.Error{fails(llm.Incomplete, 0)}, tries: 2, least: 250 * time.Millisecond, most: time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, told := 0, 0
				tc.policy.Notify = func(err *llm.Error, _ time.Duration) {
					if err.Kind == "" {
						t.Error("told of no error")
					}
					told++
				}
				started := time.Now()
				got, failed := Retry(t.Context(), tc.policy, func() (int, *llm.Error) {
					tries++
					if tries <= len(tc.errs) {
						return 0, tc.errs[tries-1]
					}
					return 42, nil
				})
				took := time.Since(started)
				if tries != tc.tries || told != tc.tries-1 || took < tc.least || took > tc.most {
					t.Errorf("%d tries, told of %d, in %s; want %d in %s to %s", tries, told, took, tc.tries, tc.least, tc.most)
				}
				if (failed != nil) != (tc.kind != "") || (failed != nil && failed.Kind != tc.kind) || (failed == nil && got != 42) {
					t.Errorf("got %d, error %v; want kind %q", got, failed, tc.kind)
				}
			})
		})
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		started := time.Now()
		_, failed := Retry(ctx, Policy{}, func() (int, *llm.Error) {
			return 0, &llm.Error{Kind: llm.RateLimited, RetryAfter: 20 * time.Second}
		})
		if failed.Kind != llm.Cancelled || !errors.Is(failed, context.DeadlineExceeded) || time.Since(started) != time.Second {
			t.Errorf("error %v after %s", failed, time.Since(started))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, tc := range map[string]struct {
		header map[string]string
		want   time.Duration
	}{
		"nothing":             {nil, 0},
		"seconds":             {map[string]string{"Retry-After": "7"}, 7 * time.Second},
		"fraction":            {map[string]string{"Retry-After": " 1.5 "}, 1500 * time.Millisecond},
		"with a unit":         {map[string]string{"Retry-After": "90s"}, 90 * time.Second},
		"milliseconds first":  {map[string]string{"Retry-After": "8", "retry-after-ms": "7500"}, 7500 * time.Millisecond},
		"Azure":               {map[string]string{"x-ms-retry-after-ms": "300"}, 300 * time.Millisecond},
		"date":                {map[string]string{"Retry-After": at(90 * time.Second)}, 90 * time.Second},
		"date, server's time": {map[string]string{"Retry-After": at(time.Hour), "Date": at(time.Hour - time.Minute)}, time.Minute},
		"past date":           {map[string]string{"Retry-After": at(-time.Hour)}, 0},
		"negative":            {map[string]string{"Retry-After": "-5"}, 0},
		"not a number":        {map[string]string{"Retry-After": "NaN"}, 0},
		"nonsense":            {map[string]string{"Retry-After": "soon"}, 0},
		"beyond all reason":   {map[string]string{"Retry-After": "1e300"}, 24 * time.Hour},
		"reset of the tokens": {map[string]string{"X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "6m0s", "X-Ratelimit-Remaining-Requests": "9", "X-Ratelimit-Reset-Requests": "1h"}, 6 * time.Minute},
	} {
		h := http.Header{}
		for k, v := range tc.header {
			h.Set(k, v)
		}
		if got := retryAfter(h, now); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestCleaner(t *testing.T) {
	t.Parallel()
	c := newCleaner([]string{"Gehe+im/123", "", "abc"}, func(s string) string { return strings.ReplaceAll(s, "10.0.0.7", "[host]") })
	for in, want := range map[string]string{
		"key Gehe+im/123 is wrong":                               "key [masked] is wrong",
		"in a URL ?key=Gehe%2Bim%2F123&x":                        "in a URL ?key=[masked]&x",
		"Authorization: Bearer abcdef123456":                     "Authorization: [masked] [masked]",
		"provided: sk-proj-abcdefghijklmnop1234.":                "provided: [masked].",
		"hf_AbCdEf0123456789AbCd and nvapi-0123456789abcdef":     "[masked] and [masked]",
		"skip_prefix_caching hf_transfer_enabled keyvalue_sizes": "skip_prefix_caching hf_transfer_enabled keyvalue_sizes",
		"provided: abcd****wxyz.":                                "provided: [masked].",
		`{"api_key": "hunter2hunter2"}`:                          `{"api_key": "[masked]"}`,
		"http://user:pass@host/v1":                               "http://[masked]host/v1",
		"line\none\r\n\ttwo\x00three \xff":                       "line one two three \uFFFD",
		"host 10.0.0.7":                                          "host [host]",
		"maximum context length is 8192 tokens, abc":             "maximum context length is 8192 tokens, abc",
		"": "",
	} {
		got := c.line(in)
		if strings.HasPrefix(in, "Authorization") {
			if strings.Contains(got, "abcdef123456") {
				t.Errorf("%q gave %q", in, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%q gave %q, want %q", in, got, want)
		}
	}
	if got := c.line(strings.Repeat("ö", 1000)); len(got) > maxLineText+3 || !strings.HasSuffix(got, "ö...") {
		t.Errorf("long text became %d bytes, ending %q", len(got), got[len(got)-8:])
	}
}

func TestNetworkErrors(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports the handshake that the test wants to fail
	srv.StartTLS()
	defer srv.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	}))
	defer plain.Close()
	secret := "geheim1234"
	for name, tc := range map[string]struct {
		url      string
		says     string
		hopeless bool
	}{
		"refused":             {"http://user:" + secret + "@127.0.0.1:1/v1?key=" + secret, "connection refused", false},
		"unknown certificate": {srv.URL, "certificate", true},
		"closed":              {plain.URL, "closed", false},
	} {
		d := New(Options{})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tc.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Do(r)
		d.Close()
		e, ok := errors.AsType[*llm.Error](err)
		if !ok || e.Kind != llm.Unreachable || !strings.Contains(e.Text, tc.says) {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		if s := fmt.Sprintf("%v %+v %v", e, e, e.Err); strings.Contains(s, secret) {
			t.Errorf("%s: the address's secret shows: %s", name, s)
		}
		if worthwhile(e) == tc.hopeless {
			t.Errorf("%s: worth a retry %v, want %v", name, !tc.hopeless, tc.hopeless)
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	var got string
	var header http.Header
	d := New(Options{Base: trip(func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		got, header = string(b), r.Header
		if int64(len(b)) != r.ContentLength {
			t.Errorf("length %d, want %d", r.ContentLength, len(b))
		}
		return streamOf(io.NopCloser(strings.NewReader(event))), err
	})})
	x := &Exchange{Patch: map[string]any{"a": nil, "b": 0, "c": []string{"<x>"}}, NoAuth: true}
	r := request(t, With(t.Context(), x))
	r.Header.Set("Authorization", "Bearer none")
	res, err := d.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if diff := cmp.Diff(`{"b":0,"c":["\u003cx\u003e"]}`, got); diff != "" {
		t.Error(diff)
	}
	if header.Get("Authorization") != "" {
		t.Error("credentials were sent")
	}
	x.Patch = map[string]any{"a": func() {}}
	if _, err := d.Do(request(t, With(t.Context(), x))); kindOf(err) != llm.BadRequest || x.Err == nil {
		t.Errorf("error %v for a field that is no JSON", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	endless := func(contentType, unit string) trip {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(&endlessly{unit: unit})}, nil
		}
	}
	for name, base := range map[string]trip{
		"one line":   endless("text/event-stream", "x"),
		"one event":  endless("text/event-stream", "data: x\n"),
		"many lines": endless("text/event-stream", ":"+strings.Repeat("x", 1<<10)+"\n"),
		"JSON":       endless("application/json", "{"),
	} {
		d := New(Options{Base: base, MaxAnswer: 1 << 20})
		res, err := d.Do(request(t, t.Context()))
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		if kindOf(err) != llm.Server || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

type endlessly struct{ unit, rest string }

func (e *endlessly) Read(p []byte) (int, error) {
	if len(e.rest) < len(p) {
		e.rest += strings.Repeat(e.unit, len(p)/len(e.unit)+1)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}
