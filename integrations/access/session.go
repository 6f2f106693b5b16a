package access

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const (
	sessionCookie = "gumshoe_session"
	loginCookie   = "gumshoe_login"
	// hostPrefix keeps other hosts of a domain from setting a cookie of ours (RFC 6265bis).
	hostPrefix = "__Host-"

	defaultSessionTTL = 8 * time.Hour
	// reviewedTTL bounds a sign-in by a cluster's token that says no end: the cluster is
	// not asked again.
	reviewedTTL = time.Hour
	loginTTL    = 10 * time.Minute

	// A cookie may hold 4096 bytes with its name and attributes; a person with many
	// groups needs several.
	cookieChunk = 3800
	maxChunks   = 4
	minKey      = 32
)

// session is what a session cookie holds.
type session struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Groups  []string  `json:"groups,omitempty"`
	Proof   string    `json:"proof,omitempty"`
	Digest  []byte    `json:"digest,omitempty"` // of the static token it was made with
	Expires time.Time `json:"expires"`
}

// login is what a browser keeps while its person is at the provider.
type login struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Return   string    `json:"return"`
	Expires  time.Time `json:"expires"`
}

// sessions seals and opens cookies.
type sessions struct {
	ttl     time.Duration
	now     func() time.Time
	newID   func() string
	keys    []cipher.AEAD // the first seals, all open
	revoked Revocations
	used    *ended // states of sign-ins that came back
}

func newSessions(cfg Config, now func() time.Time, newID func() string) (*sessions, error) {
	s := &sessions{ttl: cmp.Or(time.Duration(cfg.SessionTTL), defaultSessionTTL), now: now, newID: newID, revoked: cfg.Revocations, used: newEnded(now)}
	if s.revoked == nil {
		s.revoked = newEnded(now)
	}
	secrets, err := sessionKeys(cfg.SessionKeyFile)
	if err != nil {
		return nil, err
	}
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, "gumshoe session cookie v1", 32)
		if err != nil {
			return nil, fmt.Errorf("key of the session cookies: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key of the session cookies: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("key of the session cookies: %w", err)
		}
		s.keys = append(s.keys, aead)
	}
	return s, nil
}

// sessionKeys reads the keys of a file, or makes one for this process.
func sessionKeys(file string) ([][]byte, error) {
	if file == "" {
		return [][]byte{[]byte(rand.Text() + rand.Text())}, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("server.auth.sessionKeyFile: %w", err)
	}
	var keys [][]byte
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(line) < minKey {
			return nil, fmt.Errorf("server.auth.sessionKeyFile %s: a key is shorter than %d characters; `openssl rand -hex 32` makes one", file, minKey)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("server.auth.sessionKeyFile %s holds no key", file)
	}
	return keys, nil
}

// seal encrypts a value for a cookie of that name: one name's does not open as
// another's.
func (s *sessions) seal(name string, v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("sealing %s: %w", name, err)
	}
	return base64.RawURLEncoding.EncodeToString(s.keys[0].Seal(nil, nil, raw, []byte(name))), nil
}

var errSealed = errors.New("the cookie was not made by this server")

// unseal reads what seal made; whatever else comes is errSealed.
func (s *sessions) unseal(name, text string, v any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return errSealed
	}
	for _, k := range s.keys {
		plain, err := k.Open(nil, nil, raw, []byte(name))
		if err != nil {
			continue
		}
		if json.Unmarshal(plain, v) != nil {
			return errSealed
		}
		return nil
	}
	return errSealed
}

// cookieName is the name of a cookie as the browser has it.
func cookieName(name string, secure bool) string {
	if secure {
		return hostPrefix + name
	}
	return name
}

func chunkName(name string, i int) string {
	if i == 0 {
		return name
	}
	return name + "." + strconv.Itoa(i)
}

func cookie(name, value string, secure bool, maxAge int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure, MaxAge: maxAge}
}

// start signs a caller in: it sets the cookie and gives the session.
func (s *sessions) start(w http.ResponseWriter, r *http.Request, c caller, secure bool) error {
	now := s.now()
	expires := now.Add(s.ttl)
	switch {
	case !c.expiry.IsZero():
		if c.expiry.Before(expires) {
			expires = c.expiry
		}
	case c.reviewed && s.ttl > reviewedTTL:
		expires = now.Add(reviewedTTL)
	}
	sealed, err := s.seal(sessionCookie, session{
		ID: s.newID(), Name: c.person.Name, Groups: c.person.Groups, Proof: c.person.Proof, Digest: c.tokenDigest, Expires: expires,
	})
	if err != nil {
		return err
	}
	if len(sealed) > cookieChunk*maxChunks {
		return &Error{Status: http.StatusForbidden, Code: "too_many_groups", User: fmt.Sprintf("%s is in %d groups, more than a browser keeps in cookies", c.person.Name, len(c.person.Groups)), Fix: "let the provider send only the groups that server.auth.roles names"}
	}
	name := cookieName(sessionCookie, secure)
	age := max(1, int(expires.Sub(now)/time.Second))
	i := 0
	for ; len(sealed) > 0; i++ {
		n := min(len(sealed), cookieChunk)
		http.SetCookie(w, cookie(chunkName(name, i), sealed[:n], secure, age))
		sealed = sealed[n:]
	}
	clearChunks(w, r, name, i, secure)
	return nil
}

// clearChunks takes away the cookies that the browser has from a part on.
func clearChunks(w http.ResponseWriter, r *http.Request, name string, from int, secure bool) {
	for i := from; i < maxChunks; i++ {
		if _, err := r.Cookie(chunkName(name, i)); err == nil {
			http.SetCookie(w, cookie(chunkName(name, i), "", secure, -1))
		}
	}
}

// read gives the session of a request's cookie: errNoSession without one.
func (s *sessions) read(r *http.Request, secure bool) (session, error) {
	name := cookieName(sessionCookie, secure)
	var text strings.Builder
	for i := range maxChunks {
		c, err := r.Cookie(chunkName(name, i))
		if err != nil {
			break
		}
		text.WriteString(c.Value)
		if len(c.Value) < cookieChunk {
			break
		}
	}
	if text.Len() == 0 {
		return session{}, errNoSession
	}
	var out session
	if err := s.unseal(sessionCookie, text.String(), &out); err != nil {
		return session{}, err
	}
	if out.ID == "" || out.Name == "" {
		return session{}, errSealed
	}
	return out, nil
}

var errNoSession = errors.New("no session")

// open says who a request's session is of.
func (s *sessions) open(r *http.Request, secure bool) (caller, error) {
	in, err := s.read(r, secure)
	switch {
	case errors.Is(err, errNoSession):
		return caller{}, unauthorized("no_credentials", "this needs a sign-in", "sign in at "+loginPath+", or send Authorization: Bearer TOKEN")
	case err != nil:
		return caller{}, unauthorized("session_invalid", "this sign-in was not made by this server, or by one with another key", "sign in again")
	case !s.now().Before(in.Expires):
		return caller{}, unauthorized("session_ended", "the sign-in has expired", "sign in again")
	}
	gone, err := s.revoked.Revoked(r.Context(), in.ID)
	if err != nil {
		return caller{}, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", User: "whether this sign-in was ended cannot be found out right now", Fix: "try again in a moment", RetryAfter: 5 * time.Second, Err: err}
	}
	if gone {
		return caller{}, unauthorized("session_ended", "this sign-in was ended", "sign in again")
	}
	return caller{person: incident.Person{Name: in.Name, Groups: in.Groups, Proof: in.Proof}, static: in.Digest != nil, tokenDigest: in.Digest, expiry: in.Expires}, nil
}

// end signs out: the cookie goes, and its session opens nothing any more.
func (s *sessions) end(ctx context.Context, w http.ResponseWriter, r *http.Request, secure bool) error {
	in, err := s.read(r, secure)
	clearChunks(w, r, cookieName(sessionCookie, secure), 0, secure)
	usable := err == nil && s.now().Before(in.Expires)
	if !usable {
		return nil
	}
	if err := s.revoked.Revoke(ctx, in.ID, in.Expires); err != nil {
		return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", User: "this browser is signed out, but the server could not note that the sign-in is over", Fix: "sign out again in a moment", RetryAfter: 5 * time.Second, Err: err}
	}
	return nil
}
