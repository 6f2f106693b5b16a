package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// signed is why the routes are public.
const signed = "Slack signs every request with the app's secret; the signature is checked before the body is read"

// perMinute is how many requests Slack may send in a minute: a busy workspace sends
// one for every message of the channels that the app is in.
const perMinute = 6000

// Routes gives the routes that Slack calls in mode http; none in mode socket.
func (s *Surface) Routes() []access.Route {
	if s.cfg.Mode != ModeHTTP {
		return nil
	}
	route := func(pattern string, h func(http.ResponseWriter, *http.Request, []byte)) access.Route {
		return access.Route{Method: http.MethodPost, Pattern: pattern, Handler: s.verified(h), Public: true, Why: signed, MaxBody: maxEnvelope, PerMinute: perMinute}
	}
	return []access.Route{
		route("/slack/events", s.events),
		route("/slack/interactive", s.interactive),
		route("/slack/commands", s.commands),
	}
}

// verified hands on what carries Slack's signature of the last five minutes. A
// request that is sent again within them is found in the journal by its key.
func (s *Surface) verified(next func(http.ResponseWriter, *http.Request, []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEnvelope))
		if err != nil {
			code := http.StatusBadRequest
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				code = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "the body cannot be read", code)
			return
		}
		secret, err := readSecret("signingSecretFile", s.cfg.SigningSecretFile)
		if err != nil {
			s.ill("token", err.Error())
			http.Error(w, "the signature cannot be checked", http.StatusServiceUnavailable)
			return
		}
		v, err := slack.NewSecretsVerifier(r.Header, secret)
		if err == nil {
			if _, err = v.Write(body); err == nil {
				err = v.Ensure()
			}
		}
		if err != nil {
			s.log.Warn("slack: a request is refused", "path", r.URL.Path, "error", err)
			http.Error(w, "the request does not carry Slack's signature of the last five minutes", http.StatusUnauthorized)
			return
		}
		next(w, r, body)
	})
}

// kept answers Slack: 200 once what came is in the journal, 503 so that it comes
// again where it is not.
func (s *Surface) kept(w http.ResponseWriter, r *http.Request, data any) {
	in, meant, err := s.read(r.Context(), data)
	if err == nil && meant {
		err = s.take(r.Context(), in)
	}
	if err == nil {
		err = s.boundary("ack")
	}
	if err != nil {
		s.ill("journal", "what Slack sends cannot be kept: "+err.Error())
		http.Error(w, "not kept, send it again", http.StatusServiceUnavailable)
		return
	}
	s.ill("journal", "")
	w.WriteHeader(http.StatusOK)
}

// unread answers a body that cannot be read: coming again does not mend it.
func (s *Surface) unread(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Warn("slack: a request cannot be read", "path", r.URL.Path, "error", err)
	http.Error(w, "the body cannot be read", http.StatusBadRequest)
}

func (s *Surface) events(w http.ResponseWriter, r *http.Request, body []byte) {
	var check struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(body, &check); err != nil {
		s.unread(w, r, err)
		return
	}
	if check.Type == slackevents.URLVerification {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if _, err := io.WriteString(w, clip(check.Challenge, 1000)); err != nil {
			s.log.Debug("slack: an answer could not be sent", "error", err)
		}
		return
	}
	e, err := slackevents.ParseEvent(json.RawMessage(body), slackevents.OptionNoVerifyToken())
	if err != nil {
		s.unread(w, r, err)
		return
	}
	s.kept(w, r, e)
}

// again gives the request its body back, for the library's parsers.
func again(r *http.Request, body []byte) *http.Request {
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

func (s *Surface) interactive(w http.ResponseWriter, r *http.Request, body []byte) {
	c, err := slack.InteractionCallbackParse(again(r, body))
	if err != nil {
		s.unread(w, r, err)
		return
	}
	s.kept(w, r, c)
}

func (s *Surface) commands(w http.ResponseWriter, r *http.Request, body []byte) {
	c, err := slack.SlashCommandParse(again(r, body))
	if err != nil {
		s.unread(w, r, err)
		return
	}
	s.kept(w, r, c)
}
