package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	template "github.com/DataDog/datadog-agent/pkg/template/html"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/planner"
)

//go:embed pages/*.html static/*
var files embed.FS

// policy is the content security policy of every answer.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxForm is the largest form that is read, in bytes.
const maxForm = 256 << 10

// pages are the parsed templates and the assets.
type pages struct {
	each    map[string]*template.Template
	version string
}

// newPages parses what is embedded.
func newPages() (*pages, error) {
	sum := sha256.New()
	if err := fs.WalkDir(files, "static", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := files.ReadFile(path)
		sum.Write(raw)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the assets: %w", err)
	}
	p := &pages{each: map[string]*template.Template{}, version: hex.EncodeToString(sum.Sum(nil))[:12]}
	shared, err := template.New("").Funcs(template.FuncMap{"dict": dict}).ParseFS(files, "pages/layout.html", "pages/part_*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the pages: %w", err)
	}
	names, err := fs.Glob(files, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("list the pages: %w", err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "pages/"), ".html")
		if name == "layout" || strings.HasPrefix(name, "part_") {
			continue
		}
		t, err := shared.Clone()
		if err == nil {
			_, err = t.ParseFS(files, path)
		}
		if err != nil {
			return nil, fmt.Errorf("parse the page %s: %w", name, err)
		}
		p.each[name] = t
	}
	return p, nil
}

// dict gives several values to a template that another one calls.
func dict(kv ...any) (map[string]any, error) {
	if len(kv)%2 != 0 {
		return nil, errors.New("dict takes pairs")
	}
	out := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		k, ok := kv[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: key %v is no string", kv[i])
		}
		out[k] = kv[i+1]
	}
	return out, nil
}

// frame is what every page has around its content.
type frame struct {
	Title   string
	Current string
	Theme   string
	Version string
	// Who is signed in, with their role; Local says that nobody has to.
	Who, Role string
	Local     bool
	Can       can
	Cluster   string
	Mode      string
	Model     string
	Waiting   waiting
	// Note is a sentence on what was just done, Problem on what failed.
	Note    string
	Problem *problem
	// Live is where the page's changes come from; Path is this page.
	Live, Path string
	Body       any
}

// waiting counts the plans that wait for somebody's word.
type waiting struct{ Pending int }

// can says what the role of who looks allows.
type can struct{ Ask, Approve, Admin bool }

// problem is a failure in words for people.
type problem struct {
	Text, Fix string
	Lines     []string
}

// handler serves a request; an error becomes a page with a sentence.
type handler func(w http.ResponseWriter, r *http.Request) error

// page turns a handler into one of net/http.
func (s *Web) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard(w.Header())
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// guard sets the headers that every answer has.
func guard(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// frameOf gives the frame of a page for who asks.
func (s *Web) frameOf(r *http.Request, title, current string) frame {
	f := frame{Title: title, Current: current, Version: s.pages.version, Theme: themeOf(r), Path: r.URL.RequestURI(), Note: notes()[r.URL.Query().Get("note")]}
	id, ok := access.From(r.Context())
	if !ok {
		return f
	}
	f.Who, f.Role, f.Local = clean(id.Person.Name), id.Role.String(), id.Local
	f.Can = may(r.Context())
	if st, err := s.svc.Status(r.Context()); err == nil {
		f.Cluster, f.Mode, f.Model, f.Waiting = clean(st.Cluster), st.Mode, clean(st.Model), waiting{st.Pending}
	} else if r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "the status is not known", "error", err)
	}
	return f
}

// notes are what a page says after a form was taken, by the word in its address.
func notes() map[string]string {
	return map[string]string{
		"asked":     "The question was taken.",
		"cancelled": "The question was taken back.",
		"closed":    "The conversation is closed.",
		"deleted":   "The conversation was deleted.",
		"model":     "The model was switched.",
		"planned":   "The plan was made and filed. Nothing has been changed.",
		"standing":  "A plan of this proposal waits already; no second one was made.",
		"approved":  "Your approval was recorded.",
		"rejected":  "The plan was rejected.",
		"revoked":   "Your approval was taken back.",
		"commented": "Your comment was recorded.",
		"undoing":   "The plan is being taken back.",
	}
}

// show writes a page.
func (s *Web) show(w http.ResponseWriter, r *http.Request, status int, name string, f frame) error {
	var b bytes.Buffer
	t := s.pages.each[name]
	if t == nil {
		return fmt.Errorf("there is no page %q", name)
	}
	if err := t.ExecuteTemplate(&b, "layout", f); err != nil {
		return fmt.Errorf("render the page %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes()) // the browser may be gone; there is nobody else to tell
	}
	return nil
}

// fragment renders a part of a page alone.
func (s *Web) fragment(page, part string, data any) (string, error) {
	var b strings.Builder
	if err := s.pages.each[page].ExecuteTemplate(&b, part, data); err != nil {
		return "", fmt.Errorf("render %s: %w", part, err)
	}
	return b.String(), nil
}

// fail writes a page that says what went wrong. What is not meant for people goes to
// the log under the id that the page names.
func (s *Web) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	status, p := s.explain(r.Context(), err)
	f := s.frameOf(r, http.StatusText(status), "")
	f.Body = errorView{Status: status, Heading: heading(status), Problem: p}
	if err := s.show(w, r, status, "error", f); err != nil {
		access.WriteError(w, r, err)
	}
}

type errorView struct {
	Status  int
	Heading string
	Problem problem
}

func heading(status int) string {
	switch status {
	case http.StatusNotFound:
		return "Not found"
	case http.StatusForbidden:
		return "Not allowed"
	case http.StatusBadRequest:
		return "That cannot be read"
	case http.StatusConflict:
		return "It is no longer so"
	}
	return "Something failed"
}

// refusal is an answer that is no success, given on purpose.
type refusal struct {
	status    int
	text, fix string
}

// Error implements error.
func (e *refusal) Error() string { return e.text }

func refuse(status int, fix, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...), fix: fix}
}

// explain says an error in words for people.
func (s *Web) explain(ctx context.Context, err error) (int, problem) {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e.status, problem{Text: sentence(e.text), Fix: sentence(e.fix)}
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge, problem{Text: fmt.Sprintf("What was sent is larger than the %d bytes that are taken here.", e.Limit)}
	}
	if e, ok := errors.AsType[*planner.NoPlan](err); ok {
		return http.StatusUnprocessableEntity, problem{Text: "No proposal of the diagnosis comes to a plan.", Lines: cleanAll(e.Reasons)}
	}
	if e, ok := errors.AsType[*planner.Withheld](err); ok {
		return http.StatusConflict, problem{Text: sentence(clean(e.Error()))}
	}
	if e, ok := errors.AsType[*planner.Refused](err); ok {
		return http.StatusUnprocessableEntity, problem{Text: sentence(clean(e.Error()))}
	}
	if errors.Is(err, planner.ErrTooMany) {
		return http.StatusTooManyRequests, problem{Text: sentence(clean(err.Error()))}
	}
	if errors.Is(err, store.ErrFull) {
		return http.StatusInsufficientStorage, problem{Text: "The server's store has no room: this was not kept.", Fix: "Somebody who runs the server has to make room; then send it again."}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return http.StatusNotFound, problem{Text: "There is nothing under this address.", Fix: "It may have been deleted."}
	}
	if e, ok := errors.AsType[*tool.Error](err); ok && e.Kind != tool.Internal {
		return access.StatusOf(e.Kind), problem{Text: sentence(clean(e.User)), Fix: sentence(clean(e.Fix))}
	}
	id := access.RequestID(ctx)
	s.log.ErrorContext(ctx, "a page failed", "request", id, "error", err)
	p := problem{Text: "The server failed at this."}
	if id != "" {
		p.Fix = "Its log says more under the request's id " + id + "."
	}
	return http.StatusInternalServerError, p
}

// goTo sends a browser to a page after a form was taken.
func goTo(w http.ResponseWriter, r *http.Request, path, note string) error {
	if note != "" {
		path += "?note=" + url.QueryEscape(note)
	}
	http.Redirect(w, r, path, http.StatusSeeOther)
	return nil
}

func (s *Web) home(w http.ResponseWriter, r *http.Request) error {
	return goTo(w, r, "/sessions", "")
}

// Themes of the pages; "" follows the system.
const themeCookie = "gumshoe_theme"

func themes() []string { return []string{"light", "dark"} }

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && slices.Contains(themes(), c.Value) {
		return c.Value
	}
	return ""
}

// setTheme keeps how pages look in a cookie, and goes back to where the switch was.
func (s *Web) setTheme(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "", "the form cannot be read")
	}
	c := &http.Cookie{Name: themeCookie, Path: "/", SameSite: http.SameSiteLaxMode, HttpOnly: true, Secure: r.TLS != nil, MaxAge: 365 * 24 * 3600}
	if c.Value = r.PostForm.Get("theme"); !slices.Contains(themes(), c.Value) {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
	back := r.PostForm.Get("back")
	if u, err := url.Parse(back); err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.Contains(back, `\`) {
		back = "/sessions"
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}

// static serves an asset. Its address holds the digest of all of them, so a browser
// may keep it.
func (s *Web) static(w http.ResponseWriter, r *http.Request) error {
	types := map[string]string{"style.css": "text/css; charset=utf-8", "gumshoe.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
	name := r.PathValue("name")
	kind, ok := types[name]
	if !ok {
		return refuse(http.StatusNotFound, "", "there is nothing at %s", clean(r.URL.Path))
	}
	raw, err := files.ReadFile("static/" + name)
	if err != nil {
		return err
	}
	if r.PathValue("version") == s.pages.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", kind)
	if r.Method != http.MethodHead {
		_, _ = w.Write(raw)
	}
	return nil
}
