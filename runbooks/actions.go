package runbooks

import (
	_ "embed"
	"fmt"

	"sigs.k8s.io/yaml"
)

//go:embed actions.yaml
var actionsYAML []byte

// ActionInfo is a typed action that a proposal may name.
type ActionInfo struct {
	Name   string      `json:"name"`
	Text   string      `json:"text"`
	Params []ParamInfo `json:"params,omitempty"`
}

// ParamInfo is a parameter of an action; all values are strings.
type ParamInfo struct {
	Name     string `json:"name"`
	Text     string `json:"text,omitempty"`
	Required bool   `json:"required,omitempty"`
	// Object says that the value names something in the cluster.
	Object bool `json:"object,omitempty"`
}

// Actions gives the catalogue by name.
func Actions() (map[string]ActionInfo, error) {
	var list []ActionInfo
	if err := yaml.UnmarshalStrict(actionsYAML, &list); err != nil {
		return nil, fmt.Errorf("actions.yaml: %w", err)
	}
	out := map[string]ActionInfo{}
	for _, a := range list {
		out[a.Name] = a
	}
	return out, nil
}
