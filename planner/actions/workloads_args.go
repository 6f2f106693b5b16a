package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// commandLine is what a container runs: its command and its arguments.
type commandLine struct {
	command, args []string
	// hadArgs says that args were given; without, the image's own are used.
	hadArgs bool
}

func lineOf(k container) commandLine {
	var l commandLine
	l.command, _, _ = unstructured.NestedStringSlice(k.m, "command")
	l.args, l.hadArgs, _ = unstructured.NestedStringSlice(k.m, "args")
	return l
}

// lists are the two parts, arguments first: that is where flags are looked for.
func (l *commandLine) lists() []*[]string { return []*[]string{&l.args, &l.command} }

// script finds the line that a shell runs: the word after -c.
func (l *commandLine) script() *string {
	shell, next := false, false
	for _, list := range []*[]string{&l.command, &l.args} {
		for i, w := range *list {
			switch {
			case next:
				return &(*list)[i]
			case shell && regexp.MustCompile(`^-[a-z]*c$`).MatchString(w):
				next = true
			case regexp.MustCompile(`(^|/)(ba|da|a|z|k)?sh$`).MatchString(w):
				shell = true
			}
		}
	}
	return nil
}

// change sets or removes a flag where it stands, or adds it. It says what happened.
func (l *commandLine) change(s setting, remove bool) (string, error) {
	for _, list := range l.lists() {
		op := setFlag
		if remove {
			op = removeFlag
		}
		out, from, found, err := op(*list, s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		if found {
			*list = out
			return said(s, from, remove), nil
		}
	}
	script := l.script()
	if script != nil {
		out, from, found, err := setInScript(*script, s, remove)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		if found {
			*script = out
			return said(s, from, remove), nil
		}
	}
	switch {
	case remove:
		return "", fmt.Errorf("%s is not there", s.name)
	case script != nil:
		out, err := appendToScript(*script, s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		*script = out
	case len(l.args) == 0 && len(l.command) > 1:
		l.command = append(l.command, s.String())
	default:
		l.args = append(l.args, s.String())
	}
	return "add " + s.String(), nil
}

func said(s setting, from string, remove bool) string {
	switch {
	case remove:
		return fmt.Sprintf("remove %s (it is %s)", s.name, from)
	case !s.valued:
		return fmt.Sprintf("set %s (it is %s)", s.name, from)
	}
	return fmt.Sprintf("set %s from %s to %s", s.name, from, s.value)
}

// envWish is a variable that shall be set; from is a field of the pod instead.
type envWish struct{ name, value, from string }

func parseEnv(s string) (envWish, bool) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
		return envWish{}, false
	}
	if field, ok := strings.CutPrefix(value, "@"); ok {
		return envWish{name: name, from: field}, podField(field)
	}
	return envWish{name: name, value: value}, true
}

// podField reports whether a field of the pod can become a variable
// (kubernetes.io/docs/concepts/workloads/pods/downward-api).
func podField(f string) bool {
	return slices.Contains([]string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}, f) ||
		strings.HasPrefix(f, "metadata.labels['") || strings.HasPrefix(f, "metadata.annotations['")
}

// readWhat turns the words of a proposal into typed wishes. A flag without its value
// and prose say too little.
func readWhat(what string) (flags []setting, env *envWish, ok bool) {
	if m := regexp.MustCompile(`^([A-Z_][A-Z0-9_]*) from (\S+)$`).FindStringSubmatch(what); m != nil && podField(m[2]) {
		return nil, &envWish{name: m[1], from: m[2]}, true
	}
	if regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=`).MatchString(what) {
		w, ok := parseEnv(what)
		return nil, &w, ok
	}
	flags, err := parseSettings(what)
	if err != nil || slices.ContainsFunc(flags, func(s setting) bool { return !s.valued }) {
		return nil, nil, false
	}
	return flags, nil, true
}

// secretName reports whether a variable's name says that its value is a secret.
func secretName(n string) bool {
	return regexp.MustCompile(`(?i)(token|secret|passw|credential|api_?key|access_?key|private_?key)`).MatchString(n)
}

// wishes are the changes that the parameters of patch_args ask for.
type wishes struct {
	set, remove   []setting
	env           []envWish
	unset         string
	args, command []string
}

func wishesOf(p params, e *edit, k container) (*wishes, error) {
	w := &wishes{unset: p.str("unset_env")}
	var err error
	for name, into := range map[string]*[]setting{"set": &w.set, "remove": &w.remove} {
		if p.str(name) == "" {
			continue
		}
		if *into, err = parseSettings(p.str(name)); err != nil {
			return nil, p.missing(name, "%v; write it as --flag=value", err)
		}
	}
	for name, into := range map[string]*[]string{"args": &w.args, "command": &w.command} {
		if p.str(name) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(p.str(name)), into); err != nil || *into == nil {
			return nil, p.missing(name, "it is no JSON list of strings")
		}
	}
	if v := p.str("env"); v != "" {
		one, ok := parseEnv(v)
		if !ok {
			return nil, p.missing("env", "%q is not NAME=value or NAME=@status.podIP", v)
		}
		w.env = append(w.env, one)
	}
	explicit := len(w.set)+len(w.remove)+len(w.env) > 0 || w.unset != "" || w.args != nil || w.command != nil
	if !explicit {
		flags, env, ok := readWhat(p.str("what"))
		if !ok {
			return nil, p.missing("set", "%ssay the flag with its value, such as --max-model-len=8192, or env NAME=value; container %s of %s runs %s", inexact(p.str("what")), k.name, e.what(), lineText(lineOf(k)))
		}
		if w.set = flags; env != nil {
			w.env = append(w.env, *env)
		}
	}
	for _, v := range w.env {
		if v.from == "" && secretName(v.name) {
			return nil, p.refuse("put the value into a Secret and refer to it from the container", "the value of %s looks like a secret, and a plan is read by people", v.name)
		}
	}
	return w, nil
}

func inexact(what string) string {
	if what == "" {
		return ""
	}
	return fmt.Sprintf("%q is not exact enough: ", what)
}

func lineText(l commandLine) string {
	all := slices.Concat(l.command, l.args)
	if len(all) == 0 {
		return "what its image says"
	}
	const most = 400
	s := strings.Join(all, " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " ..."
	}
	return s
}

func patchArgs(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	k, err := e.container(p)
	if err != nil {
		return nil, err
	}
	w, err := wishesOf(p, e, k)
	if err != nil {
		return nil, err
	}
	line := lineOf(k)
	line.args, line.command = slices.Clone(line.args), slices.Clone(line.command)
	var changes []string
	if w.command != nil {
		changes = append(changes, fmt.Sprintf("set the command from %q to %q", line.command, w.command))
		line.command = w.command
	}
	if w.args != nil {
		changes = append(changes, fmt.Sprintf("set the arguments from %q to %q", line.args, w.args))
		line.args = w.args
	}
	for i, list := range [][]setting{w.remove, w.set} {
		for _, s := range list {
			text, err := line.change(s, i == 0)
			if err != nil {
				return nil, p.missing([]string{"remove", "set"}[i], "%v; container %s runs %s", err, k.name, lineText(lineOf(k)))
			}
			changes = append(changes, text)
		}
	}
	env, texts, err := envAfter(p, k, w)
	if err != nil {
		return nil, err
	}
	changes = append(changes, texts...)
	now := lineOf(k)
	if slices.Equal(line.args, now.args) && slices.Equal(line.command, now.command) && len(texts) == 0 {
		return nil, p.missing("set", "container %s of %s runs that already: %s", k.name, e.what(), lineText(now))
	}
	say := fmt.Sprintf("Change container %s of %s: %s", k.name, e.what(), strings.Join(changes, ", "))
	d := c.draft("%s", say)
	err = d.rollout(ctx, e, say, func(t *template) error {
		k, _ := t.container(k.name)
		for field, list := range map[string][]string{"args": line.args, "command": line.command} {
			if len(list) == 0 {
				delete(k.m, field)
				continue
			}
			if err := unstructured.SetNestedStringSlice(k.m, list, field); err != nil {
				return err
			}
		}
		if len(texts) > 0 {
			if k.m["env"] = env; len(env) == 0 {
				delete(k.m, "env")
			}
		}
		return nil
	})
	if !now.hadArgs && len(line.args) > 0 && len(line.command) == 0 {
		d.Warnings = append(d.Warnings, "the image's own arguments (CMD) are no longer used, since the container had none of its own")
	}
	return d, err
}

// envAfter is the environment with what the wishes change, and what was changed.
func envAfter(p params, k container, w *wishes) ([]any, []string, error) {
	list, _ := k.m["env"].([]any)
	list = slices.Clone(list)
	at := func(name string) int {
		return slices.IndexFunc(list, func(v any) bool { m, _ := v.(map[string]any); return text(m, "name") == name })
	}
	value := func(i int) string {
		m, _ := list[i].(map[string]any)
		if _, ok := m["valueFrom"]; ok {
			return "a reference"
		}
		if secretName(text(m, "name")) {
			return "(not shown)"
		}
		return text(m, "value")
	}
	var texts []string
	for _, v := range w.env {
		next, to := map[string]any{"name": v.name, "value": v.value}, v.value
		if v.from != "" {
			next, to = map[string]any{"name": v.name, "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": v.from}}}, "the pod's "+v.from
		}
		i := at(v.name)
		if i < 0 {
			list = append(list, next)
			texts = append(texts, fmt.Sprintf("add env %s=%s", v.name, to))
			continue
		}
		if value(i) == to && v.from == "" {
			return nil, nil, p.missing("env", "%s is %s already", v.name, to)
		}
		texts = append(texts, fmt.Sprintf("set env %s from %s to %s", v.name, value(i), to))
		list[i] = next
	}
	if w.unset != "" {
		i := at(w.unset)
		if i < 0 {
			return nil, nil, p.missing("unset_env", "container %s has no variable %q", k.name, w.unset)
		}
		texts = append(texts, fmt.Sprintf("remove env %s (it is %s)", w.unset, value(i)))
		list = slices.Delete(list, i, i+1)
	}
	return list, texts, nil
}
