package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"golang.org/x/time/rate"
)

// api is the Web API with the tokens as their files hold them now, Slack's rate
// limits kept from this side and honoured from the other.
type api struct {
	cfg  Config
	http *http.Client
	now  func() time.Time
	ill  func(part, why string)

	mu     sync.Mutex
	client *slack.Client
	bot    string
	app    string
	self   *slack.AuthTestResponse
	// refused is set while Slack refuses the tokens that stand in client.
	refused bool
	// changed is closed when the tokens change.
	changed chan struct{}
	paused  map[string]time.Time
	limits  map[string]*rate.Limiter
}

func newAPI(cfg Config, client *http.Client, now func() time.Time, ill func(string, string)) (*api, error) {
	a := &api{cfg: cfg, http: client, now: now, ill: ill, changed: make(chan struct{}), paused: map[string]time.Time{}, limits: map[string]*rate.Limiter{}}
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// readSecret reads a token; white space around it is none of it.
func readSecret(field, file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("slack.%s cannot be read: %w", field, err)
	}
	s := strings.TrimSpace(string(raw))
	if s == "" || strings.ContainsAny(s, " \t\r\n") {
		return "", fmt.Errorf("slack.%s: %s does not hold one token", field, file)
	}
	return s, nil
}

// load reads the token files; when they changed, a new client is made.
func (a *api) load() error {
	bot, err := readSecret("botTokenFile", a.cfg.BotTokenFile)
	if err != nil {
		return err
	}
	app := ""
	if a.cfg.Mode == ModeSocket {
		if app, err = readSecret("appTokenFile", a.cfg.AppTokenFile); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil && a.bot == bot && a.app == app {
		return nil
	}
	a.bot, a.app, a.self, a.refused = bot, app, nil, false
	opts := []slack.Option{slack.OptionAPIURL(a.cfg.APIURL), slack.OptionHTTPClient(a.http)}
	if app != "" {
		opts = append(opts, slack.OptionAppLevelToken(app))
	}
	a.client = slack.New(bot, opts...)
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// watch takes up tokens that were replaced, until ctx ends.
func (a *api) watch(ctx context.Context, every time.Duration) {
	for sleep(ctx, every) {
		if err := a.load(); err != nil {
			a.ill("token", err.Error())
			continue
		}
		a.mu.Lock()
		refused := a.refused
		a.mu.Unlock()
		if !refused {
			a.ill("token", "")
		}
	}
}

// current gives the client, and a channel that is closed when it is replaced.
func (a *api) current() (*slack.Client, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client, a.changed
}

// me says who the bot is.
func (a *api) me(ctx context.Context) (*slack.AuthTestResponse, error) {
	a.mu.Lock()
	self := a.self
	a.mu.Unlock()
	if self != nil {
		return self, nil
	}
	err := a.do(ctx, "auth.test", "", func(c *slack.Client) error {
		got, err := c.AuthTestContext(ctx)
		if err == nil {
			a.mu.Lock()
			self, a.self = got, got
			a.mu.Unlock()
		}
		return err
	})
	return self, err
}

// pausedError says that Slack wants no call of a method for some time.
type pausedError struct {
	method string
	rest   time.Duration
}

func (e *pausedError) Error() string {
	return fmt.Sprintf("slack takes no %s for %s: its rate limit is reached", e.method, e.rest.Round(time.Millisecond))
}

// limit gives the rate of a method, a little below Slack's tiers
// (docs.slack.dev/apis/web-api/rate-limits): posting one a second and channel with
// short bursts, tier 2 20 a minute, tier 3 50, tier 4 100.
func (a *api) limit(method, channel string) *rate.Limiter {
	key := method
	every, burst := 60*time.Second/95, 20
	switch method {
	case "chat.postMessage":
		key, every, burst = method+" "+channel, time.Second, 5
	case "chat.update", "conversations.replies", "conversations.history":
		every, burst = 60*time.Second/48, 15
	case "usergroups.users.list":
		every, burst = 60*time.Second/19, 10
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.limits[key]
	if l == nil {
		l = rate.NewLimiter(rate.Every(every), burst)
		a.limits[key] = l
	}
	return l
}

// spare reports whether a call that can be left out would not stand in the way of
// others.
func (a *api) spare(method, channel string) bool {
	a.mu.Lock()
	paused := a.now().Before(a.paused[method])
	a.mu.Unlock()
	return !paused && a.limit(method, channel).Tokens() > 3
}

// do makes one call within the limits. A *pausedError says when to come again; what
// the tokens do not allow is kept as a state.
func (a *api) do(ctx context.Context, method, channel string, f func(*slack.Client) error) error {
	a.mu.Lock()
	rest := a.paused[method].Sub(a.now())
	client := a.client
	a.mu.Unlock()
	if rest > 0 {
		return &pausedError{method, rest}
	}
	if err := a.limit(method, channel).Wait(ctx); err != nil {
		return err
	}
	err := f(client)
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		a.mu.Lock()
		a.paused[method] = a.now().Add(limited.RetryAfter)
		a.mu.Unlock()
		return &pausedError{method, limited.RetryAfter}
	}
	switch code := errorCode(err); code {
	case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "org_login_required", "team_access_not_granted":
		a.refuse(client, fmt.Sprintf("Slack refuses the bot token (%s): install the app again and put the new token into %s", code, a.cfg.BotTokenFile))
	case "missing_scope", "not_allowed_token_type":
		a.ill("token", fmt.Sprintf("the bot token may not call %s (%s): update the app from `gumshoe slack manifest` and install it again", method, code))
	case "":
		if err == nil {
			a.accept(client)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (a *api) refuse(c *slack.Client, why string) {
	a.mu.Lock()
	mine := a.client == c
	a.refused = a.refused || mine
	a.mu.Unlock()
	if mine {
		a.ill("token", why)
	}
}

func (a *api) accept(c *slack.Client) {
	a.mu.Lock()
	mine := a.client == c
	if mine {
		a.refused = false
	}
	a.mu.Unlock()
	if mine {
		a.ill("token", "")
	}
}

// errorCode gives Slack's name of an error, empty where Slack did not answer.
func errorCode(err error) string {
	if e, ok := errors.AsType[slack.SlackErrorResponse](err); ok {
		return e.Err
	}
	return ""
}

// passing reports whether an error may be gone when the call is made again.
func passing(err error) bool {
	switch errorCode(err) {
	case "internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited", "rate_limited", "team_added_to_org", "accesslimited",
		"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "org_login_required", "team_access_not_granted", "missing_scope", "not_allowed_token_type":
		return true
	case "":
		return true // Slack did not answer, or not as itself
	}
	return false
}
