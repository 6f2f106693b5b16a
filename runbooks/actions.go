package runbooks

import (
	_ "embed"
	"fmt"
	"maps"
	"sync"
)

//go:embed actions.yaml
var actionsYAML []byte

// ActionInfo is a typed action that a proposal may name.
type ActionInfo struct {
	Name   string      `yaml:"name" json:"name"`
	Text   string      `yaml:"text" json:"text"`
	Params []ParamInfo `yaml:"params" json:"params,omitempty"`
}

// ParamInfo is a parameter of an action; all values are strings.
type ParamInfo struct {
	Name     string `yaml:"name" json:"name"`
	Text     string `yaml:"text" json:"text,omitempty"`
	Required bool   `yaml:"required" json:"required,omitempty"`
	// Object says that the value names something in the cluster.
	Object bool `yaml:"object" json:"object,omitempty"`
}

// shippedActions is the catalogue, read once in the life of the process.
var shippedActions = sync.OnceValues(func() (map[string]ActionInfo, error) { return catalogue("actions.yaml", actionsYAML) })

// Actions gives the catalogue by name, in a map of the caller's own. The parameters of
// an action are shared and must not be changed.
func Actions() (map[string]ActionInfo, error) {
	all, err := shippedActions()
	return maps.Clone(all), err
}

func catalogue(file string, data []byte) (map[string]ActionInfo, error) {
	var list []ActionInfo
	if err := decode(data, &list, true); err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	out := map[string]ActionInfo{}
	for i, a := range list {
		if a.Name == "" || a.Text == "" {
			return nil, fmt.Errorf("%s: entry %d (%q): name and text are required", file, i, a.Name)
		}
		if _, twice := out[a.Name]; twice {
			return nil, fmt.Errorf("%s: action %q stands twice: keep one", file, a.Name)
		}
		seen := map[string]bool{}
		for _, p := range a.Params {
			if p.Name == "" || seen[p.Name] {
				return nil, fmt.Errorf("%s: action %s: parameter %q is empty or stands twice", file, a.Name, p.Name)
			}
			seen[p.Name] = true
		}
		out[a.Name] = a
	}
	return out, nil
}
