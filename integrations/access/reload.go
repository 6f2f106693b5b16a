package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// people are the part of the configuration that may change while the server runs.
type people struct {
	roles  RolesConfig
	static *staticTokens
}

// Reload takes the roles and the static tokens of a configuration. Requests and
// sign-ins that are under way go on: the next request of each is judged by the new
// ones. Where anything else of the section changed, or a file cannot be read, it
// changes nothing and says so. Wiring (Reviewer, Log, ...) stays as New was given it.
func (g *Gate) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Authenticated() != g.cfg.Authenticated() {
		return errors.New("server.auth: whether anybody has to sign in does not change while the server runs; restart it")
	}
	same, err := sameButPeople(g.cfg, cfg)
	if err != nil {
		return err
	}
	if !same {
		return errors.New("server.auth: only roles and tokens change while the server runs; restart it for the rest")
	}
	static, err := newStaticTokens(cfg.Tokens, g.now, g.log)
	if err != nil {
		return err
	}
	g.people.Store(&people{roles: cfg.Roles, static: static})
	return nil
}

// sameButPeople compares what configuration files say, roles and tokens left out.
func sameButPeople(a, b Config) (bool, error) {
	a.Roles, b.Roles = RolesConfig{}, RolesConfig{}
	a.Tokens, b.Tokens = nil, nil
	before, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("server.auth: %w", err)
	}
	after, err := json.Marshal(b)
	if err != nil {
		return false, fmt.Errorf("server.auth: %w", err)
	}
	return bytes.Equal(before, after), nil
}
