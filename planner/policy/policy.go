// Package policy says whether a plan may be executed, and after whose consent. Rules
// are CEL over the plan, its steps, the caller and the moment; the strictest verdict
// that applies wins, and what no rule permits is denied.
//
// What the rules decide is a guard-rail of gumshoe's own. The boundary is what the
// executor's identity may do in the cluster; see docs/security.md.
package policy

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

//go:embed shipped
var shipped embed.FS

// Where a rule applies.
const (
	// ScopeStep: the rule is asked once a step, and sees action, params, targets and
	// writes of it.
	ScopeStep = "step"
	// ScopePlan: the rule is asked once, and sees the targets and writes of all steps.
	ScopePlan = "plan"
)

// Bounds.
const (
	// maxFile is the largest policy file, in bytes; maxRules the most rules of all.
	maxFile, maxRules = 1 << 20, 1000
	// maxExpr is the longest expression, in characters.
	maxExpr = 4 << 10
	// costLimit of one expression in CEL's units, about one a step: generous for a
	// plan of a hundred steps with a thousand writes.
	costLimit = 1_000_000
	// patience is how long one expression may run; what takes longer is denied.
	patience = 2 * time.Second
)

// Rule says what holds for steps or plans of a kind.
type Rule struct {
	Name string `json:"name"`
	// Scope is step (the default) or plan.
	Scope string `json:"scope,omitempty"`
	// When is a CEL expression that is true where the rule applies.
	When string `json:"when"`
	// Verdict is allow, ask_one, ask_two or deny.
	Verdict string `json:"verdict"`
	// Reason is one sentence for the person who asks.
	Reason string `json:"reason"`
	// BreakGlass lets break-glass pass a deny of this rule.
	BreakGlass bool `json:"breakGlass,omitempty"`
}

// file is a policy file.
type file struct {
	// Settings are decoded over those of earlier files.
	Settings json.RawMessage `json:"settings,omitempty"`
	Rules    []Rule          `json:"rules,omitempty"`
}

// Policy is a set of rules with settings. It is safe for concurrent use.
type Policy struct {
	settings Settings
	rules    []rule
	digest   string
}

type rule struct {
	Rule
	program cel.Program
}

// New reads the policy that ships and lays over it every *.yaml file at the top of
// each directory, in the order of names; *.test.yaml are cases and are not read. A
// rule takes the place of an earlier one of the same name. The error names the file,
// and for an expression the rule.
func New(over ...fs.FS) (*Policy, error) {
	base, err := fs.Sub(shipped, "shipped")
	if err != nil {
		return nil, err
	}
	p := &Policy{}
	c, err := newCompiler()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for _, fsys := range append([]fs.FS{base}, over...) {
		names, err := files(fsys, false)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		for _, name := range names {
			if err := p.lay(c, fsys, name); err != nil {
				return nil, fmt.Errorf("policy file %s: %w", name, err)
			}
		}
	}
	if len(p.rules) > maxRules {
		return nil, fmt.Errorf("policy: %d rules, at most %d", len(p.rules), maxRules)
	}
	if err := p.settings.validate(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	raw, err := json.Marshal(struct {
		Settings Settings `json:"settings"`
		Rules    []Rule   `json:"rules"`
	}{p.settings, p.Rules()})
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	sum := sha256.Sum256(raw)
	p.digest = "sha256:" + hex.EncodeToString(sum[:])
	return p, nil
}

// tests is the ending of a file of cases.
const tests = ".test.yaml"

// files lists the policy files, or the files of cases, at the top of a directory.
func files(fsys fs.FS, cases bool) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && strings.HasSuffix(n, ".yaml") && strings.HasSuffix(n, tests) == cases {
			out = append(out, n)
		}
	}
	return out, nil
}

// decode reads a YAML file strictly: an unknown or repeated field is an error.
func decode(fsys fs.FS, name string, into any) error {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return err
	}
	if st.Size() > maxFile {
		return fmt.Errorf("it has %d bytes, at most %d are read", st.Size(), maxFile)
	}
	raw, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	return yaml.UnmarshalStrict(raw, into)
}

// lay takes a file over what is there.
func (p *Policy) lay(c *compiler, fsys fs.FS, name string) error {
	var f file
	if err := decode(fsys, name, &f); err != nil {
		return err
	}
	if len(f.Settings) > 0 {
		// JSON is YAML: the strict reader keeps what the file does not speak of.
		if err := yaml.UnmarshalStrict(f.Settings, &p.settings); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	seen := map[string]bool{}
	for _, r := range f.Rules {
		made, err := c.rule(r)
		if err != nil {
			return fmt.Errorf("rule %q: %w", r.Name, err)
		}
		if seen[r.Name] {
			return fmt.Errorf("rule %q is there twice", r.Name)
		}
		seen[r.Name] = true
		if i := slices.IndexFunc(p.rules, func(o rule) bool { return o.Name == r.Name }); i >= 0 {
			p.rules[i] = made
			continue
		}
		p.rules = append(p.rules, made)
	}
	return nil
}

// Settings gives the settings that stand beside the rules.
func (p *Policy) Settings() Settings { return p.settings }

// Digest is the SHA-256 of settings and rules, "sha256:<hex>".
func (p *Policy) Digest() string { return p.digest }

// Rules lists the rules in the order they were first named.
func (p *Policy) Rules() []Rule {
	out := make([]Rule, len(p.rules))
	for i, r := range p.rules {
		out[i] = r.Rule
	}
	return out
}

// Roles gives the roles that the settings give a person. What the person's own
// record says of roles is not looked at.
func (p *Policy) Roles(who incident.Person) []string {
	return p.settings.roles(who.Name, who.Groups)
}

// compiler checks and compiles rules.
type compiler struct{ step, plan *cel.Env }

func newCompiler() (*compiler, error) {
	object := func(v any) *cel.Type { return cel.ObjectType(typeName(v)) }
	options := []cel.EnvOption{
		// The native types come last: they wrap the provider that optionals need.
		ext.Strings(), ext.Sets(), cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.ParserExpressionSizeLimit(maxExpr), ext.NativeTypes(ext.ParseStructTag("json"), typeOf[Input]()),
		cel.Variable("targets", cel.ListType(object(Target{}))), cel.Variable("writes", cel.ListType(object(Write{}))),
		cel.Variable("plan", object(Plan{})), cel.Variable("caller", object(Caller{})), cel.Variable("live", object(Live{})),
		cel.Variable("now", cel.TimestampType), cel.Variable("cluster", cel.StringType), cel.Variable("windows", cel.ListType(cel.StringType)),
	}
	plan, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	step, err := cel.NewEnv(append(options, cel.Variable("action", object(Action{})), cel.Variable("params", cel.MapType(cel.StringType, cel.StringType)))...)
	if err != nil {
		return nil, err
	}
	return &compiler{step: step, plan: plan}, nil
}

// ruleName keeps names fit for tables and audit records.
var ruleName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// rule compiles a rule. An expression that names what there is not, or whose answer
// is not true or false, is an error.
func (c *compiler) rule(r Rule) (rule, error) {
	env := c.step
	switch {
	case !ruleName.MatchString(r.Name):
		return rule{}, errors.New("a name has lower-case letters, digits and '-', at most 64")
	case gate(r.Name):
		return rule{}, errors.New("the name belongs to a gate that is no rule and cannot be replaced")
	case weight(r.Verdict) == 0:
		return rule{}, fmt.Errorf("verdict %q is none of %s, %s, %s and %s", r.Verdict, incident.Allow, incident.AskOne, incident.AskTwo, incident.Deny)
	case strings.TrimSpace(r.Reason) == "":
		return rule{}, errors.New("reason is empty: say in one sentence why, the person who asks reads it")
	case r.BreakGlass && r.Verdict != incident.Deny:
		return rule{}, errors.New("breakGlass is for rules that deny")
	}
	switch r.Scope {
	case "", ScopeStep:
		r.Scope = ScopeStep
	case ScopePlan:
		env = c.plan
	default:
		return rule{}, fmt.Errorf("scope %q is neither %s nor %s", r.Scope, ScopeStep, ScopePlan)
	}
	checked, iss := env.Compile(r.When)
	if iss.Err() != nil {
		return rule{}, fmt.Errorf("when: %w", iss.Err())
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return rule{}, fmt.Errorf("when gives %s, not true or false", checked.OutputType())
	}
	program, err := env.Program(checked, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(1000))
	if err != nil {
		return rule{}, fmt.Errorf("when: %w", err)
	}
	return rule{Rule: r, program: program}, nil
}

// holds asks a rule.
func (r rule) holds(ctx context.Context, vars map[string]any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, _, err := r.program.ContextEval(ctx, vars)
	if err != nil {
		return false, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it gives %v, not true or false", v.Type())
	}
	return b, nil
}
