// Package web is the surface for a browser: server-rendered pages of the
// conversations, their investigations, plans and approvals. Everything works without
// JavaScript; one small script adds what changes while a page is open.
//
// Pages show views of what the service says and keep nothing themselves. All text of a
// cluster, a person or a model is data: templates escape it, links lead to pages of
// this server only, and the content security policy lets nothing else be loaded.
package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// Config is the section server.web of the configuration.
type Config struct {
	// Streams is how many live connections of browsers are held at once; the pages of
	// those beyond work and do not move. 0 means 1000.
	Streams int `json:"streams,omitempty"`
	// Listed is how many conversations the first page lists. 0 means 100.
	Listed int `json:"listed,omitempty"`
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.Streams < 0 || c.Streams > 100000 {
		return fmt.Errorf("server.web.streams is %d: write a number from 1 to 100000, or 0 for 1000", c.Streams)
	}
	if c.Listed < 0 || c.Listed > 1000 {
		return fmt.Errorf("server.web.listed is %d: write a number from 1 to 1000, or 0 for 100", c.Listed)
	}
	return nil
}

// Options of the surface.
type Options struct {
	Config  Config
	Service Service
	// Now is the clock, NewKey gives a new idempotency key; both are needed.
	Now    func() time.Time
	NewKey func() string
	// Log takes what failed; nil keeps nothing.
	Log *slog.Logger
}

// Web serves the pages. It is safe for concurrent use.
type Web struct {
	cfg    Config
	svc    Service
	now    func() time.Time
	newKey func() string
	log    *slog.Logger
	pages  *pages
	md     markdown
	hub    *hub
	slots  chan struct{}
	// proposing holds back a second plan of the same proposal while the first is made.
	proposing sync.Mutex
}

// New makes the surface.
func New(o Options) (*Web, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Service == nil || o.Now == nil || o.NewKey == nil {
		return nil, errors.New("web: a service, a clock and a source of keys are needed")
	}
	if o.Config.Streams == 0 {
		o.Config.Streams = 1000
	}
	if o.Config.Listed == 0 {
		o.Config.Listed = 100
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p, err := newPages()
	if err != nil {
		return nil, err
	}
	return &Web{
		cfg: o.Config, svc: o.Service, now: o.Now, newKey: o.NewKey, log: o.Log, pages: p, md: newMarkdown(),
		hub: newHub(o.Service, o.Log), slots: make(chan struct{}, o.Config.Streams),
	}, nil
}

// Routes gives everything that is served, each with the role that it takes.
func (s *Web) Routes() []access.Route {
	get := func(pattern string, h handler) access.Route {
		return access.Route{Method: http.MethodGet, Pattern: pattern, Role: access.Viewer, Handler: s.page(h)}
	}
	post := func(pattern string, role access.Role, h handler) access.Route {
		return access.Route{Method: http.MethodPost, Pattern: pattern, Role: role, Handler: s.page(h), MaxBody: maxForm}
	}
	live := func(pattern string, h handler) access.Route {
		return access.Route{Method: http.MethodGet, Pattern: pattern, Role: access.Viewer, Handler: s.page(h), Stream: true}
	}
	public := func(method, pattern, why string, h handler) access.Route {
		return access.Route{Method: method, Pattern: pattern, Public: true, Why: why, Handler: s.page(h), MaxBody: maxForm}
	}
	return []access.Route{
		get("/{$}", s.home),
		get("/sessions", s.list),
		post("/sessions", access.Asker, s.ask),
		get("/sessions/{id}", s.session),
		post("/sessions/{id}/ask", access.Asker, s.followUp),
		post("/sessions/{id}/cancel", access.Asker, s.cancel),
		post("/sessions/{id}/model", access.Asker, s.setModel),
		post("/sessions/{id}/close", access.Asker, s.closeSession),
		post("/sessions/{id}/delete", access.Admin, s.deleteSession),
		post("/sessions/{id}/plan", access.Asker, s.propose),
		{Method: http.MethodGet, Pattern: "/objects", Role: access.Asker, Handler: s.page(s.objects)},
		get("/outputs/{digest}", s.output),
		get("/approvals", s.approvals),
		get("/plans", s.plans),
		get("/plans/{id}", s.plan),
		post("/plans/{id}/approve", access.Approver, s.approve),
		post("/plans/{id}/reject", access.Approver, s.reject),
		post("/plans/{id}/revoke", access.Approver, s.revoke),
		post("/plans/{id}/comment", access.Asker, s.comment),
		post("/plans/{id}/undo", access.Approver, s.undo),
		post("/plans/{id}/rehearse", access.Asker, s.rehearse),
		get("/audit", s.audit),
		get("/status", s.status),
		live("/live/sessions", s.liveList),
		live("/live/sessions/{id}", s.liveSession),
		live("/live/approvals", s.livePlans),
		live("/live/plans", s.livePlans),
		live("/live/plans/{id}", s.livePlan),
		public(http.MethodPost, "/theme", "it sets how pages look in this browser and nothing else", s.setTheme),
		public(http.MethodGet, "/static/{version}/{name}", "style, script and icon are the same for everybody", s.static),
	}
}
