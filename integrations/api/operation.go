package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// operation is one route with everything that the document says of it.
type operation struct {
	method, path string
	role         access.Role
	// id names the operation in the document; tag groups it.
	id, tag, summary string
	// detail is more for the document, sentences.
	detail string
	params []param
	// in is the type of the request's document, nil for none; optional says that the
	// body may be missing.
	in       reflect.Type
	optional bool
	// out is the type of the answer's document; media says its content type where it
	// is none, and status the one of success.
	out    reflect.Type
	media  []string
	status int
	// also are statuses that not every operation has.
	also    []int
	stream  bool
	maxBody int64
	handle  func(c *call) error
}

// param is a query parameter or a header.
type param struct {
	name string
	// header, else query.
	header bool
	kind   paramKind
	about  string
	enum   []string
	// min and max bound a number; max is also the longest text in characters.
	min, max int
}

type paramKind int

const (
	text paramKind = iota
	number
	boolean
	moment
)

// maxText is the longest value of a parameter that names no other, in characters.
const maxText = 500

func queryText(name, about string, enum ...string) param {
	return param{name: name, about: about, enum: enum, max: maxText}
}

func queryNumber(name string, upTo int, about string) param {
	return param{name: name, kind: number, about: about, min: 1, max: upTo}
}

// call is a request on its way through an operation.
type call struct {
	api *API
	op  *operation
	w   http.ResponseWriter
	r   *http.Request
	// given are the parameters of the query and the headers that the operation knows.
	given map[string]string
	// by is who asks, as the gate knows them.
	by incident.Person
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) number(name string, missing int) int {
	n, err := strconv.Atoi(c.given[name])
	if err != nil {
		return missing
	}
	return n
}

// handler checks what all operations check, and says what went wrong.
func (a *API) handler(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{api: a, op: &op, w: w, r: r, given: map[string]string{}}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := c.run(); err != nil {
			access.WriteError(w, r, answer(err))
		}
	})
}

func (c *call) run() error {
	id, ok := access.From(c.ctx())
	if !ok {
		return &access.Error{Status: http.StatusUnauthorized, User: "nobody is known to ask this"}
	}
	c.by = id.Person
	c.by.Surface = "api"
	if err := c.parameters(); err != nil {
		return err
	}
	if c.op.in == nil {
		if err := c.noBody(); err != nil {
			return err
		}
	}
	return c.op.handle(c)
}

// invalid refuses a field of a request.
func invalid(field, value, why, fix string) error {
	user := field + ": " + why
	if value != "" {
		user = fmt.Sprintf("%s %s: %s", field, quoted(value), why)
	}
	return &tool.Error{Kind: tool.Invalid, User: user, Fix: fix}
}

// quoted shows a value that somebody sent, cut where it is long.
func quoted(s string) string {
	const shown = 60
	if utf8.RuneCountInString(s) > shown {
		s = string([]rune(s)[:shown]) + "..."
	}
	return strconv.Quote(s)
}

func (c *call) parameters() error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return invalid("the query", "", err.Error(), "escape what is no letter or digit with %")
	}
	var known []string
	for _, p := range c.op.params {
		if p.header {
			if v := c.r.Header.Values(p.name); len(v) > 0 {
				if err := c.take(p, v); err != nil {
					return err
				}
			}
			continue
		}
		known = append(known, p.name)
		if v, ok := values[p.name]; ok {
			if err := c.take(p, v); err != nil {
				return err
			}
		}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			fix := "this path takes no parameters"
			if len(known) > 0 {
				fix = "it takes " + strings.Join(known, ", ")
			}
			return invalid("the parameter", name, "it is not known here", fix)
		}
	}
	if c.r.Header.Get(idempotency.name) != "" && !slices.ContainsFunc(c.op.params, func(p param) bool { return p.name == idempotency.name }) && c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return invalid("the header "+idempotency.name, "", "only questions are made idempotent by a key", "leave it out; read before you repeat this request")
	}
	return nil
}

func (c *call) take(p param, values []string) error {
	where := "the parameter " + p.name
	if p.header {
		where = "the header " + p.name
	}
	if len(values) > 1 {
		return invalid(where, "", fmt.Sprintf("it is given %d times", len(values)), "give it once")
	}
	v := values[0]
	switch {
	case !utf8.ValidString(v):
		return invalid(where, v, "it is no UTF-8", "encode the text as UTF-8")
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return invalid(where, v, "it holds control characters", "leave them out")
	case len(p.enum) > 0 && !slices.Contains(p.enum, v):
		return invalid(where, v, "it is none of "+strings.Join(p.enum, ", "), "")
	}
	switch p.kind {
	case number:
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil || n < uint64(p.min) || p.max > 0 && n > uint64(p.max) {
			why := "it is no whole number from 0 on"
			if p.max > 0 {
				why = fmt.Sprintf("it is no whole number from %d to %d", p.min, p.max)
			}
			return invalid(where, v, why, "")
		}
	case boolean:
		if v != "true" && v != "false" {
			return invalid(where, v, "it is neither true nor false", "")
		}
	case moment:
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			return invalid(where, v, "it is no time of RFC 3339", "write it as 2026-01-31T08:00:00Z")
		}
	case text:
		if p.max > 0 && utf8.RuneCountInString(v) > p.max {
			return invalid(where, v, fmt.Sprintf("it has more than %d characters", p.max), "")
		}
	}
	c.given[p.name] = v
	return nil
}

// ids are how the ids of things begin.
const (
	sessionID = "s-"
	runID     = "run-"
	planID    = "plan-"
)

// pathID gives an id of the path that begins with one of the words.
func (c *call) pathID(name, what string, begins ...string) (string, error) {
	id := c.r.PathValue(name)
	ok := slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(id, b) || b == sessionID && id == "latest" })
	if !ok || strings.Contains(id, ".") || store.CheckSubject(id) != nil {
		return "", invalid("the id", id, "it is no id of "+what, "ids begin with "+strings.Join(begins, " or "))
	}
	return id, nil
}

// answer turns errors of the rooms below into what a caller may branch on.
func answer(err error) error {
	conflict := func(code string) error {
		return &access.Error{Status: http.StatusConflict, Code: code, User: err.Error(), Err: err}
	}
	if _, ok := errors.AsType[*access.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*tool.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*planner.Withheld](err); ok {
		return conflict("withheld")
	}
	if _, ok := errors.AsType[*planner.Drift](err); ok {
		return conflict("drift")
	}
	if _, ok := errors.AsType[*store.ConflictError](err); ok {
		return &access.Error{Status: http.StatusConflict, Code: "conflict", User: "somebody changed this in the same moment", Fix: "look at it again", Err: err}
	}
	for _, unfit := range []func() bool{
		func() bool { _, ok := errors.AsType[*planner.Missing](err); return ok },
		func() bool { _, ok := errors.AsType[*planner.Refused](err); return ok },
		func() bool { _, ok := errors.AsType[*planner.NoPlan](err); return ok },
	} {
		if unfit() {
			return &access.Error{Status: http.StatusUnprocessableEntity, Code: "no_plan", User: err.Error(), Err: err}
		}
	}
	switch {
	case errors.Is(err, planner.ErrTooMany):
		return conflict("too_many_plans")
	case errors.Is(err, store.ErrNotFound):
		return &tool.Error{Kind: tool.NotFound, User: err.Error(), Err: err}
	case errors.Is(err, store.ErrInvalid):
		return &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	case errors.Is(err, store.ErrFull):
		return &access.Error{Status: http.StatusInsufficientStorage, Code: "no_room", User: "the server's store has no room: this was not kept", Fix: "somebody who runs the server has to make room; then send it again", Err: err}
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrBusy):
		return &access.Error{Status: http.StatusServiceUnavailable, User: "the journal cannot be used at the moment", Fix: "try again", RetryAfter: time.Second, Err: err}
	case errors.Is(err, context.Canceled):
		return &access.Error{Status: http.StatusServiceUnavailable, User: "the request was broken off", Fix: "try again", Err: err}
	}
	return err
}

// json answers with a document. One that is read has an ETag, and is not sent to
// somebody who has it.
func (c *call) json(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	return c.bytes("application/json", append(raw, '\n'))
}

func (c *call) bytes(media string, raw []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "private, no-cache")
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		sum := sha256.Sum256(raw)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		h.Set("ETag", tag)
		if matches(c.r.Header.Values("If-None-Match"), tag) {
			h.Del("Content-Type")
			c.w.WriteHeader(http.StatusNotModified)
			return nil
		}
	} else {
		h.Set("Cache-Control", "no-store")
	}
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	c.w.WriteHeader(c.op.status)
	// The client may be gone; there is nobody else to tell.
	_, _ = c.w.Write(raw)
	return nil
}

// matches reports whether a tag is among those of If-None-Match.
func matches(headers []string, tag string) bool {
	for t := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
			return true
		}
	}
	return false
}
