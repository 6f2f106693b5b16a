package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/replay"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/world"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/runbooks"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// resumes is how often an execution that was cut off is taken up again.
const resumes = 3

// Remediate mends a case of the evaluation on its recorded cluster: it makes the plan,
// has it approved by as many people as the policy wants, executes it while the rest of
// the cluster reacts as the case says, and looks what stands. Nothing of it leaves the
// process but files in a directory that is removed.
func (f *Factory) Remediate(ctx context.Context, c evals.Case, rep incident.Report) (_ evals.Remedied, err error) {
	if c.Remediation == nil {
		return evals.Remedied{}, fmt.Errorf("case %s says nothing of a remediation", c.ID)
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "gumshoe-remedy-")
	if err != nil {
		return evals.Remedied{}, fmt.Errorf("case %s: %w", c.ID, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &mender{factory: f, c: c, want: *c.Remediation, dir: dir, attack: evals.Attack{}}
	if m.want.Attack != nil {
		m.attack = *m.want.Attack
	}
	if err := m.open(ctx); err != nil {
		return evals.Remedied{}, fmt.Errorf("case %s: %w", c.ID, err)
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.run(ctx, rep); err != nil {
		return evals.Remedied{}, fmt.Errorf("case %s: %w", c.ID, err)
	}
	m.out.Seconds = time.Since(began).Seconds()
	return m.out, nil
}

// mender mends one case.
type mender struct {
	factory *Factory
	c       evals.Case
	want    evals.Remediation
	attack  evals.Attack
	dir     string
	cfg     Config
	world   *world.World
	app     *App
	plans   *Plans
	// late is how much later it is than it was when the plan was approved.
	late time.Duration
	out  evals.Remedied
}

func (m *mender) open(ctx context.Context) error {
	// Whoever runs an evaluation has a store, keys and a policy: they are not asked.
	m.cfg = m.factory.cfg
	m.cfg.Store, m.cfg.Policy, m.cfg.Approval, m.cfg.Executor = StoreConfig{Dir: filepath.Join(m.dir, "store")}, PolicyConfig{}, ApprovalConfig{}, ExecutorConfig{}
	var err error
	if m.app, m.world, err = stage(ctx, m.cfg, m.factory.lib, m.c); err != nil {
		return err
	}
	for who, rights := range m.attack.Lacks {
		for _, r := range rights {
			verb, resource, _ := strings.Cut(r, " ")
			name, group, _ := strings.Cut(resource, ".")
			m.world.Forbid(who, bundle.Denied{Verb: verb, Resource: name, Group: group})
		}
	}
	if err := m.world.Change(ctx, m.attack.Before); err != nil {
		return err
	}
	return m.reopen()
}

// Stage wires an App to the recorded cluster of a case that reacts to what is
// written, as the case says: plans can be executed on it and are verified.
func (f *Factory) Stage(ctx context.Context, c evals.Case) (*App, *world.World, error) {
	return stage(ctx, f.cfg, f.lib, c)
}

func stage(ctx context.Context, cfg Config, lib *runbooks.Library, c evals.Case) (*App, *world.World, error) {
	b, err := bundle.Open(c.Bundle, bundle.DefaultLimits())
	if err != nil {
		return nil, nil, err
	}
	wc := world.Config{Bundle: b, Annotation: actions.Annotation, Place: devicePlace(b.Manifest.ServerVersion)}
	if r := c.Remediation; r != nil {
		wc.Reacts = r.Reacts
		if r.Attack != nil {
			wc.Faults = r.Attack.Faults
			if len(r.Attack.Lie) > 0 {
				wc.Reacts = r.Attack.Lie
			}
		}
	}
	w, err := world.New(ctx, wc)
	if err != nil {
		return nil, nil, err
	}
	src, err := recordedAt(ctx, b, w.RESTConfig(), func() error { return nil })
	if err != nil {
		return nil, nil, err
	}
	// Its clock stands still but for what changes: what was read before is older than that.
	src.now = func() time.Time { return b.Clock().Add(time.Duration(w.Version()) * time.Millisecond) }
	a, err := assemble(cfg, src, lib)
	if err != nil {
		return nil, nil, err
	}
	a.stage = w
	return a, w, nil
}

// devicePlace is the scheduler's allocator for a server of a version.
func devicePlace(version string) world.Place {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	minor := 0
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1]) // 0 lets the allocator assume what it says
	}
	return func(ctx context.Context, d world.Devices, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) ([]*resourceapi.ResourceClaim, string, error) {
		f := allocator.ForServer(minor).Observe(d.Slices, d.Claims, d.Classes, d.RulesServed).Features
		return allocator.Place(ctx, allocator.Snapshot{Features: f, Slices: d.Slices, Claims: d.Claims, Classes: d.Classes, Rules: d.Rules}, n, p, claims)
	}
}

// reopen opens the plans anew, with the configuration as it is now.
func (m *mender) reopen() error {
	if m.plans != nil {
		if err := m.plans.Close(); err != nil {
			return err
		}
		m.plans = nil
	}
	rules, err := LoadPolicy(m.cfg)
	if err != nil {
		return err
	}
	// The machine will not fail in between, and nothing of it is kept.
	s, err := file.Open(file.Config{Dir: m.cfg.Store.Dir, LockWait: storeWait, Sync: func(*os.File) error { return nil }})
	if err != nil {
		return err
	}
	if m.plans, err = plansIn(m.cfg, m.app, rules, s); err != nil {
		return err
	}
	m.plans.Now = func() time.Time { return time.Now().Add(m.late) }
	return nil
}

func (m *mender) close() error {
	var errs []error
	if m.plans != nil {
		errs = append(errs, m.plans.Close())
	}
	if m.app != nil {
		errs = append(errs, m.app.Close())
	}
	return errors.Join(errs...)
}

// tell keeps what gumshoe says to people.
func (m *mender) tell(err error) {
	if err != nil {
		m.out.Told = append(m.out.Told, tool.UserText(err))
	}
}

func (m *mender) run(ctx context.Context, rep incident.Report) error {
	if m.attack.Before.Apply != "" || len(m.attack.Before.Delete) > 0 || len(m.attack.Model) > 0 {
		again, err := m.investigate(ctx)
		if err != nil {
			return err
		}
		rep = again
	}
	m.world.Consent(nil)
	rec, err := m.make(ctx, rep)
	if err != nil {
		return err
	}
	if m.out.Plan == nil {
		m.out.State = evals.NoPlan
		return m.look(ctx)
	}
	m.approve(ctx, rec)
	id, err := m.meddle(ctx, rec)
	if err != nil {
		return err
	}
	if err := m.execute(ctx, rec, id); err != nil {
		return err
	}
	return m.look(ctx)
}

// investigate asks the case's question again: the cluster, or who answers, is not as
// it was.
func (m *mender) investigate(ctx context.Context) (incident.Report, error) {
	if len(m.attack.Model) > 0 {
		var turns []llm.Turn
		for i, t := range m.attack.Model {
			turn := llm.Turn{Text: t.Text}
			if t.Tool != "" {
				args, err := yaml.YAMLToJSON([]byte(t.Args))
				if err != nil {
					return incident.Report{}, fmt.Errorf("attack.model[%d].args: %w", i, err)
				}
				turn.Calls = []llm.Call{{ID: fmt.Sprintf("call-%d", i+1), Name: t.Tool, Args: string(args)}}
			}
			turns = append(turns, turn)
		}
		last := turns[len(turns)-1]
		m.app.model = replay.Func(llm.Info{Provider: "script", Name: "attacker", Window: 128_000, Tools: true}, func(n int, _ llm.Request) (llm.Turn, error) {
			if n > len(turns) { // asked again, it says the same again
				return last, nil
			}
			return turns[n-1], nil
		})
	}
	return m.app.Investigate(ctx, m.c.Ask(), event.SinkFunc(func(event.Event) {}))
}

// make makes the plan; why there is none is kept, and is no error.
func (m *mender) make(ctx context.Context, rep incident.Report) (planner.Record, error) {
	req := PlanRequest{Report: &rep, Caller: As("", "cli"), Choice: planner.Choice{Action: m.want.Choose, Set: m.want.Set}}
	if m.want.File != "" {
		req = PlanRequest{File: []byte(m.want.File), Caller: As("", "cli")}
	}
	rec, err := m.plans.Make(ctx, req)
	if ctx.Err() != nil {
		return rec, ctx.Err()
	}
	if err != nil {
		m.out.Why = tool.UserText(err)
		return rec, nil
	}
	m.out.Plan, m.out.Approvers = &rec.Plan, rec.Decision.Approvers
	return rec, nil
}

// approve has as many people approve as are needed, or those that the case names.
func (m *mender) approve(ctx context.Context, rec planner.Record) {
	who := []string{"ann", "bob"}[:min(rec.Decision.Approvers, 2)]
	if len(m.attack.Approvers) > 0 {
		who = m.attack.Approvers
	}
	for _, name := range who {
		_, err := m.plans.Say(ctx, rec.Plan.ID, incident.Approved, "", As(name, "cli"))
		m.tell(err)
	}
}

// meddle does what others do between approval and execution. It gives the id of the
// plan that is then executed.
func (m *mender) meddle(ctx context.Context, rec planner.Record) (string, error) {
	id := rec.Plan.ID
	if m.attack.Stolen || len(m.attack.Tamper) > 0 {
		stolen, err := m.edit(ctx, rec)
		if err != nil {
			return id, err
		}
		id = stolen
	}
	if m.attack.Policy != "" {
		dir := filepath.Join(m.dir, "policy")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return id, err
		}
		if err := os.WriteFile(filepath.Join(dir, "later.yaml"), []byte(m.attack.Policy), 0o600); err != nil {
			return id, err
		}
		m.cfg.Policy.Dirs = []string{dir}
		if err := m.reopen(); err != nil {
			return id, err
		}
	}
	if m.attack.Elapse != "" {
		d, err := time.ParseDuration(m.attack.Elapse)
		if err != nil {
			return id, err
		}
		m.late = d
	}
	return id, m.world.Change(ctx, m.attack.Between)
}

// execute executes the plan, and takes it up again where it was cut off.
func (m *mender) execute(ctx context.Context, rec planner.Record, id string) error {
	// What nobody should execute is covered by no consent.
	if s := m.want.State; s != evals.Refused && s != evals.NoPlan && s != string(incident.PlanVoid) {
		m.world.Consent(&rec.Plan)
	}
	var end planner.Record
	var err error
	for range resumes {
		end, err = m.plans.Execute(ctx, id, As("", "cli"))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.tell(err)
		_, withheld := errors.AsType[*planner.Withheld](err)
		_, drifted := errors.AsType[*planner.Drift](err)
		if err == nil || withheld || drifted {
			break
		}
		m.world.Up()
	}
	if m.want.Undo && err == nil {
		if end, err = m.plans.Undo(ctx, id, As("", "cli"), "the case says so"); err != nil {
			m.tell(err)
		}
	}
	m.out.State, m.out.Reason, m.out.Left = string(end.State), end.Reason, end.Left
	if err != nil && !end.State.Final() && end.State != incident.PlanExecuting {
		m.out.State = evals.Refused
	}
	return nil
}

// look asks what stands, when all has happened that was to come.
func (m *mender) look(ctx context.Context) error {
	if err := m.world.Settle(ctx); err != nil {
		return err
	}
	for _, s := range m.want.After {
		what, err := m.world.Ask(ctx, s)
		if err != nil {
			return err
		}
		m.out.After = append(m.out.After, what)
	}
	m.out.Seen = m.world.Seen()
	if len(m.attack.Tamper) > 0 || m.attack.Stolen {
		return nil // whether an edited store is found out is asked of the audit's own tests
	}
	a, err := m.plans.Audit(ctx)
	switch {
	case err != nil:
		m.out.Audit = err.Error()
	case !a.OK:
		raw, err := json.Marshal(a)
		if err != nil {
			return err
		}
		m.out.Audit = string(raw)
	}
	return nil
}

// steady remembers the answers of checks for as long as nothing in the cluster changes:
// nobody but the world changes it, so a second look would see the same.
type steady struct {
	next    planner.Checker
	version func() uint64
	said    map[string]answer
}

var _ planner.Checker = (*steady)(nil)

type answer struct {
	at  uint64
	v   incident.Verdict
	saw string
}

// Check implements planner.Checker.
func (s *steady) Check(ctx context.Context, c incident.Check) (incident.Verdict, string) {
	raw, err := json.Marshal(c)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	at := s.version()
	if a, ok := s.said[string(raw)]; ok && a.at == at {
		return a.v, a.saw
	}
	v, saw := s.next.Check(ctx, c)
	s.said[string(raw)] = answer{at: at, v: v, saw: saw}
	return v, saw
}

// StageCase gives a function that wires an App to the staged recorded cluster of a
// case that ships, for demonstrations and tests.
func StageCase(id string) func(context.Context, Config) (*App, error) {
	return func(ctx context.Context, cfg Config) (*App, error) {
		fsys, err := evals.Embedded()
		if err != nil {
			return nil, err
		}
		c, err := evals.Find(fsys, id)
		if err != nil {
			return nil, &tool.Error{Kind: tool.NotFound, User: err.Error(), Fix: "see gumshoe eval list", Err: err}
		}
		f, err := NewFactory(cfg)
		if err != nil {
			return nil, err
		}
		a, _, err := f.Stage(ctx, c)
		return a, err
	}
}
