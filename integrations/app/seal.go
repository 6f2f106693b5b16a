package app

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// PolicyConfig says which rules hold beside those that ship.
type PolicyConfig struct {
	// Dirs hold YAML files of rules and settings; a later one wins.
	Dirs []string `json:"dirs,omitempty"`
}

func (c PolicyConfig) validate() error {
	for _, d := range c.Dirs {
		if st, err := os.Stat(d); err != nil || !st.IsDir() {
			return fmt.Errorf("policy.dirs: %s is not a directory", d)
		}
	}
	return nil
}

// ApprovalConfig says who vouches for approvals.
type ApprovalConfig struct {
	// KeyFile is the Ed25519 key (PKCS #8, PEM) that signs approvals and the audit log
	// here; empty means approval.key in the store's directory, made when first needed.
	KeyFile string `json:"keyFile,omitempty"`
	// TrustedKeys are files of public keys (PEM) whose approvals count as well.
	TrustedKeys []string `json:"trustedKeys,omitempty"`
}

func (c ApprovalConfig) validate() error {
	for _, f := range c.TrustedKeys {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("approval.trustedKeys: %w", err)
		}
	}
	return nil
}

// LoadPolicy reads the rules that ship and those of the configuration.
func LoadPolicy(cfg Config) (*policy.Policy, error) {
	var dirs []fs.FS
	for _, d := range cfg.Policy.Dirs {
		dirs = append(dirs, os.DirFS(d))
	}
	p, err := policy.New(dirs...)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Fix: "gumshoe policy test checks the files", Err: err}
	}
	return p, nil
}

// seal signs what people say and keeps the audit trail.
type seal struct {
	key  *approval.Key
	keys *approval.Keys
	log  *audit.Log
	mask func(string) string
}

var _ planner.Trail = (*seal)(nil)

// openSeal opens the key, and makes one when none is configured and none is there.
func openSeal(cfg Config, s store.Store, mask func(string) string) (*seal, error) {
	path := cfg.Approval.KeyFile
	own := path == ""
	if own {
		path = filepath.Join(cfg.Store.Dir, "approval.key")
	}
	key, err := approval.OpenKey(path, !own) // a mounted Secret is readable by its group
	if own && errors.Is(err, fs.ErrNotExist) {
		if key, err = approval.CreateKey(path); errors.Is(err, fs.ErrExist) {
			key, err = approval.OpenKey(path, false)
		}
	}
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the key that signs approvals cannot be used: " + err.Error(), Fix: "see approval.keyFile", Err: err}
	}
	pub := []ed25519.PublicKey{key.Public()}
	for _, f := range cfg.Approval.TrustedKeys {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("approval.trustedKeys: %w", err)
		}
		more, err := approval.ParseKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("approval.trustedKeys: %s: %w", f, err)
		}
		pub = append(pub, more...)
	}
	keys := approval.NewKeys(pub...)
	log, err := audit.New(audit.Config{Journal: s, Sign: key.Sign, Verify: keys.Verify, Now: time.Now})
	if err != nil {
		return nil, err
	}
	return &seal{key: key, keys: keys, log: log, mask: mask}, nil
}

// Note implements planner.Trail. The plan itself is not repeated: its digest names it.
func (s *seal) Note(ctx context.Context, plan, digest, actor, what string, detail any) error {
	e := audit.Entry{Actor: actor, What: what, Plan: plan, Digest: digest}
	if ev, ok := detail.(event.Event); ok {
		if ev.Progress != nil {
			e.Step, e.Write = ev.Progress.Step, ev.Progress.Write
		}
		if ev.Write != nil {
			e.Write = ev.Write.Write
		}
		if ev.Check != nil { // the baseline of a check can be long
			c := *ev.Check
			c.Check.Params = nil
			ev.Check = &c
		}
		if ev.Plan != nil {
			detail = map[string]any{"title": ev.Plan.Title, "author": ev.Plan.Author, "requester": ev.Plan.Requester, "reason": ev.Plan.Reason, "investigation": ev.Plan.Investigation, "decision": ev.Decision}
		} else {
			detail = ev
		}
	}
	raw, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if masked := s.mask(string(raw)); json.Valid([]byte(masked)) {
		raw = []byte(masked)
	}
	e.Detail = raw
	_, err = s.log.Append(ctx, e)
	return err
}

// Audit checks the trail, and that every record of every plan is in it.
func (p *Plans) Audit(ctx context.Context, known ...audit.Head) (audit.Report, error) {
	var must []audit.Must
	for info, err := range p.store.List(ctx, planner.Subjects) {
		if err != nil {
			return audit.Report{}, err
		}
		for rec, err := range p.store.Load(ctx, info.Subject, 0) {
			if err != nil {
				return audit.Report{}, err
			}
			var e event.Event
			if err := json.Unmarshal(rec.Data, &e); err != nil {
				return audit.Report{}, fmt.Errorf("%s, sequence %d: %w", info.Subject, rec.Seq, err)
			}
			m := audit.Must{Plan: e.Run, What: rec.Type}
			if e.Progress != nil {
				m.Step, m.Write = e.Progress.Step, e.Progress.Write
			}
			if e.Write != nil {
				m.Write = e.Write.Write
			}
			must = append(must, m)
		}
	}
	return p.seal.log.Verify(ctx, must, known...)
}

// Trail gives the entries of the audit log in order.
func (p *Plans) Trail(ctx context.Context) ([]audit.Entry, error) {
	var out []audit.Entry
	for e, err := range p.seal.log.Entries(ctx) {
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Types of the records of the circuit breaker of a cluster.
const (
	breakerOpened = "breaker.opened"
	breakerReset  = "breaker.reset"
)

// BreakerSubject is where it is journalled whether the breaker of a cluster is open.
func BreakerSubject(clusterUID string) string {
	b := []byte("breaker." + clusterUID)
	for i, c := range b {
		if c == ':' || c == '/' {
			b[i] = '-'
		}
	}
	return string(b)
}

// breaker gives whether the breaker is open, and the sequence of the last word on it.
func (p *Plans) breaker(ctx context.Context, clusterUID string) (open bool, last uint64, err error) {
	for rec, err := range p.store.Load(ctx, BreakerSubject(clusterUID), 0) {
		if err != nil {
			return false, 0, err
		}
		open, last = rec.Type == breakerOpened, rec.Seq
	}
	return open, last, nil
}

// trip opens the breaker when the policy says that too much happened.
func (p *Plans) trip(ctx context.Context, r planner.Record, d incident.Decision) error {
	for _, h := range d.Rules {
		if h.Rule != policy.GateBreaker {
			continue
		}
		open, last, err := p.breaker(ctx, r.Plan.ClusterUID)
		if err != nil || open {
			return err
		}
		if err := p.seal.Note(ctx, r.Plan.ID, r.Digest, policy.Gumshoe, breakerOpened, h); err != nil {
			return err
		}
		_, err = p.store.Append(ctx, BreakerSubject(r.Plan.ClusterUID), last, store.Entry{Type: breakerOpened})
		return err
	}
	return nil
}

// ResetBreaker closes the breaker again; only a person with the role admin may.
func (p *Plans) ResetBreaker(ctx context.Context, c Caller, reason string) error {
	if err := p.needsCluster(); err != nil {
		return err
	}
	who, err := p.person(ctx, c)
	if err != nil {
		return err
	}
	uid, err := p.app.clusterUID(ctx)
	if err != nil {
		return err
	}
	open, last, err := p.breaker(ctx, uid)
	if err != nil {
		return err
	}
	if !open {
		return &tool.Error{Kind: tool.Invalid, User: "the circuit breaker is not open"}
	}
	admin := false
	for _, role := range who.Roles {
		admin = admin || role == policy.RoleAdmin
	}
	if !admin {
		if err := p.seal.Note(ctx, "", "", who.Name, "breaker.refused", reason); err != nil {
			return err
		}
		return &tool.Error{Kind: tool.Forbidden, User: fmt.Sprintf("%s may not reset the circuit breaker: the role %s is needed", who.Name, policy.RoleAdmin), Fix: "settings.roles of the policy give it"}
	}
	if err := p.seal.Note(ctx, "", "", who.Name, breakerReset, reason); err != nil {
		return err
	}
	_, err = p.store.Append(ctx, BreakerSubject(uid), last, store.Entry{Type: breakerReset})
	return err
}
