package actions

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gumshoe-ai/gumshoe/planner"
)

// maxParam is the longest value of a parameter, in bytes.
const maxParam = 16 << 10

// accept checks parameters against the action's list. An empty value counts as not
// given. The error is a *planner.Missing that names the parameter.
func (a *action) accept(raw map[string]string) (params, error) {
	p := params{action: a.info.Name, values: map[string]string{}}
	known := map[string]planner.Param{}
	var names []string
	for _, k := range a.info.Params {
		known[k.Name] = k
		names = append(names, k.Name)
	}
	for name, v := range raw {
		k, ok := known[name]
		if !ok {
			return p, p.missing(name, "the action has no such parameter; it takes %s", strings.Join(names, ", "))
		}
		if v = strings.TrimSpace(v); v == "" {
			continue
		}
		if len(v) > maxParam {
			return p, p.missing(name, "the value has %d bytes, at most %d are taken", len(v), maxParam)
		}
		if err := valid(k, v); err != nil {
			return p, p.missing(name, "%v", err)
		}
		p.values[name] = v
	}
	for _, k := range a.info.Params {
		if k.Required && p.values[k.Name] == "" {
			return p, p.missing(k.Name, "it is required: %s", k.Text)
		}
	}
	return p, nil
}

func valid(k planner.Param, v string) error {
	if len(k.Values) > 0 && !slices.Contains(k.Values, v) {
		return fmt.Errorf("%q is none of %s", v, strings.Join(k.Values, ", "))
	}
	var err error
	switch k.Type {
	case planner.Int:
		_, err = strconv.ParseInt(v, 10, 32)
	case planner.Bool:
		_, err = strconv.ParseBool(v)
	case planner.Quantity:
		_, err = resource.ParseQuantity(v)
	case planner.Duration:
		_, err = time.ParseDuration(v)
	case planner.JSON:
		var doc any
		err = json.Unmarshal([]byte(v), &doc)
	}
	if err != nil {
		return fmt.Errorf("%q is no %s: %w", v, k.Type, err)
	}
	return nil
}

// num gives an Int parameter, or def when it was not given.
func (p params) num(name string, def int64) int64 {
	if n, err := strconv.ParseInt(p.values[name], 10, 32); err == nil {
		return n
	}
	return def
}
