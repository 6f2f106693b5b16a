package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// writeTimeout is how long one write to a client of a stream may take where the
// route does not say.
const writeTimeout = 30 * time.Second

// observe gives each request an id, headers that every answer carries, a line in the
// access log, and an answer where the handler panics. Neither the query nor a header
// is logged: both may hold tokens and codes.
func (g *Gate) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := g.now()
		c := &call{id: g.newID(), remote: g.clientIP(r).String(), log: g.log}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		rec := &recorder{ResponseWriter: w}
		secureHeaders(rec.Header(), c.id)
		defer func() {
			if p := recover(); p != nil {
				g.recovered(rec, r, c, p)
			}
			level := slog.LevelInfo
			if c.person.Name == "" && r.Method == http.MethodGet && rec.status < http.StatusBadRequest {
				level = slog.LevelDebug // probes, assets, and what the machine's own user reads
			}
			status := rec.status
			if status == 0 {
				status = http.StatusOK
			}
			attrs := []slog.Attr{
				slog.String("id", c.id), slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("route", c.route),
				slog.Int("status", status), slog.Int64("bytes", rec.bytes), slog.Duration("took", g.now().Sub(began)),
				slog.String("remote", c.remote),
			}
			if c.person.Name != "" {
				attrs = append(attrs, slog.String("person", c.person.Name))
			}
			if c.denied != "" {
				attrs = append(attrs, slog.String("denied", c.denied))
			}
			g.log.LogAttrs(r.Context(), level, "request", attrs...)
		}()
		next.ServeHTTP(rec, r)
	})
}

// recovered answers for a handler that panicked. An answer that had begun is cut off,
// so that the client does not take it for whole.
func (g *Gate) recovered(rec *recorder, r *http.Request, c *call, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		rec.abort()
		return
	}
	g.log.LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("id", c.id), slog.String("route", c.route), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	if rec.status != 0 {
		rec.abort()
		return
	}
	WriteError(rec, r, fmt.Errorf("panic: %v", p))
}

// secureHeaders sets what every answer says to browsers. A handler may set a content
// security policy or a cache rule of its own.
func secureHeaders(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it browsers send forms with the origin "null", which could
	// not be told from a foreign page's.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// begun says whether an answer has begun, under whatever was laid over its recorder.
func begun(w http.ResponseWriter) bool {
	for {
		if rec, ok := w.(*recorder); ok {
			return rec.status != 0
		}
		over, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = over.Unwrap()
	}
}

var (
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if status >= http.StatusOK && w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (w *recorder) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	// A writer that cannot flush sends when the handler ends.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// abort makes every further write fail, which ends the connection or the stream
// without the mark of a whole answer.
func (w *recorder) abort() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
}

// limitBody refuses a body that says it is too large and stops one that grows.
func limitBody(w http.ResponseWriter, r *http.Request, route Route) error {
	limit := route.maxBody()
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return tooLarge(limit)
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
	}
	return nil
}

// stream runs a handler whose answer has no end in sight. The request's deadline
// covers its body, which is therefore read first; after that only single writes have
// one. The context ends when the server drains.
func (g *Gate) stream(w http.ResponseWriter, r *http.Request, route Route) {
	if r.Body != nil && r.Body != http.NoBody {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
				err = &Error{Status: http.StatusBadRequest, User: "the request's body did not arrive whole", Err: err}
			}
			WriteError(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
	}
	rc := http.NewResponseController(w)
	// A writer without deadlines, as tests have, needs none taken off.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if draining, ok := ctx.Value(drainKey{}).(context.Context); ok {
		stop := context.AfterFunc(draining, cancel)
		defer stop()
	}
	timeout := writeTimeout
	if route.WriteTimeout > 0 {
		timeout = route.WriteTimeout
	}
	route.Handler.ServeHTTP(&streamWriter{ResponseWriter: w, rc: rc, timeout: timeout}, r.WithContext(ctx))
}

// streamWriter bounds each write: a client that stopped reading ends its stream.
type streamWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

var (
	_ http.ResponseWriter = (*streamWriter)(nil)
	_ http.Flusher        = (*streamWriter)(nil)
)

// Unwrap lets http.ResponseController reach the connection for what the stream does
// not bound itself.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// bound sets the deadline of one write and gives what takes it off again: over HTTP/2
// a deadline ends an idle stream too.
func (w *streamWriter) bound() func() {
	// Deadlines of connections are of the machine's clock, whatever clock is injected.
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
	return func() { _ = w.rc.SetWriteDeadline(time.Time{}) }
}

func (w *streamWriter) Write(b []byte) (int, error) {
	defer w.bound()()
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *streamWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls; it fails when the client is gone.
func (w *streamWriter) FlushError() error {
	defer w.bound()()
	return w.rc.Flush()
}
