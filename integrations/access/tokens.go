package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const (
	// minToken is the least length of a static token: what is shorter can be guessed.
	minToken = 20
	// tokenCheck is how often the files are read again, at most.
	tokenCheck = 5 * time.Second
)

// staticTokens knows the tokens of files. It keeps their digests alone.
type staticTokens struct {
	now   func() time.Time
	log   *slog.Logger
	roles map[string]Role // by name, where the entry says one

	mu      sync.Mutex
	checked time.Time
	tokens  []staticToken
}

type staticToken struct {
	cfg    TokenConfig
	digest [sha256.Size]byte
	// ok is false while the file cannot be read or holds no token: nobody enters by it.
	ok bool
}

func newStaticTokens(cfg []TokenConfig, now func() time.Time, log *slog.Logger) (*staticTokens, error) {
	s := &staticTokens{now: now, log: log, roles: map[string]Role{}, checked: now()}
	for _, c := range cfg {
		t := staticToken{cfg: c, ok: true}
		var err error
		if t.digest, err = readToken(c); err != nil {
			return nil, err
		}
		if c.Role != "" {
			if s.roles[c.Name], err = ParseRole(c.Role); err != nil {
				return nil, fmt.Errorf("server.auth.tokens: %s: %w", c.Name, err)
			}
		}
		s.tokens = append(s.tokens, t)
	}
	return s, nil
}

func readToken(c TokenConfig) ([sha256.Size]byte, error) {
	raw, err := os.ReadFile(c.File)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("server.auth.tokens: the token of %s: %w", c.Name, err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < minToken {
		return [sha256.Size]byte{}, fmt.Errorf("server.auth.tokens: the token of %s in %s is shorter than %d characters and could be guessed; `openssl rand -hex 32` makes one", c.Name, c.File, minToken)
	}
	if _, err := cleanToken(token); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("server.auth.tokens: %s has to hold one token on one line: %w", c.File, err)
	}
	return sha256.Sum256([]byte(token)), nil
}

// refresh reads the files again. A file that is gone or empty closes its door.
func (s *staticTokens) refresh() {
	now := s.now()
	if now.Sub(s.checked) < tokenCheck {
		return
	}
	s.checked = now
	for i := range s.tokens {
		t := &s.tokens[i]
		d, err := readToken(t.cfg)
		if err != nil {
			if t.ok {
				s.log.Error("a token can no longer be read; nobody enters by it", "name", t.cfg.Name, "error", err)
			}
			t.ok = false
			continue
		}
		if t.ok && d != t.digest {
			s.log.Info("a token was replaced", "name", t.cfg.Name)
		}
		t.digest, t.ok = d, true
	}
}

// lookup finds the token with a digest. It compares with all of them, each in
// constant time.
func (s *staticTokens) lookup(digest [sha256.Size]byte) (caller, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	found := -1
	for i := range s.tokens {
		if subtle.ConstantTimeCompare(s.tokens[i].digest[:], digest[:]) == 1 && s.tokens[i].ok {
			found = i
		}
	}
	if found < 0 {
		return caller{}, false
	}
	c := s.tokens[found].cfg
	return caller{
		person:      incident.Person{Name: c.Name, Groups: c.Groups, Proof: proofToken},
		static:      true,
		tokenDigest: digest[:],
	}, true
}

// still says whether a name's token has the digest that it had at sign-in.
func (s *staticTokens) still(name string, digest []byte) bool {
	if len(digest) != sha256.Size {
		return false
	}
	c, ok := s.lookup([sha256.Size]byte(digest))
	return ok && c.person.Name == name
}

// role gives the role that a token's entry says for a name, if it says one.
func (s *staticTokens) role(name string) (Role, bool) {
	r, ok := s.roles[name]
	return r, ok
}
