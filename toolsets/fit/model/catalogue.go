package model

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed catalogue.yaml
var catalogueYAML []byte

// Entry is one model of the catalogue that ships.
type Entry struct {
	// ID is the repository's name, Aliases other names for the same dimensions.
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"`
	// Source says where the figures come from.
	Source string `json:"source"`
	// WeightsGiB is the size of the files, LoadedGiB what engines report after
	// loading; 0 where it is not published.
	WeightsGiB float64 `json:"weights_gib,omitempty"`
	LoadedGiB  float64 `json:"loaded_gib,omitempty"`
	// Config is the config.json, without what has no bearing on memory.
	Config json.RawMessage `json:"config"`
}

// Model parses the entry's configuration.
func (e Entry) Model() (Model, error) {
	m, err := Parse(e.ID, e.Config)
	if err != nil {
		return Model{}, fmt.Errorf("catalogue entry %s: %w", e.ID, err)
	}
	return m, nil
}

// Bytes is what the weights take, as published; 0 if it is not.
func (e Entry) Bytes() int64 {
	g := e.LoadedGiB
	if g == 0 {
		g = e.WeightsGiB
	}
	return int64(g * (1 << 30))
}

// Catalogue gives the models that ship.
func Catalogue() ([]Entry, error) {
	var list []Entry
	if err := yaml.UnmarshalStrict(catalogueYAML, &list); err != nil {
		return nil, fmt.Errorf("catalogue.yaml: %w", err)
	}
	return list, nil
}

// Lookup finds a model by its repository name or an alias, upper and lower case
// alike. Without a match it gives the names that come near, best first: they
// are for asking back and never stand in for the model.
func Lookup(list []Entry, name string) (Entry, []string, bool) {
	want := strings.ToLower(strings.Trim(name, "/ "))
	type near struct {
		id string
		d  int
	}
	var all []near
	for _, e := range list {
		best := near{e.ID, 1 << 30}
		for _, n := range append([]string{e.ID}, e.Aliases...) {
			have := strings.ToLower(n)
			if have == want {
				return e, nil, true
			}
			_, base, _ := strings.Cut(have, "/")
			for _, h := range []string{have, base} {
				if h != "" {
					best.d = min(best.d, distance(want, h))
				}
			}
		}
		all = append(all, best)
	}
	var out []string
	for limit := 1; limit <= max(2, len(want)/3) && len(out) < 3; limit++ {
		for _, n := range all {
			if n.d == limit && len(out) < 3 {
				out = append(out, n.id)
			}
		}
	}
	return Entry{}, out, false
}

// distance is the number of letters to change, add or drop to make a of b;
// names longer than any model's are not compared.
func distance(a, b string) int {
	if len(a) > 200 || len(b) > 200 {
		return 1 << 30
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, cost)
		}
	}
	return row[len(b)]
}
