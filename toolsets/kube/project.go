package kube

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

// maxPath bounds a JSONPath; what people write has tens of bytes.
const maxPath = 500

// path is a parsed JSONPath. It accepts what kubectl does: "{.status.phase}",
// ".status.phase" and "status.phase".
type path struct {
	text string
	jp   *jsonpath.JSONPath
}

func parsePath(s string) (*path, error) {
	const fix = "write it like .status.phase or .spec.containers[*].image"
	text := strings.TrimSpace(s)
	if text == "" || len(text) > maxPath {
		return nil, invalid(fix, "path %q is not a JSONPath of 1 to %d characters", clip(text, 60), maxPath)
	}
	if !strings.HasPrefix(text, "{") {
		text = strings.TrimPrefix(text, "$")
		if !strings.HasPrefix(text, ".") && !strings.HasPrefix(text, "[") {
			text = "." + text
		}
		text = "{" + text + "}"
	}
	jp := jsonpath.New("path").AllowMissingKeys(true)
	if err := jp.Parse(text); err != nil {
		return nil, invalid(fix, "path %q is not a JSONPath: %v", clip(s, 60), err)
	}
	return &path{text: text, jp: jp}, nil
}

// values gives everything the path selects in an object.
func (p *path) values(object map[string]any) (out []any, err error) {
	// The evaluator trusts its input in places (a slice step of zero, a filter
	// over mixed types); a bad path from a model must be an answer, not an end.
	defer func() {
		if x := recover(); x != nil {
			out, err = nil, invalid("simplify the path", "path %s cannot be evaluated here: %v", p.text, x)
		}
	}()
	results, err := p.jp.FindResults(object)
	if err != nil {
		return nil, invalid("check the field names with kube_get without a path", "path %s cannot be evaluated: %v", p.text, err)
	}
	out = []any{}
	for _, group := range results {
		for _, v := range group {
			if v.IsValid() && v.CanInterface() && (v.Kind() != reflect.Interface || !v.IsNil()) {
				out = append(out, v.Interface())
			}
		}
	}
	return out, nil
}

// scalar writes a value of an object on one line.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool, int64, int, float64:
		return fmt.Sprint(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// cell joins what a path selects for a table.
func (p *path) cell(object map[string]any) string {
	vs, err := p.values(object)
	if err != nil {
		return "?"
	}
	parts := make([]string, 0, len(vs))
	for _, v := range vs {
		parts = append(parts, scalar(v))
	}
	return oneLine(strings.Join(parts, ","), 120)
}
