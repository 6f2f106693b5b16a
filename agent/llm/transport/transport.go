// Package transport is the HTTP client under the adapters for servers that
// speak the chat-completions protocol. The SDKs above it lose headers, print
// whole bodies, take a cut stream for a whole one and send what they like;
// this package sees the wire, so it classifies, redacts, watches and repairs
// there:
//
//   - every failure is an *llm.Error, also one that comes in the middle of a
//     stream or with status 200;
//   - a stream that falls silent ends after a while, a healthy one never does,
//     however long it takes;
//   - redirects are not followed, so that a key never goes to another host;
//   - the stream handed to the SDK holds JSON payloads only, one a line.
//
// It opens no connection but to the server that it is asked for (and the proxy
// of the environment, if there is one).
package transport

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

const (
	// maxErrorBody bounds how much of a failed answer is read.
	maxErrorBody = 64 << 10
	// maxAnswer is the usual bound of an answer.
	maxAnswer = 64 << 20
)

// Options of a Doer. The zero value works.
type Options struct {
	// Base carries the requests; nil means an own HTTP transport.
	Base http.RoundTripper
	// Wait is the longest time until the first event, and between two events
	// when only keep-alives come; 0 means 10 minutes. Long prompts on a busy
	// server take minutes before the first token.
	Wait time.Duration
	// Idle is the longest silence after the first event; 0 means 2 minutes.
	Idle time.Duration
	// MaxAnswer bounds a whole answer in bytes, streamed or not, so that a broken
	// or hostile server cannot fill the memory; a quarter of it bounds one event.
	// 0 means 64 MiB.
	MaxAnswer int
	// Secrets are masked wherever text of the server is shown.
	Secrets []string
	// Redact masks more; it may be nil.
	Redact func(string) string
	// Now is the clock for dates in Retry-After; nil means time.Now.
	Now func() time.Time
}

// Doer performs requests for an SDK. It is safe for concurrent use.
type Doer struct {
	client     *http.Client
	wait, idle time.Duration
	limit      int
	clean      cleaner
	now        func() time.Time
}

// New makes a Doer.
func New(o Options) *Doer {
	base := o.Base
	if base == nil {
		base = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
			MaxIdleConns:          4,
			IdleConnTimeout:       time.Minute,
		}
	}
	d := &Doer{
		// No Timeout: it would cut healthy streams at a round deadline.
		client: &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		wait: o.Wait, idle: o.Idle, limit: o.MaxAnswer, now: o.Now,
		clean: newCleaner(o.Secrets, o.Redact),
	}
	if d.wait <= 0 {
		d.wait = 10 * time.Minute
	}
	if d.idle <= 0 {
		d.idle = 2 * time.Minute
	}
	if d.limit <= 0 {
		d.limit = maxAnswer
	}
	if d.now == nil {
		d.now = time.Now
	}
	return d
}

// Close ends idle connections.
func (d *Doer) Close() { d.client.CloseIdleConnections() }

// Exchange travels with a request's context past the SDK: what the SDK cannot
// send goes down in it, what the SDK would lose comes back. It serves one
// request at a time.
type Exchange struct {
	// Patch sets top-level fields of the request body; a nil value removes one.
	Patch map[string]any
	// Shape changes the fields of the request body after Patch; nil changes nothing.
	Shape func(fields map[string]json.RawMessage) error
	// Answer is the field that a whole answer must have; empty means choices.
	Answer string
	// NoAuth removes the credentials that an SDK sends although there are none.
	NoAuth bool
	// Repair may change a whole (not streamed) answer before the SDK sees it.
	Repair func(body []byte) []byte
	// Err is the failure, classified; nil if there was none.
	Err *llm.Error
	// Done says that the server marked the end of its stream.
	Done bool

	watch *watch
}

// endTime is how long token counts and end mark may take after the finish
// reason. Some servers send neither and leave the connection open.
const endTime = 5 * time.Second

// Ending says that the answer is whole, and what is still to come is not worth
// the usual patience.
func (x *Exchange) Ending() {
	if x.watch != nil {
		x.watch.wait, x.watch.idle = min(x.watch.wait, endTime), min(x.watch.idle, endTime)
	}
}

type exchangeKey struct{}

// With gives a context that carries an exchange.
func With(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// Do sends a request. Its error is always an *llm.Error; a response always has
// a 2xx status and a body whose Read also fails with an *llm.Error only.
func (d *Doer) Do(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*Exchange)
	if !ok {
		x = &Exchange{}
	}
	x.Err, x.Done = nil, false
	res, err := d.do(req, x)
	if err != nil {
		x.Err = err
		return nil, err
	}
	return res, nil
}

func (d *Doer) do(req *http.Request, x *Exchange) (*http.Response, *llm.Error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := newWatch(d.wait, d.idle, cancel)
	x.watch = w
	out, err := patch(req.WithContext(ctx), x)
	if err != nil {
		cancel(nil)
		return nil, &llm.Error{Kind: llm.BadRequest, Text: d.clean.line(err.Error()), Err: err}
	}
	w.arm()
	res, err := d.client.Do(out)
	w.rest()
	if err != nil {
		defer cancel(nil)
		return nil, d.network(req, ctx, err, llm.Unreachable)
	}
	body := &watched{body: res.Body, watch: w, fail: func(err error) error {
		e := d.network(req, ctx, err, llm.Incomplete)
		x.Err = e
		return e
	}}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer cancel(nil)
		defer res.Body.Close()
		return nil, d.refused(req, res, body)
	}
	answer, failed := d.answer(req, res, body, x)
	if failed != nil {
		_ = res.Body.Close()
		cancel(nil)
		return nil, failed
	}
	res.Body = &closing{Reader: answer, body: res.Body, watch: w, events: answer, end: cancel}
	res.ContentLength = -1
	return res, nil
}

// answer looks at how a successful response begins and gives the reader that
// the SDK gets.
func (d *Doer) answer(req *http.Request, res *http.Response, body *watched, x *Exchange) (*events, *llm.Error) {
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	in := bufio.NewReaderSize(body, 32<<10)
	streams := media == "text/event-stream"
	if !streams {
		first, err := firstByte(in)
		switch {
		case errors.Is(err, io.EOF):
			return nil, d.because(llm.Incomplete, req, res.StatusCode, "an empty answer came")
		case err != nil:
			return nil, asError(err)
		case first == '<':
			return nil, d.because(llm.NotAModel, req, res.StatusCode, "a web page came instead of an answer")
		case first != '{' && first != '[':
			streams = true
		}
	}
	e := &events{in: in, limit: d.limit, exchange: x, fail: func(kind llm.ErrorKind, text string) *llm.Error {
		return d.because(kind, req, res.StatusCode, text)
	}, failure: func(payload []byte, named bool) *llm.Error {
		return d.midStream(req, payload, named)
	}, seen: body.watch.event}
	if streams {
		return e, nil
	}
	whole, failed := d.whole(req, res, in, x)
	if failed != nil {
		return nil, failed
	}
	if x.Repair != nil {
		whole = x.Repair(whole)
	}
	e.done = true
	e.pending = whole
	if strings.Contains(req.Header.Get("Accept"), "text/event-stream") {
		// The server does not stream; its answer is the only event.
		e.pending = append(append([]byte("data: "), whole...), "\n\ndata: [DONE]\n\n"...)
	}
	return e, nil
}

// whole reads an answer that is one JSON document, and gives it on one line.
func (d *Doer) whole(req *http.Request, res *http.Response, in io.Reader, x *Exchange) ([]byte, *llm.Error) {
	body, err := io.ReadAll(io.LimitReader(in, int64(d.limit)+1))
	if err != nil {
		return nil, asError(err)
	}
	if len(body) > d.limit {
		return nil, d.because(llm.Server, req, res.StatusCode, fmt.Sprintf("the answer is larger than %d bytes", d.limit))
	}
	var line bytes.Buffer
	if err := json.Compact(&line, body); err != nil {
		return nil, d.because(llm.Incomplete, req, res.StatusCode, "the answer is not whole JSON: "+err.Error())
	}
	if e := d.midStream(req, line.Bytes(), false); e != nil {
		return nil, e
	}
	field := cmp.Or(x.Answer, "choices")
	var shape map[string]json.RawMessage
	if err := json.Unmarshal(line.Bytes(), &shape); err != nil || len(shape[field]) == 0 {
		return nil, d.because(llm.NotAModel, req, res.StatusCode, "the answer is JSON without "+field)
	}
	return dropNullError(line.Bytes()), nil
}

// firstByte looks at the first byte that is not white space.
func firstByte(in *bufio.Reader) (byte, error) {
	for {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		if b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == 0xEF || b == 0xBB || b == 0xBF {
			continue
		}
		return b, in.UnreadByte()
	}
}

// patch applies the exchange to the request.
func patch(req *http.Request, x *Exchange) (*http.Request, error) {
	if x.NoAuth {
		req.Header = req.Header.Clone()
		req.Header.Del("Authorization")
		req.Header.Del("Api-Key")
		req.Header.Del("X-Api-Key")
	}
	if len(x.Patch) == 0 && x.Shape == nil || req.Body == nil {
		return req, nil
	}
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("the request is no JSON object: %w", err)
	}
	for name, value := range x.Patch {
		if value == nil {
			delete(fields, name)
			continue
		}
		if fields[name], err = json.Marshal(value); err != nil {
			return nil, fmt.Errorf("request field %q: %w", name, err)
		}
	}
	if x.Shape != nil {
		if err := x.Shape(fields); err != nil {
			return nil, err
		}
	}
	if body, err = json.Marshal(fields); err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.ContentLength = int64(len(body))
	return req, nil
}

func asError(err error) *llm.Error {
	if e, ok := errors.AsType[*llm.Error](err); ok {
		return e
	}
	return &llm.Error{Kind: llm.Incomplete, Text: err.Error(), Err: err}
}
