package dra

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// LintIn holds the manifest.
type LintIn struct {
	Manifest string `json:"manifest" jsonschema:"YAML, several documents allowed"`
}

// Lint lists what is wrong with a manifest.
type Lint struct {
	Documents int         `json:"documents"`
	Issues    []LintIssue `json:"issues"`
	Notes     []string    `json:"notes"`
}

// LintIssue is one flaw.
type LintIssue struct {
	// Level is error (refused or never satisfied) or warning.
	Level   string `json:"level"`
	Object  string `json:"object"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (t *Toolset) lintTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_lint", Text: text("dra_lint"), Effect: tool.Read}, t.lint)
}

// Bounds of a manifest: what a person writes is far smaller.
const (
	maxManifest  = 1 << 20
	maxDocuments = 200
)

// linter collects issues of one manifest.
type linter struct {
	t   *Toolset
	ctx context.Context
	a   *attempt
	// w is nil when the cluster cannot be read; only the text is judged then.
	w   *world
	out Lint
	fs  []incident.Finding
	// made are names that the manifest itself brings.
	classes   map[string]*resourceapi.DeviceClass
	claims    map[string]bool
	templates map[string]bool
}

func (t *Toolset) lint(ctx context.Context, in LintIn) (tool.Output[Lint], error) {
	if len(in.Manifest) > maxManifest {
		return tool.Output[Lint]{}, tool.Errorf(tool.Invalid, "the manifest has %d bytes, at most %d are read", len(in.Manifest), maxManifest)
	}
	l := &linter{t: t, ctx: ctx, out: Lint{Issues: []LintIssue{}, Notes: []string{}}, classes: map[string]*resourceapi.DeviceClass{}, claims: map[string]bool{}, templates: map[string]bool{}}
	w, err := t.read.load(ctx)
	if err != nil {
		l.out.Notes = append(l.out.Notes, "not compared with the cluster: "+tool.UserText(err))
		w = &world{fleet: newFleet(), classes: allocator.Classes{}, assume: allocator.ForServer(0), use: newUsage(nil, allocator.Features{})}
	} else {
		l.w = w
	}
	l.a = newAttempt(w, nil, nil)
	docs, err := split(in.Manifest)
	if err != nil {
		return tool.Output[Lint]{}, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	}
	var objs []any
	for i, d := range docs {
		o, err := l.decode(d)
		if err != nil {
			l.issue("error", fmt.Sprintf("document %d", i+1), "", incident.Ref{}, "%s", err)
			continue
		}
		if o != nil {
			objs = append(objs, o)
		}
	}
	l.out.Documents = len(docs)
	for _, o := range objs {
		l.object(o)
	}
	return tool.Output[Lint]{Data: l.out, Text: lintText(&l.out), Findings: l.fs}, nil
}

// split cuts a manifest into documents.
func split(manifest string) ([][]byte, error) {
	r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	var docs [][]byte
	for {
		d, err := r.Read()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the manifest is no YAML: %w", err)
		}
		if len(bytes.TrimSpace(d)) > 0 {
			docs = append(docs, d)
		}
		if len(docs) > maxDocuments {
			return nil, fmt.Errorf("the manifest has more than %d documents", maxDocuments)
		}
	}
}

// decode reads one document strictly, so that a misspelt field shows. All served
// versions of a kind are read into the newest: the fields judged are the same.
func (l *linter) decode(doc []byte) (any, error) {
	var meta metav1.TypeMeta
	if err := sigsyaml.Unmarshal(doc, &meta); err != nil {
		return nil, fmt.Errorf("no YAML object: %w", err)
	}
	strict := func(into any) (any, error) {
		if err := sigsyaml.UnmarshalStrict(doc, into); err != nil {
			return nil, fmt.Errorf("%s: %w", meta.Kind, err)
		}
		return into, nil
	}
	if meta.APIVersion == "resource.k8s.io/v1beta1" && (meta.Kind == "ResourceClaim" || meta.Kind == "ResourceClaimTemplate") {
		return nil, fmt.Errorf("%s: v1beta1 has no \"exactly\" level; write resource.k8s.io/v1", meta.Kind)
	}
	switch meta.Kind {
	case "ResourceClaim":
		o, err := strict(&resourceapi.ResourceClaim{})
		if c, ok := o.(*resourceapi.ResourceClaim); ok {
			l.claims[c.Name] = true
		}
		return o, err
	case "ResourceClaimTemplate":
		o, err := strict(&resourceapi.ResourceClaimTemplate{})
		if c, ok := o.(*resourceapi.ResourceClaimTemplate); ok {
			l.templates[c.Name] = true
		}
		return o, err
	case "DeviceClass":
		o, err := strict(&resourceapi.DeviceClass{})
		if c, ok := o.(*resourceapi.DeviceClass); ok {
			l.classes[c.Name] = c
		}
		return o, err
	case "DeviceTaintRule":
		return strict(&resourceapi.DeviceTaintRule{})
	case "Pod":
		return strict(&corev1.Pod{})
	case "":
		return nil, fmt.Errorf("no kind")
	}
	l.out.Notes = append(l.out.Notes, "kind "+meta.Kind+" is not judged")
	return nil, nil
}

func (l *linter) issue(level, object, field string, ref incident.Ref, format string, args ...any) {
	msg := quote(fmt.Sprintf(format, args...))
	l.out.Issues = append(l.out.Issues, LintIssue{Level: level, Object: object, Field: field, Message: msg})
	if ref.IsZero() || ref.Kind == "Pod" {
		return
	}
	l.fs = append(l.fs, finding("dra.lint_"+level, ref, 0.9, map[string]string{"field": field, "message": msg}, "%s %s: %s", object, field, msg))
}

func (l *linter) object(o any) {
	switch x := o.(type) {
	case *resourceapi.ResourceClaim:
		l.spec("ResourceClaim", x.Namespace, x.Name, &x.Spec, "spec")
	case *resourceapi.ResourceClaimTemplate:
		l.spec("ResourceClaimTemplate", x.Namespace, x.Name, &x.Spec.Spec, "spec.spec")
		l.out.Notes = append(l.out.Notes, "the spec of ResourceClaimTemplate "+x.Name+" cannot be changed later: a change needs a new template, claim and pod")
	case *resourceapi.DeviceClass:
		l.class(x)
	case *resourceapi.DeviceTaintRule:
		l.rule(x)
	case *corev1.Pod:
		l.pod(x)
	}
}

func (l *linter) classOf(name string) *resourceapi.DeviceClass {
	if c := l.classes[name]; c != nil {
		return c
	}
	if l.w != nil {
		return l.w.classes[name]
	}
	return nil
}

// spec judges the spec of a claim or template.
func (l *linter) spec(kind, namespace, name string, s *resourceapi.ResourceClaimSpec, path string) {
	obj := kind + " " + name
	ref := l.t.ref(apiGroup, kind, namespace, name)
	if len(s.Devices.Requests) == 0 {
		l.issue("error", obj, path+".devices.requests", ref, "there is no request")
	}
	names := map[string]bool{}
	var total int64
	var wants []*want
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		field := fmt.Sprintf("%s.devices.requests[%d]", path, i)
		if r.Name == "" || names[r.Name] {
			l.issue("error", obj, field+".name", ref, "the name %q is empty or used twice", r.Name)
		}
		names[r.Name] = true
		switch {
		case r.Exactly == nil && len(r.FirstAvailable) == 0:
			l.issue("error", obj, field, ref, "neither exactly nor firstAvailable is set")
		case r.Exactly != nil && len(r.FirstAvailable) > 0:
			l.issue("error", obj, field, ref, "exactly and firstAvailable exclude each other")
		case len(r.FirstAvailable) > resourceapi.FirstAvailableDeviceRequestMaxSize:
			l.issue("error", obj, field+".firstAvailable", ref, "%d alternatives, at most %d are allowed", len(r.FirstAvailable), resourceapi.FirstAvailableDeviceRequestMaxSize)
		}
		least := int64(-1)
		for _, x := range l.wantsOf(r) {
			names[x.name] = true
			wants = append(wants, x)
			l.request(obj, field, ref, x)
			n := max(x.count, 1)
			if x.all {
				n = 1
			}
			if least < 0 || n < least {
				least = n
			}
		}
		total += max(least, 0)
		if r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess {
			l.issue("warning", obj, field+".exactly.adminAccess", ref, "adminAccess needs the label %s=true on the namespace, and lets the pod use devices of others", resourceapi.DRAAdminNamespaceLabelKey)
		}
	}
	if total > allocator.ResultLimit {
		l.issue("error", obj, path+".devices.requests", ref, "the requests ask for %d devices together; one claim may hold %d", total, allocator.ResultLimit)
	}
	l.constraints(obj, path, ref, s, names, wants)
}

// wantsOf makes the wants of one request, classes of the manifest included.
func (l *linter) wantsOf(r *resourceapi.DeviceRequest) []*want {
	claim := &resourceapi.ResourceClaim{Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{*r}}}}
	w := *l.a.w
	w.classes = maps.Clone(w.classes)
	if w.classes == nil {
		w.classes = allocator.Classes{}
	}
	maps.Copy(w.classes, l.classes)
	return wantsOf(&w, l.a.comp, []*resourceapi.ResourceClaim{claim})
}

func (l *linter) request(obj, field string, ref incident.Ref, x *want) {
	if x.className == "" {
		l.issue("error", obj, field+".deviceClassName", ref, "request %s names no DeviceClass", x.name)
	} else if l.classOf(x.className) == nil && l.w != nil {
		near := nearest(x.className, slices.Sorted(maps.Keys(l.w.classes)))
		l.issue("error", obj, field+".deviceClassName", ref, "DeviceClass %s does not exist%s", x.className, prefixed("; there is ", near))
	}
	if x.count < 0 {
		l.issue("error", obj, field+".count", ref, "count %d: it must be 1 or more", x.count)
	}
	if x.all && x.count > 0 {
		l.issue("error", obj, field+".count", ref, "count is not allowed with allocationMode All")
	}
	if x.count > allocator.ResultLimit {
		l.issue("error", obj, field+".count", ref, "count %d: one claim may hold %d devices", x.count, allocator.ResultLimit)
	}
	for i, e := range x.exprs {
		l.expression(obj, fmt.Sprintf("%s.selectors[%d]", field, i), ref, e)
	}
	l.dry(obj, field, ref, x)
}

// expression judges one CEL selector by itself.
func (l *linter) expression(obj, field string, ref incident.Ref, e *selector.Expression) {
	switch {
	case strings.TrimSpace(e.Text) == "":
		l.issue("error", obj, field, ref, "the CEL expression is empty")
	case len(e.Text) > resourceapi.CELSelectorExpressionMaxLength:
		l.issue("error", obj, field, ref, "the expression has %d bytes, at most %d are allowed", len(e.Text), resourceapi.CELSelectorExpressionMaxLength)
	case e.Err != "":
		l.issue("error", obj, field, ref, "does not compile: %s", e.Err)
	}
}

// dry evaluates the selectors against the devices there are.
func (l *linter) dry(obj, field string, ref incident.Ref, x *want) {
	if l.w == nil || x.class == nil || len(l.w.fleet.slices) == 0 || slices.ContainsFunc(x.exprs, func(e *selector.Expression) bool { return e.Err != "" }) {
		return
	}
	n := &analysis{t: l.t, a: l.a, out: &Explanation{}, tables: map[*want]*table{}}
	t := l.a.tabulate(l.ctx, x)
	n.tables[x] = t
	switch {
	case t.firstError != nil:
		l.issue("error", obj, field, ref, "a selector fails on device %s, which ends scheduling on every node: %s; check that the field exists first", t.errorOn, t.firstError.err)
	case t.totals.MatchingClass == 0:
		l.issue("warning", obj, field, ref, "class %s matches no device of this cluster now", x.className)
	case t.totals.AfterSelectors == 0:
		l.issue("error", obj, field, ref, "no device of this cluster satisfies it: %s", n.explainSelectors(x, x.exprs, false).sentence)
	case !x.all && x.count > 1 && t.largest < int(x.count) && t.largest > 0:
		l.issue("error", obj, field+".count", ref, "%d devices are wanted on one node, no node has more than %d that match", x.count, t.largest)
	}
}

func (l *linter) constraints(obj, path string, ref incident.Ref, s *resourceapi.ResourceClaimSpec, names map[string]bool, wants []*want) {
	n := &analysis{t: l.t, a: l.a, out: &Explanation{}}
	for i, k := range s.Devices.Constraints {
		field := fmt.Sprintf("%s.devices.constraints[%d]", path, i)
		attr := constraintAttribute(k)
		switch {
		case attr == "":
			l.issue("error", obj, field, ref, "neither matchAttribute nor distinctAttribute is set")
			continue
		case !strings.Contains(attr, "/"):
			l.issue("error", obj, field, ref, "attribute %s must be fully qualified, for example gpu.example.com/%s", attr, attr)
			continue
		}
		for _, r := range k.Requests {
			if !names[r] {
				l.issue("error", obj, field+".requests", ref, "there is no request %s", r)
			}
		}
		if l.w == nil {
			continue
		}
		for _, x := range wants {
			if !applies(k, x) || x.class == nil {
				continue
			}
			if lacking, total := n.lacking(x, attr); total > 0 && lacking == total {
				l.issue("error", obj, field, ref, "none of the %d devices of request %s publishes %s%s", total, x.name, attr, n.otherDomain(x, attr))
			} else if lacking > 0 {
				l.issue("warning", obj, field, ref, "%d of %d devices of request %s do not publish %s", lacking, total, x.name, attr)
			}
		}
	}
}

func (l *linter) class(c *resourceapi.DeviceClass) {
	obj, ref := "DeviceClass "+c.Name, l.t.classRef(c.Name)
	x := &want{className: c.Name}
	w := *l.a.w
	w.classes = allocator.Classes{c.Name: c}
	x.compile(&w, l.a.comp)
	drivers := false
	for i, e := range x.classExprs {
		l.expression(obj, fmt.Sprintf("spec.selectors[%d]", i), ref, e)
		drivers = drivers || e.OfDriver() != ""
	}
	if !drivers {
		l.issue("warning", obj, "spec.selectors", ref, "no selector is device.driver == \"...\": the class may select devices of other drivers, and reading their attributes fails")
	}
	if l.w == nil {
		return
	}
	total := 0
	for _, p := range l.w.fleet.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				j := x.judge(l.ctx, l.w.fleet, s, &s.devices[i])
				if j.ofClass {
					total++
				}
				if j.aborting && !j.compile {
					l.issue("error", obj, fmt.Sprintf("spec.selectors[%d]", j.errAt), ref, "fails on device %s: %s", idOf(s, &s.devices[i]), j.err)
					return
				}
			}
		}
	}
	if total == 0 && len(l.w.fleet.slices) > 0 {
		l.issue("warning", obj, "spec.selectors", ref, "the class matches no device of this cluster now")
	}
	if e := c.Spec.ExtendedResourceName; e != nil {
		for _, o := range allocator.ClassesFor(l.w.classes, corev1.ResourceName(*e)) {
			if o.Name != c.Name {
				l.issue("warning", obj, "spec.extendedResourceName", ref, "class %s declares %s too; the newer class wins", o.Name, *e)
			}
		}
		if !l.w.assume.ExtendedResources {
			l.issue("warning", obj, "spec.extendedResourceName", ref, "this server keeps the field only with the gate DRAExtendedResource on")
		}
	}
}

func (l *linter) rule(r *resourceapi.DeviceTaintRule) {
	obj, ref := "DeviceTaintRule "+r.Name, l.t.ruleRef(r.Name)
	switch r.Spec.Taint.Effect {
	case resourceapi.DeviceTaintEffectNone, resourceapi.DeviceTaintEffectNoSchedule, resourceapi.DeviceTaintEffectNoExecute:
	default:
		l.issue("error", obj, "spec.taint.effect", ref, "effect %q is not None, NoSchedule or NoExecute", r.Spec.Taint.Effect)
	}
	if r.Spec.Taint.Key == "" {
		l.issue("error", obj, "spec.taint.key", ref, "the key is empty")
	}
	switch {
	case r.Spec.DeviceSelector == nil:
		l.issue("warning", obj, "spec.deviceSelector", ref, "no selector: the rule taints no device")
		return
	case matchesAll(r):
		l.issue("error", obj, "spec.deviceSelector", ref, "the selector is empty: the rule taints every device of the cluster")
	}
	if l.w == nil {
		return
	}
	devices, held := 0, 0
	for _, p := range l.w.fleet.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				if allocator.RuleMatches(r, p.driver, p.name, s.devices[i].name) {
					devices++
					held += min(len(l.w.use.holds[idOf(s, &s.devices[i])]), 1)
				}
			}
		}
	}
	if devices == 0 {
		l.issue("warning", obj, "spec.deviceSelector", ref, "the selector matches no device of this cluster now")
	}
	if r.Spec.Taint.Effect == resourceapi.DeviceTaintEffectNoExecute && held > 0 {
		l.issue("warning", obj, "spec.taint.effect", ref, "NoExecute evicts the pods of %s that are in use; effect None shows in the rule's status whom it would hit", plural(held, "device"))
	}
	l.out.Notes = append(l.out.Notes, fmt.Sprintf("rule %s selects %s, %d of them in use", r.Name, plural(devices, "device"), held))
}

func (l *linter) pod(p *corev1.Pod) {
	obj := "Pod " + p.Name
	names := map[string]bool{}
	for i, pc := range p.Spec.ResourceClaims {
		field := fmt.Sprintf("spec.resourceClaims[%d]", i)
		names[pc.Name] = true
		switch {
		case pc.ResourceClaimName == nil && pc.ResourceClaimTemplateName == nil:
			l.issue("error", obj, field, l.t.podRef(p.Namespace, p.Name), "neither resourceClaimName nor resourceClaimTemplateName is set")
		case pc.ResourceClaimName != nil && pc.ResourceClaimTemplateName != nil:
			l.issue("error", obj, field, l.t.podRef(p.Namespace, p.Name), "resourceClaimName and resourceClaimTemplateName exclude each other")
		case pc.ResourceClaimTemplateName != nil && !l.templates[*pc.ResourceClaimTemplateName] && l.w != nil && p.Namespace != "":
			if _, err := l.t.read.template(l.ctx, p.Namespace, *pc.ResourceClaimTemplateName); isNotFound(err) {
				l.issue("error", obj, field, l.t.podRef(p.Namespace, p.Name), "ResourceClaimTemplate %s does not exist in namespace %s", *pc.ResourceClaimTemplateName, p.Namespace)
			}
		case pc.ResourceClaimName != nil && !l.claims[*pc.ResourceClaimName] && l.w != nil && p.Namespace != "":
			if _, err := l.t.read.claim(l.ctx, p.Namespace, *pc.ResourceClaimName); isNotFound(err) {
				l.issue("error", obj, field, l.t.podRef(p.Namespace, p.Name), "ResourceClaim %s does not exist in namespace %s", *pc.ResourceClaimName, p.Namespace)
			}
		}
	}
	used := map[string]bool{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, rc := range c.Resources.Claims {
			used[rc.Name] = true
			if !names[rc.Name] {
				l.issue("error", obj, "spec.containers."+c.Name+".resources.claims", l.t.podRef(p.Namespace, p.Name), "container %s uses claim %s, which spec.resourceClaims does not list", c.Name, rc.Name)
			}
		}
	}
	for _, pc := range p.Spec.ResourceClaims {
		if !used[pc.Name] {
			l.issue("warning", obj, "spec.resourceClaims", l.t.podRef(p.Namespace, p.Name), "no container uses claim %s: its devices are allocated and not visible to any container", pc.Name)
		}
	}
}

func lintText(o *Lint) string {
	var b strings.Builder
	n := 0
	for _, i := range o.Issues {
		if i.Level == "error" {
			n++
		}
	}
	fmt.Fprintf(&b, "%s, %s, %s\n", plural(o.Documents, "document"), plural(n, "error"), plural(len(o.Issues)-n, "warning"))
	for _, i := range o.Issues {
		fmt.Fprintf(&b, "%s: %s %s: %s\n", i.Level, i.Object, i.Field, i.Message)
	}
	for _, note := range o.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	return strings.TrimRight(b.String(), "\n")
}
