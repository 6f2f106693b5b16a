package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"
	"github.com/slack-go/slack/socketmode"
)

// maxEnvelope is the largest envelope that is read, in bytes.
const maxEnvelope = 2 << 20

// listen keeps a websocket to Slack, until ctx ends.
func (s *Surface) listen(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		client, changed := s.api.current()
		began := s.now()
		err := s.socket(ctx, client, changed)
		if ctx.Err() != nil {
			return
		}
		if s.now().Sub(began) > time.Minute {
			failures = 0
		}
		delay := min(s.timing.Retry<<min(failures, 6), time.Minute)
		if code := socketRefusal(err); code != "" {
			s.ill("socket", fmt.Sprintf("Slack refuses the app-level token (%s): make a new one with connections:write and put it into %s", code, s.cfg.AppTokenFile))
			select { // nothing helps but another token
			case <-ctx.Done():
				return
			case <-changed:
				failures = -1
				continue
			case <-time.After(max(delay, s.timing.Tokens)):
			}
			continue
		}
		if err != nil {
			s.ill("socket", "the websocket to Slack is down: "+err.Error())
		}
		if !sleep(ctx, delay) {
			return
		}
	}
}

// socketRefusal names why Slack does not take the app-level token, empty for any
// other error.
func socketRefusal(err error) string {
	if err == nil {
		return ""
	}
	code := errorCode(err)
	if code == "" {
		code = err.Error()
	}
	switch code {
	case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "missing_scope", "not_allowed_token_type", "socket_mode_not_enabled":
		return code
	}
	return ""
}

// socket runs one client until it ends for good, its tokens change, or ctx ends.
// The client itself connects again when Slack asks for it or the line breaks.
func (s *Surface) socket(ctx context.Context, api *slack.Client, changed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := socketmode.New(api, socketmode.OptionReadLimit(maxEnvelope), socketmode.OptionLog(slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)))
	var wg sync.WaitGroup
	var end error
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		end = c.RunContext(ctx)
	})
	defer wg.Wait()
	defer cancel()
	// Envelopes are kept one after the other: their order is that of their threads.
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			return nil
		case <-ended:
			return end
		case e := <-c.Events:
			switch e.Type {
			case socketmode.EventTypeConnected, socketmode.EventTypeHello:
				s.ill("socket", "")
			case socketmode.EventTypeConnectionError:
				if d, ok := e.Data.(*slack.ConnectionErrorEvent); ok {
					if code := socketRefusal(d.ErrorObj); code != "" {
						return d.ErrorObj
					}
					s.ill("socket", "the websocket to Slack cannot be opened: "+d.ErrorObj.Error())
				}
			case socketmode.EventTypeErrorBadMessage:
				s.malformed(ctx, c, e)
			case socketmode.EventTypeEventsAPI, socketmode.EventTypeInteractive, socketmode.EventTypeSlashCommand:
				s.envelope(ctx, c, e)
			}
		}
	}
}

// envelope keeps what came and then acknowledges it. What cannot be kept is not
// acknowledged: Slack sends it again.
func (s *Surface) envelope(ctx context.Context, c *socketmode.Client, e socketmode.Event) {
	if e.Request == nil {
		return
	}
	in, meant, err := s.read(ctx, e.Data)
	if err == nil && meant {
		err = s.take(ctx, in)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.ill("journal", "what Slack sends cannot be kept: "+err.Error())
		}
		return
	}
	s.ill("journal", "")
	if err := s.boundary("ack"); err != nil {
		return
	}
	if err := c.AckCtx(ctx, e.Request.EnvelopeID, nil); err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("slack: an envelope could not be acknowledged and comes again", "error", err)
	}
}

// read turns what the client decoded into what is kept.
func (s *Surface) read(ctx context.Context, data any) (inbound, bool, error) {
	switch d := data.(type) {
	case slackevents.EventsAPIEvent:
		self, err := s.api.me(ctx)
		if err != nil {
			return inbound{}, false, err
		}
		in, ok := fromEvent(d, self.UserID)
		return in, ok, nil
	case slack.InteractionCallback:
		in, ok := fromInteraction(d)
		return in, ok, nil
	case slack.SlashCommand:
		in, ok := fromCommand(d)
		return in, ok, nil
	}
	return inbound{}, false, nil
}

// malformed acknowledges what cannot be read: coming again does not mend it.
func (s *Surface) malformed(ctx context.Context, c *socketmode.Client, e socketmode.Event) {
	bad, ok := e.Data.(*socketmode.ErrorBadMessage)
	if !ok {
		return
	}
	s.log.Warn("slack: an envelope cannot be read and is left", "error", bad.Cause)
	var env struct {
		ID string `json:"envelope_id"`
	}
	if json.Unmarshal(bad.Message, &env) == nil && env.ID != "" {
		if err := c.AckCtx(ctx, env.ID, nil); err != nil {
			s.log.Debug("slack: an envelope could not be acknowledged", "error", err)
		}
	}
}
