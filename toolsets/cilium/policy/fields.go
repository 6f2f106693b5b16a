package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// The accessors give nothing for a field that is absent and an error for one of
// another shape: what is not understood is said, never skipped.

func object(m map[string]any, key string) (map[string]any, error) {
	v, ok := m[key]
	if !ok || v == nil {
		return nil, nil
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is %T, not an object", key, v)
	}
	return o, nil
}

func list(m map[string]any, key string) ([]any, error) {
	v, ok := m[key]
	if !ok || v == nil {
		return nil, nil
	}
	l, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is %T, not a list", key, v)
	}
	return l, nil
}

func texts(m map[string]any, key string) ([]string, error) {
	l, err := list(m, key)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, v := range l {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s[%d] is %T, not a string", key, i, v)
		}
		out = append(out, s)
	}
	return out, nil
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// number reads an integer however JSON decoders deliver it.
func number(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int32:
		return int64(n), true
	case int:
		return int64(n), true
	case float64:
		return int64(n), n == float64(int64(n))
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	case string:
		i, err := strconv.ParseInt(n, 10, 64)
		return i, err == nil
	}
	return 0, false
}

func has(m map[string]any, key string) bool {
	_, ok := m[key]
	return ok
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
